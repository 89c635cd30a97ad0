"""Raw clients in a storm: they come back until they are done, and what was acknowledged to them is there in the end."""

from __future__ import annotations

import asyncio
from random import Random

from coati.testing.loop import pass_time
from coati.testing.world import SimWorld
from tests.testing.rawclient import RawClient, dial

PATIENCE_S = 3


async def _work(zk: RawClient, number: int, acknowledged: dict[bytes, None], count: int) -> None:
    while len(acknowledged) < count:
        path = b"/c%d-%d" % (number, len(acknowledged))
        async with asyncio.timeout(PATIENCE_S):
            # It may be there already: the answer was lost.
            assert await zk.create(path, path) in (0, -110)
            assert await zk.get(path) == path
        acknowledged[path] = None
        await pass_time(0.2)


async def _client(world: SimWorld, dice: Random, number: int, acknowledged: dict[bytes, None], count: int) -> None:
    """Takes a new session with each connection, and leaves the old one to expire."""
    while len(acknowledged) < count:
        transport = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                zk = await dial(f"m{dice.randint(1, len(world.cluster.members))}")
                transport = zk.transport
                await zk.greet(timeout_ms=4000)
            await _work(zk, number, acknowledged, count)
        except OSError:
            await pass_time(dice.random())
        finally:
            if transport is not None:
                transport.abort()


async def main(world: SimWorld, *, seconds: float = 20, clients: int = 4, count: int = 20) -> str:
    """All of it; gives the hash of the trace."""
    written: list[dict[bytes, None]] = [{} for _ in range(clients)]
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            with world.on_host(f"h{number % 2}"):
                group.create_task(_client(world, world.random(), number, written[number], count))
        group.create_task(world.storm(seconds))
    await world.settled()
    for member in world.cluster.members.values():
        for path in (path for paths in written for path in paths):
            assert member.tree.find(path) is not None, f"server {member.sid} lacks {path!r}"
    return world.trace_hash()
