"""A bench for one learner: a leader that says what a test tells it to, and a disk that is as slow as a test wants.

Checks on its own, whatever the test is about: an ACK promises only what is durable, NEWLEADER's comes behind the whole
history and the epoch and before all others (Z7), epochs never outrun each other (Z8), the log has no gap (Z9), and
deliveries are durable and in order (Z4).
"""

from __future__ import annotations

from collections.abc import Sequence

from coati.wire.quorum import (
    ACK,
    COMMIT,
    DIFF,
    INFORM,
    LEADERINFO,
    NAMES,
    NEWLEADER,
    PROPOSAL,
    SNAP,
    UPTODATE,
    Packet,
    PacketReader,
    encode_int,
    encode_packet,
)
from coati.wire.zxid import epoch_of, follows, make_zxid
from coati.zab.broadcast import Limits
from coati.zab.learner import MAX_HELD_BYTES, Learner
from coati.zab.outbox import NOTHING, Outbox

LINK = 7
TICK_MS = 100
LIMITS = Limits(tick_ms=TICK_MS, init_ticks=10, sync_ticks=5)
MAX_BYTES = 1 << 20


def z(text: str) -> int:
    """`epoch:counter`, both decimal."""
    epoch, counter = text.split(":")
    return make_zxid(int(epoch), int(counter))


def payload(zxid: int) -> bytes:
    """What the tests log at `zxid`."""
    return b"txn of %d" % zxid


