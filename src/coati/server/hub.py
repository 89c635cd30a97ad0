"""The hub: makes one server of an ensemble out of its peer, tree, store and replica.

The driver asks it in every turn to settle: what the peer has delivered goes to the replica, what learners asked for
goes there too, and roles begin and end here. A replica lives as long as the server serves in one role; between two
lives committed txns go into the tree directly. Knows no asyncio: `Network` and `Host` are lent by shell and driver.

Invariants: the tree holds exactly the delivered txns, in memory as after a restart (Z10); nothing is cut from the log
or put in its place while a sync, a snapshot or a purge is under way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final, Protocol

from coati.core.replay import apply
from coati.core.tree import Tree, TreeConfig, show_config
from coati.errors import MarshallingError, StorageCorrupt, StorageFailed
from coati.seams import Clock
from coati.server.doubts import Doubts
from coati.server.handshake import NO_LINK, Doubt, Question
from coati.server.readonly import NO_TERM, ReadOnly, Retreat
from coati.server.recovery import Collector, Loaded, reload
from coati.server.replica import Replica
from coati.server.standing import Standing
from coati.server.transfer import Receiver, SnapshotSender, SnapshotStream
from coati.storage.format import TXN_HEADER_BYTES
from coati.storage.store import Store
from coati.wire.quorum import (
    FOLLOWING,
    INFORM,
    INFORMANDACTIVATE,
    LEADING,
    LOOKING,
    OBSERVING,
    PROPOSAL,
    SNAP,
    Notification,
    Packet,
)
from coati.wire.txns import CloseSessionTxn, CreateSessionTxn, decode_txn, is_readable
from coati.zab.broadcast import Broadcast
from coati.zab.dynamic import DynamicPeer
from coati.zab.leader import Leader
from coati.zab.learner import INSTALLING, Learner
from coati.zab.outbox import NOTHING, Outbox
from coati.zab.peer import STATE_NAMES, Peer, PeerConfig

logger = logging.getLogger("coati.server.hub")

# Bytes of a snapshot that wait in a link before no more are made.
SNAPSHOT_AHEAD_BYTES: Final = 1 << 20
# The same of the same learner is said once in this time, as who is refused may come again every second; and so many
# are remembered.
REFUSAL_QUIET_MS: Final = 60_000
MAX_REFUSALS: Final = 100
# Settling ends after some rounds; a machine that answers itself for ever is broken.
MAX_ROUNDS: Final = 1000


MODES: Final[dict[int, str]] = {
    LOOKING: "leaderelection",
    FOLLOWING: "follower",
    LEADING: "leader",
    OBSERVING: "observer",
}


_unpack_zxid: Final = Struct(">q").unpack_from
# Where a txn's header has its zxid.
_ZXID_AT: Final = 12
_DESIGNATED_BYTES: Final = 8


def _is_broken(packet: Packet) -> bool:
    """Whether it should have a txn in it and has none, another, or one that no log could be replayed with."""
    kind = packet.type
    data = packet.data
    if kind == INFORMANDACTIVATE and data is not None:
        # Behind who is to lead.
        data = data[_DESIGNATED_BYTES:]
    elif kind != PROPOSAL and kind != INFORM:
        return False
    if data is None or len(data) < TXN_HEADER_BYTES or _unpack_zxid(data, _ZXID_AT)[0] != packet.zxid:
        return True
    return not is_readable(data)


# What `mntr` counts, by state. An observer is told of what is committed only.
_LOGGED: Final[dict[int, str]] = {LEADING: "proposal_count", FOLLOWING: "learner_proposal_received_count"}
_DELIVERED: Final[dict[int, str]] = {
    LEADING: "commit_count",
    FOLLOWING: "learner_commit_received_count",
    OBSERVING: "learner_commit_received_count",
}


def _tally(replica: Replica | None, name: str | None, times: int) -> None:
    """While somebody is served."""
    if replica is not None and name is not None and times:
        replica.stats.count(name, times)


def _runs(entries: list[tuple[int, bytes]]) -> Iterator[tuple[int, list[bytes]]]:
    """Payloads whose zxids follow each other, with the first zxid of each run."""
    if entries and entries[-1][0] - entries[0][0] == len(entries) - 1:
        # They ascend, so there is no gap.
        yield entries[0][0], [payload for _, payload in entries]
        return
    payloads: list[bytes] = []
    first = 0
    for zxid, payload in entries:
        if payloads and zxid != first + len(payloads):
            yield first, payloads
            payloads = []
        if not payloads:
            first = zxid
        payloads.append(payload)
    if payloads:
        yield first, payloads


class Network(Protocol):
    """What the shell of the two ports does for the hub. Links are numbers that it gives."""

    def send_vote(self, sid: int, n: Notification) -> None: ...

    def has_delivered(self) -> bool:
        """Whether a vote for at least one server has left."""

    def reconnect(self) -> None:
        """No vote has got through to anybody: connect to all once more."""

    def dial(self, sid: int) -> int:
        """Connects to the quorum port of a server; `on_link` or `on_dial_failed` tells of it."""

    def send(self, link: int, data: bytes) -> None: ...

    def close(self, link: int) -> None: ...

    def set_leading(self, leads: bool) -> None:
        """Whether learners may connect."""

    def buffered_bytes(self, link: int) -> int:
        """What was sent and has not left; `on_drained` tells when it has."""

    def pause(self, link: int) -> None:
        """Stop reading."""

    def resume(self, link: int) -> None: ...

    def end_raw(self, link: int, rest: bytes) -> None:
        """The snapshot is over: packets follow."""


class Host(Protocol):
    """What the driver does for the hub."""

    def set_replica(self, replica: Replica | ReadOnly | None, *, serves_clients: bool = True) -> None:
        """The server serves by it from now on, clients too if they are to be; None: by nobody."""

    def post_turn(self) -> None:
        """There is something to settle."""

    def append_log(self) -> None:
        """What `take_log` gives goes to the store now."""

    def die(self, error: BaseException) -> None:
        """The disk has failed, or what was committed cannot be applied: the server ends."""

    def give_up_snapshot(self) -> None:
        """The store is needed for something else."""


class Origin:
    """A learner's link, as the owner of the sessions that came over it: compared by identity. `peer`: its address."""

    __slots__ = ("link", "peer")

    def __init__(self, link: int, peer: str) -> None:
        self.link = link
        self.peer = peer


