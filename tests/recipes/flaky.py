"""A client whose verbs fail as told, before or after they have done what they do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import coati


def loss() -> coati.ConnectionLoss:
    """The connection went, and nobody knows what became of the request."""
    error = coati.ConnectionLoss("the connection was lost")
    error.maybe_applied = True
    return error


class Flaky(coati.Client):
    """`before["create"] = [error]`: the next create raises it and does nothing; `after`: it does all the same.

    None stands for a call that works.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"session_timeout": 20.0, **options})
        # Views share these.
        self.before: dict[str, list[Exception | None]] = {}
        self.after: dict[str, list[Exception | None]] = {}
        self.calls: list[str] = []

    def _fail(self, told: dict[str, list[Exception | None]], verb: str) -> None:
        errors = told.get(verb)
        error = errors.pop(0) if errors else None
        if error is not None:
            raise error

    async def create(self, path: str, *args: Any, **options: Any) -> coati.Node:
        self.calls.append("create")
        self._fail(self.before, "create")
        node = await super().create(path, *args, **options)
        self._fail(self.after, "create")
        return node

    async def delete(self, path: str, **options: Any) -> None:
        self.calls.append("delete")
        self._fail(self.before, "delete")
        await super().delete(path, **options)
        self._fail(self.after, "delete")

    async def multi(self, ops: Iterable[coati.Op]) -> list[coati.OpResult]:
        self.calls.append("multi")
        self._fail(self.before, "multi")
        results = await super().multi(ops)
        self._fail(self.after, "multi")
        return results

    async def children(self, path: str, **options: Any) -> list[str]:
        self._fail(self.before, "children")
        return await super().children(path, **options)

    async def get(self, path: str, **options: Any) -> coati.Node:
        self._fail(self.before, "get")
        return await super().get(path, **options)

    async def sync(self, path: str = "/") -> int:
        self._fail(self.before, "sync")
        return await super().sync(path)
