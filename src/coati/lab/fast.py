"""Fast leader election, told: `coati.zab.election.Election` itself, with every message and every change of its mind.

Knows how to put into words what the machine did: its votes are compared before and after each message, and the reason
is asked of its own comparison. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from coati.lab.ballots import Ballot, vote_text, zxid_text
from coati.lab.contest import DELAY_MS, LIMIT_MS, Contest
from coati.lab.story import HEAR, NOTE, STATE, Fact
from coati.wire.quorum import FOLLOWING, LOOKING, Notification
from coati.zab.election import FINALIZE_MS, Election, Vote
from coati.zab.outbox import Outbox
from coati.zab.peer import STATE_NAMES


class Voter:
    """One server: the machine, and what it was when it was looked at last."""

    def __init__(self, sid: int, contest: FastContest) -> None:
        self.sid = sid
        self.outbox = Outbox()
        self.election = Election(sid, contest.view, self.outbox)
        self.timer_ms = -1
        self.is_settled = False
        self.supporters: list[int] = []


class FastContest(Contest):
    """The servers vote as ZooKeeper's do."""

    name = "fast leader election"

    def __init__(
        self, ballots: Sequence[Ballot], *, delay_ms: int = DELAY_MS, limit_ms: int = LIMIT_MS, led_by: int = 0
    ) -> None:
        super().__init__(ballots, delay_ms=delay_ms, limit_ms=limit_ms, led_by=led_by)
        self.voters: dict[int, Voter] = {}

    def rounds(self) -> int:
        return max((voter.election.round for voter in self.voters.values()), default=0)

    def begin(self, sid: int) -> None:
        voter, own = self.voters.get(sid), self.ballots[sid]
        if voter is None:
            voter = self.voters[sid] = Voter(sid, self)
            if self.led_by:
                voter.election.settled(FOLLOWING, Vote(self.led_by, own.zxid, own.epoch))
                self.tell(sid, STATE, f"its leader, server {self.led_by}, is lost", label=f"FOLLOWING {self.led_by}")
        voter.is_settled = False
        voter.supporters = []
        voter.election.begin(self.clock.now_ms, Vote(sid, own.zxid, own.epoch))
        told = f"begins round {voter.election.round} with a vote for itself, {_shown(voter.election.vote)}"
        self.tell(sid, STATE, told, label="LOOKING", facts=_facts(voter.election))
        self._flush(voter)

    def on_refused(self, sid: int, other: int) -> None:
        voter = self.voters[sid]
        voter.election.on_refused(self.clock.now_ms, other)
        self._flush(voter)

    # What a server hears.

    def _hear(self, sender: int, sid: int, n: Notification, sent_ms: int) -> None:
        voter = self.voters[sid]
        election = voter.election
        state, round_, vote = election.state, election.round, election.vote
        election.on_vote(self.clock.now_ms, sender, n)
        text = _heard(voter, sender, n, was=(state, round_, vote))
        facts: dict[str, Fact] = {"heard": _said(n), **_facts(election)}
        if state == LOOKING == n.state:
            facts["compared"] = [list(pair) for pair in compared(Vote(n.leader, n.zxid, n.peer_epoch), vote)]
            facts["is_better"] = election.is_better(Vote(n.leader, n.zxid, n.peer_epoch), vote)
        label = vote_text(n.leader, n.zxid, n.peer_epoch) + ("" if n.state == LOOKING else f" {STATE_NAMES[n.state]}")
        self.tell(sid, HEAR, text, peers=[sender], sent_ms=sent_ms, label=label, facts=facts)
        self._flush(voter, n.leader if n.state != LOOKING and state == LOOKING else 0)

    # What it does.

    def _flush(self, voter: Voter, leader: int = 0) -> None:
        """Tells and does what the machine wants; `leader` is the one of those who have decided, if it heard of one."""
        election = voter.election
        self._tell_count(voter, leader or election.vote.leader)
        decided = election.decided
        if decided is not None and not voter.is_settled:
            voter.is_settled = True
            election.settled(election.state, decided)
            count = sorted(election.supporters)
            self.settle(voter.sid, decided.leader, f"decided by the votes of {_list(count)}")
        self._send(voter)
        deadline_ms = election.next_deadline_ms()
        if deadline_ms is not None and deadline_ms != voter.timer_ms:
            voter.timer_ms = deadline_ms
            self._at(deadline_ms, lambda: self._tick(voter, deadline_ms))

    def _tick(self, voter: Voter, due_ms: int) -> None:
        if voter.timer_ms != due_ms:
            return
        voter.timer_ms = -1
        was_open = voter.election.decided is None
        voter.election.on_tick(self.clock.now_ms)
        if was_open and voter.election.decided is not None:
            self.tell(voter.sid, NOTE, "nobody better has come within the wait: the round ends")
        self._flush(voter)

    def _send(self, voter: Voter) -> None:
        said: dict[tuple[Fact, ...], list[int]] = {}
        votes, voter.outbox.votes = voter.outbox.votes, []
        for target, n in votes:
            said.setdefault((n.state, n.leader, n.zxid, n.round, n.peer_epoch), []).append(target)
        sent_ms = self.clock.now_ms
        by_target = dict(votes)
        for targets in said.values():
            n = by_target[targets[0]]
            voter.election.on_delivered()

            def arrive(target: int, n: Notification = n) -> None:
                self._hear(voter.sid, target, n, sent_ms)

            state = "" if n.state == LOOKING else f", {STATE_NAMES[n.state]}"
            text = f"round {n.round}: {vote_text(n.leader, n.zxid, n.peer_epoch)}{state}"
            self.carry(voter.sid, targets, text, _said(n), arrive)

    def _tell_count(self, voter: Voter, leader: int) -> None:
        """How many votes there are for a leader, when that has changed."""
        election = voter.election
        count = sorted(election.supporters)
        if count == voter.supporters or not count:
            return
        voter.supporters = count
        has_quorum = self.view.contains_quorum(count)
        text = f"counts {_list(count)} for {leader}: {len(count)} of {len(self.ballots)}"
        text += ", more than half" if has_quorum else f", {self.needed} are needed"
        if has_quorum and election.state == LOOKING and leader != election.vote.leader:
            text += f"; but {leader} itself has not said that it leads"
        elif has_quorum and election.decided is None:
            text += f"; waits {FINALIZE_MS} ms, as not all have voted and one of them may be better"
        facts: dict[str, Fact] = {"count": count, "needed": self.needed, "is_quorum": has_quorum}
        label = f"{len(count)} of {len(self.ballots)} for {leader}" if has_quorum else ""
        self.tell(voter.sid, NOTE, text, label=label, facts=facts)


