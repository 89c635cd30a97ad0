"""What Java's FastLeaderElection does, step by step, for ensembles in which some servers are Java's.

Without what we do beside it: it answers no vote of its own round, waits out every finalizeWait and begins that anew
with each message, drops what comes meanwhile, remembers the word of who has begun anew, and resends only after silence.
Only for the plain build: it stands on the lists of the real one.
"""

from __future__ import annotations

from coati.wire.quorum import LEADING, LOOKING, OBSERVING, Notification
from coati.zab.election import NO_DATA, Election, Vote


class JavaElection(Election):
    def on_vote(self, now_ms: int, sender: int, n: Notification) -> None:
        """WorkerReceiver."""
        if not self._view.is_voter(sender):
            self._send(sender)
        elif self.state == LOOKING:
            if n.state == LOOKING and n.round < self.round:
                self._send(sender)
            self._receive(now_ms, sender, n)
        elif n.state == LOOKING:
            self._send(sender)

    def on_refused(self, now_ms: int, sid: int) -> None:
        """SendWorker keeps it to itself."""

    def on_tick(self, now_ms: int) -> None:
        super().on_tick(now_ms)
        if self.state == LOOKING:
            # What it sends, it sends to itself, too.
            self._count(now_ms)

    def _receive(self, now_ms: int, sender: int, n: Notification) -> None:
        """lookForLeader."""
        if self._finalize_at_ms is not None:
            if not self.is_better(Vote(n.leader, n.zxid, n.peer_epoch), self.vote):
                self._finalize_at_ms = now_ms + self._finalize_ms
                return
            self._finalize_at_ms = None
        self._resend_at_ms = now_ms + self._interval_ms
        if not self._view.is_voter(n.leader) or n.state == OBSERVING:
            return
        if n.state == LOOKING:
            self._take(now_ms, sender, n)
        else:
            self._join(sender, n)

    def _take(self, now_ms: int, sender: int, n: Notification) -> None:
        vote = Vote(n.leader, n.zxid, n.peer_epoch)
        if NO_DATA in (self._own.zxid, n.zxid) or n.round < self.round:
            return
        interval_ms = self._interval_ms
        if n.round > self.round:
            self._enter(now_ms, n.round, vote if self.is_better(vote, self._own) else self._own)
        elif self.is_better(vote, self.vote):
            self._propose(now_ms, vote)
        self._interval_ms = interval_ms
        self._votes[sender] = n
        self._count(now_ms)

    def _join(self, sender: int, n: Notification) -> None:
        if n.round == self.round:
            self._votes[sender] = n
            if self._may_join(self._votes, n):
                self._decide(Vote(n.leader, n.zxid, n.peer_epoch))
                return
        self._outside[sender] = n
        if self._may_join(self._outside, n):
            self.round = n.round
            self._decide(Vote(n.leader, n.zxid, n.peer_epoch))

    def is_better(self, new: Vote, old: Vote) -> bool:
        """totalOrderPredicate."""
        if self._view.weight(new.leader) == 0:
            return False
        return (new.epoch, new.zxid, new.leader) > (old.epoch, old.zxid, old.leader)

    def _is_led(self, said: dict[int, Notification], n: Notification) -> bool:
        """checkLeader."""
        if n.leader != self._sid:
            return n.leader in said and said[n.leader].state == LEADING
        return n.round == self.round

    def _is_final(self) -> bool:
        return False
