"""Group: who is there. Each member is an ephemeral znode with data, kept across sessions.

Layouts: `native` and `curator` (GroupMember) name the znode as the member; `kazoo` (Party) and `kazoo-shallow`
(ShallowParty) put a random number before it, of which ShallowParty keeps the identifier in the name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Literal, Self

from coati.client.client import BaseClient
from coati.client.types import Event, EventType, join_path
from coati.errors import NoNode
from coati.recipes.keeper import EphemeralKeeper
from coati.recipes.marks import children_of, mark, patient

GroupLayout = Literal["native", "kazoo", "kazoo-shallow", "curator"]
_PARTY: Final = "__party__"


class Membership(EphemeralKeeper):
    """Being a member: `name`, `path`, `set()`, and `lost` for the times that it had to be renewed."""

    def __init__(self, group: Group, client: BaseClient, *, name: str, data: bytes) -> None:
        super().__init__(client, join_path(group.path, name), data)
        self.name = name
        self._group = group

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._group.mine[self.name] = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._group.mine.pop(self.name, None)
        await super().__aexit__(kind, error, trace)


class Group:
    """`async with group.join(b"host:port"):` makes a member; `members()` tells who is there."""

    def __init__(self, client: BaseClient, path: str, *, layout: GroupLayout = "native") -> None:
        self.path = path
        self.mine: dict[str, Membership] = {}
        self._client = client
        self._layout: GroupLayout = layout

    @property
    def me(self) -> str | None:
        """The name of the member that this object has joined as last; None if it has not."""
        return next(reversed(self.mine), None)

    def join(self, data: bytes = b"", name: str | None = None) -> Membership:
        """For `async with`: a member while the block lasts. A name that another session has is waited for.

        A ShallowParty's identifier is `name`; a Party's is `data`.
        """
        if self._layout == "kazoo":
            name = mark(self._client) + _PARTY
        elif self._layout == "kazoo-shallow":
            name = name or ""
            data = data or name.encode()
            name = f"{mark(self._client)}-{name}"
        return Membership(self, self._client, name=name or mark(self._client), data=data)

    async def current(self) -> dict[str, bytes]:
        """Each member's name and data, now."""
        return await self._read(self._client)

    async def members(self) -> AsyncIterator[dict[str, bytes]]:
        """Each member's name and data: now, and after each change. Needs a server of 3.6 or newer.

        A reader that is slow gets the newest state, not each one in between.
        """
        client = patient(self._client)
        async with client.watch(self.path, recursive=True) as events:
            told = await self._read(client)
            yield dict(told)
            async for event in events:
                seen = await self._after(client, event, told)
                if seen != told:
                    told = seen
                    yield dict(told)

    async def _after(self, client: BaseClient, event: Event, told: dict[str, bytes]) -> dict[str, bytes]:
        parent, _, name = event.path.rpartition("/")
        if event.type is EventType.RESYNC or event.path == self.path:
            return await self._read(client)
        if (parent or "/") != self.path or not self._is_member(name):
            return told
        data = await self._data(client, name)
        others = {other: told[other] for other in told if other != name}
        return others if data is None else others | {name: data}

    async def _read(self, client: BaseClient) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name in await children_of(client, self.path):
            data = await self._data(client, name) if self._is_member(name) else None
            if data is not None:
                found[name] = data
        return found

    async def _data(self, client: BaseClient, name: str) -> bytes | None:
        try:
            return (await client.get(join_path(self.path, name))).data
        except NoNode:
            return None

    def _is_member(self, name: str) -> bool:
        return self._layout != "kazoo" or _PARTY in name
