"""A member of a simulated ensemble that writes down what it does, for `checkers.py`, and counts what it meets.

Traces are taken where the parts of a server meet: at the store, between hub and replica, and at the ports. Nothing of
it is known to the server. A trace is written when the thing is true: SYNCED when the disk has said so, APPLIED when
it is known to be committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from coati.server.driver import Driver
from coati.server.hub import Hub
from coati.server.replica import Replica
from coati.storage.store import SnapshotWriter, Store, StoreConfig
from coati.testing import history
from coati.testing.cluster import MAX_DATA_BYTES, ClusterConfig, SimCluster, SimMember, SimPorts
from coati.testing.disk import SimDisk
from coati.testing.history import Trace
from coati.wire.quorum import (
    ACK,
    ACKEPOCH,
    DIFF,
    FOLLOWING,
    LEADERINFO,
    LEADING,
    LOOKING,
    NEWLEADER,
    OBSERVING,
    PING,
    PROPOSAL,
    SNAP,
    TRUNC,
    Packet,
    PacketReader,
)
from coati.wire.txns import CloseSessionTxn, MultiTxn, decode_txn
from coati.wire.zxid import counter_of, epoch_of, make_zxid
from coati.zab.leader import Leader
from coati.zab.learner import CHOOSING, INSTALLING, SERVING, Learner

Entry = tuple[int, bytes]

_PAUSED: Final = {LEADING: "leader paused", FOLLOWING: "follower paused", OBSERVING: "observer paused"}


class TracedStore(Store):
    """Its log, epochs and snapshots."""

    def __init__(self, disk: SimDisk, config: StoreConfig, member: TracedMember) -> None:
        super().__init__(disk, config)
        self._member = member

    def append(self, zxid: int, payload: bytes) -> None:
        super().append(zxid, payload)
        self._member.on_logged(zxid, payload)

    def append_all(self, first_zxid: int, payloads: list[bytes]) -> None:
        known = len(self._member.traces)
        super().append_all(first_zxid, payloads)
        if len(self._member.traces) == known:
            for offset, payload in enumerate(payloads):
                self._member.on_logged(first_zxid + offset, payload)

    def _begin_log(self, zxid: int) -> None:
        super()._begin_log(zxid)
        self._member.count("log roll")

    def _synced(self, error: BaseException | None) -> None:
        if error is None:
            self._member.trace(history.SYNCED, self._covered[0])
        super()._synced(error)

    def _wrote_epochs(self, writes: list[tuple[str, int]], error: BaseException | None) -> None:
        if error is None:
            self._member.trace(history.SYNCED, self._covered[0])
            epochs = dict(writes)
            accepted = epochs.get("acceptedEpoch", self.accepted_epoch)
            current = epochs.get("currentEpoch", self.current_epoch)
            self._member.traces.append(
                Trace(self._member.clock.now_ms, self._member.sid, history.EPOCHS, accepted=accepted, epoch=current)
            )
        super()._wrote_epochs(writes, error)

    def begin_install(self, zxid: int) -> SnapshotWriter:
        self._member.installing_zxid = zxid
        return super().begin_install(zxid)

    def _on_installed(self, zxid: int, name: str) -> None:
        super()._on_installed(zxid, name)
        self._member.installing_zxid = -1
        self._member.trace(history.INSTALLED, zxid)

    def truncate(self, zxid: int) -> bool:
        is_cut = super().truncate(zxid)
        if is_cut:
            self._member.trace(history.TRUNCATED, zxid)
        return is_cut

    def read_log(self, after_zxid: int) -> Iterator[Entry]:
        self._member.count("log read for a learner")
        return super().read_log(after_zxid)


class TracedHub(Hub):
    """Roles, deliveries, and how this server was synchronised."""

    member: TracedMember

    def on_packets(self, link: int, packets: list[Packet]) -> None:
        for packet in packets:
            if packet.type in (DIFF, TRUNC, SNAP, PROPOSAL, NEWLEADER) and isinstance(self.peer.role, Learner):
                self.member.on_sync_packet(self.peer.role, packet)
            elif packet.type == PING and isinstance(self.peer.role, Leader):
                self.member.on_report(self.peer.role, link)
        super().on_packets(link, packets)

    def on_link_lost(self, link: int) -> None:
        self.member.note_interrupted(link)
        super().on_link_lost(link)

    @property
    def receiving(self) -> int:
        """The link over which a snapshot comes, -1 if none does."""
        return -1 if self._receiver is None else self._receiver.link

    def _begin_serving(self) -> None:
        super()._begin_serving()
        self.member.on_serving()

    def _deliver(self, replica: Replica, zxid: int, payload: bytes) -> None:
        super()._deliver(replica, zxid, payload)
        self.member.on_applied(zxid, payload)

    def _apply(self, zxid: int, payload: bytes) -> None:
        super()._apply(zxid, payload)
        self.member.on_applied(zxid, payload)


class TracedDriver(Driver):
    """Tells when a turn is over, and everything in its place."""

    member: TracedMember

    @property
    def is_writing_snapshot(self) -> bool:
        """Begun, and not ended."""
        return self._export is not None

    def _finish_turn(self) -> None:
        super()._finish_turn()
        self.member.on_turn()

    def _on_purged(self, names: list[str], error: BaseException | None) -> None:
        super()._on_purged(names, error)
        if names:
            self.member.count("purge")


class TracedPorts(SimPorts):
    """What is promised to others."""

    def __init__(self, member: TracedMember) -> None:
        super().__init__(member)
        self._traced = member

    def send(self, link: int, data: bytes) -> None:
        role = self._traced.hub.peer.role
        if isinstance(role, Learner):
            self._traced.on_learner_sends(role, data)
        elif isinstance(role, Leader):
            self._traced.on_leader_sends(role, data)
        super().send(link, data)


class TracedMember(SimMember):
    """One server, its traces in `traces` of the cluster."""

    hub_type: type[Hub] = TracedHub
    driver_type: type[Driver] = TracedDriver

    def __init__(self, cluster: SimCluster, sid: int) -> None:
        super().__init__(cluster, sid)
        assert isinstance(cluster, TracedCluster)
        self.traces = cluster.traces
        self.reach = cluster.reach
        self.on_snapshot = cluster.on_snapshot
        # A snapshot that may be in place before anybody hears of it.
        self.installing_zxid = -1
        self._led_epoch = -1
        self._asked_epoch = -1
        self._named_epoch = -1
        self._acked_role: Learner | None = None
        self._looked_term = -1
        # Applied by a leader whom nobody follows yet.
        self._unsure: list[Trace] = []
        self._sync: list[int] = []
        self._began_ms = 0
        self._last_role: Learner | Leader | None = None
        self._last_state = SERVING
        # When each round of PINGs began, the first one being round 1.
        self._pinging: Leader | None = None
        self._rounds_ms: list[int] = [0]
        # From when to when the process was stopped, and since when it is.
        self.pauses: list[tuple[int, int]] = []
        self.paused_ms = -1

    def make_store(self, config: StoreConfig) -> Store:
        return TracedStore(self.disk, config, self)

    def make_ports(self) -> SimPorts:
        return TracedPorts(self)

    def trace(self, kind: str, zxid: int, payload: bytes = b"") -> None:
        """One with a zxid."""
        self.traces.append(Trace(self.clock.now_ms, self.sid, kind, zxid, payload=payload))

    def count(self, what: str) -> None:
        """It has happened once more."""
        self.reach[what] += 1

    def start(self) -> None:
        self._looked_term = -1
        self._unsure.clear()
        super().start()

    def _on_made(self) -> None:
        store, zxid = self.store, self.tree.last_zxid
        if self.installing_zxid == zxid:
            self.trace(history.INSTALLED, zxid)
        self.installing_zxid = -1
        self.traces.append(
            Trace(
                self.clock.now_ms,
                self.sid,
                history.RECOVERED,
                zxid,
                epoch=store.current_epoch,
                accepted=store.accepted_epoch,
            )
        )
        assert isinstance(self.hub, TracedHub)
        assert isinstance(self.driver, TracedDriver)
        self.hub.member = self.driver.member = self
        self.hub.outbox.witness = self.on_committed

    def pause(self) -> None:
        super().pause()
        self.paused_ms = self.clock.now_ms
        self.count(_PAUSED.get(self.state, "looker paused"))

    def go_on(self) -> None:
        self._note_pause()
        if self.is_serving and self.state == LEADING:
            epoch = self.store.current_epoch
            others = [one for one in self.cluster.members.values() if one.is_serving and one.state == LEADING]
            if any(one.store.current_epoch > epoch for one in others):
                self.count("deposed leader goes on")
        super().go_on()

    def _note_pause(self) -> None:
        if self.paused_ms >= 0:
            self.pauses.append((self.paused_ms, self.clock.now_ms))
            self.paused_ms = -1

    def _end(self) -> None:
        self._note_pause()
        if self.is_up:
            self.note_interrupted(self.hub.receiving if isinstance(self.hub, TracedHub) else -1)
            self.trace(history.DOWN, 0)
        super()._end()

    # What the parts report.

    def on_logged(self, zxid: int, payload: bytes) -> None:
        """In the log, not durable."""
        if epoch_of(zxid) == self._led_epoch:
            self.trace(history.PROPOSED, zxid, payload)
        self.trace(history.LOGGED, zxid, payload)

    def on_committed(self, entries: list[Entry], acked: dict[int, int]) -> None:
        """A leader has counted the acks."""
        now_ms, sids = self.clock.now_ms, sorted(acked)
        for zxid, _ in entries:
            acks = tuple(sid for sid in sids if acked[sid] >= zxid)
            self.traces.append(Trace(now_ms, self.sid, history.COMMITTED, zxid, acks=acks))

    def on_applied(self, zxid: int, payload: bytes) -> None:
        """In the tree. Of a leader that does not serve yet nobody knows whether it is committed."""
        digest = self.tree.digest if self.tree.last_zxid == zxid else None
        trace = Trace(self.clock.now_ms, self.sid, history.APPLIED, zxid, payload=payload, digest=digest)
        if self.hub.peer.state == LEADING and not self.is_serving_role():
            self._unsure.append(trace)
            return
        self.traces.append(trace)
        record = decode_txn(payload)
        if isinstance(record.txn, CloseSessionTxn | MultiTxn) and self.is_writing_snapshot:
            self.count("snapshot under close or multi")
        if isinstance(record.txn, CloseSessionTxn) and not record.header.cxid and self.state == LEADING:
            self.count("expiry")
            if self.clock.now_ms - self._began_ms < self.cluster.config.min_session_timeout_ms * 2:
                self.count("expiry during failover")

    @property
    def is_writing_snapshot(self) -> bool:
        """Whether a snapshot is on its way to the disk."""
        return isinstance(self.driver, TracedDriver) and self.driver.is_writing_snapshot

    def is_serving_role(self) -> bool:
        """Whether the hub has begun to serve in this role."""
        return self.hub.replica is not None

    def on_serving(self) -> None:
        """Clients are served from now on."""
        role = self.hub.peer.role
        assert role is not None, "only a role serves"
        leads = isinstance(role, Leader)
        self._began_ms = self.clock.now_ms
        self.traces.append(Trace(self.clock.now_ms, self.sid, history.SERVING, epoch=role.epoch, is_leader=leads))
        if leads:
            self._led_epoch = role.epoch
            self.count("leader")
        elif isinstance(role, Learner) and role.is_observer:
            self.count("observer join")
        unsure, self._unsure = self._unsure, []
        self.traces += unsure

    def on_turn(self) -> None:
        """Everything is in its place: a vote that was sent in this turn is looked at."""
        peer = self.hub.peer
        if isinstance(peer.role, Leader):
            self._note_rounds(peer.role)
        last = self._last_role
        if isinstance(last, Learner) and peer.role is not last and CHOOSING <= self._last_state < SERVING:
            self.count("leader change during sync")
        if isinstance(last, Leader) and peer.role is not last and "counter" in last.reason:
            self.count("zxid rollover")
        if isinstance(peer.role, Learner) and peer.role is not last:
            self.trace(history.JOINING, 0)
        self._last_role = peer.role
        self._last_state = peer.role.state if isinstance(peer.role, Learner) else SERVING
        if peer.state == LOOKING and peer.term != self._looked_term:
            self._looked_term = peer.term
            self._unsure.clear()
            self.trace(history.LOOKING, peer.logged_zxid)

    def _note_rounds(self, role: Leader) -> None:
        """PINGs leave in the moment in which their round begins."""
        if role is not self._pinging:
            self._pinging = role
            self._rounds_ms = [0]
        self._rounds_ms += [self.clock.now_ms] * (role.rounds.begun + 1 - len(self._rounds_ms))

    def on_report(self, role: Leader, link: int) -> None:
        """An answer to a PING: it tells whom that learner had heard of when the PING was sent."""
        learner = role.attendance.by_link.get(link)
        if learner is not None and role is self._pinging and learner.round < role.rounds.begun:
            sent_ms = self._rounds_ms[learner.round + 1]
            acks = (learner.sid,)
            self.traces.append(
                Trace(self.clock.now_ms, self.sid, history.REPORTED, epoch=role.epoch, count=sent_ms, acks=acks)
            )

    def on_learner_sends(self, role: Learner, data: bytes) -> None:
        """Promises and acknowledgements."""
        for packet in PacketReader(MAX_DATA_BYTES).feed(data):
            if packet.type == ACKEPOCH:
                self.traces.append(Trace(self.clock.now_ms, self.sid, history.PROMISED, epoch=role.epoch))
            if packet.type != ACK:
                continue
            if counter_of(packet.zxid):
                self.trace(history.ACKED, packet.zxid)
            elif role is not self._acked_role:
                # UPTODATE is acknowledged in the same way, and promises nothing.
                self._acked_role = role
                epoch = epoch_of(packet.zxid)
                self.traces.append(Trace(self.clock.now_ms, self.sid, history.ACKED_LEADER, epoch=epoch))

    def on_leader_sends(self, role: Leader, data: bytes) -> None:
        """The first LEADERINFO and the first NEWLEADER of an epoch."""
        if role.epoch > self._asked_epoch and _head_of(LEADERINFO, make_zxid(role.epoch, 0)) in data:
            self._asked_epoch = role.epoch
            self.traces.append(Trace(self.clock.now_ms, self.sid, history.PROMISED, epoch=role.epoch))
        if role.epoch != self._named_epoch and _head_of(NEWLEADER, make_zxid(role.epoch, 0)) in data:
            self._named_epoch = role.epoch
            self.traces.append(Trace(self.clock.now_ms, self.sid, history.LEADING, epoch=role.epoch))

    def on_sync_packet(self, role: Learner, packet: Packet) -> None:
        """Which way the leader has chosen."""
        if packet.type in (DIFF, TRUNC, SNAP):
            self._sync = [packet.type]
            if packet.type == SNAP:
                self.on_snapshot(self.sid, role.leader_sid)
        elif packet.type == PROPOSAL and self._sync:
            self._sync.append(packet.zxid)
        elif packet.type == NEWLEADER and self._sync:
            kind, zxids = self._sync[0], self._sync[1:]
            self._sync = []
            self.count(self._name_of_sync(kind, zxids, role.leader_sid))

    def _name_of_sync(self, kind: int, zxids: list[int], leader_sid: int) -> str:
        if kind == SNAP:
            return "SNAP"
        if kind == TRUNC:
            return "TRUNC+DIFF" if zxids else "TRUNC"
        if not zxids:
            return "DIFF empty"
        first_known = self.cluster.members[leader_sid].hub.peer.history.min_zxid
        return "DIFF disk" if zxids[0] < first_known else "DIFF memory"

    def note_interrupted(self, link: int) -> None:
        """A link is lost over which a snapshot came."""
        role = self.hub.peer.role
        receiving = self.hub.receiving if isinstance(self.hub, TracedHub) else -1
        if isinstance(role, Learner) and role.state == INSTALLING and link == receiving >= 0:
            self.count("SNAP interrupted")


class TracedCluster(SimCluster):
    """`traces` of all members in the order of one clock; `reach`: what has happened how often.

    `on_snapshot` hears of a snapshot that begins to come, of the server that gets it, and of its leader.
    """

    member_type: type[SimMember] = TracedMember

    def __init__(
        self,
        config: ClusterConfig | None = None,
        *,
        dice: Random | None = None,
        on_snapshot: Callable[[int, int], None],
    ) -> None:
        self.traces: list[Trace] = []
        self.reach: Counter[str] = Counter()
        self.on_snapshot = on_snapshot
        super().__init__(config, dice=dice)


def _head_of(kind: int, zxid: int) -> bytes:
    return kind.to_bytes(4, "big") + zxid.to_bytes(8, "big")
