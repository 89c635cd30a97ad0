"""The verbs on a live server, and what they make of answers that come once in a blue moon, from a scripted one."""

from __future__ import annotations

import asyncio
import functools
import os
import pickle
import struct
from collections.abc import Awaitable, Callable, Sequence

import pytest

import coati
from coati import BadVersion, Client, ConnectionLoss, Mode, NoNode, OperationTimeout, Retry, State, Throttled
from coati.errors import SESSION_MOVED, THROTTLED_OP, MarshallingError
from coati.wire import codes
from tests.client.kit import reply, text
from tests.client.livekit import HOST, client, relay, run, until
from tests.client.scripted import HANG_UP, STAT, Scripted, scripted

SOON = Retry(base=0.001, cap=0.002)


def at(server: Scripted, **options: object) -> Client:
    return Client(f"{HOST}:{server.port}", retry=SOON, **options)  # type: ignore[arg-type]  # the options of Client


# --- views ----------------------------------------------------------------------------------------


def test_a_view_has_a_root_and_defaults_of_its_own(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.ensure(top)
            view = zk.chroot(top)
            deeper = view.chroot("/a").chroot("/b")
            # The roots of views are parents too.
            assert await deeper.ensure("/c")
            assert await zk.children(f"{top}/a/b") == ["c"]
            assert await view.chroot("/").children("/a") == ["b"]
            assert (await deeper.get("/")).path == "/"
            assert "zookeeper" in await deeper.chroot_free().children("/")
            read_only = view.with_options(default_acl=coati.READ_ONLY, retry=Retry.NONE, timeout=5.0)
            await read_only.create("/r")
            assert (await view.get_acl("/r")).acl == coati.READ_ONLY
            assert (await view.get_acl("/a")).acl == coati.OPEN
            assert read_only.session is zk.session
            for bad in ("a", "/a/", "", "//"):
                with pytest.raises(coati.BadArguments):
                    view.chroot(bad)

    run(scene)


def test_a_client_says_who_it_is(port: int, top: str) -> None:
    async def scene() -> None:
        zk = Client([f"{HOST}:{port}"], name="me")
        assert repr(zk) == "<Client me connecting  0x0>"
        assert (zk.session.deadline, zk.session.timeout) == (0.0, 10.0)
        async with zk:
            assert repr(zk) == f"<Client me connected {HOST}:{port} {zk.session.id:#x}>"
            assert repr(zk.chroot("/x")).startswith(f"<Client me connected {HOST}:{port}/x ")
            assert zk.session.server == f"{HOST}:{port}"
            assert not zk.session.read_only
            now = asyncio.get_running_loop().time()
            assert now < zk.session.deadline < now + zk.session.timeout + 0.1
            assert zk.session.last_zxid > 0
            assert await zk.start() is zk
        assert zk.is_closed
        await zk.aclose()

    run(scene)


def test_values_tell_what_is_asked_of_them(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            node = await zk.create(f"{top}", b"x")
            assert (node.name, node.version, node.zxid) == (top[1:], 0, node.stat.czxid)
            assert node.stat.created == node.stat.modified
            assert node.stat.created.tzinfo is not None
            async with zk.transaction() as t:
                t.set(top, b"y")
                t.delete(top)
            assert t.results is not None
            t = zk.transaction()
            await t.__aenter__()
            t.create(top)
            await t.__aexit__(ValueError, ValueError(), None)
            async with zk.transaction() as t:
                pass
            assert t.results is None
            assert await zk.exists(top) is None

    run(scene)


def test_errors_tell_where_what_and_what_to_do(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            view = zk.chroot(top)
            await zk.ensure(f"{top}/a/b")
            where = f"[server {HOST}:{port}, session {zk.session.id:#x}]"
            told = {
                "create /x/y: NoNode (-101) (its parent is missing; parents=True makes it)": view.create("/x/y"),
                "create /a: NodeExists (-110) (`put` sets it if it is there, `ensure` leaves it)": view.create("/a"),
                "delete /a: NotEmpty (-111) (it has children; `delete_tree` takes them with it)": view.delete("/a"),
                "get /x: NoNode (-101)": view.get("/x"),
                "set /a: BadVersion (-103)": view.set("/a", b"", version=9),
            }
            for message, work in told.items():
                with pytest.raises(coati.KeeperError) as caught:
                    await work
                assert str(caught.value) == f"{message} {where}"
                assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
            with pytest.raises(coati.MultiError) as refused:
                await view.multi([coati.Check("/a"), coati.Delete("/x")])
            assert "operation 1 of the multi failed: /x: NoNode (-101)" in str(refused.value)
            again = pickle.loads(pickle.dumps(refused.value))
            assert (again.index, again.code, str(again)) == (1, -101, str(refused.value))

    run(scene)


def test_all_kinds_of_znodes(port: int, top: str) -> None:
    async def scene() -> None:
        async with Client(f"{HOST}:{port}{top}", auth=[coati.Digest("ann", "secret")]) as zk:
            await zk.chroot_free().ensure(top)
            assert (await zk.create("/", mode=Mode.SEQUENTIAL)).path == "/0000000000"
            assert (await zk.create("/t-", ttl=100.0, mode=Mode.SEQUENTIAL)).path == "/t-0000000001"
            assert (await zk.create("/t", ttl=100.0)).path == "/t"
            await zk.create("/mine", acl=coati.CREATOR)
            assert (await zk.get_acl("/mine")).acl[0].id.startswith("ann:")
            assert {info.scheme for info in await zk.whoami()} == {"ip", "digest"}
            results = await zk.multi([coati.Create("/m", ttl=100.0), coati.Set("/m", b"x"), coati.Delete("/m")])
            assert [type(result) for result in results] == [coati.Node, coati.Stat, type(None)]
            assert await zk.delete_tree("/", keep_root=True) == 4
            assert await zk.children("/") == []
            assert zk.unique() != zk.unique()
            assert 0 <= zk.entropy.random() < 1
            stop = zk.session.on_end(lambda reason: None)
            stop()
            stop()

    run(scene)


def test_a_root_that_may_not_be_read_keeps_nobody_out(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.create(top, acl=coati.acl("world:anyone:c"))
        async with Client(f"{HOST}:{port}{top}") as inside:
            await inside.create("/a")
            await inside.authenticate(coati.Digest("ann", "secret"))
            with pytest.raises(coati.NoAuth):
                await inside.exists("/")

    run(scene)


def test_an_update_is_done_again_if_somebody_was_faster(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.create(top, b"0")

            async def count() -> None:
                for _ in range(5):
                    await zk.update(top, lambda data: b"%d" % (int(data) + 1))

            await asyncio.gather(*(count() for _ in range(5)))
            assert (await zk.get(top)).data == b"25"
            await zk.set_acl(top, coati.acl("world:anyone:ra"))
            with pytest.raises(coati.NoAuth):
                await zk.update(top, lambda data: data)

    run(scene)


# --- connections ----------------------------------------------------------------------------------


def test_a_client_without_a_server_says_why() -> None:
    async def scene() -> None:
        with pytest.raises(OperationTimeout) as caught:
            await Client(f"{HOST}:1", retry=SOON).start(timeout=0.1)
        assert "cannot be reached" in str(caught.value)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scene)


@pytest.mark.parametrize("name", ["a..b", "x" * 70, "does-not-exist.invalid"])
def test_a_name_that_no_resolver_takes_is_a_failed_dial(port: int, name: str) -> None:
    async def scene() -> None:
        async with Client(f"{name}:1,{HOST}:{port}", retry=SOON) as zk:
            assert zk.session.server == f"{HOST}:{port}"

    run(scene)


class Provider:
    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    def hosts(self) -> Sequence[str]:
        if not self.answers:
            raise RuntimeError("no answers left")
        return self.answers.pop(0)


def test_a_provider_is_asked_again_when_nobody_can_be_reached(port: int) -> None:
    async def scene() -> None:
        provider = Provider([f"{HOST}:1"], [], [f"{HOST}:2"], [f"{HOST}:{port}"])
        async with Client(provider, retry=SOON) as zk:
            assert zk.session.server == f"{HOST}:{port}"
        with pytest.raises(ValueError, match="at least one host"):
            Client(Provider([]))

    run(scene)


def test_a_provider_that_raises_costs_no_connection(port: int) -> None:
    async def scene() -> None:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context.get("exception")))
        async with Client(Provider([f"{HOST}:1", f"{HOST}:{port}"]), retry=SOON, entropy=None) as zk:
            zk.set_hosts([f"{HOST}:1"])
            await until(lambda: told)
            zk.set_hosts(f"{HOST}:{port}")
            assert await zk.exists("/") is not None
        assert isinstance(told[0], RuntimeError)

    run(scene)


def test_states_are_told_to_each_who_asks(port: int) -> None:
    async def scene() -> None:
        async with relay(port) as gate, client(gate) as zk:
            first, second = zk.states(), zk.states()
            assert (await anext(first)).state is State.CONNECTED
            assert (await anext(second)).reason == "now"
            waiting = asyncio.ensure_future(zk.wait_for(State.SUSPENDED))
            await asyncio.sleep(0)
            gate.cut()
            # However short it was.
            gate.heal()
            assert await waiting is State.SUSPENDED
            assert (await zk.wait_for(State.CONNECTED)) is State.CONNECTED
            with pytest.raises(TimeoutError):
                await zk.wait_for(State.READ_ONLY, timeout=0.01)
            await zk.aclose()
            for states in (first, second):
                seen = [change.state async for change in states]
                assert seen == [State.SUSPENDED, State.CONNECTED, State.CLOSED]
            with pytest.raises(coati.ClientClosed):
                await zk.wait_for(State.CONNECTED)

    run(scene)


def test_a_cancelled_close_leaves_nothing_either() -> None:
    async def scene() -> None:
        async with scripted(lambda xid, op, body: b"") as server:
            zk = await at(server).start()
            hanging = asyncio.ensure_future(zk.get("/a"))
            await until(lambda: server.ops)
            server._reply = lambda xid, op, body: b""  # type: ignore[method-assign]  # even close is not answered
            closing = asyncio.ensure_future(zk.aclose())
            await until(lambda: zk._core.machine._is_closing)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert zk.session.state is State.CLOSED
            with pytest.raises(ConnectionLoss):
                await hanging
            assert zk._core.pump._timer is None
            assert zk._core.pump.connection is None

    run(scene)


def test_a_fork_is_told_to_open_a_client_of_its_own(port: int) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    zk.get("/").send(None)
                except coati.ForkedClient as error:
                    code = 0 if "after the fork" in str(error) else 2
                finally:
                    os._exit(code)
            assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
            assert await zk.exists("/") is not None

    run(scene)


def test_a_client_moves_from_a_server_that_only_reads() -> None:
    async def scene() -> None:
        async with (
            scripted(lambda xid, op, body: b"", reads_only=True, isro=b"ro") as old,
            scripted(lambda xid, op, body: b"", isro=b"rw") as new,
        ):
            gone = await asyncio.start_server(lambda r, w: w.close(), HOST, 0)
            nobody = gone.sockets[0].getsockname()[1]
            hosts = [f"{HOST}:{old.port}", f"{HOST}:{new.port}", f"{HOST}:{nobody}"]
            zk = Client(hosts[0], read_only=True, retry=SOON)
            async with zk:
                assert zk.session.read_only
                zk._core.machine.hosts.update(list(map(coati.client.hosts.parse_host, hosts)), None)
                await zk.wait_for(State.CONNECTED)
                assert zk.session.server == hosts[1]
            gone.close()

    run(scene)


# --- answers that come at an unlucky moment -------------------------------------------------------


def test_a_busy_server_is_asked_again_after_a_pause() -> None:
    server: Scripted

    def answer(xid: int, op: int, body: bytes) -> bytes:
        return reply(xid, err=THROTTLED_OP) if len(server.ops) < 4 else reply(xid, body=STAT)

    async def scene() -> None:
        nonlocal server
        async with scripted(answer) as server, at(server) as zk:
            assert await zk.set("/a", b"") is not None
            assert len(server.ops) == 4

    run(scene)


def test_a_server_that_stays_busy_is_told_of_within_the_timeout() -> None:
    async def scene() -> None:
        async with scripted(lambda xid, op, body: reply(xid, err=THROTTLED_OP)) as server, at(server) as zk:
            # The next pause would be longer than the time that is left.
            patient = Retry(base=1e6, cap=1e6)
            for retry in (patient, Retry.NONE):
                with pytest.raises(Throttled):
                    await zk.with_options(retry=retry).get("/a")

    run(scene)


def test_a_moved_session_is_asked_again_where_that_is_safe() -> None:
    server: Scripted

    def answer(xid: int, op: int, body: bytes) -> bytes:
        return reply(xid, err=SESSION_MOVED) if len(server.ops) == 1 else reply(xid, body=STAT)

    async def scene() -> None:
        nonlocal server
        async with scripted(answer) as server, at(server) as zk:
            assert await zk.exists("/a") is not None
            server.ops.clear()
            with pytest.raises(coati.SessionMoved):
                await zk.create("/a")

    run(scene)


@pytest.mark.parametrize(
    ("data", "is_unclear"),
    [(b"mine", True), (b"theirs", False)],
    ids=["the same data by anybody", "other data"],
)
def test_a_versioned_set_whose_answer_was_lost_is_not_taken_for_done(data: bytes, is_unclear: bool) -> None:
    server: Scripted

    # Two clients count from 5 to 6: if the second one's 6 counts for both, one count is lost.
    def answer(xid: int, op: int, body: bytes) -> bytes:
        if op == codes.OP_GET_DATA:
            return reply(xid, body=text(data) + struct.pack(">qqqqiiiqiiq", 1, 9, 3, 4, 6, 0, 0, 0, 4, 0, 1))
        return HANG_UP if server.ops.count(codes.OP_SET_DATA) == 1 else reply(xid, err=-103)

    async def scene() -> None:
        nonlocal server
        async with scripted(answer) as server, at(server) as zk:
            with pytest.raises(BadVersion) as caught:
                await zk.set("/a", b"mine", version=5)
            assert caught.value.maybe_applied is is_unclear
            assert server.ops == [codes.OP_SET_DATA, codes.OP_SET_DATA, codes.OP_GET_DATA]

    run(scene)


def test_a_versioned_set_stays_unclear_if_it_cannot_be_looked_at() -> None:
    server: Scripted

    def answer(xid: int, op: int, body: bytes) -> bytes:
        if op == codes.OP_GET_DATA:
            return reply(xid, err=-102)
        return HANG_UP if server.ops.count(codes.OP_SET_DATA) == 1 else reply(xid, err=-103)

    async def scene() -> None:
        nonlocal server
        async with scripted(answer) as server, at(server) as zk:
            with pytest.raises(BadVersion) as caught:
                await zk.set("/a", b"mine", version=5)
            assert caught.value.maybe_applied

    run(scene)


def test_an_ephemeral_whose_answer_was_lost_stays_unclear_if_it_cannot_be_looked_for() -> None:
    def answer(xid: int, op: int, body: bytes) -> bytes:
        return HANG_UP if op == codes.OP_CREATE2 else reply(xid, err=-102)

    async def scene() -> None:
        async with scripted(answer) as server, at(server) as zk:
            with pytest.raises(coati.NoAuth) as caught:
                await zk.create("/a", mode=Mode.EPHEMERAL)
            assert caught.value.maybe_applied

    run(scene)


def test_an_update_whose_fate_is_unclear_is_not_done_twice() -> None:
    server: Scripted

    def answer(xid: int, op: int, body: bytes) -> bytes:
        version = 6 if codes.OP_SET_DATA in server.ops else 5
        if op == codes.OP_GET_DATA:
            return reply(xid, body=text(b"x") + struct.pack(">qqqqiiiqiiq", 1, 9, 3, 4, version, 0, 0, 0, 1, 0, 1))
        return HANG_UP if server.ops.count(codes.OP_SET_DATA) == 1 else reply(xid, err=-103)

    async def scene() -> None:
        nonlocal server
        async with scripted(answer) as server, at(server) as zk:
            with pytest.raises(BadVersion) as caught:
                await zk.update("/a", lambda data: data)
            assert caught.value.maybe_applied

    run(scene)


def test_a_versioned_delete_whose_answer_was_lost_is_not_taken_for_done() -> None:
    server: Scripted

    # Two consumers delete one item: only one of them may have it.
    def answer(xid: int, op: int, body: bytes) -> bytes:
        return HANG_UP if len(server.ops) == 1 else reply(xid, err=-101)

    async def scene() -> None:
        nonlocal server
        async with scripted(answer) as server, at(server) as zk:
            with pytest.raises(NoNode) as caught:
                await zk.delete("/a", version=0)
            assert caught.value.maybe_applied
            server.ops.clear()
            await zk.delete("/a", missing_ok=True)
            assert len(server.ops) == 2

    run(scene)


def test_a_write_whose_answer_was_lost_says_so() -> None:
    async def scene() -> None:
        async with scripted(lambda xid, op, body: HANG_UP) as server, at(server) as zk:
            for work in (zk.create("/a"), zk.set("/a", b""), zk.delete("/a"), zk.multi([coati.Delete("/a")])):
                with pytest.raises(ConnectionLoss) as caught:
                    await work
                assert caught.value.maybe_applied
                assert "may have been applied" in str(caught.value)

    run(scene)


def owned(zxid: int, owner: int) -> bytes:
    return struct.pack(">qqqqiiiqiiq", zxid, zxid, 3, 4, 0, 0, 0, owner, 0, 0, zxid)


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        ([owned(50, 0x77)], "made"),
        ([owned(50, 0x78)], "exists"),
        ([owned(1, 0x77)], "exists"),
        ([None, "made"], "made"),
        # What was sent over the lost connection arrives after all.
        ([None, "exists", owned(50, 0x77)], "made"),
        ([None, "lost", None, "made"], "made"),
        ([None, "exists"] * 20, "exists"),
    ],
    ids=["ours", "theirs", "older", "not there", "late", "lost again", "comes and goes"],
)
def test_an_ephemeral_whose_answer_was_lost_is_found(after: list[object], outcome: str) -> None:
    server: Scripted

    def answer(xid: int, op: int, body: bytes) -> bytes:
        if len(server.ops) == 1:
            return HANG_UP
        next_one = script.pop(0)
        if next_one == "lost":
            return HANG_UP
        if next_one == "exists":
            return reply(xid, err=-110)
        if next_one == "made":
            return reply(xid, body=text(b"/a") + owned(51, 0x77))
        if next_one is None:
            return reply(xid, zxid=60, err=-101)
        assert isinstance(next_one, bytes)
        return reply(xid, zxid=60, body=next_one)

    async def scene() -> None:
        nonlocal server
        async with scripted(answer) as server, at(server) as zk:
            if outcome == "made":
                node = await zk.create("/a", b"x", mode=Mode.EPHEMERAL)
                assert (node.path, node.data, node.stat.ephemeral_owner) == ("/a", b"x", 0x77)
            else:
                with pytest.raises(coati.NodeExists):
                    await zk.create("/a", b"x", mode=Mode.EPHEMERAL)

    script = list(after)
    run(scene)


