"""Queues: no item is lost, none is done twice, and one whose consumer dies comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress

import pytest

import coati
from coati.recipes.queue import Item, Queue
from coati.recipes.queuelayout import SHAPES, QueueLayout, pack_items, unpack_items
from tests.interop import peers
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, expire, expire_surely, names, run, until
from tests.recipes.lossy import wire


def id_for(layout: QueueLayout) -> str | None:
    """What Curator's id queue wants, and no other."""
    return "an/id" if layout == "curator-id" else None


ALL: list[QueueLayout] = list(SHAPES)
HOLDING: list[QueueLayout] = ["native", "kazoo-locking"]


@pytest.mark.parametrize("layout", ALL)
def test_items_come_out_in_order(server: Server, path: str, layout: QueueLayout) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            queue = zks[0].queue(path, layout=layout)
            for number in range(3):
                await queue.put(b"%d" % number, id=id_for(layout))
            assert await queue.size() == 3
            got = []
            async for item in zks[1].queue(path, layout=layout).take(timeout=0.0):
                async with item:
                    got.append(item.data)
                    item.check()
            assert got == [b"0", b"1", b"2"]
            assert await queue.size() == 0

    run(main())


@pytest.mark.parametrize("layout", ["native", "kazoo", "kazoo-locking", "curator-priority"])
def test_priorities_go_first(server: Server, path: str, layout: QueueLayout) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path, layout=layout)
            for priority in (100, 7, 999, 0):
                await queue.put(b"%d" % priority, priority=priority)
            got = []
            async for item in queue.take(timeout=0.0):
                async with item:
                    got.append(item.data)
            assert got == [b"0", b"7", b"100", b"999"]

    run(main())


@pytest.mark.parametrize("layout", ["native", "curator-delay"])
def test_delayed_items_come_when_they_are_due(server: Server, path: str, layout: QueueLayout) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            now = [1000.0]
            queue = Queue(zks[0], path, layout=layout, clock=lambda: now[0])
            await queue.put(b"later", delay=60.0)
            await queue.put(b"soon", delay=0.1)
            with pytest.raises(TimeoutError):
                await queue.get(timeout=0.0)
            taking = asyncio.ensure_future(queue.get())
            await zks[0].exists("/")
            now[0] += 1.0
            # Nobody tells that time has passed: the taker itself looks when the next one is due.
            async with await taking as item:
                assert item.data == b"soon"
            now[0] += 60.0
            async with await queue.get() as item:
                assert item.data == b"later"

    run(main())


def test_what_a_layout_cannot_do_is_refused(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            with pytest.raises(ValueError, match="no delays"):
                await zks[0].queue(path, layout="kazoo").put(b"", delay=1.0)
            with pytest.raises(ValueError, match="no priorities"):
                await zks[0].queue(path, layout="curator").put(b"", priority=1)
            with pytest.raises(ValueError, match="from 0 to 999"):
                await zks[0].queue(path).put(b"", priority=1000)
            with pytest.raises(ValueError, match="has no ids"):
                await zks[0].queue(path).put(b"", id="x")
            with pytest.raises(ValueError, match="wants an id"):
                await zks[0].queue(path, layout="curator-id").put(b"")
            with pytest.raises(ValueError, match="lock path"):
                zks[0].queue(path, lock_path="/locks")

    run(main())


@pytest.mark.parametrize("layout", ALL)
def test_a_taker_waits_for_the_next_item(server: Server, path: str, layout: QueueLayout) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            taking = asyncio.ensure_future(zks[0].queue(path, layout=layout).get(timeout=20.0))
            await zks[0].exists("/")
            await zks[1].queue(path, layout=layout).put(b"x", id=id_for(layout))
            async with await taking as item:
                assert item.data == b"x"

    run(main())


@pytest.mark.parametrize("layout", ALL)
def test_what_fails_comes_back(server: Server, path: str, layout: QueueLayout) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path, layout=layout)
            await queue.put(b"x", id=id_for(layout))
            with pytest.raises(KeyError):
                async with await queue.get():
                    raise KeyError
            async with await queue.get(timeout=20.0) as item:
                assert item.data == b"x"
                assert item.attempts == (2 if layout in HOLDING else 0)
            assert await queue.size() == 0

    run(main())


