"""Naming: a path as a name for a service, a cluster, an address or any remote object.

    names = NamingService(zk, "/names")
    await names.bind("billing/db", b"postgres://10.0.0.7:5432")
    await names.lookup("billing/db")

A name is bound to bytes. A binding stays, or, with `while_here=True`, ends with the session that made it. Names that
nobody else can have are drawn from a sequence. Session loss: bindings that stay are not touched; the others go when the
session expires, and are not made again: use a registration of `zk.registry` for that.
"""

from __future__ import annotations

from coati.client.client import BaseClient
from coati.client.streams import Stream
from coati.client.types import ANY, Mode, Node
from coati.errors import NoNode


class NamingService:
    """Names below `root`, which is made when the first one is bound. A name may have slashes, as a path in a tree."""

    def __init__(self, client: BaseClient, root: str = "/names") -> None:
        self._client = client
        self._root = root.rstrip("/")

    def path(self, name: str) -> str:
        """Where the name lives. Raises ValueError if it is empty or begins with a slash."""
        if not name or name.startswith("/"):
            raise ValueError(f"a name is one or more elements without a slash in front, not {name!r}")
        return f"{self._root}/{name}"

    async def bind(self, name: str, value: bytes, *, while_here: bool = False) -> Node:
        """Gives the name to `value`. Raises NodeExists if it is given already."""
        mode = Mode.EPHEMERAL if while_here else Mode.PERSISTENT
        return await self._client.create(self.path(name), value, mode=mode, parents=True)

    async def rebind(self, name: str, value: bytes) -> None:
        """Gives the name to `value`, whoever had it."""
        await self._client.put(self.path(name), value)

    async def replace(self, name: str, value: bytes, *, version: int = ANY) -> None:
        """Gives a name that is given to another value. Raises NoNode, and BadVersion if it has changed meanwhile."""
        await self._client.set(self.path(name), value, version=version)

    async def lookup(self, name: str) -> bytes:
        """What the name stands for. Raises NoNode."""
        return (await self._client.get(self.path(name))).data

    async def unbind(self, name: str) -> None:
        """The name is free again; it is no error if it was."""
        await self._client.delete(self.path(name), missing_ok=True)

    async def names(self, below: str = "") -> list[str]:
        """The names one level below, sorted; none if there is nothing."""
        try:
            return await self._client.children(self.path(below) if below else self._root or "/")
        except NoNode:
            return []

    async def unique(self, prefix: str, value: bytes = b"", *, while_here: bool = False) -> str:
        """A new name that nobody else has had: `prefix` and ten digits."""
        mode = Mode.EPHEMERAL_SEQUENTIAL if while_here else Mode.SEQUENTIAL
        node = await self._client.create(self.path(prefix), value, mode=mode, parents=True)
        return node.path[len(self._root) + 1 :]

    def follow(self, name: str) -> Stream[Node | None]:
        """What the name stands for now, and each time that it changes; None while it is free."""
        return self._client.values(self.path(name))
