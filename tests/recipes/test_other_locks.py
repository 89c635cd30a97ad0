"""The exclusive lock of one name, and several locks at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from functools import partial

import pytest

import coati
from tests.interop import peers
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, expire, forever, names, run, until, until_queued
from tools.javapeer import four_letter

# --- one name -------------------------------------------------------------------------------------


def test_one_create_wins_and_the_losers_race_again(server: Server, path: str) -> None:
    async def main() -> None:
        inside: list[str] = []
        tokens: list[int] = []

        async def worker(zk: coati.Client, name: str) -> None:
            for _ in range(3):
                async with zk.exclusive_lock(f"{path}/lock") as held:
                    assert held.path == f"{path}/lock"
                    assert inside == []
                    inside.append(name)
                    tokens.append(held.token)
                    await zk.exists("/")
                    assert inside == [name]
                    inside.clear()

        async with clients(server, 3) as zks:
            async with asyncio.TaskGroup() as group:
                for zk in zks:
                    for number in range(3):
                        group.create_task(worker(zk, f"{zk.session.id}-{number}"))
            assert len(tokens) == 27
            assert tokens == sorted(set(tokens))
            await until_queued(zks[0], path, 0)

    run(main())


def test_a_release_wakes_all_who_wait(server: Server, path: str) -> None:
    # The herd: the reason why the ordered lock is the better one.
    async def main() -> None:
        async with clients(server, 4) as zks:
            holder = zks[0].exclusive_lock(path, id=b"first")
            held = await holder.acquire()
            tasks = [asyncio.create_task(zk.exclusive_lock(path).acquire()) for zk in zks[1:]]

            async def are_watching() -> bool:
                text = await asyncio.to_thread(four_letter, server.host, server.port, "wchp")
                lines = text.splitlines()
                return path in lines and len([line for line in lines if line.startswith("\t")]) >= 4

            await until(are_watching, "three wait and the holder looks after its own")
            holding = await holder.holder()
            assert holding is not None
            assert (holding.id, holding.session, holding.token) == (b"first", zks[0].session.id, held.token)
            assert [task.done() for task in tasks] == [False] * 3
            await holder.release()
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            assert (len(done), len(waiting)) == (1, 2)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            assert (await next(iter(done))).is_held

    run(main())


def test_exclusive_try_and_timeout(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            assert await zk.exclusive_lock(path).holder() is None
            async with zk.exclusive_lock(path) as held:
                async with other.exclusive_lock(path).try_() as second:
                    assert second is None
                with pytest.raises(coati.LockTimeout):
                    await other.exclusive_lock(path, timeout=0.05).acquire()
                assert held.is_held
            assert await zk.exists(path) is None

    run(main())


@pytest.mark.parametrize("late", [False, True], ids=["waiting", "woken"])
@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
def test_exclusive_cancelled_at_any_await_leaves_nothing(server: Server, path: str, *, late: bool, taken: bool) -> None:
    async def main() -> None:
        async def hold_once(lock: coati.ExclusiveLock) -> None:
            async with lock:
                pass

        async with clients(server, 2) as (zk, other):
            reached = 0
            while True:
                at = f"{path}/{reached}"
                holder = zk.exclusive_lock(at)
                held = await holder.acquire() if taken else None
                work = CancelAt(hold_once(other.exclusive_lock(at)), reached + 1, late=late)
                task = asyncio.ensure_future(work)
                if held is not None:
                    await zk.exists("/")
                    await holder.release(held)
                await asyncio.wait([task])
                assert task.cancelled() == work.was_reached
                await other.exists("/")

                await until(partial(_is_free, zk, at), f"nothing is left of step {reached}")
                if not work.was_reached:
                    break
                reached += 1
            assert reached >= 2

    run(main())


async def _is_free(zk: coati.Client, path: str) -> bool:
    return await zk.exists(path) is None


def test_what_a_successor_has_created_is_never_deleted(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            lock = zk.exclusive_lock(path)

            successor = other.exclusive_lock(path)
            first = await lock.acquire()
            await expire(zk, server)
            second = await successor.acquire()
            # Its session is over, and the client has another one: the name is the same, the znode is not.
            await zk.exists("/")
            await lock.release(first)
            await lock._delete(first.token, zk.session.id, is_sure=False)
            await lock._delete(first.token, first.owner, is_sure=True)
            stat = await zk.exists(path)
            assert stat is not None
            assert stat.czxid == second.token
            assert second.is_held

    run(main())


def test_exclusive_create_whose_answer_was_lost_is_found(path: str) -> None:
    async def main(server: Server) -> None:
        async with clients(server, 2, session_timeout=5.0) as (zk, other):
            os.kill(server.pid, signal.SIGSTOP)
            lock = other.exclusive_lock(path)
            task = asyncio.create_task(lock.acquire())

            async def is_sent() -> bool:
                return other._core.machine.inflight >= 1

            await until(is_sent, "the create is sent")
            connection = other._core.pump.connection
            assert connection is not None
            assert connection.transport is not None
            os.kill(server.pid, signal.SIGCONT)
            await asyncio.sleep(0)
            connection.transport.close()
            held = await task
            stat = await zk.exists(path)
            assert stat is not None
            assert (stat.czxid, stat.ephemeral_owner) == (held.token, other.session.id)
            await lock.release(held)
            assert await zk.exists(path) is None

    with peers.running("coati", props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as running:
        run(main(running))


def test_exclusive_refusals_are_raised(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):
            await zk.create(path, mode=coati.Mode.EPHEMERAL)
            with pytest.raises(coati.KeeperError):
                await zk.exclusive_lock(f"{path}/below").acquire()

    run(main())


# --- several --------------------------------------------------------------------------------------


def test_all_or_none_in_one_order(server: Server, path: str) -> None:
    async def main() -> None:
        a, b = f"{path}/a", f"{path}/b"
        async with clients(server, 2) as (zk, other):
            async with zk.multilock([b, a, b]) as held:
                assert [part.path.rpartition("/")[0] for part in held.parts] == [a, b]
                assert held.is_held
                assert held.deadline > 0
                assert held.tokens == tuple(sorted(held.tokens))
                held.check()
                await zk.multi(held.guards())
                async with other.multilock([a, f"{path}/c"]).try_() as second:
                    assert second is None
                with pytest.raises(coati.LockTimeout):
                    await other.multilock([f"{path}/0", b], timeout=0.05).acquire()
                # What it had got is given back.
                assert await names(zk, f"{path}/0") == []
            assert await names(zk, a) == await names(zk, b) == []
            with pytest.raises(ValueError, match="at least one"):
                zk.multilock([])

    run(main())


def test_opposite_orders_do_not_wait_for_each_other(server: Server, path: str) -> None:
    async def main() -> None:
        paths = [f"{path}/{name}" for name in "abc"]
        inside: list[int] = []

        async def worker(zk: coati.Client, mine: list[str], number: int) -> None:
            for _ in range(3):
                async with zk.multilock(mine):
                    assert inside == []
                    inside.append(number)
                    await zk.exists("/")
                    inside.clear()

        async with clients(server, 2) as (zk, other), asyncio.TaskGroup() as group:
            group.create_task(worker(zk, paths, 0))
            group.create_task(worker(other, paths[::-1], 1))
            group.create_task(worker(other, [paths[1], paths[0]], 2))

    run(main())


def test_the_loss_of_one_is_the_loss_of_all(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            reasons: list[asyncio.Task[str]] = []

            async def body() -> None:
                async with zk.multilock([f"{path}/a", f"{path}/b"]) as held:
                    reasons.append(asyncio.create_task(held.lost()))
                    await asyncio.sleep(0)
                    await other.delete(held.parts[1].path)
                    await forever()

            with pytest.raises(coati.LockLost, match="znode is gone") as raised:
                await body()
            assert f"{path}/b" in raised.value.path
            assert await reasons[0] == "its znode is gone"
            await until_queued(zk, f"{path}/a", 0)

    run(main())


def test_multilock_starts_over_if_its_session_ends_on_the_way(server: Server, path: str) -> None:
    async def main() -> None:
        a, b = f"{path}/a", f"{path}/b"
        async with clients(server, 2) as (zk, other):
            last = other.lock(b)
            await last.acquire()
            task = asyncio.create_task(zk.multilock([a, b]).acquire())
            await until_queued(other, b, 2)
            await expire(zk, server)
            # Back in the line for the second, without the first.
            await until_queued(other, a, 0)
            await until_queued(other, b, 2)
            await last.release()
            held = await task
            assert held.is_held
            assert [one.session for one in await other.lock(a).holders()] == [zk.session.id]

    run(main())


@pytest.mark.parametrize("late", [False, True], ids=["waiting", "woken"])
def test_multilock_cancelled_at_any_await_leaves_nothing(server: Server, path: str, *, late: bool) -> None:
    async def main() -> None:
        async def hold_once(lock: coati.MultiLock) -> None:
            async with lock:
                pass

        async with clients(server, 2) as (zk, other):
            reached = 0
            while True:
                paths = [f"{path}/{reached}/a", f"{path}/{reached}/b"]
                work = CancelAt(hold_once(other.multilock(paths)), reached + 1, late=late)
                task = asyncio.ensure_future(work)
                await asyncio.wait([task])
                assert task.cancelled() == work.was_reached
                await other.exists("/")
                for at in paths:
                    await until_queued(zk, at, 0)
                if not work.was_reached:
                    break
                reached += 1
            assert reached >= 4

    run(main())


# --- all of them ----------------------------------------------------------------------------------


def test_no_watch_task_or_znode_stays_behind(server: Server, path: str) -> None:
    async def main() -> None:
        async def use(zk: coati.Client) -> None:
            for _ in range(5):
                async with zk.lock(f"{path}/lock"):
                    pass
                async with zk.rwlock(f"{path}/rw").write() as held:
                    await held.downgrade()
                async with zk.semaphore(f"{path}/curator", 2), zk.semaphore(f"{path}/kazoo", 2, layout="kazoo"):
                    pass
                async with zk.exclusive_lock(f"{path}/one"), zk.multilock([f"{path}/a", f"{path}/b"]):
                    pass
                with contextlib.suppress(coati.LockTimeout):
                    async with zk.lock(f"{path}/lock", timeout=0.001):
                        await zk.exists("/")

        async with clients(server, 2) as zks:
            await asyncio.gather(*(use(zk) for zk in zks for _ in range(3)))

            async def is_clean() -> bool:
                cores = [zk._core for zk in zks]
                left = [len(core.machine.watches) + len(core.pump.mourners) for core in cores]
                tasks = [core.pump._tasks for core in cores]
                return [*left, *map(len, tasks), *map(len, [await zk.ephemerals() for zk in zks])] == [0] * 6

            await until(is_clean, "nothing is left")
            text = await asyncio.to_thread(four_letter, server.host, server.port, "wchp")
            assert path not in text

    run(main())
