"""What the shell's commands changed, so that `undo` can take the last of it back.

Knows the client's verbs for changes, and reads what was there before each; must not know commands. What is kept is
bounded; what cannot be taken back says why. A change is taken back only if nobody has changed the same since.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from coati.client.ops import Check, Create, Delete, Op, OpResult, Set
from coati.client.session import Call
from coati.client.types import ANY, AclInfo, ACLs, Mode, Node, Stat
from coati.errors import KeeperError, NoAuth, NoNode
from coati.recipes.client import Client

MOST_ENTRIES: Final = 20
MOST_ZNODES: Final = 1000
# All of an entry has to fit into one multi, which servers take up to 1 MB (jute.maxbuffer).
MOST_BYTES: Final = 512 << 10


@dataclass(frozen=True, slots=True)
class SetAcl:
    """An ACL as it was; `version` is that of the ACL since our change."""

    path: str
    acl: ACLs
    version: int


@dataclass(slots=True)
class Entry:
    """One line's changes, each as what takes it back; `lost` says why that cannot be done."""

    line: str
    steps: list[Op | SetAcl] = field(default_factory=list)
    lost: str = ""
    kept_bytes: int = 0

    def keep(self, step: Op | SetAcl, size: int = 0) -> None:
        """One more change, unless it is too much."""
        self.kept_bytes += size
        if len(self.steps) >= MOST_ZNODES or self.kept_bytes > MOST_BYTES:
            self.lose(f"more than {MOST_ZNODES} znodes or {MOST_BYTES >> 10} KB were changed")
        else:
            self.steps.append(step)

    def lose(self, why: str) -> None:
        """It cannot be taken back; what was kept goes."""
        self.lost = self.lost or why
        self.steps.clear()


# The line that this task runs; what background jobs change belongs to none.
_now: ContextVar[Entry | None] = ContextVar("entry", default=None)


@dataclass(slots=True)
class Journal:
    """The last lines that changed something."""

    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=MOST_ENTRIES))

    @property
    def now(self) -> Entry | None:
        """Of the line that runs; without one nothing is kept."""
        return _now.get()

    def begin(self, line: str) -> None:
        """What this task, and those that it starts, change from here on is this line's doing."""
        _now.set(Entry(line))

    def end(self) -> None:
        """The line is done."""
        entry = self.now
        if entry is not None and (entry.steps or entry.lost):
            self.entries.append(entry)
        _now.set(None)


class JournalClient(Client):
    """A client that remembers what its changes replaced, and can take them back."""

    journal: Journal

    async def set(self, path: str, data: bytes, *, version: int = ANY) -> Stat:
        """As Client.set."""
        before = await self._before(path)
        stat = await super().set(path, data, version=version)
        self._was_set(path, before, stat)
        return stat

    async def _create(self, op: Create, call: Call) -> Node:
        made = await super()._create(op, call)
        self._keep(Delete(self._whole(made.path), made.stat.version))
        return made

    async def ensure(self, path: str, data: bytes = b"", *, acl: ACLs | None = None) -> bool:
        """As Client.ensure."""
        is_made = await super().ensure(path, data, acl=acl)
        if is_made:
            self._keep(Delete(self._whole(path), 0))
        return is_made

    async def delete(self, path: str, *, version: int = ANY, missing_ok: bool = False) -> None:
        """As Client.delete."""
        before = await self._before_delete(path)
        await super().delete(path, version=version, missing_ok=missing_ok)
        self._was_deleted(path, before)

    async def set_acl(self, path: str, acl: ACLs, *, version: int = ANY) -> Stat:
        """As Client.set_acl."""
        before = await self._acl(path) if self._is_kept() else None
        stat = await super().set_acl(path, acl, version=version)
        if before is not None:
            self._keep(SetAcl(self._whole(path), before.acl, stat.aversion))
        return stat

    async def multi(self, ops: Iterable[Op]) -> list[OpResult]:
        """As Client.multi."""
        listed = list(ops)
        before = await asyncio.gather(*map(self._before_op, listed))
        results = await super().multi(listed)
        for op, was, result in zip(listed, before, results, strict=True):
            if isinstance(op, Create) and isinstance(result, Node):
                self._keep(Delete(self._whole(result.path), 0))
            elif isinstance(op, Set) and isinstance(result, Stat):
                self._was_set(op.path, was[0] if was else None, result)
            elif isinstance(op, Delete):
                self._was_deleted(op.path, was)
        return results

    async def undo(self, entry: Entry) -> None:
        """Takes it back, the last change first. Raises what the servers say, MultiError if something has changed."""
        whole = self.chroot_free()
        ops: list[Op] = []
        for step in reversed(entry.steps):
            if isinstance(step, SetAcl):
                if ops:
                    await whole.multi(ops)
                    ops = []
                await whole.set_acl(step.path, step.acl, version=step.version)
            else:
                ops.append(step)
        if ops:
            await whole.multi(ops)

    # --- what was there -----------------------------------------------------------------------------

    def _is_kept(self) -> bool:
        return self.journal.now is not None and not self.journal.now.lost

    def _whole(self, path: str) -> str:
        """The path without this view's root."""
        return self._absolute(path).decode("utf-8", "surrogateescape")

    def _keep(self, step: Op | SetAcl, size: int = 0) -> None:
        if self.journal.now is not None and not self.journal.now.lost:
            self.journal.now.keep(step, size)

    def _lose(self, why: str) -> None:
        if self.journal.now is not None:
            self.journal.now.lose(why)

    async def _before(self, path: str) -> Node | None:
        if not self._is_kept():
            return None
        try:
            return await self.get(path)
        except (NoNode, NoAuth):
            return None

    async def _acl(self, path: str) -> AclInfo | None:
        try:
            return await self.get_acl(path)
        except KeeperError:
            return None

    async def _before_delete(self, path: str) -> tuple[Node, AclInfo] | None:
        node = await self._before(path)
        acl = None if node is None else await self._acl(path)
        return None if node is None or acl is None else (node, acl)

    async def _before_op(self, op: Op) -> tuple[Node, AclInfo] | None:
        return None if isinstance(op, Create | Check) else await self._before_delete(op.path)

    def _was_set(self, path: str, before: Node | None, stat: Stat) -> None:
        if before is None or stat.version != before.version + 1:
            self._lose(f"what {path} held before could not be read")
        else:
            self._keep(Set(self._whole(path), before.data, stat.version), len(before.data))

    def _was_deleted(self, path: str, before: tuple[Node, AclInfo] | None) -> None:
        if before is None:
            self._lose(f"what {path} held before could not be read")
            return
        node, info = before
        owner = node.stat.ephemeral_owner
        # Servers do not tell who is a container or has a ttl (DataNode.copyStat): such come back to stay.
        mode = Mode.EPHEMERAL if owner else Mode.PERSISTENT
        if owner not in (0, self.session.id):
            self._lose(f"{path} was another session's ephemeral")
        if any(one.scheme == "digest" and one.id.endswith(":x") for one in info.acl):
            # To whom may not change it, the server shows an x in place of the password's hash.
            self._lose(f"the ACL of {path} is not shown to us")
        self._keep(Create(self._whole(path), node.data, mode, None, info.acl), len(node.data) + len(path))
