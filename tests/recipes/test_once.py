"""Jobs: run by one member, at most once for each key or each time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

import coati
from coati.recipes.election import Term
from coati.recipes.once import KeyState, LeaderScheduler
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, expire, run, until
from tests.recipes.lossy import wire


def test_a_key_is_run_by_one_member(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 3) as zks:
            ran: list[int] = []

            async def job() -> None:
                ran.append(1)
                assert await zks[0].once(path).state("k") is KeyState.RUNNING

            waiting = asyncio.ensure_future(zks[2].once(path).wait("k"))
            assert await zks[0].once(path).state("k") is KeyState.FREE
            did = await asyncio.gather(*(zk.once(path).run("k", job) for zk in zks))
            assert sorted(did) == [False, False, True]
            assert ran == [1]
            assert await waiting is KeyState.DONE
            assert await zks[1].once(path).wait("k") is KeyState.DONE
            await zks[1].once(path).forget("k")
            assert await zks[0].once(path).run("k", job)

    run(main())


def test_a_job_that_fails_is_not_run_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            once = zks[0].once(path)

            async def job() -> None:
                raise KeyError

            with pytest.raises(KeyError):
                await once.run("k", job)
            assert await once.wait("k") is KeyState.FAILED
            assert not await once.run("k", job)

            async def forgets() -> None:
                await once.forget("k2")

            assert await once.run("k2", forgets)
            assert await once.state("k2") is KeyState.FREE
            with pytest.raises(TimeoutError):
                await once.wait("k2", timeout=0.02)

    run(main())


def test_a_claim_whose_answer_is_lost_is_still_one(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            await zk.ensure(path)
            ran: list[int] = []

            async def job() -> None:
                ran.append(1)

            line.mute()
            running = asyncio.ensure_future(zk.once(path).run("k", job))
            await line.swallowed()
            line.cut()
            assert await running
            assert ran == [1]

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_a_cancelled_claim_is_taken_back(server: Server, path: str, late: bool) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            once = zks[0].once(path)
            ran: list[int] = []

            async def job() -> None:
                ran.append(1)

            async def is_free() -> bool:
                return await once.state(key) in (KeyState.FREE, KeyState.DONE, KeyState.FAILED)

            at = 0
            while True:
                at += 1
                key = f"k{at}"
                tried = CancelAt(once.run(key, job), at, late=late)
                with suppress(asyncio.CancelledError):
                    await tried
                await until(is_free, "the key does not look as if somebody ran it")
                if not tried.was_reached:
                    break
            assert ran[-1:] == [1]

    run(main())


def test_the_leader_runs_the_jobs_and_each_time_once(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            ran: list[tuple[int, int]] = []
            # Time goes a second on with each run, for all members.
            now = [1000.0]

            async def serve(number: int) -> None:
                scheduler = LeaderScheduler(zks[number], path, id=b"%d" % number, clock=lambda: now[0])

                async def job(term: Term) -> None:
                    term.check()
                    ran.append((number, int(now[0])))
                    await zks[number].multi([term.guard(), coati.Set(path, b"")])
                    if len(ran) in (3, 6):
                        await expire(zks[number], server)
                        await asyncio.Event().wait()
                    now[0] += 1.0

                scheduler.every(1.0, "job", job)
                await scheduler.run()

            tasks = [asyncio.ensure_future(serve(number)) for number in range(2)]

            async def has_moved() -> bool:
                if len(ran) in (3, 6):
                    now[0] += 1.0
                return len(ran) > 8

            await until(has_moved, "both have led")
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            times = [at for _, at in ran]
            assert times == sorted(set(times))
            assert {number for number, _ in ran} == {0, 1}
            with pytest.raises(ValueError, match="above 0"):
                LeaderScheduler(zks[0], path, id=b"").every(0.0, "job", asyncio.sleep)  # type: ignore[arg-type]  # never called
            assert await zks[0].leader_scheduler(path, id=b"x").election.leader() is None

    run(main())
