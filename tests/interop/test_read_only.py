"""Read-only mode: what a member without a quorum answers, coati beside Java 3.9.3.

Java serves new clients in this mode only with local sessions, so both have them switched on; coati needs no switch.
coati's other member is Java, which leads again in the end and must find nothing that it does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest

import coati
from tests.interop import peers, raw
from tests.interop.ensembles import COATI, Ensemble
from tools.javapeer import four_letter

JAVA: Final = "3.9.3"
PROPS: Final = {"readonlymode.enabled": "true", "zookeeper.4lw.commands.whitelist": "*"}
CFG: Final = {"minSessionTimeout": "1000", "localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true"}
TIMEOUT_MS: Final = 10_000
SHORT_MS: Final = 1000
# Of a session of 1,000 ms and ticks of 500 ms: two ticks later at the latest; and a busy machine.
EXPIRY_S: Final = 30.0
GRACE_S: Final = 2.0
FIGURES: Final = ("server_state", "peer_state", "quorum_size", "global_sessions", "watch_count", "znode_count")
WORDS: Final = ("isro", "srvr", "stat", "conf", "dump", "wchs", "ruok")

WRITES: Final = {
    "create": (raw.CREATE, raw.create("/x")),
    "create2": (raw.CREATE2, raw.create("/x")),
    "container": (raw.CREATE_CONTAINER, raw.create("/x", flags=4)),
    "ttl": (raw.CREATE_TTL, raw.create_ttl("/x", b"", raw.OPEN, 5, 1000)),
    "delete": (raw.DELETE, raw.path_version("/a")),
    "setData": (raw.SET_DATA, raw.set_data("/a", b"y")),
    "setACL": (raw.SET_ACL, raw.set_acl("/a", raw.OPEN)),
    "multi": (raw.MULTI, raw.multi([(raw.CREATE, raw.create("/x"))])),
    "reconfig": (raw.RECONFIG, raw.reconfig("", "", "", -1)),
    "sync": (raw.SYNC, raw.ustring("/")),
    "unreadable create": (raw.CREATE, b""),
    "unreadable setData": (raw.SET_DATA, b"\xff" * 4),
}
READS: Final = {
    "exists": (raw.EXISTS, raw.path_watch("/a", True)),
    "exists not": (raw.EXISTS, raw.path_watch("/gone", True)),
    "getData": (raw.GET_DATA, raw.path_watch("/a")),
    "getACL": (raw.GET_ACL, raw.ustring("/a")),
    "getChildren": (raw.GET_CHILDREN, raw.path_watch("/", True)),
    "getChildren2": (raw.GET_CHILDREN2, raw.path_watch("/a")),
    "multiRead": (raw.MULTI_READ, raw.multi([(raw.GET_CHILDREN, raw.path_watch("/a"))])),
    "ephemerals": (raw.GET_EPHEMERALS, raw.ustring("/")),
    "number of all": (raw.GET_ALL_CHILDREN_NUMBER, raw.ustring("/")),
    "whoAmI": (raw.WHO_AM_I, b""),
    "addWatch": (raw.ADD_WATCH, raw.path_version("/a", 0)),
    "removeWatches": (raw.REMOVE_WATCHES, raw.path_version("/a", 2)),
    "setWatches": (raw.SET_WATCHES, raw.set_watches(0, ["/a", "/gone"], ["/mine", "/never"], ["/"])),
    "unreadable getData": (raw.GET_DATA, b""),
}
NOT_FOR_CLIENTS: Final = {"check": (raw.CHECK, raw.path_version("/a")), "999": (999, b"")}


class Alone:
    """Member 1 of an ensemble whose other member has died. `first` had a session before, with an ephemeral."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        ensemble.start_led_by(2)
        self.port = ensemble[1].port
        self.first = ensemble.session(1)
        # The ephemeral first: it makes a local session one of the ensemble.
        for path, flags in (("/mine", 1), ("/a", 0)):
            assert self.first.call(raw.CREATE, raw.create(path, b"data", flags=flags))[0] == 0
        self.zxid = self.first.last_zxid
        began = monotonic()
        ensemble[2].kill()
        peers.eventually(lambda: four_letter(peers.HOST, self.port, "isro") == "ro", "it only reads", 60.0)
        self.waited_s = monotonic() - began

    def hello(self, **hello: Any) -> object:
        """What a hello is answered with: nothing but the end, or what a ConnectResponse says."""
        with raw.Wire(peers.HOST, self.port) as wire:
            wire.send(raw.frame(raw.connect_request(TIMEOUT_MS, **{"read_only": True, **hello})))
            try:
                reader = raw.Reader(wire.read_frame())
            except raw.Closed:
                return "closed"
            protocol, timeout_ms, session_id = reader.i32(), reader.i32(), reader.i64()
            password = reader.buffer() or b""
            read_only = reader.flag()
            reader.end()
            if session_id:
                return protocol, timeout_ms, session_id >> 56, len(password), read_only
            return protocol, timeout_ms, password, read_only, wire.read_to_end()

    def session(self, timeout_ms: int = TIMEOUT_MS, old: raw.Session | None = None) -> raw.Session:
        known: dict[str, Any] = {} if old is None else {"session_id": old.session_id, "password": old.password}
        return raw.Session(peers.HOST, self.port, timeout_ms, read_only=True, **known)

    def ask(self, session: raw.Session, op: int, body: bytes, xid: int | None = None) -> object:
        """A reply, its zxid as how far it is from the tree's, without what is in a Stat and one server's own."""
        seen = len(session.events)
        sent = session.send(op, body, xid)
        reply = session.reply()
        events = [(event.zxid, event.type, event.state, event.path) for event in session.events[seen:]]
        zxid = "the tree's" if reply.zxid == self.zxid else reply.zxid
        return reply.xid == sent, zxid, reply.err, without_stat(raw.decode(op, reply.body)), events


