"""Dynamic: the peer and the leader of an ensemble whose members may change while it runs (`reconfigEnabled`).

Beside the committed view there is the one last seen: of a proposal that is logged and not known to be committed, or of
a leader's NEWLEADER. While it is the later one elections and leaders need quorums of both.

    a view is seen      when its reconfig is proposed or logged here, or it comes with NEWLEADER
    it is activated     when its reconfig is delivered here, or with UPTODATE, or by a vote while this server looks
A leader begins with the view it has seen and completes it before it serves (ZOOKEEPER-1324). The reconfig, and what is
proposed until it is committed, needs quorums of the old and of the new view; the rest needs the new one alone. Behind
the commit whoever has another role or leader then leaves: for the one the leader names, without an election.
A server outside of the view follows without a vote, until somebody stops it.

Subclasses, since nothing of this is to run while the members are fixed, which is the default.
Sources: Leader (propose, tryToCommit, startZkServer), QuorumPeer.processReconfig, FastLeaderElection (its receiver).
"""

from __future__ import annotations

from typing import Final

from coati import errors
from coati.errors import MarshallingError, ProtocolError, keeper_error
from coati.wire.quorum import (
    COMMITANDACTIVATE,
    INFORMANDACTIVATE,
    LEADING,
    LOOKING,
    PROPOSAL,
    Notification,
    Packet,
)
from coati.zab.attendance import INTRODUCED, SYNCED
from coati.zab.election import Vote
from coati.zab.history import Entry
from coati.zab.leader import Leader
from coati.zab.learner import Learner
from coati.zab.outbox import NOTHING
from coati.zab.peer import Peer
from coati.zab.quorum import Server, View
from coati.zab.reconfig import Joint, Wish, config_of, designate, encode_designated, next_view, read_designated

_LATER: Final = 1 << 62


class DynamicLeader(Leader):
    """A leader that can be asked for another view. It begins in `_view`, which is a Joint if there is one to complete.

    `proposed` and then `activated` are for the peer to take; `designated` is to lead then, -1 if nobody knows.
    """

    __slots__ = (
        "_current",
        "_joint",
        "_since",
        "_until",
        "activated",
        "designated",
        "hands_over",
        "is_standalone_enabled",
        "proposed",
    )

    def begin(self, current: View, seen: View, *, is_standalone_enabled: bool) -> None:
        """`current` is committed; `seen`, if it is later, is to be completed."""
        self._current = current
        self._joint: Joint | None = None
        self._since = _LATER
        self._until = _LATER
        self.proposed: View | None = None
        self.activated: View | None = None
        self.designated = NOTHING
        self.hands_over = False
        self.is_standalone_enabled = is_standalone_enabled
        if seen.version > current.version:
            self._joint = Joint(current, seen)
            self.config_version = seen.version
            self._set_view(self._joint)

    # Doors.

    def next_config(
        self, joining: str | None, leaving: str | None, members: str | None, version: int, zxid: int
    ) -> bytes:
        """The text of the view that a client asks for; its reconfig gets that zxid. Raises KeeperError."""
        if self._joint is not None or self.hands_over:
            raise keeper_error(errors.RECONFIG_IN_PROGRESS)
        wish = Wish(joining, leaving, members, version)
        view = next_view(self._current, wish, zxid, is_standalone_enabled=self.is_standalone_enabled)
        synced = [self.sid]
        for learner in self._learners.values():
            if learner.state >= SYNCED and not learner.is_observer:
                synced.append(learner.sid)
        if not view.contains_quorum(synced):
            raise keeper_error(errors.NEW_CONFIG_NO_QUORUM)
        return view.to_text()

    def propose(self, zxid: int, payload: bytes) -> None:
        config = config_of(payload)
        if config is not None:
            self.proposed = View.from_text(config)
            self._joint = Joint(self._current, self.proposed)
            self._since = zxid
            self._set_view(self._joint)
        super().propose(zxid, payload)

    def config(self) -> bytes:
        view = self._current if self._joint is None else self._joint.new
        return View(view.servers, view.groups, view.weights, self.config_version).to_text()

    def step_down(self) -> None:
        """Another one is to lead."""
        self._end("the configuration has changed")

    # Views.

    def _set_view(self, view: View) -> None:
        """Others count from now on. Who has followed so far has all that came before what it acknowledges next."""
        self._view = view
        self.rounds.set_view(view)
        for learner in self._learners.values():
            is_voter = learner.state >= INTRODUCED and not learner.is_observer and view.is_voter(learner.sid)
            if is_voter and not learner.is_voter and learner.state >= SYNCED:
                self._acked[learner.sid] = self._new_leader_zxid
            elif learner.is_voter and not is_voter:
                self._discount(learner.sid)
            learner.is_voter = is_voter

    def _establish(self) -> None:
        super()._establish()
        joint = self._joint
        view = self._current if joint is None else joint.new
        if self.config_version > self._current.version:
            self._joint = None
            self._activate(View(view.servers, view.groups, view.weights, self.config_version))
            self._set_view(self._current)
            self.hands_over = not view.is_voter(self.sid)

    def _activate(self, view: View) -> None:
        self._current = view
        self.config_version = view.version
        self.activated = view

    def _agreed_zxid(self) -> int:
        joint, acked = self._joint, self._acked
        if joint is None:
            return self._view.quorum_zxid(acked)
        if self._until == _LATER:
            return min(joint.old.quorum_zxid(acked), self._since - 1)
        both = joint.quorum_zxid(acked)
        return both if both < self._until else joint.new.quorum_zxid(acked)

    def _commit(self) -> None:
        """In three steps: what came before a reconfig, the reconfig itself, and what came behind it."""
        if self.hands_over:
            # The last that this leader commits is that there is another one.
            return
        super()._commit()
        joint = self._joint
        if joint is None:
            return
        if self._until == _LATER:
            if min(joint.quorum_zxid(self._acked), self._synced_zxid) < self._since:
                return
            self._commit_config(joint)
            self._commit()
        elif self.delivered_zxid >= self._until:
            self._joint = None
            self._since = self._until = _LATER
            self._set_view(joint.new)

    def _commit_config(self, joint: Joint) -> None:
        entry = self._outstanding.popleft()
        zxid = entry[0]
        assert zxid == self._since, "all before it is committed"
        own = joint.old.servers[self.sid]
        sid = designate(self.sid, joint.new, (own.host, own.quorum_port), self._acked, zxid)
        self._history.extend([entry])
        self.delivered_zxid = zxid
        self._outbox.deliveries.append(entry)
        self.attendance.activate(entry, encode_designated(sid))
        self._until = self.proposed_zxid
        self._activate(joint.new)
        self.designated = sid
        self.hands_over = sid != self.sid
        self.rounds.answer(self.delivered_zxid, self.proposed_zxid)


