"""Line: those who wait for one thing, each with a znode of its own, in the order in which they came.

Knows how contenders are named in each layout, who stands before whom, and how a place is won, waited for and given up.
Must not know what is held. Each waiter watches one contender before it, so that a change wakes one waiter. A wake-up is
no permission: the line is read again.
Sources: Curator's LockInternals, StandardLockInternalsDriver and InterProcessReadWriteLock; kazoo's recipe/lock.py.
"""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from coati.client.client import BaseClient, joined
from coati.client.types import Mode, Node, join_path
from coati.errors import (
    ConnectionLoss,
    LockTimeout,
    NodeExists,
    NoNode,
    OperationTimeout,
    SessionExpired,
    SessionMoved,
    Unimplemented,
    ZKError,
)
from coati.recipes.held import REVOKE, Release, find_own
from coati.recipes.marks import Bell, children_of

Layout = Literal["native", "kazoo", "curator"]
"""How the contenders' znodes are named: whose clients take part. "native" is Curator's own."""

# A contender's number is signed: ten digits, or a minus and ten digits.
_NUMBER: Final = r"(-?\d{10})$"
_RING: Final = 1 << 32
_HALF: Final = 1 << 31
LAST: Final = _HALF - 1
# How long somebody who gives up waits to hear that nothing of it is left.
GRACE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One who holds or waits. `token` is its znode's czxid, `session` its session's id, `mark` what it came for."""

    id: bytes
    path: str
    token: int
    session: int
    created: datetime.datetime
    mark: str
    client: BaseClient = field(repr=False, compare=False)

    async def revoke(self) -> bool:
        """Asks for it back, as Curator's Revoker does; False if it is gone already. See `Held.revoked`."""
        try:
            await self.client.set(self.path, REVOKE)
        except NoNode:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Names:
    """How a layout names its contenders: something unique, a `mark` for what it wants, a number from the server.

    Who wants `mark` comes after those before it whose mark is in `behind[mark]`.
    """

    start: str
    has_dashes: bool
    behind: dict[str, tuple[str, ...]]
    parent: Mode

    def prefix(self, unique: str, mark: str) -> str:
        """All of a name but the number; `unique` is 32 hexadecimal digits."""
        if self.has_dashes:
            unique = "-".join((unique[:8], unique[8:12], unique[12:16], unique[16:20], unique[20:]))
        return f"{self.start}{unique}{mark}"


_CURATOR_LOCK: Final = Names("_c_", True, {"-lock-": ("-lock-",)}, Mode.CONTAINER)
_CURATOR_RW: Final = Names(
    "_c_", True, {"-__READ__": ("-__WRIT__",), "-__WRIT__": ("-__READ__", "-__WRIT__")}, Mode.CONTAINER
)
# A lock that nobody shares keeps apart from readers too, as kazoo's WriteLock does.
_KAZOO: Final = Names("", False, {"__rlock__": ("__lock__",), "__lock__": ("__rlock__", "__lock__")}, Mode.PERSISTENT)
LOCK: Final[dict[Layout, Names]] = {"native": _CURATOR_LOCK, "curator": _CURATOR_LOCK, "kazoo": _KAZOO}
READ_WRITE: Final[dict[Layout, Names]] = {"native": _CURATOR_RW, "curator": _CURATOR_RW, "kazoo": _KAZOO}


class Number:
    """A name's mark and number."""

    __slots__ = ("mark", "name", "value")

    def __init__(self, name: str, mark: str, value: int) -> None:
        self.name = name
        self.mark = mark
        self.value = value


def in_order(numbers: Sequence[Number]) -> list[Number] | None:
    """The oldest first; None if the numbers do not tell, since some are equal or too far apart.

    At its end the counter stays at 2147483647, so that all get the same number, but for creates that were in flight
    together: theirs go on from -2147483648 (DataTree.createNode takes larger counts only; kazoo#730, CURATOR GH-1203).
    Numbers that are in use at one time are near each other.
    """
    found = sorted(numbers, key=_value)
    if len(found) > 1 and found[-1].value - found[0].value >= _HALF:
        found.sort(key=_unwrapped)
        if _unwrapped(found[-1]) - _unwrapped(found[0]) >= _HALF:
            return None
    for at in range(1, len(found)):
        if found[at].value == found[at - 1].value:
            return None
    return found


def _value(number: Number) -> int:
    return number.value


def _unwrapped(number: Number) -> int:
    return number.value if number.value >= 0 else number.value + _RING


