"""A contest: servers that elect a leader, on one clock and a network without dice, and the story of it.

Knows when servers start, how long a message takes, and which of them run; what is said and decided is the machines'.
A message to who does not run comes back as refused. Who follows somebody that does not lead, or leads without a quorum
of followers, looks again after `PATIENCE_MS`, as roles give up that cannot work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from coati.errors import ConfigError
from coati.lab.ballots import Ballot
from coati.lab.story import FAULT, LOST, SEND, STATE, Fact, Step, Story
from coati.testing.clock import SimClock
from coati.zab.quorum import Server, View

DELAY_MS: Final = 10
PATIENCE_MS: Final = 1000
# How long an election is looked at once the last server has started.
LIMIT_MS: Final = 3000


class Contest(ABC):
    """One election. `run` tells it; `leader` is who leads in the end, or None."""

    name: str

    def __init__(
        self, ballots: Sequence[Ballot], *, delay_ms: int = DELAY_MS, limit_ms: int = LIMIT_MS, led_by: int = 0
    ) -> None:
        self.ballots = {one.sid: one for one in ballots}
        if led_by and not (led_by in self.ballots and self.ballots[led_by].is_down):
            raise ConfigError(f"server {led_by} has led until now, so it has to be one that is down")
        self.delay_ms = delay_ms
        self.led_by = led_by
        self.clock = SimClock(0, 0)
        # No server has an address: messages are carried by hand.
        servers = [Server(sid, "127.0.0.1", 2888, 3888) for sid in self.ballots]
        self.view = View.build(servers, {}, {})
        self.needed = len(servers) // 2 + 1
        self.story = Story("", [str(sid) for sid in self.ballots])
        self.running: dict[int, None] = {}
        # Whom each server has taken as its leader, and since when.
        self.chosen: dict[int, int] = {}
        self.messages = 0
        self.lost = 0
        self.agreed_ms = -1
        self._end_ms = max(one.start_ms for one in ballots) + limit_ms
        self._losses: dict[tuple[int, int], list[int]] = {}

    # What an algorithm does.

    @abstractmethod
    def begin(self, sid: int) -> None:
        """The server looks for a leader; it may do so again."""

    @abstractmethod
    def rounds(self) -> int:
        """How many rounds there were."""

    def on_refused(self, sid: int, other: int) -> None:  # noqa: B027  # not every algorithm hears of it
        """Nobody listens there."""

    # The whole.

    def run(self) -> Story:
        """To the end, or until it is clear that there is none."""
        self._introduce()
        for ballot in sorted(self.ballots.values(), key=lambda one: (one.start_ms, one.sid)):
            if not ballot.is_down:
                self._at(ballot.start_ms, partial(self._start, ballot.sid))
        while not self._is_over() and self.clock.step(self._end_ms):
            pass
        self._conclude()
        return self.story

    def leader(self) -> int | None:
        """Who leads: it says so, and a quorum has chosen it."""
        for sid, leader in self.chosen.items():
            followers = [one for one, choice in self.chosen.items() if choice == leader]
            if sid == leader and self.view.contains_quorum(followers):
                return leader
        return None

    def _is_over(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        if self.agreed_ms < 0:
            self.agreed_ms = self.clock.now_ms
        return all(one.is_down or self.chosen.get(one.sid) == leader for one in self.ballots.values())

    def _start(self, sid: int) -> None:
        self.running[sid] = None
        self.begin(sid)

    def _introduce(self) -> None:
        story, count = self.story, len(self.ballots)
        story.title = f"Election among {count} servers by {self.name}; more than half of them is {self.needed}."
        story.intro.append(f"A vote is (myid, zxid, epoch); a message takes {self.delay_ms} ms.")
        for one in self.ballots.values():
            if one.is_down:
                what = "has led until now and is gone" if one.sid == self.led_by else "does not run"
                story.intro.append(f"Server {one.sid} {what}.")
                story.add(Step(0, FAULT, str(one.sid), what, label="down"))

    def _conclude(self) -> None:
        story, leader = self.story, self.leader()
        running = len(self.running)
        story.facts = {
            "algorithm": self.name,
            "leader": leader or 0,
            "elected_ms": self.agreed_ms,
            "rounds": self.rounds(),
            "messages": self.messages,
            "refused": self.lost,
        }
        if leader is None:
            story.failure = (
                f"no leader: {running} of {len(self.ballots)} servers run, and more than half is {self.needed}"
                if running < self.needed
                else f"no leader within {self._end_ms} ms"
            )
            story.outcome.append(f"{story.failure[:1].upper()}{story.failure[1:]}.")
            return
        followers = sorted(sid for sid, choice in self.chosen.items() if choice == leader != sid)
        shown = f"; its followers: {', '.join(map(str, followers))}" if followers else ""
        story.outcome.append(f"Server {leader} leads, elected at {self.agreed_ms} ms{shown}.")
        refused = f" (and {self.lost} to servers that did not run)" if self.lost else ""
        story.outcome.append(f"Messages: {self.messages}{refused}. Rounds: {self.rounds()}.")

    # For the algorithms: time, messages, states.

    def _at(self, when_ms: int, call: Callable[[], None]) -> None:
        self.clock.call_at(when_ms, call)

    def tell(self, sid: int, kind: str, text: str, *, peers: Sequence[int] = (), sent_ms: int = -1, label: str = "",
             facts: dict[str, Fact] | None = None) -> None:  # fmt: skip
        """The next step of the story."""
        names = tuple(map(str, peers))
        self.story.add(Step(self.clock.now_ms, kind, str(sid), text, names, sent_ms, label, facts or {}))

    def carry(
        self, sender: int, targets: Sequence[int], text: str, facts: dict[str, Fact], arrive: Callable[[int], None]
    ) -> None:
        """One message to each of them."""
        self.tell(sender, SEND, text, peers=targets, facts=facts)
        for target in targets:
            self._at(self.clock.now_ms + self.delay_ms, partial(self._land, sender, target, arrive))

    def _land(self, sender: int, target: int, arrive: Callable[[int], None]) -> None:
        if target in self.running:
            self.messages += 1
            arrive(target)
            return
        self.lost += 1
        when_ms = self.clock.now_ms + self.delay_ms
        waiting = self._losses.setdefault((sender, when_ms), [])
        waiting.append(target)
        if len(waiting) == 1:
            self._at(when_ms, lambda: self._refuse(sender, self._losses.pop((sender, when_ms))))

    def _refuse(self, sender: int, targets: list[int]) -> None:
        self.tell(sender, LOST, "nobody listens there", peers=targets)
        for target in targets:
            self.on_refused(sender, target)

    def settle(self, sid: int, leader: int, text: str) -> None:
        """The server has decided."""
        self.chosen[sid] = leader
        label = "LEADING" if sid == leader else f"FOLLOWING {leader}"
        self.tell(sid, STATE, text, label=label, facts={"leader": leader})
        due_ms = self.clock.now_ms + PATIENCE_MS
        self._at(due_ms, lambda: self._look_at(sid, leader))

    def _look_at(self, sid: int, leader: int) -> None:
        """Whether the role works."""
        if self.chosen.get(sid) != leader or self.leader() == leader:
            return
        del self.chosen[sid]
        text = "no quorum follows it" if sid == leader else f"server {leader} does not lead"
        self.tell(sid, STATE, f"{text}: looks again", label="LOOKING")
        self.begin(sid)
