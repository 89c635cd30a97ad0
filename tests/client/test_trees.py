"""What is done to whole trees, on an ensemble that nobody else uses."""

from __future__ import annotations

import coati
from coati.testing.world import SimWorld
from tests.patterns.simkit import clients, run


def test_the_whole_tree_goes_but_for_the_servers_own() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            await zk.create("/a/b", parents=True)
            await zk.create("/c")
            await zk.quota.set("/a", count=10)
            assert await zk.delete_tree("/") == 3
            assert await zk.children("/") == ["zookeeper"]
            assert await zk.children("/zookeeper") == ["config", "quota"]

    run(main)


def test_the_root_of_a_view_goes_with_its_tree() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            await zk.create("/app/zookeeper/x", parents=True)
            assert await zk.chroot("/app").delete_tree("/") == 3
            assert await zk.exists("/app") is None

    run(main)


def test_znodes_that_come_while_a_tree_is_deleted_go_too() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 2) as (zk, other):
            await zk.create("/a")
            for number in range(500):
                await zk.create(f"/a/{number}")
            await other.sync()
            deleting = zk.spawn(_delete(zk))
            made = 0
            while not deleting.done() and made < 30:
                try:
                    await other.create(f"/a/more-{made}")
                    made += 1
                except coati.NoNode:
                    break
            await deleting
            assert await zk.exists("/a") is None

    run(main)


async def _delete(zk: coati.Client) -> None:
    await zk.delete_tree("/a", batch=50)
