"""Watches for the caller: Trigger, which waits once, and Watch, a stream of events with a bound and a marker for gaps.

Must not know the wire. Nothing is called back: whoever waits asks, so slow consumers slow nobody but themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from coati.client.streams import Feed
from coati.client.types import Event, EventType


class Trigger:
    """Waits for one change: give it to `get`, `exists` or `children` as `watch=`, then `await trigger.wait()`.

    A lost connection does not fire it: the next server is asked what happened meanwhile. The end of the session, if no
    new one follows, fires it with a RESYNC. A trigger belongs to one request at a time; then it can be given again.
    """

    __slots__ = ("_future", "_release", "_show", "event")

    def __init__(self) -> None:
        self.event: Event | None = None
        self._future: asyncio.Future[Event] | None = None
        self._release: Callable[[], None] | None = None
        self._show: Callable[[bytes], str] = _as_text

    def arm(self, show: Callable[[bytes], str], release: Callable[[], None]) -> None:
        """The client's: how a path is shown, and how the watch is taken back."""
        self.event = None
        self._show = show
        self._release = release

    def on_event(self, type: EventType, path: bytes, zxid: int) -> None:
        """The client's: it has happened."""
        self.event = Event(type, self._show(path), zxid)
        self._release = None
        self._wake(self.event)

    def _wake(self, event: Event) -> None:
        future, self._future = self._future, None
        if future is not None:
            future.set_result(event)

    @property
    def has_fired(self) -> bool:
        """The change has happened."""
        return self.event is not None

    async def wait(self, timeout: float | None = None) -> Event:
        """The event, or a RESYNC when it is closed; raises TimeoutError after so many seconds. Can be asked again."""
        if self.event is not None:
            return self.event
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(timeout):
            # Others may wait for the same.
            return await asyncio.shield(self._future)

    def close(self) -> None:
        """Waits no more; the server is told if nobody else waits for it."""
        release, self._release = self._release, None
        if release is not None:
            release()
        self._wake(Event(EventType.RESYNC, "", -1))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Watch(Feed[Event]):
    """Events of a path, and of all below it if it is recursive: `async with client.watch(path) as events`, `async for`.

    It is armed when the block is entered. A RESYNC event stands where some may be missing: after each reconnect, since
    servers do not report what happened meanwhile, and where more than `buffer` events waited unread (the oldest are
    dropped). Read again what you depend on, then go on. The end of the session ends it, after a RESYNC.
    """

    def __init__(
        self,
        arm: Callable[[Watch], Awaitable[None]],
        *,
        path: str,
        show: Callable[[bytes], str],
        release: Callable[[Watch], None],
        buffer: int,
    ) -> None:
        super().__init__(buffer, marker=lambda oldest: Event(EventType.RESYNC, path, oldest.zxid))
        self._arm = arm
        self._show = show
        self._release = release
        self._is_open = False

    def on_event(self, type: EventType, path: bytes, zxid: int) -> None:
        """The client's: one more."""
        self.put(Event(type, self._show(path), zxid))

    async def _next(self) -> Event:
        if not self._is_open:
            raise RuntimeError("a watch is armed by `async with`; iterate inside")
        return await super()._next()

    def close(self) -> None:
        """No more events; the server is told if nobody else waits for them. Whoever iterates comes to the end."""
        if self._is_open and not self._is_over:
            self._release(self)
        self.end()

    async def __aenter__(self) -> Self:
        try:
            await self._arm(self)
        except BaseException:
            # It may be armed all the same, if this was cancelled late.
            self._release(self)
            raise
        self._is_open = True
        return self


def _as_text(path: bytes) -> str:
    return path.decode("utf-8", "replace")
