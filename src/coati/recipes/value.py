"""Value: a value in a znode that is changed by comparing, and watched as a stream (Curator's SharedValue)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from coati.client.client import BaseClient
from coati.client.types import Node
from coati.recipes.compare import Cell
from coati.recipes.counter import nodes

T = TypeVar("T")


class ValueCodec(Protocol[T]):
    """How a value travels."""

    def encode(self, value: T, /) -> bytes:
        """As the data of a znode."""
        ...

    def decode(self, data: bytes, /) -> T:
        """And back; raises ValueError."""
        ...


class BytesCodec:
    """Bytes as they are."""

    def encode(self, value: bytes, /) -> bytes:
        """As it is."""
        return value

    def decode(self, data: bytes, /) -> bytes:
        """As it is."""
        return data


class Versioned(NamedTuple, Generic[T]):
    """A value, and the znode it was read from: give it to `swap`, and a change in between is noticed."""

    value: T
    node: Node


class Value(Generic[T]):
    """A value in a znode; None where the znode is not there."""

    def __init__(self, client: BaseClient, path: str, codec: ValueCodec[T]) -> None:
        self.path = path
        self._client = client
        self._cell = Cell(client, path)
        self._codec = codec

    async def get(self) -> T | None:
        """Its value, as the server that was asked knows it."""
        seen = await self.read()
        return None if seen is None else seen.value

    async def read(self) -> Versioned[T] | None:
        """The same with what `swap` compares."""
        node = await self._cell.read()
        return None if node is None else Versioned(self._codec.decode(node.data), node)

    async def set(self, value: T) -> None:
        """Whatever it was."""
        await self._client.put(self.path, self._codec.encode(value))

    async def swap(self, seen: Versioned[T] | None, value: T) -> bool:
        """Sets it unless it has changed since `seen` was read, None standing for no znode; whether it was set.

        Raises ConnectionLoss with `maybe_applied` where nobody can tell whether it was done.
        """
        return await self._cell.swap(None if seen is None else seen.node, self._codec.encode(value)) is not None

    async def update(self, fn: Callable[[T | None], T]) -> T:
        """Replaces it by `fn` of it, and again if somebody else was faster; what it is then."""
        failures = 0
        while True:
            seen = await self.read()
            value = fn(None if seen is None else seen.value)
            if await self.swap(seen, value):
                return value
            failures += 1
            await self._cell.pause(failures)

    async def values(self) -> AsyncIterator[T | None]:
        """Its value now, and after each write; a slow reader gets the newest."""
        async for node in nodes(self._client, self.path):
            yield None if node is None else self._codec.decode(node.data)
