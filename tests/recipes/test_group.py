"""Groups and kept znodes: there across sessions, gone with the block, and every change is told."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

import coati
from coati.recipes.group import GroupLayout
from coati.recipes.marks import FEED_AT_MOST, Feed
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, expire, names, run, until


async def is_gone(zk: coati.Client, path: str) -> bool:
    """Whether the znode has no children, or is not there."""
    return await names(zk, path) == []


@pytest.mark.parametrize("layout", ["native", "kazoo", "kazoo-shallow", "curator"])
def test_members_come_and_go(server: Server, path: str, layout: GroupLayout) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            group = zks[0].group(path, layout=layout)
            seen = zks[1].group(path, layout=layout).members()
            assert await anext(seen) == {}
            async with group.join(b"one", "n1") as me:
                assert await anext(seen) == {me.name: b"one"}
                assert group.me == me.name
                name = me.name
                assert await group.current() == {me.name: b"one"}
                await me.set(b"two")
                assert await anext(seen) == {me.name: b"two"}
            assert await anext(seen) == {}
            if layout in ("native", "curator"):
                assert name == "n1"

    run(main())


def test_a_shallow_party_keeps_the_identifier_in_the_name(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks, zks[0].group(path, layout="kazoo-shallow").join(name="n1"):
            (name,) = await zks[0].children(path)
            assert name.partition("-")[2] == "n1"
            assert (await zks[0].get(f"{path}/{name}")).data == b"n1"

    run(main())


def test_a_member_joins_again_with_the_next_session(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            async with zks[0].group(path).join(b"x", "n1") as me:
                losses = aiter(me.lost)
                lost = asyncio.ensure_future(anext(losses))
                await asyncio.sleep(0)
                old = zks[0].session.id
                await expire(zks[0], server)
                assert await lost

                async def is_back() -> bool:
                    stat = await zks[1].exists(f"{path}/n1")
                    return stat is not None and stat.ephemeral_owner not in (0, old)

                await until(is_back, "the member is back")
                await until(lambda: _there(me.is_there), "the member knows")
            assert await zks[1].children(path) == []

    run(main())


async def _there(holds: bool) -> bool:
    return holds


def test_a_deleted_node_comes_back_with_its_newest_data(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks, zks[0].ephemeral(path, b"1") as kept:
            await kept.set(b"2")
            await zks[1].delete(path)
            await kept.set(b"3")

            async def is_back() -> bool:
                try:
                    return (await zks[1].get(path)).data == b"3"
                except coati.NoNode:
                    return False

            await until(is_back, "the znode is back")
            with pytest.raises(RuntimeError):
                await kept.__aenter__()

    run(main())


def test_a_taken_name_is_waited_for(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            await zks[1].create(path, b"theirs", mode=coati.Mode.EPHEMERAL)
            kept = zks[0].ephemeral(path, b"ours")
            entering = asyncio.ensure_future(kept.__aenter__())
            await zks[0].exists("/")
            assert not entering.done()
            await zks[1].delete(path)
            await entering
            assert (await zks[1].get(path)).data == b"ours"
            await kept.__aexit__(None, None, None)
            assert await zks[1].exists(path) is None
            # A wait that is given up leaves the other one's alone.
            await zks[1].create(path, b"theirs", mode=coati.Mode.EPHEMERAL)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), zks[0].ephemeral(path):
                    pass
            assert (await zks[1].get(path)).data == b"theirs"

    run(main())


def test_what_nobody_can_help_is_raised(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            await zks[0].create(path, acl=coati.READ_ONLY)
            with pytest.raises(coati.NoAuth):
                async with zks[0].ephemeral(f"{path}/x"):
                    pass

    run(main())


def test_a_closed_client_ends_the_losses(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            kept = zks[0].ephemeral(path)
            await kept.__aenter__()
            told = asyncio.ensure_future(_all(kept.lost))
            await asyncio.sleep(0)
            await zks[0].aclose()
            await kept.__aexit__(None, None, None)
            await told
            assert await _all(kept.lost) == []

    run(main())


async def _all(feed: Feed[str]) -> list[str]:
    return [news async for news in feed]


def test_a_slow_reader_keeps_the_newest_news() -> None:
    async def main() -> None:
        feed: Feed[str] = Feed()
        told = aiter(feed)
        first = asyncio.ensure_future(anext(told))
        await asyncio.sleep(0)
        for number in range(FEED_AT_MOST + 3):
            feed.tell(str(number))
        assert await first == "3"
        for number in range(FEED_AT_MOST):
            feed.tell(str(number))
        feed.end()
        assert [news async for news in told][:2] == ["1", "2"]

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_cancelled_joins_leave_nothing_behind(server: Server, path: str, late: bool) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            at = 0
            while True:
                at += 1
                joining = zks[0].group(path).join(b"x", "n1")
                tried = CancelAt(joining.__aenter__(), at, late=late)
                with suppress(asyncio.CancelledError):
                    await tried
                if not tried.was_reached:
                    await joining.__aexit__(None, None, None)
                    break
                await until(lambda: is_gone(zks[0], path), "nothing is left")

    run(main())


def test_a_ttl_node_outlives_its_ttl_while_it_is_kept(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            async with zks[0].ttl_node(path, b"1", ttl=0.3) as kept:
                version = (await zks[0].get(path)).version

                async def is_touched() -> bool:
                    return (await zks[0].get(path)).version > version + 1

                await until(is_touched, "it was touched")
                await kept.set(b"2")
                assert (await zks[0].get(path)).data == b"2"
                await zks[0].delete(path)

                async def is_back() -> bool:
                    return await zks[0].exists(path) is not None

                await until(is_back, "it is back")
                with pytest.raises(RuntimeError):
                    await kept.__aenter__()

            async def is_over() -> bool:
                return await zks[0].exists(path) is None

            await until(is_over, "its time has run out")

    run(main())