class DynamicPeer(Peer):
    """A server whose view may change. `view` is the committed one, `seen` the last one seen.

    `views` are for the shell: each activated one, and whether a txn has put it into the tree.
    """

    __slots__ = ("_designated", "_leads_next", "_moves", "_noted", "seen", "view", "views")

    def _begin(self) -> None:
        """With the views of the configuration."""
        self._leader_type = DynamicLeader
        self.view = self.config.view
        seen = self.config.seen
        self.seen = self.view if seen is None or seen.version <= self.view.version else seen
        self.views: list[tuple[View, bool]] = []
        # By zxid of a reconfig: who is to lead behind it, as its commit says.
        self._designated: dict[int, int] = {}
        # Whether this role ends as soon as what it has delivered is answered, and for whom.
        self._moves = False
        self._leads_next = NOTHING
        self._noted: bytes | None = None
        self._take_view()

    def _take_view(self) -> None:
        view = self.view
        self.config.view = view
        own = view.servers.get(self.config.sid)
        self._is_observer = own is not None and own.is_observer
        self.election.set_view(self.in_force())

    def in_force(self) -> View:
        """The committed view, or both."""
        return self.view if self.seen.version <= self.view.version else Joint(self.view, self.seen)

    # Doors.

    def on_vote(self, sender: int, notification: Notification, now_ms: int) -> None:
        """A server that looks takes a later view over from one that it knows (FastLeaderElection, WorkerReceiver)."""
        config = notification.config
        if config and self.state == LOOKING and sender in self.in_force().servers and self.config.sid != sender:
            try:
                view = View.from_text(config)
            except ProtocolError:
                view = self.view
            if view.version > self.view.version:
                self._activate(view, has_txn=False)
                self._look(now_ms)
        super().on_vote(sender, notification, now_ms)

    def on_packets(self, link: int, packets: list[Packet], now_ms: int) -> None:
        role = self.role
        if isinstance(role, Learner) and link in self._links:
            try:
                for packet in packets:
                    self._note(packet)
            except (ProtocolError, MarshallingError) as error:
                role.refuse(str(error))
        super().on_packets(link, packets, now_ms)

    def on_tick(self, now_ms: int) -> None:
        role = self.role
        if self._moves:
            self._moves = False
            if isinstance(role, Learner):
                role.refuse("the configuration has changed")
            else:
                assert isinstance(role, DynamicLeader), "who looks has nothing to leave"
                role.step_down()
        super().on_tick(now_ms)

    def next_deadline_ms(self) -> int | None:
        return 0 if self._moves else super().next_deadline_ms()

    def take_deliveries(self) -> list[Entry]:
        entries = super().take_deliveries()
        if self.state != LEADING:
            for zxid, payload in entries:
                config = config_of(payload)
                if config is not None:
                    self._on_delivered_config(View.from_text(config), self._designated.pop(zxid, NOTHING))
        return entries

    # Views.

    def _note(self, packet: Packet) -> None:
        """What a leader's packet says of views, before the role has it."""
        kind, data = packet.type, packet.data
        if kind in (COMMITANDACTIVATE, INFORMANDACTIVATE):
            self._designated[packet.zxid] = read_designated(data)
        elif kind == PROPOSAL and data is not None:
            config = config_of(data)
            if config is not None:
                self._see(View.from_text(config))

    def _see(self, view: View) -> None:
        if view.version > self.seen.version:
            self.seen = view
            self.election.set_view(self.in_force())

    def _on_delivered_config(self, view: View, designated: int) -> None:
        """A reconfig is committed, and in the tree in a moment."""
        role, before = self.role, self._is_observer
        if not self._activate(view, has_txn=True) or role is None or role.is_over:
            return
        assert isinstance(role, Learner), "who leads activates by itself"
        if designated != NOTHING and designated != role.leader_sid:
            self._leads_next = designated
            self._moves = True
        elif before != self._is_observer:
            # The same leader, as another kind of learner.
            self._leads_next = role.leader_sid
            self._moves = True

    def _activate(self, view: View, *, has_txn: bool) -> bool:
        if view.version <= self.view.version:
            return False
        self.view = view
        if self.seen.version <= view.version:
            self.seen = view
        self._take_view()
        self.views.append((view, has_txn))
        return True

    # Roles.

    def _settle(self, now_ms: int) -> None:
        role = self.role
        if isinstance(role, Learner):
            self._settle_learner(role)
        elif isinstance(role, DynamicLeader):
            self._settle_leader(role)
        super()._settle(now_ms)

    def _leave(self, role: Leader | Learner) -> None:
        if isinstance(role, DynamicLeader):
            # It may have proposed something since it was looked at last.
            self._settle_leader(role)
        super()._leave(role)

    def _settle_leader(self, role: DynamicLeader) -> None:
        if role.proposed is not None:
            view, role.proposed = role.proposed, None
            self._see(view)
        if role.activated is not None:
            view, role.activated = role.activated, None
            self._activate(view, has_txn=role.designated != NOTHING)
            if role.hands_over:
                self._leads_next = role.designated
                self._moves = True

    def _settle_learner(self, role: Learner) -> None:
        """NEWLEADER's view is seen, and with UPTODATE activated."""
        config = role.config
        if not config or config is self._noted:
            return
        try:
            view = View.from_text(config)
        except ProtocolError as error:
            role.refuse(str(error))
            return
        if view.version >= self.view.version and view.version != self.seen.version:
            # Also an earlier one than was seen: what a leader does not have is committed nowhere.
            self.seen = view
            self.election.set_view(self.in_force())
        if not role.is_serving:
            return
        self._noted = config
        old, before = self.view.servers.get(role.leader_sid), self._is_observer
        if self._activate(view, has_txn=False):
            new = view.servers.get(role.leader_sid)
            self._moves = not _is_same_leader(old, new) or before != self._is_observer

    def _look(self, now_ms: int) -> None:
        sid, self._leads_next = self._leads_next, NOTHING
        self._moves = False
        self._designated.clear()
        if sid == NOTHING or self._holds or not self.in_force().is_voter(sid):
            super()._look(now_ms)
            return
        self.state = LOOKING
        vote = Vote(self.config.sid, self.logged_zxid, self.current_epoch)
        self.election.begin(now_ms, vote)
        self.election.appoint(Vote(sid, vote.zxid, vote.epoch))
        self._settle(now_ms)

    def _lead(self, now_ms: int) -> None:
        super()._lead(now_ms)
        role = self.role
        assert isinstance(role, DynamicLeader), "made a moment ago"
        role.begin(self.view, self.seen, is_standalone_enabled=self.config.is_standalone_enabled)


def _is_same_leader(old: Server | None, new: Server | None) -> bool:
    """Whether a leader of one view is one of the other, where it was."""
    if old is None or new is None or new.is_observer:
        return False
    return (old.host, old.quorum_port) == (new.host, new.quorum_port)