def without_stat(value: object) -> object:
    """Stats hold zxids and times; what they are is tested elsewhere."""
    if isinstance(value, raw.Stat):
        return value.version, value.cversion, value.aversion, value.data_length, value.num_children
    return tuple(map(without_stat, value)) if isinstance(value, tuple) else value


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Alone, Alone]]:
    """coati and Java."""
    with ExitStack() as stack:
        kinds: list[tuple[str, ...]] = [(COATI, JAVA), (JAVA, JAVA)]
        made = []
        for pair_of_kinds in kinds:
            base: Path = tmp_path_factory.mktemp("readonly")
            made.append(Alone(stack.enter_context(Ensemble(base, pair_of_kinds, props=PROPS, cfg=CFG))))
            stack.callback(made[-1].first.wire.close)
        yield made[0], made[1]


def test_it_begins_after_two_seconds(pair: tuple[Alone, Alone]) -> None:
    for alone in pair:
        assert alone.waited_s >= GRACE_S - 0.1


async def _what_the_client_gets(port: int) -> list[object]:
    found: list[object] = []
    async with coati.Client(f"{peers.HOST}:{port}", read_only=True, session_timeout=TIMEOUT_MS / 1000) as zk:
        found += [zk.session.state, zk.session.deadline, await zk.exists("/x")]
        found += [(await zk.get("/a")).data, await zk.children("/a"), await zk.count("/a")]
        for refused in (
            zk.create("/x"),
            zk.create("/x", ttl=5.0),
            zk.ensure("/x"),
            zk.set("/a", b"y"),
            zk.delete("/a"),
            zk.set_acl("/a", coati.OPEN),
            zk.multi([coati.Create("/x")]),
            zk.sync(),
            zk.reconfig(leave=[2]),
        ):
            try:
                found.append(await refused)
            except coati.ZKError as error:
                found.append((type(error), error.maybe_applied))
    return [*found, zk.session.state]


def test_the_client_is_told_that_a_server_only_reads(pair: tuple[Alone, Alone]) -> None:
    ours, java = (asyncio.run(_what_the_client_gets(alone.port)) for alone in pair)
    assert ours == java
    assert ours[:3] == [coati.State.READ_ONLY, 0.0, None]
    assert ours[6:-1] == [(coati.NotReadOnly, False)] * 9


def test_hellos_are_answered_alike(pair: tuple[Alone, Alone]) -> None:
    def answers(alone: Alone) -> dict[str, object]:
        first = alone.first
        return {
            "new": alone.hello(),
            "not read-only": alone.hello(read_only=False),
            "old client": alone.hello(read_only=None),
            "not ahead": alone.hello(last_zxid=alone.zxid),
            "ahead": alone.hello(last_zxid=alone.zxid + 1),
            "of the ensemble": alone.hello(session_id=first.session_id, password=first.password),
            "of the ensemble, wrong password": alone.hello(session_id=first.session_id),
            "unknown, wrong password": alone.hello(session_id=77),
        }

    ours, java = map(answers, pair)
    assert ours == java
    assert ours["new"] == (0, TIMEOUT_MS, 1, 16, True)
    assert ours["of the ensemble"] == "closed"


