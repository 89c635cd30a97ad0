"""Watches on a live server: gaps are marked, sessions renewed, neighbours left alone, old servers named."""

from __future__ import annotations

import asyncio

import pytest

import coati
from coati.client.cache import TreeCache
from coati.client.types import EventType, WatchMode
from coati.client.watching import Watch
from coati.errors import Unimplemented
from tests.client.livekit import client, expire, relay, run


def test_watch_marks_a_lost_connection_and_goes_on(port: int, top: str) -> None:
    async def scene() -> None:
        async with (
            relay(port) as gate,
            client(gate) as zk,
            client(port) as other,
            zk.watch(top, recursive=True) as events,
            zk.watch(top) as flat,
        ):
            await other.create(top)
            assert (await events.poll(10)).type is EventType.CREATED
            gate.cut()
            await zk.wait_for(coati.State.SUSPENDED, timeout=10)
            await other.set(top, b"unseen")
            gate.heal()
            event = await events.poll(10)
            assert (event.type, event.path) == (EventType.RESYNC, top)
            # The mark comes before the server has the watch again; what is read after the mark is answered after that.
            assert (await zk.get(top)).data == b"unseen"
            await other.create(f"{top}/a")
            event = await events.poll(10)
            assert (event.type, event.path) == (EventType.CREATED, f"{top}/a")
            assert (events.gaps, flat.gaps) == (1, 1)
            assert [(await flat.poll(10)).type.name for _ in range(3)] == ["CREATED", "RESYNC", "CHILDREN"]

    run(scene)


def test_watch_goes_on_with_a_new_session(port: int, top: str) -> None:
    async def scene() -> None:
        async with relay(port) as gate, client(gate) as zk, client(port) as other, zk.watch(top) as events:
            await expire(zk, gate, port)
            assert (await events.poll(10)).type is EventType.RESYNC
            assert await zk.exists(top) is None
            await other.create(top)
            assert (await events.poll(10)).type is EventType.CREATED

    run(scene)


def test_trigger_goes_on_with_a_new_session(port: int, top: str) -> None:
    """Also where the change came between the two sessions."""

    async def scene() -> None:
        async with relay(port) as gate, client(gate) as zk, client(port) as other:
            soon, late = coati.Trigger(), coati.Trigger()
            await zk.exists(top, watch=soon)
            await zk.exists(f"{top}/late", watch=late)
            gate.cut()
            await zk.wait_for(coati.State.SUSPENDED, timeout=10)
            await other.create(top)
            await expire(zk, gate, port)
            assert (await soon.wait(10)).type is EventType.CREATED
            assert not late.has_fired
            await other.create(f"{top}/late")
            assert (await late.wait(10)).type is EventType.CREATED

    run(scene)


def test_the_last_of_two_watches_takes_the_servers(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            async with zk.watch(top) as kept:
                async with zk.watch(top) as closed:
                    pass
                await other.create(top)
                assert (await kept.poll(10)).type is EventType.CREATED
                assert await anext(closed, None) is None
            assert len(zk._core.machine.watches) == 0

    run(scene)


def test_trigger_that_is_closed_while_another_is_armed(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await other.create(top)
            for _ in range(20):
                first, second = coati.Trigger(), coati.Trigger()
                await zk.get(top, watch=first)
                arming = asyncio.create_task(zk.get(top, watch=second))
                await asyncio.sleep(0)
                first.close()
                await arming
                await other.set(top, b"x")
                assert (await second.wait(10)).type is EventType.CHANGED
                assert not first.has_fired

    run(scene)


def test_burst_that_a_slow_reader_cannot_hold_is_marked(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, zk.watch(top, recursive=True, buffer=10) as events:
            await zk.create(top)
            await asyncio.gather(*(zk.create(f"{top}/{number}") for number in range(50)))
            await zk.sync()
            first = await events.poll(10)
            assert (first.type, first.path) == (EventType.RESYNC, top)
            seen = [await events.poll(10) for _ in range(9)]
            assert [event.path for event in seen] == [f"{top}/{number}" for number in range(41, 50)]
            assert events.gaps == 1

    run(scene)


class Old:
    """A client of a server before 3.6."""

    def __init__(self, zk: coati.Client) -> None:
        self._zk = zk

    def __getattr__(self, name: str) -> object:
        return getattr(self._zk, name)

    def watch(
        self, path: str, *, recursive: bool = False, mode: WatchMode = WatchMode.PERSISTENT, buffer: int = 1024
    ) -> Watch:
        async def arm(watch: Watch) -> None:
            raise Unimplemented(path)

        return Watch(arm, path=path, show=bytes.decode, release=lambda watch: None, buffer=buffer)


def test_cache_says_which_servers_it_needs(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            cache = TreeCache(Old(zk), top)  # type: ignore[arg-type]  # it has what zk has
            with pytest.raises(Unimplemented, match=r"before 3\.6"):
                async with cache:
                    pass
            assert zk._core.pump._tasks == {}

    run(scene)