class RefusalLog:
    """Says why links to learners are closed from here; what was just said is repeated only for who debugs."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        # When, by sid and reason; the oldest first.
        self._said: dict[tuple[int, str], int] = {}

    def tell(self, link: int, sid: int, peer: str, why: str, now_ms: int) -> None:
        """A learner is refused. -1 is the sid of one that has not come so far."""
        said, level = self._said, logging.DEBUG
        said_ms = said.get((sid, why))
        if said_ms is None or now_ms - said_ms >= REFUSAL_QUIET_MS:
            level = logging.WARNING
            said.pop((sid, why), None)
            if len(said) >= MAX_REFUSALS:
                del said[next(iter(said))]
            said[sid, why] = now_ms
        logger.log(level, "learner refused link=%d sid=%d peer=%s reason=%s", link, sid, peer, why)


@dataclass(slots=True)
class HubParts:
    """What its process gives a hub.

    `make_replica` makes what serves clients, from role, tree and the sessions that live; `call_at` is the clock's;
    `on_bind_failed` hears why a port between the servers cannot be taken; without `leader_serves` a leader has no
    clients of its own; `retreat` is what clients have while nobody leads.
    """

    tree_config: TreeConfig
    make_replica: Callable[[Broadcast, Tree, dict[int, int]], Replica]
    call_at: Callable[[int, Callable[[], None]], object]
    diff_limit_bytes: Callable[[], int]
    on_bind_failed: Callable[[str], None]
    leader_serves: bool = True
    collector: Collector | None = None
    retreat: Retreat | None = None


class Hub:
    """One member of an ensemble. All methods belong to the driver's thread."""

    def __init__(self, config: PeerConfig, loaded: Loaded, store: Store, clock: Clock, parts: HubParts) -> None:
        self.on_bind_failed = parts.on_bind_failed
        self._retreat = parts.retreat or Retreat()
        self._collector = parts.collector
        self._view = config.view
        self._leader_serves = parts.leader_serves
        self._take(loaded)
        self.outbox = Outbox()
        self.replica: Replica | None = None
        self._store = store
        self._clock = clock
        self.net: Network
        self._tree_config = parts.tree_config
        self._make_replica = parts.make_replica
        self._call_at = parts.call_at
        self._host: Host
        self._term = -1
        self._leads = False
        # The last link that was dialled.
        self._dialled = NOTHING
        self._origins: dict[int, Origin] = {}
        self._alarm_ms = 0
        self._serving_since_ms = 0
        self._truncate_to = NOTHING
        self._awaits_store = False
        self._senders: dict[int, SnapshotSender] = {}
        self._receiver: Receiver | None = None
        self._refusals = RefusalLog()
        self._doubts = Doubts(self._revalidate)
        peer_type = DynamicPeer if config.is_dynamic else Peer
        self.peer = peer_type(
            config,
            self.outbox,
            last_zxid=loaded.tree.last_zxid,
            accepted_epoch=store.accepted_epoch,
            current_epoch=store.current_epoch,
            read_log=store.read_log,
            diff_limit_bytes=parts.diff_limit_bytes,
            touched=self._take_touched,
        )

    def _take(self, loaded: Loaded) -> None:
        """What came from the disk, or from the leader by way of it. Its configuration is not this server's."""
        self.tree = loaded.tree
        self.timeouts = loaded.timeouts
        show_config(self.tree, self._view.to_text(), self._view.version)

    def start(self, host: Host, net: Network) -> None:
        """Begins to look for a leader."""
        self._host = host
        self.net = net
        self.peer.start(self._clock.monotonic_ms())
        host.post_turn()

    # What the shell of the ports reports.

    def on_vote(self, sender: int, n: Notification) -> None:
        """A notification came on the election port."""
        self.peer.on_vote(sender, n, self._clock.monotonic_ms())
        self._host.post_turn()

    def on_refused(self, sid: int) -> None:
        """The host of a server refused a connection to its election port."""
        self.peer.on_refused(sid, self._clock.monotonic_ms())
        self._host.post_turn()

    def on_link(self, link: int, peer: str = "-") -> None:
        """A link of the quorum port stands, dialled or accepted; `peer` is for the log."""
        self._origins[link] = Origin(link, peer)
        self.peer.on_link(link, self._clock.monotonic_ms())
        self._host.post_turn()

    def on_dial_failed(self, sid: int) -> None:
        """The quorum port of the leader does not answer."""
        self.peer.on_dial_failed(sid, self._clock.monotonic_ms())
        self._host.post_turn()

    def on_packets(self, link: int, packets: list[Packet]) -> None:
        """Packets came on a link, together; nothing comes behind a SNAP."""
        broken = None
        if isinstance(self.peer.role, Learner):
            broken = next(filter(_is_broken, packets), None)
        if broken is not None:
            packets = packets[: packets.index(broken)]
        self.peer.on_packets(link, packets, self._clock.monotonic_ms())
        if broken is not None:
            # Recovery reads it and goes by the zxid inside: a log with it would be refused, or worse. So does Java's
            # Follower.processPacket, before it is logged.
            self.refuse_leader(f"{broken} has another txn in it, or none")
        elif packets[-1].type == SNAP and link in self._origins:
            self._begin_receiving(link)
        self._host.post_turn()

    def on_raw(self, link: int, data: bytes) -> None:
        """Bytes of a snapshot came on a link, behind its SNAP."""
        receiver = self._receiver
        if receiver is None or receiver.link != link:
            # Nobody asked for it.
            self.outbox.closes.append(link)
            self._host.post_turn()
            return
        self.peer.on_heard(link, self._clock.monotonic_ms())
        receiver.feed(data)
        self._host.post_turn()

    def on_drained(self, link: int) -> None:
        """What was sent on a link has left."""
        self._send_pieces(link)

    def on_link_lost(self, link: int) -> None:
        """A link is gone."""
        self._forget(link)
        self.peer.on_link_lost(link, self._clock.monotonic_ms())
        self._host.post_turn()

    def _forget(self, link: int) -> None:
        self._origins.pop(link, None)
        self._senders.pop(link, None)
        if self._receiver is not None and self._receiver.link == link:
            self._receiver.abort()
            self._receiver = None

    # What the driver reports, and asks for.

    def on_synced(self, zxid: int) -> None:
        """Everything appended up to `zxid` is durable."""
        self.peer.on_synced(zxid, self._clock.monotonic_ms())

    def settle(self) -> None:
        """Hands over between peer and replica until both are at rest, and acts on network and timers."""
        for _ in range(MAX_ROUNDS):
            self._change_role()
            if not self._hand_over():
                break
        self._write_epochs()
        self._cut_log()
        if self._receiver is not None:
            self._receiver.go_on()
        self._talk()
        self._set_alarm()

    def take_log(self) -> Iterator[tuple[int, list[bytes]]]:
        """What is to be appended: runs of payloads, each with its first zxid."""
        entries, self.outbox.log = self.outbox.log, []
        _tally(self.replica, _LOGGED.get(self.peer.state), len(entries))
        return _runs(entries)

    @property
    def has_log(self) -> bool:
        """Whether anything is to be appended."""
        return bool(self.outbox.log)

    def mode(self) -> str:
        """As the four-letter words name it (QuorumPeer.getServerState)."""
        return MODES[self.peer.state]

    def standing(self) -> Standing:
        """What the four-letter words show of the role."""
        return Standing(self.peer, self._serving_since_ms, self._clock.monotonic_ms())

    # Roles.

    def _change_role(self) -> None:
        peer = self.peer
        if self.replica is not None and (peer.term != self._term or not peer.is_serving):
            self._stop_serving()
        searches = peer.term if peer.state == LOOKING else NO_TERM
        self._retreat.follow(self._host, searches, self.tree, self.timeouts, self._clock.monotonic_ms())
        leads = peer.state == LEADING
        if leads != self._leads:
            self._leads = leads
            self.net.set_leading(leads)
        if peer.term != self._term:
            self._term = peer.term
            # What the last role wanted is void, or it would happen to this one.
            self._truncate_to = NOTHING
            if self._dialled != NOTHING:
                self._forget(self._dialled)
                self.net.close(self._dialled)
                self._dialled = NOTHING
            logger.info("role state=%s term=%d zxid=%#x why=%s", STATE_NAMES[peer.state], peer.term,
                        peer.logged_zxid, peer.over_reason or "-")  # fmt: skip
        if self.replica is None and peer.is_serving:
            self._begin_serving()

    def _begin_serving(self) -> None:
        role = self.peer.role
        assert role is not None, "only a role serves"
        # All that was committed so far is in the tree before a client sees it.
        for zxid, payload in self.peer.take_deliveries():
            self._apply(zxid, payload)
        self._serving_since_ms = self._clock.monotonic_ms()
        self.replica = self._make_replica(role, self.tree, self.timeouts)
        self._host.set_replica(self.replica, serves_clients=self._leader_serves or not self._leads)
        logger.info("serving state=%s epoch=%d zxid=%#x", STATE_NAMES[self.peer.state], role.epoch, self.tree.last_zxid)

    def _stop_serving(self) -> None:
        replica = self.replica
        assert replica is not None, "somebody was served"
        self.timeouts = replica.sessions.timeouts
        replica.retire()
        self._doubts.clear()
        self.replica = None
        self._host.set_replica(None)

    # Between peer and replica.

    def _hand_over(self) -> bool:
        """One round; False when there was nothing."""
        outbox, replica = self.outbox, self.replica
        entries = self.peer.take_deliveries()
        _tally(replica, _DELIVERED.get(self.peer.state), len(entries))
        for zxid, payload in entries:
            if replica is None:
                self._apply(zxid, payload)
            else:
                self._deliver(replica, zxid, payload)
        is_busy = bool(entries or outbox.requests or outbox.revalidations or outbox.touched)
        is_busy = is_busy or bool(outbox.synced or outbox.revalidated)
        if not is_busy:
            return False
        requests, outbox.requests = outbox.requests, []
        revalidations, outbox.revalidations = outbox.revalidations, []
        touched, outbox.touched = outbox.touched, []
        synced, outbox.synced = outbox.synced, []
        revalidated, outbox.revalidated = outbox.revalidated, []
        if replica is not None:
            for request in requests:
                origin = self._origins.get(request.link)
                if origin is not None:
                    replica.on_remote_request(
                        origin, request.session_id, request.cxid, request.op, request.body, request.auth
                    )
            for _, sessions in touched:
                for session_id, timeout_ms in sessions:
                    replica.touch(session_id, timeout_ms)
            self._doubts.ask(replica, revalidations)
            for token in synced:
                if isinstance(token, Doubt):
                    self._revalidate(replica, token.question)
                else:
                    replica.on_sync_done(token)
            for session_id, is_alive in revalidated:
                replica.on_revalidated(session_id, is_alive)
        return True

    def _revalidate(self, replica: Replica, question: Question) -> None:
        link, session_id, timeout_ms = question
        role = self.peer.role
        origin = self._origins.get(link)
        if link == NO_LINK:
            replica.on_revalidated(session_id, False)
        elif isinstance(role, Leader) and origin is not None:
            role.revalidated(link, session_id, replica.revalidate(origin, session_id, timeout_ms))

    def _deliver(self, replica: Replica, zxid: int, payload: bytes) -> None:
        try:
            replica.on_delivered(zxid, payload)
        except MarshallingError as error:
            self._host.die(StorageCorrupt("the leader's proposal", 0, f"txn {zxid:#x} cannot be applied: {error}"))

    def _apply(self, zxid: int, payload: bytes) -> None:
        """A committed txn while nobody is served here."""
        try:
            record = decode_txn(payload)
            apply(self.tree, record.header, record.txn, record.digest)
        except MarshallingError as error:
            self._host.die(StorageCorrupt("the leader's proposal", 0, f"txn {zxid:#x} cannot be applied: {error}"))
            return
        if isinstance(record.txn, CreateSessionTxn):
            self.timeouts[record.header.client_id] = record.txn.time_out
        elif isinstance(record.txn, CloseSessionTxn):
            self.timeouts.pop(record.header.client_id, None)

    def _take_touched(self) -> list[tuple[int, int]]:
        return [] if self.replica is None else self.replica.take_touched()

    # The disk.

    def _write_epochs(self) -> None:
        outbox = self.outbox
        accepted, current = outbox.accepted_epoch, outbox.current_epoch
        if accepted == NOTHING and current == NOTHING:
            return
        outbox.accepted_epoch = outbox.current_epoch = NOTHING
        # What is to be appended before goes first, so that the epoch never claims what the log does not have.
        self._host.append_log()
        self.peer.hold()
        try:
            self._store.write_epochs(
                accepted=None if accepted == NOTHING else accepted,
                current=None if current == NOTHING else current,
                done=self._on_epochs,
            )
        except StorageFailed as error:
            self._host.die(error)

    def _on_epochs(self, error: BaseException | None) -> None:
        if error is not None:
            self._host.die(error)
            return
        self.peer.release()
        store, now_ms = self._store, self._clock.monotonic_ms()
        self.peer.on_synced(store.synced_zxid, now_ms)
        self.peer.on_epochs(store.accepted_epoch, store.current_epoch, now_ms)
        self._host.post_turn()

    def _cut_log(self) -> None:
        """TRUNC, as soon as the store has nothing else to do."""
        if self.outbox.truncate_to != NOTHING:
            self._truncate_to, self.outbox.truncate_to = self.outbox.truncate_to, NOTHING
        if self._truncate_to == NOTHING or not self.is_store_idle():
            return
        zxid, self._truncate_to = self._truncate_to, NOTHING
        try:
            last = zxid if zxid >= self.tree.last_zxid and self._store.cut(zxid) else self._reload(zxid)
        except (StorageFailed, StorageCorrupt) as error:
            self._host.die(error)
            return
        logger.info("log cut to=%#x ends=%#x", zxid, self._store.last_zxid)
        self.peer.on_truncated(last, self.tree.last_zxid, self._clock.monotonic_ms())
        self._change_role()  # One that begins here dials in this turn.
        self._host.post_turn()

    def _reload(self, zxid: int) -> int | None:
        """The tree has what is to go: it is made anew from the disk. None: all snapshots have it, too."""
        can_ask = self.peer.can_ask_for_snapshot
        loaded = reload(self._store, self._tree_config, zxid, self._collector, may_fail=can_ask)
        self._take(loaded)
        return loaded.tree.last_zxid if loaded.tree.last_zxid <= zxid else None

    def is_store_idle(self) -> bool:
        """Whether the store has nothing else to do. If it has, a snapshot is given up, and there is a turn later."""
        if self._store.is_idle:
            return True
        self._host.give_up_snapshot()
        if not self._awaits_store:
            self._awaits_store = True
            self._store.when_idle(self._on_store_idle)
        return False

    def _on_store_idle(self) -> None:
        self._awaits_store = False
        self._host.post_turn()

    # SNAP, in and out.

    def _begin_receiving(self, link: int) -> None:
        role = self.peer.role
        if isinstance(role, Learner) and role.state == INSTALLING:
            self._receiver = Receiver(link, role.snapshot_zxid, self, self.net, self._collector)

    def open_stream(self, zxid: int) -> SnapshotStream:
        """For the receiver. Raises StorageFailed."""
        return SnapshotStream(self._store, self._tree_config, zxid)

    def refuse_leader(self, reason: str) -> None:
        """For the receiver: the leader sent what is no snapshot."""
        role = self.peer.role
        if isinstance(role, Learner):
            role.refuse(reason)
            self._host.post_turn()

    def die(self, error: BaseException) -> None:
        """For the receiver: the disk has failed."""
        self._host.die(error)

    def hold(self) -> None:
        """For the receiver: what it has read is about to be all that this server has."""
        self.peer.hold()

    def on_installed(self, receiver: Receiver, loaded: Loaded, rest: bytes) -> None:
        """The snapshot is durable, and all that this server has."""
        self._take(loaded)
        logger.info("snapshot of the leader installed zxid=%#x znodes=%d", receiver.zxid, self.tree.node_count())
        self.peer.release()
        self.peer.on_snapshot_installed(receiver.zxid, self._clock.monotonic_ms())
        if self._receiver is receiver:
            self._receiver = None
            self.net.end_raw(receiver.link, rest)
        self._host.post_turn()

    def _send_pieces(self, link: int) -> None:
        sender = self._senders.get(link)
        while sender is not None and self.net.buffered_bytes(link) < SNAPSHOT_AHEAD_BYTES:
            self.net.send(link, sender.next_piece())
            role = self.peer.role
            if isinstance(role, Leader):
                role.on_snapshot_progress(link)
            if sender.is_done:
                del self._senders[link]
                if isinstance(role, Leader):
                    role.on_snapshot_sent(link)
                self._host.post_turn()
                return

    def _begin_sending(self, link: int) -> None:
        role = self.peer.role
        if isinstance(role, Leader) and link in self._origins:
            sender = SnapshotSender(self.tree, self.timeouts_now())
            role.on_snapshot_begun(link, sender.zxid)
            self._senders[link] = sender

    def timeouts_now(self) -> dict[int, int]:
        """The sessions that live, as the tree's zxid has them."""
        return self.timeouts if self.replica is None else self.replica.sessions.timeouts

    # The network and the clock.

    def _talk(self) -> None:
        outbox, net = self.outbox, self.net
        if outbox.snapshots:
            links, outbox.snapshots = outbox.snapshots, []
            for link in links:
                self._begin_sending(link)
        if outbox.sends:
            sends, outbox.sends = outbox.sends, []
            self._send(sends)
        if outbox.votes:
            # Of several for the same server only the newest counts.
            votes, outbox.votes = dict(outbox.votes), []
            for sid, n in votes.items():
                net.send_vote(sid, n)
        if outbox.reconnect:
            outbox.reconnect = False
            net.reconnect()
        if outbox.dials:
            dials, outbox.dials = outbox.dials, []
            for sid in dials:
                self._dialled = net.dial(sid)
        if outbox.refusals:
            refusals, outbox.refusals = outbox.refusals, []
            for link, sid, why in refusals:
                origin = self._origins.get(link)
                self._refusals.tell(link, sid, "-" if origin is None else origin.peer, why, self._clock.monotonic_ms())
        if outbox.closes:
            closes, outbox.closes = outbox.closes, []
            for link in closes:
                self._forget(link)
                net.close(link)
        for link in list(self._senders):
            self._send_pieces(link)

    def _send(self, sends: list[tuple[int, bytes]]) -> None:
        """One write a link."""
        joined: dict[int, list[bytes]] = {}
        for link, data in sends:
            joined.setdefault(link, []).append(data)
        for link, parts in joined.items():
            self.net.send(link, b"".join(parts))

    def _set_alarm(self) -> None:
        """Sees that the peer is asked again when it wants to be; an alarm that comes too early does no harm."""
        now_ms = self._clock.monotonic_ms()
        due_ms = self._retreat.sooner(self.peer.next_deadline_ms())
        if due_ms is None:
            return
        due_ms = max(due_ms, now_ms + 1)
        if now_ms < self._alarm_ms <= due_ms:
            return
        self._alarm_ms = due_ms
        self._call_at(due_ms, self._on_alarm)

    def _on_alarm(self) -> None:
        if self.net.has_delivered():
            self.peer.election.on_delivered()
        self.peer.on_tick(self._clock.monotonic_ms())
        self._host.post_turn()
