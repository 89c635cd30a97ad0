"""Semaphores: never more holders than permits, in order, nothing left behind."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

import coati
from coati.recipes.line import Layout
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, expire, names, run, until, until_queued

LAYOUTS: list[Layout] = ["native", "kazoo"]


def leases(path: str, layout: Layout) -> str:
    return path if layout == "kazoo" else f"{path}/leases"


def door(path: str, layout: Layout) -> str:
    return f"{path}-__lock__" if layout == "kazoo" else f"{path}/locks"


async def is_empty(zk: coati.Client, path: str, layout: Layout) -> bool:
    return not await names(zk, leases(path, layout)) and not await names(zk, door(path, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_never_more_than_permitted(server: Server, path: str, layout: Layout) -> None:
    async def main() -> None:
        inside: list[str] = []
        three = asyncio.Event()

        async def worker(zk: coati.Client, name: str) -> None:
            for _ in range(3):
                async with zk.semaphore(path, 3, layout=layout) as held:
                    assert held.token
                    inside.append(name)
                    assert len(inside) <= 3
                    if len(inside) == 3:
                        three.set()
                    # The first ones wait for the third: it can come in.
                    await three.wait()
                    await zk.exists("/")
                    inside.remove(name)

        async with clients(server, 3) as zks:
            async with asyncio.TaskGroup() as group:
                for zk in zks:
                    for number in range(3):
                        group.create_task(worker(zk, f"{zk.session.id}-{number}"))
            await until(partial(is_empty, zks[0], path, layout), "all is given back")

    run(main())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_means_timeout_and_try_gets_nothing(server: Server, path: str, layout: Layout) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            semaphore = zk.semaphore(path, 2, id=b"one", layout=layout)
            first = await semaphore.acquire()
            second = await semaphore.acquire()
            assert first.token < second.token
            await until_queued(zk, door(path, layout), 0)
            async with other.semaphore(path, 2, layout=layout).try_() as held:
                assert held is None
            await until_queued(zk, door(path, layout), 0)
            with pytest.raises(coati.LockTimeout):
                async with other.semaphore(path, 2, timeout=0.05, layout=layout):
                    raise AssertionError
            assert await names(zk, door(path, layout)) == []
            listed = await semaphore.holders()
            assert [one.path for one in listed] == [first.path, second.path]
            assert [one.id for one in listed] == [b"one", b"one"]
            await semaphore.release()
            assert (await semaphore.holders())[0].path == first.path
            async with other.semaphore(path, 2, layout=layout).try_() as held:
                assert held is not None
            await semaphore.release(first)
            assert await semaphore.holders() == []

    run(main())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_free_place_goes_to_who_asked_first(server: Server, path: str, layout: Layout) -> None:
    async def main() -> None:
        order: list[int] = []
        async with clients(server, 1) as (zk,):
            semaphore = zk.semaphore(path, 1, layout=layout)
            held = await semaphore.acquire()
            await until_queued(zk, door(path, layout), 0)

            async def wait(number: int) -> None:
                async with zk.semaphore(path, 1, layout=layout):
                    order.append(number)

            tasks = []
            for number in range(3):
                tasks.append(asyncio.create_task(wait(number)))
                await until_queued(zk, door(path, layout), number + 1)
            await semaphore.release(held)
            await asyncio.gather(*tasks)
            assert order == [0, 1, 2]

    run(main())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("late", [False, True], ids=["waiting", "woken"])
@pytest.mark.parametrize("full", [False, True], ids=["room", "full"])
def test_cancelled_at_any_await_leaves_nothing(
    server: Server, path: str, layout: Layout, *, late: bool, full: bool
) -> None:
    async def main() -> None:
        async def hold_once(semaphore: coati.Semaphore) -> None:
            async with semaphore:
                pass

        async with clients(server, 2) as (zk, other):
            reached = 0
            await zk.ensure(path)
            while True:
                at = f"{path}/{reached}"
                holder = zk.semaphore(at, 1, layout=layout)
                held = await holder.acquire() if full else None
                await until_queued(zk, door(at, layout), 0)
                work = CancelAt(hold_once(other.semaphore(at, 1, layout=layout)), reached + 1, late=late)
                task = asyncio.ensure_future(work)
                if held is not None:
                    await until(partial(_is_at_the_door, zk, door(at, layout), task), "at the door, or over")
                    await holder.release(held)
                await asyncio.wait([task])
                assert task.cancelled() == work.was_reached
                await other.exists("/")
                await until(partial(is_empty, zk, at, layout), f"nothing is left of step {reached}")
                await (await _taken(zk.semaphore(at, 1, layout=layout)))
                if not work.was_reached:
                    break
                reached += 1
            assert reached >= 3

    run(main())


async def _taken(semaphore: coati.Semaphore) -> asyncio.Task[None]:
    """It is free: taken and given back."""
    held = await semaphore.try_acquire()
    assert held is not None
    return asyncio.create_task(semaphore.release(held))


async def _is_at_the_door(zk: coati.Client, path: str, task: asyncio.Future[None]) -> bool:
    return task.done() or len(await names(zk, path)) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_waiter_whose_session_ends_waits_on(server: Server, path: str, layout: Layout) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            semaphore = zk.semaphore(path, 1, layout=layout)
            await semaphore.acquire()
            await until_queued(zk, door(path, layout), 0)
            task = asyncio.create_task(other.semaphore(path, 1, layout=layout).acquire())
            await until_queued(zk, door(path, layout), 1)
            before = other.session.id
            await expire(other, server)

            async def is_renewed() -> bool:
                await zk.exists("/")
                return other.session.id not in (0, before)

            await until(is_renewed, "a new session")
            await semaphore.release()
            assert (await task).is_held

    run(main())


def test_kazoo_layout_agrees_on_the_permits(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):
            async with zk.semaphore(path, 2, layout="kazoo"):
                assert (await zk.get(path)).data == b"2"
                with pytest.raises(ValueError, match="has 2 permits, not 3"):
                    await zk.semaphore(path, 3, layout="kazoo").acquire()
            # What is no number is not for semaphores.
            await zk.set(path, b"note")
            async with zk.semaphore(path, 3, layout="kazoo"):
                pass

    run(main())


def test_a_semaphore_of_one_is_a_mutex_and_needs_a_permit(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            async with zk.semaphore_mutex(path), other.semaphore_mutex(path).try_() as held:
                assert held is None
            with pytest.raises(ValueError, match="at least one"):
                zk.semaphore(path, 0)
            assert await zk.semaphore(f"{path}/none", 1, layout="kazoo").holders() == []

    run(main())
