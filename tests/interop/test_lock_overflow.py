"""Locks whose parent has counted to the end of 32 bits: contenders get the same number, or negative ones.

kazoo#730, CURATOR GH-1203. The servers start from a snapshot in which the counter is nearly there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import coati
from coati.recipes.election import ElectionLayout
from tests.interop import peers
from tests.recipes.livekit import clients, run, until_queued
from tests.storage.kit import snapshot_bytes

PATH = "/lock"
# The last number that 32 bits have is the third one.
FIRST = 2**31 - 3


def prepare(data_dir: Path) -> None:
    """A server that starts here has the parent of a lock."""
    rows = [
        (path, b"", -1, 1, 1, 1, 1, 0, creates, 0, 0, 1)
        for path, creates in ((b"/", 2), (b"/zookeeper", 0), (PATH.encode(), FIRST))
    ]
    folder = data_dir / "version-2"
    folder.mkdir(parents=True)
    (folder / "snapshot.1").write_bytes(snapshot_bytes(rows))


@pytest.mark.parametrize("kind", ["coati", "3.9.3"], ids=["coati", "java"])
def test_the_order_survives_the_end_of_the_numbers(kind: str, tmp_path: Path) -> None:
    async def main(server: peers.Server) -> None:
        order: list[int] = []
        inside: list[int] = []
        async with clients(server, 2) as (zk, other):
            lock = zk.lock(PATH)
            held = await lock.acquire()
            assert held.path.endswith(f"-lock-{FIRST}")

            async def wait(number: int) -> None:
                async with (zk, other)[number % 2].lock(PATH):
                    assert inside == []
                    inside.append(number)
                    order.append(number)
                    await zk.exists("/")
                    inside.clear()

            tasks = []
            for number in range(5):
                tasks.append(asyncio.create_task(wait(number)))
                await until_queued(zk, PATH, number + 2)
            numbers = [contender.path.rpartition("-lock-")[2] for contender in await lock.holders()]
            assert numbers[0] == str(FIRST)
            # Plain text or the number alone would not tell them apart.
            assert numbers[2:4] in (["2147483647"] * 2, ["2147483647", "-2147483648"])
            await lock.release()
            await asyncio.gather(*tasks)
            assert order == [0, 1, 2, 3, 4], numbers

    data_dir = tmp_path / "data"
    prepare(data_dir)
    with peers.running(kind, data_dir, props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server:
        run(main(server))


@pytest.mark.parametrize("layout", ["native", "kazoo", "curator", "curator-selector"])
def test_one_leads_beyond_the_end(layout: ElectionLayout, tmp_path: Path) -> None:
    """By its name alone, anybody with the same number may stand before the leader."""

    async def main(server: peers.Server) -> None:
        order: list[int] = []
        async with clients(server, 2) as (zk, other):
            for _ in range(2):
                await zk.create(f"{PATH}/x", mode=coati.Mode.EPHEMERAL_SEQUENTIAL)

            async def stand(number: int) -> None:
                async with (zk, other)[number % 2].election(PATH, id=b"%d" % number, layout=layout):
                    order.append(number)

            tasks = []
            async with zk.election(PATH, id=b"leader", layout=layout):
                for number in range(8):
                    tasks.append(asyncio.create_task(stand(number)))
                    await until_queued(zk, PATH, 2 + number + 2)
                standing = await other.election(PATH, id=b"", layout=layout).contenders()
                assert [one.id for one in standing] == [b"leader", *(b"%d" % number for number in range(8))]
                assert order == []
            await asyncio.gather(*tasks)
            assert order == [*range(8)]

    data_dir = tmp_path / "data"
    prepare(data_dir)
    with peers.running("coati", data_dir, props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server:
        run(main(server))


def test_downgrade_beyond_the_end_lets_no_writer_in(tmp_path: Path) -> None:
    async def main(server: peers.Server) -> None:
        async with clients(server, 2) as (zk, other):
            downgraded = []
            for _ in range(3):
                async with zk.rwlock(PATH).write() as held:
                    writer = asyncio.create_task(other.rwlock(PATH).write().acquire())
                    await until_queued(zk, PATH, 2)
                    await held.downgrade()
                    downgraded.append(not held.is_exclusive)
                    async with other.rwlock(PATH).write().try_() as second:
                        assert second is None
                    assert not writer.done()
                won = await writer
                await other.delete(won.path)
            # With numbers that tell nothing there is no place to keep.
            assert downgraded == [True, False, False]

    data_dir = tmp_path / "data"
    prepare(data_dir)
    with peers.running("coati", data_dir, props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server:
        run(main(server))