@pytest.mark.parametrize("layout", HOLDING)
def test_many_consumers_do_each_item_once(server: Server, path: str, layout: QueueLayout) -> None:
    async def main() -> None:
        async with clients(server, 4) as zks:
            done: Counter[bytes] = Counter()

            async def consume(zk: coati.Client) -> None:
                async for item in zk.queue(path, layout=layout).take(timeout=0.3):
                    async with item:
                        assert item.is_held
                        await zk.multi([item.guard(), coati.Set("/", b"")])
                        done[item.data] += 1

            producer = zks[0].queue(path, layout=layout)
            async with asyncio.TaskGroup() as group:
                for zk in zks:
                    group.create_task(consume(zk))
                for number in range(30):
                    await producer.put(b"%d" % number)
            assert done == Counter(b"%d" % number for number in range(30))
            assert await names(zks[0], f"{path}/entries") == await names(zks[0], f"{path}/taken") == []

    run(main())


@pytest.mark.parametrize("layout", HOLDING)
def test_an_item_whose_session_is_over_goes_to_another_one(server: Server, path: str, layout: QueueLayout) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            await zks[0].queue(path, layout=layout).put(b"x")
            with pytest.raises(coati.LockLost):  # noqa: PT012  # the block is what raises
                async with await zks[0].queue(path, layout=layout).get():
                    taking = asyncio.ensure_future(zks[1].queue(path, layout=layout).get())
                    await expire_surely(zks[0], server)
                    await asyncio.Event().wait()
            async with await taking as item:
                assert item.data == b"x"
            assert await zks[0].queue(path, layout=layout).size() == 0

    run(main())


def test_whoever_has_lost_an_item_cannot_delete_it(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            await zks[0].queue(path).put(b"x")
            late = await zks[0].queue(path, on_loss="flag").get()
            with pytest.raises(coati.LockLost):  # noqa: PT012  # the block is what raises
                async with late:
                    await expire(zks[0], server)
                    held = await zks[1].queue(path).get(timeout=20.0)
                    await until(lambda: _is_lost(late), "the loss is noticed")
            assert held.is_held
            assert await zks[1].queue(path).size() == 1
            await held.end(is_done=True)
            assert await zks[1].queue(path).size() == 0

    run(main())


async def _is_lost(item: Item) -> bool:
    return not item.is_held


def test_items_that_nobody_enters_go_back(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path)
            await queue.put(b"x")
            turns = 0
            async for item in queue.take(timeout=0.0):
                turns += 1
                assert item.attempts == turns
                if turns == 3:
                    async with item:
                        pass
            assert turns == 3

    run(main())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("layout", HOLDING)
def test_cancelled_takes_hold_nothing(server: Server, path: str, layout: QueueLayout, late: bool) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path, layout=layout)
            await queue.put(b"x")

            async def is_free() -> bool:
                return await names(zks[0], f"{path}/taken") == []

            at = 0
            while True:
                at += 1
                tried = CancelAt(queue.get(), at, late=late)
                try:
                    item = await tried
                except asyncio.CancelledError:
                    await until(is_free, "nothing is held")
                    continue
                if not tried.was_reached:
                    break
                await item.end(is_done=False)
            assert at > 4
            await item.end(is_done=True)
            assert await queue.size() == 0

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_the_end_of_an_item_happens_although_it_is_cancelled(server: Server, path: str, late: bool) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path)

            async def is_done() -> bool:
                return await queue.size() == 0 and await names(zks[0], f"{path}/taken") == []

            at = 0
            while True:
                at += 1
                await queue.put(b"x")
                tried = CancelAt((await queue.get()).end(is_done=True), at, late=late)
                with suppress(asyncio.CancelledError):
                    await tried
                await until(is_done, "the item is gone")
                if not tried.was_reached:
                    break
            assert at > 1

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_cancelled_puts_leave_nothing(server: Server, path: str, late: bool) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path)

            async def is_empty() -> bool:
                return await names(zks[0], f"{path}/entries") == []

            at = 0
            while True:
                at += 1
                tried = CancelAt(queue.put(b"x"), at, late=late)
                try:
                    await tried
                except asyncio.CancelledError:
                    await until(is_empty, "nothing is left")
                if not tried.was_reached:
                    break
            assert await queue.size() == 1

    run(main())


