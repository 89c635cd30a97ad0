"""Attendance: the links of a leader, how far each learner has come on its own, and who gets what.

Knows lists and watermarks. The states are moved by leader.py only:
    NEW -> INTRODUCED -> ASKED -> PROMISED (-> SNAP_ASKED -> SNAPPING) -> SYNCING -> SYNCED -> FOLLOWING
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from coati.errors import ProtocolError
from coati.wire.quorum import (
    COMMIT,
    COMMITANDACTIVATE,
    INFORM,
    INFORMANDACTIVATE,
    NAMES,
    PROPOSAL,
    PROTOCOL_VERSION,
    Packet,
    decode_learner_info,
    encode_packet,
)
from coati.wire.zxid import epoch_of
from coati.zab.history import Entry
from coati.zab.outbox import Outbox

# States of a link.
NEW: Final = 0
INTRODUCED: Final = 1
ASKED: Final = 2
PROMISED: Final = 3
SNAP_ASKED: Final = 4
SNAPPING: Final = 5
SYNCING: Final = 6
SYNCED: Final = 7
FOLLOWING: Final = 8

_STATES: Final = (
    "new",
    "introduced",
    "asked",
    "promised",
    "snap_asked",
    "snapping",
    "syncing",
    "synced",
    "following",
)
_NO_SID: Final = -1
# Epochs are ints of Java, and the next one has to be one as well.
_EPOCH_LIMIT: Final = 0x7FFFFFFF
# Packets that wait for the end of a snapshot. A learner that reads it slower than that asks again.
HELD_LIMIT_BYTES: Final = 64 << 20


class LearnerLink:
    """What the leader knows of one link. Until it is INTRODUCED it has no sid."""

    __slots__ = (
        "awaited_ms",
        "awaited_zxid",
        "deadline_ms",
        "heard_ms",
        "held",
        "held_bytes",
        "is_counted",
        "is_observer",
        "is_voter",
        "last_zxid",
        "link",
        "round",
        "sid",
        "state",
        "uptodate_zxid",
    )

    def __init__(self, link: int, now_ms: int, deadline_ms: int) -> None:
        self.link = link
        self.sid = _NO_SID
        self.state = NEW
        self.is_observer = False
        self.is_voter = False
        # Whether its promise is one: not if it had accepted the epoch before.
        self.is_counted = True
        self.last_zxid = 0
        self.heard_ms = now_ms
        self.deadline_ms = deadline_ms
        # What was proposed and committed while a snapshot is on the link.
        self.held: list[bytes] = []
        self.held_bytes = 0
        # The last round of PINGs that it has answered.
        self.round = 0
        # The last proposal that it got before UPTODATE, and one behind it whose ack is awaited since then.
        self.uptodate_zxid = 0
        self.awaited_zxid = 0
        self.awaited_ms = 0

    def waits_ms(self, acked_zxid: int, proposed_zxid: int, now_ms: int) -> int:
        """For how long it has not acknowledged what was proposed: a server may answer PINGs and have lost its disk.

        Only what came behind UPTODATE counts, since Java does not acknowledge all that came before.
        """
        if acked_zxid < self.awaited_zxid:
            return now_ms - self.awaited_ms
        if proposed_zxid > max(acked_zxid, self.uptodate_zxid):
            self.awaited_zxid = proposed_zxid
            self.awaited_ms = now_ms
        return 0


class Sizes:
    """Of a leader's proposals, in bytes, -1 before the first: for statistics only (BufferStats)."""

    __slots__ = ("largest", "last", "smallest")

    def __init__(self) -> None:
        self.last = -1
        self.smallest = -1
        self.largest = -1

    def add(self, size: int) -> None:
        """A proposal of that size."""
        self.last = size
        if size > self.largest:
            self.largest = size
        if size < self.smallest or self.smallest < 0:
            self.smallest = size