class Bench:
    """One learner with its disk. `log` is durable, `waiting` is written and not durable yet."""

    def __init__(
        self,
        log: Sequence[int] = (),
        *,
        learner: type[Learner] = Learner,
        base: int = 0,
        accepted: int = 0,
        current: int = 0,
        is_observer: bool = False,
        delivered: int | None = None,
        committed: int = 0,
        max_held_bytes: int = MAX_HELD_BYTES,
        limits: Limits = LIMITS,
    ) -> None:
        self.base = base
        self.log = [(zxid, payload(zxid)) for zxid in log]
        self.waiting: list[tuple[int, bytes]] = []
        self.accepted = accepted
        self.current = current
        self.sessions: list[tuple[int, int]] = []
        self.delivered: list[tuple[int, bytes]] = []
        self.trace: list[str] = []
        self.now_ms = 1000
        self.outbox = Outbox()
        self.reader = PacketReader(MAX_BYTES)
        self.answers = PacketReader(MAX_BYTES)
        self.promised = False
        self.history_end = 0
        self.proposed = 0
        last_zxid = log[-1] if log else base
        tail = [] if delivered is None else [entry for entry in self.log if entry[0] > delivered]
        self.learner = learner(
            sid=3, is_observer=is_observer, leader_sid=1, last_zxid=last_zxid, accepted_epoch=accepted,
            current_epoch=current, config_version=0, limits=limits, outbox=self.outbox, now_ms=self.now_ms,
            touched=lambda: self.sessions, tail=tail, delivered_zxid=NOTHING if delivered is None else delivered,
            committed_zxid=committed, max_held_bytes=max_held_bytes,
        )  # fmt: skip

    # The leader.

    def join(self, epoch: int) -> Bench:
        """Up to ACKEPOCH."""
        self.learner.on_connected(LINK, self.now_ms)
        self.leader(LEADERINFO, make_zxid(epoch, 0), encode_int(0x10000))
        return self.disk()

    def synchronise(self, epoch: int, *zxids: int) -> Bench:
        """Up to UPTODATE by a DIFF of `zxids`, all committed."""
        self.join(epoch).leader(DIFF, zxids[-1] if zxids else self.learner.proposed_zxid)
        for zxid in zxids:
            self.commit(self.propose(zxid))
        self.leader(NEWLEADER, make_zxid(epoch, 0), b"version=0")
        self.disk()
        self.leader(UPTODATE, -1)
        return self.disk()

    def leader(self, kind: int, zxid: int = 0, data: bytes | None = None) -> Bench:
        """One packet, through the bytes it has on the wire."""
        if kind in (PROPOSAL, INFORM):
            self.proposed = zxid
        elif kind == NEWLEADER:
            self.history_end = self.proposed
        packets = self.reader.feed(encode_packet(kind, zxid, data))
        if kind == SNAP:
            packets += self.reader.end_raw(b"")
        for packet in packets:
            self.learner.on_packets(LINK, [packet], self.now_ms)
        return self.turn()

    def propose(self, zxid: int) -> int:
        """A PROPOSAL."""
        self.leader(PROPOSAL, zxid, payload(zxid))
        return zxid

    def commit(self, zxid: int) -> Bench:
        """A COMMIT."""
        return self.leader(COMMIT, zxid)

    # The driver and the disk.

    def turn(self) -> Bench:
        """Takes the outbox: nothing becomes durable by it."""
        outbox = self.outbox
        for entry in outbox.log:
            last = (self.waiting or self.log or [(self.base, b"")])[-1][0]
            assert follows(last, entry[0]), f"{entry[0]:#x} behind {last:#x} in the log"
            assert epoch_of(entry[0]) <= self.accepted
            self.waiting.append(entry)
            self.trace.append(f"log {name(entry[0])}")
        outbox.log = []
        for link, data in outbox.sends:
            assert link == LINK
            for packet in self.answers.feed(data):
                self._check_sent(packet)
                self.trace.append(f"{NAMES[packet.type]} {name(packet.zxid)}")
        outbox.sends = []
        for entry in outbox.deliveries:
            assert not self.delivered or self.delivered[-1][0] < entry[0]
            assert entry in self.log, "delivered before it is durable"
            self.delivered.append(entry)
            self.trace.append(f"deliver {name(entry[0])}")
        outbox.deliveries = []
        return self

    def _check_sent(self, packet: Packet) -> None:
        if packet.type != ACK:
            return
        if packet.zxid & 0xFFFFFFFF:
            assert self.promised, "an ACK before that of NEWLEADER"
            assert packet.zxid <= self.end(), "an ACK of what is not durable"
        elif not self.promised:
            assert self.history_end <= self.end(), "NEWLEADER acknowledged before the history is durable"
            assert self.current == epoch_of(packet.zxid), "NEWLEADER acknowledged before its epoch is durable"
            self.promised = True

    def end(self) -> int:
        """The last durable zxid."""
        return self.log[-1][0] if self.log else self.base

    def sync(self) -> Bench:
        """What is written becomes durable."""
        self.log += self.waiting
        self.waiting = []
        self.learner.on_synced(self.end())
        return self.turn()

    def write_epochs(self) -> Bench:
        """The epochs that were asked for become durable."""
        outbox = self.outbox
        if outbox.accepted_epoch != NOTHING:
            assert outbox.accepted_epoch > self.accepted
            self.accepted = outbox.accepted_epoch
            self.trace.append(f"accepted {self.accepted}")
        if outbox.current_epoch != NOTHING:
            assert not self.waiting, "the epoch is written before its history is durable"
            assert self.current < outbox.current_epoch <= self.accepted
            self.current = outbox.current_epoch
            self.trace.append(f"current {self.current}")
        outbox.accepted_epoch = outbox.current_epoch = NOTHING
        self.learner.on_epochs(self.accepted, self.current)
        return self.turn()

    def truncate(self) -> Bench:
        """The log is cut as asked."""
        assert not self.waiting
        wanted = self.outbox.truncate_to
        self.outbox.truncate_to = NOTHING
        self.log = [entry for entry in self.log if entry[0] <= wanted]
        self.trace.append(f"truncate {name(wanted)}")
        if self.base > wanted:
            # As coati.zab.peer has it; whoever follows next begins with nothing.
            self.base = 0
            self.learner.refuse("TRUNC below the snapshot")
        else:
            self.learner.on_truncated(self.end())
        return self.turn()

    def install(self) -> Bench:
        """The snapshot replaces what was here."""
        self.base = self.learner.snapshot_zxid
        self.log = []
        self.delivered = []
        self.trace.append(f"install {name(self.base)}")
        self.learner.on_snapshot_installed(self.base)
        return self.turn()

    def disk(self) -> Bench:
        """Everything that was asked of the disk is done."""
        self.turn()
        if self.outbox.truncate_to != NOTHING:
            self.truncate()
        while self.waiting or self.outbox.accepted_epoch != NOTHING or self.outbox.current_epoch != NOTHING:
            if self.waiting:
                self.sync()
            else:
                self.write_epochs()
        return self

    def again(self) -> Bench:
        """The next role after this one, on what is durable here, in the same process."""
        bench = Bench(
            [zxid for zxid, _ in self.log], base=self.base, accepted=self.accepted, current=self.current,
            learner=type(self.learner), committed=self.learner.committed_zxid,
        )  # fmt: skip
        bench.delivered = self.delivered
        return bench

    def said(self) -> list[str]:
        """What happened since it was asked last."""
        trace = self.trace
        self.trace = []
        return trace


def name(zxid: int) -> str:
    """As the tests write it."""
    return str(zxid) if zxid < 0 else f"{zxid >> 32}:{zxid & 0xFFFFFFFF}"
