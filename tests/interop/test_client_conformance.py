"""Every operation of the client and every error it can meet: the same from coati and from Java, 3.9.3 and 3.8.0.

A case is a coroutine on a client whose root is a znode of its own; what it returns or raises is written down without
what must differ (times, session ids, zxids but for their order) and compared with what coati gave.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

import coati
from coati import ACL, CREATOR, OPEN, READ_ONLY, Check, Children, Client, Create, Delete, Digest, Get, Mode, Perm, Set
from coati.client.client import BaseClient
from coati.errors import MarshallingRefused, ZKError
from tests.interop import peers
from tests.interop.ensembles import COATI, Ensemble
from tools.javapeer import four_letter

SUPER: Final = Digest("super", "secret")
TIMEOUT: Final = 30.0
Case = Callable[[Client], Awaitable[object]]
CASES: Final[dict[str, Case]] = {}


def case(test: Case) -> Case:
    assert test.__name__ not in CASES
    CASES[test.__name__] = test
    return test


async def tried(*works: Awaitable[object]) -> list[object]:
    """Each result, or the error in its place."""
    found: list[object] = []
    for work in works:
        try:
            found.append(await work)
        except ZKError as error:
            found.append(error)
    return found


# --- create ---------------------------------------------------------------------------------------


@case
async def create_in_every_mode(zk: Client) -> object:
    return [await zk.create(f"/{mode.name}", b"data", mode=mode) for mode in Mode]


@case
async def create_sequential_below_a_slash(zk: Client) -> object:
    await zk.create("/q")
    return [(await zk.create("/q/", mode=Mode.SEQUENTIAL)).path for _ in range(3)]


@case
async def create_with_a_ttl(zk: Client) -> object:
    return await tried(
        zk.create("/a", ttl=3600.0),
        zk.create("/b", b"x", mode=Mode.SEQUENTIAL, ttl=0.001),
        zk.multi([Create("/c", ttl=5.0), Create("/d", mode=Mode.CONTAINER)]),
    )


@case
async def create_refused(zk: Client) -> object:
    await zk.create("/e", mode=Mode.EPHEMERAL)
    await zk.create("/a")
    return await tried(
        zk.create("/a"),
        zk.create("/none/a"),
        zk.create("/e/child"),
        zk.create("/x", acl=()),
        zk.create("/x", acl=(ACL(Perm.ALL, "nonsense", "x"),)),
        zk.create("/x", acl=(ACL(Perm.ALL, "digest", "no-hash"),)),
        zk.create("/x", acl=CREATOR),
        zk.create("/x", acl=(ACL(Perm.ALL, "ip", "1.2.3"),)),
        zk.create("/x/", b""),
        zk.create("/x/../y", b""),
        zk.create("", b""),
        zk.create("x", b""),
        zk.create("/x\0", b""),
        zk.create("/x//y", b""),
        zk.chroot_free().create("/", b""),
        zk.chroot_free().create("/zookeeper/x", b""),
    )


@case
async def create_parents(zk: Client) -> object:
    node = await zk.create("/a/b/c", b"x", parents=True)
    return node, await zk.children("/a"), await tried(zk.create("/a/b/c", parents=True))


@case
async def create_large(zk: Client) -> object:
    data = bytes(900_000)
    node = await zk.create("/a", data)
    return node.stat.data_length, (await zk.get("/a")).data == data


@case
async def ensure(zk: Client) -> object:
    return [await zk.ensure("/a/b"), await zk.ensure("/a/b"), await zk.ensure("/a"), await zk.get("/a/b")]


# --- reads ----------------------------------------------------------------------------------------


@case
async def reads(zk: Client) -> object:
    await zk.create("/a", b"data")
    for name in ("c", "b", "ä"):
        await zk.create(f"/a/{name}")
    return [
        await zk.get("/a"),
        await zk.exists("/a"),
        await zk.exists("/none"),
        await zk.children("/a"),
        await zk.count("/a"),
        await zk.count("/"),
        await zk.get_acl("/a"),
        [node async for node in zk.walk("/a")],
    ]


@case
async def reads_of_what_is_not_there(zk: Client) -> object:
    return await tried(
        zk.get("/a"), zk.children("/a"), zk.get_acl("/a"), zk.count("/a"), zk.sync("/a"), zk.ephemerals("/a")
    )


@case
async def reads_of_no_path(zk: Client) -> object:
    return await tried(zk.get("a"), zk.exists("/a/"), zk.children("/a//b"), zk.get_acl("/."), zk.sync("/.."))


@case
async def sync(zk: Client) -> object:
    await zk.create("/a")
    return [await zk.sync("/a"), (await zk.get("/a")).zxid, await zk.sync()]


@case
async def ephemerals(zk: Client) -> object:
    await zk.create("/a")
    for name in ("/a/e2", "/a/e1", "/b"):
        await zk.create(name, mode=Mode.EPHEMERAL)
    return [
        await zk.ephemerals(),
        await zk.ephemerals("/a"),
        await zk.ephemerals("/a/e1"),
        await zk.ephemerals("/none"),
    ]


@case
async def whoami(zk: Client) -> object:
    before = await zk.whoami()
    await zk.authenticate(Digest("ann", "secret"))
    # Java takes them out of a set.
    return [before, sorted(await zk.whoami())]


@case
async def config(zk: Client) -> object:
    return await zk.config()


@case
async def multi_read(zk: Client) -> object:
    await zk.create("/a", b"x")
    await zk.create("/a/b")
    await zk.create("/secret", b"x", acl=(ACL(Perm.ADMIN, "world", "anyone"),))
    return [
        await zk.multi_read([Get("/a"), Children("/a"), Get("/none"), Children("/none"), Get("/secret")]),
        await zk.multi_read([]),
    ]


# --- writes ---------------------------------------------------------------------------------------


@case
async def sets(zk: Client) -> object:
    await zk.create("/a", b"0")
    return await tried(
        zk.set("/a", b"1"),
        zk.set("/a", b"2", version=1),
        zk.set("/a", b"3", version=1),
        zk.set("/a", b"3", version=-2),
        zk.set("/none", b""),
        zk.get("/a"),
        zk.put("/a", b"4"),
        zk.put("/b/c", b"5"),
        zk.update("/a", lambda data: data + b"!"),
        zk.update("/none", lambda data: data),
        zk.get("/b/c"),
    )


@case
async def deletes(zk: Client) -> object:
    await zk.create("/a/b", parents=True)
    return await tried(
        zk.delete("/a"),
        zk.delete("/none"),
        zk.delete("/none", missing_ok=True),
        zk.delete("/a/b", version=7),
        zk.delete("/a/b", version=0),
        zk.delete("/a"),
        zk.children("/"),
        zk.chroot_free().delete("/"),
    )


@case
async def delete_tree(zk: Client) -> object:
    for number in range(30):
        await zk.create(f"/a/{number % 3}/{number}", parents=True)
    return [
        await zk.delete_tree("/a/0", keep_root=True),
        await zk.children("/a/0"),
        await zk.delete_tree("/a", batch=7),
        await zk.exists("/a"),
        await zk.delete_tree("/a"),
    ]


@case
async def versions_of_a_parent(zk: Client) -> object:
    await zk.create("/a")
    await zk.create("/a/b")
    await zk.create("/a/c")
    await zk.delete("/a/b")
    return await zk.exists("/a")


# --- multi ----------------------------------------------------------------------------------------


@case
async def multi(zk: Client) -> object:
    await zk.create("/a", b"0")
    return [
        await zk.multi([]),
        await zk.multi(
            [
                Check("/a", 0),
                Create("/a/s-", b"x", mode=Mode.EPHEMERAL_SEQUENTIAL),
                Set("/a", b"1", 0),
                Create("/a/b"),
                Set("/a/b", b"2"),
                Delete("/a/b", 1),
            ]
        ),
        await zk.get("/a"),
        await zk.children("/a"),
    ]


@case
async def multi_refused(zk: Client) -> object:
    await zk.create("/a")
    return [
        *await tried(
            zk.multi([Create("/b"), Check("/a", 5), Create("/c")]),
            zk.multi([Check("/none")]),
            zk.multi([Create("/b"), Create("/b")]),
            zk.multi([Create("/b"), Delete("/none")]),
            zk.multi([Set("/none", b""), Create("/b")]),
            zk.multi([Create("/b", acl=())]),
            zk.multi([Create("/b"), Delete("/a", 9), Delete("/none")]),
            zk.multi([Create("/e", mode=Mode.EPHEMERAL), Create("/e/child")]),
            zk.multi([Create("/b/")]),
        ),
        await zk.children("/"),
    ]


@case
async def transaction(zk: Client) -> object:
    async with zk.transaction() as t:
        t.create("/a", b"0", mode=Mode.PERSISTENT)
        t.set("/a", b"1")
        t.check("/a", version=1)
        t.add(Create("/b"))
        t.delete("/b")
    return t.results


# --- ACLs and identities --------------------------------------------------------------------------


@case
async def acls(zk: Client) -> object:
    await zk.authenticate(Digest("ann", "secret"))
    await zk.create("/mine", b"x", acl=CREATOR)
    await zk.create("/shown", b"x", acl=READ_ONLY)
    async with Client(f"{zk.session.server}{zk._chroot}", session_timeout=TIMEOUT) as other:
        return await tried(
            zk.get_acl("/mine"),
            other.get_acl("/mine"),
            other.get("/mine"),
            other.set("/mine", b"y"),
            other.children("/mine"),
            other.create("/mine/a"),
            other.get("/shown"),
            other.set("/shown", b"y"),
            other.delete("/shown"),
            other.set_acl("/shown", OPEN),
            zk.set_acl("/mine", (*CREATOR, *READ_ONLY)),
            zk.set_acl("/mine", READ_ONLY, version=7),
            zk.set_acl("/mine", (), version=1),
            zk.set_acl("/none", OPEN),
            other.get_acl("/mine"),
            other.get("/mine"),
            other.multi([Set("/mine", b"z")]),
            other.multi_read([Get("/mine"), Children("/mine")]),
        )


@case
async def exists_where_reading_is_not_allowed(zk: Client) -> object:
    await zk.create("/hidden", acl=(ACL(Perm.WRITE, "world", "anyone"),))
    async with Client(f"{zk.session.server}{zk._chroot}/hidden", session_timeout=TIMEOUT) as inside:
        return await tried(zk.exists("/hidden"), inside.exists("/a"), inside.set("/", b"x"))


@case
async def refused_credentials(zk: Client) -> object:
    other = Client(zk.session.server, session_timeout=TIMEOUT, auth=[coati.Auth("nonsense", b"x")])
    found = await tried(other.start())
    found.append(other.session.state)
    later = Client(zk.session.server, session_timeout=TIMEOUT)
    async with later:
        found += await tried(later.authenticate(coati.Auth("nonsense", b"x")), later.get("/"), later.create("/x"))
        found.append(later.session.state)
    return found


# --- quotas ---------------------------------------------------------------------------------------


@case
async def quotas(zk: Client) -> object:
    root = zk._chroot
    whole = zk.chroot_free()
    await whole.ensure(f"/zookeeper/quota{root}/a")
    await zk.create("/a")
    await whole.create(
        f"/zookeeper/quota{root}/a/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3"
    )
    await whole.create(f"/zookeeper/quota{root}/a/zookeeper_stats", b"count=1,bytes=0")
    return await tried(
        zk.create("/a/b", b"12345"),
        zk.create("/a/c", b"123456"),
        zk.set("/a", b"123456"),
        zk.create("/a/c"),
        zk.create("/a/d"),
        zk.multi([Create("/a/d"), Create("/a/e")]),
        zk.multi([Set("/a", bytes(20))]),
    )


# --- reconfiguration ------------------------------------------------------------------------------


@case
async def reconfig(zk: Client) -> object:
    found = await tried(zk.reconfig(join=["server.5=localhost:2888:3888;2181"]))
    async with Client(zk.session.server, session_timeout=TIMEOUT, auth=[SUPER]) as root:
        found += await tried(
            root.reconfig(join=["server.5=localhost:2888:3888;2181"]),
            root.reconfig(leave=[5]),
            root.reconfig(members=["server.1=localhost:2888:3888;2181"], from_version=7),
        )
    return found


# --- watches --------------------------------------------------------------------------------------


async def _event(trigger: coati.Trigger) -> coati.Event:
    return await trigger.wait(TIMEOUT)


@case
async def triggers(zk: Client) -> object:
    found: list[object] = []
    created, data, children, gone = (coati.Trigger() for _ in range(4))
    assert await zk.exists("/a", watch=created) is None
    await zk.create("/a")
    found.append(await _event(created))
    await zk.get("/a", watch=data)
    await zk.children("/a", watch=children)
    await zk.create("/a/b")
    found.append(await _event(children))
    await zk.set("/a", b"1")
    found.append(await _event(data))
    await zk.exists("/a/b", watch=gone)
    await zk.children("/a/b", watch=children)
    await zk.delete("/a/b")
    found += [await _event(gone), await _event(children)]
    return found


@case
async def a_trigger_of_what_is_not_there(zk: Client) -> object:
    trigger = coati.Trigger()
    found = await tried(zk.get("/a", watch=trigger), zk.children("/a", watch=trigger))
    return [*found, trigger.has_fired]


async def _events(watch: coati.Watch, count: int) -> list[coati.Event]:
    async with asyncio.timeout(TIMEOUT):
        return [await anext(watch) for _ in range(count)]


@case
async def watch_persistent(zk: Client) -> object:
    await zk.create("/a")
    async with zk.watch("/a") as events:
        await zk.set("/a", b"1")
        await zk.create("/a/b")
        await zk.create("/a/b/c")
        await zk.set("/a/b", b"1")
        await zk.delete_tree("/a")
        await zk.create("/a")
        return await _events(events, 5)


@case
async def watch_recursive(zk: Client) -> object:
    async with zk.watch("/", recursive=True) as events:
        await zk.create("/a")
        await zk.create("/a/b")
        await zk.set("/a/b", b"1")
        await zk.multi([Delete("/a/b"), Delete("/a")])
        return await _events(events, 5)


@case
async def a_trigger_that_is_closed_beside_a_watch(zk: Client) -> object:
    await zk.create("/a")
    async with zk.watch("/a") as kept:
        data, children = coati.Trigger(), coati.Trigger()
        await zk.get("/a", watch=data)
        await zk.children("/a", watch=children)
        data.close()
        children.close()
        await zk.sync()
        await zk.set("/a", b"2")
        await zk.create("/a/b")
        return [*await _events(kept, 2), data.has_fired, children.has_fired]


@case
async def a_watch_that_is_closed_beside_another(zk: Client) -> object:
    await zk.create("/a")
    async with zk.watch("/a") as kept:
        async with zk.watch("/a", recursive=True):
            await zk.set("/a", b"1")
        await zk.sync()
        await zk.set("/a", b"2")
        return await _events(kept, 2)


@case
async def watches_without_anybody_are_gone(zk: Client) -> object:
    await zk.create("/a")
    data = coati.Trigger()
    await zk.exists("/a", watch=data)
    data.close()
    async with zk.watch("/a"), zk.watch("/", recursive=True):
        pass
    await zk.sync()
    return await asyncio.to_thread(watch_count, zk.session.server)


def watch_count(server: str) -> str:
    """The last line of `wchs`, which counts all."""
    host, _, port = server.partition(":")
    return four_letter(host, int(port), "wchs").splitlines()[-1]


@case
async def a_trigger_beside_a_watch_that_is_closed(zk: Client) -> object:
    await zk.create("/a")
    data, children = coati.Trigger(), coati.Trigger()
    async with zk.watch("/a"):
        await zk.get("/a", watch=data)
        await zk.children("/a", watch=children)
    await zk.set("/a", b"2")
    await zk.create("/a/b")
    return [await _event(data), await _event(children)]


# --- the end --------------------------------------------------------------------------------------


@case
async def a_closed_client(zk: Client) -> object:
    other = Client(zk.session.server, session_timeout=TIMEOUT)
    found = await tried(other.get("/"))
    async with other:
        await other.get("/")
    return [
        *found,
        *await tried(other.get("/"), other.create("/x"), other.start(), other.wait_for(coati.State.CONNECTED)),
    ]


# --- how it is compared ---------------------------------------------------------------------------


class Plain:
    """Writes values down without what differs from run to run. Zxids of one case become their ranks."""

    def __init__(self, server: str, root: str, found: object) -> None:
        self._server = server
        self._root = root
        zxids: list[int] = []
        self._zxids(found, zxids)
        self._ranks = {zxid: rank for rank, zxid in enumerate(sorted(set(zxids)))}
        self.text = self._show(found)

    def _zxids(self, value: object, into: list[int]) -> None:
        if isinstance(value, coati.Stat):
            into += [value.czxid, value.mzxid, value.pzxid]
        elif isinstance(value, coati.Event):
            into.append(value.zxid)
        elif isinstance(value, int) and not isinstance(value, bool | enum.Enum) and value > 1 << 20:
            into.append(value)
        elif isinstance(value, list | tuple):
            for one in value:
                self._zxids(one, into)

    def _show(self, value: object) -> str:
        match value:
            case coati.Stat():
                zxids = [self._ranks[zxid] for zxid in (value.czxid, value.mzxid, value.pzxid)]
                owner = "nobody" if not value.ephemeral_owner else hex(value.ephemeral_owner >> 56)
                if value.ephemeral_owner > 0 and value.ephemeral_owner >> 56 < 0x7F:
                    owner = "session"
                counts = value[4:7], value.data_length, value.num_children
                return f"Stat({zxids} {counts} {owner})"
            case coati.MultiError():
                return f"MultiError({value.index}, {self._show(value.results)})"
            case ZKError():
                code = getattr(value, "code", None)
                return f"{type(value).__name__}({code}, {value.path!r}, {value.maybe_applied}, {value.what()!r})"
            case coati.Event():
                return f"Event({value.type.name}, {value.path!r}, {self._ranks[value.zxid]})"
            case bytes() if len(value) > 100:
                return f"{len(value)} bytes"
            case enum.Enum():
                return value.name
            case list() | tuple():
                kind = type(value).__name__ if hasattr(value, "_fields") else ""
                return f"{kind}[{', '.join(map(self._show, value))}]"
            case Client():
                return "client"
            case bool():
                return str(value)
            case int() if value in self._ranks:
                return f"zxid {self._ranks[value]}"
            case _ if dataclasses.is_dataclass(value):
                return str(value)
            case _:
                return repr(value).replace(self._server, "SERVER").replace(self._root, "ROOT")


async def _run(address: str) -> dict[str, str]:
    found: dict[str, str] = {}
    async with Client(address, session_timeout=TIMEOUT) as setter:
        for name, test in CASES.items():
            root = f"/case-{name}"
            await setter.create(root)
            async with Client(address + root, session_timeout=TIMEOUT, name=name) as zk:
                try:
                    result: object = await asyncio.wait_for(test(zk), 60)
                except ZKError as error:
                    result = ["raised", error]
            found[name] = Plain(address, root, result).text
    return found


@functools.cache
def results(kind: str) -> dict[str, str]:
    with peers.running(kind, props=peers.LOCKSTEP_PROPS, cfg={**peers.QUICK_CFG, "tickTime": "1000"}) as server:
        return asyncio.run(_run(server.address))


def test_every_verb_of_the_client_has_a_case() -> None:
    verbs = {name for name in dir(BaseClient) if not name.startswith("_")}
    source = Path(__file__).read_text()
    # Each case runs in a chroot; what is no request is no server's business.
    no_request = {"aclose", "chroot", "entropy", "is_closed", "set_hosts", "spawn", "states", "unique", "with_options"}
    # Made of reads and watches, and tested where they live.
    no_request |= {"bounded", "cache", "joining", "members", "typed", "values", "quota"}
    assert sorted(verb for verb in verbs - no_request if f".{verb}(" not in source) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
def test_the_client_gets_the_same_from_java(name: str) -> None:
    assert results("coati")[name] == results("3.9.3")[name]


# What servers of 3.8 do not tell, or do otherwise; what fits is left out of the comparison.
NO_ZXIDS: Final = (r"(Event\([A-Z]+, '[^']*'), \d+\)", r"\1)")
NO_STATS: Final = (r"Stat\(\[[^\]]*\] \(\([^)]*\)[^)]*\) \w+\)", "Stat")
OLD: Final = {
    "triggers": NO_ZXIDS,
    "watch_persistent": NO_ZXIDS,
    "watch_recursive": NO_ZXIDS,
    "a_trigger_that_is_closed_beside_a_watch": NO_ZXIDS,
    "a_watch_that_is_closed_beside_another": NO_ZXIDS,
    "a_trigger_beside_a_watch_that_is_closed": NO_ZXIDS,
    # A create in a multi comes back without its Stat (ZOOKEEPER-3402 was never merged there).
    "multi": NO_STATS,
    "transaction": NO_STATS,
    # `exists` asks for no permission (ZOOKEEPER-2590).
    "exists_where_reading_is_not_allowed": ("^.*, None, ", ""),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
def test_the_client_gets_the_same_from_an_old_java(name: str) -> None:
    known = OLD.get(name, ("$", ""))
    assert re.sub(*known, results("coati")[name]) == re.sub(*known, results("3.8.0")[name])


# --- reconfiguration where it is enabled ----------------------------------------------------------

ENABLED: Final = {"reconfigEnabled": "true"}
UNREACHABLE: Final = [f"server.{sid}=127.0.0.1:1:2;3" for sid in (7, 8, 9)]
OBSERVER: Final = "server.9=127.0.0.1:10:11:observer;12"
# What is asked for, and what Java answers: an error, or the members after it. P1 stands for the line of server 1.
ASKED: Final[Sequence[tuple[dict[str, Any], type[ZKError] | set[int]]]] = (
    ({}, {1, 2, 3}),
    ({"join": ["some thing"]}, coati.BadArguments),
    ({"join": ["server.x=127.0.0.1:10:11;12"]}, MarshallingRefused),
    ({"join": [OBSERVER], "from_version": 7}, coati.BadVersion),
    ({"join": UNREACHABLE}, coati.NewConfigNoQuorum),
    ({"leave": ["x"]}, MarshallingRefused),
    ({"leave": [1, 2, 3]}, coati.BadArguments),
    ({"leave": [1, 3]}, coati.BadArguments),
    ({"members": []}, coati.BadArguments),
    ({"members": ["server.1=x"]}, coati.BadArguments),
    ({"members": ["version=7"]}, coati.BadArguments),
    ({"join": [OBSERVER]}, {1, 2, 3, 9}),
    ({"leave": [9]}, {1, 2, 3}),
    ({"leave": [9]}, {1, 2, 3}),
    ({"members": ["P1", "P2", "P3", OBSERVER]}, {1, 2, 3, 9}),
    ({"members": ["P1", "P2", "P3"]}, {1, 2, 3}),
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", [COATI, "3.9.3"])
def test_reconfig_answers_as_java_does(kind: str, tmp_path: Path) -> None:
    with Ensemble(tmp_path, (kind,) * 3, cfg=ENABLED) as ensemble:
        ensemble.start_led_by(2)
        lines = {f"P{m.sid}": f"server.{m.sid}={m.quorum_ports};127.0.0.1:{m.port}" for m in ensemble.running}
        asyncio.run(_ask_for_others(f"{peers.HOST}:{ensemble[1].port}", lines))


async def _ask_for_others(address: str, lines: dict[str, str]) -> None:
    async with (
        Client(address, session_timeout=TIMEOUT) as nobody,
        Client(address, session_timeout=TIMEOUT, auth=[SUPER]) as zk,
    ):
        refused = await tried(nobody.reconfig(join=[OBSERVER]), nobody.reconfig(join=["some thing"]))
        # What is nonsense is told to anybody.
        assert [type(error) for error in refused] == [coati.NoAuth, coati.BadArguments]
        version = (await zk.config()).version
        for wish, wanted in ASKED:
            if "members" in wish:
                wish = {"members": [lines.get(line, line) for line in wish["members"]]}
            (found,) = await tried(zk.reconfig(**wish))
            if isinstance(wanted, type):
                assert type(found) is wanted, wish
                assert isinstance(found, ZKError)
                assert (found.op, found.path, found.maybe_applied) == ("reconfig", "/zookeeper/config", False)
                continue
            assert isinstance(found, coati.EnsembleConfig), wish
            assert {sid for sid, _ in found.servers} == wanted, wish
            # Also where nothing has changed but the version.
            assert found.version > version
            version = found.version
            await zk.sync("/zookeeper/config")
            read = await zk.config()
            # Java takes them out of a map, which is another one with each server.
            assert (sorted(read.servers), read.version) == (sorted(found.servers), found.version)
        (late,) = await tried(zk.reconfig(leave=[9], from_version=version - 1))
        assert isinstance(late, coati.BadVersion)
        found = await zk.reconfig(leave=[9], from_version=version)
        assert found.version > version


@pytest.mark.parametrize("kind", ["coati", "3.9.3"])
def test_reconfig_of_a_server_alone(kind: str) -> None:
    async def main(address: str) -> None:
        async with Client(address, session_timeout=TIMEOUT, auth=[SUPER]) as zk:
            found = await tried(zk.reconfig(), zk.reconfig(join=["some thing"]), zk.reconfig(join=[OBSERVER]))
            assert [type(error) for error in found] == [coati.Unimplemented] * 3
            assert (await zk.config()).servers == ()

    with peers.running(kind, props=peers.QUICK_PROPS, cfg={**peers.QUICK_CFG, **ENABLED}) as server:
        asyncio.run(main(server.address))
