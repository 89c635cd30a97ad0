"""Election: which server is to lead, by Java's fast leader election.

States: LOOKING -> FOLLOWING | OBSERVING | LEADING by a decision in this file or `settled`; -> LOOKING by `begin`.

Knows votes, rounds and who may vote. Must not know links, nor whether the one elected really leads: `leader.py` finds
out with a quorum of its own, so a wrong election costs time, never a write.

Rules, as FastLeaderElection has them:
- A server votes for the best it has heard of in its round: the largest (epoch, zxid, sid), itself to begin with. The
  upper half of a zxid is an epoch, so among servers whose last write is of their epoch (zxid, sid) is the same order.
- A round ends with a quorum of equal votes, and then `finalize_ms` in which nobody better comes, or at once when
  nobody can. A vote of a later round starts that round anew; one of an earlier round is only answered.
- Who looks while others have decided joins them: a quorum must name one leader in one epoch, and that leader must say
  so itself. Zxid and round differ among them without meaning (ZOOKEEPER-1732, 1805).
- Who has no vote (observers, servers outside of the view) is answered and never counted, nor is a vote for them.
Invariants: within a round the own vote only rises; of each server only the newest word counts, and of an absurd vote
nothing is left when its round is over.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from coati.wire.quorum import FOLLOWING, LEADING, LOOKING, OBSERVING, Notification
from coati.zab.outbox import Outbox
from coati.zab.quorum import View

MIN_INTERVAL_MS: Final = 200
MAX_INTERVAL_MS: Final = 60_000
FINALIZE_MS: Final = 200
# How often who has no vote asks, at least, while it knows of others who look: nobody tells it when they have decided.
_OBSERVER_INTERVAL_MS: Final = 1600

# What Java puts into the vote of a server that cannot be elected (getInitId), and into that of one which came up
# without the data it should have (initialize): it can only follow.
NOBODY: Final = -(2**63)
NO_DATA: Final = -1
# The last round that can be sent. Java goes on below zero; staying here, everybody still meets in one round.
_LAST_ROUND: Final = 2**63 - 1


class Vote:
    """For `leader`, whose last write is `zxid` and whose epoch is `epoch`."""

    __slots__ = ("epoch", "leader", "zxid")

    def __init__(self, leader: int, zxid: int, epoch: int) -> None:
        self.leader = leader
        self.zxid = zxid
        self.epoch = epoch

    def __repr__(self) -> str:
        return f"Vote(leader={self.leader}, zxid={self.zxid:#x}, epoch={self.epoch})"


class Election:
    """The votes of one server, and its answers to those who look for a leader.

    `decided` is the outcome while there is one, `round` the logical clock. `state` is what others are told.
    `supporters` are those who were counted last, for the own vote or for the leader of others.
    """

    __slots__ = (
        "_answered_ms",
        "_config",
        "_config_version",
        "_deserters",
        "_finalize_at_ms",
        "_finalize_ms",
        "_gone",
        "_has_delivered",
        "_heard",
        "_interval_ms",
        "_is_first",
        "_max_interval_ms",
        "_min_interval_ms",
        "_outbox",
        "_outside",
        "_own",
        "_put_off",
        "_resend_at_ms",
        "_sid",
        "_view",
        "_votes",
        "decided",
        "round",
        "state",
        "supporters",
        "vote",
    )

    def __init__(
        self,
        sid: int,
        view: View,
        outbox: Outbox,
        *,
        min_interval_ms: int = MIN_INTERVAL_MS,
        max_interval_ms: int = MAX_INTERVAL_MS,
        finalize_ms: int = FINALIZE_MS,
    ) -> None:
        self._sid = sid
        self._view = view
        self._outbox = outbox
        self._min_interval_ms = min_interval_ms
        self._max_interval_ms = max_interval_ms
        self._finalize_ms = finalize_ms
        self.round = 0
        self.state = LOOKING
        self.vote = Vote(NOBODY, NOBODY, NOBODY)
        self.decided: Vote | None = None
        self.supporters: list[int] = []
        self._own = self.vote
        # By sender, without their configurations: what was said in this round, and by those who have decided, in any.
        # Heard are those who voted in this round, though they may have decided since.
        self._votes: dict[int, Notification] = {}
        self._heard: dict[int, None] = {}
        self._outside: dict[int, Notification] = {}
        # Who came with a later round while this one was ending, and who looks again since it ended.
        self._put_off: dict[int, None] = {}
        self._deserters: dict[int, None] = {}
        # Who has crashed, as far as is known; not asked for in the first election of this process.
        self._gone: dict[int, None] = {}
        self._is_first = True
        # When a server of the view was last answered while this one looks.
        self._answered_ms: dict[int, int] = {}
        self._interval_ms = min_interval_ms
        self._resend_at_ms = 0
        self._finalize_at_ms: int | None = None
        self._has_delivered = False
        # The text of the view, made once for each version.
        self._config = view.to_text()
        self._config_version = view.version

    # Doors.

    def begin(self, now_ms: int, vote: Vote) -> None:
        """Looks for a leader, in the next round. `vote` is for this server; without a vote it can only follow."""
        self._own = vote if self._view.is_voter(self._sid) else Vote(NOBODY, NOBODY, NOBODY)
        self._is_first = self.state == LOOKING
        self.state = LOOKING
        self.decided = None
        self._gone = {}
        self._outside = {}
        self._put_off = {}
        self._deserters = {}
        self._answered_ms = {}
        self._enter(now_ms, min(self.round + 1, _LAST_ROUND), self._own)
        self._count(now_ms)

    def on_vote(self, now_ms: int, sender: int, n: Notification) -> None:
        """A notification has come, from whomever and whatever it says."""
        if self.round == 0 or sender == self._sid:
            return
        self._gone.pop(sender, None)
        is_looking = n.state == LOOKING
        if not self._view.is_voter(sender):
            # Java answers whatever it says; two servers that do not know each other would never stop.
            if is_looking:
                self._answer(now_ms, sender)
        elif self.state != LOOKING:
            if is_looking:
                self._note_looking(sender, n)
                self._answer(now_ms, sender)
        elif is_looking:
            self._on_looking(now_ms, sender, n)
        elif n.state != OBSERVING and self._view.is_voter(n.leader):
            self._on_decided_peer(now_ms, sender, n)

    def on_refused(self, now_ms: int, sid: int) -> None:
        """The host of a server refuses to connect to its election port: it does not run.

        Where this process has just started the others may be starting, too, and are waited for.
        """
        if self.state == LOOKING and not self._is_first:
            self._gone[sid] = None
            self._count(now_ms)

    def settled(self, state: int, vote: Vote) -> None:
        """The role is taken: this is what is answered from now on."""
        self.state = state
        self.vote = vote
        self._finalize_at_ms = None

    def set_vote_epoch(self, epoch: int) -> None:
        """The leader has got its own epoch, which is what late joiners compare (QuorumPeer.updateElectionVote)."""
        self.vote = Vote(self.vote.leader, self.vote.zxid, epoch)

    def set_view(self, view: View) -> None:
        """A reconfig: others vote from now on. Who looks begins anew."""
        self._view = view
        self._config = view.to_text()
        self._config_version = view.version

    def appoint(self, vote: Vote) -> None:
        """A reconfig has named who is to lead: nobody is asked (QuorumPeer.updateVote)."""
        self._decide(vote)

    def on_delivered(self) -> None:
        """A vote has left for another server: somebody can be reached."""
        self._has_delivered = True

    def on_tick(self, now_ms: int) -> None:
        """Time has passed; call it when `next_deadline_ms` says so."""
        if self.state != LOOKING or self.round == 0:
            return
        if self._finalize_at_ms is not None and now_ms >= self._finalize_at_ms:
            self._decide(self.vote)
        elif now_ms >= self._resend_at_ms:
            self._interval_ms = min(self._interval_ms * 2, self._max_interval_ms)
            if not self._has_delivered:
                self._outbox.reconnect = True
            self._broadcast(now_ms)

    def next_deadline_ms(self) -> int | None:
        """When to call `on_tick`, None if nothing is due."""
        if self.state != LOOKING or self.round == 0:
            return None
        if self._finalize_at_ms is not None and self._finalize_at_ms < self._resend_at_ms:
            return self._finalize_at_ms
        return self._resend_at_ms

    def is_deserted(self, followers: Collection[int]) -> bool:
        """Whether a leader waits in vain: there is no quorum without those who look again and do not follow.

        A voter may change its mind after it was counted; Java's leader then waits out its initLimit (ZOOKEEPER-3109).
        """
        left = [sid for sid in self._view.voters() if sid in followers or sid not in self._deserters]
        return self.state == LEADING and not self._view.contains_quorum(left)

    def is_better(self, new: Vote, old: Vote) -> bool:
        """Java's totalOrderPredicate, but that who cannot lead is not preferred to who can, either."""
        if self._view.weight(new.leader) == 0:
            return False
        if self._view.weight(old.leader) == 0:
            return True
        return (new.epoch, new.zxid, new.leader) > (old.epoch, old.zxid, old.leader)

    # What the others say.

    def _on_looking(self, now_ms: int, sender: int, n: Notification) -> None:
        self._outside.pop(sender, None)
        if not self._view.is_voter(self._sid):
            self._ask_within(now_ms, _OBSERVER_INTERVAL_MS)
        if n.round < self.round:
            # It began anew, or has not heard of this round. Whatever it said before in this one is void.
            self._forget(sender)
            self._answer(now_ms, sender)
        elif NO_DATA in (self._own.zxid, n.zxid) or not self._view.is_voter(n.leader):
            return
        elif n.round > self.round:
            if self._is_put_off(sender, n):
                return
            vote = Vote(n.leader, n.zxid, n.peer_epoch)
            self._enter(now_ms, n.round, vote if self.is_better(vote, self._own) else self._own)
            self._hear(sender, n)
        else:
            vote = Vote(n.leader, n.zxid, n.peer_epoch)
            if self.is_better(vote, self.vote):
                self._propose(now_ms, vote)
            elif not _is_same(n, self.vote):
                # It has not heard ours, or that was lost with a link. In Java it waits for the next resend, which is a
                # minute off in an ensemble that was long without a quorum (ZOOKEEPER-498, 512).
                self._answer(now_ms, sender)
            self._hear(sender, n)
        self._count(now_ms)

    def _hear(self, sender: int, n: Notification) -> None:
        self._votes[sender] = _without_config(n)
        self._heard[sender] = None

    def _forget(self, sender: int) -> None:
        self._votes.pop(sender, None)
        self._heard.pop(sender, None)

    def _is_put_off(self, sender: int, n: Notification) -> bool:
        """Whether a later round has to wait: this one is about to end without its sender, who knows nobody better.

        Java ends its round too. To leave it now would desert those who have ended it already.
        """
        if self._finalize_at_ms is None or self.is_better(Vote(n.leader, n.zxid, n.peer_epoch), self.vote):
            return False
        self._forget(sender)
        if not self._view.contains_quorum(self._supporters()):
            return False
        self._put_off[sender] = None
        return True

    def _on_decided_peer(self, now_ms: int, sender: int, n: Notification) -> None:
        """The sender follows, or leads: it may be joined if a quorum says the same and the leader agrees."""
        n = _without_config(n)
        if n.round == self.round:
            self._votes[sender] = n
            if self._may_join(self._votes, n):
                self._decide(Vote(n.leader, n.zxid, n.peer_epoch))
                return
        before = self._outside.get(sender)
        self._outside[sender] = n
        if self._may_join(self._outside, n):
            self.round = n.round
            self._decide(Vote(n.leader, n.zxid, n.peer_epoch))
        elif before is None or not _is_same_outside(before, n, False):
            # They are about to agree, one has the new epoch and another not yet: ask again soon, not in a minute.
            self._ask_within(now_ms, self._min_interval_ms)

    def _may_join(self, said: dict[int, Notification], n: Notification) -> bool:
        # In its own round Java compares the leader alone, since it keeps votes of this round without their version.
        is_any_epoch = said is self._votes
        agreeing = [sid for sid, other in said.items() if _is_same_outside(other, n, is_any_epoch)]
        self.supporters = agreeing
        return self._view.contains_quorum(agreeing) and self._is_led(said, n)

    def _is_led(self, said: dict[int, Notification], n: Notification) -> bool:
        """Whether the leader knows that it is one: or all would follow one that has crashed, again and again
        (FastLeaderElection.checkLeader). This server does, if it is a leader of its own round.
        """
        if n.leader == self._sid:
            return n.round == self.round
        leader = said.get(n.leader)
        return leader is not None and leader.state == LEADING

    def _note_looking(self, sender: int, n: Notification) -> None:
        if n.round == self.round and n.leader == self.vote.leader:
            self._deserters.pop(sender, None)
        else:
            self._deserters[sender] = None

    # The own vote, and the end of a round.

    def _enter(self, now_ms: int, round_: int, vote: Vote) -> None:
        self.round = round_
        self._votes = {}
        self._heard = {}
        self._propose(now_ms, vote)

    def _propose(self, now_ms: int, vote: Vote) -> None:
        self.vote = vote
        self._finalize_at_ms = None
        self._interval_ms = self._min_interval_ms
        if self._view.is_voter(self._sid) and self._own.zxid != NO_DATA:
            self._hear(self._sid, self._notification(None))
        self._broadcast(now_ms)

    def _supporters(self) -> list[int]:
        return [sid for sid, n in self._votes.items() if _is_same(n, self.vote)]

    def _count(self, now_ms: int) -> None:
        self.supporters = self._supporters()
        if not self._view.contains_quorum(self.supporters):
            self._finalize_at_ms = None
        elif self._is_final():
            self._decide(self.vote)
        elif self._finalize_at_ms is None:
            # Counted from the quorum on, and not from the last message as in Java: nobody can put it off by talking.
            self._finalize_at_ms = now_ms + self._finalize_ms

    def _is_final(self) -> bool:
        """Whether nobody better can come, so that there is nothing to wait for.

        That is so when every voter that may lead has voted in this round. Each vote of a round is one that a server
        gave to itself, handed on. A server's own is never above what it votes for later in the round, and nothing that
        was heard is above ours, which rises with each that is. So all votes of the round, also those on their way, are
        at most ours; nor does anybody's log grow without a leader, so those of later rounds are, too. Java's wait would
        end with the same outcome. (What a server claimed before it crashed and lost it is better not waited for.)
        Only for who was not heard it is worth waiting: it may have more, which is then not thrown away. Not for who
        does not run, if it is not the one elected: most elections are begun by the crash of a leader, and would wait
        for its vote. Should it come all the same it joins a leader who has what was ever committed, as a late one does.
        """
        for sid in self._view.voters():
            is_gone = sid in self._gone and sid != self.vote.leader
            if self._view.weight(sid) > 0 and sid not in self._heard and not is_gone:
                return False
        return True

    def _decide(self, vote: Vote) -> None:
        self.vote = vote
        self.decided = vote
        if vote.leader == self._sid:
            self.state = LEADING
        else:
            self.state = FOLLOWING if self._view.is_voter(self._sid) else OBSERVING
        self._finalize_at_ms = None
        self._votes = {}
        self._heard = {}
        self._outside = {}
        self._deserters = self._put_off
        self._put_off = {}
        for sid in self._deserters:
            self._send(sid)

    # What the others are told.

    def _broadcast(self, now_ms: int) -> None:
        self._has_delivered = False
        self._resend_at_ms = now_ms + self._interval_ms
        for sid in self._view.voters():
            if sid != self._sid:
                self._send(sid)

    def _ask_within(self, now_ms: int, interval_ms: int) -> None:
        self._interval_ms = min(self._interval_ms, interval_ms)
        self._resend_at_ms = min(self._resend_at_ms, now_ms + self._interval_ms)

    def _answer(self, now_ms: int, sender: int) -> None:
        """Tells one who looks. If this server looks, too, and they do not count each other, they would answer for ever,
        as fast as they can: so do Java's observer and voter when the observer's round is later. So who has no vote is
        silent, since nobody counts it, and the others answer about as often as votes may be resent.
        """
        if self.state == LOOKING and sender in self._view.servers:
            last_ms = self._answered_ms.get(sender)
            if last_ms is not None and now_ms < last_ms + self._min_interval_ms // 2:
                return
            self._answered_ms[sender] = now_ms
        if self.state != LOOKING or self._view.is_voter(self._sid):
            self._send(sender)

    def _send(self, to: int) -> None:
        """The present vote; it takes the place of one that has not left yet, however often somebody asks."""
        if self._config_version != self._view.version:
            self._config_version = self._view.version
            self._config = self._view.to_text()
        votes = self._outbox.votes
        entry = (to, self._notification(self._config))
        for i, (sid, _) in enumerate(votes):
            if sid == to:
                votes[i] = entry
                return
        votes.append(entry)

    def _notification(self, config: bytes | None) -> Notification:
        vote = self.vote
        return Notification(self.state, vote.leader, vote.zxid, self.round, vote.epoch, config)


def _is_same(n: Notification, vote: Vote) -> bool:
    """Whether it is that vote; the rounds are the same."""
    return n.leader == vote.leader and n.zxid == vote.zxid and n.peer_epoch == vote.epoch


def _is_same_outside(n: Notification, probe: Notification, is_any_epoch: bool) -> bool:
    """Whether both name the same leader. `probe` is of one who has decided (Vote.equals)."""
    if n.leader != probe.leader:
        return False
    is_epoch = n.peer_epoch == probe.peer_epoch
    if n.state == LOOKING:
        return is_epoch and n.zxid == probe.zxid and n.round == probe.round
    # Who is too old to give a version gives another epoch, too (ZOOKEEPER-1732).
    return is_epoch or is_any_epoch or (n.version == 0) != (probe.version == 0)


def _without_config(n: Notification) -> Notification:
    """What is kept of it; a configuration may be half a megabyte."""
    kept = Notification(n.state, n.leader, n.zxid, n.round, n.peer_epoch)
    kept.version = n.version
    return kept