class Line:
    """The contenders under one path.

    `is_patient`: what bounds a wait is its deadline alone, over all connections and sessions that it takes; else each
    request has the client's timeout. `is_wary`: who waits notices at once if somebody removes its znode.
    """

    def __init__(
        self, client: BaseClient, path: str, names: Names, *, is_patient: bool = True, is_wary: bool = False
    ) -> None:
        self.path = path
        self.names = names
        self.release = Release(client)
        self._client = client
        self._patient = client.with_options(timeout=None) if is_patient else client
        self._is_wary = is_wary
        # A create and the list behind it travel together, also with a release before them: then one sync of the
        # server's disk does for both.
        self._joined = joined(self._patient)
        self._pattern = re.compile(f"({'|'.join(names.behind)}){_NUMBER}")

    def parse(self, names: Iterable[str]) -> list[Number]:
        """The contenders among these names."""
        search = self._pattern.search
        return [Number(name, found[1], int(found[2])) for name in names if (found := search(name)) is not None]

    async def sort(self, numbers: Sequence[Number]) -> list[Number]:
        """The oldest first."""
        ordered = in_order(numbers)
        if ordered is not None:
            return ordered
        stats = await asyncio.gather(*(self._patient.exists(join_path(self.path, one.name)) for one in numbers))
        born = [(stat.czxid, one) for stat, one in zip(stats, numbers, strict=True) if stat is not None]
        born.sort(key=_czxid)
        return [one for _, one in born]

    async def contenders(self) -> list[Contender]:
        """The holder first, then who waits, in order."""
        found = await asyncio.gather(*(self.contender(number) for number in await self.places()))
        return [contender for contender in found if contender is not None]

    async def places(self, *, bell: Bell | None = None) -> list[Number]:
        """All names, the first first. The bell rings when somebody comes or goes."""
        return await self.sort(self.parse(await children_of(self._client, self.path, bell=bell)))

    async def contender(self, number: Number) -> Contender | None:
        """Who that is; None if it has gone meanwhile."""
        try:
            node = await self._client.get(join_path(self.path, number.name))
        except NoNode:
            return None
        stat = node.stat
        return Contender(
            node.data, node.path, stat.czxid, stat.ephemeral_owner, stat.created, number.mark, self._client
        )

    def place(self, mark: str) -> Place:
        """A new one, with nothing on the server yet."""
        return Place(self.names.prefix(self._client.unique(), mark), mark)

    async def win(
        self,
        mark: str,
        data: bytes,
        deadline: float | None,
        *,
        waits: bool,
        behind: tuple[str, ...] | None = None,
    ) -> Node | None:
        """The contender's znode once none of those marked `behind` is before it; None if one is and it does not wait.

        Raises LockTimeout at `deadline`, on the loop's clock. Then, and when it is cancelled, nothing is left behind.
        """
        place = self.place(mark)
        if behind is None:
            behind = self.names.behind[mark]
        try:
            async with asyncio.timeout_at(deadline):
                while not await self._try(place, data, behind, waits=waits):
                    if place.is_open and not waits:
                        await self.leave(place)
                        return None
        except OperationTimeout:
            self.leave_soon(place)
            raise
        except TimeoutError as error:
            await self.leave(place)
            raise too_late(self._client, self.path) from error
        except BaseException:
            self.leave_soon(place)
            raise
        return place.node

    async def stand(self, mark: str, data: bytes) -> Node:
        """As `win`, for as long as it takes. Who has it gives it back by `release`."""
        node = await self.win(mark, data, None, waits=True)
        assert node is not None
        return node

    async def wait_behind(self, node: Node, mark: str, behind: tuple[str, ...], deadline: float | None) -> bool:
        """Waits, in a place that is there already, for the end of those before it; False if the place is gone."""
        place = Place("", mark)
        place.node = node
        try:
            async with asyncio.timeout_at(deadline):
                return await self._wait(place, None, behind, waits=True)
        except TimeoutError as error:
            raise too_late(self._client, self.path) from error

    # --- a place in the line ----------------------------------------------------------------------

    async def _try(self, place: Place, data: bytes, behind: tuple[str, ...], *, waits: bool) -> bool:
        try:
            names = await self.enter(place, data)
            return await self._wait(place, names, behind, waits=waits)
        except (SessionExpired, SessionMoved):
            # Refused, so not done; what the session before has left ends with it.
            if self._client.is_closed:
                raise
            place.is_open = False
            return False

    async def enter(self, place: Place, data: bytes) -> list[str] | None:
        """Gets a znode, `place.node`, and the names in the line then, if they could be had with the same trip."""
        start = join_path(self.path, place.prefix)
        place.node = None
        while True:
            # Sent behind the create on the same connection, the answer tells of it.
            listing = asyncio.get_running_loop().create_task(self._listing())
            try:
                place.is_open = True
                place.node = await self._joined.create(start, data, mode=Mode.EPHEMERAL_SEQUENTIAL)
                return await listing
            except NoNode:
                place.is_open = False
                await self._make_parent()
            except ConnectionLoss:
                for name in await find_own(self._patient, self.path, place.prefix):
                    if await self._is_own(place, name):
                        return None
            finally:
                listing.cancel()

    async def _is_own(self, place: Place, name: str) -> bool:
        """After a create whose answer was lost. Of the session before, it is worth nothing."""
        try:
            node = await self._patient.get(join_path(self.path, name))
        except NoNode:
            return False
        if node.stat.ephemeral_owner == self._client.session.id:
            place.node = node
            return True
        await self._patient.delete(node.path, missing_ok=True)
        return False

    async def _listing(self) -> list[str] | None:
        try:
            return await self._joined.children(self.path)
        except ZKError:
            # The create before it has met the same, or it is read again.
            return None

    async def _make_parent(self) -> None:
        try:
            await self._patient.create(self.path, mode=self.names.parent, parents=True)
        except (NodeExists, ConnectionLoss):
            # The next create tells.
            return
        except Unimplemented:
            # A server before 3.5.
            await self._patient.ensure(self.path)

    async def _wait(self, place: Place, names: list[str] | None, behind: tuple[str, ...], *, waits: bool) -> bool:
        """True once nobody is before it; False if somebody is and it does not wait, or if the place is gone."""
        node = place.node
        assert node is not None
        own = node.name
        is_fresh = names is None
        while node.stat.ephemeral_owner == self._client.session.id:
            if names is None:
                is_fresh = True
                try:
                    names = await self._patient.children(self.path)
                except NoNode:
                    break
            before = None
            is_there = False
            for number in await self.sort(self.parse(names)):
                if number.name == own:
                    is_there = True
                    break
                if number.mark in behind:
                    before = number.name
            names = None
            if not is_there:
                # Only a list that was asked for after the create counts against it.
                if is_fresh:
                    break
                continue
            if before is None:
                if node.stat.ephemeral_owner == self._client.session.id:
                    return True
                # The session has ended while others were looked at.
                break
            if not waits:
                return False
            await self._wait_for_end(before, own)
        place.is_open = False
        return False

    async def _wait_for_end(self, name: str, own: str) -> None:
        """Of the one before, or of the session."""
        with Bell(self._client) as bell:
            try:
                # `get` leaves no watch behind if the znode is not there.
                await self._patient.get(join_path(self.path, name), watch=bell.rope())
                if self._is_wary:
                    await self._patient.get(join_path(self.path, own), watch=bell.rope())
            except NoNode:
                return
            await bell.wait()

    # --- giving up --------------------------------------------------------------------------------

    async def leave(self, place: Place) -> None:
        """Gives the place up, waits a little to hear that it is gone; then the client goes on alone."""
        if not place.is_open:
            return
        if place.node is None or self._client.is_closed:
            self.leave_soon(place)
        else:
            await Release(self._client.with_options(timeout=GRACE_S)).delete(place.node.path)

    def leave_soon(self, place: Place) -> None:
        """Gives the place up without waiting."""
        if not place.is_open:
            return
        if place.node is None:
            self.release.soon_found(self.path, place.prefix)
        else:
            self.release.soon(place.node.path)


class Place:
    """One contender's: the start of its name, which is unique, and its znode if it is known.

    `is_open`: a create was sent, so there may be something to delete.
    """

    __slots__ = ("is_open", "mark", "node", "prefix")

    def __init__(self, prefix: str, mark: str) -> None:
        self.prefix = prefix
        self.mark = mark
        self.node: Node | None = None
        self.is_open = False


def too_late(client: BaseClient, path: str) -> LockTimeout:
    """What is raised when the time is up."""
    error = LockTimeout("it was not free in time")
    error.path = path
    error.server = client.session.server
    error.session_id = client.session.id
    return error


def _czxid(born: tuple[int, Number]) -> int:
    return born[0]