def test_requests_are_answered_alike(pair: tuple[Alone, Alone]) -> None:
    def answers(alone: Alone) -> dict[str, object]:
        with alone.session() as session:
            found = {name: alone.ask(session, op, body) for name, (op, body) in {**WRITES, **READS}.items()}
            found["ping"] = alone.ask(session, raw.PING, b"", raw.XID_PING)
            found["auth"] = alone.ask(session, raw.AUTH, raw.auth("digest", b"u:p"), raw.XID_AUTH)
        for name, (op, body) in NOT_FOR_CLIENTS.items():
            with alone.session() as session:
                found[name] = alone.ask(session, op, body), session.wire.read_to_end()
        return found

    ours, java = map(answers, pair)
    assert ours == java
    assert all(ours[name] == (True, "the tree's", -119, None, []) for name in WRITES)


def test_local_sessions_live_move_and_end_alike(pair: tuple[Alone, Alone]) -> None:
    def answers(alone: Alone) -> list[object]:
        old = alone.session()
        new = alone.session(20_000, old)
        found: list[object] = [old.wire.read_to_end(), new.session_id == old.session_id, new.timeout_ms]
        found.append(alone.hello(session_id=old.session_id, password=old.password, read_only=False))
        found.append(alone.ask(new, raw.CLOSE_SESSION, b""))
        found.append(new.wire.read_to_end())
        found.append(alone.hello(session_id=old.session_id, password=old.password))
        # With its connection gone, for Java closes that before it looks at the password.
        with alone.session() as lost:
            pass
        found.append(alone.hello(session_id=lost.session_id))
        brief = alone.session(SHORT_MS)
        brief.wire.deadline_s = EXPIRY_S
        found += [brief.timeout_ms, brief.wire.read_to_end()]
        found.append(alone.hello(session_id=brief.session_id, password=brief.password))
        for session in (old, new, brief):
            session.wire.close()
        return found

    ours, java = map(answers, pair)
    assert ours == java


def test_words_say_the_same(pair: tuple[Alone, Alone]) -> None:
    def answers(alone: Alone) -> dict[str, object]:
        with alone.session() as session:
            assert alone.ask(session, *READS["exists"])
            monitored = peers.monitor(alone.ensemble[1].server)
            found: dict[str, object] = {
                name: monitored.get(name)
                for name in (
                    "server_state",
                    "peer_state",
                    "quorum_size",
                    "global_sessions",
                    "watch_count",
                    "znode_count",
                )
            }
            said = {word: four_letter(peers.HOST, alone.port, word) for word in WORDS}
        found.update({word: said[word] for word in ("isro", "wchs", "ruok")})
        found["srvr"] = [said["srvr"].split("\n")[1], "\nMode: read-only\n" in said["srvr"]]
        found["stat"] = [said["stat"].split("\n")[1], "\nMode: read-only\n" in said["stat"]]
        found["conf"] = [line.partition("=")[0] for line in said["conf"].splitlines()]
        heads = [line.partition(" (")[0] for line in said["dump"].splitlines() if line.endswith(":")]
        found["dump"] = [line for line in heads if " expire at " not in line and not line.startswith("0x")]
        return found

    ours, java = map(answers, pair)
    assert ours == java
    assert ours["server_state"] == "read-only"


# The last one.
def test_when_there_is_a_quorum_again_everything_is_as_it_was(pair: tuple[Alone, Alone]) -> None:
    """ZOOKEEPER-3526: a session that expires here leaves nothing in the log; who leads then, Java, cuts nothing off."""
    for alone in pair:
        ensemble, first = alone.ensemble, alone.first
        with alone.session() as client:
            ensemble[2].launch()
            client.wire.deadline_s = peers.READY_TIMEOUT_S
            assert client.wire.read_to_end() == b""
        ensemble.wait()
        with pytest.raises(raw.Expired):
            ensemble.resumed(1, client)
        with ensemble.resumed(1, first) as back:
            assert back.session_id == first.session_id
            assert not back.read_only
            assert back.call(raw.EXISTS, raw.path_watch("/mine"))[0] == 0
            assert back.call(raw.CREATE, raw.create("/after"))[0] == 0
        ensemble.check(["/a", "/mine", "/after"])
    assert "log cut" not in pair[0].ensemble[1].log()
