"""Names for values: bound once, followed, unique, and gone with their session where that was asked for."""

from __future__ import annotations

import pytest

import coati
from coati.patterns.naming import NamingService
from coati.testing.world import SimWorld
from tests.patterns.simkit import clients, run


def test_a_name_is_given_once_and_can_be_given_anew() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 2) as (one, two):
            ours, theirs = NamingService(one), NamingService(two)
            await ours.bind("billing/db", b"10.0.0.7")
            with pytest.raises(coati.NodeExists):
                await theirs.bind("billing/db", b"10.0.0.8")
            await two.sync()
            assert await theirs.lookup("billing/db") == b"10.0.0.7"
            await theirs.rebind("billing/db", b"10.0.0.8")
            await theirs.rebind("billing/cache", b"10.0.0.9")
            await one.sync()
            assert await ours.names("billing") == ["cache", "db"]
            assert await ours.names() == ["billing"]
            await ours.unbind("billing/db")
            await ours.unbind("billing/db")
            with pytest.raises(coati.NoNode):
                await ours.lookup("billing/db")
            assert await ours.names("nothing") == []

    run(main)


def test_a_value_is_replaced_only_if_it_is_the_one_that_was_seen() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            names = NamingService(zk, "/")
            node = await names.bind("leader", b"a")
            await names.replace("leader", b"b", version=node.version)
            with pytest.raises(coati.BadVersion):
                await names.replace("leader", b"c", version=node.version)
            assert await names.lookup("leader") == b"b"
            assert names.path("leader") == "/leader"

    run(main)


def test_a_name_for_the_time_of_a_session_is_free_when_it_is_over() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 2) as (one, two):
            await NamingService(one).bind("me", b"here", while_here=True)
            async with NamingService(two).follow("me") as values:
                node = await anext(values)
                while node is None:
                    node = await anext(values)
                sim.expire(one.session.id)
                assert await anext(values) is None

    run(main)


def test_unique_names_are_unique() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 2) as (one, two):
            made = [await NamingService(zk).unique("jobs/job-", b"x", while_here=zk is two) for zk in (one, two) * 3]
            assert len(set(made)) == 6
            assert all(name.startswith("jobs/job-") for name in made)
            await one.sync()
            assert await NamingService(one).lookup(made[-1]) == b"x"

    run(main)


@pytest.mark.parametrize("name", ["", "/absolute"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="without a slash in front"):
        NamingService(coati.Client()).path(name)
