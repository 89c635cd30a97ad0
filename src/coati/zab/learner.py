"""Learner: the role of a server that follows a leader, with a vote (follower) or without (observer).

Knows the leader's link and epoch, what is logged here, what of it is committed and durable, and what was delivered.
Must not know znodes, sockets or files: payloads are bytes, time is an argument.

    DIALING     until the link is there                      -> JOINING (FOLLOWERINFO or OBSERVERINFO sent)
    JOINING     until LEADERINFO                             -> ACCEPTING, or CHOOSING if the epoch was accepted before
    ACCEPTING * until acceptedEpoch is durable               -> CHOOSING (ACKEPOCH sent)
    CHOOSING    until the leader says how to synchronise     -> SYNCING (DIFF), TRUNCATING (TRUNC), INSTALLING (SNAP)
    TRUNCATING* until the log is cut                         -> SYNCING
    INSTALLING* until the leader's snapshot is the history   -> SYNCING
    SYNCING     proposals and commits, until NEWLEADER       -> FLUSHING
    FLUSHING *  until all that came before it is durable     -> PROMISING
    PROMISING * until currentEpoch is durable                -> PREPARED (NEWLEADER acknowledged)
    PREPARED    until UPTODATE                               -> SERVING
    OVER        from everywhere, for good; peer.py answers with an election
Moved only in this file. In a state with * this server's own disk is waited for: packets are held, and the leader's
silence is no fault of his.
Invariants: delivered_zxid <= durable zxid <= proposed_zxid; the log has no gap; an ACK leaves after what it promises is
durable, and none of a proposal before that of NEWLEADER.
Sources: Learner (registerWithLeader, syncWithLeader), Follower, Observer, SendAckRequestProcessor.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from coati.errors import ProtocolError
from coati.wire.codes import OP_SYNC
from coati.wire.quorum import (
    ACK,
    ACKEPOCH,
    COMMIT,
    COMMITANDACTIVATE,
    DIFF,
    FOLLOWERINFO,
    INFORM,
    INFORMANDACTIVATE,
    LEADERINFO,
    NEWLEADER,
    OBSERVERINFO,
    PING,
    PROPOSAL,
    REQUEST,
    REVALIDATE,
    SNAP,
    SYNC,
    TRUNC,
    UPTODATE,
    Packet,
    RequestEncoder,
    decode_int,
    decode_revalidated,
    encode_int,
    encode_learner_info,
    encode_packet,
    encode_request,
    encode_revalidate,
    encode_touched,
)
from coati.wire.records import Id
from coati.wire.zxid import COUNTER_MAX, counter_of, epoch_of, follows, make_zxid
from coati.zab.broadcast import Broadcast, Limits
from coati.zab.outbox import NOTHING, Outbox

DIALING: Final = 0
JOINING: Final = 1
ACCEPTING: Final = 2
CHOOSING: Final = 3
TRUNCATING: Final = 4
INSTALLING: Final = 5
SYNCING: Final = 6
FLUSHING: Final = 7
PROMISING: Final = 8
PREPARED: Final = 9
SERVING: Final = 10
OVER: Final = 11

# Learner.connectToLeader, whose five are as far apart from the first: a leader that took office a moment later than
# its learner is reached a moment later.
DIALS: Final = 8
# What may wait for this server's own disk. More is sent only by a leader who does not wait for acknowledgements.
MAX_HELD_BYTES: Final = 256 << 20
# No ensemble has a million elections while one of its servers is away; a server without history accepts any epoch.
MAX_EPOCH_STEP: Final = 1_000_000
_PACKET_BYTES: Final = 64
_NEVER: Final = -(1 << 63)
_DESIGNATED_BYTES: Final = 8


class Learner(Broadcast):
    """Follows `leader_sid`. `last_zxid` is the last one in the log.

    `tail` is what of it the tree does not have yet, `delivered_zxid` then what it has. `committed_zxid`: what this
    process delivered as committed in an earlier role. `touched` gives sessions for a PING; `config` came by NEWLEADER.
    """

    __slots__ = (
        "_accepted_epoch", "_acks", "_answered", "_committed", "_config_version", "_current_epoch", "_dial_at_ms",
        "_dials", "_forgives", "_heard_ms", "_held", "_held_bytes", "_known_zxid", "_last_allowed", "_limits",
        "_link", "_max_held_bytes", "_proposed", "_receives", "_requests", "_served", "_sid",
        "_snapshot_zxid", "_synced_zxid", "_syncs", "_told_zxid", "_touched", "_truncate_to", "_unacked", "again_zxid",
        "config", "epoch", "is_observer", "is_over", "is_serving", "leader_sid", "outbox", "reason", "state", "waits",
    )  # fmt: skip

    def __init__(
        self,
        *,
        sid: int,
        is_observer: bool,
        leader_sid: int,
        last_zxid: int,
        accepted_epoch: int,
        current_epoch: int,
        config_version: int,
        limits: Limits,
        outbox: Outbox,
        now_ms: int,
        touched: Callable[[], list[tuple[int, int]]],
        tail: Sequence[tuple[int, bytes]] = (),
        delivered_zxid: int = NOTHING,
        synced_zxid: int = NOTHING,
        committed_zxid: int = 0,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        super().__init__(leads=False, last_zxid=last_zxid)
        assert not tail or (tail[-1][0] == last_zxid and NOTHING < delivered_zxid < tail[0][0]), "a tail ends the log"
        assert epoch_of(last_zxid) <= accepted_epoch, "an epoch is accepted before anything of it is logged"
        self.is_observer = is_observer
        self.leader_sid = leader_sid
        self.outbox = outbox
        self.state = DIALING
        self.waits = False
        self.is_serving = False
        self.is_over = False
        self.reason = ""
        self.epoch = NOTHING
        self.config: bytes | None = None
        self._sid = sid
        self._limits = limits
        self._touched = touched
        self._config_version = config_version
        self._accepted_epoch = accepted_epoch
        self._current_epoch = current_epoch
        # What is logged and not committed, and what is committed and not delivered: with it, all behind delivered_zxid.
        self._proposed: deque[tuple[int, bytes]] = deque()
        self._committed: deque[tuple[int, bytes]] = deque(tail)
        if tail:
            self.delivered_zxid = delivered_zxid
        self._told_zxid = self.again_zxid = last_zxid
        self._synced_zxid = last_zxid if synced_zxid == NOTHING else synced_zxid
        self._known_zxid = committed_zxid
        self._snapshot_zxid = _NEVER
        self._truncate_to = NOTHING
        self._served = False
        self._last_allowed = NOTHING
        self._acks = False
        self._requests = RequestEncoder()
        self._unacked: list[int] = []
        self._syncs: deque[object] = deque()
        self._answered: deque[tuple[int, object]] = deque()
        self._held: deque[Packet] = deque()
        self._held_bytes = 0
        self._max_held_bytes = max_held_bytes
        self._link = NOTHING
        self._heard_ms = now_ms
        self._forgives = False
        self._receives = False
        self._dials = 1
        self._dial_at_ms = NOTHING
        outbox.dials.append(leader_sid)

    # What is asked by others.

    @property
    def synced_zxid(self) -> int:
        """Everything up to here is durable."""
        return self._synced_zxid

    @property
    def committed_zxid(self) -> int:
        """What is known to be committed: for the next role's `committed_zxid`."""
        return self.delivered_zxid if self._served else self._known_zxid

    @property
    def snapshot_zxid(self) -> int:
        """INSTALLING: the zxid of the snapshot that comes over the link."""
        return self._snapshot_zxid

    def take_tail(self) -> list[tuple[int, bytes]]:
        """What is logged and not delivered: the next role needs it (ZOOKEEPER-2845)."""
        return [*self._committed, *self._proposed]

    def next_deadline_ms(self) -> int | None:
        """When `on_tick` wants to be called at the latest: at once when the disk is done, for patience begins anew."""
        if self.is_over:
            return None
        deadline_ms = self._heard_ms + (0 if self._forgives else self._patience_ms())
        return deadline_ms if self._dial_at_ms == NOTHING else min(deadline_ms, self._dial_at_ms)

    def _patience_ms(self) -> int:
        limits = self._limits
        ticks = limits.sync_ticks if self.is_serving else limits.init_ticks
        return limits.tick_ms * (limits.connect_ticks if self.state == DIALING else ticks)

    # The link.

    def on_connected(self, link: int, now_ms: int) -> None:
        """The leader's quorum port has accepted."""
        assert self.state == DIALING, "one link a role"
        self._link = link
        self._heard_ms = now_ms
        self._dial_at_ms = NOTHING
        self._enter(JOINING)
        info = encode_learner_info(self._sid, self._config_version)
        self._send(OBSERVERINFO if self.is_observer else FOLLOWERINFO, make_zxid(self._accepted_epoch, 0), info)

    def on_connect_failed(self, now_ms: int) -> None:
        """Nobody listens there, perhaps not yet: tried again a few times, as Learner.connectToLeader does."""
        if self._dials == DIALS:
            self.refuse("the leader cannot be reached")
        elif not self.is_over:
            self._dials += 1
            self._dial_at_ms = now_ms + min(self._limits.redial_ms, self._limits.redial_ms << self._dials >> 5)

    def on_lost(self, link: int) -> None:
        """The link is gone."""
        if link == self._link:
            self.refuse("the link to the leader is lost")

    def on_tick(self, now_ms: int) -> None:
        """Time goes by. While this server's own disk is waited for, the leader may be silent, and a while longer."""
        if self.is_over:
            return
        if self._forgives or (self.waits and not self._receives):
            self._forgives = False
            self._heard_ms = now_ms
        elif now_ms - self._heard_ms >= self._patience_ms():
            self.refuse(f"the leader was silent for {now_ms - self._heard_ms} ms")
        elif NOTHING < self._dial_at_ms <= now_ms:
            self._dial_at_ms = NOTHING
            self.outbox.dials.append(self.leader_sid)

    def on_heard(self, link: int, now_ms: int) -> None:
        """Bytes of a snapshot came over the link."""
        if link == self._link:
            self._heard_ms = now_ms

    def on_packets(self, link: int, packets: list[Packet], now_ms: int) -> None:
        """Packets of the leader. What is out of order ends the role: what is logged stays as it is."""
        if link != self._link:
            return
        self._heard_ms = now_ms
        try:
            for packet in packets:
                if self.waits:
                    self._hold(packet)
                else:
                    self._step(packet)
        except ProtocolError as error:
            self.refuse(str(error))

    def refuse(self, reason: str) -> None:
        """The end of this role, also when the shell finds that what came over the link is no packet or no snapshot."""
        if self.is_over:
            return
        if self._link != NOTHING:
            self.outbox.closes.append(self._link)
        self._link = NOTHING
        self._dial_at_ms = NOTHING
        self.reason = reason
        self.is_over = True
        self.is_serving = False
        self._enter(OVER)
        self._held.clear()
        self._held_bytes = 0

    def _hold(self, packet: Packet) -> None:
        # A packet: the snapshot in front of it, if there was one, is whole.
        self._receives = False
        self._held_bytes += _PACKET_BYTES + len(packet.data or b"")
        if self._held_bytes > self._max_held_bytes:
            raise ProtocolError(f"{self._held_bytes} bytes while this server is not ready for them")
        self._held.append(packet)

    def _resume(self) -> None:
        """What was waited for has come: on with what was held."""
        self._forgives = True
        try:
            while self._held and not self.waits:
                packet = self._held.popleft()
                self._held_bytes -= _PACKET_BYTES + len(packet.data or b"")
                self._step(packet)
        except ProtocolError as error:
            self.refuse(str(error))

    def _enter(self, state: int) -> None:
        self.state = state
        self.waits = state in (ACCEPTING, TRUNCATING, INSTALLING, FLUSHING, PROMISING)

    def _send(self, kind: int, zxid: int, data: bytes | None = None) -> None:
        self.outbox.sends.append((self._link, encode_packet(kind, zxid, data)))

    # Packets.

    def _step(self, packet: Packet) -> None:
        kind = packet.type
        if kind == PROPOSAL:
            self._on_proposal(packet.zxid, packet.data)
        elif kind in (COMMIT, COMMITANDACTIVATE):
            self._on_commit(packet.zxid)
        elif kind == INFORM:
            self._on_inform(packet.zxid, packet.data)
        elif kind == PING:
            self._on_ping(packet)
        elif kind == SYNC:
            self._on_sync()
        elif kind == REVALIDATE:
            self._expect(SERVING, "REVALIDATE")
            self.outbox.revalidated.append(decode_revalidated(packet.data))
        elif kind == INFORMANDACTIVATE:
            self._on_inform(packet.zxid, None if packet.data is None else packet.data[_DESIGNATED_BYTES:])
        elif kind == LEADERINFO:
            self._on_leaderinfo(packet)
        elif kind == DIFF:
            self._on_diff()
        elif kind == TRUNC:
            self._on_trunc(packet.zxid)
        elif kind == SNAP:
            self._on_snap(packet.zxid)
        elif kind == NEWLEADER:
            self._on_newleader(packet)
        elif kind == UPTODATE:
            self._on_uptodate()
        else:
            raise ProtocolError(f"a leader does not send {packet}")

    def _expect(self, state: int, what: str) -> None:
        if self.state != state:
            raise ProtocolError(f"{what} out of order")

    # Discovery: an epoch that is accepted is never gone back on.

    def _on_leaderinfo(self, packet: Packet) -> None:
        self._expect(JOINING, "LEADERINFO")
        decode_int(packet.data)
        epoch = epoch_of(packet.zxid)
        accepted = self._accepted_epoch
        if epoch < 1 or epoch < accepted:
            raise ProtocolError(f"the leader's epoch {epoch} is below the accepted one, {accepted}")
        if accepted and epoch - accepted >= MAX_EPOCH_STEP:
            raise ProtocolError(f"the leader's epoch {epoch} is far above the accepted one, {accepted}")
        self.epoch = epoch
        self._last_allowed = make_zxid(epoch, COUNTER_MAX)
        if epoch == accepted:
            # Acknowledged once already; the leader must not count it again, so it need not be the truth.
            self._enter(CHOOSING)
            self._send(ACKEPOCH, self.again_zxid, encode_int(-1))
        else:
            self._enter(ACCEPTING)
            self.outbox.accepted_epoch = epoch

    def on_epochs(self, accepted: int, current: int) -> None:
        """What is durable of the epochs."""
        self._accepted_epoch = accepted
        self._current_epoch = current
        if self.state == ACCEPTING and accepted >= self.epoch:
            self._enter(CHOOSING)
            self._send(ACKEPOCH, self._told_zxid, encode_int(current))
            self._resume()
        elif self.state == PROMISING and current >= self.epoch:
            self._acknowledge_leader()
            self._resume()

    # Synchronisation: by one of DIFF, TRUNC and SNAP, what is here becomes a beginning of the leader's history.

    def _on_diff(self) -> None:
        # The leader's history goes on behind this one, so the tail belongs to it.
        self._expect(CHOOSING, "DIFF")
        self._enter(SYNCING)

    def _on_trunc(self, zxid: int) -> None:
        self._expect(CHOOSING, "TRUNC")
        if not self._known_zxid <= zxid < self.proposed_zxid:
            raise ProtocolError(
                f"TRUNC to {zxid:#x} of a history that ends at {self.proposed_zxid:#x}, "
                f"of which {self._known_zxid:#x} is committed"
            )
        self._truncate_to = zxid
        self._enter(TRUNCATING)
        self.outbox.truncate_to = zxid

    def on_truncated(self, last_zxid: int) -> None:
        """The log ends at `last_zxid` now.

        Another end than the leader's would leave a hole (ZOOKEEPER-3701), unless he named the beginning of an epoch,
        which no txn has.
        """
        old_zxid = self.proposed_zxid
        assert last_zxid <= self._truncate_to, "the log was cut"
        committed = self._committed
        while committed and committed[-1][0] > last_zxid:
            committed.pop()
        self.proposed_zxid = last_zxid
        self._synced_zxid = last_zxid
        self.delivered_zxid = min(self.delivered_zxid, last_zxid)
        if self.is_over:
            return
        wanted = self._truncate_to
        if last_zxid == wanted or (not counter_of(wanted) and epoch_of(old_zxid) == epoch_of(wanted)):
            self._enter(SYNCING)
            self._resume()
        else:
            self.refuse(f"TRUNC to {wanted:#x}, and the log ends at {last_zxid:#x}")

    def _on_snap(self, zxid: int) -> None:
        self._expect(CHOOSING, "SNAP")
        if not self._known_zxid <= zxid <= self._last_allowed:
            raise ProtocolError(f"SNAP at {zxid:#x}, and {self._known_zxid:#x} is committed")
        self._snapshot_zxid = zxid
        self._enter(INSTALLING)
        self._receives = True

    def on_snapshot_installed(self, zxid: int) -> None:
        """The leader's snapshot is durable and the whole history of this server now."""
        assert zxid == self._snapshot_zxid, "no other snapshot was asked for"
        self._committed.clear()
        self.proposed_zxid = zxid
        self._synced_zxid = zxid
        self.delivered_zxid = zxid
        self._receives = False
        if not self.is_over:
            self._enter(SYNCING)
            self._resume()

    def _on_newleader(self, packet: Packet) -> None:
        self._expect(SYNCING, "NEWLEADER")
        if packet.zxid != make_zxid(self.epoch, 0):
            raise ProtocolError(f"NEWLEADER of {packet.zxid:#x} by a leader of epoch {self.epoch}")
        self.config = packet.data
        self._enter(FLUSHING)
        self._flush()

    def _flush(self) -> None:
        # First the history, then its epoch, then the promise (ZOOKEEPER-3911, 4643, 4646, 4785): a server that has the
        # epoch without the history would win elections with too little.
        if self._synced_zxid < self.proposed_zxid:
            return
        if self._current_epoch >= self.epoch:
            self._acknowledge_leader()
        else:
            self._enter(PROMISING)
            self.outbox.current_epoch = self.epoch

    def _acknowledge_leader(self) -> None:
        self._enter(PREPARED)
        self._send(ACK, make_zxid(self.epoch, 0))
        if not self.is_observer:
            # What was proposed and not committed meanwhile waits for this server's ack; what was committed does not.
            self._acks = True
            self._unacked = [zxid for zxid, _ in self._proposed]
            self._acknowledge()

    def _on_uptodate(self) -> None:
        self._expect(PREPARED, "UPTODATE")
        self._enter(SERVING)
        self.is_serving = True
        self._served = True
        self._send(ACK, make_zxid(self.epoch, 0))
        self._deliver()

    # Broadcast.

    def _on_proposal(self, zxid: int, payload: bytes | None) -> None:
        entry = self._log(zxid, payload)
        if entry is not None:
            self._proposed.append(entry)
            if self._acks:
                self._unacked.append(zxid)

    def _log(self, zxid: int, payload: bytes | None) -> tuple[int, bytes] | None:
        """Puts a proposal at the end of the log-to-be; None if the snapshot has it already."""
        previous = self.proposed_zxid
        if self.state < SYNCING or payload is None:
            raise ProtocolError(f"a proposal of {zxid:#x} out of order or without a txn")
        if zxid != previous + 1 or not zxid & COUNTER_MAX or zxid > self._last_allowed:
            # Java forwards from before the snapshot that it then sends (LearnerHandler.syncFollower and run).
            if zxid <= self._snapshot_zxid == previous:
                return None
            if not follows(previous, zxid) or not zxid & COUNTER_MAX or zxid > self._last_allowed:
                raise ProtocolError(f"a proposal of {zxid:#x} after {previous:#x} by a leader of epoch {self.epoch}")
        self.proposed_zxid = zxid
        entry = (zxid, payload)
        self.outbox.log.append(entry)
        return entry

    def _on_commit(self, zxid: int) -> None:
        proposed = self._proposed
        if proposed and proposed[0][0] == zxid:
            self._commit(proposed.popleft())
        elif self._committed or not zxid <= self._snapshot_zxid == self.delivered_zxid:
            raise ProtocolError(f"COMMIT of {zxid:#x}, which is not the next proposal")

    def _commit(self, entry: tuple[int, bytes]) -> None:
        if self.is_serving and entry[0] <= self._synced_zxid and not self._committed:
            self.delivered_zxid = entry[0]
            self.outbox.deliveries.append(entry)
        else:
            # Before UPTODATE nobody knows whether a quorum has it: the leader may fail, and the next one undo it.
            self._committed.append(entry)

    def _on_inform(self, zxid: int, payload: bytes | None) -> None:
        if not self.is_observer or self._proposed:
            raise ProtocolError(f"INFORM of {zxid:#x} out of order")
        entry = self._log(zxid, payload)
        if entry is not None:
            self._commit(entry)

    def on_synced(self, zxid: int) -> None:
        """Everything up to `zxid` is durable."""
        if zxid <= self._synced_zxid:
            return
        assert zxid <= self.proposed_zxid, "only what was logged can be durable"
        self._synced_zxid = zxid
        if self.is_serving:
            self._acknowledge()
            self._deliver()
        elif self.state == PREPARED:
            self._acknowledge()
        elif self.state == FLUSHING:
            self._flush()
            self._resume()

    def _acknowledge(self) -> None:
        # One by one: Java counts acks by proposal, and misses each one that does not come (SyncLimitCheck).
        unacked = self._unacked
        if unacked:
            count = bisect_right(unacked, self._synced_zxid)
            acks = b"".join([encode_packet(ACK, zxid) for zxid in unacked[:count]])
            self.outbox.sends.append((self._link, acks))
            del unacked[:count]

    def _deliver(self) -> None:
        committed = self._committed
        deliveries = self.outbox.deliveries
        while committed and committed[0][0] <= self._synced_zxid:
            entry = committed.popleft()
            self.delivered_zxid = entry[0]
            deliveries.append(entry)
        answered = self._answered
        while answered and answered[0][0] <= self.delivered_zxid:
            self.outbox.synced.append(answered.popleft()[1])

    def _on_ping(self, packet: Packet) -> None:
        # Before UPTODATE no answer, as in Java: until the ACK of NEWLEADER the leader takes no other packet.
        if self.is_serving:
            self._send(PING, packet.zxid, encode_touched(self._touched()))

    # For the clients of this server.

    def request(self, session_id: int, cxid: int, op: int, body: bytes, auth: list[Id]) -> None:
        """A client's request that only the leader can prepare. Without a leader it is lost, as the client's link is."""
        if self.is_serving:
            self.outbox.sends.append((self._link, self._requests.encode(session_id, cxid, op, body, auth)))

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        """A client came back with this session: the answer is in outbox.revalidated."""
        if self.is_serving:
            self._send(REVALIDATE, -1, encode_revalidate(session_id, timeout_ms))

    def sync(self, token: object, session_id: int = 0, cxid: int = 0, body: bytes = b"") -> None:
        """A client asks to catch up with the leader: when that is done, `token` is in outbox.synced, whose reader has
        taken outbox.deliveries before.
        """
        if self.is_serving:
            self._syncs.append(token)
            self._send(REQUEST, -1, encode_request(session_id, cxid, OP_SYNC, body))

    def _on_sync(self) -> None:
        if not self._syncs:
            raise ProtocolError("SYNC, which nobody asked for")
        token = self._syncs.popleft()
        if self._committed:
            # Committed before the answer left, and not durable here yet.
            self._answered.append((self._committed[-1][0], token))
        else:
            self.outbox.synced.append(token)