def test_what_comes_and_goes_is_not_chased_for_ever() -> None:
    def answer(xid: int, op: int, body: bytes) -> bytes:
        return reply(xid, err=-110 if op == codes.OP_CREATE2 else -101)

    async def scene() -> None:
        async with scripted(answer) as server, at(server) as zk:
            with pytest.raises(coati.NodeExists):
                await zk.put("/a/b", b"")
            assert len(server.ops) == 20
        async with scripted(lambda xid, op, body: reply(xid, err=-101)) as server, at(server) as zk:
            with pytest.raises(NoNode):
                await zk.ensure("/a")
            with pytest.raises(NoNode):
                await zk.create("/a", parents=True)

    run(scene)


def test_a_tree_that_grows_as_fast_as_it_is_deleted() -> None:
    def answer(xid: int, op: int, body: bytes) -> bytes:
        if op == codes.OP_GET_CHILDREN:
            return reply(xid, body=struct.pack(">i", 0))
        if op == codes.OP_MULTI:
            return HANG_UP
        return reply(xid, err=-111)

    async def scene() -> None:
        async with scripted(answer) as server, at(server) as zk:
            with pytest.raises(coati.NotEmpty):
                await zk.delete_tree("/a")

    run(scene)


def test_one_that_fails_takes_its_siblings_along(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.ensure(f"{top}/a")
            await zk.create(f"{top}/b", acl=coati.acl("world:anyone:w"))
            await zk.create(f"{top}/c")
            with pytest.raises(coati.NoAuth):
                _ = [node async for node in zk.walk(top)]
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scene)


