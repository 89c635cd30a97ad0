"""Barriers: nobody passes too early, nobody stays behind, and waking up for something else lets nobody in."""

from __future__ import annotations

import asyncio

import pytest

import coati
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, expire, names, run, until, until_queued


def test_a_barrier_holds_back_until_it_is_down(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            barrier = zks[0].barrier(path)
            await barrier.wait()
            assert await barrier.create()
            assert not await zks[1].barrier(path).create()
            waiting = asyncio.ensure_future(zks[1].barrier(path).wait())
            # A change of its data wakes the waiter, and lets nobody through.
            await zks[0].set(path, b"still up")
            await zks[1].exists("/")
            with pytest.raises(TimeoutError):
                await barrier.wait(timeout=0.02)
            assert not waiting.done()
            assert await barrier.remove()
            assert not await barrier.remove()
            await waiting

    run(main())


def test_members_go_in_and_out_together(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 3) as zks:
            inside: list[int] = []
            out: list[int] = []

            async def member(number: int) -> None:
                async with zks[number].double_barrier(path, 3, id=b"%d" % number):
                    inside.append(number)
                    await zks[number].exists("/")
                    assert out == []
                out.append(number)

            async with asyncio.TaskGroup() as group:
                for number in range(2):
                    group.create_task(member(number))
                    await until_queued(zks[0], path, number + 1)
                assert inside == []
                group.create_task(member(2))
            assert sorted(inside) == sorted(out) == [0, 1, 2]
            assert await names(zks[0], path) == []

    run(main())


def test_rounds_follow_each_other_on_one_path(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 3) as zks:
            rounds = [0, 0, 0]

            async def member(number: int) -> None:
                barrier = zks[number].double_barrier(path, 3)
                for _ in range(5):
                    async with barrier:
                        rounds[number] += 1
                        assert max(rounds) - min(rounds) <= 1

            await asyncio.gather(*(member(number) for number in range(3)))
            assert rounds == [5, 5, 5]

    run(main())


def test_waking_up_for_something_else_lets_nobody_in(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 3) as zks:
            entering = asyncio.ensure_future(zks[0].double_barrier(path, 3).enter())
            await until_queued(zks[1], path, 1)
            (name,) = await zks[1].children(path)
            # curator GH-1290: each of these wakes a member that waits.
            await zks[1].set(f"{path}/{name}", b"changed")
            await zks[1].set(path, b"changed")
            with pytest.raises(TimeoutError):
                await zks[1].double_barrier(path, 3).enter(timeout=0.05)
            await until_queued(zks[2], path, 1)
            zks[0].set_hosts([server.address])
            await zks[0].exists("/")
            assert not entering.done()
            await asyncio.gather(entering, *(zk.double_barrier(path, 3).enter() for zk in zks[1:]))

    run(main())


def test_what_an_earlier_round_left_lets_nobody_in(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            await zks[0].create(f"{path}/ready", parents=True)
            first = asyncio.ensure_future(zks[0].double_barrier(path, 2).enter())

            async def is_alone() -> bool:
                found = await names(zks[1], path)
                return len(found) == 1 and "ready" not in found

            await until(is_alone, "the first has cleaned up")
            assert not first.done()
            await asyncio.gather(first, zks[1].double_barrier(path, 2).enter())

    run(main())


def test_a_member_that_is_late_waits_for_the_next_round(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 3) as zks:
            pair = [zk.double_barrier(path, 2) for zk in zks[:2]]
            await asyncio.gather(*(barrier.enter() for barrier in pair))
            with pytest.raises(TimeoutError):
                await zks[2].double_barrier(path, 2).enter(timeout=0.05)
            await asyncio.gather(*(barrier.leave() for barrier in pair))
            assert await names(zks[0], path) == []

    run(main())


def test_a_lost_session_is_counted_anew(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            entering = asyncio.ensure_future(zks[0].double_barrier(path, 2).enter())
            await until_queued(zks[1], path, 1)
            before = await zks[1].children(path)
            await expire(zks[0], server)
            await until_queued(zks[1], path, 1)
            await asyncio.gather(entering, zks[1].double_barrier(path, 2).enter())
            assert before[0] not in await zks[1].children(path)

    run(main())


def test_leaving_has_a_time_and_is_out_then(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            first, second = (zk.double_barrier(path, 2) for zk in zks)
            await asyncio.gather(first.enter(), second.enter())
            with pytest.raises(RuntimeError, match="already in"):
                await first.enter()
            with pytest.raises(TimeoutError):
                await first.leave(timeout=0.05)
            with pytest.raises(RuntimeError, match="not in"):
                await first.leave()
            await second.leave()
            assert await names(zks[0], path) == []
            with pytest.raises(ValueError, match="at least one"):
                zks[0].double_barrier(path, 0)

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_cancelled_entries_leave_nothing_behind(server: Server, path: str, late: bool) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:

            async def is_empty() -> bool:
                return await names(zks[0], path) == []

            at = 0
            while True:
                at += 1
                try:
                    async with asyncio.timeout(0.2):
                        await CancelAt(zks[0].double_barrier(path, 2).enter(), at, late=late)
                except asyncio.CancelledError:
                    await until(is_empty, "nothing is left")
                except TimeoutError:
                    break
            assert at > 2
            await until(is_empty, "nothing is left")

    run(main())


def test_one_alone_passes(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            for _ in range(2):
                async with zks[0].double_barrier(path, 1):
                    assert coati.Mode.EPHEMERAL
            assert await zks[0].children(path) == []

    run(main())
