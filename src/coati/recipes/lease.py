"""Lease: a right for some time, which outlives its session; taken without waiting (kazoo's NonBlockingLease).

Knows kazoo's layout: `lease_holder` with JSON of holder and end in UTC to the second, changed by whoever holds kazoo's
lock in the same place. It stands on wall clocks that roughly agree, which no recipe can check.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from coati.client.client import BaseClient
from coati.client.types import Node, join_path
from coati.errors import ConnectionLoss
from coati.recipes.compare import Cell
from coati.recipes.line import LOCK, Line
from coati.recipes.wallclock import wall_clock

_HOLDER: Final = "lease_holder"
_VERSION: Final = 1
_FORMAT: Final = "%Y-%m-%dT%H:%M:%S"


class Holder(NamedTuple):
    """Who has a lease, and until when."""

    id: str
    end: datetime


class Lease:
    """`if await lease.obtain():` it is ours for `duration` seconds; again, with the same `id`, it is ours for longer.

    With `count`, so many holders may have one at a time (MultiNonBlockingLease). `clock` is the wall clock, in seconds
    since 1970.
    """

    def __init__(
        self,
        client: BaseClient,
        path: str,
        duration: float,
        *,
        id: str,
        count: int | None = None,
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        if duration <= 0:
            raise ValueError("a lease is for some time")
        self.path = path
        self.duration = duration
        self.id = id
        self._client = client
        self._clock = clock
        self._paths = [path] if count is None else [join_path(path, str(number)) for number in range(count)]

    async def obtain(self) -> bool:
        """Takes it, or renews it; whether it is ours now. Waits only for those who are asking at this moment."""
        for path in self._paths:
            if await self._try(path):
                return True
        return False

    async def release(self) -> bool:
        """Gives it up before its time; whether it was ours."""
        for path in self._paths:
            node = await Cell(self._client, join_path(path, _HOLDER)).read()
            holder = _read(node)
            if node is not None and holder is not None and holder.id == self.id:
                await self._client.delete(node.path, version=node.version, missing_ok=True)
                return True
        return False

    async def holders(self) -> list[Holder]:
        """Who has it now."""
        now = self._now()
        found = [_read(await Cell(self._client, join_path(path, _HOLDER)).read()) for path in self._paths]
        return [holder for holder in found if holder is not None and now < holder.end]

    async def _try(self, path: str) -> bool:
        line = Line(self._client, path, LOCK["kazoo"], is_patient=False)
        place = await line.stand("__lock__", self.id.encode())
        try:
            return await self._write(path)
        finally:
            await line.release.delete(place.path)

    async def _write(self, path: str) -> bool:
        cell = Cell(self._client, join_path(path, _HOLDER))
        while True:
            node = await cell.read()
            now = self._now()
            holder = _read(node)
            if node is not None and holder is None:
                # Of a version that we do not know: somebody has it.
                return False
            if holder is not None and holder.id != self.id and now < holder.end:
                return False
            try:
                done = await cell.swap(node, self._told(now))
            except ConnectionLoss:
                # Whoever wrote it, what is there now says whose it is.
                continue
            if done is not None:
                return True

    def _told(self, now: datetime) -> bytes:
        end = now + timedelta(seconds=self.duration)
        return json.dumps({"version": _VERSION, "holder": self.id, "end": end.strftime(_FORMAT)}).encode()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _read(node: Node | None) -> Holder | None:
    if node is None:
        return None
    try:
        told = json.loads(node.data)
        if told["version"] != _VERSION:
            return None
        return Holder(str(told["holder"]), datetime.strptime(told["end"], _FORMAT).replace(tzinfo=UTC))
    except (ValueError, KeyError, TypeError):
        return None