def cut_short(body: bytes, xid: int, op: int, asked: bytes) -> bytes:
    return reply(xid, body=body)


@pytest.mark.parametrize(
    "verb",
    ["get", "exists", "children", "get_acl", "count", "ephemerals", "whoami", "set", "create", "multi", "multi_read"],
)
def test_an_answer_cut_short_is_no_answer(verb: str) -> None:
    async def scene() -> None:
        for body in (b"", b"\0\0", b"\0\0\0\1\0", b"\0\0\0\5abcde\0\0", b"\0\0\0\x7f", b"\xff\xff\xff\xfe"):
            answer = functools.partial(cut_short, body)
            async with scripted(answer) as server, at(server) as zk:
                works: dict[str, Callable[[], Awaitable[object]]] = {
                    "get": lambda: zk.get("/a"),
                    "exists": lambda: zk.exists("/a"),
                    "children": lambda: zk.children("/a"),
                    "get_acl": lambda: zk.get_acl("/a"),
                    "count": lambda: zk.count("/a"),
                    "ephemerals": lambda: zk.ephemerals(),
                    "whoami": lambda: zk.whoami(),
                    "set": lambda: zk.set("/a", b""),
                    "create": lambda: zk.create("/a"),
                    "multi": lambda: zk.multi([coati.Create("/a")]),
                    "multi_read": lambda: zk.multi_read([coati.Get("/a")]),
                }
                try:
                    await works[verb]()
                except MarshallingError:
                    continue
                # An empty vector, a number: complete by itself.
                assert verb in ("children", "count", "ephemerals", "whoami")

    run(scene)


