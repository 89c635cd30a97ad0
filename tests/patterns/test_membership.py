"""A cluster has one master, the eldest member; whoever goes makes room for the next, and comes back at the end."""

from __future__ import annotations

import asyncio

import pytest

import coati
from coati.patterns.membership import Cluster, View
from coati.recipes.election import Term
from coati.testing.loop import pass_time
from coati.testing.world import SimWorld
from tests.patterns.simkit import clients, run, until


def test_the_eldest_is_master_and_the_next_follows() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 3) as zks:
            clusters = [Cluster(zk, "/workers", me=b"%d" % number) for number, zk in enumerate(zks)]
            assert await clusters[0].view() == View(())
            assert View(()).master is None
            async with clusters[0].join() as first:
                await until(lambda: first.is_master, "alone, it is master")
                async with clusters[1].join() as second:
                    await zks[2].sync()
                    views = clusters[2].views()
                    view = await anext(views)
                    while len(view.members) < 2:
                        view = await anext(views)
                    assert view == View((b"0", b"1"))
                    assert (view.master, second.is_master) == (b"0", False)
                    sim.expire(zks[0].session.id)
                    await until(lambda: second.is_master, "the next is master")
                    while view.members != (b"1", b"0"):
                        view = await anext(views)
                    assert not first.is_master
                    await views.aclose()

    run(main)


def test_two_are_never_master_at_once_though_one_is_cut_off() -> None:
    async def main(sim: SimWorld) -> None:
        masters: list[str] = []
        most = 0

        def work(name: str) -> object:
            async def as_master(term: Term) -> None:
                nonlocal most
                masters.append(name)
                most = max(most, len(masters))
                try:
                    await term.lost()
                finally:
                    masters.remove(name)

            return as_master

        async with clients(sim, 2) as zks:
            joins = [Cluster(zk, "/workers", me=b"w").join(work(str(number))) for number, zk in enumerate(zks)]  # type: ignore[arg-type]  # made by work
            async with joins[0]:
                await until(lambda: masters == ["0"], "the first is master")
                async with joins[1]:
                    sim.client_cut("c0")
                    await until(lambda: masters == ["1"], "the other takes over")
                    sim.heal()
                    await pass_time(10)
                    assert masters == ["1"]
        assert most == 1

    run(main)


def test_a_master_who_fails_leaves_with_his_error() -> None:
    async def main(sim: SimWorld) -> None:
        async def as_master(term: Term) -> None:
            raise KeyError(term.token)

        async with clients(sim, 1) as (zk,):
            with pytest.raises(KeyError):
                async with Cluster(zk, "/workers").join(as_master):
                    await pass_time(1)
            assert await zk.children("/workers") == []

    run(main)


def test_a_master_who_is_done_stands_again() -> None:
    async def main(sim: SimWorld) -> None:
        terms: list[int] = []

        async def as_master(term: Term) -> None:
            terms.append(term.token)
            await asyncio.sleep(0)

        async with clients(sim, 1) as (zk,), Cluster(zk, "/workers").join(as_master):
            await until(lambda: len(terms) >= 3, "three terms")
        assert terms == sorted(set(terms))

    run(main)


def test_a_client_that_is_closed_ends_the_membership() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):

            async def join() -> None:
                async with Cluster(zk, "/workers").join() as me:
                    await until(lambda: me.is_master, "master")
                    await zk.aclose()
                    await pass_time(1)

            with pytest.raises(coati.ZKError):
                await join()

    run(main)
