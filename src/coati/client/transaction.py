"""Transaction: gathers the operations of one multi."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

from coati.client.ops import Check, Create, Delete, Op, OpResult, Set
from coati.client.types import ANY, ACLs, Mode


class Transaction:
    """`async with client.transaction() as t: t.create(...); t.set(...)`. The end of the block sends it, once.

    `results` then has one entry for each operation. A block that raises sends nothing. Raises MultiError.
    """

    def __init__(self, send: Callable[[Iterable[Op]], Awaitable[list[OpResult]]]) -> None:
        self._send = send
        self.ops: list[Op] = []
        self.results: list[OpResult] | None = None

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        mode: Mode = Mode.PERSISTENT,
        ttl: float | None = None,
        acl: ACLs | None = None,
    ) -> None:
        """Its result is a Node."""
        self.ops.append(Create(path, data, mode, ttl, acl))

    def set(self, path: str, data: bytes, *, version: int = ANY) -> None:
        """Its result is a Stat."""
        self.ops.append(Set(path, data, version))

    def delete(self, path: str, *, version: int = ANY) -> None:
        """Its result is None."""
        self.ops.append(Delete(path, version))

    def check(self, path: str, *, version: int = ANY) -> None:
        """Nothing happens unless the znode is there and has this version."""
        self.ops.append(Check(path, version))

    def add(self, op: Op) -> None:
        """An operation made elsewhere, as the guard of a lock."""
        self.ops.append(op)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self.ops:
            self.results = await self._send(self.ops)
