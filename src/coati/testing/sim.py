"""One seed, one life of an ensemble: options, clients, faults, healing, and the judgement of the checkers.

A seed decides everything. Members are whole servers on simulated clock, network and disks; clients are Walkers that
come back to whatever member they like. After the faults only a random quorum is healed, and must serve within a time
(liveness); then all is healed, and all must have the same tree (convergence); then `check` looks at the histories of
the clients, the traces of the servers and their logs.
Sources: what faults a simulation should have, TigerBeetle's VOPR and Jepsen's nemeses.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

from coati.errors import StorageCorrupt
from coati.testing import history
from coati.testing.check_sessions import SessionRules
from coati.testing.check_zab import Quorum
from coati.testing.checkers import Rules, check
from coati.testing.cluster import ClusterConfig
from coati.testing.history import History, ServerLog, Trace, Violation
from coati.testing.reports import Reports
from coati.testing.server import SimLink
from coati.testing.sim_member import TracedCluster
from coati.testing.workload import Walker

# What a run may come across, as the report names it.
REACH: Final = (
    "leader",
    "DIFF empty",
    "DIFF memory",
    "DIFF disk",
    "TRUNC",
    "TRUNC+DIFF",
    "SNAP",
    "SNAP interrupted",
    "leader change during sync",
    "session move",
    "expiry",
    "expiry during failover",
    "observer join",
    "log roll",
    "purge",
    "snapshot under close or multi",
)
FAULTS: Final = {
    "kill": 5,
    "power": 4,
    "start": 14,
    "crash of all": 1,
    "link": 4,
    "cut one way": 3,
    "cut two ways": 3,
    "isolate": 3,
    "isolate leader": 3,
    "halves": 2,
    "bridge": 1,
    "ring": 1,
    "clog": 2,
    "heal": 12,
    "slow disk": 2,
    "wall clock": 2,
    "lose client": 6,
    "silence": 3,
}
TIMEOUT_MS: Final = 2000
CONVERGE_MS: Final = 60_000
SERVE_MS: Final = 2000


class Stuck(AssertionError):
    """The ensemble does not serve, or does not come to be of one mind, though nothing is broken any more."""


class Sim:
    """The run of one seed. `go` makes it, `check` judges it; `faults` counts what was done to it."""

    def __init__(self, seed: int, *, steps: int = 40, clients: int = 4) -> None:
        self.seed = seed
        self.dice = dice = Random(seed)
        self.steps = steps
        self.config = ClusterConfig(
            dice.choice((3, 3, 5)),
            observers=dice.choice((0, 0, 1, 2)),
            tick_ms=dice.choice((100, 200, 400)),
            init_ticks=10,
            sync_ticks=5,
            disk_ms=dice.choice(((0, 1), (1, 1), (1, 8), (1, 40))),
            snap_count=dice.choice((10, 40, 100_000)),
            commit_log_count=dice.choice((1, 10, 500)),
            min_session_timeout_ms=TIMEOUT_MS,
            purges=dice.random() < 0.5,
        )
        self._disk_ms = self.config.disk_ms
        self.cluster = TracedCluster(self.config, dice=dice, on_snapshot=self._on_snapshot)
        self.net, self.clock = self.cluster.net, self.cluster.clock
        self.net.delay_ms = dice.choice(((1, 1), (1, 10), (5, 40)))
        self.net.split_share = dice.choice((0.0, 0.0, 0.2))
        self.net.vote_loss = dice.choice((0.0, 0.0, 0.1))
        self.fault_share = dice.choice((0.0, 0.3, 0.6, 0.9))
        self._is_healing = False
        self.history = History(lambda: self.clock.now_ms)
        self.faults: Counter[str] = Counter()
        self.reach = self.cluster.reach
        self.walkers = [Walker(self.history, dice, timeout_ms=TIMEOUT_MS) for _ in range(clients)]
        self.homes: dict[int, SimLink] = {}
        self.servers: dict[int, int] = {}
        # Until when a client does nothing.
        self._silent: dict[int, int] = {}
        self._has_steps_of_clock = False
        self.core: list[int] = []

    @property
    def traces(self) -> list[Trace]:
        return self.cluster.traces

    def go(self) -> Sim:
        """All of it. Raises Stuck."""
        try:
            self.cluster.start()
            # Elections first, in most runs, or there would be nothing to break.
            if self.dice.random() < 0.8:
                self._run_until_served(SERVE_MS)
            for _ in range(self.steps):
                self._step()
            self._heal_core()
            self._heal_all()
        except AssertionError as error:
            raise Stuck(f"seed {self.seed}: {type(error).__name__}: {error}") from error
        return self

    # Clients

    def _step(self) -> None:
        dice = self.dice
        if dice.random() < self.fault_share:
            (fault,) = dice.choices(list(FAULTS), list(FAULTS.values()))
            self._break(fault)
        for _ in range(dice.randint(1, 4)):
            self._walk()
            self.clock.advance(dice.choice((1, 5, 20, 60)))
        if dice.random() < 0.2:
            self.clock.advance(dice.choice((200, 500, 1500)))
        self._check_fatal()

    def _check_fatal(self) -> None:
        for member in self.cluster.members.values():
            assert not member.fatal, f"server {member.sid} ended: {member.fatal!r}"

    def _walk(self) -> None:
        now_ms = self.clock.now_ms
        for index, walker in enumerate(self.walkers):
            if self._silent.get(index, 0) > now_ms:
                continue
            self._connect(index, walker)
            for _ in range(self.dice.randint(0, 3)):
                walker.act()
            if self.dice.random() < 0.3:
                walker.ping()

    def _connect(self, index: int, walker: Walker) -> None:
        link = self.homes.get(index)
        if link is not None and (walker.is_over or not link.is_open):
            self._lose(index)
            link = None
        if link is not None:
            return
        members = [member for member in self.cluster.members.values() if member.is_serving]
        if not members or self.dice.random() < 0.3:
            return
        member = self.dice.choice(members)
        if walker.session_id and self.servers.get(index, member.sid) != member.sid:
            self.reach["session move"] += 1
        self.servers[index] = member.sid
        link = self.homes[index] = SimLink(member, ("127.0.0.1", 40000 + index))
        link.on_data = walker.received
        walker.connect(member.sid, link.feed)

    def _lose(self, index: int) -> None:
        link = self.homes.pop(index, None)
        if link is not None:
            link.drop()
            link.on_data = None
            self.walkers[index].lost()

    # Faults

    def _break(self, fault: str) -> None:
        if fault != "wall clock" or self.dice.random() < 0.3:
            self.faults[fault] += 1
            if fault in ("kill", "power", "start", "crash of all"):
                self._break_process(fault)
            elif fault in ("slow disk", "wall clock", "lose client", "silence", "link"):
                self._break_other(fault)
            else:
                self._break_net(fault)

    def _break_process(self, fault: str) -> None:
        dice = self.dice
        ups = [member for member in self.cluster.members.values() if member.is_up]
        downs = [member for member in self.cluster.members.values() if not member.is_up]
        if fault == "start":
            if downs:
                dice.choice(downs).start()
        elif fault == "crash of all":
            for member in ups:
                member.crash()
            self.clock.advance(dice.randint(0, 300))
            for member in list(self.cluster.members.values()):
                if not member.is_up and dice.random() < 0.8:
                    member.start()
        elif ups:
            leader = self.cluster.leader()
            victim = leader if leader is not None and dice.random() < 0.4 else dice.choice(ups)
            if fault == "kill":
                victim.kill()
            else:
                victim.crash()

    def _break_other(self, fault: str) -> None:
        dice = self.dice
        if fault == "slow disk":
            self.config.disk_ms = dice.choice((self._disk_ms, (1, 100), (50, 300)))
        elif fault == "wall clock":
            self._has_steps_of_clock = True
            self.clock.skew_ms += dice.choice((-3_600_000, 3_600_000, -500, 500))
        elif fault == "lose client":
            self._lose(dice.randrange(len(self.walkers)))
        elif fault == "silence":
            index = dice.randrange(len(self.walkers))
            if dice.random() < 0.5:
                self._lose(index)
            self._silent[index] = self.clock.now_ms + dice.choice((TIMEOUT_MS // 2, TIMEOUT_MS * 3))
        else:
            one, other = dice.sample(sorted(self.cluster.members), 2)
            for link in self.net.links_between(one, other):
                self.net.close(link)

    def _break_net(self, fault: str) -> None:
        dice, net = self.dice, self.net
        sids = sorted(self.cluster.members)
        if fault == "heal":
            net.heal_all()
        elif fault in ("cut one way", "cut two ways", "clog"):
            one, other = dice.sample(sids, 2)
            net.cut(one, other)
            if fault == "cut two ways":
                net.cut(other, one)
            elif fault == "clog":
                until_ms = self.clock.now_ms + dice.randint(1, 5000)
                self.clock.call_at(until_ms, lambda: net.heal(one, other))
        elif fault in ("isolate", "isolate leader"):
            leader = self.cluster.leader()
            alone = leader.sid if leader is not None and fault == "isolate leader" else dice.choice(sids)
            self._part([alone], [sid for sid in sids if sid != alone])
        else:
            self._part_all(fault, dice.sample(sids, len(sids)))

    def _part_all(self, fault: str, sids: list[int]) -> None:
        half = len(sids) // 2
        if fault == "halves":
            self._part(sids[:half], sids[half:])
        elif fault == "bridge":
            # One that everybody hears stands between two halves.
            self._part(sids[:half], sids[half + 1 :])
        else:
            # Each hears its neighbours only.
            for index, one in enumerate(sids):
                for far in range(2, len(sids) - 1):
                    self.net.cut(one, sids[(index + far) % len(sids)])

    def _part(self, ones: list[int], others: list[int]) -> None:
        """Both ways, or one way."""
        ways = self.dice.choice((3, 3, 2, 1))
        for one in ones:
            for other in others:
                if ways & 1:
                    self.net.cut(one, other)
                if ways & 2:
                    self.net.cut(other, one)

    def _on_snapshot(self, sid: int, leader_sid: int) -> None:
        """A snapshot begins to come, and for so short a time that other faults hardly ever fall into it."""
        dice = self.dice
        if not self._is_healing and dice.random() < self.fault_share / 2:
            due_ms = self.clock.now_ms + dice.randint(0, 2 * self.config.disk_ms[1])
            what = dice.choice(("link", "learner", "leader"))
            self.clock.call_at(due_ms, lambda: self._break_snapshot(what, sid, leader_sid))

    def _break_snapshot(self, what: str, sid: int, leader_sid: int) -> None:
        if self._is_healing:
            return
        self.faults["snapshot"] += 1
        if what == "link":
            for link in self.net.links_between(sid, leader_sid):
                self.net.close(link)
            return
        victim = self.cluster.members[sid if what == "learner" else leader_sid]
        if victim.is_up:
            victim.crash()

    # Healing

    def _heal_core(self) -> None:
        """A random quorum is whole and among itself; the others are dead or unheard. It must serve, in time."""
        self._is_healing = True
        dice, config = self.dice, self.config
        voters = self.cluster.view.voters()
        self.core = sorted(dice.sample(voters, dice.randint(len(voters) // 2 + 1, len(voters))))
        config.disk_ms = self._disk_ms
        self.net.heal_all()
        self.net.vote_loss = 0.0
        for sid, member in self.cluster.members.items():
            if sid in self.core:
                if not member.is_up:
                    member.start()
            elif member.is_up and dice.random() < 0.5:
                member.crash()
            else:
                self._cut_off(sid)
        limit_ms = (2 * config.init_ticks + config.sync_ticks) * config.tick_ms
        # Whatever a dial or a sync still waits for is no fault of the core.
        self._run_until(lambda: self._is_whole(self.core), limit_ms + config.sync_ticks * config.tick_ms, "core")

    def _cut_off(self, sid: int) -> None:
        for other in self.core:
            self.net.cut(sid, other)
            self.net.cut(other, sid)

    def _is_whole(self, sids: list[int]) -> bool:
        members = [self.cluster.members[sid] for sid in sids]
        if not all(member.is_serving for member in members):
            return False
        leaders = [member for member in members if member.hub.peer.role is not None and member.hub.peer.role.leads]
        return len(leaders) == 1 and len({(m.tree.last_zxid, m.tree.digest) for m in members}) == 1

    def _heal_all(self) -> None:
        self.net.heal_all()
        for member in self.cluster.members.values():
            if not member.is_up:
                member.start()
        everybody = sorted(self.cluster.members)
        self._run_until(lambda: self._is_whole(everybody), CONVERGE_MS, "all")
        for _ in range(10):
            self._silent.clear()
            self._walk()
            self.clock.advance(50)
        for index in list(self.homes):
            self._lose(index)
        self.clock.advance(self.config.tick_ms * self.config.sync_ticks)
        self._run_until(lambda: self._is_whole(everybody), CONVERGE_MS, "all, after the last clients")
        for member in self.cluster.members.values():
            assert not member.tree.digest_mismatches, f"server {member.sid} has another tree than the leader's log"
            replica = member.driver.replica
            assert replica is not None, "it serves"
            count = replica.watches.size()
            conns = tuple(range(len(member.links)))
            self.traces.append(Trace(self.clock.now_ms, member.sid, history.WATCHES, count=count, acks=conns))

    def _run_until_served(self, limit_ms: int) -> None:
        until_ms = self.clock.now_ms + limit_ms
        while self.clock.now_ms < until_ms and not self.cluster.all_serve():
            self.clock.advance(10)

    def _run_until(self, holds: Callable[[], bool], limit_ms: int, who: str) -> None:
        began_ms = self.clock.now_ms
        while not holds():
            assert self.clock.now_ms - began_ms < limit_ms, f"{who}: not within {limit_ms} ms: {self.cluster}"
            self._check_fatal()
            self.clock.advance(10)

    # The judgement

    def check(self) -> list[Violation]:
        """All violations."""
        config = self.config
        lag_ms = (config.sync_ticks + 2) * config.tick_ms + 2 * self.net.delay_ms[1] + 400
        sessions = SessionRules(
            skew_ms=None if self._has_steps_of_clock else self.clock.skew_ms,
            tick_ms=config.tick_ms,
            reports=Reports(self.traces),
            grace_ms=lag_ms + 1000,
            sids=list(self.cluster.members),
        )
        rules = Rules(quorum=Quorum(self.cluster.view.voters()), sessions=sessions)
        return check(self.history, traces=self.traces, logs=self.logs(), rules=rules)

    def logs(self) -> dict[int, ServerLog]:
        """The logs that reach back to the beginning."""
        logs = {}
        for sid, member in self.cluster.members.items():
            try:
                logs[sid] = ServerLog(list(member.store.read_log(0)))
            except StorageCorrupt:
                continue
        return logs

    def trace_hash(self) -> str:
        """Of all that happened, in order."""
        sha = hashlib.sha256()
        for line in (*self.history.lines, *self.traces):
            sha.update(repr(line).encode())
        return sha.hexdigest()
