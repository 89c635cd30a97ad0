"""Stream: what all that is iterated with `async for` has in common, whether it tells values or events.

Knows that one consumer at a time asks; must not know where the items come from. No task runs behind a stream: what
nobody asks for is not fetched, so a stream that is only kept costs the server a watch at most.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Stream(ABC, Generic[T]):
    """`async with ... as stream: async for item in stream`, or `await stream.poll(timeout)` for one item.

    A wait may be cancelled at any time: nothing is lost, the next one goes on. `close` it, or leave the block, and its
    watch is taken back. `gaps` counts how often something may have happened that no item shows.
    """

    def __init__(self) -> None:
        self.gaps = 0
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
