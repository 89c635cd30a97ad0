"""SNAP: a whole tree from a leader to a learner, in pieces between the turns of the loop.

Introduces core, which knows trees, to storage, which knows the bytes and the disk. Must not know sockets or Zab: who
calls sends the pieces, or hands them in, and lends the few verbs that are needed. The bytes are those of a snapshot
file without its header and seals, then the signature; Java appends nothing else, in 3.8 as in 3.9. Sources:
LearnerHandler.run, Learner.syncWithLeader.
Invariants: what is sent is the tree at exactly one zxid, whatever happens while it is sent; what is received becomes a
tree of its own and a file of its own, and nobody's before both are whole (ZOOKEEPER-3642).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from coati.core.export import Export
from coati.core.load import Loader
from coati.core.tree import Tree, TreeConfig
from coati.errors import MarshallingError, ProtocolError, StorageFailed
from coati.server.recovery import Collector, Loaded
from coati.storage import format
from coati.storage.format import Damage
from coati.storage.snapshot import MIN_FIELD_LIMIT_BYTES
from coati.storage.store import Done, Store
from coati.storage.stream import SIGNATURE, StreamReader

# So much is made of znodes before a piece is handed out; and how many of them, each up to 1 MB, between two looks.
PIECE_BYTES: Final = 128 << 10
_LOOK_NODES: Final = 16
# What is decoded at once, so that little waits as plain records whatever the size of a piece.
_FEED_BYTES: Final = 1 << 20
# More than any tree that fits into a machine's memory; a leader that never ends does not fill the disk for ever.
MAX_STREAM_BYTES: Final = 64 << 30


class SnapshotSender:
    """The stream of one tree, as it is now. `zxid` goes into the SNAP packet, which the caller sends before."""

    __slots__ = ("_export", "_is_begun", "is_done", "zxid")

    def __init__(self, tree: Tree, timeouts: dict[int, int]) -> None:
        """`timeouts`: the sessions that are alive, id to timeout in ms."""
        self._export = Export(tree, timeouts)
        self._is_begun = False
        self.zxid = self._export.zxid
        self.is_done = False

    def node_count(self) -> int:
        """How many znodes are sent in all."""
        return self._export.node_count()

    def next_piece(self) -> bytes:
        """What comes next, some 128 KiB; the signature is in the last one, and then `is_done`."""
        assert not self.is_done
        export = self._export
        parts: list[bytes] = []
        if not self._is_begun:
            self._is_begun = True
            parts.append(format.encode_tables(export.sessions, export.acls))
        size = 0
        while size < PIECE_BYTES and not export.is_done:
            parts.append(export.next_slice(_LOOK_NODES))
            size += len(parts[-1])
        if export.is_done:
            parts += (format.END_OF_ZNODES, SIGNATURE)
            self.is_done = True
        return b"".join(parts)


class SnapshotStream:
    """Takes a leader's stream in: builds a tree of it, and writes the file aside as it comes.

    After `feed` has given the rest, `finish` puts the file in the place of the store's history; only when it is told
    that this is done, `take_loaded` is what the server has. Whoever gives up calls `abort`: all is as it was. While not
    `ready`, the link should not be read: the disk does not keep up. The store fails, and the server ends, if the disk
    does.
    """

    __slots__ = ("_config", "_loader", "_reader", "_store", "_tree", "_writer", "zxid")

    def __init__(
        self,
        store: Store,
        config: TreeConfig,
        zxid: int,
        *,
        max_field_bytes: int = MIN_FIELD_LIMIT_BYTES,
        limit_bytes: int = MAX_STREAM_BYTES,
    ) -> None:
        """`zxid` is that of the SNAP packet. The store must be idle."""
        self.zxid = zxid
        self._config = config
        self._store = store
        self._reader = StreamReader(max_field_bytes=max_field_bytes, limit_bytes=limit_bytes)
        self._loader: Loader | None = None
        self._tree: Tree | None = None
        self._writer = store.begin_install(zxid)

    @property
    def ready(self) -> bool:
        """Whether the disk keeps up."""
        return self._writer.ready

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Sets what is called when `ready` may have become true again."""
        self._writer.on_ready = callback

    def feed(self, data: bytes) -> bytes | None:
        """Takes the next bytes; gives what came behind the signature, or None while more is needed.

        Raises ProtocolError on what is no snapshot, and has given up then; StorageFailed when the disk has failed.
        """
        if self._store.failed is not None:
            raise self._store.failed
        reader = self._reader
        try:
            for start in range(0, len(data), _FEED_BYTES):
                self._take(data[start : start + _FEED_BYTES])
                if reader.is_done:
                    self._tree = self._make_loader().finish(self.zxid)
                    return reader.rest + data[start + _FEED_BYTES :]
        except (Damage, MarshallingError) as error:
            self.abort()
            raise ProtocolError(f"the snapshot of the leader: {error}") from error
        return None

    def _take(self, data: bytes) -> None:
        znodes = self._reader.feed(data)
        if znodes:
            self._make_loader().add(znodes)
        if self._reader.body:
            self._writer.add(self._reader.body)

    def _make_loader(self) -> Loader:
        """Made when the ACLs are there, which come before the first znode."""
        if self._loader is None:
            self._loader = Loader(self._config, self._reader.acls)
        return self._loader

    def finish(self, done: Done) -> None:
        """Makes the snapshot the store's whole history; `done` as in `Store.sync`. The stream has been read."""
        assert self._tree is not None
        self._writer.finish(self._tree.digest, done)

    def abort(self) -> None:
        """Gives it up. What the store had, it has; it is busy for a moment."""
        self._writer.abort()
        self._tree = self._loader = None

    def take_loaded(self) -> Loaded:
        """Tree and sessions; the server's own when `finish` is done. They are not kept here.

        The callbacks make a cycle of this, and the collector does not look where it would find it: the tree would
        outlive the server's next one.
        """
        tree = self._tree
        assert tree is not None
        self._tree = self._loader = None
        return Loaded(tree, self._reader.sessions, 0)


