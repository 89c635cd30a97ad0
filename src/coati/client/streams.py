"""Stream: what all that is iterated with `async for` has in common, whether it tells values or events.

Knows that one consumer at a time asks; must not know where the items come from. No task runs behind a stream: what
nobody asks for is not fetched, so a stream that is only kept costs the server a watch at most.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from coati.client.types import EventType


class Happening(Protocol):
    """One item of a feed; RESYNC marks a gap."""

    @property
    def type(self) -> EventType: ...


T = TypeVar("T")
H = TypeVar("H", bound=Happening)


class Stream(ABC, Generic[T]):
    """`async with ... as stream: async for item in stream`, or `await stream.poll(timeout)` for one item.

    A wait may be cancelled at any time: nothing is lost, the next one goes on. `close` it, or leave the block, and its
    watch is taken back. `gaps` counts how often something may have happened that no item shows.
    """

    def __init__(self) -> None:
        self.gaps: int = 0
        self._is_asked = False

    @abstractmethod
    async def _next(self) -> T:
        """The next item; raises StopAsyncIteration at the end."""

    @abstractmethod
    def close(self) -> None:
        """No more items: whoever iterates comes to the end. Can be repeated."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._is_asked:
            raise RuntimeError("this stream is being read already; open one for each reader")
        self._is_asked = True
        try:
            return await self._next()
        finally:
            self._is_asked = False

    async def poll(self, timeout: float | None = None) -> T:
        """The next item. Raises TimeoutError after so many seconds, StopAsyncIteration at the end of the stream."""
        async with asyncio.timeout(timeout):
            return await self.__anext__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Feed(Stream[H]):
    """What happened, in order, as far as it fits: a RESYNC stands where something is missing.

    At most `buffer` items wait to be read; then the oldest go, and `marker` makes a RESYNC of the next one.
    """

    def __init__(self, buffer: int, *, marker: Callable[[H], H]) -> None:
        super().__init__()
        if buffer < 1:
            raise ValueError("a feed needs room for at least one item")
        self._buffer = buffer
        self._marker = marker
        self._items: deque[H] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._is_over = False

    def put(self, item: H) -> None:
        """One more."""
        items = self._items
        if item.type is EventType.RESYNC:
            self.gaps += 1
            if items and items[-1].type is EventType.RESYNC:
                return
        items.append(item)
        if len(items) > self._buffer:
            if items.popleft().type is not EventType.RESYNC:
                self.gaps += 1
            # The marker stands for itself and all that was dropped before it.
            items[0] = self._marker(items[0])
        self._wake()

    def end(self) -> None:
        """No item will come any more; those that wait can still be read."""
        self._is_over = True
        self._wake()

    def take(self) -> H | None:
        """An item that is there already, or None."""
        return self._items.popleft() if self._items else None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _next(self) -> H:
        while not self._items:
            if self._is_over:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def close(self) -> None:
        """No more items; whoever iterates comes to the end."""
        self.end()
