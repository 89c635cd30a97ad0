"""Two trees side by side: what differs, and the writes that make one like the other.

Knows entries in order and multis; must not know flags. Neither tree is ever held as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Final, NamedTuple

from coati.cli.dump import Entry, order
from coati.cli.sides import Batches, Side
from coati.client.ops import Create, Delete, Op, Set
from coati.client.types import ACL, OPEN, Perm, parent_path
from coati.recipes.client import Client

# One multi: servers take a megabyte (jute.maxbuffer). How many are under way.
MULTI_OPS: Final = 500
MULTI_BYTES: Final = 512 << 10
OP_BYTES: Final = 100
IN_FLIGHT: Final = 4


class Change(NamedTuple):
    """`sign`: + where only the other has it, - where only this one has, ~ where `what` differs.

    `entry` is the other's, `before` this one's.
    """

    sign: str
    path: str
    what: tuple[str, ...] = ()
    entry: Entry | None = None
    before: Entry | None = None

    def __str__(self) -> str:
        return f"{self.sign} {self.path} {', '.join(self.what)}".rstrip()


class Cursor:
    """One entry after the other."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._entries: list[Entry] = []
        self._at = 0

    async def next(self) -> Entry | None:
        """None at the end."""
        while self._at >= len(self._entries):
            batch = await anext(self._batches, None)
            if batch is None:
                return None
            self._entries, self._at = batch, 0
        self._at += 1
        return self._entries[self._at - 1]

    async def aclose(self) -> None:
        """No more are wanted."""
        await self._batches.aclose()


async def compare(this: Batches, other: Batches, *, kinds: bool = True) -> AsyncGenerator[Change, None]:
    """What must change in this one to make it the other. ACLs are compared where both have them."""
    left, right = Cursor(this), Cursor(other)
    try:
        mine, its = await left.next(), await right.next()
        while mine is not None or its is not None:
            if its is None or (mine is not None and order(mine.path) < order(its.path)):
                assert mine is not None
                yield Change("-", mine.path)
                mine = await left.next()
            elif mine is None or order(its.path) < order(mine.path):
                yield Change("+", its.path, (), its)
                its = await right.next()
            else:
                what = tuple(_differing(mine, its, kinds=kinds))
                if what:
                    yield Change("~", its.path, what, its, mine)
                mine, its = await left.next(), await right.next()
    finally:
        await left.aclose()
        await right.aclose()


def _differing(mine: Entry, its: Entry, *, kinds: bool) -> list[str]:
    what = []
    if mine.data != its.data:
        what.append("data")
    if mine.acl is not None and its.acl is not None and sorted(mine.acl) != sorted(its.acl):
        what.append("acl")
    if kinds and bool(mine.owner) != bool(its.owner):
        what.append("ephemeral" if its.owner else "not ephemeral")
    return what


class Writer:
    """Writes below one path, many znodes in a transaction, several transactions under way. They arrive in order.

    A znode that has an ACL is made with it, but one under which we might not make its children gets, until they are
    there, a line that lets us: for our own identities if we have `identity`, else for all.
    """

    def __init__(self, zk: Client, place: Side, *, identity: bool) -> None:
        self._zk = zk
        self._place = place
        self._helper = ACL(Perm.CREATE | Perm.ADMIN, *(("auth", "") if identity else ("world", "anyone")))
        self._ops: list[Op] = []
        self._size = 0
        self._tasks: list[asyncio.Task[object]] = []
        # Parents whose ACLs are not yet what they will be.
        self._open: list[tuple[str, tuple[ACL, ...]]] = []
        # Waits until it is known whether it has children.
        self._waiting: Entry | None = None
        self.count = 0

    async def apply(self, change: Change) -> None:
        """What `compare` says of this place; of what is to be deleted, the topmost znode only."""
        if change.entry is None:
            await self._settle(change.path)
            await self._flush()
            whole = self._zk.with_options(timeout=None)
            self.count += await whole.delete_tree(self._place.below(change.path))
        elif change.sign == "+":
            await self.create(change.entry)
        else:
            await self._settle(change.path)
            path = self._place.below(change.path)
            if "data" in change.what:
                await self._add(Set(path, change.entry.data), len(change.entry.data))
            if "acl" in change.what and change.entry.acl is not None:
                await self._flush()
                await self._send(self._zk.set_acl(path, change.entry.acl))
            self.count += 1

    async def create(self, entry: Entry) -> None:
        """One that is not there."""
        await self._settle(entry.path)
        self._waiting = entry
        self.count += 1

    async def end(self) -> None:
        """All of it is written. Raises what went wrong, as the others do."""
        await self._settle("")
        await self._flush()
        while self._tasks:
            await self._tasks.pop(0)

    async def abandon(self) -> None:
        """Something went wrong: what is under way ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _settle(self, following: str) -> None:
        """`following` comes next: what waited is made, and parents that it is not below are whole."""
        entry, self._waiting = self._waiting, None
        if entry is not None:
            acl = entry.acl
            if acl is not None and _is_below(following, entry.path) and not _lets_all(acl):
                self._open.append((entry.path, acl))
                acl = (*acl, self._helper)
            op = Create(self._place.below(entry.path), entry.data, mode=entry.mode, ttl=entry.ttl, acl=acl)
            await self._add(op, len(entry.data))
        while self._open and not _is_below(following, self._open[-1][0]):
            path, acl = self._open.pop()
            await self._flush()
            await self._send(self._zk.set_acl(self._place.below(path), acl))

    async def _add(self, op: Op, size: int) -> None:
        size += OP_BYTES + len(op.path)
        if self._ops and (len(self._ops) >= MULTI_OPS or self._size + size > MULTI_BYTES):
            await self._flush()
        self._ops.append(op)
        self._size += size

    async def _flush(self) -> None:
        ops, self._ops, self._size = self._ops, [], 0
        if len(ops) == 1 and isinstance(ops[0], Create):
            # Alone, and not as a multi: a znode may be as large as a request, and the error is a plain one.
            op = ops[0]
            await self._send(self._zk.create(op.path, op.data, mode=op.mode, ttl=op.ttl, acl=op.acl))
        elif ops:
            await self._send(self._zk.multi(ops))

    async def _send(self, work: Coroutine[object, object, object]) -> None:
        self._tasks.append(asyncio.ensure_future(work))
        # The oldest is awaited first, so that what fails is told by the one that was at fault.
        while len(self._tasks) >= IN_FLIGHT:
            await self._tasks.pop(0)
        # It is on its way before anything that comes later.
        await asyncio.sleep(0)


def _is_below(path: str, above: str) -> bool:
    return path != above and path.startswith(f"{above.rstrip('/')}/")


def _lets_all(acl: tuple[ACL, ...]) -> bool:
    return acl == OPEN or any(one.scheme == "world" and one.perms & Perm.CREATE for one in acl)


async def make_parents(zk: Client, path: str) -> None:
    """Those of a path that is to be made."""
    if path != "/":
        await zk.ensure(parent_path(path))


async def delete_all(zk: Client, paths: list[tuple[str, int]]) -> None:
    """Those that still have these versions, children first; paths come parents first. Raises MultiError."""
    while paths:
        some = paths[-MULTI_OPS:]
        del paths[-MULTI_OPS:]
        await zk.multi(Delete(path, version) for path, version in reversed(some))
