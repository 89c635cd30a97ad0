"""Elections without sockets: one server at a desk, or an ensemble on a network that delays, loses and cuts."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from coati.wire.quorum import FOLLOWING, LEADING, LOOKING, Notification
from coati.zab.election import Election, Vote
from coati.zab.outbox import Outbox
from coati.zab.quorum import Server, View

Kind = type[Election]
Said = tuple[int, int, int, int, int]


def view_of(
    voters: int, observers: int = 0, groups: dict[int, list[int]] | None = None, weights: dict[int, int] | None = None
) -> View:
    """Servers 1, 2, ...; the observers last."""
    servers = [
        Server(sid, "127.0.0.1", 2000 + sid, 3000 + sid, is_observer=sid > voters)
        for sid in range(1, voters + observers + 1)
    ]
    return View.build(servers, groups or {}, weights or {})


def said(n: Notification) -> Said:
    """(state, leader, zxid, round, epoch)."""
    return n.state, n.leader, n.zxid, n.round, n.peer_epoch


class Desk:
    """One server that looks, in front of the test. Its round is 1 when it has begun."""

    def __init__(self, sid: int, view: View, *, zxid: int = 0, epoch: int = 0, kind: Kind = Election) -> None:
        self.outbox = Outbox()
        self.election = kind(sid, view, self.outbox)
        self.now_ms = 1000
        self.own = Vote(sid, zxid, epoch)
        self.election.begin(self.now_ms, self.own)

    def hear(self, sender: int, state: int, leader: int, zxid: int = 0, round: int = 1, epoch: int = 0) -> None:
        self.election.on_vote(self.now_ms, sender, Notification(state, leader, zxid, round, epoch, b"a view"))

    def told(self) -> dict[int, Said]:
        """What is to be sent, by receiver, each once; it is taken."""
        votes = {sid: said(n) for sid, n in self.outbox.votes}
        assert len(votes) == len(self.outbox.votes), "one vote for each, the newest"
        self.outbox.votes.clear()
        return votes

    def wait(self, ms: int) -> None:
        """Time passes; the machine is called when it asks to be."""
        end_ms = self.now_ms + ms
        while (deadline_ms := self.election.next_deadline_ms()) is not None and deadline_ms <= end_ms:
            assert deadline_ms > self.now_ms, "a deadline that has passed comes again"
            self.now_ms = deadline_ms
            self.election.on_tick(self.now_ms)
        self.now_ms = end_ms

    @property
    def leader(self) -> int | None:
        decided = self.election.decided
        return None if decided is None else decided.leader


@dataclass
class Host:
    """A server of the ensemble: its log, which survives, and its election, which does not."""

    own: Vote
    election: Election | None = None
    outbox: Outbox = field(default_factory=Outbox)
    timer_ms: int = -1
    settled_ms: int = -1
    is_established: bool = False


class Ensemble:
    """All servers on one clock. Logs do not grow here, so that of each decision can be told whether it is allowed:
    the leader's log is at least that of a quorum.

    Of each pair one message after the other arrives; who sends to a server that is down is told so. When a link is back
    each side repeats its last word, as Java's SendWorker does. A server gives up a role that cannot work after
    `PATIENCE_MS`, as leader and learner do.
    """

    PATIENCE_MS = 1000

    def __init__(
        self,
        view: View,
        votes: list[Vote],
        *,
        seed: int = 0,
        delay_ms: tuple[int, int] = (1, 20),
        kind: Kind = Election,
    ) -> None:
        self.dice = random.Random(seed)
        self.seed = seed
        self.view = view
        self.kind = kind
        # Servers of another kind than the others, by sid.
        self.kinds: dict[int, Kind] = {}
        self.delay_ms = delay_ms
        self.loss = 0.0
        self.now_ms = 0
        self.hosts = {vote.leader: Host(vote) for vote in votes}
        self.cuts: dict[tuple[int, int], None] = {}
        self._events: list[tuple[int, int, int, int, Notification | None]] = []
        self._serial = 0
        self.messages = 0
        self._last: dict[tuple[int, int], Notification] = {}
        self._arrivals: dict[tuple[int, int], int] = {}
        self._epoch = 3

    # What happens to servers and links.

    def start(self, *sids: int) -> None:
        for sid in sids or tuple(self.hosts):
            host = self.hosts[sid]
            if host.election is None:
                host.outbox = Outbox()
                host.election = self.kinds.get(sid, self.kind)(sid, self.view, host.outbox)
                self._look(sid, host)
                for other in self.hosts:
                    if not self._is_cut(other, sid):
                        self._repeat((other, sid))

    def crash(self, sid: int) -> None:
        self.hosts[sid].election = None
        for pair in [pair for pair in self._last if sid in pair]:
            del self._last[pair]

    def cut(self, a: int, b: int) -> None:
        self.cuts[min(a, b), max(a, b)] = None

    def heal(self, a: int, b: int) -> None:
        self.cuts.pop((min(a, b), max(a, b)), None)
        self._repeat((a, b))
        self._repeat((b, a))

    def calm(self) -> None:
        """From now on nothing goes wrong, and everybody is there."""
        self.loss = 0.0
        self.cuts.clear()
        self.start()
        for pair in list(self._last):
            self._repeat(pair)

    # Time.

    def run(self, ms: int) -> None:
        self._run_until(self.now_ms + ms, stop_when_settled=False)

    def settle(self, limit_ms: int = 10_000) -> int:
        """Runs until all who are up agree on a leader who leads; gives the leader."""
        self._run_until(self.now_ms + limit_ms, stop_when_settled=True)
        leader = self.agreed()
        assert leader is not None, f"seed {self.seed}: nobody leads after {limit_ms} ms of calm: {self}"
        return leader

    def agreed(self) -> int | None:
        up = [host.election for host in self.hosts.values() if host.election is not None]
        leaders = {e.vote.leader for e in up if e.state != LOOKING}
        if len(leaders) != 1 or any(e.state == LOOKING for e in up):
            return None
        (leader,) = leaders
        return leader if self._state(leader) == LEADING else None

    def __str__(self) -> str:
        rows = [f"{sid}: down" if (e := host.election) is None else f"{sid}: {e.state} in round {e.round} for {e.vote}"
                for sid, host in self.hosts.items()]  # fmt: skip
        return "; ".join(rows)

    # The network and the roles.

    def _run_until(self, end_ms: int, *, stop_when_settled: bool) -> None:
        while self._events and self._events[0][0] <= end_ms:
            if stop_when_settled and self.agreed() is not None:
                return
            self.now_ms, _, sender, sid, n = heapq.heappop(self._events)
            host = self.hosts[sid]
            if host.election is None:
                if n is not None and not self._is_cut(sender, sid):
                    self._post(self.now_ms + self.dice.randint(*self.delay_ms), sid, sender, None)
                continue
            if n is not None:
                if not self._is_cut(sender, sid):
                    host.election.on_vote(self.now_ms, sender, n)
            elif sender != sid:
                if self.hosts[sender].election is None and not self._is_cut(sender, sid):
                    host.election.on_refused(self.now_ms, sender)
            elif host.election.state != LOOKING:
                self._look_at_role(sid, host)
            elif self.now_ms == host.timer_ms:
                host.election.on_tick(self.now_ms)
            self._flush(sid, host)
        self.now_ms = end_ms

    def _look(self, sid: int, host: Host) -> None:
        assert host.election is not None
        host.is_established = False
        host.settled_ms = -1
        host.election.begin(self.now_ms, host.own)
        self._flush(sid, host)

    def _flush(self, sid: int, host: Host) -> None:
        election = host.election
        assert election is not None
        decided = election.decided
        if decided is not None and host.settled_ms < 0:
            host.settled_ms = self.now_ms
            self._check(sid, decided)
            election.settled(election.state, decided)
            self._post(self.now_ms + self.PATIENCE_MS, sid, sid, None)
        for to, n in host.outbox.votes:
            self._last[sid, to] = n
            if to in self.hosts and not self._is_cut(sid, to):
                election.on_delivered()
                self._travel((sid, to), n)
        host.outbox.votes.clear()
        deadline_ms = election.next_deadline_ms()
        if deadline_ms is not None and deadline_ms != host.timer_ms:
            host.timer_ms = deadline_ms
            self._post(deadline_ms, sid, sid, None)

    def _look_at_role(self, sid: int, host: Host) -> None:
        assert host.election is not None
        if self.now_ms < host.settled_ms + self.PATIENCE_MS:
            return
        leader = host.election.vote.leader
        if sid == leader:
            followers = [other for other in self.hosts if self._follows(other, sid)]
            works = self.view.contains_quorum([*followers, sid]) and not host.election.is_deserted(followers)
            if works:
                self._serve(host, [host.election, *[e for o in followers if (e := self.hosts[o].election) is not None]])
        else:
            works = self._state(leader) == LEADING and not self._is_cut(sid, leader)
        if works:
            host.settled_ms = self.now_ms
            self._post(self.now_ms + self.PATIENCE_MS, sid, sid, None)
        else:
            self._look(sid, host)

    def _serve(self, host: Host, elections: list[Election]) -> None:
        """The leader has its epoch, and whoever follows learns it."""
        if not host.is_established:
            host.is_established = True
            self._epoch += 1
            elections[0].set_vote_epoch(self._epoch)
        for election in elections[1:]:
            election.set_vote_epoch(elections[0].vote.epoch)

    def _check(self, sid: int, decided: Vote) -> None:
        leader = self.hosts[decided.leader].own
        behind = [
            other
            for other, host in self.hosts.items()
            if (host.own.epoch, host.own.zxid) <= (leader.epoch, leader.zxid)
        ]
        assert self.view.contains_quorum(behind), f"seed {self.seed}: {sid} decided for {decided}: {self}"
        assert self.view.weight(decided.leader) > 0, f"seed {self.seed}: {decided} cannot lead"

    def _state(self, sid: int) -> int:
        election = self.hosts[sid].election
        return LOOKING if election is None else election.state

    def _follows(self, sid: int, leader: int) -> bool:
        election = self.hosts[sid].election
        if election is None or election.state != FOLLOWING:
            return False
        return election.vote.leader == leader and not self._is_cut(sid, leader)

    def _is_cut(self, a: int, b: int) -> bool:
        return (min(a, b), max(a, b)) in self.cuts

    def _repeat(self, pair: tuple[int, int]) -> None:
        n = self._last.get(pair)
        if n is not None and pair[1] in self.hosts:
            self._travel(pair, n)

    def _travel(self, pair: tuple[int, int], n: Notification) -> None:
        self.messages += 1
        if self.dice.random() < self.loss:
            return
        arrival_ms = max(self.now_ms + self.dice.randint(*self.delay_ms), self._arrivals.get(pair, 0))
        self._arrivals[pair] = arrival_ms
        self._post(arrival_ms, *pair, n)

    def _post(self, when_ms: int, sender: int, sid: int, n: Notification | None) -> None:
        self._serial += 1
        heapq.heappush(self._events, (when_ms, self._serial, sender, sid, n))
