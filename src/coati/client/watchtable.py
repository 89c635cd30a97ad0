"""WatchTable: which local watchers a change concerns, and what must be told to a server that does not know them yet.

Knows watched paths (absolute, UTF-8) and who waits for them; must not know connections. It is filled when the server
has said yes, so it never promises more than the server does. Rules of delivery: ZKWatchManager.materialize.
Invariant: a one-shot watcher is told once.
"""

from __future__ import annotations

from typing import Final, Protocol

from coati.client.types import EventType
from coati.wire import codes
from coati.wire.jute import Writer
from coati.wire.records import SetWatches, SetWatches2

# Bytes of paths in one packet (ClientCnxn.SET_WATCHES_MAX_LENGTH), so that it stays below jute.maxbuffer.
BATCH_BYTES: Final = 128 << 10

DATA: Final = 0
EXIST: Final = 1
CHILD: Final = 2
PERSISTENT: Final = 3
RECURSIVE: Final = 4
_KINDS: Final = range(5)

# Which one-shot tables a change empties.
_ONE_SHOT: Final = {
    codes.EVENT_CREATED: (DATA, EXIST),
    codes.EVENT_DATA_CHANGED: (DATA, EXIST),
    codes.EVENT_DELETED: (DATA, EXIST, CHILD),
    codes.EVENT_CHILDREN_CHANGED: (CHILD,),
}


class Watcher(Protocol):
    """Who waits. `path` is absolute."""

    def on_event(self, type: EventType, path: bytes, zxid: int) -> None: ...


class Fired:
    """A watcher and what it is to be told."""

    __slots__ = ("path", "type", "watcher", "zxid")

    def __init__(self, watcher: Watcher, type: EventType, path: bytes, zxid: int) -> None:
        self.watcher = watcher
        self.type = type
        self.path = path
        self.zxid = zxid


