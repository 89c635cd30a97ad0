"""Watches: who wants to hear of which path, in which way, and who is to be told of an event.

Knows watchers as opaque hashable objects with a list of ids. Must not know the tree, ACLs or frames.
Invariants: `by_watcher` names a path of a watcher exactly while `by_path` has an entry of it there; no empty entry
stays in either; `recursive` counts the entries with the recursive mode. Order is that of registration.
Sources: WatchManager, WatchStats, PathParentIterator, DataTree (addWatch, removeWatch, containsWatcher).
"""

from __future__ import annotations

from typing import Final, Protocol

from coati.wire import codes
from coati.wire.records import Id

# Modes of one entry, as bits (WatchStats): they coexist, and each is removed on its own.
MODE_STANDARD: Final = 1
MODE_PERSISTENT: Final = 2
MODE_RECURSIVE: Final = 4
MODE_ALL: Final = 7


class Watcher(Protocol):
    """Whoever watches: a client connection. Compared by identity."""

    auth: list[Id]
    session_id: int


class WatchTable:
    """One of the two tables (WatchManager)."""

    __slots__ = ("by_path", "by_watcher", "recursive")

    def __init__(self) -> None:
        self.by_path: dict[bytes, dict[Watcher, int]] = {}
        self.by_watcher: dict[Watcher, dict[bytes, None]] = {}
        self.recursive = 0

    def add(self, path: bytes, watcher: Watcher, mode: int) -> None:
        """Registers; again on the same path and mode is nothing new."""
        entries = self.by_path.get(path)
        if entries is None:
            entries = {}
            self.by_path[path] = entries
        modes = entries.get(watcher, 0)
        if modes & mode:
            return
        entries[watcher] = modes | mode
        if mode == MODE_RECURSIVE:
            self.recursive += 1
        if modes == 0:
            paths = self.by_watcher.get(watcher)
            if paths is None:
                paths = {}
                self.by_watcher[watcher] = paths
            paths[path] = None

    def modes(self, path: bytes, watcher: Watcher) -> int:
        """The modes in which the watcher watches the path, as bits."""
        entries = self.by_path.get(path)
        return 0 if entries is None else entries.get(watcher, 0)

    def remove(self, path: bytes, watcher: Watcher, mask: int) -> bool:
        """Takes the modes away; whether there was any of them."""
        modes = self.modes(path, watcher)
        if not modes & mask:
            return False
        if modes & mask & MODE_RECURSIVE:
            self.recursive -= 1
        left = modes & ~mask
        if left:
            self.by_path[path][watcher] = left
        else:
            self._drop(path, watcher)
        return True

    def _drop(self, path: bytes, watcher: Watcher) -> None:
        entries = self.by_path[path]
        del entries[watcher]
        if not entries:
            del self.by_path[path]
        paths = self.by_watcher[watcher]
        del paths[path]
        if not paths:
            del self.by_watcher[watcher]

    def remove_watcher(self, watcher: Watcher) -> None:
        """Forgets everything of a watcher (its connection is gone)."""
        paths = self.by_watcher.pop(watcher, None)
        if paths is None:
            return
        for path in paths:
            entries = self.by_path[path]
            if entries.pop(watcher) & MODE_RECURSIVE:
                self.recursive -= 1
            if not entries:
                del self.by_path[path]

    def trigger(self, path: bytes) -> dict[Watcher, None]:
        """Everybody to be told of an event on the path; standard watches are used up."""
        told: dict[Watcher, None] = {}
        entries = self.by_path.get(path)
        if entries is not None:
            for watcher, modes in list(entries.items()):
                told[watcher] = None
                if modes == MODE_STANDARD:
                    self._drop(path, watcher)
                elif modes & MODE_STANDARD:
                    entries[watcher] = modes & ~MODE_STANDARD
        if self.recursive:
            self._add_recursive(path, told)
        return told

    def _add_recursive(self, path: bytes, told: dict[Watcher, None]) -> None:
        while path != b"/":
            path = path[: path.rfind(b"/")] or b"/"
            for watcher, modes in self.by_path.get(path, _NOBODY).items():
                if modes & MODE_RECURSIVE:
                    told[watcher] = None

    def size(self) -> int:
        """How many pairs of path and watcher there are."""
        return sum(map(len, self.by_path.values()))


