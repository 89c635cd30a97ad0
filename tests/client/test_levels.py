"""`values` and `members`: the newest state always comes, over lost connections and sessions, and nothing is left."""

from __future__ import annotations

import asyncio

import pytest

import coati
from coati.client.streams import Stream
from tests.client.livekit import client, expire, relay, run, until


async def data_of(stream: Stream[coati.Node | None]) -> bytes | None:
    node = await stream.poll(10)
    return None if node is None else node.data


def waits(task: asyncio.Task[object]) -> bool:
    return not task.done()


async def settle(zk: coati.Client) -> None:
    """What was under way when this was called has been answered."""
    await zk.sync("/")
    await asyncio.sleep(0)


def test_values_tell_what_is_now_and_then_what_is_new(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other, zk.values(top) as values:
            assert await values.poll(10) is None
            await other.create(top, b"1")
            assert await data_of(values) == b"1"
            await other.set(top, b"2")
            node = await values.poll(10)
            assert node is not None
            assert (node.data, node.version, node.path) == (b"2", 1, top)
            await other.delete(top)
            assert await values.poll(10) is None
            assert values.gaps == 0

    run(scene)


def test_values_of_a_burst_end_with_the_newest(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await other.create(top, b"0")
            seen = []
            values = zk.values(top)
            seen.append(await data_of(values))
            for number in range(1, 101):
                await other.set(top, b"%d" % number)
            while seen[-1] != b"100":
                seen.append(await data_of(values))
            assert len(seen) < 10
            values.close()

    run(scene)


def test_values_do_not_repeat_what_has_not_changed(port: int, top: str) -> None:
    """A znode that came and went while nobody asked is missing as before; a child is no change of the data."""

    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            values = zk.values(top)
            assert await values.poll(10) is None
            await other.create(top, b"short")
            await other.delete(top)
            with pytest.raises(TimeoutError):
                await values.poll(0.05)
            await other.create(top, b"long")
            assert await data_of(values) == b"long"
            await other.create(f"{top}/child")
            with pytest.raises(TimeoutError):
                await values.poll(0.05)
            # Another znode with the same data is a change.
            await other.delete_tree(top)
            await other.create(top, b"long")
            assert await data_of(values) == b"long"
            values.close()

    run(scene)


def test_members_tell_each_set_and_an_empty_one_without_a_parent(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other, zk.members(top) as members:
            assert await members.poll(10) == frozenset()
            await other.ensure(top)
            await other.create(f"{top}/a")
            assert await members.poll(10) == {"a"}
            await other.create(f"{top}/b")
            assert await members.poll(10) == {"a", "b"}
            await other.delete_tree(top)
            while (found := await members.poll(10)) != frozenset():
                assert found <= {"a", "b"}
            await other.create(f"{top}/c", parents=True)
            assert await members.poll(10) == {"c"}

    run(scene)


def test_streams_of_a_view_are_below_its_chroot(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.create(f"{top}/a", b"deep", parents=True)
            below = zk.chroot(top)
            node = await below.values("/a").poll(10)
            assert node is not None
            assert (node.path, node.data) == ("/a", b"deep")
            assert await below.members("/").poll(10) == {"a"}

    run(scene)


def test_values_over_a_lost_connection(port: int, top: str) -> None:
    async def scene() -> None:
        async with relay(port) as gate, client(gate) as zk, client(port) as other:
            await other.create(top, b"1")
            async with zk.values(top) as values, zk.members(top) as members:
                assert await data_of(values) == b"1"
                assert await members.poll(10) == frozenset()
                gate.cut()
                await zk.wait_for(coati.State.SUSPENDED, timeout=10)
                waiting = asyncio.create_task(data_of(values))
                await other.set(top, b"2")
                await other.create(f"{top}/a")
                gate.heal()
                assert await waiting == b"2"
                assert await members.poll(10) == {"a"}
                assert (values.gaps, members.gaps) == (0, 0)

    run(scene)


def test_what_has_not_changed_is_not_read_again_after_a_lost_connection(port: int, top: str) -> None:
    """A thousand clients that come back do not all read: the server remembers for them (ZooKeeper's SetWatches)."""

    async def scene() -> None:
        async with relay(port) as gate, client(gate) as zk, client(port) as other:
            await other.create(top, b"1")
            values = zk.values(top)
            assert await data_of(values) == b"1"
            waiting = asyncio.create_task(data_of(values))
            gate.cut()
            await zk.wait_for(coati.State.SUSPENDED, timeout=10)
            gate.heal()
            await zk.wait_for(coati.State.CONNECTED, timeout=10)
            trigger = values._trigger  # type: ignore[attr-defined]  # whether it is still the first one
            await settle(zk)
            assert trigger is not None
            assert not trigger.has_fired
            assert not waiting.done()
            await other.set(top, b"2")
            assert await waiting == b"2"
            values.close()

    run(scene)


def test_values_over_a_session_that_expired(port: int, top: str) -> None:
    async def scene() -> None:
        async with relay(port) as gate, client(gate) as zk, client(port) as other:
            await other.create(top, b"1")
            async with zk.values(top) as values, zk.values(f"{top}/new") as new:
                assert await data_of(values) == b"1"
                assert await new.poll(10) is None
                waiting = asyncio.create_task(data_of(values))
                gate.cut()
                await zk.wait_for(coati.State.SUSPENDED, timeout=10)
                await other.set(top, b"2")
                await other.create(f"{top}/new", b"n")
                await expire(zk, gate, port)
                assert await waiting == b"2"
                assert await data_of(new) == b"n"
                assert (values.gaps, new.gaps) == (1, 1)
                await other.set(top, b"3")
                assert await data_of(values) == b"3"

    run(scene)


def test_cancelled_wait_loses_nothing(port: int, top: str) -> None:
    """Cancelled at each of its steps in turn, the next wait tells what is newest."""

    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await other.create(top, b"0")
            values = zk.values(top)
            for number in range(1, 30):
                waiting = asyncio.create_task(data_of(values))
                await other.set(top, b"%d" % number)
                for _ in range(number // 3):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            await other.set(top, b"last")
            while await data_of(values) != b"last":
                pass
            values.close()
            await settle(zk)
            assert len(zk._core.machine.watches) == 0

    run(scene)


def test_closed_stream_ends_and_leaves_no_watch(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            values, members = zk.values(top), zk.members(top)
            async with values, members:
                assert await values.poll(10) is None
                assert await members.poll(10) == frozenset()
                waiting = asyncio.create_task(anext(values, "ended"))
                await asyncio.sleep(0)
                assert len(zk._core.machine.watches) == 2
                values.close()
                assert await waiting == "ended"
            assert len(zk._core.machine.watches) == 0
            assert zk._core.pump.mourners == {}
            with pytest.raises(StopAsyncIteration):
                await members.poll(1)
            values.close()

    run(scene)


def test_stream_closed_while_it_reads_leaves_no_watch(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            values = zk.values(top)
            reading = asyncio.create_task(anext(values, "ended"))
            await asyncio.sleep(0)
            values.close()
            await reading
            assert len(zk._core.machine.watches) == 0
            with pytest.raises(StopAsyncIteration):
                await values.poll(1)

    run(scene)


def test_streams_end_with_the_client(port: int, top: str) -> None:
    async def scene() -> None:
        zk = client(port)
        values = zk.values(top)
        with pytest.raises(coati.ClientClosed, match="not started"):
            await values.poll(1)
        async with zk:
            assert await values.poll(10) is None
            waiting = asyncio.create_task(anext(values, "ended"))
            await asyncio.sleep(0)
        assert await waiting == "ended"
        assert await anext(values, "ended") == "ended"

    run(scene)


def test_stream_raises_that_the_session_is_over_where_no_other_follows(port: int, top: str) -> None:
    async def scene() -> None:
        async with relay(port) as gate:
            zk = coati.Client(f"127.0.0.1:{gate.port}", on_expired="raise")
            async with zk:
                values = zk.values(top)
                assert await values.poll(10) is None
                waiting = asyncio.create_task(values.poll())
                gate.cut()
                async with coati.Client(f"127.0.0.1:{port}", resume=zk.session.token):
                    pass
                gate.heal()
                with pytest.raises(coati.SessionExpired):
                    await waiting
                assert values.gaps == 1

    run(scene)


def test_one_stream_has_one_reader(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            values = zk.values(top)
            assert await values.poll(10) is None
            waiting = asyncio.create_task(values.poll())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="read already"):
                await values.poll()
            await zk.create(top)
            assert await waiting is not None
            values.close()

    run(scene)


def test_stream_without_permission_raises_and_can_be_asked_again(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await other.authenticate(coati.Digest("u", "p"))
            await other.create(top, b"secret", acl=coati.CREATOR)
            values = zk.values(top)
            with pytest.raises(coati.NoAuth):
                await values.poll(10)
            await other.set_acl(top, coati.OPEN)
            assert await data_of(values) == b"secret"
            values.close()

    run(scene)


def test_streams_survive_a_storm_of_cuts(port: int, top: str) -> None:
    """Whenever the connection is lost, the last value comes, and none goes back."""

    async def scene() -> None:
        async with relay(port) as gate, client(gate) as zk, client(port) as other:
            await other.create(top, b"0")
            seen: list[int] = []

            async def follow() -> None:
                async with zk.values(top) as values:
                    async for node in values:
                        assert node is not None
                        seen.append(int(node.data))
                        if node.data == b"60":
                            return

            following = asyncio.create_task(follow())
            for number in range(1, 61):
                await other.set(top, b"%d" % number)
                if number % 10 == 0:
                    gate.cut()
                    await asyncio.sleep(0)
                    gate.heal()
            await following
            assert seen == sorted(set(seen))

    run(scene)


def test_a_busy_stream_waits_for_its_server(port: int, top: str) -> None:
    """It goes on asking while there is no server, without an error, and without a task behind its back."""

    async def scene() -> None:
        async with relay(port) as gate, client(gate, session_timeout=1.0) as zk:
            values = zk.values(top)
            gate.cut()
            await zk.wait_for(coati.State.SUSPENDED, timeout=10)
            before = len(asyncio.all_tasks())
            with pytest.raises(TimeoutError):
                await values.poll(0.05)
            assert len(asyncio.all_tasks()) <= before + 1
            gate.heal()
            assert await values.poll(10) is None
            await until(lambda: zk.session.state is coati.State.CONNECTED)
            values.close()

    run(scene)