def test_the_configuration_of_an_ensemble_is_read() -> None:
    lines = b"server.1=a:1:2:participant;3\nserver.20=b:1:2\nversion=10000000f\nother=x\n"

    def answer(xid: int, op: int, body: bytes) -> bytes:
        asked.append(body)
        return reply(xid, body=text(lines) + STAT)

    async def scene() -> None:
        async with scripted(answer) as server, at(server) as zk:
            config = await zk.chroot("/app").config()
            assert config.servers == ((1, "a:1:2:participant;3"), (20, "b:1:2"))
            assert config.version == 0x10000000F
            assert config.text == lines.decode()
            assert b"/zookeeper/config" in asked.pop()
            await zk.reconfig(join=["server.3=c", "server.4=d"], leave=[5, "6"], from_version=7)
            assert asked.pop() == text(b"server.3=c,server.4=d") + text(b"5,6") + b"\xff" * 4 + struct.pack(">q", 7)
            await zk.reconfig(members=[])
            assert asked.pop() == b"\xff" * 8 + text(b"") + struct.pack(">q", -1)

    asked: list[bytes] = []
    run(scene)


def test_a_timeout_of_none_waits_for_ever() -> None:
    async def scene() -> None:
        async with scripted(lambda xid, op, body: b"") as server, at(server) as zk:
            waiting = asyncio.ensure_future(zk.with_options(timeout=None).get("/a"))
            await until(lambda: server.ops)
            assert zk._core.machine._sent[0].deadline_ms > 1 << 50
            waiting.cancel()
            await asyncio.wait([waiting])

    run(scene)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def done() -> None:
    pass


