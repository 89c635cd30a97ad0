"""The judge of an ensemble's storm: the logs of all servers, joined, must be one history that explains every answer.

Knows what `storm_history.py` knows of one log, how zxids go on from epoch to epoch, and that a leader's snapshot takes
the place of a log. Must not import coati, nor start servers.
Invariant: what is taken for history is proved by the logs and by the names of the snapshots beside them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.storm_history import History, Logged, read_log
from tools.tree_model import Write

EPOCH_SHIFT: Final = 32
COUNTER_MASK: Final = (1 << EPOCH_SHIFT) - 1
SESSION_MOVED: Final = -118
NO_LIMIT: Final = 1 << 63
# A txn that says it was made so far from now was made by a clock that is wrong.
ODD_MS: Final = 1_800_000


class ClusterHistory(History):
    """The same judge, for the joined logs of several servers."""

    def __init__(self) -> None:
        super().__init__()
        self.directories: list[Path] = []
        # Nothing above it is taken yet; it may still be given up.
        self.limit = NO_LIMIT
        # The last that each session sent before it went on elsewhere; what it sent and what was logged behind it.
        self._moved: dict[int, int] = {}
        self._skipped: dict[tuple[int, int], None] = {}

    def moved(self, session_id: int) -> None:
        """Its client has it back on another connection: what it sent before may be refused from now on."""
        sent = self._sent.get(session_id)
        if sent:
            self._moved[session_id] = sent[-1][0]

    def is_next(self, zxid: int) -> bool:
        """Within an epoch without a gap, and each begins with 1."""
        last = self.tree.zxid
        begins = zxid & COUNTER_MASK == 1 and zxid >> EPOCH_SHIFT > last >> EPOCH_SHIFT
        return begins or (zxid == last + 1 and last != 0)

    def logged(self, directory: Path) -> Iterator[Logged]:
        """What is new in the history that all share; `directory` is one of many.

        Below a snapshot of a leader a log may end in what was never committed, and in a rough round each server gets
        such a snapshot. But in every log a txn stands behind the history that its server had then: behind the entry
        before it, or behind a snapshot. So the way back from the newest that is surely history meets all of it.
        """
        logs = [Log(one, self.tree.zxid, self.limit) for one in self.directories]
        joined: dict[int, Logged] = {}
        before: dict[int, int] = {}
        for log in logs:
            for entry, previous in zip(log.entries, log.previous, strict=True):
                if joined.setdefault(entry.zxid, entry) != entry:
                    self.fault(f"two servers disagree: {entry} in {log.path}, {joined[entry.zxid]} elsewhere")
                if before.setdefault(entry.zxid, previous) != previous:
                    self.fault(
                        f"two servers disagree: before {entry.zxid:#x} comes {previous:#x} in {log.path}, "
                        f"{before[entry.zxid]:#x} elsewhere"
                    )
        found, is_whole = self._way_back(max((log.last for log in logs), default=0), joined, before)
        for log in logs if is_whole else []:
            self._compare(log, found)
        return iter([found[zxid] for zxid in sorted(found)])

    def _way_back(self, zxid: int, joined: dict[int, Logged], before: dict[int, int]) -> tuple[dict[int, Logged], bool]:
        """All between the last that was taken and `zxid`, which is history; and whether it is all."""
        found: dict[int, Logged] = {}
        while zxid > self.tree.zxid:
            if zxid not in joined:
                self.fault(f"{zxid:#x} is history, and in no log")
                return found, False
            found[zxid] = joined[zxid]
            zxid = before[zxid]
        return found, True

    def _compare(self, log: Log, found: dict[int, Logged]) -> None:
        """What a server logged by itself and still has must be history, once it serves again (Z2)."""
        for entry in log.entries:
            if entry.zxid > log.replaced and entry.zxid not in found:
                self.fault(f"{log.path} has {entry}, which is no history")

    def sent_of(self, entry: Logged) -> deque[tuple[int, Write]] | None:
        """What went into a connection that was lost may be lost; what was sent behind it on another may not."""
        sent = super().sent_of(entry)
        if sent is not None and entry.xid and any(xid == entry.xid for xid, _ in sent):
            while sent[0][0] != entry.xid:
                self._skipped[entry.session_id, sent.popleft()[0]] = None
                self.counts["never logged"] += 1
        return sent

    def _take(self, entry: Logged) -> None:
        """A request that comes late, by a server the session has left, is logged as an error that changes nothing.

        As in Java (PrepRequestProcessor, SessionTrackerImpl.checkSession). Nobody is told.
        """
        self.counts["txns at odd times"] += abs(entry.time_ms - time.time_ns() // 1_000_000) > ODD_MS
        if entry.number != SESSION_MOVED:
            super()._take(entry)
            return
        key = (entry.session_id, entry.xid)
        if not self.is_next(entry.zxid):
            self.fault(f"zxid {entry.zxid:#x} follows {self.tree.zxid:#x}")
        self.tree.zxid = entry.zxid
        self.counts["txns"] += 1
        self.counts["refused behind a move"] += 1
        if entry.xid > self._moved.get(entry.session_id, 0):
            self.fault(f"zxid {entry.zxid:#x}: {key} is refused as of a session that has moved, and it has not")
        if key in self._skipped:
            del self._skipped[key]
            return
        sent = self._sent.get(entry.session_id, deque())
        found = [one for one in sent if one[0] == entry.xid]
        if not found:
            self.fault(f"zxid {entry.zxid:#x}, session {entry.session_id:#x}: nobody sent {entry.xid}, or twice logged")
            return
        sent.remove(found[0])


class Log:
    """What one server has, above `floor` and up to `limit`.

    A snapshot whose zxid its log does not have is a leader's, and has taken the place of what is below. Java leaves it
    there as well: recovery begins with the snapshot.
    """

    def __init__(self, path: Path, floor: int, limit: int) -> None:
        self.path = path
        # First the snapshots: what a server makes one of is in its log before.
        replacing = [zxid for zxid in snapshots(path) if floor < zxid <= limit]
        self.entries = [entry._replace(file="", end=0) for entry in read_log(path, floor) if entry.zxid <= limit]
        own = {entry.zxid: None for entry in self.entries}
        foreign = [zxid for zxid in replacing if zxid not in own]
        self.replaced = max(foreign, default=floor)
        # What this server's history ended with before each entry.
        self.previous: list[int] = []
        last = floor
        for entry in self.entries:
            self.previous.append(max([last, *(zxid for zxid in foreign if zxid < entry.zxid)]))
            last = entry.zxid
        self.last = max(last, self.replaced)


def snapshots(directory: Path) -> Sequence[int]:
    """The zxids of those that are whole."""
    return [int(path.name.partition(".")[2], 16) for path in directory.glob("snapshot.*") if path.suffix != ".tmp"]


def last_zxid(directory: Path, floor: int) -> int:
    """Up to where a server's disk has what happened, if it has all up to `floor`."""
    return max([floor, *snapshots(directory), *(entry.zxid for entry in read_log(directory, floor))])
