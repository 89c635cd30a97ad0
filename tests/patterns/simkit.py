"""A simulated ensemble for a test of patterns, with as many clients as it wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import coati
from coati.testing import world
from coati.testing.loop import pass_time
from coati.testing.world import SimWorld

SESSION_S = 4.0


def run(main: Callable[[SimWorld], Awaitable[None]], seed: int = 1) -> None:
    """Runs it in virtual time; what it leaves open is an error."""

    async def wrapped(sim: SimWorld) -> None:
        await main(sim)

    world.run(wrapped, seed, limit_s=600)


@asynccontextmanager
async def clients(sim: SimWorld, count: int) -> AsyncIterator[list[coati.Client]]:
    """So many sessions, each from a host of its own: `c0`, `c1`, ..."""
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            with sim.on_host(f"c{number}"):
                client = coati.Client(sim.hosts, session_timeout=SESSION_S, entropy=sim.random())
                found.append(await stack.enter_async_context(client))
        yield found


async def until(holds: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
    """Until it is so, in virtual time."""
    for _ in range(int(limit_s * 100)):
        if holds():
            return
        await pass_time(0.01)
    raise AssertionError(f"not in time: {what}")