class Recipient(Protocol):
    """Who gets the snapshot: what the hub does for a receiver."""

    def is_store_idle(self) -> bool:
        """If not, `Receiver.go_on` is called when it is."""

    def open_stream(self, zxid: int) -> SnapshotStream:
        """The store is idle. Raises StorageFailed."""

    def hold(self) -> None:
        """All has been read: nothing else begins until `on_installed`."""

    def on_installed(self, receiver: Receiver, loaded: Loaded, rest: bytes) -> None:
        """It is durable, and all that this server has. `rest` came behind it."""

    def refuse_leader(self, reason: str) -> None:
        """What came is no snapshot."""

    def die(self, error: BaseException) -> None:
        """The disk has failed."""


class Inlet(Protocol):
    """Whether a link is read from."""

    def pause(self, link: int) -> None: ...

    def resume(self, link: int) -> None: ...


class Receiver:
    """A snapshot that comes in: begun as soon as the store is idle, read no faster than the disk takes it."""

    __slots__ = ("_collector", "_hub", "_inlet", "_is_finishing", "_is_paused", "_stream", "_waiting", "link", "zxid")

    def __init__(self, link: int, zxid: int, hub: Recipient, inlet: Inlet, collector: Collector | None = None) -> None:
        self.link = link
        self.zxid = zxid
        self._collector = collector
        self._hub = hub
        self._inlet = inlet
        self._stream: SnapshotStream | None = None
        self._waiting: list[bytes] = []
        self._is_paused = False
        self._is_finishing = False
        self.go_on()

    def go_on(self) -> None:
        """The store may be idle now."""
        hub = self._hub
        if self._stream is not None:
            return
        if not hub.is_store_idle():
            self._pause()
            return
        try:
            self._stream = hub.open_stream(self.zxid)
        except StorageFailed as error:
            hub.die(error)
            return
        if self._collector is not None:
            self._collector.rest()
        self._stream.on_ready(self._resume)
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.feed(data)
        self._resume()

    def feed(self, data: bytes) -> None:
        """Bytes of the link."""
        stream, hub = self._stream, self._hub
        if stream is None or self._is_finishing:
            self._waiting.append(data)
            self._pause()
            return
        try:
            rest = stream.feed(data)
            if rest is not None:
                self._is_finishing = True
                self._waiting.append(rest)
                self._pause()
                hub.hold()
                stream.finish(self._on_installed)
            elif not stream.ready:
                self._pause()
        except ProtocolError as error:
            hub.refuse_leader(str(error))
        except StorageFailed as error:
            hub.die(error)

    def abort(self) -> None:
        """The link is gone. What the disk is about to put in its place stays, and the hub hears of it."""
        if self._stream is not None and not self._is_finishing:
            self._stream.abort()
            if self._collector is not None:
                self._collector.go_on()

    def _on_installed(self, error: BaseException | None) -> None:
        assert self._stream is not None, "it was read to its end"
        if error is not None:
            self._hub.die(error)
            return
        self._hub.on_installed(self, self._stream.take_loaded(), b"".join(self._waiting))
        if self._collector is not None:
            self._collector.settle()
        self._resume()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._inlet.pause(self.link)

    def _resume(self) -> None:
        if self._is_paused and self._stream is not None and (self._stream.ready or self._is_finishing):
            self._is_paused = False
            self._inlet.resume(self.link)
