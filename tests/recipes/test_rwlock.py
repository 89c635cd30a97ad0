"""The read/write lock: who may be inside together, in which order, and how a hold changes its kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import coati
from coati.recipes.claim import Claim
from coati.recipes.line import Layout
from coati.recipes.rwlock import RWLock
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, forever, names, run, until, until_queued

LAYOUTS: list[Layout] = ["native", "kazoo", "curator"]
KINDS = ["read", "write", "upgradable"]
# (inside, comes later): who comes may enter.
TOGETHER = {("read", "read"), ("read", "upgradable")}


def side(lock: RWLock, kind: str) -> Claim[Any]:
    if kind == "read":
        return lock.read()
    return lock.write() if kind == "write" else lock.upgradable()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_who_may_be_inside_together(server: Server, path: str, first: str, second: str, layout: Layout) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            async with side(zk.rwlock(path, layout=layout), first):
                claim = side(other.rwlock(path, layout=layout), second)
                async with claim.try_() as held:
                    assert (held is not None) == ((first, second) in TOGETHER)
                await until_queued(zk, path, 1)
            await until_queued(other, path, 0)
            async with claim.try_() as held:
                assert held is not None

    run(main())


def test_readers_do_not_pass_a_waiting_writer(server: Server, path: str) -> None:
    async def main() -> None:
        order: list[str] = []
        async with clients(server, 1) as (zk,):
            lock = zk.rwlock(path)

            async def hold(kind: str) -> None:
                async with side(lock, kind):
                    order.append(kind)
                    await zk.exists("/")

            async with lock.read():
                tasks = []
                for number, kind in enumerate(("write", "read", "read", "write")):
                    tasks.append(asyncio.create_task(hold(kind)))
                    await until_queued(zk, path, number + 2)
                marks = [contender.mark for contender in await lock.holders()]
                assert marks == ["-__READ__", "-__WRIT__", "-__READ__", "-__READ__", "-__WRIT__"]
                assert order == []
            await asyncio.gather(*tasks)
            assert order == ["write", "read", "read", "write"]

    run(main())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_downgrade_keeps_the_place(server: Server, path: str, layout: Layout) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            lock, others = zk.rwlock(path, id=b"me", layout=layout), other.rwlock(path, layout=layout)
            async with lock.write() as held:
                writer = asyncio.create_task(others.write().acquire())
                await until_queued(zk, path, 2)
                reader = asyncio.create_task(others.read().acquire())
                await until_queued(zk, path, 3)
                token = held.token
                await held.downgrade()
                await held.downgrade()
                assert held.token > token
                assert not held.is_exclusive
                assert held.is_held
                await zk.multi([held.guard()])
                # The writer was first, and waits for the reader that was a writer.
                await other.exists("/")
                assert not writer.done()
                assert not reader.done()
                first = (await lock.holders())[0]
                assert (first.id, first.path) == (b"me", held.path)
            won = await writer
            writes = [one.path for one in await lock.holders()]
            assert writes[0] == won.path
            await other.delete(won.path)
            await reader

    run(main())


def test_a_reader_behind_comes_in_after_downgrade(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):
            lock = zk.rwlock(path)
            async with lock.write() as held:
                reader = asyncio.create_task(lock.read().acquire())
                await until_queued(zk, path, 2)
                await held.downgrade()
                await reader
                assert held.is_held

    run(main())


def test_downgraded_hold_is_lost_with_its_new_znode(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):

            async def body() -> None:
                async with zk.rwlock(path).write() as held:
                    await held.downgrade()
                    await other.delete(held.path)
                    await forever()

            with pytest.raises(coati.LockLost, match="znode is gone"):
                await body()

    run(main())


def test_downgrade_of_what_is_gone_is_a_loss(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            claim = zk.rwlock(path).write()
            held = await claim.acquire()
            await other.delete(held.path)
            # The news of it may be there already or not.
            with pytest.raises(coati.LockLost):
                await held.downgrade()
            await claim.release(held)
            assert await names(zk, path) == []

    run(main())


@pytest.mark.parametrize("late", [False, True], ids=["waiting", "woken"])
def test_downgrade_cancelled_at_any_await_leaves_nothing(server: Server, path: str, *, late: bool) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            reached = 0
            while True:
                at = f"{path}/{reached}"
                claim = other.rwlock(at).write()
                held = await claim.acquire()
                work = CancelAt(held.downgrade(), reached + 1, late=late)
                task = asyncio.ensure_future(work)
                await asyncio.wait([task])
                assert task.cancelled() == work.was_reached
                await claim.release(held)
                await other.exists("/")
                await until_queued(zk, at, 0)
                if not work.was_reached:
                    break
                reached += 1
            assert reached >= 1

    run(main())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_upgrade_waits_for_the_readers_before(server: Server, path: str, layout: Layout) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            lock, others = zk.rwlock(path, layout=layout), other.rwlock(path, layout=layout)
            early = others.read()
            await early.acquire()
            async with lock.upgradable() as held:
                # Who comes later waits, so the upgrade waits for nobody who waits for it.
                late = asyncio.create_task(others.read().acquire())
                await until_queued(zk, path, 3)
                with pytest.raises(coati.LockTimeout):
                    await held.upgrade(timeout=0.05)
                assert held.is_held
                upgrade = asyncio.create_task(held.upgrade())
                await zk.exists("/")
                assert not upgrade.done()
                await early.release()
                await upgrade
                assert held.is_exclusive
                await held.upgrade()
                assert not late.done()
            await late

    run(main())


def test_upgradable_becomes_a_reader(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):
            lock = zk.rwlock(path)
            async with lock.upgradable() as held:
                await held.downgrade()
                async with lock.read().try_() as reader:
                    assert reader is not None
                with pytest.raises(RuntimeError, match="downgraded"):
                    await held.upgrade()

    run(main())


def test_upgrade_of_what_is_gone_is_a_loss(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as (zk, other):
            claim = zk.rwlock(path).upgradable()
            held = await claim.acquire()
            held.own.close()
            await other.delete(held.path)
            with pytest.raises(coati.LockLost, match="znode is gone"):
                await held.upgrade()

    run(main())


def test_readers_and_writers_never_overlap(server: Server, path: str) -> None:
    async def main() -> None:
        readers: list[str] = []
        writers: list[str] = []
        most = 0

        async def read(zk: coati.Client, name: str) -> None:
            nonlocal most
            for _ in range(4):
                async with zk.rwlock(path).read():
                    readers.append(name)
                    assert writers == []
                    await zk.exists("/")
                    most = max(most, len(readers))
                    readers.remove(name)

        async def write(zk: coati.Client, name: str) -> None:
            for _ in range(4):
                async with zk.rwlock(path).write() as held:
                    assert readers + writers == []
                    writers.append(name)
                    await zk.exists("/")
                    assert readers + writers == [name]
                    writers.clear()
                    await held.downgrade()
                    readers.append(name)
                    await zk.exists("/")
                    assert writers == []
                    readers.remove(name)

        async with clients(server, 3) as zks:
            async with asyncio.TaskGroup() as group:
                for zk in zks:
                    for number in range(2):
                        group.create_task(read(zk, f"r{zk.session.id}{number}"))
                    group.create_task(write(zk, f"w{zk.session.id}"))
            assert most > 1
            await until_queued(zks[0], path, 0)

    run(main())


def test_reentrant_sides(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as (zk,):
            claim = zk.rwlock(path, reentrant=True).read()
            async with claim as outer, claim as inner:
                assert outer is inner

            async def is_free() -> bool:
                return await names(zk, path) == []

            await until(is_free, "it is given back")

    run(main())