def test_lost_answers_lose_no_item_and_take_none_twice(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            queue = zk.queue(path)
            await queue.put(b"0")
            # At whichever answer of a put, a take and the end of it the connection goes.
            for at in range(12):
                steps = asyncio.ensure_future(_pass_on(queue, b"%d" % (at + 1)))
                for _ in range(at):
                    await zk.exists("/")
                line.mute()
                swallowed = asyncio.ensure_future(line.swallowed())
                await asyncio.wait((steps, swallowed), return_when=asyncio.FIRST_COMPLETED)
                line.cut()
                swallowed.cancel()
                assert await steps == b"%d" % at
                assert await queue.size() == 1

    run(main())


async def _pass_on(queue: Queue, data: bytes) -> bytes:
    await queue.put(data)
    async with await queue.get() as item:
        return item.data


@pytest.mark.parametrize("layout", ["kazoo", "curator-simple"])
def test_an_item_whose_deletion_is_unclear_is_said_to_be(server: Server, path: str, layout: QueueLayout) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            queue = zk.queue(path, layout=layout)
            name = await queue.put(b"0")
            node = await zk.get(f"{path}/{name}")
            line.mute()
            deleting = asyncio.ensure_future(queue._delete(node))
            await line.swallowed()
            line.cut()
            with pytest.raises(coati.ConnectionLoss):
                await deleting
            assert not await queue._delete(node)

    run(main())


CONSUMER = """
import asyncio, sys, coati
async def main():
    async with coati.Client(sys.argv[1], session_timeout=0.8) as zk:
        async for item in zk.queue(sys.argv[2]).take():
            async with item:
                print(item.data.decode(), flush=True)
                if sys.argv[3] == "hang":
                    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_killed_consumer_loses_nothing(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path)
            for number in range(5):
                await queue.put(b"%d" % number)
            victim = subprocess.Popen(  # noqa: ASYNC220  # it starts while nothing else runs
                [sys.executable, "-c", CONSUMER, server.address, path, "hang"], stdout=subprocess.PIPE
            )
            try:
                assert victim.stdout is not None
                assert await asyncio.to_thread(victim.stdout.readline) == b"0\n"
            finally:
                victim.kill()
                victim.communicate()
            done: list[bytes] = []
            while len(done) < 5:
                async with await queue.get(timeout=20.0) as item:
                    done.append(item.data)
            assert sorted(done) == [b"0", b"1", b"2", b"3", b"4"]

    run(main())


def test_curator_with_a_lock_path_holds_items(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path, layout="curator", lock_path=f"{path}-locks")
            name = await queue.put(b"x")
            await zks[0].create(
                f"{path}/queue-", pack_items(b"y")[:-1] + pack_items(b"z")[4:], mode=coati.Mode.SEQUENTIAL
            )
            async with await queue.get() as item:
                assert await zks[0].children(f"{path}-locks") == [name]
                assert item.parts == [b"x"]
            async with await queue.get() as item:
                assert item.parts == [b"y", b"z"]
            loose = zks[0].queue(path, layout="curator")
            await loose.put(b"w")
            item = await loose.get()
            assert not item.is_held
            with pytest.raises(ValueError, match="nothing stands"):
                item.guard()

    run(main())


def test_items_are_removed_by_their_id(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path, layout="curator-id", lock_path=f"{path}-locks")
            for id in ("a/b", "a|b", "c"):
                await queue.put(id.encode(), id=id)
            async with await queue.get() as item:
                assert item.data == b"a/b"
                # The other one that reads the same; this one is being worked on.
                assert await queue.remove("a_b") == 1
            assert await queue.remove("a_b") == 0
            assert await queue.remove("c") == 1
            assert await queue.size() == 0

    run(main())


BROKEN = [
    b"",
    b"\0\0\0\0\2",
    b"\0\1\0\1",
    b"\0\1\0\1\1\0\0",
    b"\0\1\0\1\1\0\0\0\5ab\2",
    b"\0\1\0\1\3\0\0\0\0\2",
]


@pytest.mark.parametrize("data", BROKEN)
def test_entries_that_are_none_of_curators_are_refused(data: bytes) -> None:
    with pytest.raises(coati.MarshallingError):
        unpack_items(data)


@pytest.mark.parametrize("layout", ALL)
def test_order_survives_the_overflow_of_the_counter(layout: QueueLayout) -> None:
    shape = SHAPES[layout]
    head = shape.head(100, 0, "a" * 32)
    made = [head + digits for digits in ("2147483646", "2147483647", "-2147483648", "-2147483647")]
    assert [name for name, _ in shape.in_order(reversed(made))] == made
    assert shape.in_order(["other", "item-x", "entry-1-x", "qn-", "queue-", "queue-|zz"]) == []


def test_a_stopped_server_keeps_nobody_longer_than_asked(path: str) -> None:
    async def main() -> None:
        with peers.running("coati", props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server:
            async with clients(server, 1, session_timeout=0.6) as zks:
                queue = zks[0].queue(path)
                await queue.put(b"x")
                lost = asyncio.Event()
                try:
                    with pytest.raises(coati.LockLost):  # noqa: PT012  # the block is what raises
                        async with await queue.get():
                            os.kill(server.pid, signal.SIGSTOP)
                            try:
                                await asyncio.Event().wait()
                            finally:
                                lost.set()
                                with pytest.raises(TimeoutError):
                                    await queue.get(timeout=0.0)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                # The session is over or not: either way the item is there, once.
                async with await queue.get() as item:
                    assert item.data == b"x"
                assert await queue.size() == 0

    run(main())
