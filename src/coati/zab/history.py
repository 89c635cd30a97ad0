"""History: the committed txns that a server still has in memory, and how a learner is brought up to date from them.

Knows zxids and payloads, and how to read the log behind them. Must not know files: `read_log` is handed in.
Invariants: the entries follow each other without a hole. What a learner is sent continues a txn that this history is
proven to hold, a member; that its zxid lies between two members proves nothing (ZOOKEEPER-1154). Whatever is not
proven is answered with a snapshot (ZOOKEEPER-2418, 2846, 4352, 4925).
Sources: ZKDatabase.addCommittedProposal, LearnerHandler.syncFollower.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from coati.errors import StorageCorrupt
from coati.wire.quorum import DIFF, SNAP, TRUNC
from coati.wire.zxid import counter_of, epoch_of, follows

# zookeeper.commitLogCount
DEFAULT_CAPACITY: Final = 500
UNKNOWN: Final = -1

Entry = tuple[int, bytes]


class History:
    """The last `capacity` committed txns. `base_zxid` is the txn before the first of them, UNKNOWN if it may be any."""

    __slots__ = ("_capacity", "_entries", "base_zxid")

    def __init__(self, capacity: int = DEFAULT_CAPACITY, base_zxid: int = UNKNOWN) -> None:
        self._capacity = capacity
        self._entries: deque[Entry] = deque()
        self.base_zxid = base_zxid

    @property
    def max_zxid(self) -> int:
        """The newest txn of which this knows."""
        return self._entries[-1][0] if self._entries else self.base_zxid

    @property
    def min_zxid(self) -> int:
        """The oldest one."""
        return self._entries[0][0] if self._entries and self.base_zxid == UNKNOWN else self.base_zxid

    def add(self, zxid: int, payload: bytes) -> None:
        """A txn was committed. Behind a gap a new history begins, of which nothing older is known."""
        entries = self._entries
        newest = entries[-1][0] if entries else self.base_zxid
        # The usual case first.
        if zxid != newest + 1 and not follows(newest, zxid):
            self.clear()
        entries.append((zxid, payload))
        if len(entries) > self._capacity:
            self.base_zxid = entries.popleft()[0]

    def extend(self, added: list[Entry]) -> None:
        """Txns were committed, in this order."""
        if not added:
            return
        entries = self._entries
        newest = entries[-1][0] if entries else self.base_zxid
        first = added[0][0]
        if first != newest + 1 or added[-1][0] - first != len(added) - 1:
            for zxid, payload in added:
                self.add(zxid, payload)
            return
        # They ascend, so there is no gap.
        entries.extend(added)
        for _ in range(len(entries) - self._capacity):
            self.base_zxid = entries.popleft()[0]

    def clear(self, base_zxid: int = UNKNOWN) -> None:
        """Forgets all. What comes next follows `base_zxid`: a snapshot was installed, or the log was truncated."""
        self._entries.clear()
        self.base_zxid = base_zxid

    def after(self, zxid: int) -> list[Entry] | None:
        """What is committed behind `zxid`; None if that is not a member, so that something might be missing."""
        entries = list(self._entries)
        start = bisect_right(entries, zxid, key=_zxid_of)
        if start and entries[start - 1][0] == zxid:
            return entries[start:]
        if zxid == self.base_zxid and zxid != UNKNOWN:
            return entries
        if counter_of(zxid) or start == len(entries):
            return None
        # No txn has the counter 0: a Java server says so where it holds all from before this epoch, and nothing of it.
        if start or UNKNOWN < self.base_zxid < zxid or entries[0][0] == zxid + 1:
            return entries[start:]
        return None

    def last_before(self, zxid: int) -> int:
        """The newest member below `zxid`, or UNKNOWN."""
        index = bisect_left(self._entries, zxid, key=_zxid_of)
        if index:
            return self._entries[index - 1][0]
        return self.base_zxid if self.base_zxid < zxid else UNKNOWN


def _zxid_of(entry: Entry) -> int:
    return entry[0]


class Plan:
    """How a learner is brought up to date: `kind` DIFF, TRUNC or SNAP, with this zxid, and then the `entries`."""

    __slots__ = ("entries", "kind", "zxid")

    def __init__(self, kind: int, zxid: int, entries: list[Entry]) -> None:
        self.kind = kind
        self.zxid = zxid
        self.entries = entries


def plan(history: History, read_log: Callable[[int], Iterator[Entry]], peer_zxid: int, limit_bytes: int) -> Plan:
    """How a learner whose log ends with `peer_zxid` gets to the end of `history`.

    At most `limit_bytes` come from the log on disk: 0 is no limit and below 0 is never, as in Java.
    """
    last_zxid = history.max_zxid
    entries = history.after(peer_zxid)
    if entries is None:
        member = history.last_before(peer_zxid)
        if member != UNKNOWN:
            return _plan_truncation(history, peer_zxid, member)
        if limit_bytes >= 0 and peer_zxid >= 0:
            entries = _read_disk(history, read_log, peer_zxid, limit_bytes)
    if entries is None:
        return Plan(SNAP, last_zxid, [])
    return Plan(DIFF, last_zxid, entries)


def _plan_truncation(history: History, peer_zxid: int, member: int) -> Plan:
    """The learner has txns that were never committed, and `member` is the newest that it may have of ours."""
    entries = history.after(member)
    assert entries is not None, "a member has a place in the history"
    # What it logged of an epoch begins with what we have of that epoch; of an earlier one it may lack something. So no
    # TRUNC across epochs. And no log has a record with the counter 0 to be cut behind.
    if epoch_of(member) != epoch_of(peer_zxid) or not counter_of(member):
        return Plan(SNAP, history.max_zxid, [])
    return Plan(TRUNC, member, entries)


def _read_disk(
    history: History, read_log: Callable[[int], Iterator[Entry]], peer_zxid: int, limit_bytes: int
) -> list[Entry] | None:
    """The log behind `peer_zxid` up to where the history begins, and then the history. None if that is not proven."""
    joint = history.min_zxid
    # The txn of the learner itself has to be there; for one with the counter 0 the first of its epoch will do.
    first = peer_zxid if counter_of(peer_zxid) else peer_zxid + 1
    previous = first - 1
    found: list[Entry] = []
    size_bytes = 0
    try:
        for zxid, payload in read_log(previous):
            if zxid > joint or (zxid != previous + 1 and (previous < first or not follows(previous, zxid))):
                return None
            previous = zxid
            if zxid != peer_zxid:
                found.append((zxid, payload))
                size_bytes += len(payload)
                if 0 < limit_bytes < size_bytes:
                    return None
            if zxid == joint:
                return found + (history.after(joint) or [])
    except StorageCorrupt:
        # The log does not reach back, or is damaged: whatever it is, the tree in memory is whole.
        return None
    return None
