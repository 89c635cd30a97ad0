"""What clients of a storm read: states that were, never back in time, and each change told before it shows.

Knows the reads, syncs and events of all sessions, and is led along the history by `storm_history.History`. Must not
import coati. The letters are of the project's list of invariants: R1 a read is the state at its zxid, R2 a session
never goes back, R4 a read behind a sync has what was answered to anybody before, E1 an event comes before what reveals
its cause, E2 a watch fires once, by the first change.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from tests.interop import raw
from tools.tree_model import Stat

NODE_DATA_CHANGED: Final = 3
# Their changes are remembered, so that they can be watched.
WATCHED: Final = tuple(b"/s/%d" % number for number in range(4))

Shown: TypeAlias = tuple[bytes, Stat]


class Look(NamedTuple):
    """What a read gave, at a zxid; None if there was no znode."""

    zxid: int
    session_id: int
    xid: int
    path: bytes
    shown: Shown | None

    def __str__(self) -> str:
        shown = None if self.shown is None else (self.shown[0][:40], self.shown[1])
        return f"session {self.session_id:#x}, xid {self.xid}: {self.path!r} at zxid {self.zxid:#x} is {shown}"


class Watch(NamedTuple):
    """One that was set by a reply at a zxid, and fired at `end`, or had not when the last reply at `end` came."""

    path: bytes
    session_id: int
    begin: int
    end: int
    has_fired: bool


class Reads:
    """All reads and watches; `note` is told what is wrong."""

    def __init__(self, note: Callable[[str], None], counts: Counter[str]) -> None:
        self._note = note
        self._counts = counts
        self._floors: dict[int, int] = {}
        self._looks: list[Look] = []
        self._watches: list[Watch] = []
        self._changes: dict[bytes, list[int]] = {path: [] for path in WATCHED}

    # What clients see.

    def floor(self, session_id: int) -> int:
        """The newest state that a session has seen."""
        return self._floors.get(session_id, 0)

    def at(self, session_id: int, zxid: int) -> None:
        """A session got a reply that was made at a zxid (R2)."""
        floor = self.floor(session_id)
        if zxid < floor:
            self._note(f"session {session_id:#x} goes back in time: a reply at {zxid:#x}, it has seen {floor:#x}")
        self._floors[session_id] = max(zxid, floor)

    def looked(self, look: Look, least_zxid: int) -> None:
        """A read was answered; `least_zxid` is what it must have seen, as a sync was before it (R4)."""
        self._counts["reads"] += 1
        if look.zxid < least_zxid:
            self._note(f"{look}, and {least_zxid:#x} was answered before the sync in front of it")
        heapq.heappush(self._looks, look)

    def watched(self, watch: Watch) -> None:
        """A watch has fired, or its connection is gone."""
        self._counts["events"] += watch.has_fired
        self._watches.append(watch)

    # What was.

    def changed(self, path: bytes, zxid: int) -> None:
        """The data of a znode are others from here on."""
        if path in self._changes:
            self._changes[path].append(zxid)

    def judge_looks(self, state: Callable[[bytes], Shown | None], begin: int, end: int) -> None:
        """Those of the zxids from `begin` to `end`, for all of which this is the state (R1)."""
        while self._looks and self._looks[0].zxid <= end:
            look = heapq.heappop(self._looks)
            expected = state(look.path)
            if look.zxid < begin:
                self._counts["reads not judged"] += 1
            elif look.shown != expected:
                shown = None if expected is None else (expected[0][:40], expected[1])
                self._note(f"{look} instead of {shown}")

    def judge_watches(self, end: int) -> None:
        """Those whose time is over at `end` (E1, E2)."""
        later = []
        for watch in self._watches:
            if watch.end > end:
                later.append(watch)
                continue
            changes = self._changes[watch.path]
            index = bisect_right(changes, watch.begin)
            first = changes[index] if index < len(changes) else end + 1
            what = f"session {watch.session_id:#x}: the watch on {watch.path!r} of zxid {watch.begin:#x}"
            if watch.has_fired and first != watch.end:
                self._note(f"{what} fired at {watch.end:#x}, the first change was at {first:#x}")
            elif not watch.has_fired and first <= watch.end:
                self._note(f"{what} did not fire at {first:#x}, and a reply at {watch.end:#x} came")
        self._watches = later


def as_tuple(stat: raw.Stat) -> Stat:
    """The fields in the order of the wire."""
    head = (stat.czxid, stat.mzxid, stat.ctime, stat.mtime, stat.version, stat.cversion, stat.aversion)
    return (*head, stat.ephemeral_owner, stat.data_length, stat.num_children, stat.pzxid)


def shown_of(body: object) -> Shown | None:
    """Of a decoded reply to getData; None if it is an error."""
    if not isinstance(body, tuple):
        return None
    data, stat = body
    return data or b"", as_tuple(stat)
