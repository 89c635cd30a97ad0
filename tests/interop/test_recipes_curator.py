"""Our locks and Curator's on one path: each keeps the other out, and lets it in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import coati
from tests.interop import lockpeer
from tests.interop.lockpeer import PATIENCE_MS, LockPeer
from tests.interop.peers import Server
from tests.recipes.livekit import forever, run, until_queued


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return lockpeer.compiled(tmp_path_factory.mktemp("lockpeer"))


@pytest.fixture
def peer(classes: str, server: Server) -> Iterator[LockPeer]:
    with lockpeer.running(classes, server.address) as running:
        yield running


async def exclude_each_other(zk: coati.Client, claim: Any, peer: LockPeer, kind: str, path: str) -> None:
    """`claim` is ours, `kind` what Curator calls the other one."""
    held = await claim.acquire()
    assert not await peer.asked(kind, "try", path, 50)
    waits = asyncio.create_task(peer.asked(kind, "try", path, PATIENCE_MS))
    await until_queued(zk, path, 2)
    assert not waits.done()
    await claim.release(held)
    assert await waits
    assert await claim.try_acquire() is None
    ours = asyncio.create_task(claim.acquire())
    await until_queued(zk, path, 2)
    assert not ours.done()
    assert await peer.asked(kind, "release", path)
    await claim.release(await ours)


def test_locks(server: Server, root: str, peer: LockPeer) -> None:
    async def main() -> None:
        async with coati.Client(server.address, session_timeout=20.0) as zk:
            await exclude_each_other(zk, zk.lock(f"{root}/native"), peer, "mutex", f"{root}/native")
            path = f"{root}/curator"
            await exclude_each_other(zk, zk.lock(path, layout="curator"), peer, "mutex", path)
            lock = zk.rwlock(f"{root}/rw", layout="curator")
            await exclude_each_other(zk, lock.write(), peer, "write", lock.path)
            await exclude_each_other(zk, lock.write(), peer, "read", lock.path)
            await exclude_each_other(zk, lock.read(), peer, "write", lock.path)
            await exclude_each_other(zk, lock.upgradable(), peer, "write", lock.path)
            # Readers share, also with one that was a writer.
            path = f"{root}/readers"
            async with zk.rwlock(path, layout="curator").write() as held:
                waits = asyncio.create_task(peer.asked("read", "try", path, PATIENCE_MS))
                await until_queued(zk, path, 2)
                await held.downgrade()
                assert await waits
            assert await peer.asked("read", "release", path)

    run(main())


def test_curator_downgrade_is_understood(server: Server, root: str, peer: LockPeer) -> None:
    async def main() -> None:
        path = f"{root}/rw"
        async with coati.Client(server.address, session_timeout=20.0) as zk:
            lock = zk.rwlock(path, layout="curator")
            assert await peer.asked("write", "try", path, PATIENCE_MS)
            reader = asyncio.create_task(lock.read().acquire())
            await until_queued(zk, path, 2)
            # The reader that is its writer takes the number of the writer.
            assert await peer.asked("read", "try", path, PATIENCE_MS)
            await until_queued(zk, path, 3)
            assert not reader.done()
            assert await peer.asked("write", "release", path)
            await reader
            assert await lock.write().try_acquire() is None
            assert await peer.asked("read", "release", path)

    run(main())


def test_semaphores(server: Server, root: str, peer: LockPeer) -> None:
    async def main() -> None:
        async with coati.Client(server.address, session_timeout=20.0) as zk:
            path = f"{root}/pool"
            semaphore = zk.semaphore(path, 2, layout="curator")
            first = await semaphore.acquire()
            assert await peer.asked("semaphore", "try", path, PATIENCE_MS, 2)
            assert await semaphore.try_acquire() is None
            await until_queued(zk, f"{path}/locks", 0)
            assert not await peer.asked("semaphore", "try", path, 50, 2)
            waits = asyncio.create_task(peer.asked("semaphore", "try", path, PATIENCE_MS, 2))
            await until_queued(zk, f"{path}/leases", 3)
            await semaphore.release(first)
            assert await waits
            ours = asyncio.create_task(semaphore.acquire())
            await until_queued(zk, f"{path}/leases", 3)
            assert not ours.done()
            assert await peer.asked("semaphore", "release", path)
            await semaphore.release(await ours)
            path = f"{root}/mutex"
            mutex = zk.semaphore_mutex(path)
            async with mutex:
                assert not await peer.asked("semaphore-mutex", "try", path, 50)
            assert await peer.asked("semaphore-mutex", "try", path, PATIENCE_MS)
            async with mutex.try_() as held:
                assert held is None
            assert await peer.asked("semaphore-mutex", "release", path)
            async with mutex as held:
                assert held.is_held

    run(main())


def test_revocation_both_ways(server: Server, root: str, peer: LockPeer) -> None:
    async def main() -> None:
        path = f"{root}/lock"
        async with coati.Client(server.address, session_timeout=20.0) as zk:
            lock = zk.lock(path, layout="curator")
            async with lock as held:
                body = asyncio.create_task(forever())
                assert await peer.asked("revoke", "now", held.path)
                await held.revoked()
                body.cancel()
            assert await peer.asked("mutex", "revocable", path, PATIENCE_MS)
            assert await (await lock.holders())[0].revoke()
            assert await peer.asked("revoked", "wait", path, PATIENCE_MS)
            assert await peer.asked("mutex", "release", path)

    run(main())
