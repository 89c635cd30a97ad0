"""Elections: one leader, in the order of standing, lost before somebody else can have it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TypeVar

import pytest

import coati
from coati.recipes.election import ElectionLayout
from tests.interop import peers
from tests.interop.peers import Server
from tests.recipes.livekit import CancelAt, clients, expire, names, run, until, until_queued

T = TypeVar("T")
LAYOUTS: list[ElectionLayout] = ["native", "kazoo", "curator", "curator-selector"]


async def first(stream: AsyncIterator[T]) -> T:
    """The next value of a stream that goes on."""
    return await anext(stream)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_leaders_follow_each_other_in_the_order_of_standing(server: Server, path: str, layout: ElectionLayout) -> None:
    async def main() -> None:
        led: list[bytes] = []
        tokens: list[int] = []

        async def stand(zk: coati.Client, id: bytes) -> None:
            async with zk.election(path, id=id, layout=layout) as term:
                assert term.is_held
                led.append(id)
                tokens.append(term.token)
                await zk.multi([term.guard(), coati.Set(path, id)])

        async with clients(server, 3) as zks, asyncio.TaskGroup() as group:
            async with zks[0].election(path, id=b"0", layout=layout) as term:
                for number in (1, 2):
                    group.create_task(stand(zks[number], b"%d" % number))
                    await until_queued(zks[0], path, number + 1)
                found = await zks[0].election(path, id=b"", layout=layout).contenders()
                assert [one.id for one in found] == [b"0", b"1", b"2"]
                assert found[0].token == term.token
                assert led == []
            await until(lambda: _is([b"1", b"2"], led), "both have led")
        assert tokens == sorted(tokens)

    run(main())


async def _is(wanted: object, got: object) -> bool:
    return wanted == got


def test_the_body_ends_with_leadership_lost_when_the_session_is_over(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            with pytest.raises(coati.LeadershipLost):  # noqa: PT012  # the block is what raises
                async with zks[0].election(path, id=b"a"):
                    await expire(zks[0], server)
                    await asyncio.Event().wait()
            async with zks[1].election(path, id=b"b") as term:
                term.check()

    run(main())


def test_terms_go_on_after_a_lost_session(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            sessions: list[int] = []

            async def serve() -> None:
                async for term in zks[0].election(path, id=b"a").terms():
                    async with term:
                        sessions.append(zks[0].session.id)
                        await asyncio.Event().wait()

            task = asyncio.ensure_future(serve())
            await until(lambda: _is(1, len(sessions)), "the first term")
            await expire(zks[0], server)
            await until(lambda: _is(2, len(sessions)), "the second term")
            assert sessions[0] != sessions[1]
            task.cancel()
            await asyncio.wait((task,))
            await until(lambda: _is_vacant(zks[1], path), "the office is left")

    run(main())


async def _is_vacant(zk: coati.Client, path: str) -> bool:
    return await names(zk, path) == []


def test_a_body_that_checks_a_lost_term_leads_to_the_next_one(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            terms = 0
            async with aclosing(zks[0].election(path, id=b"a", on_loss="flag").terms()) as run_for:  # type: ignore[type-var]  # an async generator
                async for term in run_for:
                    terms += 1
                    async with term:
                        if terms == 2:
                            break
                        await zks[0].delete(term.path)
                        await term.lost()
                        term.check()
            assert terms == 2

    run(main())


def test_an_error_in_a_term_goes_on(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            with pytest.raises(KeyError):  # noqa: PT012  # the block is what raises
                async for term in zks[0].election(path, id=b"a").terms():
                    async with term:
                        raise KeyError
            assert await names(zks[0], path) == []

    run(main())


def test_a_removed_candidate_stands_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            async with zks[0].election(path, id=b"a"):
                standing = asyncio.ensure_future(anext(zks[1].election(path, id=b"b").terms()))
                await until_queued(zks[0], path, 2)
                second = (await zks[0].election(path, id=b"").contenders())[1]
                await zks[0].delete(second.path)
                await until_queued(zks[0], path, 2)
            term = await standing
            assert term.path != second.path
            await term.end()
            await term.end()
            with pytest.raises(RuntimeError):
                await term.__aenter__()

    run(main())


def test_observers_see_leaders_and_vacancies(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            leaders = zks[1].election(path, id=b"").observe()
            assert await first(leaders) is None
            async with zks[0].election(path, id=b"a") as term:
                assert await first(leaders) == b"a"
                assert await zks[1].election(path, id=b"").leader() == b"a"
                await zks[0].set(term.path, b"renamed")
                assert await first(leaders) == b"renamed"
                term.check()
            assert await first(leaders) is None
            assert await zks[1].election(path, id=b"").leader() is None

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_cancelled_candidates_leave_nothing_behind(server: Server, path: str, late: bool) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            at = 0
            while True:
                at += 1
                async with zks[0].election(path, id=b"a"):
                    waiting = zks[1].election(path, id=b"b")
                    try:
                        async with asyncio.timeout(0.2):
                            tried = CancelAt(waiting.__aenter__(), at, late=late)
                            await tried
                    except asyncio.CancelledError:
                        pass
                    except TimeoutError:
                        break
                    await until_queued(zks[0], path, 1)
            assert at > 3
            await until(lambda: _is_vacant(zks[0], path), "nothing is left")

    run(main())


def test_a_stopped_server_ends_the_term_in_time(path: str) -> None:
    async def main() -> None:
        with peers.running("coati", props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server:
            async with clients(server, 1, session_timeout=0.8) as zks:
                loop = asyncio.get_running_loop()
                deadline = 0.0
                try:
                    with pytest.raises(coati.LeadershipLost):  # noqa: PT012  # the block is what raises
                        async with zks[0].election(path, id=b"a"):
                            os.kill(server.pid, signal.SIGSTOP)
                            deadline = zks[0].session.deadline
                            await asyncio.Event().wait()
                    # Whatever was answered since, nobody else can have been elected yet.
                    assert loop.time() < deadline + 0.8
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                async with zks[0].election(path, id=b"a") as term:
                    term.check()

    run(main())


def test_a_loss_is_heard_before_the_server_answers_again(path: str) -> None:
    async def main() -> None:
        with peers.running("coati", props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server:
            async with clients(server, 1, session_timeout=1.0) as zks:
                try:
                    terms = zks[0].election(path, id=b"a").terms()
                    term = await anext(terms)
                    async with term:
                        os.kill(server.pid, signal.SIGSTOP)
                        await asyncio.Event().wait()
                    assert not term.is_held
                finally:
                    os.kill(server.pid, signal.SIGCONT)

    run(main())


def test_one_object_stands_once_at_a_time(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            election = zks[0].election(path, id=b"a")
            async with election:
                with pytest.raises(RuntimeError):
                    await election.__aenter__()

    run(main())