class Attendance:
    """All links of a leader, by number, and who of them gets what.

    `forwarding`: PROPOSAL and COMMIT. `observing`: INFORM. `following`: PING.
    """

    __slots__ = ("_holding", "_outbox", "by_link", "following", "forwarding", "observing")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.by_link: dict[int, LearnerLink] = {}
        self.forwarding: list[int] = []
        self.observing: list[int] = []
        self.following: list[int] = []
        # Learners for which all waits behind a snapshot.
        self._holding: list[LearnerLink] = []

    def of_sid(self, sid: int) -> LearnerLink | None:
        """The link of a server."""
        for learner in self.by_link.values():
            if learner.sid == sid:
                return learner
        return None

    def begin_forwarding(self, learner: LearnerLink) -> None:
        """It gets all as it comes from now on."""
        if learner.is_observer:
            self.observing.append(learner.link)
        else:
            self.forwarding.append(learner.link)

    def begin_holding(self, learner: LearnerLink, data: bytes) -> None:
        """A snapshot is on the link: `data`, and what comes, goes behind it."""
        learner.held.append(data)
        learner.held_bytes = len(data)
        self._holding.append(learner)

    def end_holding(self, learner: LearnerLink) -> None:
        """The snapshot is sent."""
        self._holding.remove(learner)
        self._outbox.sends.append((learner.link, b"".join(learner.held)))
        learner.held = []

    def send(self, links: list[int], data: bytes) -> None:
        """The same bytes to all of them."""
        sends = self._outbox.sends
        for link in links:
            sends.append((link, data))

    def propose(self, data: bytes) -> None:
        """A PROPOSAL to all followers."""
        self.send(self.forwarding, data)
        if self._holding:
            self._hold(data, b"")

    def commit(self, entries: list[Entry]) -> None:
        """COMMITs to all followers, INFORMs to all observers."""
        data = b"".join([encode_packet(COMMIT, zxid) for zxid, _ in entries])
        self.send(self.forwarding, data)
        if self.observing or self._holding:
            informs = b"".join([encode_packet(INFORM, zxid, payload) for zxid, payload in entries])
            self.send(self.observing, informs)
            self._hold(data, informs)

    def activate(self, entry: Entry, designated: bytes) -> None:
        """COMMITANDACTIVATE to all followers, INFORMANDACTIVATE to all observers: a reconfig is committed."""
        zxid, payload = entry
        data = encode_packet(COMMITANDACTIVATE, zxid, designated)
        inform = encode_packet(INFORMANDACTIVATE, zxid, designated + payload)
        self.send(self.forwarding, data)
        self.send(self.observing, inform)
        self._hold(data, inform)

    def _hold(self, data: bytes, informs: bytes) -> None:
        """Keeps it for the end of the snapshot, within reason (ZOOKEEPER-2201: a stuck peer is its own problem)."""
        for learner in list(self._holding):
            held = informs if learner.is_observer else data
            learner.held.append(held)
            learner.held_bytes += len(held)
            if learner.held_bytes > HELD_LIMIT_BYTES:
                self.drop(learner, "too much was written while it read the snapshot")

    def drop(self, learner: LearnerLink, why: str) -> None:
        """Closes its link."""
        self._outbox.refusals.append((learner.link, learner.sid, why))
        self._outbox.closes.append(learner.link)
        self.forget(learner)

    def forget(self, learner: LearnerLink) -> None:
        """Its link is gone."""
        link = learner.link
        del self.by_link[link]
        for links in (self.forwarding, self.observing, self.following):
            if link in links:
                links.remove(link)
        if learner in self._holding:
            self._holding.remove(learner)


def committed_packets(entries: list[Entry]) -> list[bytes]:
    """As Java sends what is committed already, to observers too."""
    packets: list[bytes] = []
    for zxid, payload in entries:
        packets.append(encode_packet(PROPOSAL, zxid, payload))
        packets.append(encode_packet(COMMIT, zxid))
    return packets


def outstanding_packets(learner: LearnerLink, entries: Iterable[Entry]) -> list[bytes]:
    """A follower has to acknowledge what is outstanding as well; an observer hears of it when it is committed."""
    if learner.is_observer:
        return []
    return [encode_packet(PROPOSAL, zxid, payload) for zxid, payload in entries]


def read_introduction(packet: Packet) -> tuple[int, int, int]:
    """(sid, accepted epoch, version of the configuration) of FOLLOWERINFO and OBSERVERINFO. Raises ProtocolError."""
    sid, version, config_version = decode_learner_info(packet.data)
    accepted_epoch = epoch_of(packet.zxid)
    if version < PROTOCOL_VERSION:
        raise ProtocolError(f"a learner of version {version:#x}, before ZooKeeper 3.4")
    if not 0 <= accepted_epoch < _EPOCH_LIMIT:
        raise ProtocolError(f"server {sid} has accepted the epoch {accepted_epoch}")
    return sid, accepted_epoch, config_version


def unexpected(learner: LearnerLink, kind: int) -> str:
    """What is said of a packet that does not belong there."""
    return f"{NAMES.get(kind, kind)} from server {learner.sid}, which is {_STATES[learner.state]}"
