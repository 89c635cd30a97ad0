"""The ordered lock: one holder, in order, nothing left behind, and its loss ends the body."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

import coati
from coati.recipes.election import Term
from coati.recipes.held import Held
from coati.recipes.line import LOCK, READ_WRITE, Layout, Line, Number, in_order
from coati.recipes.multilock import MultiHeld
from tests.interop import peers
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, expire, forever, names, run, until, until_queued
from tools.javapeer import four_letter

LAYOUTS: list[Layout] = ["native", "kazoo", "curator"]


# --- one holder, in order -------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_many_contenders_never_overlap(server: Server, path: str, layout: Layout) -> None:
    async def main() -> None:
        inside: list[str] = []
        tokens: list[int] = []

        async def worker(zk: coati.Client, name: str) -> None:
            for _ in range(5):
                async with zk.lock(path, layout=layout) as held:
                    assert inside == []
                    inside.append(name)
                    tokens.append(held.token)
                    await zk.exists("/")
                    assert inside == [name]
                    inside.clear()

        async with clients(server, 3) as zks:
            async with asyncio.TaskGroup() as group:
                for zk in zks:
                    for number in range(4):
                        group.create_task(worker(zk, f"{zk.session.id}-{number}"))
            assert len(tokens) == 60
            # The later holder has the larger token.
            assert tokens == sorted(set(tokens))
            await until_queued(zks[0], path, 0)

    run(main())


@pytest.mark.parametrize("kind", ["lock", "write", "semaphore", "multilock", "election"])
def test_who_has_waited_longer_than_a_session_holds_what_it_wins(server: Server, path: str, kind: str) -> None:
    """It has only read meanwhile, which the leader had no part in; once that was taken for the end of the session."""

    async def main() -> None:
        async with clients(server, 1) as (first,), clients(server, 1, session_timeout=0.8) as (second,):

            def claim(zk: coati.Client) -> AbstractAsyncContextManager[object]:
                claims: dict[str, AbstractAsyncContextManager[object]] = {
                    "lock": zk.lock(path),
                    "write": zk.rwlock(path).write(),
                    "semaphore": zk.semaphore(path, 1),
                    "multilock": zk.multilock([path]),
                    "election": zk.election(path, id=b""),
                }
                return claims[kind]

            stood: list[str] = []

            async def wait() -> None:
                async with claim(second) as held:
                    assert isinstance(held, Held | MultiHeld)
                    assert held.is_held
                    # And in the place that it has waited in.
                    assert not isinstance(held, Term) or held.path.rpartition("/")[2] in stood

            async def is_silent() -> bool:
                await asyncio.sleep(0)
                return second.session.vouched_until < asyncio.get_running_loop().time()

            async with claim(first):
                waiting = asyncio.create_task(wait())
                await until(is_silent, "the leader has not heard of the second for long")
                assert not waiting.done()
                stood += await names(first, path)
                before = second.session.id
            await waiting
            assert second.session.id == before

    run(main())


def test_waiters_win_in_the_order_of_asking_and_are_listed(server: Server, path: str) -> None:
    async def main() -> None:
        order: list[bytes] = []
        async with clients(server, 4) as zks:
            first = zks[0].lock(path, id=b"0")

            async def wait(number: int) -> None:
                async with zks[number].lock(path, id=b"%d" % number):
                    order.append(b"%d" % number)

            async with first as held:
                tasks = []
                for number in (1, 2, 3):
                    tasks.append(asyncio.create_task(wait(number)))
                    await until_queued(zks[0], path, number + 1)
                listed = await first.holders()
                assert [contender.id for contender in listed] == [b"0", b"1", b"2", b"3"]
                assert [contender.session for contender in listed] == [zk.session.id for zk in zks]
                assert (listed[0].path, listed[0].token) == (held.path, held.token)
                assert listed[0].created <= listed[3].created
                assert order == []
            await asyncio.gather(*tasks)
            assert order == [b"1", b"2", b"3"]
            await until_queued(zks[0], path, 0)
            assert await first.holders() == []

    run(main())


def test_only_the_next_one_is_woken(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):
            holder = zk.lock(path)
            await holder.acquire()
            tasks = []
            for number in range(3):
                tasks.append(asyncio.create_task(_hold_once(zk.lock(path))))
                await until_queued(zk, path, number + 2)
            # Each waits for the one before: four data watches, one of them the holder's on its own znode.
            await until(lambda: _watches(server, path, 4), "each waiter watches one znode")
            await holder.release()
            await asyncio.gather(*tasks)

    run(main())


async def _hold_once(lock: coati.Lock) -> None:
    async with lock:
        pass


async def _watches(server: Server, path: str, count: int) -> bool:
    text = await asyncio.to_thread(four_letter, server.host, server.port, "wchp")
    watched = [line for line in text.splitlines() if line.startswith(path + "/")]
    # The holder's own znode is watched by itself and by the next: one path.
    return len(watched) == count - 1


def test_lock_objects_can_be_used_again_and_by_several_tasks(server: Server, path: str) -> None:
    async def main() -> None:
        inside: list[int] = []

        async def worker(lock: coati.Lock) -> None:
            for _ in range(3):
                async with lock:
                    inside.append(1)
                    await asyncio.sleep(0)
                    assert inside.pop() == 1

        async with clients(server, 1) as (zk,):
            lock = zk.lock(path)
            await asyncio.gather(worker(lock), worker(lock), worker(lock))
            assert await names(zk, path) == []

    run(main())


def test_explicit_verbs(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            lock = zk.lock(path)
            held = await lock.acquire()
            assert held.is_held
            assert held.deadline > asyncio.get_running_loop().time()
            assert await other.lock(path).try_acquire() is None
            await lock.release()
            with pytest.raises(coati.LockLost, match="given back"):
                held.check()
            with pytest.raises(RuntimeError, match="does not hold"):
                await lock.release()
            # Another task may give back what it is handed.
            held = await lock.acquire()
            await asyncio.create_task(lock.release(held))
            with pytest.raises(RuntimeError, match="not held"):
                await lock.release(held)
            taken = await other.lock(path).try_acquire()
            assert taken is not None
            # What is lost needs no giving back, and what goes on behind it waits for nobody.
            last = other.lock(path, reentrant=True)
            await other.delete(taken.path)
            held = await last.acquire()
            assert await last.acquire() is held
            await last.release()
            await zk.delete(held.path)
            await held.lost()
            with pytest.raises(coati.LockLost):
                await last.acquire()
            await last.release(held)
            several = [await asyncio.create_task(last.acquire())]
            await last.release(several[0])

    run(main())


def test_try_gets_what_is_free_and_nothing_else(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            async with zk.lock(path).try_() as held:
                assert held is not None
                async with other.lock(path).try_() as second:
                    assert second is None
                # Who tries waits until its znode is gone again.
                assert await names(zk, path) == [held.path.rpartition("/")[2]]
            assert await names(zk, path) == []

    run(main())


# --- re-entrance ----------------------------------------------------------------------------------


def test_a_task_enters_again_what_it_holds(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):
            lock = zk.lock(path, reentrant=True)
            async with lock as outer:
                async with lock as inner, lock.try_() as third:
                    assert outer is inner is third
                assert outer.is_held
                assert len(await names(zk, path)) == 1
                # Another task is another contender.
                task = asyncio.create_task(_hold_once(lock))
                await until_queued(zk, path, 2)
                assert not task.done()
            await task
            assert await names(zk, path) == []

    run(main())


def test_without_reentrance_a_task_is_told_that_it_would_wait_for_itself(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):
            lock = zk.lock(path)
            async with lock:
                with pytest.raises(RuntimeError, match="wait for itself"):
                    await lock.acquire()
            async with lock:
                pass

    run(main())


# --- nothing is left behind -----------------------------------------------------------------------


def test_timeout_leaves_nothing(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other), zk.lock(path) as held:
            with pytest.raises(coati.LockTimeout) as raised:
                async with other.lock(path, timeout=0.05):
                    raise AssertionError
            assert raised.value.path == path
            assert raised.value.session_id == other.session.id
            assert await names(zk, path) == [held.path.rpartition("/")[2]]

    run(main())


@pytest.mark.parametrize("late", [False, True], ids=["waiting", "woken"])
@pytest.mark.parametrize("contended", [False, True], ids=["free", "taken"])
def test_cancelled_at_any_await_leaves_nothing(server: Server, path: str, *, late: bool, contended: bool) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            reached = 0
            while True:
                holder = zk.lock(f"{path}/{reached}")
                held = await holder.acquire() if contended else None
                lock = other.lock(f"{path}/{reached}")
                work = CancelAt(_hold_once(lock), reached + 1, late=late)
                task = asyncio.ensure_future(work)
                if held is not None:
                    # It comes to wait for the holder, and is let in if it was not cancelled before.
                    await until(partial(_is_queued, zk, f"{path}/{reached}", task), "queued or over")
                    await holder.release(held)
                await asyncio.wait([task])
                assert task.cancelled() == work.was_reached
                # What was sent before has been executed, perhaps after its caller had gone.
                await other.exists("/")
                await until_queued(zk, f"{path}/{reached}", 0)
                async with zk.lock(f"{path}/{reached}").try_() as again:
                    assert again is not None
                if not work.was_reached:
                    break
                reached += 1
            # At least: the create and the list; the wait; the delete.
            assert reached >= (4 if contended else 2)

    run(main())


async def _is_queued(zk: coati.Client, path: str, task: asyncio.Future[None]) -> bool:
    return task.done() or len(await names(zk, path)) == 2


@pytest.mark.parametrize("waits", [False, True], ids=["try", "wait"])
def test_nothing_is_left_when_the_answer_to_the_create_was_lost(waits: bool, path: str) -> None:
    # kazoo PR#760: the create was applied, the client never heard of it.
    async def main(server: Server) -> None:
        async with clients(server, 2, session_timeout=5.0) as (zk, other):
            await zk.ensure(path)
            os.kill(server.pid, signal.SIGSTOP)
            lock = other.lock(path)
            task = asyncio.create_task(lock.acquire() if waits else lock.try_acquire())
            # It is sent, and stays unread; the connection goes, and a new one finds the server awake.
            await until(lambda: _is_sent(other), "the create is sent")
            connection = other._core.pump.connection
            assert connection is not None
            assert connection.transport is not None
            os.kill(server.pid, signal.SIGCONT)
            await asyncio.sleep(0)
            connection.transport.close()
            held = await task
            assert held is not None
            assert await names(zk, path) == [held.path.rpartition("/")[2]]
            await lock.release(held)
            assert await names(zk, path) == []

    with peers.running("coati", props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as running:
        run(main(running))


async def _is_sent(zk: coati.Client) -> bool:
    return zk._core.machine.inflight >= 2


# --- loss -----------------------------------------------------------------------------------------


def test_foreign_delete_cancels_the_body(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            lock = zk.lock(path)
            helds: list[coati.Held] = []

            async def body() -> None:
                async with lock as held:
                    helds.append(held)
                    await other.delete(held.path)
                    await forever()

            with pytest.raises(coati.LockLost, match="znode is gone") as raised:
                await body()
            held = helds[0]
            assert raised.value.path == held.path
            assert await held.lost() == "its znode is gone"
            with pytest.raises(coati.LockLost):
                held.check()
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            async with lock as again:
                assert again.token > held.token

    run(main())


def test_with_flag_the_body_asks(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other), zk.lock(path, on_loss="flag") as held:
            lost = asyncio.create_task(held.lost())
            await asyncio.sleep(0)
            await other.delete(held.path)
            assert await lost == "its znode is gone"
            with pytest.raises(coati.LockLost):
                held.check()
            assert held.deadline == 0.0

    run(main())


def test_end_of_the_session_cancels_the_body(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):

            async def body() -> None:
                async with zk.lock(path):
                    await expire(zk, server)
                    await forever()

            with pytest.raises(coati.LockLost, match="session"):
                await body()
            # The client has a new session, and the lock can be had again.
            async with other.lock(path), asyncio.TaskGroup() as group:
                task = group.create_task(_hold_once(zk.lock(path)))
                await until_queued(other, path, 2)
                task.cancel()
            async with zk.lock(path, timeout=20):
                pass

    run(main())


def test_a_waiter_whose_session_ends_queues_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            async with other.lock(path) as held:
                task = asyncio.create_task(zk.lock(path).acquire())
                await until_queued(other, path, 2)
                before = zk.session.id
                await expire(zk, server)

                async def is_back() -> bool:
                    owners = [contender.session for contender in await other.lock(path).holders()]
                    return owners == [held_by, zk.session.id] and zk.session.id != before

                held_by = other.session.id
                await until(is_back, "the new session stands in the line")
                assert held.is_held
            won = await task
            assert won.is_held

    run(main())


def test_a_waiter_whose_place_is_taken_away_queues_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            lock = other.lock(path)
            await lock.acquire()
            task = asyncio.create_task(zk.lock(path).acquire())
            await until_queued(other, path, 2)
            await other.delete((await lock.holders())[1].path)
            await lock.release()
            assert (await task).is_held

    run(main())


def test_body_ends_before_the_session_can_when_the_server_stops(path: str) -> None:
    async def main(server: Server) -> None:
        loop = asyncio.get_running_loop()
        async with clients(server, 1, session_timeout=1.0) as (zk,):
            ends: list[tuple[float, float]] = []

            async def body() -> None:
                async with zk.lock(path):
                    os.kill(server.pid, signal.SIGSTOP)
                    try:
                        await forever()
                    finally:
                        ends.append((loop.time(), zk.session.deadline))

            with pytest.raises(coati.LockLost, match="no server has answered"):
                await body()
            told = loop.time()
            ended, deadline = ends[0]
            # Before the server can have given it away. The block is left at once, although no server answers a delete.
            assert ended <= told < deadline
            os.kill(server.pid, signal.SIGCONT)
            await until_queued(zk, path, 0)

    with peers.running("coati", props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as running:
        run(main(running))


def test_closing_the_client_inside_is_a_loss(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):

            async def body() -> None:
                async with zk.lock(path):
                    await zk.aclose()
                    await forever()

            with pytest.raises(coati.LockLost):
                await body()

    run(main())


def test_guard_refuses_what_a_stale_holder_writes(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            await zk.put("/guarded", b"")
            async with zk.lock(path, on_loss="flag") as held:
                await zk.multi([held.guard(), coati.Set("/guarded", b"first")])
                await other.delete(held.path)
                async with other.lock(path) as newer:
                    await other.multi([newer.guard(), coati.Set("/guarded", b"second")])
                    with pytest.raises(coati.MultiError) as raised:
                        await zk.multi([held.guard(), coati.Set("/guarded", b"stale")])
                    assert raised.value.index == 0
            assert (await zk.get("/guarded")).data == b"second"

    run(main())


def test_holder_is_asked_to_give_it_back(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            async with zk.lock(path) as held:
                asked = asyncio.create_task(held.revoked())
                await zk.exists("/")
                # Any other data is no request.
                await other.set(held.path, b"note")
                await other.exists("/")
                assert not asked.done()
                contender = (await other.lock(path).holders())[0]
                assert await contender.revoke()
                await asked
                await held.revoked()
                assert held.is_held
            await until_queued(other, path, 0)
            assert not await contender.revoke()

    run(main())


# --- order of numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "ordered"),
    [
        ([], []),
        ([3], [3]),
        ([5, 3, 4], [3, 4, 5]),
        ([-2, -3], [-3, -2]),
        ([1, -1, 0], [-1, 0, 1]),
        # Around the end of what 32 bits can count.
        ([-(2**31), 2**31 - 1, 2**31 - 2], [2**31 - 2, 2**31 - 1, -(2**31)]),
        ([-(2**31) + 1, -(2**31), 2**31 - 1], [2**31 - 1, -(2**31), -(2**31) + 1]),
        # Java's counter stays at its end after a restart: the numbers say nothing.
        ([2**31 - 1, 2**31 - 1], None),
        # Nobody waits for half of all numbers.
        ([-(2**31), 0, 2**31 - 1], None),
        ([-(2**30), 2**30, -(2**31), 5], None),
    ],
)
def test_order_of_numbers(numbers: list[int], ordered: list[int] | None) -> None:
    found = in_order([Number(f"n{value}", "-lock-", value) for value in numbers])
    assert (None if found is None else [number.value for number in found]) == ordered


def test_where_numbers_do_not_tell_the_age_does(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):
            line = Line(zk, path, LOCK["native"])
            made = [f"{letter}-lock-2147483647" for letter in "cab"]
            for name in made:
                await zk.create(f"{path}/{name}", mode=coati.Mode.EPHEMERAL, parents=True)
            ordered = await line.sort(line.parse([*sorted(made), "gone-lock-2147483647"]))
            assert [number.name for number in ordered] == made
            assert [one.path for one in await line.contenders()] == [f"{path}/{name}" for name in made]

    run(main())


def test_names_of_the_layouts() -> None:
    unique = "0123456789abcdef0123456789abcdef"
    assert LOCK["kazoo"].prefix(unique, "__lock__") == f"{unique}__lock__"
    assert LOCK["curator"].prefix(unique, "-lock-") == "_c_01234567-89ab-cdef-0123-456789abcdef-lock-"
    line = Line(coati.Client(), "/x", READ_WRITE["curator"])
    found = line.parse(["_c_1-__READ__0000000001", "_c_1-__WRIT__-2147483648", "_c_1-lock-0000000001", "note"])
    assert [(number.mark, number.value) for number in found] == [("-__READ__", 1), ("-__WRIT__", -(2**31))]
