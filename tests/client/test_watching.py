"""Triggers and watches by themselves: who waits is woken, nothing is lost without a mark, nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from coati.client.streams import Feed
from coati.client.types import Event, EventType
from coati.client.watching import Trigger, Watch
from tests.client.livekit import run

CHANGED, RESYNC = EventType.CHANGED, EventType.RESYNC


def show(path: bytes) -> str:
    return path.decode().upper()


class Server:
    """Arms a watch at once, and counts who comes and goes."""

    def __init__(self) -> None:
        self.armed = 0
        self.released = 0
        self.failure: Exception | None = None

    async def arm(self, watch: Watch) -> None:
        self.armed += 1
        if self.failure is not None:
            raise self.failure

    def release(self, watch: Watch) -> None:
        self.released += 1

    def watch(self, buffer: int = 8) -> Watch:
        return Watch(self.arm, path="/P", show=show, release=self.release, buffer=buffer)


def test_trigger_waits_for_its_event_and_can_be_armed_again() -> None:
    async def scene() -> None:
        trigger = Trigger()
        released: list[int] = []
        trigger.arm(show, lambda: released.append(1))
        both = [asyncio.create_task(trigger.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in both)
        trigger.on_event(CHANGED, b"/a", 5)
        assert await asyncio.gather(*both) == [Event(CHANGED, "/A", 5)] * 2
        assert await trigger.wait(0) == Event(CHANGED, "/A", 5)
        trigger.close()
        assert released == [], "the server has forgotten it by firing"
        trigger.arm(show, lambda: released.append(2))
        assert not trigger.has_fired
        async with trigger:
            pass
        trigger.close()
        assert released == [2]

    run(scene)


def test_trigger_that_fires_before_somebody_waits_keeps_its_event() -> None:
    async def scene() -> None:
        trigger = Trigger()
        trigger.on_event(CHANGED, b"/a", 5)
        assert await trigger.wait() == Event(CHANGED, "/a", 5)

    run(scene)


def test_trigger_times_out_for_one_and_not_for_the_other() -> None:
    async def scene() -> None:
        trigger = Trigger()
        patient = asyncio.create_task(trigger.wait())
        with pytest.raises(TimeoutError):
            await trigger.wait(0.001)
        trigger.on_event(CHANGED, b"/a", 5)
        assert (await patient).zxid == 5

    run(scene)


def test_closed_trigger_wakes_whoever_waits() -> None:
    async def scene() -> None:
        trigger = Trigger()
        waiting = asyncio.create_task(trigger.wait())
        await asyncio.sleep(0)
        trigger.close()
        assert (await waiting).type is RESYNC
        assert not trigger.has_fired

    run(scene)


def test_watch_tells_events_in_order_to_a_slow_reader() -> None:
    async def scene() -> None:
        server = Server()
        async with server.watch() as events:
            for zxid in range(5):
                events.on_event(CHANGED, b"/a", zxid)
            assert [(await events.poll(0)).zxid for _ in range(5)] == [0, 1, 2, 3, 4]
            waiting = asyncio.create_task(events.poll())
            await asyncio.sleep(0)
            events.on_event(CHANGED, b"/b", 9)
            assert await waiting == Event(CHANGED, "/B", 9)
            assert events.gaps == 0
        assert (server.armed, server.released) == (1, 1)

    run(scene)


@pytest.mark.parametrize("buffer", [1, 2, 3])
def test_watch_that_runs_over_drops_the_oldest_and_marks_the_gap(buffer: int) -> None:
    async def scene() -> None:
        async with Server().watch(buffer) as events:
            for zxid in range(10):
                events.on_event(CHANGED, b"/a", zxid)
            first = await events.poll(0)
            assert (first.type, first.path) == (RESYNC, "/P")
            rest = [(await events.poll(0)).zxid for _ in range(buffer - 1)]
            assert rest == list(range(11 - buffer, 10))
            assert events.gaps == 1
            assert events.take() is None
            events.on_event(CHANGED, b"/a", 11)
            assert events.take() == Event(CHANGED, "/A", 11)

    run(scene)


def test_marks_of_gaps_that_nobody_read_are_one() -> None:
    async def scene() -> None:
        async with Server().watch(3) as events:
            for _ in range(3):
                events.on_event(RESYNC, b"/p", 4)
            events.on_event(CHANGED, b"/a", 5)
            events.on_event(RESYNC, b"/p", 6)
            assert [events.take() for _ in range(4)] == [
                Event(RESYNC, "/P", 4),
                Event(CHANGED, "/A", 5),
                Event(RESYNC, "/P", 6),
                None,
            ]
            assert events.gaps == 4

    run(scene)


def test_overflow_into_a_mark_keeps_it() -> None:
    async def scene() -> None:
        async with Server().watch(2) as events:
            for type in (CHANGED, RESYNC, CHANGED):
                events.on_event(type, b"/a", 1)
            assert [event.type for event in (await events.poll(0), await events.poll(0))] == [RESYNC, CHANGED]

    run(scene)


def test_watch_is_iterated_inside_its_block() -> None:
    async def scene() -> None:
        events = Server().watch()
        with pytest.raises(RuntimeError, match="async with"):
            await events.poll(0)
        with pytest.raises(ValueError, match="at least one"):
            Server().watch(0)

    run(scene)


def test_closed_watch_tells_what_it_has_and_ends() -> None:
    async def scene() -> None:
        server = Server()
        async with server.watch() as events:
            events.on_event(CHANGED, b"/a", 1)
            events.close()
            assert [event.zxid async for event in events] == [1]
        assert server.released == 1

    run(scene)


def test_ended_watch_wakes_its_reader_and_releases_nothing() -> None:
    """The client has come to its end: no server is left to be told."""

    async def scene() -> None:
        server = Server()
        async with server.watch() as events:
            waiting = asyncio.create_task(anext(events, None))
            await asyncio.sleep(0)
            events.end()
            assert await waiting is None
        assert server.released == 0

    run(scene)


def test_watch_that_cannot_be_armed_is_released() -> None:
    async def scene() -> None:
        server = Server()
        server.failure = OSError("no")
        with pytest.raises(OSError, match="no"):
            async with server.watch():
                pass
        assert server.released == 1

    run(scene)


def test_cancelled_reader_loses_no_event() -> None:
    async def scene() -> None:
        feed = Feed[Event](4, marker=lambda event: event)
        for steps in range(4):
            waiting = asyncio.create_task(anext(feed))
            await asyncio.sleep(0)
            feed.put(Event(CHANGED, "/a", steps))
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await feed.poll(0)).zxid == steps

    run(scene)