def test_a_task_of_the_client_ends_with_it(port: int) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            task = zk.spawn(forever())
            await zk.spawn(done())
        assert task.cancelled()

    run(scene)


def test_no_secret_is_shown() -> None:
    assert "secret" not in repr(coati.Digest("ann", "secret"))


def test_acls_are_read_from_text() -> None:
    assert coati.acl("digest:u:h=:cdrwa, world:anyone:r,ip:::1:rw") == (
        coati.ACL(coati.Perm.ALL, "digest", "u:h="),
        coati.ACL(coati.Perm.READ, "world", "anyone"),
        coati.ACL(coati.Perm.READ | coati.Perm.WRITE, "ip", "::1"),
    )
    assert str(coati.acl("ip:10.0.0.0/8:cd")[0]) == "ip:10.0.0.0/8:cd"
    for bad in ("", "world:anyone", "world:anyone:", "world:anyone:x", ":x:r", "world"):
        with pytest.raises(ValueError, match="scheme:id:perms"):
            coati.acl(bad)


def test_hashes_of_digests_are_those_of_zookeeper() -> None:
    # DigestAuthenticationProviderTest.
    assert coati.digest_id("super", "test") == "super:D/InIHSb7yEEbrWz8b9l71RjZJU="


def test_modes_know_what_they_are() -> None:
    assert [mode.name for mode in Mode if mode.is_sequential] == ["SEQUENTIAL", "EPHEMERAL_SEQUENTIAL"]
    assert [mode.name for mode in Mode if mode.is_ephemeral] == ["EPHEMERAL", "EPHEMERAL_SEQUENTIAL"]


@pytest.mark.parametrize(("mode", "ttl"), [(Mode.EPHEMERAL, 5.0), (Mode.CONTAINER, 5.0), (Mode.PERSISTENT, 0.0)])
def test_a_ttl_that_no_server_takes_is_refused_here(port: int, top: str, mode: Mode, ttl: float) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            with pytest.raises(ValueError, match="ttl"):
                await zk.create(top, mode=mode, ttl=ttl)
            with pytest.raises(ValueError, match="ttl"):
                await zk.create(top, ttl=1e15)

    run(scene)
