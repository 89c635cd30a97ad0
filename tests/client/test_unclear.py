"""A write over a connection that was lost: when it may still be done, and from when on not any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import coati
from coati.errors import ConnectionLoss
from coati.server.replica import Replica
from coati.testing.clientnet import CLIENT_PORT
from coati.testing.loop import pass_time
from coati.testing.world import SimWorld
from tests.patterns.simkit import run

FAR_MS = 200
Recipe = Callable[[coati.Client], Awaitable[None]]


@pytest.mark.parametrize(
    ("goes_on_with", "is_missed"),
    [("the same server", False), ("another follower", True), ("the leader", False)],
)
@pytest.mark.parametrize("is_closed_before", [False, True])
def test_a_create_may_come_behind_a_read_and_not_behind_a_sync(
    goes_on_with: str, is_missed: bool, is_closed_before: bool
) -> None:
    """It is proposed when the connection goes, and committed when the next one has read already.

    Where the server knows of it, the read waits, as in Java: clients that do not sync look for what they have made.
    """

    async def main(sim: SimWorld) -> None:
        leader = sim.cluster.leader()
        assert leader is not None
        first, second = (sid for sid in sim.cluster.members if sid != leader.sid)
        last = {"the same server": first, "another follower": second, "the leader": leader.sid}[goes_on_with]
        async with coati.Client(f"m{first}:{CLIENT_PORT}", session_timeout=20.0, entropy=sim.random()) as zk:
            await zk.sync()
            sim.net.delay_ms, sim.cluster.net.delay_ms = (1, 1), (FAR_MS, FAR_MS)
            making = asyncio.ensure_future(zk.create("/a"))
            # On its way to the leader.
            await pass_time(FAR_MS * 1.2 / 1000)
            zk.set_hosts([f"m{last}:{CLIENT_PORT}"])
            for call in list(sim.net.calls):
                # Else the server finds out when the client is back.
                call.forward.is_lost = not is_closed_before
                call.break_off()
            with pytest.raises(ConnectionLoss) as caught:
                await making
            assert caught.value.maybe_applied
            assert (await zk.exists("/a") is None) == is_missed
            await zk.sync("/a")
            assert await zk.exists("/a") is not None

    run(main)


def test_a_create_on_its_way_to_the_leader_is_refused_when_the_session_has_moved() -> None:
    async def main(sim: SimWorld) -> None:
        leader = sim.cluster.leader()
        assert leader is not None
        first = next(sid for sid in sim.cluster.members if sid != leader.sid)
        async with coati.Client(f"m{first}:{CLIENT_PORT}", session_timeout=20.0, entropy=sim.random()) as zk:
            await zk.sync()
            sim.net.delay_ms, sim.cluster.net.delay_ms = (1, 1), (FAR_MS, FAR_MS)
            making = asyncio.ensure_future(zk.create("/a"))
            await pass_time(0.01)
            zk.set_hosts([f"m{leader.sid}:{CLIENT_PORT}"])
            for call in list(sim.net.calls):
                call.break_off()
            with pytest.raises(ConnectionLoss):
                await making
            await zk.sync("/a")
            assert await zk.exists("/a") is None
            await pass_time(10.0)
            assert await zk.exists("/a") is None

    run(main)


async def claim_a_job(zk: coati.Client) -> None:
    await zk.once("/top")._claim("/top/job")


async def keep_an_ephemeral(zk: coati.Client) -> None:
    async with zk.ephemeral("/top/kept"):
        raise AssertionError


async def take_an_item(zk: coati.Client) -> None:
    await zk.queue("/top").get()


@pytest.mark.parametrize("recipe", [claim_a_job, keep_an_ephemeral, take_an_item])
def test_what_is_given_up_while_the_connection_goes_is_not_left_behind(recipe: Recipe) -> None:
    async def main(sim: SimWorld) -> None:
        leader = sim.cluster.leader()
        assert leader is not None
        first, second = (sid for sid in sim.cluster.members if sid != leader.sid)
        async with coati.Client(f"m{first}:{CLIENT_PORT}", session_timeout=20.0, entropy=sim.random()) as zk:
            # What the first item makes is there for the second one.
            await zk.queue("/top").put(b"1")
            async with await zk.queue("/top").get():
                await zk.queue("/top").put(b"2")
            before = await tree(zk)
            sim.net.delay_ms = (1, 1)
            recipe_task = asyncio.ensure_future(recipe(zk))
            replica = sim.member(first).driver.replica
            assert isinstance(replica, Replica)
            while not replica.in_flight():
                await pass_time(0.001)
            sim.cluster.net.delay_ms = (FAR_MS, FAR_MS)
            # The leader has it.
            await pass_time(0.05)
            recipe_task.cancel()
            await asyncio.sleep(0)
            zk.set_hosts([f"m{second}:{CLIENT_PORT}"])
            await asyncio.wait((recipe_task,))
            await pass_time(3.0)
            assert await tree(zk) == before

    run(main)


async def tree(zk: coati.Client) -> list[str]:
    return [node.path async for node in zk.walk("/top")]
