"""TypedClient: the verbs that read and write data, with values of a type in place of bytes.

Knows a codec and the verbs of a client; must not know the wire. Everything else is asked of the client itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from coati.client.codecs import Codec
from coati.client.levels import Level, Reads, read_node, version_of
from coati.client.streams import Stream
from coati.client.types import ANY, ACLs, Mode, Node, Stat
from coati.errors import BadVersion, DecodeError

T = TypeVar("T")


class TypedNode(NamedTuple, Generic[T]):
    """A znode as it was read or written, with what its data means."""

    path: str
    value: T
    stat: Stat

    @property
    def name(self) -> str:
        """The last element of the path."""
        return self.path.rpartition("/")[2]

    @property
    def version(self) -> int:
        """Of the data; give it to `set` or `delete`, and a change in between is refused."""
        return self.stat.version

    @property
    def zxid(self) -> int:
        """Of the last change of the data."""
        return self.stat.mzxid


class Verbs(Reads, Protocol):
    """What is needed of a client."""

    async def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        mode: Mode = Mode.PERSISTENT,
        ttl: float | None = None,
        acl: ACLs | None = None,
        parents: bool = False,
    ) -> Node: ...

    async def ensure(self, path: str, data: bytes = b"", *, acl: ACLs | None = None) -> bool: ...

    async def set(self, path: str, data: bytes, *, version: int = ANY) -> Stat: ...

    async def put(self, path: str, data: bytes, *, parents: bool = True) -> Stat: ...

    def bounded(self, verb: str, path: str) -> Self: ...


class TypedClient(Generic[T]):
    """A view whose data are values: `people = zk.typed(json_codec()); await people.put("/p", {"name": "Ada"})`.

    Each verb is the client's of that name, and raises what that raises. Reading raises DecodeError, with path and
    version, where the data is something else; what the codec raises on writing is raised before anything is sent.
    """

    def __init__(self, client: Verbs, codec: Codec[T], *, streams: Reads) -> None:
        """`streams` reads for streams: its calls end in a time that it knows itself."""
        self._client = client
        self._codec = codec
        self._streams = streams

    async def get(self, path: str) -> TypedNode[T]:
        """A znode. Raises NoNode, NoAuth, DecodeError."""
        return self._decoded(await self._client.get(path))

    async def set(self, path: str, value: T, *, version: int = ANY) -> Stat:
        """Sets the value. Raises NoNode, BadVersion, NoAuth."""
        return await self._client.set(path, self._codec.encode(value), version=version)

    async def put(self, path: str, value: T, *, parents: bool = True) -> Stat:
        """Sets the value of a znode, and makes it if it is not there."""
        return await self._client.put(path, self._codec.encode(value), parents=parents)

    async def create(
        self,
        path: str,
        value: T,
        *,
        mode: Mode = Mode.PERSISTENT,
        ttl: float | None = None,
        acl: ACLs | None = None,
        parents: bool = False,
    ) -> TypedNode[T]:
        """Makes a znode. The node has the real path: a sequential one has ten digits more."""
        data = self._codec.encode(value)
        node = await self._client.create(path, data, mode=mode, ttl=ttl, acl=acl, parents=parents)
        return TypedNode(node.path, value, node.stat)

    async def ensure(self, path: str, value: T, *, acl: ACLs | None = None) -> bool:
        """Makes a persistent znode, and its parents, unless it is there; whether it was made."""
        return await self._client.ensure(path, self._codec.encode(value), acl=acl)

    async def update(self, path: str, fn: Callable[[T], T]) -> TypedNode[T]:
        """Replaces the value by `fn` of it, again if somebody else was faster. Raises NoNode, NoAuth, DecodeError."""
        view = TypedClient(self._client.bounded("update", path), self._codec, streams=self._streams)
        while True:
            node = await view.get(path)
            value = fn(node.value)
            try:
                return TypedNode(path, value, await view.set(path, value, version=node.version))
            except BadVersion as error:
                if error.maybe_applied:
                    raise

    def values(self, path: str) -> Stream[TypedNode[T] | None]:
        """As the client's: the value now, then every newer one, None while there is none.

        What does not decode raises DecodeError; asked again, the stream goes on with what comes after it.
        """
        return Level(
            self._streams,
            lambda trigger: read_node(self._streams, path, trigger),
            mark=version_of,
            show=lambda node: None if node is None else self._decoded(node),
        )

    def _decoded(self, node: Node) -> TypedNode[T]:
        try:
            value = self._codec.decode(node.data)
        except Exception as error:
            raise DecodeError(node.path, node.version, f"{type(error).__name__}: {error}") from error
        return TypedNode(node.path, value, node.stat)
