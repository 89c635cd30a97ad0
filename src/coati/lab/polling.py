"""Election by polling: a server asks all others whom they vote for, again and again, until one has more than half.

A small machine of the lab's own, beside which fast leader election shows what it does better. It follows the working
principle that introductions to ZooKeeper give (steps 5 to 8 of it; rows 32 to 35 of section 10 of the specification),
which was that of ZooKeeper's first algorithm, `electionAlg=0`, class LeaderElection:
- every server asks all others for their vote, and is answered with the leader that they recommend and the zxid of it;
  to begin with everybody recommends itself;
- when all have answered, or `ANSWER_MS` is over, the votes are counted. Who has more than half of all is the leader;
- else the vote with the largest zxid, then myid, is the next one to recommend, and everybody is asked again.
Nobody is told of anything without having asked, which is why it takes more messages and more time.

States: LOOKING -> LEADING | FOLLOWING, in this file only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from coati.lab.ballots import Ballot, zxid_text
from coati.lab.contest import DELAY_MS, LIMIT_MS, Contest
from coati.lab.story import HEAR, NOTE, STATE, Fact

# How long answers are waited for, since who does not run gives none.
ANSWER_MS: Final = 200

Recommendation = tuple[int, int]
"""(zxid, myid): the larger one is the better one."""


class Poll:
    """One server. `asked` and `answers` are to be sent and taken; `leader` is the outcome, 0 while there is none."""

    def __init__(self, sid: int, zxid: int, others: Sequence[int]) -> None:
        self.sid = sid
        self.vote: Recommendation = (zxid, sid)
        self.round = 0
        self.leader = 0
        # Of this round, by who gave it.
        self.heard: dict[int, Recommendation] = {}
        self.asked: list[int] = []
        # (to, round of the one who asked, what is recommended)
        self.answers: list[tuple[int, int, Recommendation]] = []
        self._own = self.vote
        self._others = tuple(others)
        self._due_ms = 0

    def begin(self, now_ms: int) -> None:
        """Looks for a leader, recommending itself."""
        self.leader = 0
        self.vote = self._own
        self._ask(now_ms)

    def on_question(self, sender: int, round_: int) -> None:
        """Somebody asks; the answer is the same in every state."""
        self.answers.append((sender, round_, self.vote))

    def on_answer(self, now_ms: int, sender: int, round_: int, vote: Recommendation) -> None:
        """An answer; one to an earlier round is too late."""
        if self.leader or round_ != self.round:
            return
        self.heard[sender] = vote
        if len(self.heard) > len(self._others):
            self._count(now_ms)

    def on_tick(self, now_ms: int) -> None:
        """Time has passed."""
        if not self.leader and now_ms >= self._due_ms:
            self._count(now_ms)

    def next_deadline_ms(self) -> int | None:
        """When to call `on_tick`."""
        return None if self.leader else self._due_ms

    def _ask(self, now_ms: int) -> None:
        self.round += 1
        self.heard = {self.sid: self.vote}
        self.asked = list(self._others)
        self._due_ms = now_ms + ANSWER_MS
        if not self._others:
            self._count(now_ms)

    def _count(self, now_ms: int) -> None:
        winner, count = max(tally(self.heard).items(), key=lambda item: (item[1], item[0]))
        best = max(self.heard.values())
        if 2 * count > len(self._others) + 1:
            self.leader = winner
            self.vote = next(vote for vote in self.heard.values() if vote[1] == winner)
        else:
            self.vote = best
            self._ask(now_ms)


def tally(heard: Mapping[int, Recommendation]) -> dict[int, int]:
    """How many have recommended whom."""
    counts: dict[int, int] = {}
    for _, sid in heard.values():
        counts[sid] = counts.get(sid, 0) + 1
    return counts


class PollingContest(Contest):
    """The servers ask each other."""

    name = "polling"

    def __init__(
        self, ballots: Sequence[Ballot], *, delay_ms: int = DELAY_MS, limit_ms: int = LIMIT_MS, led_by: int = 0
    ) -> None:
        super().__init__(ballots, delay_ms=delay_ms, limit_ms=limit_ms, led_by=led_by)
        self.polls: dict[int, Poll] = {}
        self._timers: dict[int, int] = {}

    def rounds(self) -> int:
        return max((poll.round for poll in self.polls.values()), default=0)

    def begin(self, sid: int) -> None:
        poll = self.polls.get(sid)
        if poll is None:
            others = [one for one in self.ballots if one != sid]
            poll = self.polls[sid] = Poll(sid, self.ballots[sid].zxid, others)
        self.tell(sid, STATE, f"recommends itself, {_shown(poll.vote)}", label="LOOKING")
        self._step(poll, lambda: poll.begin(self.clock.now_ms), {sid: poll.vote})

    def _flush(self, poll: Poll) -> None:
        asked, poll.asked = poll.asked, []
        sent_ms, round_ = self.clock.now_ms, poll.round

        def ask(target: int) -> None:
            self._asked(poll.sid, target, round_, sent_ms)

        if asked:
            self.carry(poll.sid, asked, f"round {round_}: whom do you vote for?", {"round": round_}, ask)
        answers, poll.answers = poll.answers, []
        for to, asked_round, vote in answers:

            def answer(target: int, asked_round: int = asked_round, vote: Recommendation = vote) -> None:
                self._answered(poll.sid, target, asked_round, vote, sent_ms)

            self.carry(poll.sid, [to], f"{_shown(vote)}", _facts(vote), answer)
        deadline_ms = poll.next_deadline_ms()
        if deadline_ms is not None and self._timers.get(poll.sid) != deadline_ms:
            self._timers[poll.sid] = deadline_ms
            self._at(deadline_ms, lambda: self._tick(poll, deadline_ms))

    def _asked(self, sender: int, sid: int, round_: int, sent_ms: int) -> None:
        self.tell(sid, HEAR, "is asked", peers=[sender], sent_ms=sent_ms, label="?", facts={"round": round_})
        poll = self.polls[sid]
        poll.on_question(sender, round_)
        self._flush(poll)

    def _answered(self, sender: int, sid: int, round_: int, vote: Recommendation, sent_ms: int) -> None:
        poll = self.polls[sid]
        is_late = bool(poll.leader) or round_ != poll.round
        text = f"{_shown(vote)}{', too late to count' if is_late else ''}"
        self.tell(sid, HEAR, text, peers=[sender], sent_ms=sent_ms, label=_shown(vote), facts=_facts(vote))
        self._step(poll, lambda: poll.on_answer(self.clock.now_ms, sender, round_, vote), {sender: vote})

    def _tick(self, poll: Poll, due_ms: int) -> None:
        if self._timers.get(poll.sid) == due_ms == poll.next_deadline_ms():
            self._step(poll, lambda: poll.on_tick(self.clock.now_ms), {})

    def _step(self, poll: Poll, call: Callable[[], None], more: dict[int, Recommendation]) -> None:
        """What the machine does with it, told by what it was before and is after."""
        round_, heard, was_open = max(poll.round, 1), {**poll.heard, **more}, not poll.leader
        call()
        if was_open and (poll.leader or poll.round > round_):
            self._tell_count(poll, round_, heard)
        self._flush(poll)

    def _tell_count(self, poll: Poll, round_: int, heard: dict[int, Recommendation]) -> None:
        counts = tally(heard)
        told = ", ".join(f"{leader} has {count}" for leader, count in sorted(counts.items()))
        missing = len(self.ballots) - len(heard)
        silent = f" ({missing} did not answer within {ANSWER_MS} ms)" if missing else ""
        text = f"round {round_}: {told} of {len(self.ballots)}{silent}"
        facts: dict[str, Fact] = {"round": round_, "count": {str(leader): count for leader, count in counts.items()}}
        if poll.leader:
            label = f"{counts[poll.leader]} of {len(self.ballots)} for {poll.leader}"
            self.tell(poll.sid, NOTE, f"{text}: more than half for {poll.leader}", label=label, facts=facts)
            self.settle(poll.sid, poll.leader, f"decided in round {round_}")
        else:
            text += f": {self.needed} are needed; votes for the largest zxid, then myid: {_shown(poll.vote)}"
            self.tell(poll.sid, NOTE, text, facts=facts)


def _shown(vote: Recommendation) -> str:
    return f"({vote[1]}, {zxid_text(vote[0])})"


def _facts(vote: Recommendation) -> dict[str, Fact]:
    return {"myid": vote[1], "zxid": vote[0]}
