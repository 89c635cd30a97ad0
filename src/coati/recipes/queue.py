"""Queue: items that wait, each held by one consumer while it works, and back in their place if that one dies.

An item is taken by one multi that makes its ephemeral in `taken/` and rewrites the entry, and done by one that deletes
both: the entry's version counts how often it was taken, so that whoever has lost it cannot delete what another one
holds by now. Without a place for the ephemeral (kazoo's Queue, Curator's without a lock path) an item is deleted when
it is taken, and one whose consumer dies is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Self

from coati.client.client import BaseClient
from coati.client.ops import Check, Create, Delete, MultiError, Op, Set
from coati.client.retry import Retry
from coati.client.types import Mode, Node, join_path
from coati.errors import BAD_VERSION, NO_NODE, NODE_EXISTS, BadVersion, ConnectionLoss, LockLost, NoNode
from coati.recipes.held import OnLoss
from coati.recipes.marks import Bell, children_of, create_marked, insist, insist_later, mark, patient
from coati.recipes.queuelayout import PRIORITY, PRIORITY_MAX, SHAPES, QueueLayout, fixed_id, id_of
from coati.recipes.tenure import Tenure
from coati.recipes.wallclock import wall_clock

_SOMEBODY_ELSE: Final = (BAD_VERSION, NO_NODE, NODE_EXISTS)


class Item:
    """One item. `async with item` deletes it at the end of the block, or gives it back if the block raises.

    `data`; `parts` are all that one entry of Curator's brings along; `attempts` is how often it was taken, this time
    included; 0 in queues that do not hold.
    """

    def __init__(self, parts: list[bytes], *, name: str, attempts: int, hold: _Hold | _Loose) -> None:
        self.parts = parts
        self.name = name
        self.attempts = attempts
        self._hold = hold

    @property
    def data(self) -> bytes:
        """The first part; an entry without parts is empty."""
        return self.parts[0] if self.parts else b""

    @property
    def is_held(self) -> bool:
        """Nobody else can have it now."""
        return self._hold.is_held

    def check(self) -> None:
        """Raises LockLost unless nobody else can have it now."""
        self._hold.check()

    def guard(self) -> Check:
        """For `multi`: refused with NoNode if the item is not held any more. Raises ValueError where nothing holds."""
        return self._hold.guard()

    async def end(self, *, is_done: bool) -> None:
        """Without a block: deletes it, or gives it back. Raises LockLost if it was done too late."""
        await self._hold.end(is_done=is_done)

    async def __aenter__(self) -> Self:
        await self._hold.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hold.__aexit__(kind, error, trace)


class _Hold(Tenure):
    """The ephemeral that stands for the work on an entry."""

    def __init__(self, client: BaseClient, node: Node, entry: str, *, version: int, on_loss: OnLoss) -> None:
        super().__init__(patient(client), node, on_loss=on_loss, goes_on=False)
        self._hurried = client
        self._entry = entry
        self._version = version
        self._stamp = node.data

    async def settle(self, *, is_done: bool) -> None:
        if not is_done:
            await insist(self._hurried, self._give_back)
            return
        session_id = self._client.session.id
        try:
            await self._finish()
        except asyncio.CancelledError:
            insist_later(self._client, self._finish_quietly, session_id)
            raise

    async def _finish_quietly(self) -> None:
        try:
            await self._finish()
        except LockLost:
            # Nobody waits for the news any more.
            return

    async def _give_back(self) -> None:
        if await is_ours(self._hurried, self.path, self._stamp):
            await self._hurried.delete(self.path, missing_ok=True)

    async def _finish(self) -> None:
        once = self._client.with_options(retry=Retry.NONE)
        while True:
            try:
                await once.multi([Delete(self.path), Delete(self._entry, self._version)])
            except MultiError as error:
                if error.code not in _SOMEBODY_ELSE:
                    raise
                raise self._loss("it was given to somebody else before it was done") from error
            except ConnectionLoss:
                await self._client.sync(self._entry)
                is_gone = await self._client.exists(self._entry) is None
                if self._client.session.id != self.owner:
                    # Somebody else may have taken it since, and have been the one who was done with it.
                    raise self._loss("the session is over, and with it what was held") from None
                if is_gone:
                    return
                continue
            return

    def _loss(self, why: str) -> LockLost:
        loss = LockLost(why)
        loss.path = self.path
        return loss


class _Loose:
    """Nothing holds it: it is deleted already, and put back if the work on it fails."""

    is_held = False

    def __init__(self, client: BaseClient, head: str, data: bytes) -> None:
        self._client = client
        self._head = head
        self._data = data
        self._is_over = False

    def check(self) -> None:
        """Nobody else has it, nor ever will."""

    def guard(self) -> Check:
        """There is none."""
        raise ValueError("nothing stands for an item of this queue while it is worked on; see the other layouts")

    async def end(self, *, is_done: bool) -> None:
        """Puts it back if it is not done."""
        if not self._is_over:
            self._is_over = True
            if not is_done:
                await insist(self._client, self._put_back)

    async def _put_back(self) -> None:
        await self._client.create(self._head, self._data, mode=Mode.SEQUENTIAL, parents=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        await self.end(is_done=kind is None)
        return False


class Queue:
    """`put` on one side; `async for item in q.take(): async with item: ...` on the other.

    `lock_path` is that of a Curator queue. `clock` is the wall clock, in seconds since 1970, that delays are measured
    by: producers and consumers should agree on the time.
    """

    def __init__(
        self,
        client: BaseClient,
        path: str,
        *,
        layout: QueueLayout = "native",
        lock_path: str | None = None,
        on_loss: OnLoss = "cancel",
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        shape = SHAPES[layout]
        if lock_path is not None and not layout.startswith("curator"):
            raise ValueError("only Curator's queues have a lock path")
        self.path = path
        self._client = client
        self._waiting = patient(client)
        self._shape = shape
        self._layout: QueueLayout = layout
        self._entries = path + shape.entries
        self._taken = lock_path if lock_path is not None else path + shape.taken if shape.taken else None
        self._on_loss: OnLoss = on_loss
        self._clock = clock

    async def put(
        self, data: bytes, *, priority: int = PRIORITY, delay: float | None = None, id: str | None = None
    ) -> str:
        """Adds an item; its name. Smaller priorities, of 0 to 999, go first; nobody gets it before `delay` seconds.

        Cancelled, it leaves nothing. Raises ConnectionLoss with `maybe_applied` if the answer is lost and the item is
        not there: it was not added, or somebody was quick. An `id` is for Curator's id queue: `remove` takes it.
        """
        shape = self._shape
        if not 0 <= priority <= PRIORITY_MAX:
            raise ValueError(f"a priority is a number from 0 to {PRIORITY_MAX}")
        if delay is not None and not shape.has_delay:
            raise ValueError(f"the layout {self._layout} has no delays")
        if priority != PRIORITY and not shape.has_priority:
            raise ValueError(f"the layout {self._layout} has no priorities")
        if (id is not None) is not shape.has_id:
            raise ValueError(f"the layout {self._layout} {'wants an id' if shape.has_id else 'has no ids'}")
        due_ms = 0 if delay is None else int((self._clock() + delay) * 1000)
        head = shape.head(priority, due_ms, id or mark(self._client))
        packed = shape.pack(data)
        if shape.has_mark:
            made = await create_marked(self._client, self._entries, head, packed)
        else:
            where = join_path(self._entries, head)
            made = await self._client.create(where, packed, mode=Mode.SEQUENTIAL, parents=True)
        return made.name

    async def remove(self, id: str) -> int:
        """Takes the items with this id out of a Curator id queue, unless somebody works on them; how many they were."""
        await self._prepare()
        removed = 0
        for name in await children_of(self._client, self._entries):
            if id_of(name) == fixed_id(id):
                item = await self._take(name, PRIORITY)
                if item is not None:
                    await item.end(is_done=True)
                    removed += 1
        return removed

    async def size(self) -> int:
        """How many items there are, those that are held included."""
        stat = await self._client.exists(self._entries)
        return 0 if stat is None else stat.num_children

    async def take(self, timeout: float | None = None) -> AsyncIterator[Item]:
        """One item after the other; ends when none has come for so many seconds.

        An item that the caller has not entered by the next turn is given back.
        """
        while (item := await self._next(timeout)) is not None:
            try:
                yield item
            finally:
                await item.end(is_done=False)

    async def get(self, timeout: float | None = None) -> Item:
        """One item, for `async with`; raises TimeoutError if none has come within so many seconds."""
        item = await self._next(timeout)
        if item is None:
            raise TimeoutError(f"no item in {self.path} within {timeout} s")
        return item

    async def _next(self, timeout: float | None) -> Item | None:
        ends = None if timeout is None else asyncio.get_running_loop().time() + timeout
        # Without a server nobody can tell whether there is an item: for that a session timeout more.
        limit = None if timeout is None else timeout + self._client.session.timeout
        try:
            async with asyncio.timeout(limit):
                return await self._wait_for_one(ends)
        except TimeoutError:
            return None

    async def _wait_for_one(self, ends: float | None) -> Item | None:
        loop = asyncio.get_running_loop()
        await self._prepare()
        with Bell(self._waiting) as bell:
            is_watching = False
            while True:
                bell.reset()
                item, due_s = await self._first(bell if is_watching else None)
                if item is not None:
                    return item
                if not is_watching:
                    # Watches only where there is something to wait for.
                    is_watching = True
                    continue
                left = None if ends is None else ends - loop.time()
                if left is not None and left <= 0:
                    return None
                await bell.wait(min((one for one in (left, due_s) if one is not None), default=None))

    async def _prepare(self) -> None:
        await self._waiting.ensure(self._entries)
        if self._taken is not None:
            await self._waiting.ensure(self._taken)

    async def _first(self, bell: Bell | None) -> tuple[Item | None, float | None]:
        """The first that can be had; else in how many seconds the next one is due."""
        names = await children_of(self._waiting, self._entries, bell=bell)
        taken: set[str] = set()
        if self._taken is not None:
            taken = set(await children_of(self._waiting, self._taken, bell=bell))
        now_ms = self._clock() * 1000
        soonest: float | None = None
        for name, ticket in self._shape.in_order(names):
            if ticket.due_ms > now_ms:
                due_s = (ticket.due_ms - now_ms) / 1000
                soonest = due_s if soonest is None else min(soonest, due_s)
            elif name not in taken:
                item = await self._take(name, ticket.priority)
                if item is not None:
                    return item, None
        return None, soonest

    async def _take(self, name: str, priority: int) -> Item | None:
        path = join_path(self._entries, name)
        try:
            node = await self._waiting.get(path)
        except NoNode:
            return None
        if self._taken is not None:
            return await self._hold(node, join_path(self._taken, name))
        if not await self._delete(node):
            return None
        head = join_path(self._entries, self._shape.head(priority, 0, id_of(name) or mark(self._client)))
        loose = _Loose(self._client, head, node.data)
        return Item(self._shape.unpack(node.data), name=name, attempts=0, hold=loose)

    async def _delete(self, node: Node) -> bool:
        """Whether we are the one who has; raises ConnectionLoss if nobody can tell, and then the item may be lost."""
        try:
            await self._waiting.with_options(retry=Retry.NONE).delete(node.path, version=node.version)
        except (NoNode, BadVersion):
            return False
        except ConnectionLoss:
            await self._waiting.sync(node.path)
            if await self._waiting.exists(node.path) is None:
                raise
            return False
        return True

    async def _hold(self, node: Node, path: str) -> Item | None:
        once = self._waiting.with_options(retry=Retry.NONE)
        stamp = mark(self._client).encode()
        session_id = self._client.session.id

        async def give_back() -> None:
            # A create over a connection that is gone may be done after a read, but not after a sync.
            await self._client.sync(path)
            if await is_ours(self._client, path, stamp):
                await self._client.delete(path, missing_ok=True)

        try:
            ops: list[Op] = [Create(path, stamp, Mode.EPHEMERAL), Set(node.path, node.data, node.version)]
            try:
                made = (await once.multi(ops))[0]
                held = made if isinstance(made, Node) else None
                if held is not None and not held.stat.czxid:
                    # Java before 3.9 has no Stat in the answer to a multi.
                    held = await is_ours(self._waiting, path, stamp)
            except MultiError as error:
                if error.code not in _SOMEBODY_ELSE:
                    raise
                if error.index == 0 and error.code == NO_NODE:
                    await self._prepare()
                return None
            except ConnectionLoss:
                await self._waiting.sync(path)
                held = await is_ours(self._waiting, path, stamp)
            if held is None:
                return None
            hold = _Hold(self._client, held, node.path, version=node.version + 1, on_loss=self._on_loss)
            if await hold.is_kept():
                parts = self._shape.unpack(node.data)
                return Item(parts, name=node.name, attempts=node.version + 1, hold=hold)
        except BaseException as error:
            if not isinstance(error, MultiError):
                insist_later(self._client, give_back, session_id)
            raise
        await insist(self._client, give_back)
        return None


async def is_ours(client: BaseClient, path: str, stamp: bytes) -> Node | None:
    """The znode, if it is there and bears this stamp."""
    try:
        node = await client.get(path)
    except NoNode:
        return None
    return node if node.data == stamp else None
