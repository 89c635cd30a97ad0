"""RWLock: readers together, a writer alone, all in the order of asking.

A reader waits for the writers before it, a writer for all before it. Who holds `upgradable` stands in the line as a
writer, but begins as soon as no writer is before it, and reads beside the readers that still are; `upgrade` waits for
these. So one at a time is upgradable, nothing can stand between it and writing, and readers that come later wait.
Sources: Curator's InterProcessReadWriteLock; kazoo's ReadLock and WriteLock.
"""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from coati.client.client import BaseClient
from coati.client.ops import Create, Delete, MultiError
from coati.client.types import Mode, Node, join_path, parent_path
from coati.errors import ConnectionLoss
from coati.recipes.claim import Claim
from coati.recipes.held import Held, OnLoss, Own, Release
from coati.recipes.line import LAST, READ_WRITE, Contender, Layout, Line

_MARKS: Final[dict[Layout, tuple[str, str]]] = {
    "native": ("-__READ__", "-__WRIT__"),
    "curator": ("-__READ__", "-__WRIT__"),
    "kazoo": ("__rlock__", "__lock__"),
}


class WriteHeld(Held):
    """A writer's hold. After `downgrade` it is a reader's, with another `path` and `token`."""

    def __init__(self, client: BaseClient, node: Node, line: Line, marks: tuple[str, str]) -> None:
        super().__init__(client, node)
        self.is_exclusive = True
        # All the znodes that may be there in its name.
        self.paths = [node.path]
        self._node = node
        self._line = line
        self._read_mark, self._write_mark = marks
        self._moving: asyncio.Task[None] | None = None

    async def downgrade(self) -> None:
        """Goes on as a reader, in the same place of the line: readers behind it come in, no writer can pass.

        It stays exclusive if the numbers of the line have come to their end, since then there is no such place. Raises
        LockLost if it is not held any more.
        """
        self.check()
        if self._line.parse([self._node.name])[0].value == LAST:
            return
        if self._moving is None:
            # Once begun, it is carried to its end, whoever is cancelled.
            self._moving = self._client.spawn(self._move())
        await asyncio.shield(self._moving)
        self.check()

    async def _move(self) -> None:
        patient = self._client.with_options(timeout=None)
        number = self._node.name.rpartition(self._write_mark)[2]
        start = self._line.names.prefix(self._client.unique(), self._read_mark)
        path = join_path(parent_path(self.path), start + number)
        self.paths.append(path)
        old, self.own = self.own, Own(self)
        old.close()
        while True:
            try:
                await patient.multi([Create(path, self._node.data, Mode.EPHEMERAL), Delete(self.path)])
            except (MultiError, ConnectionLoss) as error:
                stat = await patient.exists(path)
                if stat is None and isinstance(error, ConnectionLoss):
                    continue
                if stat is None or stat.ephemeral_owner != self._node.stat.ephemeral_owner:
                    self.lose("its znode is gone")
                    return
            break
        stat = await patient.exists(path)
        if stat is not None:
            self.path, self.token = path, stat.czxid
            self.is_exclusive = False
        await self.look()


class UpgradableHeld(WriteHeld):
    """Reads beside the readers that came before it; `upgrade` makes it the only one, `downgrade` a mere reader."""

    def __init__(self, client: BaseClient, node: Node, line: Line, marks: tuple[str, str]) -> None:
        super().__init__(client, node, line, marks)
        self.is_exclusive = False

    async def upgrade(self, *, timeout: float | None = None) -> None:
        """Waits for the readers that came before. Raises LockTimeout after so many seconds: then it still reads.

        Raises LockLost if it is not held any more, RuntimeError after `downgrade`.
        """
        self.check()
        if self.is_exclusive:
            return
        if self._moving is not None:
            raise RuntimeError("it was downgraded: another writer may have come in between")
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        marks = (self._read_mark, self._write_mark)
        if not await self._line.wait_behind(self._node, self._write_mark, marks, deadline):
            self.lose("its znode is gone")
        self.check()
        self.is_exclusive = True


W = TypeVar("W", bound=WriteHeld)


class _Read(Claim[Held]):
    """A reader."""

    def __init__(self, lock: RWLock, *, timeout: float | None, on_loss: OnLoss, reentrant: bool) -> None:
        super().__init__(lock.client, timeout=timeout, on_loss=on_loss, reentrant=reentrant)
        self._lock = lock

    async def _win(self, deadline: float | None, *, waits: bool) -> Held | None:
        lock = self._lock
        node = await lock.line.win(lock.marks[0], lock.id, deadline, waits=waits)
        return None if node is None else Held(self._client, node)

    async def _free(self, held: Held) -> None:
        await Release(self._client).delete(held.path)


class _Write(Claim[W]):
    """A writer, or one that may become one: `kind` says which, `behind` for whom it waits."""

    def __init__(
        self,
        lock: RWLock,
        kind: type[W],
        behind: tuple[str, ...],
        *,
        timeout: float | None,
        on_loss: OnLoss,
        reentrant: bool,
    ) -> None:
        super().__init__(lock.client, timeout=timeout, on_loss=on_loss, reentrant=reentrant)
        self._lock = lock
        self._kind = kind
        self._behind = behind

    async def _win(self, deadline: float | None, *, waits: bool) -> W | None:
        lock = self._lock
        node = await lock.line.win(lock.marks[1], lock.id, deadline, waits=waits, behind=self._behind)
        return None if node is None else self._kind(self._client, node, lock.line, lock.marks)

    async def _free(self, held: W) -> None:
        for path in held.paths:
            await Release(self._client).delete(path)


class RWLock:
    """`async with lock.read():`, `async with lock.write() as held:`. Options are those of Lock."""

    def __init__(
        self,
        client: BaseClient,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> None:
        self.client = client
        self.path = path
        self.id = id
        self.line = Line(client, path, READ_WRITE[layout])
        self.marks = _MARKS[layout]
        self._timeout = timeout
        self._on_loss: OnLoss = on_loss
        self._reentrant = reentrant

    def read(self) -> Claim[Held]:
        """A reader's side: waits for the writers before it."""
        return _Read(self, timeout=self._timeout, on_loss=self._on_loss, reentrant=self._reentrant)

    def write(self) -> Claim[WriteHeld]:
        """A writer's side: waits for all before it."""
        return self._writer(WriteHeld, self.marks)

    def upgradable(self) -> Claim[UpgradableHeld]:
        """A reader that may become a writer: waits for the writers before it, and those behind it wait."""
        return self._writer(UpgradableHeld, self.marks[1:])

    async def holders(self) -> list[Contender]:
        """Who holds it and who waits, in order; `mark` tells readers and writers apart."""
        return await self.line.contenders()

    def _writer(self, kind: type[W], behind: tuple[str, ...]) -> Claim[W]:
        return _Write(self, kind, behind, timeout=self._timeout, on_loss=self._on_loss, reentrant=self._reentrant)