class WatchTable:
    """The watches of one session."""

    __slots__ = ("_arming", "_tables", "_unanswered", "told_zxid")

    def __init__(self) -> None:
        # Up to where servers have said all that happened to what is watched: not what replies show while packets of
        # watches are unanswered.
        self.told_zxid = 0
        self._unanswered = 0
        self._tables: tuple[dict[bytes, list[Watcher]], ...] = ({}, {}, {}, {}, {})
        # Watches that are on their way to the server: (server's kind, path) and how many.
        self._arming: dict[tuple[int, bytes], int] = {}

    def __len__(self) -> int:
        return sum(len(watchers) for table in self._tables for watchers in table.values())

    def arm(self, kind: int, path: bytes) -> None:
        """A request that sets this watch was sent; `settle` follows."""
        key = (_server_kind(kind), path)
        self._arming[key] = self._arming.get(key, 0) + 1

    def settle(self, kind: int, path: bytes) -> None:
        """That request was answered, or will not be."""
        key = (_server_kind(kind), path)
        left = self._arming[key] - 1
        if left:
            self._arming[key] = left
        else:
            del self._arming[key]

    def add(self, kind: int, path: bytes, watcher: Watcher) -> None:
        """The server has it."""
        watchers = self._tables[kind].setdefault(path, [])
        if watcher not in watchers:
            watchers.append(watcher)

    def remove(self, kind: int, path: bytes, watcher: Watcher) -> bool:
        """Whether it was there."""
        watchers = self._tables[kind].get(path)
        if watchers is None or watcher not in watchers:
            return False
        watchers.remove(watcher)
        if not watchers:
            del self._tables[kind][path]
        return True

    def covers(self, kind: int, path: bytes) -> bool:
        """Whether a persistent watch of this path tells all that a one-shot one of this kind waits for.

        Then the server is not asked for a second one: before 3.9 it keeps one mode for a session and path, and a
        one-shot watch would make an end of the persistent one (ZOOKEEPER-4466).
        """
        if kind >= PERSISTENT:
            return False
        return self._is_wanted(PERSISTENT, path) or (kind != CHILD and self._is_wanted(RECURSIVE, path))

    def one_shots(self, path: bytes, zxid: int) -> tuple[int, bytes] | None:
        """Opcode and body of the packet that tells a server the one-shot watches of a path; None: there are none.

        It fires those that something has happened to after `zxid`, the newest one seen.
        """
        batch: list[list[bytes]] = [[path] if path in self._tables[kind] else [] for kind in (DATA, EXIST, CHILD)]
        if not any(batch):
            return None
        if not self._unanswered:
            self.told_zxid = zxid
        self._unanswered += 1
        return _packet(zxid, [*batch, [], []])

    def removal(self, kind: int, path: bytes) -> int:
        """The WatcherType with which the server forgets a watch that nobody here waits for any more; 0: not now.

        Servers before 3.9 know only Any for persistent watches. It takes all one-shot ones of the path with it, so the
        server has to be told those again. And what they forget of one mode they forget of all, so a one-shot watch
        stays where it is beside a persistent one.
        """
        if self._is_wanted(_server_kind(kind), path):
            return 0
        if kind == PERSISTENT:
            return codes.WATCHER_PERSISTENT if self._is_wanted(RECURSIVE, path) else codes.WATCHER_ANY
        if kind == RECURSIVE:
            return codes.WATCHER_PERSISTENT_RECURSIVE if self._is_wanted(PERSISTENT, path) else codes.WATCHER_ANY
        if self._is_wanted(PERSISTENT, path) or self._is_wanted(RECURSIVE, path):
            return 0
        return codes.WATCHER_CHILDREN if kind == CHILD else codes.WATCHER_DATA

    def fire(self, type: EventType, path: bytes, zxid: int) -> list[Fired]:
        """Whom a change concerns, one-shot watchers first; those are forgotten."""
        found: list[Watcher] = []
        for kind in _ONE_SHOT.get(type, ()):
            _extend(found, self._tables[kind].pop(path, ()))
        _extend(found, self._tables[PERSISTENT].get(path, ()))
        if self._tables[RECURSIVE] and type != codes.EVENT_CHILDREN_CHANGED:
            for above in _and_above(path):
                _extend(found, self._tables[RECURSIVE].get(above, ()))
        return [Fired(watcher, type, path, zxid) for watcher in found]

    def resync(self) -> list[Fired]:
        """Each persistent watcher may have missed something: servers re-arm those without looking back."""
        return [
            Fired(watcher, EventType.RESYNC, path, self.told_zxid)
            for kind in (PERSISTENT, RECURSIVE)
            for path, watchers in self._tables[kind].items()
            for watcher in watchers
        ]

    def drop_all(self, zxid: int) -> list[Fired]:
        """The session is over and no other one follows: everybody is told, nobody is kept."""
        fired = [
            Fired(watcher, EventType.RESYNC, path, zxid)
            for kind in _KINDS
            for path, watchers in self._tables[kind].items()
            for watcher in watchers
        ]
        for table in self._tables:
            table.clear()
        return fired

    def replay(self, zxid: int) -> list[tuple[int, bytes]]:
        """Opcode and body of the packets that tell a new server all of it; `zxid` is the newest one seen."""
        if not self._unanswered:
            self.told_zxid = zxid
        # Else the last server has not said all of what happened since then, though what it did say was newer.
        zxid = self.told_zxid
        packets: list[tuple[int, bytes]] = []
        batch: list[list[bytes]] = [[] for _ in _KINDS]
        size = 0
        for kind in _KINDS:
            for path in self._tables[kind]:
                if size and size + len(path) > BATCH_BYTES:
                    packets.append(_packet(zxid, batch))
                    batch = [[] for _ in _KINDS]
                    size = 0
                batch[kind].append(path)
                size += 4 + len(path)
        if size:
            packets.append(_packet(zxid, batch))
        self._unanswered = len(packets)
        return packets

    def on_told(self) -> None:
        """The server has answered one of these packets."""
        self._unanswered = max(self._unanswered - 1, 0)

    def _is_wanted(self, kind: int, path: bytes) -> bool:
        if (kind, path) in self._arming or path in self._tables[kind]:
            return True
        return kind == DATA and path in self._tables[EXIST]


def _server_kind(kind: int) -> int:
    # A server keeps watches of exists and getData in one table.
    return DATA if kind == EXIST else kind


def _extend(found: list[Watcher], more: list[Watcher] | tuple[()]) -> None:
    for watcher in more:
        if watcher not in found:
            found.append(watcher)


def _and_above(path: bytes) -> list[bytes]:
    """The path, each ancestor, the root."""
    paths = [path]
    while len(path) > 1:
        path = path[: path.rfind(b"/")] or b"/"
        paths.append(path)
    return paths


def _packet(zxid: int, batch: list[list[bytes]]) -> tuple[int, bytes]:
    w = Writer()
    if batch[PERSISTENT] or batch[RECURSIVE]:
        SetWatches2(zxid, *batch).write(w)
        return codes.OP_SET_WATCHES2, w.getvalue()
    SetWatches(zxid, *batch[:3]).write(w)
    return codes.OP_SET_WATCHES, w.getvalue()
