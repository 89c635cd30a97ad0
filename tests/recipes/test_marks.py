"""What recipes have in common: nothing is left behind, whatever is lost, and what must be done is done in the end."""

from __future__ import annotations

import asyncio

import pytest

import coati
from coati.recipes.marks import Bell, Feed, children_of, create_marked, insist, mark
from tests.interop.peers import Server
from tests.recipes.livekit import clients, names, run, until
from tests.recipes.lossy import Wire, wire


def through(line: Wire, **options: float) -> coati.Client:
    """A client of ours on the wire."""
    return coati.Client(f"127.0.0.1:{line.port}", **{"session_timeout": 20.0, **options})  # type: ignore[arg-type]  # times only


async def is_gone(zk: coati.Client, path: str) -> bool:
    """Nothing is below it."""
    return await names(zk, path) == []


def test_a_lost_answer_is_found_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, through(line) as zk:
            await zk.ensure(path)
            line.mute()
            making = asyncio.ensure_future(create_marked(zk, path, f"{mark(zk)}-x-", b"data"))
            await line.swallowed()
            line.cut()
            made = await making
            assert await zk.children(path) == [made.name]
            assert made.data == b"data"

    run(main())


def test_what_is_not_there_any_more_is_not_made_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, through(line) as zk, clients(server, 1) as zks:
            await zk.ensure(path)
            line.mute()
            making = asyncio.ensure_future(create_marked(zk, path, f"{mark(zk)}-x-", b""))
            await line.swallowed()
            # Somebody takes it before anybody can look.
            (name,) = await zks[0].children(path)
            await zks[0].delete(f"{path}/{name}")
            line.cut()
            with pytest.raises(coati.ConnectionLoss) as caught:
                await making
            assert caught.value.maybe_applied
            assert await zks[0].children(path) == []

    run(main())


def test_one_whose_time_is_up_leaves_nothing(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, through(line) as zk, clients(server, 1) as zks:
            await zk.ensure(path)
            line.mute()
            with pytest.raises(coati.OperationTimeout):
                await create_marked(zk.with_options(timeout=0.05), path, f"{mark(zk)}-x-", b"")
            assert len(await zks[0].children(path)) == 1
            line.cut()
            await until(lambda: is_gone(zks[0], path), "it is swept up")

    run(main())


def test_an_impossible_place_is_refused(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            await zks[0].create(path, mode=coati.Mode.EPHEMERAL)
            with pytest.raises(coati.NoChildrenForEphemerals):
                await create_marked(zks[0], path, "x-", b"")

    run(main())


def test_what_must_be_done_is_done_when_the_connection_is_back(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, through(line, session_timeout=0.8) as zk, clients(server, 1) as zks:
            await zk.create(path, mode=coati.Mode.EPHEMERAL)
            hurried = zk.with_options(timeout=0.02)
            line.mute()

            async def work() -> None:
                await hurried.delete(path, missing_ok=True)

            await insist(zk, work)
            line.cut()

            async def is_done() -> bool:
                return await zks[0].exists(path) is None

            await until(is_done, "it is gone")

    run(main())


def test_bells_ring_for_children_of_a_parent_to_come(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            with Bell(zks[0]) as bell:
                assert await children_of(zks[0], path, bell=bell) == []
                assert not await bell.wait(0.01)
                await zks[1].create(f"{path}/x", parents=True)
                assert await bell.wait()
                bell.reset()
                assert await children_of(zks[0], path, bell=bell) == ["x"]

    run(main())


def test_a_full_feed_can_still_end() -> None:
    async def main() -> None:
        feed: Feed[int] = Feed()
        reading = asyncio.ensure_future(_all(feed))
        await asyncio.sleep(0)
        for number in range(64):
            feed.tell(number)
        feed.end()
        assert await reading == list(range(1, 64))

    run(main())


async def _all(feed: Feed[int]) -> list[int]:
    return [news async for news in feed]
