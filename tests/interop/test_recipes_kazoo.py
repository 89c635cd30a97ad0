"""Our locks and kazoo's on one path: each keeps the other out, and lets it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import LockTimeout

import coati
from tests.interop.peers import Server
from tests.recipes.livekit import run, until_queued

PATIENCE_S = 20.0
PATH = "/shared"


def take(lock: Any, timeout: float = PATIENCE_S) -> bool:
    """Whether kazoo gets it in time."""
    try:
        return bool(lock.acquire(timeout=timeout))
    except LockTimeout:
        return False


async def exclude_each_other(ours: Any, theirs: Any, waiting: Callable[[int], Any]) -> None:
    """`ours` is a claim of coati's, `theirs` a lock of kazoo's; `waiting(n)` returns when n stand in the line."""
    held = await ours.acquire()
    assert not await asyncio.to_thread(take, theirs, 0.05)
    theirs_waits = asyncio.create_task(asyncio.to_thread(take, theirs))
    await waiting(2)
    assert not theirs_waits.done()
    await ours.release(held)
    assert await theirs_waits
    assert await ours.try_acquire() is None
    ours_waits = asyncio.create_task(ours.acquire())
    await waiting(2)
    assert not ours_waits.done()
    await asyncio.to_thread(theirs.release)
    held = await ours_waits
    await ours.release(held)
    assert await asyncio.to_thread(theirs.acquire, blocking=False)
    await asyncio.to_thread(theirs.release)


def client(server: Server, root: str) -> coati.Client:
    return coati.Client(server.address + root, session_timeout=20.0)


def test_lock_and_kazoo_lock_exclude_each_other(server: Server, root: str, zk: KazooClient) -> None:
    async def main() -> None:
        async with client(server, root) as ours:
            lock = ours.lock(PATH, id=b"ours", layout="kazoo")
            theirs = zk.Lock(PATH, "theirs")
            await exclude_each_other(lock, theirs, lambda count: until_queued(ours, PATH, count))
            async with lock:
                assert await asyncio.to_thread(theirs.contenders) == ["ours"]

    run(main())


def test_writers_exclude_each_other(server: Server, root: str, zk: KazooClient) -> None:
    async def main() -> None:
        async with client(server, root) as ours:
            claim = ours.rwlock(PATH, layout="kazoo").write()
            await exclude_each_other(claim, zk.WriteLock(PATH), lambda count: until_queued(ours, PATH, count))

    run(main())


@pytest.mark.parametrize("ours_reads", [False, True], ids=["we write", "we read"])
def test_reader_and_writer_exclude_each_other(server: Server, root: str, zk: KazooClient, *, ours_reads: bool) -> None:
    async def main() -> None:
        async with client(server, root) as ours:
            lock = ours.rwlock(PATH, layout="kazoo")
            claim: Any = lock.read() if ours_reads else lock.write()
            theirs = zk.WriteLock(PATH) if ours_reads else zk.ReadLock(PATH)
            await exclude_each_other(claim, theirs, lambda count: until_queued(ours, PATH, count))

    run(main())


def test_readers_share(server: Server, root: str, zk: KazooClient) -> None:
    async def main() -> None:
        async with client(server, root) as ours:
            lock = ours.rwlock(PATH, layout="kazoo")
            theirs = zk.ReadLock(PATH)
            async with lock.write() as held:
                waits = asyncio.create_task(asyncio.to_thread(take, theirs))
                await until_queued(ours, PATH, 2)
                await held.downgrade()
                assert await waits
                async with lock.read(), lock.write().try_() as writer:
                    assert writer is None
            await asyncio.to_thread(theirs.release)

    run(main())


def test_semaphores_count_together(server: Server, root: str, zk: KazooClient) -> None:
    async def main() -> None:
        async with client(server, root) as ours:
            semaphore = ours.semaphore(PATH, 2, id=b"ours", layout="kazoo")
            theirs = [zk.Semaphore(PATH, "theirs", max_leases=2) for _ in range(2)]
            first = await semaphore.acquire()
            assert await asyncio.to_thread(take, theirs[0])
            assert await semaphore.try_acquire() is None
            assert not await asyncio.to_thread(take, theirs[1], 0.05)
            assert sorted(await asyncio.to_thread(theirs[0].lease_holders)) == ["ours", "theirs"]
            waits = asyncio.create_task(asyncio.to_thread(take, theirs[1]))
            await until_queued(ours, f"{PATH}-__lock__", 1)
            await semaphore.release(first)
            assert await waits
            ours_waits = asyncio.create_task(semaphore.acquire())
            await until_queued(ours, f"{PATH}-__lock__", 1)
            assert not ours_waits.done()
            await asyncio.to_thread(theirs[0].release)
            assert (await ours_waits).is_held
            with pytest.raises(ValueError, match="max leases"):
                await asyncio.to_thread(zk.Semaphore(PATH, max_leases=3).acquire)

    run(main())
