"""A ring of servers: real leaders and learners, links and disks that take their time, and everything may fail.

Elections are short: of a quorum that looks for a leader, the one with the best vote leads. All chances come from one
seed. Checked at every step: what is delivered as committed is the same everywhere, in the same order, without a hole
(Z2, Z4), a new leader has all of it (Z6), logs have no gap (Z9), and what is acknowledged survives every crash (W1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from random import Random

from coati.errors import StorageCorrupt
from coati.wire.quorum import PacketReader
from coati.wire.zxid import epoch_of, follows
from coati.zab.broadcast import Limits
from coati.zab.history import History
from coati.zab.leader import Leader
from coati.zab.learner import Learner
from coati.zab.outbox import NOTHING, Outbox
from tests.zab.leaderkit import view_of

Entry = tuple[int, bytes]
LIMITS = Limits(tick_ms=1000, init_ticks=10, sync_ticks=5)
MAX_BYTES = 1 << 20
STEP_MS = 20


class Link:
    """Two queues. `sids`: who listens to each; bytes, or a tree where a snapshot's raw bytes would be."""

    def __init__(self, learner: int, leader: int) -> None:
        self.sids = (leader, learner)
        self.queues: tuple[deque[bytes | list[Entry]], ...] = (deque(), deque())
        self.readers = (PacketReader(MAX_BYTES), PacketReader(MAX_BYTES))


class Peer:
    """A server: `log` is durable down to `base`, `waiting` is not yet, `tree` is what was delivered or loaded."""

    def __init__(self, sid: int, *, is_observer: bool) -> None:
        self.sid = sid
        self.is_observer = is_observer
        self.is_up = True
        self.base: list[Entry] = []
        self.log: list[Entry] = []
        self.waiting: list[Entry] = []
        self.tree: list[Entry] = []
        self.accepted = 0
        self.current = 0
        self.committed = 0
        self.history = History(20)
        self.outbox = Outbox()
        self.role: Leader | Learner | None = None

    def entries(self) -> list[Entry]:
        """All that was written, durable or not."""
        return self.base + self.log + self.waiting

    def last(self) -> int:
        """The last zxid written."""
        return zxid_of(self.entries())

    def leader(self) -> Leader | None:
        """Its role, if it leads."""
        return self.role if isinstance(self.role, Leader) else None

    def learner(self) -> Learner | None:
        """Its role, if it learns."""
        return self.role if isinstance(self.role, Learner) else None

    def serves(self) -> bool:
        """Whether clients are served here."""
        role = self.role
        return role is not None and (role.is_established if isinstance(role, Leader) else role.is_serving)

    def read_log(self, after: int) -> Iterator[Entry]:
        """As the store does: refuses to begin above what is asked for."""
        if after < zxid_of(self.base):
            raise StorageCorrupt("log", 0, "it does not reach back")
        return iter([entry for entry in self.log if entry[0] > after])


def zxid_of(entries: list[Entry]) -> int:
    """The last zxid of them."""
    return entries[-1][0] if entries else 0


