"""What recipes have in common: bells that ring when to read again, feeds of news, marked znodes.

Knows how a znode is found again whose answer was lost. Must not know what it stands for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from coati.client.client import BaseClient
from coati.client.types import EventType, Mode, Node, join_path
from coati.client.watching import Trigger
from coati.errors import ConnectionLoss, NoNode, ZKError
from coati.recipes.held import MARGIN

# How often a znode is made again whose parent somebody takes away in between.
ROUNDS: Final = 10
# What a slow reader of a Feed may leave unread; the oldest go.
FEED_AT_MOST: Final = 64
_WRAP: Final = 1 << 32

T = TypeVar("T")


def mark(client: BaseClient) -> str:
    """A name that nobody else has: 32 hexadecimal digits."""
    return f"{client.entropy.getrandbits(128):032x}"


def patient(client: BaseClient) -> BaseClient:
    """A view that waits for a connection for as long as it takes: whoever waits for others has no time of its own."""
    return client.with_options(timeout=None)


class Bell:
    """Rings when something that hangs on it has changed, and when the session is over: then read again.

    `with Bell(client) as bell`, and in a loop: `reset`, read with `watch=bell.rope()`, decide, `await bell.wait()`.
    """

    def __init__(self, client: BaseClient) -> None:
        self._client = client
        self._rung = asyncio.Event()
        self._ropes: list[Trigger] = []
        self._stop: Callable[[], None] | None = None

    def rope(self) -> Trigger:
        """A new one-shot watch that rings."""
        rope = _Rope(self)
        self._ropes.append(rope)
        return rope

    def reset(self) -> None:
        """Before reading: forgets what has rung, and takes back the watches that have not."""
        ropes, self._ropes = self._ropes, []
        for rope in ropes:
            rope.close()
        self._rung.clear()

    def ring(self) -> None:
        """Somebody should look."""
        self._rung.set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Whether it has rung within so many seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        except TimeoutError:
            return False
        return True

    def __enter__(self) -> Self:
        self._stop = self._client.session.on_end(lambda _: self.ring())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stop is not None:
            self._stop()
        self.reset()


class _Rope(Trigger):
    __slots__ = ("_bell",)

    def __init__(self, bell: Bell) -> None:
        super().__init__()
        self._bell = bell

    def on_event(self, type: EventType, path: bytes, zxid: int) -> None:
        super().on_event(type, path, zxid)
        self._bell.ring()


class Feed(Generic[T]):
    """News for whoever iterates, from then on. A slow reader keeps the newest 64."""

    def __init__(self) -> None:
        self._readers: list[asyncio.Queue[T | None]] = []
        self._is_over = False

    def tell(self, news: T) -> None:
        """To all who iterate now."""
        for reader in self._readers:
            if reader.full():
                reader.get_nowait()
            reader.put_nowait(news)

    def end(self) -> None:
        """There will be no more."""
        self._is_over = True
        for reader in self._readers:
            if reader.full():
                reader.get_nowait()
            reader.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[T]:
        if self._is_over:
            return
        reader: asyncio.Queue[T | None] = asyncio.Queue(FEED_AT_MOST)
        self._readers.append(reader)
        try:
            while (news := await reader.get()) is not None:
                yield news
        finally:
            self._readers.remove(reader)


async def insist(client: BaseClient, work: Callable[[], Awaitable[None]]) -> None:
    """Does what must be done while the session lives: now, or else behind the caller's back until it has worked."""
    session_id = client.session.id
    try:
        await work()
    except asyncio.CancelledError:
        insist_later(client, work, session_id)
        raise
    except ZKError:
        insist_later(client, work, session_id)


def insist_later(client: BaseClient, work: Callable[[], Awaitable[None]], session_id: int | None) -> None:
    """The same without waiting, for a caller that is being cancelled. Without a session it goes on in the next one."""

    async def persist() -> None:
        while session_id in (None, client.session.id) and not client.is_closed:
            try:
                await work()
            except ZKError:
                # Only a new connection can help, and the client is looking for one.
                await asyncio.sleep(client.session.timeout * MARGIN)
            else:
                return

    if not client.is_closed:
        client.spawn(persist())


async def create_marked(client: BaseClient, parent: str, name: str, data: bytes) -> Node:
    """Makes a sequential znode that stays and whose name begins with a mark of ours; `name` is all but the digits.

    If the answer is lost it is looked for; a caller that is cancelled, or whose time is up, leaves none behind.
    """
    unclear = False
    try:
        for _ in range(ROUNDS):
            try:
                return await client.create(join_path(parent, name), data, mode=Mode.SEQUENTIAL, parents=True)
            except NoNode:
                # Somebody took the parent away between its making and ours.
                continue
            except ConnectionLoss as loss:
                unclear = unclear or loss.maybe_applied
                node = await _find(client, parent, name)
                if node is not None:
                    return node
                if unclear:
                    # Not made, or made and taken by somebody in between: made again, it might be there twice.
                    raise
    except BaseException as error:
        if isinstance(error, ZKError):
            error.maybe_applied = error.maybe_applied or unclear
        if not isinstance(error, ZKError) or error.maybe_applied:

            async def sweep() -> None:
                left = await _find(client, parent, name)
                if left is not None:
                    await client.delete(left.path, missing_ok=True)

            insist_later(client, sweep, None)
        raise
    raise NoNode(parent)


async def _find(client: BaseClient, parent: str, name: str) -> Node | None:
    # A server that lags behind may not have heard of it yet.
    await client.sync(parent)
    for found in await children_of(client, parent):
        if found.startswith(name):
            try:
                return await client.get(join_path(parent, found))
            except NoNode:
                return None
    return None


async def children_of(client: BaseClient, path: str, *, bell: Bell | None = None) -> list[str]:
    """The names, none if the parent is not there; the bell rings when they change or the parent comes."""
    while True:
        try:
            return await client.children(path, watch=bell.rope() if bell else None)
        except NoNode:
            if bell is None or await client.exists(path, watch=bell.rope()) is None:
                return []


def wrap_base(numbers: Iterable[int]) -> int:
    """The least possible number: smaller ones were counted after the overflow."""
    some = list(numbers)
    is_wrapped = bool(some) and max(some) - min(some) >= _WRAP // 2
    return 0 if is_wrapped else -_WRAP // 2