def compared(new: Vote, old: Vote) -> list[tuple[str, int, int]]:
    """The fields of two votes in the order in which they are compared, down to the first one that differs."""
    fields = [("epoch", new.epoch, old.epoch), ("zxid", new.zxid, old.zxid), ("myid", new.leader, old.leader)]
    for index, (_, one, other) in enumerate(fields):
        if one != other:
            return fields[: index + 1]
    return fields


def reason(new: Vote, old: Vote) -> str:
    """How two votes compare, in words: "epoch 1 = 1, zxid 0 = 0, myid 3 > 1"."""
    words = []
    for name, one, other in compared(new, old):
        sign = "=" if one == other else ">" if one > other else "<"
        shown = [zxid_text(value) if name == "zxid" else str(value) for value in (one, other)]
        words.append(f"{name} {shown[0]} {sign} {shown[1]}")
    return ", ".join(words)


def _heard(voter: Voter, sender: int, n: Notification, *, was: tuple[int, int, Vote]) -> str:
    """What the machine made of a message."""
    state, round_, own = was
    election = voter.election
    new = Vote(n.leader, n.zxid, n.peer_epoch)
    if state != LOOKING:
        return f"{_shown(new)}: has its leader already" + (f", and tells {sender}" if n.state == LOOKING else "")
    if n.state != LOOKING:
        head = f"{STATE_NAMES[n.state]}, leader {n.leader}"
        if election.decided is not None:
            return f"{head}: a quorum says so, and {n.leader} itself: joins"
        return f"{head}: not enough yet to join"
    if n.round < round_:
        return f"{_shown(new)} is of round {n.round}, which is over: not counted, {sender} is told of round {round_}"
    if n.round > round_:
        if election.round != n.round:
            return f"{_shown(new)} is of round {n.round}: put off, as this round is about to end without it"
        return f"{_shown(new)} is of round {n.round}: enters it, and votes for {_shown(election.vote)}"
    if _key(new) == _key(own):
        return f"{_shown(new)} is what it votes for itself"
    why = f"{_shown(new)} against its own {_shown(own)}: {reason(new, own)}"
    if election.is_better(new, own):
        return f"{why}: better, votes for {election.vote.leader} now"
    return f"{why}: not better, keeps its vote"


def _key(vote: Vote) -> tuple[int, int, int]:
    return vote.leader, vote.zxid, vote.epoch


def _shown(vote: Vote) -> str:
    return vote_text(vote.leader, vote.zxid, vote.epoch)


def _list(sids: Sequence[int]) -> str:
    return " ".join(map(str, sids))


def _said(n: Notification) -> dict[str, Fact]:
    return {
        "state": STATE_NAMES[n.state],
        "myid": n.leader,
        "zxid": n.zxid,
        "epoch": n.peer_epoch,
        "round": n.round,
    }


def _facts(election: Election) -> dict[str, Fact]:
    vote = election.vote
    return {"vote": {"myid": vote.leader, "zxid": vote.zxid, "epoch": vote.epoch}, "round": election.round}
