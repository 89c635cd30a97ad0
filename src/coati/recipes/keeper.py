"""Keeper: keeps a znode there, an ephemeral one across sessions, one with a TTL before its time is up.

Knows which sessions were ours. Must not know what the znode says.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from coati.client.client import BaseClient
from coati.client.types import Mode
from coati.errors import ClientClosed, ConnectionLoss, KeeperError, NodeExists, NoNode, SessionExpired, ZKError
from coati.recipes.marks import Bell, Feed, insist, patient

# A TTL is renewed when this share of it has passed.
TOUCH: Final = 1 / 3


class EphemeralKeeper:
    """An ephemeral znode that is made again whenever it goes, as long as the block lasts.

    Entering waits until it is there; if another session has the name, until that one is over. `lost` tells, as an
    async iterator of reasons, when it had to be made again: in between it was not there.
    """

    def __init__(self, client: BaseClient, path: str, data: bytes = b"") -> None:
        self.path = path
        self.data = data
        self.lost: Feed[str] = Feed()
        self._client = client
        # Sessions of this client that may still own the znode.
        self._ours: dict[int, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._is_there = False
        # What was written last, as far as the client knows.
        self._sent: bytes | None = None

    @property
    def is_there(self) -> bool:
        """As far as the client knows."""
        return self._is_there

    async def set(self, data: bytes) -> None:
        """Changes the data, also of the znodes to come. Raises NoAuth; a znode that is gone comes with the new data."""
        self.data = data
        with suppress(NoNode):
            await self._client.set(self.path, data)
            self._sent = data

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("this znode is kept already")
        self._ready = asyncio.get_running_loop().create_future()
        self._task = self._client.spawn(self._run(self._ready))
        try:
            await self._ready
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._is_there = False
        self.lost.end()
        await insist(self._client, self._remove)

    async def _remove(self) -> None:
        # What the task sent last comes before this, also over a connection that is gone.
        await self._client.sync(self.path)
        stat = await self._client.exists(self.path)
        if stat is not None and self._is_ours(stat.ephemeral_owner):
            await self._client.delete(self.path, missing_ok=True)

    def _is_ours(self, owner: int) -> bool:
        return owner in self._ours or owner == self._client.session.id

    async def _run(self, ready: asyncio.Future[None]) -> None:
        try:
            with Bell(self._client) as bell:
                while True:
                    bell.reset()
                    if await self._make_sure(bell):
                        if not ready.done():
                            ready.set_result(None)
                        await bell.wait()
        except (KeeperError, ClientClosed) as error:
            # Nobody can help here: the client is closed, or the ACL forbids it.
            self._is_there = False
            self.lost.tell(str(error))
            self.lost.end()
            if not ready.done():
                ready.set_exception(error)

    async def _make_sure(self, bell: Bell) -> bool:
        """Whether there is nothing to do but to wait."""
        client = patient(self._client)
        try:
            stat = await client.exists(self.path, watch=bell.rope())
            if stat is not None and stat.ephemeral_owner == client.session.id:
                self._ours[stat.ephemeral_owner] = None
                self._is_there = True
                if self._sent != self.data:
                    await self._write(client)
                return True
            if self._is_there:
                self._is_there = False
                self.lost.tell("its session is over" if client.session.id not in self._ours else "it was deleted")
            if stat is None:
                self._sent = self.data
                await client.create(self.path, self._sent, mode=Mode.EPHEMERAL, parents=True)
            elif stat.ephemeral_owner in self._ours:
                # Our own, of a session that we have given up before the server has.
                await client.delete(self.path, missing_ok=True)
            else:
                await bell.wait()
        except (NodeExists, NoNode):
            pass
        except SessionExpired:
            if client.is_closed:
                raise
        except KeeperError:
            raise
        except ZKError:
            # A lost answer: the next look shows what has come of it.
            if client.is_closed:
                raise
        return False

    async def _write(self, client: BaseClient) -> None:
        # Set while it was being made, or with a lost answer.
        data = self.data
        await client.set(self.path, data)
        self._sent = data


class TtlKeeper:
    """A znode with a TTL that is touched in time as long as the block lasts; after it, the TTL runs out by itself.

    Needs a server with extended types, which coati has. `set` changes the data.
    """

    def __init__(self, client: BaseClient, path: str, data: bytes = b"", *, ttl: float) -> None:
        self.path = path
        self.data = data
        self.ttl = ttl
        self._client = client
        self._task: asyncio.Task[None] | None = None

    async def set(self, data: bytes) -> None:
        """Changes the data, which also begins a new TTL."""
        self.data = data
        await self._touch()

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("this znode is kept already")
        await self._touch()
        self._task = self._client.spawn(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self) -> None:
        while not self._client.is_closed:
            await asyncio.sleep(self.ttl * TOUCH)
            try:
                await self._touch()
            except ZKError:
                # Tried again after a third of the TTL; if it runs out meanwhile, the znode is made again.
                continue

    async def _touch(self) -> None:
        while True:
            # Twice does no harm, so a lost answer is no reason to stop.
            with suppress(NoNode, ConnectionLoss):
                await self._client.set(self.path, self.data)
                return
            with suppress(NodeExists, ConnectionLoss):
                await self._client.create(self.path, self.data, ttl=self.ttl, parents=True)
                return
