"""Peer: the role of this server in its ensemble, and the changes of role.

States: LOOKING -> FOLLOWING | OBSERVING | LEADING -> LOOKING. Moved only in this file. There is exactly one role at a
time; when it is over its links are closed, and what it had logged but not delivered stays as the `tail`, behind the
tree as on the disk, so memory and disk never differ (ZOOKEEPER-2845, 5094). A leader's own history counts as delivered
from the start, since nobody can follow it without that history.

Knows sids, zxids, epochs and links. Must not know sockets, files or znodes. Source: QuorumPeer.run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from coati.wire.quorum import FOLLOWING, LEADING, LOOKING, OBSERVING, Notification, Packet
from coati.zab.broadcast import Limits
from coati.zab.election import Election, Vote
from coati.zab.history import History
from coati.zab.leader import Leader
from coati.zab.learner import DIALING, Learner
from coati.zab.outbox import NOTHING, Outbox
from coati.zab.quorum import View

Entry = tuple[int, bytes]

# The end of no log: it is above all of epoch 0, that of a server alone, and below whatever an ensemble has logged.
NOWHERE_ZXID: Final = 0xFFFFFFFF

STATE_NAMES: Final[dict[int, str]] = {
    LOOKING: "LOOKING",
    FOLLOWING: "FOLLOWING",
    LEADING: "LEADING",
    OBSERVING: "OBSERVING",
}


class PeerConfig:
    """What of the configuration the peer needs.

    `is_dynamic`: the members may change (reconfigEnabled). `seen` is a later view, which may not have been committed.
    """

    __slots__ = (
        "commit_log_count",
        "forces_snapshot",
        "is_dynamic",
        "is_standalone_enabled",
        "limits",
        "linearizable_sync",
        "max_notification_ms",
        "min_notification_ms",
        "seen",
        "sid",
        "view",
    )

    def __init__(
        self,
        sid: int,
        view: View,
        *,
        limits: Limits | None = None,
        commit_log_count: int = 500,
        linearizable_sync: bool = True,
        forces_snapshot: bool = False,
        min_notification_ms: int = 200,
        max_notification_ms: int = 60_000,
        is_dynamic: bool = False,
        is_standalone_enabled: bool = True,
        seen: View | None = None,
    ) -> None:
        self.sid = sid
        self.view = view
        self.limits = limits or Limits()
        self.commit_log_count = commit_log_count
        self.linearizable_sync = linearizable_sync
        self.forces_snapshot = forces_snapshot
        self.min_notification_ms = min_notification_ms
        self.max_notification_ms = max_notification_ms
        self.is_dynamic = is_dynamic
        self.is_standalone_enabled = is_standalone_enabled
        self.seen = seen


class Peer:
    """One server of an ensemble, as the others see it.

    `logged_zxid` is the last one in the log-to-be, `delivered_zxid` the last one handed to the tree, `tail` what lies
    between. Numbers of links come from the shell, which tells of each link's beginning and end.
    """

    __slots__ = (
        "_asked_epoch",
        "_committed_zxid",
        "_diff_limit_bytes",
        "_has_told_epoch",
        "_holds",
        "_is_observer",
        "_leader_type",
        "_links",
        "_read_log",
        "_remembered",
        "_touched",
        "accepted_epoch",
        "config",
        "current_epoch",
        "delivered_zxid",
        "election",
        "history",
        "logged_zxid",
        "outbox",
        "over_reason",
        "role",
        "state",
        "synced_zxid",
        "tail",
        "term",
    )

    def __init__(
        self,
        config: PeerConfig,
        outbox: Outbox,
        *,
        last_zxid: int,
        accepted_epoch: int,
        current_epoch: int,
        read_log: Callable[[int], Iterator[Entry]],
        diff_limit_bytes: Callable[[], int],
        touched: Callable[[], list[tuple[int, int]]],
    ) -> None:
        """All up to `last_zxid` is in the tree and durable. `read_log(after)` gives what is durable behind a zxid."""
        self.config = config
        self.outbox = outbox
        self.accepted_epoch = accepted_epoch
        self.current_epoch = current_epoch
        self.logged_zxid = last_zxid
        self.delivered_zxid = last_zxid
        self.synced_zxid = last_zxid
        self.tail: list[Entry] = []
        self.history = History(config.commit_log_count)
        self.election = Election(
            config.sid,
            config.view,
            outbox,
            min_interval_ms=config.min_notification_ms,
            max_interval_ms=config.max_notification_ms,
        )
        self.state = LOOKING
        self.role: Leader | Learner | None = None
        # Counts the roles, so that others see that it is another one.
        self.term = 0
        self.over_reason = ""
        self._is_observer = not config.view.is_voter(config.sid)
        self._leader_type = Leader
        self._links: dict[int, None] = {}
        # How many of the deliveries that wait are in the history.
        self._remembered = 0
        # What is known to be committed, by this process.
        self._committed_zxid = 0
        self._has_told_epoch = False
        self._holds = 0
        # In which a leader's TRUNC could not be done here.
        self._asked_epoch = NOTHING
        self._read_log = read_log
        self._diff_limit_bytes = diff_limit_bytes
        self._touched = touched
        self._begin()

    def _begin(self) -> None:
        """What another kind of peer has besides."""

    # Doors.

    def in_force(self) -> View:
        """What a quorum is for this server."""
        return self.config.view

    def start(self, now_ms: int) -> None:
        """Begins to look for a leader."""
        self._look(now_ms)

    @property
    def is_serving(self) -> bool:
        """Whether clients may be served in the present role."""
        role = self.role
        if isinstance(role, Leader):
            return role.is_established and not role.is_over
        return role is not None and role.is_serving and not role.is_over

    def on_vote(self, sender: int, notification: Notification, now_ms: int) -> None:
        """A notification of another server, in whatever state this one is."""
        self.election.on_vote(now_ms, sender, notification)
        if notification.state == LOOKING and isinstance(self.role, Leader):
            self.role.on_looking(sender, now_ms)
        self._settle(now_ms)

    def on_refused(self, sid: int, now_ms: int) -> None:
        """Nobody listens on the election port of a server, though its host answers."""
        self.election.on_refused(now_ms, sid)
        self._settle(now_ms)

    def on_link(self, link: int, now_ms: int) -> None:
        """A connection of the quorum port stands: of a learner while this server leads, else the one it dialled."""
        role = self.role
        if role is None or (isinstance(role, Learner) and role.state != DIALING):
            # The end of a dial of an earlier role, which this one has not waited for.
            self.outbox.closes.append(link)
            return
        self._links[link] = None
        role.on_connected(link, now_ms)
        self._settle(now_ms)

    def on_packets(self, link: int, packets: list[Packet], now_ms: int) -> None:
        """Packets on a link of the present role; others are too late to matter."""
        if self.role is not None and link in self._links:
            self.role.on_packets(link, packets, now_ms)
            self._settle(now_ms)

    def on_link_lost(self, link: int, now_ms: int) -> None:
        """The connection is gone."""
        if self._links.pop(link, 0) is None and self.role is not None:
            if isinstance(self.role, Leader):
                self.role.on_lost(link, now_ms)
            else:
                self.role.on_lost(link)
            self._settle(now_ms)

    def on_dial_failed(self, sid: int, now_ms: int) -> None:
        """The leader's quorum port does not answer."""
        role = self.role
        if isinstance(role, Learner) and role.leader_sid == sid:
            role.on_connect_failed(now_ms)
            self._settle(now_ms)

    def on_heard(self, link: int, now_ms: int) -> None:
        """Something that is no packet came on the leader's link: it lives."""
        if isinstance(self.role, Learner):
            self.role.on_heard(link, now_ms)

    def on_tick(self, now_ms: int) -> None:
        """Time has passed; call it when `next_deadline_ms` says so."""
        self.election.on_tick(now_ms)
        role = self.role
        if role is not None:
            role.on_tick(now_ms)
        if isinstance(role, Leader) and not role.is_established:
            present = [learner.sid for learner in role.attendance.by_link.values()]
            if self.election.is_deserted(present):
                role.on_deserted()
        self._settle(now_ms)

    def next_deadline_ms(self) -> int | None:
        """When to call `on_tick`, None if nothing is due."""
        role = self.role
        if role is not None and role.is_over:
            # By what this server did itself, with no word to here: proposed too much, refused its leader.
            return 0
        own = None if role is None else role.next_deadline_ms()
        other = self.election.next_deadline_ms()
        if own is None or (other is not None and other < own):
            return other
        return own

    def on_synced(self, zxid: int, now_ms: int) -> None:
        """Everything logged up to `zxid` is durable."""
        self.synced_zxid = zxid
        if self.role is not None:
            self.role.on_synced(zxid)
            self._settle(now_ms)

    def on_epochs(self, accepted: int, current: int, now_ms: int) -> None:
        """The epochs that are durable now."""
        self.accepted_epoch = accepted
        self.current_epoch = current
        if self.role is not None:
            self.role.on_epochs(accepted, current)
        self._settle(now_ms)

    def hold(self) -> None:
        """Epochs or a snapshot are on their way to the disk, and nobody can call them back.

        If the role ends meanwhile no other begins before they are there: it would go by what is not so any more.
        """
        self._holds += 1

    def release(self) -> None:
        """They are there, as `on_epochs` or `on_snapshot_installed` tells now."""
        assert self._holds, "it was held"
        self._holds -= 1

    @property
    def can_ask_for_snapshot(self) -> bool:
        """Whether a TRUNC that cannot be done has another way: this leader has not been asked yet."""
        return isinstance(self.role, Learner) and self.role.epoch != self._asked_epoch

    def on_truncated(self, last_zxid: int | None, tree_zxid: int, now_ms: int) -> None:
        """The log ends at `last_zxid` now, the tree at `tree_zxid`.

        None: it could not be cut, and the tree has all that is logged. The leader is asked for a snapshot: he sends one
        to who comes again and ends where he has nothing (LearnerHandler.queueCommittedProposals). At once, as he may
        have no quorum without this server, and then nobody elects him. To another leader the truth is told, as he may
        need it to see who is ahead.
        """
        role = self.role
        if last_zxid is not None:
            self._set_end(last_zxid, tree_zxid)
            if isinstance(role, Learner):
                role.on_truncated(last_zxid)
                self._settle(now_ms)
        elif isinstance(role, Learner):
            role.refuse("TRUNC below every snapshot that is here: another one is asked for")
            self.over_reason = role.reason
            self._leave(role)
            self._set_end(tree_zxid, tree_zxid)
            self._asked_epoch = role.epoch
            self._learn(role.leader_sid, now_ms)

    def on_snapshot_installed(self, zxid: int, now_ms: int) -> None:
        """The leader's snapshot is this server's tree now, and durable."""
        self._set_end(zxid, zxid)
        if isinstance(self.role, Learner):
            self.role.on_snapshot_installed(zxid)
            self._settle(now_ms)
        else:
            # The role has ended meanwhile, and the vote speaks of the history that is no more.
            assert self.role is None, "a snapshot on its way to the disk holds the next role"
            self._look(now_ms)

    def take_deliveries(self) -> list[Entry]:
        """What is committed and durable, for the tree, in order."""
        self._remember()
        entries = self.outbox.deliveries
        if entries:
            self.outbox.deliveries = []
            self._remembered = 0
            self.delivered_zxid = entries[-1][0]
        return entries

    def _remember(self) -> None:
        """What a learner delivers is what it can tell others if it leads next; a leader sees to that itself."""
        entries = self.outbox.deliveries
        if not isinstance(self.role, Leader):
            self.history.extend(entries[self._remembered :] if self._remembered else entries)
        self._remembered = len(entries)

    # Changes of role.

    def _settle(self, now_ms: int) -> None:
        role = self.role
        self._remember()
        if role is None:
            vote = self.election.decided
            if vote is not None and not self._holds:
                self._take_role(vote, now_ms)
        elif role.is_over:
            self.over_reason = role.reason
            self._leave(role)
            self._look(now_ms)
        elif self.is_serving and not self._has_told_epoch:
            self._has_told_epoch = True
            self.election.set_vote_epoch(role.epoch)

    def _look(self, now_ms: int) -> None:
        self.state = LOOKING
        self.election.begin(now_ms, Vote(self.config.sid, self.logged_zxid, self.current_epoch))
        # A server that is alone in its ensemble decides at once.
        self._settle(now_ms)

    def _take_role(self, vote: Vote, now_ms: int) -> None:
        self.term += 1
        self._has_told_epoch = False
        config = self.config
        if vote.leader == config.sid:
            self.state = LEADING
            self._lead(now_ms)
        else:
            self.state = OBSERVING if self._is_observer else FOLLOWING
            self._learn(vote.leader, now_ms)
        self.election.settled(self.state, vote)

    def _lead(self, now_ms: int) -> None:
        """Its own history is what the others are to have, so it is delivered."""
        self.outbox.deliveries += self.tail
        self._remember()
        self.tail = []
        role = self._leader_type(
            sid=self.config.sid,
            view=self.in_force(),
            history=self.history,
            last_zxid=self.logged_zxid,
            synced_zxid=self.synced_zxid,
            accepted_epoch=self.accepted_epoch,
            current_epoch=self.current_epoch,
            limits=self.config.limits,
            outbox=self.outbox,
            now_ms=now_ms,
            read_log=self._read_log,
            diff_limit_bytes=self._diff_limit_bytes,
            linearizable_sync=self.config.linearizable_sync,
            forces_snapshot=self.config.forces_snapshot,
        )
        self.role = role

    def _learn(self, leader_sid: int, now_ms: int) -> None:
        config = self.config
        role = Learner(
            sid=config.sid,
            is_observer=self._is_observer,
            leader_sid=leader_sid,
            last_zxid=self.logged_zxid,
            tail=self.tail,
            delivered_zxid=self._logged_before_tail(),
            synced_zxid=self.synced_zxid,
            committed_zxid=self._committed_zxid,
            accepted_epoch=self.accepted_epoch,
            current_epoch=self.current_epoch,
            config_version=config.view.version,
            limits=config.limits,
            outbox=self.outbox,
            now_ms=now_ms,
            touched=self._touched,
        )
        if self._asked_epoch != NOTHING:
            role.again_zxid = NOWHERE_ZXID
        self.tail = []
        self.role = role

    def _logged_before_tail(self) -> int:
        """What the tree has, or gets with the deliveries that are on their way."""
        deliveries = self.outbox.deliveries
        return deliveries[-1][0] if deliveries else self.delivered_zxid

    def _leave(self, role: Leader | Learner) -> None:
        """What the role had logged stays; what it wanted to send does not matter any more."""
        self.role = None
        self.term += 1
        self.tail = role.take_tail()
        # What he asked for is void, or it would cut what the next role begins with.
        self.outbox.truncate_to = NOTHING
        if isinstance(role, Learner):
            self.logged_zxid = role.proposed_zxid
            self._committed_zxid = role.committed_zxid
        else:
            # Not `proposed_zxid`: the beginning of an epoch is in nobody's log, and no DIFF could lead on from it.
            self.logged_zxid = self.tail[-1][0] if self.tail else role.delivered_zxid
            if role.is_established:
                self._committed_zxid = role.delivered_zxid
        self.outbox.closes += self._links
        self._links = {}

    def _set_end(self, zxid: int, tree_zxid: int) -> None:
        self.tail = [entry for entry in self.tail if tree_zxid < entry[0] <= zxid]
        self.logged_zxid = zxid
        self.delivered_zxid = tree_zxid
        self.synced_zxid = zxid
        self._asked_epoch = NOTHING
        if self.history.max_zxid != tree_zxid:
            # The first txn of an epoch follows whatever is there, so nothing else would show the hole.
            self.history.clear(tree_zxid)
