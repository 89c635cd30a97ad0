"""Compare and set that never takes another one's write for its own: what counters and values stand on."""

from __future__ import annotations

import asyncio
from typing import Final

from coati.client.client import BaseClient
from coati.client.retry import Retry
from coati.client.types import Node, Stat
from coati.errors import BadVersion, ConnectionLoss, NodeExists, NoNode

# Between two tries that somebody else was faster than.
_PAUSES: Final = Retry(base=0.002, cap=0.1)


class Cell:
    """The data of one znode, changed by its version."""

    def __init__(self, client: BaseClient, path: str) -> None:
        self.path = path
        self._client = client
        # The client would repeat a write whose answer was lost, and take an equal one of somebody else for it.
        self._once = client.with_options(retry=Retry.NONE)

    async def read(self) -> Node | None:
        """None if it is not there."""
        try:
            return await self._client.get(self.path)
        except NoNode:
            return None

    async def swap(self, seen: Node | None, data: bytes) -> Stat | None:
        """Puts `data` in the place of what was seen; None if that is not what is there any more.

        Raises ConnectionLoss with `maybe_applied` where nobody can tell whether it was done.
        """
        try:
            if seen is None:
                return (await self._once.create(self.path, data, parents=True)).stat
            return await self._once.set(self.path, data, version=seen.version)
        except (BadVersion, NodeExists, NoNode):
            return None
        except ConnectionLoss as loss:
            if not loss.maybe_applied or await self._is_undone(seen, data):
                return None
            raise

    async def _is_undone(self, seen: Node | None, data: bytes) -> bool:
        # What the old connection still had in flight is refused once the session has moved here.
        await self._client.sync(self.path)
        now = await self.read()
        if seen is None:
            # Never written to since it was made, with other data: it was not we who made it.
            return now is None or (now.version == 0 and now.data != data)
        if now is None:
            return False
        if now.stat.czxid != seen.stat.czxid:
            return False
        # One write later with other data: that write was not ours, and ours needed the version before.
        return now.version == seen.version or (now.version == seen.version + 1 and now.data != data)

    async def pause(self, failures: int) -> None:
        """After so many lost races, a random while."""
        await asyncio.sleep(_PAUSES.pause_s(failures, self._client.entropy.random))
