"""The patterns for threads, made with a coati.sync.Client: names, configuration, membership.

Written by tools/gen_sync.py: do not edit.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from coati.client.types import ANY, Node
from coati.patterns.config import Config as AsyncConfig
from coati.patterns.membership import Cluster as AsyncCluster
from coati.patterns.membership import Member as AsyncMember
from coati.patterns.membership import View
from coati.patterns.naming import NamingService as AsyncNamingService
from coati.sync.bridge import Block, Mirror, Steps, T, showing
from coati.sync.client import Client
from coati.sync.recipes import Term
from coati.sync.views import Stream


class NamingService(Mirror[AsyncNamingService]):
    """Names below `root`, which is made when the first one is bound. A name may have slashes, as a path in a tree."""

    def __init__(self, client: Client, root: str = "/names") -> None:
        super().__init__(AsyncNamingService(Mirror.original(client), root), client._on)

    def path(self, name: str) -> str:
        """Where the name lives. Raises ValueError if it is empty or begins with a slash."""
        return self._it.path(name)

    def bind(self, name: str, value: bytes, *, while_here: bool = False) -> Node:
        """Gives the name to `value`. Raises NodeExists if it is given already."""
        return self._on.call(self._it.bind(name, value, while_here=while_here))

    def rebind(self, name: str, value: bytes) -> None:
        """Gives the name to `value`, whoever had it."""
        self._on.call(self._it.rebind(name, value))

    def replace(self, name: str, value: bytes, *, version: int = ANY) -> None:
        """Gives a name that is given to another value. Raises NoNode, and BadVersion if it has changed meanwhile."""
        self._on.call(self._it.replace(name, value, version=version))

    def lookup(self, name: str) -> bytes:
        """What the name stands for. Raises NoNode."""
        return self._on.call(self._it.lookup(name))

    def unbind(self, name: str) -> None:
        """The name is free again; it is no error if it was."""
        self._on.call(self._it.unbind(name))

    def names(self, below: str = "") -> list[str]:
        """The names one level below, sorted; none if there is nothing."""
        return self._on.call(self._it.names(below))

    def unique(self, prefix: str, value: bytes = b"", *, while_here: bool = False) -> str:
        """A new name that nobody else has had: `prefix` and ten digits."""
        return self._on.call(self._it.unique(prefix, value, while_here=while_here))

    def follow(self, name: str) -> Stream[Node | None]:
        """What the name stands for now, and each time that it changes; None while it is free."""
        return Stream(self._on.do(lambda: self._it.follow(name)), self._on)


class Config(Mirror[AsyncConfig[T]]):
    """The value of one znode, decoded: `with Config(zk, path, from_json(Settings)) as config`.

    `default` holds while the znode is missing; without one, that is an error. `decode` raises ValueError or TypeError
    for what it does not take; it runs on the thread of the loop, so it must not wait.
    """

    def __init__(self, client: Client, path: str, decode: Callable[[bytes], T], *, default: T | None = None) -> None:
        super().__init__(AsyncConfig[T](Mirror.original(client), path, decode, default=default), client._on)

    @property
    def error(self) -> ValueError | None:
        """Why the newest data of the znode could not be taken, if so."""
        return self._it.error

    @property
    def value(self) -> T:
        """The newest that could be decoded."""
        return self._it.value

    @property
    def version(self) -> int:
        """Of the znode that `value` comes from; -1 for the default."""
        return self._it.version

    def changes(self) -> Steps[T]:
        """The value now, then each new one; values that nobody waited for in time are left out."""
        return Steps(self._it.changes(), self._on)

    def __enter__(self) -> Self:
        return self._on.enter(self._it.__aenter__(), lambda _: self, lambda _: self._it.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.leave(self._it.__aexit__(kind, error, trace))


class Member(Mirror[AsyncMember]):
    """Ourselves, as one of the cluster."""

    @property
    def me(self) -> bytes:
        return self._it.me

    @property
    def term(self) -> Term | None:
        """While it is the master: `term.guard()` keeps a former master's writes out."""
        return None if (got := self._it.term) is None else Term(got, self._on)

    @property
    def is_master(self) -> bool:
        """Certainly, now."""
        return self._on.do(lambda: self._it.is_master)


class Cluster(Mirror[AsyncCluster]):
    """Those who have joined under `path`; `me` is what the others are told of us."""

    def __init__(self, client: Client, path: str, *, me: bytes = b"") -> None:
        super().__init__(AsyncCluster(Mirror.original(client), path, me=me), client._on)

    @property
    def path(self) -> str:
        return self._it.path

    @property
    def me(self) -> bytes:
        return self._it.me

    def view(self) -> View:
        """Who is there now."""
        return self._on.call(self._it.view())

    def views(self) -> Steps[View]:
        """Who is there now, then each time that this changes."""
        return Steps(self._it.views(), self._on)

    def join(self) -> Block[Member]:
        """A member while the block lasts. It may become the master: ask `is_master`, guard what you write."""
        return Block(showing(self._it.join(), lambda member: Member(member, self._on)), self._on)