_NOBODY: Final[dict[Watcher, int]] = {}


class Watches:
    """Both tables of a server: data (with exists) and children."""

    __slots__ = ("children", "data")

    def __init__(self) -> None:
        self.data = WatchTable()
        self.children = WatchTable()

    def is_empty(self) -> bool:
        """Whether nobody watches anything, so that no trigger need be made."""
        return not self.data.by_path and not self.children.by_path

    def size(self) -> int:
        """`zk_watch_count`."""
        return self.data.size() + self.children.size()

    def add_data(self, path: bytes, watcher: Watcher) -> None:
        """The one-shot watch that getData and exists leave."""
        self.data.add(path, watcher, MODE_STANDARD)

    def add_children(self, path: bytes, watcher: Watcher) -> None:
        """The one-shot watch that getChildren leaves."""
        self.children.add(path, watcher, MODE_STANDARD)

    def add_persistent(self, path: bytes, watcher: Watcher, *, recursive: bool) -> None:
        """A watch that stays. A recursive one is in the data table only, so it never sees NodeChildrenChanged."""
        if recursive:
            self.data.add(path, watcher, MODE_RECURSIVE)
        else:
            self.data.add(path, watcher, MODE_PERSISTENT)
            self.children.add(path, watcher, MODE_PERSISTENT)

    def remove_watcher(self, watcher: Watcher) -> None:
        """Forgets everything of a closed connection."""
        self.data.remove_watcher(watcher)
        self.children.remove_watcher(watcher)

    def trigger(self, event_type: int, path: bytes) -> list[Watcher]:
        """Who is to be told of the event, each once; standard watches are used up.

        NodeDeleted uses up the watches of both tables, and one who stands in both is told once.
        """
        if event_type == codes.EVENT_CHILDREN_CHANGED:
            return list(self.children.trigger(path))
        told = self.data.trigger(path)
        if event_type == codes.EVENT_DELETED:
            told.update(self.children.trigger(path))
        return list(told)

    def contains(self, path: bytes, watcher_type: int, watcher: Watcher) -> bool:
        """The answer to checkWatches; the type is a valid one."""
        if watcher_type == codes.WATCHER_CHILDREN:
            return self.children.modes(path, watcher) & MODE_STANDARD != 0
        modes = self.data.modes(path, watcher)
        if watcher_type == codes.WATCHER_DATA:
            return modes & MODE_STANDARD != 0
        if watcher_type == codes.WATCHER_PERSISTENT:
            return modes & MODE_PERSISTENT != 0
        if watcher_type == codes.WATCHER_PERSISTENT_RECURSIVE:
            return modes & MODE_RECURSIVE != 0
        return modes | self.children.modes(path, watcher) != 0

    def remove(self, path: bytes, watcher_type: int, watcher: Watcher) -> bool:
        """Carries removeWatches out; whether there was such a watch. The type is a valid one."""
        if watcher_type == codes.WATCHER_CHILDREN:
            return self.children.remove(path, watcher, MODE_STANDARD)
        if watcher_type == codes.WATCHER_DATA:
            return self.data.remove(path, watcher, MODE_STANDARD)
        if watcher_type == codes.WATCHER_PERSISTENT_RECURSIVE:
            return self.data.remove(path, watcher, MODE_RECURSIVE)
        mask = MODE_PERSISTENT if watcher_type == codes.WATCHER_PERSISTENT else MODE_ALL
        removed = self.children.remove(path, watcher, mask)
        return self.data.remove(path, watcher, mask) or removed

    def summary(self) -> tuple[int, int, int]:
        """Connections, paths and watches of the data table, which is all that Java's `wchs` counts."""
        table = self.data
        return len(table.by_watcher), len(table.by_path), table.size()
