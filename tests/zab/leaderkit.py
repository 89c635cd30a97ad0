"""A bench for one leader: learners that say what a test tells them to, and a disk that is as slow as a test wants.

Checks on its own, whatever the test is about: the epoch is durable before anybody hears of it (Z1, Z8) and the history
before the current epoch (Z6), what a link is sent has no gap and is committed only once it is there (Z4), deliveries
are in order, durable here and acknowledged by a majority of the voters, counted by the bench (Z12, Z13).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coati.errors import StorageCorrupt
from coati.wire.quorum import (
    ACK,
    ACKEPOCH,
    COMMIT,
    FOLLOWERINFO,
    INFORM,
    LEADERINFO,
    NAMES,
    NEWLEADER,
    OBSERVERINFO,
    PING,
    PROPOSAL,
    SNAP,
    TRUNC,
    Packet,
    PacketReader,
    encode_int,
    encode_learner_info,
    encode_packet,
)
from coati.wire.zxid import epoch_of, follows, make_zxid
from coati.zab.broadcast import Limits
from coati.zab.history import History
from coati.zab.leader import Leader
from coati.zab.outbox import NOTHING, Outbox
from coati.zab.quorum import Server, View
from tests.zab.learnerkit import name, payload, z

SID = 1
TICK_MS = 100
LIMITS = Limits(tick_ms=TICK_MS, init_ticks=10, sync_ticks=5)
INIT_MS = TICK_MS * LIMITS.init_ticks
SYNC_MS = TICK_MS * LIMITS.sync_ticks
MAX_BYTES = 16 << 20
NO_LIMIT = 0


def view_of(voters: int = 3, observers: int = 0, version: int = 0) -> View:
    """Servers 1 to `voters` with a vote, and more without."""
    servers = [Server(sid, f"h{sid}", 2888, 3888, is_observer=sid > voters) for sid in range(1, voters + observers + 1)]
    return View.build(servers, {}, {}, version)


class Peer:
    """The other end of a link, as the bench sees it."""

    def __init__(self, sid: int, *, is_observer: bool, last_zxid: int) -> None:
        self.sid = sid
        self.is_observer = is_observer
        self.last_zxid = last_zxid
        self.acked = -1
        self.reader = PacketReader(MAX_BYTES)
        self.trace: list[str] = []
        self.got: list[tuple[int, bytes | None]] = []
        self.committed = last_zxid


class Bench:
    """The leader with sid 1. `log` is durable, `waiting` is written and not durable yet."""

    def __init__(
        self,
        log: Sequence[int] = (z("1:1"), z("1:2"), z("1:3")),
        *,
        leader: type[Leader] | None = None,
        sid: int = SID,
        view: View | None = None,
        in_memory: int = 500,
        synced: int | None = None,
        accepted: int = 1,
        current: int = 1,
        disk_limit: int = NO_LIMIT,
        linearizable: bool = True,
        forces_snapshot: bool = False,
    ) -> None:
        self.view = view or view_of()
        self.log = [(zxid, payload(zxid)) for zxid in log]
        self.waiting: list[tuple[int, bytes]] = []
        self.accepted = accepted
        self.current = current
        self.delivered: list[tuple[int, bytes]] = []
        self.outbox = Outbox()
        self.now_ms = 1000
        self.peers: dict[int, Peer] = {}
        self.disk_reads = 0
        self.next_link = 10
        last_zxid = log[-1] if log else 0
        self.durable = last_zxid if synced is None else synced
        # As after a start from disk: the newest are in memory.
        history = History(in_memory, 0)
        for entry in self.log:
            history.add(*entry)
        self.history = history
        # By its name in this module, so that test_leader_mutants can plant mistakes.
        self.leader = (leader or Leader)(
            sid=sid, view=self.view, history=history, last_zxid=last_zxid, synced_zxid=self.durable,
            accepted_epoch=accepted, current_epoch=current, limits=LIMITS, outbox=self.outbox, now_ms=self.now_ms,
            read_log=self.read_log, diff_limit_bytes=lambda: disk_limit, linearizable_sync=linearizable,
            forces_snapshot=forces_snapshot,
        )  # fmt: skip
        self.turn()

    def read_log(self, after_zxid: int) -> Iterator[tuple[int, bytes]]:
        self.disk_reads += 1
        log = [entry for entry in self.log if entry[0] > after_zxid]
        if not log or not follows(after_zxid, log[0][0]):
            raise StorageCorrupt("log", 0, "does not reach back")
        yield from log

    # Learners.

    def connect(self, sid: int, *, last: int | None = None, is_observer: bool = False) -> int:
        """A link that has said nothing."""
        link = self.next_link
        self.next_link += 1
        last_zxid = self.log[-1][0] if last is None and self.log else last or 0
        self.peers[link] = Peer(sid, is_observer=is_observer, last_zxid=last_zxid)
        self.leader.on_connected(link, self.now_ms)
        self.turn()
        return link

    def introduce(
        self, sid: int, *, last: int | None = None, accepted: int = 1, is_observer: bool = False, config: int = 0
    ) -> int:
        """One that has said who it is."""
        link = self.connect(sid, last=last, is_observer=is_observer)
        kind = OBSERVERINFO if is_observer else FOLLOWERINFO
        self.say(link, kind, make_zxid(accepted, 0), encode_learner_info(sid, config))
        return link

    def promise(self, link: int, epoch: int = 1) -> int:
        """ACKEPOCH."""
        self.say(link, ACKEPOCH, self.peers[link].last_zxid, encode_int(epoch))
        return link

    def join(self, sid: int, *, last: int | None = None, is_observer: bool = False) -> int:
        """One that has acknowledged NEWLEADER; the disk of the leader is quick meanwhile."""
        link = self.introduce(sid, last=last, is_observer=is_observer)
        self.disk()
        self.promise(link)
        self.disk()
        if link in self.outbox.snapshots:
            self.snapshot(link)
        self.ack(link, self.leader_zxid())
        return link

    def snapshot(self, link: int) -> None:
        """From SNAP to the end of the stream, with nothing in between."""
        self.outbox.snapshots.remove(link)
        self.leader.on_snapshot_begun(link, self.leader.delivered_zxid)
        self.leader.on_snapshot_sent(link)
        self.turn()

    def ack(self, link: int, zxid: int) -> None:
        peer = self.peers[link]
        peer.acked = max(peer.acked, zxid)
        self.say(link, ACK, zxid)

    def say(self, link: int, kind: int, zxid: int = 0, data: bytes | None = None) -> None:
        """One packet, through the bytes it has on the wire."""
        for packet in PacketReader(MAX_BYTES).feed(encode_packet(kind, zxid, data)):
            self.leader.on_packets(link, [packet], self.now_ms)
        self.turn()

    def lose(self, link: int) -> None:
        del self.peers[link]
        self.leader.on_lost(link, self.now_ms)
        self.turn()

    def leader_zxid(self) -> int:
        return make_zxid(self.leader.epoch, 0)

    # The driver and the disk.

    def turn(self) -> Bench:
        """Takes the outbox: nothing becomes durable by it."""
        outbox = self.outbox
        for entry in outbox.log:
            last = (self.waiting or self.log or [(0, b"")])[-1][0]
            assert follows(last, entry[0]), f"{entry[0]:#x} behind {last:#x} in the log"
            self.waiting.append(entry)
        outbox.log = []
        for link, data in outbox.sends:
            if link in self.peers:
                self._receive(self.peers[link], data)
        outbox.sends = []
        for entry in outbox.deliveries:
            assert not self.delivered or follows(self.delivered[-1][0], entry[0])
            assert entry[0] <= self.durable, "delivered before it is durable"
            self._check_quorum(entry[0])
            self.delivered.append(entry)
        outbox.deliveries = []
        return self

    def _check_quorum(self, zxid: int) -> None:
        sids = {SID}
        for peer in self.peers.values():
            if peer.acked >= zxid and not peer.is_observer and self.view.is_voter(peer.sid):
                sids.add(peer.sid)
        assert len(sids) * 2 > len(self.view.voters()), f"{name(zxid)} is committed by {sorted(sids)}"

    def _receive(self, peer: Peer, data: bytes) -> None:
        packets = peer.reader.feed(data)
        while peer.reader.is_raw:
            packets += peer.reader.end_raw(peer.reader.take_rest())
        for packet in packets:
            peer.trace.append(f"{NAMES[packet.type]} {name(packet.zxid)}")
            self._check_sent(peer, packet)

    def _check_sent(self, peer: Peer, packet: Packet) -> None:
        kind, zxid = packet.type, packet.zxid
        if kind == LEADERINFO:
            assert epoch_of(zxid) == self.accepted, "LEADERINFO before the epoch is durable"
        elif kind in (TRUNC, SNAP):
            peer.last_zxid = peer.committed = zxid
        elif kind in (PROPOSAL, INFORM):
            assert follows(peer.last_zxid, zxid), f"{name(zxid)} to one that has {name(peer.last_zxid)}"
            peer.last_zxid = zxid
            peer.got.append((zxid, packet.data))
            if kind == INFORM:
                peer.committed = zxid
        elif kind == COMMIT:
            assert follows(peer.committed, zxid), f"COMMIT {name(zxid)} behind {name(peer.committed)}"
            assert zxid <= peer.last_zxid, "COMMIT without PROPOSAL"
            peer.committed = zxid
        elif kind == NEWLEADER:
            # Z7: what was committed when it was sent is what its ack makes durable.
            assert peer.committed == self.leader.delivered_zxid

    def sync(self) -> Bench:
        """What is written becomes durable."""
        self.log += self.waiting
        self.waiting = []
        self.durable = self.log[-1][0] if self.log else 0
        self.leader.on_synced(self.durable)
        return self.turn()

    def write_epochs(self) -> Bench:
        """The epochs that were asked for become durable."""
        outbox = self.outbox
        if outbox.accepted_epoch != NOTHING:
            assert outbox.accepted_epoch > self.accepted
            self.accepted = outbox.accepted_epoch
        if outbox.current_epoch != NOTHING:
            assert self.durable == (self.log[-1][0] if self.log else 0), "the epoch before its history"
            assert self.current < outbox.current_epoch <= self.accepted
            self.current = outbox.current_epoch
        outbox.accepted_epoch = outbox.current_epoch = NOTHING
        self.leader.on_epochs(self.accepted, self.current)
        return self.turn()

    def disk(self) -> Bench:
        """Everything that was asked of the disk is done."""
        while self.waiting or self.outbox.accepted_epoch != NOTHING or self.outbox.current_epoch != NOTHING:
            if self.waiting:
                self.sync()
            else:
                self.write_epochs()
        return self

    def propose(self, size: int = 0) -> int:
        """The next one, with that many bytes at least."""
        zxid = self.leader.next_zxid()
        self.leader.propose(zxid, payload(zxid).ljust(size))
        self.turn()
        return zxid

    def commit(self, *links: int, size: int = 0) -> int:
        """A proposal that goes all the way."""
        zxid = self.propose(size)
        self.sync()
        for link in links:
            self.ack(link, zxid)
        assert self.leader.delivered_zxid == zxid
        return zxid

    def tick(self, ms: int = TICK_MS // 2) -> Bench:
        """That much later."""
        self.now_ms += ms
        self.leader.on_tick(self.now_ms)
        return self.turn()

    def said(self, link: int) -> list[str]:
        """What the link was sent since it was asked last."""
        peer = self.peers[link]
        trace, peer.trace = peer.trace, []
        return trace

    def is_closed(self, link: int) -> bool:
        return link in self.outbox.closes


def established(bench: Bench | None = None) -> tuple[Bench, int, int]:
    """A leader of three with two followers, in epoch 2."""
    bench = bench or Bench()
    two = bench.introduce(2)
    three = bench.introduce(3)
    bench.disk()
    for link in (two, three):
        bench.promise(link)
    bench.disk()
    for link in (two, three):
        bench.ack(link, bench.leader_zxid())
    assert bench.leader.is_established
    for link in (two, three):
        bench.said(link)
    return bench, two, three


def refused(bench: Bench, link: int, why: str) -> None:
    """The link was closed for this reason, and nothing that it still says does anything."""
    assert bench.outbox.closes.count(link) == 1
    (said,) = [reason for closed, _, reason in bench.outbox.refusals if closed == link]
    assert why in said
    bench.said(link)
    bench.say(link, ACK, bench.leader.proposed_zxid)
    assert bench.said(link) == []
    assert bench.outbox.closes.count(link) == 1


def over(bench: Bench, reason: str) -> None:
    """It is over for this reason: all links are closed, and nothing that comes later does anything."""
    leader = bench.leader
    assert leader.is_over
    assert reason in leader.reason
    assert leader.next_deadline_ms() is None
    assert sorted(bench.outbox.closes) == sorted(bench.peers)
    delivered = leader.delivered_zxid
    for link in bench.peers:
        bench.said(link)
        bench.say(link, ACK, leader.proposed_zxid)
    leader.propose(leader.next_zxid(), b"")
    leader.sync(object())
    leader.on_tick(1 << 40)
    bench.sync().write_epochs()
    late = bench.connect(2)
    assert bench.is_closed(late)
    assert leader.delivered_zxid == delivered
    assert [bench.said(link) for link in bench.peers] == [[] for _ in bench.peers]
    assert bench.outbox.synced == []


def pong(bench: Bench, *links: int) -> None:
    for link in links:
        bench.say(link, PING, bench.leader.proposed_zxid, b"")


def wait(bench: Bench, ms: int, *links: int) -> None:
    """That long, while these answer."""
    end_ms = bench.now_ms + ms
    while bench.now_ms < end_ms:
        bench.tick(min(TICK_MS // 2, end_ms - bench.now_ms))
        for link in links:
            while bench.leader.attendance.by_link[link].round < bench.leader.rounds.begun:
                pong(bench, link)