class Ring:
    """Three voters and an observer."""

    def __init__(self, seed: int, learner: type[Learner] = Learner) -> None:
        self.rng = Random(seed)
        self.make = learner
        self.now_ms = 0
        self.view = view_of(3, 1)
        self.peers = {sid: Peer(sid, is_observer=sid == 4) for sid in (1, 2, 3, 4)}
        self.links: dict[int, Link] = {}
        self.next_link = 1
        # What any server has delivered as committed, and nobody may ever take back.
        self.chosen: list[Entry] = []
        self.elections = 0
        self.snapshots = 0
        self.cuts = 0

    # What may happen.

    def step(self, *, trouble: bool, writes: bool = True) -> None:
        """One thing happens."""
        rng = self.rng
        self.now_ms += rng.randrange(2 * STEP_MS)
        peer = self.peers[rng.choice((1, 2, 3, 4))]
        chance = rng.random()
        if chance < 0.55:
            self.move()
        elif chance < 0.75:
            self.disk(peer)
        elif chance < 0.90:
            leader = peer.leader() if writes else None
            if leader is not None and leader.is_established and len(peer.entries()) - len(peer.tree) < 9:
                leader.propose(leader.next_zxid(), b"%d" % rng.getrandbits(40))
        elif chance < 0.994 or not trouble:
            self.look(peer)
            if peer.role is not None:
                peer.role.on_tick(self.now_ms)
        elif chance < 0.996:
            self.crash(peer)
        elif chance < 0.997:
            for each in self.peers.values():
                self.crash(each)
        elif self.links:
            self.cut(rng.choice(sorted(self.links)))
        for each in self.peers.values():
            self.turn(each)

    def move(self) -> None:
        """One message arrives."""
        full = [(number, end) for number, link in self.links.items() for end in (0, 1) if link.queues[end]]
        if not full:
            return
        number, end = self.rng.choice(full)
        link = self.links[number]
        role = self.peers[link.sids[end]].role
        data = link.queues[end].popleft()
        reader = link.readers[end]
        assert role is not None
        if isinstance(data, bytes):
            packets = reader.feed(data)
        else:
            self.install(self.peers[link.sids[end]], data)
            packets = reader.end_raw(b"")
        for packet in packets:
            role.on_packets(number, [packet], self.now_ms)

    def install(self, peer: Peer, tree: list[Entry]) -> None:
        """The snapshot is the whole history now."""
        learner = peer.learner()
        assert learner is not None
        self.snapshots += 1
        peer.base, peer.log, peer.waiting, peer.tree = list(tree), [], [], list(tree)
        peer.history.clear(learner.snapshot_zxid)
        learner.on_snapshot_installed(learner.snapshot_zxid)

    def disk(self, peer: Peer) -> None:
        """Something becomes durable: all that was written, and then the epochs."""
        outbox, role = peer.outbox, peer.role
        if role is None:
            return
        if outbox.truncate_to != NOTHING:
            self.truncate(peer)
        elif peer.waiting and (self.rng.random() < 0.7 or not self.asks_epochs(outbox)):
            peer.log += peer.waiting
            peer.waiting = []
            role.on_synced(peer.last())
        elif self.asks_epochs(outbox):
            peer.accepted = max(peer.accepted, outbox.accepted_epoch)
            peer.current = max(peer.current, outbox.current_epoch)
            outbox.accepted_epoch = outbox.current_epoch = NOTHING
            assert peer.current <= peer.accepted
            role.on_epochs(peer.accepted, peer.current)

    def asks_epochs(self, outbox: Outbox) -> bool:
        """Whether one is to be written."""
        return outbox.accepted_epoch != NOTHING or outbox.current_epoch != NOTHING

    def truncate(self, peer: Peer) -> None:
        """Log and tree are cut."""
        learner = peer.learner()
        assert learner is not None
        wanted = peer.outbox.truncate_to
        peer.outbox.truncate_to = NOTHING
        peer.log = [entry for entry in peer.log + peer.waiting if entry[0] <= wanted]
        peer.waiting = []
        self.cuts += 1
        if zxid_of(peer.base) > wanted:
            peer.base, peer.log = [], []
        peer.tree = [entry for entry in peer.tree if entry[0] <= peer.last()]
        peer.history.clear(peer.last())
        if peer.base or peer.log:
            learner.on_truncated(peer.last())
        else:
            # As coati.zab.peer has it; whoever follows next begins with nothing.
            learner.refuse("TRUNC below the snapshot")

    # Roles.

    def look(self, peer: Peer) -> None:
        """A server without a role finds a leader, or a quorum without roles makes one."""
        if not peer.is_up:
            peer.is_up = self.rng.random() < 0.05
        if peer.role is not None or not peer.is_up:
            return
        leaders = [each for each in self.peers.values() if each.is_up and each.leader() is not None]
        if leaders and (peer.is_observer or self.rng.random() < 0.8):
            self.follow(peer, self.rng.choice(leaders))
            return
        looking = [each for each in self.peers.values() if each.is_up and each.role is None and not each.is_observer]
        if len(looking) > 1:
            self.lead(max(looking, key=lambda each: (each.current, each.last(), each.sid)))

    def lead(self, peer: Peer) -> None:
        """All that it has written is its history, as in Java."""
        self.elections += 1
        entries = peer.entries()
        for entry in entries[len(peer.tree) :]:
            peer.history.add(*entry)
        peer.tree = entries
        peer.role = Leader(
            sid=peer.sid, view=self.view, history=peer.history, last_zxid=peer.last(),
            synced_zxid=zxid_of(peer.base + peer.log), accepted_epoch=peer.accepted, current_epoch=peer.current,
            limits=LIMITS, outbox=peer.outbox, now_ms=self.now_ms, read_log=peer.read_log,
            diff_limit_bytes=lambda: 0,
        )  # fmt: skip

    def follow(self, peer: Peer, leader: Peer) -> None:
        """Connects to it. What is written and not in the tree is the tail."""
        tail = peer.entries()[len(peer.tree) :]
        learner = self.make(
            sid=peer.sid, is_observer=peer.is_observer, leader_sid=leader.sid, last_zxid=peer.last(),
            accepted_epoch=peer.accepted, current_epoch=peer.current, config_version=0,
            limits=LIMITS, outbox=peer.outbox, now_ms=self.now_ms, touched=list, tail=tail,
            delivered_zxid=zxid_of(peer.tree) if tail else NOTHING, synced_zxid=zxid_of(peer.base + peer.log),
            committed_zxid=peer.committed,
        )  # fmt: skip
        peer.role = learner
        peer.outbox.dials.clear()
        number = self.next_link
        self.next_link += 1
        self.links[number] = Link(peer.sid, leader.sid)
        role = leader.leader()
        assert role is not None
        role.on_connected(number, self.now_ms)
        learner.on_connected(number, self.now_ms)

    def turn(self, peer: Peer) -> None:
        """What a driver does: the outbox is taken."""
        outbox, role = peer.outbox, peer.role
        while outbox.snapshots:
            leader, link = peer.leader(), outbox.snapshots.pop(0)
            assert leader is not None
            self.write(peer)
            leader.on_snapshot_begun(link, zxid_of(peer.tree) if not leader.is_established else leader.delivered_zxid)
            self.write(peer)
            if link in self.links:
                self.links[link].queues[1].append(list(peer.tree))
            leader.on_snapshot_sent(link)
        self.write(peer)
        leader = peer.leader()
        if leader is not None and leader.is_established and len(self.chosen) < len(peer.tree):
            # A quorum has the history that the leader came with.
            assert peer.tree[: len(self.chosen)] == self.chosen, "a leader without what was committed"
            self.chosen += peer.tree[len(self.chosen) :]
        self.deliver(peer)
        learner = peer.learner()
        if learner is not None:
            peer.committed = learner.committed_zxid
        while outbox.closes:
            self.cut(outbox.closes.pop(0))
        if role is not None and role.is_over:
            self.leave(peer)

    def write(self, peer: Peer) -> None:
        """The log, and then what is sent."""
        outbox = peer.outbox
        for entry in outbox.log:
            assert not peer.last() or follows(peer.last(), entry[0]), "a gap in the log"
            peer.waiting.append(entry)
        outbox.log.clear()
        for number, data in outbox.sends:
            if number in self.links:
                link = self.links[number]
                link.queues[1 if link.sids[0] == peer.sid else 0].append(data)
        outbox.sends.clear()

    def deliver(self, peer: Peer) -> None:
        """To the tree. A leader's deliveries are what is committed."""
        for entry in peer.outbox.deliveries:
            assert entry in peer.log, "delivered before it is durable"
            peer.tree.append(entry)
            peer.history.add(*entry)
            if peer.leader() is not None and len(peer.tree) > len(self.chosen):
                self.chosen.append(entry)
            where = len(peer.tree)
            assert self.chosen[where - 1 : where] == [entry], f"server {peer.sid} has another history"
        peer.outbox.deliveries.clear()
        if peer.serves():
            assert peer.tree == self.chosen[: len(peer.tree)], f"server {peer.sid} has another history"

    def cut(self, number: int) -> None:
        """A link is lost, at both ends."""
        link = self.links.pop(number, None)
        if link is None:
            return
        leader, learner = (self.peers[sid] for sid in link.sids)
        role, other = leader.leader(), learner.learner()
        if role is not None:
            role.on_lost(number, self.now_ms)
        if other is not None:
            other.on_lost(number)

    def leave(self, peer: Peer) -> None:
        """The role is over; a cut that was asked for is made before the next one begins."""
        learner = peer.learner()
        if learner is not None and peer.outbox.truncate_to != NOTHING:
            self.truncate(peer)
        peer.role = None
        if learner is not None:
            assert [*peer.tree, *learner.take_tail()] == peer.entries(), "the tail is what the tree lacks"
        peer.outbox = Outbox()

    def crash(self, peer: Peer) -> None:
        """Power is lost: what waited survives in part. The server comes back later and loads what it finds."""
        self.write(peer)
        peer.log += peer.waiting[: self.rng.randrange(len(peer.waiting) + 1)]
        peer.waiting = []
        peer.role, peer.outbox, peer.is_up = None, Outbox(), False
        for number in [number for number, link in self.links.items() if peer.sid in link.sids]:
            self.cut(number)
        peer.tree = peer.entries()
        peer.committed = 0
        peer.history = History(20)
        # As recovery does: the epoch is at least that of the last txn (storage/epochs.py).
        peer.current = max(peer.current, epoch_of(peer.last()))
        assert peer.current <= peer.accepted, "an epoch is accepted before anything of it is logged"

    def settles(self, steps: int) -> bool:
        """Without trouble all servers serve, and have all that is committed."""
        for _ in range(steps):
            self.step(trouble=False, writes=not len(self.chosen))
            peers = self.peers.values()
            if all(peer.serves() and peer.tree == self.chosen for peer in peers) and len(self.chosen):
                return True
        return False
