"""Leader: the role of the server that numbers the writes, and brings its learners up to date first.

Knows its view, the links of its learners and how far each voter has acknowledged. Must not know znodes, sockets or
files: payloads are bytes, time is an argument, and what is durable is told by `on_epochs` and `on_synced`.

The phases, each bounded by initLimit, moved only in this file:
    DISCOVERY    a quorum says which epochs it has accepted; the new one is above all of them
    PROPOSING    the new epoch becomes durable here, before anybody hears of it (ZOOKEEPER-335)
    ASKING       LEADERINFO to all; a quorum promises with ACKEPOCH not to listen to older leaders
    SYNCING      DIFF, TRUNC or SNAP, then NEWLEADER to all; a quorum, this server included, has all of it durably
    BROADCAST    UPTODATE; proposals are committed in order, each when a quorum has it durably
    OVER         from each of them, never left: peer.py looks for another leader
A link goes through the states of attendance.py, from BROADCAST on too.

Invariants: what a link is sent has no gap; an ack counts from the ack of NEWLEADER on, cumulatively, while the link
lives, and of a voter only; delivered_zxid is acknowledged by a quorum and durable here.
Sources: Leader, LearnerHandler; the deviations are named where they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from coati.errors import ProtocolError
from coati.wire.codes import OP_SYNC
from coati.wire.quorum import (
    ACK,
    ACKEPOCH,
    FOLLOWERINFO,
    LEADERINFO,
    NEWLEADER,
    OBSERVERINFO,
    PING,
    PROPOSAL,
    PROTOCOL_VERSION,
    REQUEST,
    REVALIDATE,
    SNAP,
    UPTODATE,
    Packet,
    decode_int,
    decode_request,
    decode_revalidate,
    decode_touched,
    encode_int,
    encode_packet,
    encode_revalidated,
)
from coati.wire.zxid import COUNTER_MAX, make_zxid
from coati.zab.attendance import (
    ASKED,
    FOLLOWING,
    INTRODUCED,
    NEW,
    PROMISED,
    SNAP_ASKED,
    SNAPPING,
    SYNCED,
    SYNCING,
    Attendance,
    LearnerLink,
    Sizes,
    committed_packets,
    outstanding_packets,
    read_introduction,
    unexpected,
)
from coati.zab.broadcast import Broadcast, Limits
from coati.zab.history import Entry, History, plan
from coati.zab.learner import MAX_EPOCH_STEP
from coati.zab.outbox import Outbox, RemoteRequest
from coati.zab.quorum import View
from coati.zab.rounds import NO_LINK, Rounds

# Phases of the leader.
DISCOVERY: Final = 0
PROPOSING: Final = 1
ASKING: Final = 2
SYNCHRONIZATION: Final = 3
BROADCAST: Final = 4
OVER: Final = 5

_NO_EPOCH: Final = -1
_NO_DEADLINE: Final = 1 << 62


class Leader(Broadcast):
    """Leads `view` from what it has, all up to `last_zxid`; `synced_zxid` is how much of that is durable at the start.

    `history` is filled here with what is delivered. `linearizable_sync`: a sync is answered once a quorum has shown
    that it still follows; Java answers behind the outstanding proposals (ZOOKEEPER-1675). `forces_snapshot`: every
    learner gets all of it as a snapshot, which is of use for tests only.
    """

    __slots__ = (
        "_acked", "_current_epoch", "_deadline_ms", "_diff_limit_bytes", "_forces_snapshot", "_has_current_epoch",
        "_history", "_is_epoch_asked", "_last_zxid", "_learners", "_limits", "_looking", "_new_leader_zxid",
        "_next_tick_ms", "_now_ms", "_outbox", "_outstanding", "_phase", "_read_log", "_silence_ms", "_started_ms",
        "_synced_zxid", "_view", "attendance", "config_version", "epoch", "is_established", "is_over", "reason",
        "rounds", "sid", "sizes",
    )  # fmt: skip

    def __init__(
        self,
        *,
        sid: int,
        view: View,
        history: History,
        last_zxid: int,
        synced_zxid: int,
        accepted_epoch: int,
        current_epoch: int,
        limits: Limits,
        outbox: Outbox,
        now_ms: int,
        read_log: Callable[[int], Iterator[Entry]],
        diff_limit_bytes: Callable[[], int],
        linearizable_sync: bool = True,
        forces_snapshot: bool = False,
    ) -> None:
        assert view.is_voter(sid), "only a voter is elected"
        super().__init__(leads=True, last_zxid=last_zxid)
        self.sid = sid
        self.epoch = accepted_epoch + 1
        self.is_established = False
        self.is_over = False
        self.reason = ""
        self.config_version = view.version
        self.sizes = Sizes()
        self._view = view
        self._limits = limits
        self._outbox = outbox
        self._read_log = read_log
        self._diff_limit_bytes = diff_limit_bytes
        self._forces_snapshot = forces_snapshot
        # ZOOKEEPER-4352, 4925: a history that does not reach to what this server has would hide a hole.
        if history.max_zxid != last_zxid:
            history.clear(last_zxid)
        self._history = history
        self._last_zxid = last_zxid
        self._synced_zxid = synced_zxid
        self._current_epoch = current_epoch
        self._has_current_epoch = False
        self._is_epoch_asked = False
        self._new_leader_zxid = 0
        # Who is connected, and why the last link was closed.
        self.attendance = Attendance(outbox)
        self._learners = self.attendance.by_link
        self.rounds = Rounds(view, sid, outbox, self.attendance, is_linearizable=linearizable_sync)
        self._outstanding: deque[Entry] = deque()
        # By voter: up to where it has acknowledged.
        self._acked: dict[int, int] = {}
        self._looking: dict[int, None] = {}
        self._now_ms = now_ms
        self._started_ms = now_ms
        self._silence_ms = limits.sync_ticks * limits.tick_ms
        self._next_tick_ms = now_ms + limits.tick_ms // 2
        self._phase = DISCOVERY
        self._deadline_ms = self._patience()
        self._advance()

    # What happens to links and time

    def on_connected(self, link: int, now_ms: int) -> None:
        """A learner has connected to the quorum port."""
        self._now_ms = now_ms
        if self.is_over:
            self._outbox.closes.append(link)
        else:
            self._learners[link] = LearnerLink(link, now_ms, self._patience())

    def on_packets(self, link: int, packets: list[Packet], now_ms: int) -> None:
        """A learner has said something. If it must not, its link is closed, and it has not acknowledged anything."""
        learner = self._learners.get(link)
        if learner is None:
            # Closed from here a moment ago.
            return
        self._now_ms = now_ms
        learner.heard_ms = now_ms
        try:
            for packet in packets:
                if packet.type == ACK:
                    self._on_ack(learner, packet.zxid)
                elif learner.state == FOLLOWING:
                    self._on_following(learner, packet)
                else:
                    self._on_joining(learner, packet)
        except ProtocolError as error:
            self._drop(learner, str(error))
        else:
            # Once for all: each ack stands for those before it.
            if self._acked.get(learner.sid, 0) > self.delivered_zxid:
                self._commit()

    def on_lost(self, link: int, now_ms: int) -> None:
        """The link is gone."""
        self._now_ms = now_ms
        learner = self._learners.get(link)
        if learner is not None:
            self.attendance.forget(learner)
            self._discount(learner.sid)

    def on_looking(self, sid: int, now_ms: int) -> None:
        """A server's vote says that it looks for a leader. Until there is a quorum of followers that matters.

        Not in the first tick: it may have been sent before the election ended (Leader.reportLookingSid).
        """
        is_late = now_ms - self._started_ms >= self._limits.tick_ms
        if is_late and self._view.is_voter(sid) and self.attendance.of_sid(sid) is None:
            self._looking[sid] = None

    def on_deserted(self) -> None:
        """There is no quorum without those who have changed their minds, as Election.is_deserted says."""
        if not self.is_over:
            self._end("a quorum has changed its mind")

    def take_tail(self) -> list[Entry]:
        """What was proposed here and is not delivered: the next role needs it (ZOOKEEPER-2845)."""
        return list(self._outstanding)

    def next_deadline_ms(self) -> int | None:
        """When `on_tick` wants to be called."""
        return None if self.is_over else self._next_tick_ms

    def on_tick(self, now_ms: int) -> None:
        """Twice a tick: who is silent is dropped, who follows is pinged. Without a quorum this leader is over."""
        self._now_ms = now_ms
        if self.is_over or now_ms < self._next_tick_ms:
            return
        self._next_tick_ms = now_ms + self._limits.tick_ms // 2
        for learner in list(self._learners.values()):
            if learner.state != FOLLOWING:
                if now_ms >= learner.deadline_ms:
                    self._drop(learner, "it takes longer than an initLimit")
            elif now_ms - learner.heard_ms >= self._silence_ms:
                self._drop(learner, "it has been silent for a syncLimit")
            elif learner.is_voter:
                waits_ms = learner.waits_ms(self._acked[learner.sid], self.proposed_zxid, now_ms)
                if waits_ms >= self._silence_ms:
                    self._drop(learner, "it has acknowledged nothing for a syncLimit")
        if self.is_established:
            if self._is_quorum(SYNCED):
                self.rounds.begin(self.proposed_zxid)
            else:
                self._end("a quorum does not follow any more")
        elif now_ms >= self._deadline_ms:
            self._end(f"no quorum for an initLimit in phase {self._phase}")
        elif not self._view.contains_quorum([sid for sid in self._view.voters() if sid not in self._looking]):
            self._end("a quorum looks for another leader")

    # What happens on disk

    def on_epochs(self, accepted_epoch: int, current_epoch: int) -> None:
        """These epochs are durable."""
        self._has_current_epoch = current_epoch == self.epoch
        if self._phase == PROPOSING and accepted_epoch == self.epoch:
            self._phase = ASKING
            self._deadline_ms = self._patience()
            for learner in self._learners.values():
                if learner.state == INTRODUCED:
                    self._ask(learner)
        self._advance()

    def on_synced(self, zxid: int) -> None:
        """All of the log up to `zxid` is durable."""
        assert self._synced_zxid <= zxid <= self.proposed_zxid, "only what was proposed can be durable"
        self._synced_zxid = zxid
        if self.is_established:
            self._acked[self.sid] = zxid
            self._commit()
        else:
            self._advance()

    def on_snapshot_begun(self, link: int, zxid: int) -> None:
        """The tree as of `zxid` is sent on the link, behind the SNAP that goes out now."""
        learner = self._learners.get(link)
        if learner is None or learner.state != SNAP_ASKED:
            return
        # ZOOKEEPER-3104: what is not in the snapshot goes behind it, and NEWLEADER behind all that.
        missing = self._history.after(zxid)
        if missing is None:
            self._drop(learner, "its snapshot is older than what is in memory")
            return
        self._outbox.sends.append((link, encode_packet(SNAP, zxid)))
        learner.state = SNAPPING
        learner.deadline_ms = self._patience()
        packets = committed_packets(missing) + outstanding_packets(learner, self._outstanding)
        self.attendance.begin_holding(learner, b"".join(packets))

    def on_snapshot_progress(self, link: int) -> None:
        """A piece of the snapshot has left: the learner is alive. It has an initLimit for the next."""
        learner = self._learners.get(link)
        if learner is not None and learner.state == SNAPPING:
            learner.deadline_ms = self._patience()

    def on_snapshot_sent(self, link: int) -> None:
        """All of the tree and the signature behind it are on their way."""
        learner = self._learners.get(link)
        if learner is not None and learner.state == SNAPPING:
            self.attendance.end_holding(learner)
            self._finish_sync(learner)

    def config(self) -> bytes:
        """The text that NEWLEADER carries."""
        view = self._view
        return View(view.servers, view.groups, view.weights, self.config_version).to_text()

    # Writing

    def next_zxid(self) -> int:
        """The zxid that the next proposal must carry."""
        return self.proposed_zxid + 1

    def propose(self, zxid: int, payload: bytes) -> None:
        """To the log, and to all who follow. The last zxid of an epoch is never given out: then this leader is over."""
        if self.is_over:
            return
        assert self.is_established, "a quorum has all of the history first"
        assert zxid == self.proposed_zxid + 1, "proposals are numbered without gaps"
        if zxid & COUNTER_MAX >= self._limits.last_counter:
            # ZOOKEEPER-1277: the counter would run into the epoch.
            self._end("the counter of the zxids is used up")
            return
        self.proposed_zxid = zxid
        self.sizes.add(len(payload))
        entry = (zxid, payload)
        self._outstanding.append(entry)
        self._outbox.log.append(entry)
        self.attendance.propose(encode_packet(PROPOSAL, zxid, payload))

    def sync(self, token: object) -> None:
        """A client of this very server asks: `token` is in outbox.synced when it sees all that was written before."""
        if not self.is_over:
            assert self.is_established, "nobody is served before"
            self._wait_for_sync(NO_LINK, token)

    def revalidated(self, link: int, session_id: int, is_alive: bool) -> None:
        """The answer to one of outbox.revalidations."""
        if link in self._learners:
            # Java sends the learner's own packet back, zxid and all.
            self._outbox.sends.append((link, encode_packet(REVALIDATE, -1, encode_revalidated(session_id, is_alive))))

    # Towards a quorum

    def _advance(self) -> None:
        """Goes to the next phase if a quorum is there for it, and on from there."""
        if self._phase == DISCOVERY and self._is_quorum(INTRODUCED):
            self._phase = PROPOSING
            self._new_leader_zxid = make_zxid(self.epoch, 0)
            if self.config_version == 0:
                # A first configuration gets the zxid of NEWLEADER as its version (ZOOKEEPER-1783).
                self.config_version = self._new_leader_zxid
            self._outbox.accepted_epoch = self.epoch
        elif self._phase == ASKING and self._is_quorum(PROMISED):
            self._phase = SYNCHRONIZATION
            self._deadline_ms = self._patience()
            for learner in self._learners.values():
                if learner.state == PROMISED:
                    self._begin_sync(learner)
        if self._phase == SYNCHRONIZATION:
            # ZOOKEEPER-4643: the epoch of a history that is not durable would win elections without it.
            if not self._is_epoch_asked and self._synced_zxid >= self._last_zxid:
                self._is_epoch_asked = True
                self._outbox.current_epoch = self.epoch
            if self._has_current_epoch and self._is_quorum(SYNCED):
                self._establish()

    def _establish(self) -> None:
        self._phase = BROADCAST
        self.is_established = True
        self.proposed_zxid = self._new_leader_zxid
        self._acked[self.sid] = self._synced_zxid
        for learner in self._learners.values():
            if learner.state == SYNCED:
                self._let_follow(learner)

    def _is_quorum(self, state: int) -> bool:
        """Whether this server and the voters that are at least that far are one."""
        sids = [self.sid]
        for learner in self._learners.values():
            if learner.state >= state and learner.is_voter and learner.is_counted:
                sids.append(learner.sid)
        return self._view.contains_quorum(sids)

    def _patience(self) -> int:
        return self._now_ms + self._limits.init_ticks * self._limits.tick_ms

    # Joining

    def _on_joining(self, learner: LearnerLink, packet: Packet) -> None:
        if learner.state == NEW and packet.type in (FOLLOWERINFO, OBSERVERINFO):
            self._on_introduced(learner, packet)
        elif learner.state == ASKED and packet.type == ACKEPOCH:
            self._on_promised(learner, packet.zxid, decode_int(packet.data))
        else:
            raise ProtocolError(unexpected(learner, packet.type))

    def _on_introduced(self, learner: LearnerLink, packet: Packet) -> None:
        sid, accepted_epoch, config_version = read_introduction(packet)
        if sid == self.sid:
            raise ProtocolError(f"a learner with the sid of its leader, {sid}")
        if config_version > self.config_version:
            raise ProtocolError(f"server {sid} has a later configuration, {config_version:#x}")
        self._make_room(sid)
        learner.sid = sid
        learner.is_observer = packet.type == OBSERVERINFO
        learner.is_voter = not learner.is_observer and self._view.is_voter(sid)
        learner.state = INTRODUCED
        learner.deadline_ms = _NO_DEADLINE
        self._looking.pop(sid, None)
        if self._phase == DISCOVERY:
            # Observers are heard as well: they follow no epoch below the one that they have accepted.
            if sid in self._view.servers and accepted_epoch >= self.epoch:
                self.epoch = accepted_epoch + 1
            self._advance()
        elif self.is_established and sid in self._view.servers and 0 < accepted_epoch - self.epoch < MAX_EPOCH_STEP:
            # It may follow a later leader only; with Java's it stays outside until there is one.
            self._end(f"server {sid} has accepted the epoch {accepted_epoch}")
        elif self._phase > PROPOSING:
            self._ask(learner)

    def _make_room(self, sid: int) -> None:
        """A sid has one link. A second one replaces a dead one only, or anybody could push a follower out."""
        other = self.attendance.of_sid(sid)
        if other is not None:
            if other.state < FOLLOWING or self._now_ms - other.heard_ms <= self._limits.tick_ms:
                raise ProtocolError(f"server {sid} is connected already")
            self._drop(other, "it has connected again")

    def _ask(self, learner: LearnerLink) -> None:
        learner.state = ASKED
        learner.deadline_ms = self._patience()
        info = encode_packet(LEADERINFO, self._new_leader_zxid, encode_int(PROTOCOL_VERSION))
        self._outbox.sends.append((learner.link, info))

    def _on_promised(self, learner: LearnerLink, last_zxid: int, epoch: int) -> None:
        if epoch > self.epoch:
            raise ProtocolError(f"server {learner.sid} is in the epoch {epoch}")
        learner.last_zxid = last_zxid
        learner.deadline_ms = _NO_DEADLINE
        if self._phase > ASKING:
            learner.state = PROMISED
            self._begin_sync(learner)
            return
        # Java: isMoreRecentThan. It is not counted and has to go, for others may be a quorum with this server.
        if (epoch, last_zxid) > (self._current_epoch, self._last_zxid):
            raise ProtocolError(f"server {learner.sid} is ahead: epoch {epoch}, zxid {last_zxid:#x}")
        learner.is_counted = epoch != _NO_EPOCH and last_zxid != -1
        learner.state = PROMISED
        self._advance()

    def _begin_sync(self, learner: LearnerLink) -> None:
        """What the learner lacks of what is committed, what it must forget, and what is outstanding."""
        way = plan(self._history, self._read_log, learner.last_zxid, self._diff_limit_bytes())
        if way.kind == SNAP or self._forces_snapshot:
            learner.state = SNAP_ASKED
            learner.deadline_ms = self._patience()
            self._outbox.snapshots.append(learner.link)
            return
        parts = [encode_packet(way.kind, way.zxid)]
        parts += committed_packets(way.entries)
        parts += outstanding_packets(learner, self._outstanding)
        self._outbox.sends.append((learner.link, b"".join(parts)))
        self._finish_sync(learner)

    def _finish_sync(self, learner: LearnerLink) -> None:
        """From now on the learner gets all as it comes."""
        self._outbox.sends.append((learner.link, encode_packet(NEWLEADER, self._new_leader_zxid, self.config())))
        self.attendance.begin_forwarding(learner)
        learner.state = SYNCING
        learner.deadline_ms = self._patience()

    def _let_follow(self, learner: LearnerLink) -> None:
        # Java learners answer no PING before this.
        self._outbox.sends.append((learner.link, encode_packet(UPTODATE, -1)))
        self.attendance.following.append(learner.link)
        learner.state = FOLLOWING
        learner.heard_ms = self._now_ms
        learner.round = self.rounds.begun
        learner.uptodate_zxid = self.proposed_zxid

    # Following

    def _on_following(self, learner: LearnerLink, packet: Packet) -> None:
        kind = packet.type
        if kind == REQUEST:
            session_id, cxid, op, body = decode_request(packet.data)
            if op == OP_SYNC:
                self._wait_for_sync(learner.link, None)
            else:
                self._outbox.requests.append(RemoteRequest(learner.link, session_id, cxid, op, body, packet.auth))
        elif kind == PING:
            self._on_ping(learner, packet)
        elif kind == REVALIDATE:
            session_id, timeout_ms = decode_revalidate(packet.data)
            self._outbox.revalidations.append((learner.link, session_id, timeout_ms))
        else:
            raise ProtocolError(unexpected(learner, kind))

    def _wait_for_sync(self, link: int, token: object) -> None:
        self.rounds.add(self.proposed_zxid if self._outstanding else 0, link, token)
        self.rounds.answer(self.delivered_zxid, self.proposed_zxid)

    def _on_ping(self, learner: LearnerLink, packet: Packet) -> None:
        sessions = decode_touched(packet.data)
        if learner.round >= self.rounds.begun:
            raise ProtocolError(f"server {learner.sid} answers a PING that was not sent")
        learner.round += 1
        if sessions:
            self._outbox.touched.append((learner.link, sessions))
        if learner.is_voter:
            self.rounds.confirm(learner.sid, learner.round)
            self.rounds.answer(self.delivered_zxid, self.proposed_zxid)

    def _on_ack(self, learner: LearnerLink, zxid: int) -> None:
        if learner.state < SYNCED:
            self._on_new_leader_acked(learner, zxid)
        elif learner.is_voter:
            acked = self._acked
            if zxid <= acked[learner.sid]:
                # UPTODATE is acknowledged as NEWLEADER was, and Java 3.8.0 acknowledges what a DIFF brought.
                return
            if zxid > self.proposed_zxid:
                raise ProtocolError(f"server {learner.sid} acknowledges {zxid:#x}, which was not proposed")
            acked[learner.sid] = zxid
        elif learner.is_observer and zxid != self._new_leader_zxid:
            raise ProtocolError(f"server {learner.sid} observes and acknowledges {zxid:#x}")

    def _on_new_leader_acked(self, learner: LearnerLink, zxid: int) -> None:
        # ZOOKEEPER-4685: an ack of a proposal does not say that the history before it is durable.
        if learner.state != SYNCING or zxid != self._new_leader_zxid:
            raise ProtocolError(f"{unexpected(learner, ACK)}, of {zxid:#x}")
        learner.state = SYNCED
        learner.deadline_ms = _NO_DEADLINE
        learner.is_counted = True
        if learner.is_voter:
            self._acked[learner.sid] = zxid
        if self.is_established:
            self._let_follow(learner)
        else:
            self._advance()

    def _commit(self) -> None:
        """Commits what a quorum has and is durable here. Java does not wait for its own log, but then applies it."""
        outstanding = self._outstanding
        if not outstanding or outstanding[0][0] > self._synced_zxid:
            return
        upto = min(self._agreed_zxid(), self._synced_zxid)
        committed: list[Entry] = []
        while outstanding and outstanding[0][0] <= upto:
            committed.append(outstanding.popleft())
        if committed:
            outbox = self._outbox
            if outbox.witness is not None:
                outbox.witness(committed, self._acked)
            self._history.extend(committed)
            self.delivered_zxid = committed[-1][0]
            outbox.deliveries += committed
            self.attendance.commit(committed)
            self.rounds.answer(self.delivered_zxid, self.proposed_zxid)

    def _agreed_zxid(self) -> int:
        return self._view.quorum_zxid(self._acked)

    # The end

    def _drop(self, learner: LearnerLink, why: str) -> None:
        self.attendance.drop(learner, why)
        self._discount(learner.sid)

    def _discount(self, sid: int) -> None:
        """No word of its counts any more: when it comes back it may be told to cut off what it has acknowledged."""
        self._acked.pop(sid, None)
        self.rounds.forget(sid)

    def _end(self, reason: str) -> None:
        self.is_over = True
        self.reason = reason
        self._phase = OVER
        for learner in list(self._learners.values()):
            self._drop(learner, reason)
        self.rounds.clear()
