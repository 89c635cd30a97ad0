"""One timeout for a whole verb, of however many requests it is made: on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

import coati
from coati.errors import OperationTimeout
from coati.testing.loop import pass_time
from coati.testing.world import SimWorld
from tests.patterns.simkit import run

TIMEOUT_S = 2.5
TRIP_S = 1.0


@asynccontextmanager
async def slow(sim: SimWorld) -> AsyncIterator[tuple[coati.Client, coati.Client]]:
    """A client and a view of it that has time for two requests and a half."""
    async with coati.Client(sim.hosts, session_timeout=20.0, entropy=sim.random()) as zk:
        await zk.create("/there/a/b", parents=True)
        await zk.create("/there/c")
        await zk.create("/other")
        await zk.quota.set("/other", count=5)
        await zk.sync()
        was = sim.net.delay_ms
        sim.net.delay_ms = (int(TRIP_S * 500), int(TRIP_S * 500))
        yield zk, zk.with_options(timeout=TIMEOUT_S)
        sim.net.delay_ms = was


Verb = Callable[[coati.Client], Awaitable[object]]


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(lambda zk: zk.put("/a/b/c", b"x"), id="put"),
        pytest.param(lambda zk: zk.ensure("/a/b/c"), id="ensure"),
        pytest.param(lambda zk: zk.create("/a/b/c", parents=True), id="create"),
        pytest.param(lambda zk: zk.create("/a/b/e", mode=coati.Mode.EPHEMERAL, parents=True), id="create ephemeral"),
        pytest.param(lambda zk: zk.chroot("/a/b").create("/c", parents=True), id="create in a view"),
        pytest.param(lambda zk: zk.typed(coati.TEXT).put("/a/b/c", "x"), id="typed put"),
        pytest.param(lambda zk: zk.quota.set("/there", count=9), id="quota.set"),
        pytest.param(lambda zk: zk.quota.list(), id="quota.list"),
        pytest.param(lambda zk: zk.delete_tree("/there"), id="delete_tree"),
    ],
)
def test_a_verb_of_many_requests_has_one_timeout(verb: Verb) -> None:
    """Each of them takes more than two trips."""

    async def main(sim: SimWorld) -> None:
        async with slow(sim) as (_, zk):
            began = sim.loop.time()
            with pytest.raises(OperationTimeout):
                await verb(zk)
            assert TIMEOUT_S <= sim.loop.time() - began < TIMEOUT_S + 0.1
            # With time enough, it comes to its end.
            await verb(zk.with_options(timeout=20.0))

    run(main)


@pytest.mark.parametrize("is_typed", [False, True])
def test_an_update_that_others_overtake_for_ever_has_one_timeout(is_typed: bool) -> None:
    async def main(sim: SimWorld) -> None:
        async with slow(sim) as (other, zk):

            async def overtake() -> None:
                while True:
                    await other.set("/there", b"x")

            async def update() -> object:
                if is_typed:
                    return await zk.typed(coati.TEXT).update("/there", lambda value: value + "!")
                return await zk.update("/there", lambda data: data + b"!")

            overtaking = [other.spawn(overtake()) for _ in range(2)]
            await pass_time(TRIP_S / 2)
            overtaking.append(other.spawn(overtake()))
            began = sim.loop.time()
            with pytest.raises(OperationTimeout):
                await update()
            assert TIMEOUT_S <= sim.loop.time() - began < TIMEOUT_S + 0.1
            for task in overtaking:
                task.cancel()

    run(main)


def test_nothing_is_sent_when_the_time_is_up() -> None:
    """A write that was sent would be one whose fate nobody knows."""

    async def main(sim: SimWorld) -> None:
        async with slow(sim) as (zk, hasty):
            view = hasty.bounded("put", "/x")
            # Not even by a verb that has a time of its own.
            inner = view.bounded("create", "/y")
            await pass_time(TIMEOUT_S)
            with pytest.raises(OperationTimeout) as raised:
                await inner.set("/there", b"late")
            assert (raised.value.op, raised.value.path, raised.value.maybe_applied) == ("put", "/x", False)
            assert (await zk.get("/there")).version == 0

    run(main)


def test_without_a_timeout_nothing_ends_a_verb() -> None:
    async def main(sim: SimWorld) -> None:
        async with slow(sim) as (zk, _):
            patient = zk.with_options(timeout=None)
            sim.client_cut()
            await zk.wait_for(coati.State.SUSPENDED)
            making = sim.loop.create_task(patient.put("/a/b", b"x"))
            await pass_time(300.0)
            sim.heal()
            await making
            assert (await zk.get("/a/b")).data == b"x"

    run(main)


def test_a_tree_that_is_half_gone_says_so() -> None:
    async def main(sim: SimWorld) -> None:
        async with slow(sim) as (zk, hasty):
            # Three levels to list, and then one at a time.
            with pytest.raises(OperationTimeout) as raised:
                await hasty.with_options(timeout=4.5 * TRIP_S).delete_tree("/there", batch=1)
            assert raised.value.maybe_applied
            assert await zk.exists("/there/a/b") is None
            assert await zk.exists("/there") is not None
            with pytest.raises(OperationTimeout) as raised:
                await hasty.with_options(timeout=1.5 * TRIP_S).delete_tree("/there")
            assert not raised.value.maybe_applied

    run(main)
