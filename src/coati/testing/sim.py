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
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from coati.errors import StorageCorrupt
from coati.testing import history
from coati.testing.check_sessions import SessionRules
from coati.testing.check_zab import Lag, Quorum
from coati.testing.checkers import Rules, check
from coati.testing.cluster import ClusterConfig, SimMember
from coati.testing.guests import Guests
from coati.testing.history import History, ServerLog, Trace, Violation
from coati.testing.reports import Reports
from coati.testing.server import SimLink
from coati.testing.sim_member import TracedCluster, TracedMember
from coati.testing.workload import LOOKS, MIX, REGISTER_MIX, Walker
from coati.wire.zxid import COUNTER_MAX, make_zxid

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
    "zxid rollover",
    "leader paused",
    "follower paused",
    "observer paused",
    "deposed leader goes on",
    "client without a quorum",
)
FAULTS: Final = {
    "kill": 5,
    "power": 4,
    "start": 14,
    "crash of all": 1,
    "pause": 4,
    "pause leader": 4,
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
# Sessions that end sooner than a syncLimit may do so on a leader whom nobody follows any more.
TIMEOUTS_MS: Final = (800, 2000, 2000)
# How many runs have short epochs. A leader's counter begins at 0, so no data brings one near to its end.
ROLLOVER_SHARE: Final = 0.06
CONVERGE_MS: Final = 60_000
SERVE_MS: Final = 2000
# Two jobs of the slowest disk, which a server may have to wait for; the ways of the network are less.
SLOW_MS: Final = 600
# An answer by way of the leader takes two of them, and some more behind others and in pieces.
WAYS: Final = 10
# Of so many znodes a run an order is searched that explains what clients were told.
REGISTERS: Final = 20


class Stuck(AssertionError):
    """The ensemble does not serve, or does not come to be of one mind, though nothing is broken any more."""


def _draw_config(dice: Random) -> ClusterConfig:
    first_zxid = make_zxid(dice.choice((1, 7)), COUNTER_MAX - dice.randint(1, 2))
    return ClusterConfig(
        dice.choice((3, 3, 5)),
        observers=dice.choice((0, 0, 1, 2)),
        tick_ms=dice.choice((100, 200, 400)),
        init_ticks=10,
        sync_ticks=5,
        disk_ms=dice.choice(((0, 1), (1, 1), (1, 8), (1, 40))),
        snap_count=dice.choice((10, 40, 100_000)),
        commit_log_count=dice.choice((1, 10, 500)),
        min_session_timeout_ms=dice.choice(TIMEOUTS_MS),
        purges=dice.random() < 0.5,
        last_counter=dice.choice((30, 60, 120)) if dice.random() < ROLLOVER_SHARE else COUNTER_MAX,
        first_zxid=first_zxid if dice.random() < 0.1 else 0,
    )


class Sim:
    """The run of one seed. `go` makes it, `check` judges it; `faults` counts what was done to it.

    `voters` stands for as many as the seed would draw.
    """

    def __init__(self, seed: int, *, steps: int = 40, clients: int = 4, voters: int = 0) -> None:
        self.seed = seed
        self.dice = dice = Random(seed)
        self.steps = steps
        self.config = _draw_config(dice)
        self.config.voters = voters or self.config.voters
        self._disk_ms = self.config.disk_ms
        self.cluster = TracedCluster(self.config, dice=dice, on_snapshot=self._on_snapshot)
        self.net, self.clock = self.cluster.net, self.cluster.clock
        self.net.delay_ms = dice.choice(((1, 1), (1, 10), (5, 40)))
        self.net.split_share = dice.choice((0.0, 0.0, 0.2))
        self.net.vote_loss = dice.choice((0.0, 0.0, 0.1))
        self.net.socket_bytes = dice.choice((500, 64 << 10))
        self.fault_share = dice.choice((0.0, 0.3, 0.6, 0.9))
        self._is_healing = False
        self.history = History(lambda: self.clock.now_ms)
        self.faults: Counter[str] = Counter()
        self.reach = self.cluster.reach
        timeout_ms = self.config.min_session_timeout_ms
        timeouts_ms = [dice.choice((1, 1, 1, 4)) * timeout_ms for _ in range(clients)]
        # Every fourth seed is about single znodes.
        mix = MIX if seed % 4 else REGISTER_MIX
        self.walkers = [Walker(self.history, dice, timeout_ms=timeout_ms, mix=mix) for timeout_ms in timeouts_ms]
        self.walkers.append(Walker(self.history, dice, timeout_ms=4 * timeout_ms, mix=LOOKS))
        self.guests = Guests(self.cluster, self.walkers, seed, self.reach)
        self.config.reads_alone = self.guests.is_wanted
        self.homes: dict[int, SimLink] = {}
        self.servers: dict[int, int] = {}
        # Until when a client does nothing, and when it has heard of its server last.
        self._silent: dict[int, int] = {}
        self._heard_ms: dict[int, int] = {}
        self._has_steps_of_clock = False
        self.core: list[int] = []
        # When the faults were over, but for those of the core's outsiders; and those too.
        self._core_ms = self._healed_ms = 0

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
            self.guests.visit()
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
        if link is not None and (walker.is_over or not link.is_open or self._is_tired(index, walker)):
            self._lose(index)
            link = None
        if link is not None:
            return
        members = [member for member in self.cluster.members.values() if member.is_serving]
        others = [member for member in members if member.sid != self.servers.get(index)]
        if others and self.dice.random() < 0.7:
            # As a rule a client goes to the next one in its list.
            members = others
        if not members or self.dice.random() < 0.3:
            return
        self._go_to(index, self.dice.choice(members))

    def _go_to(self, index: int, member: SimMember) -> None:
        walker = self.walkers[index]
        if walker.session_id and self.servers.get(index, member.sid) != member.sid:
            self.reach["session move"] += 1
        self.servers[index] = member.sid
        link = self.homes[index] = SimLink(member, ("127.0.0.1", 40000 + index))
        link.on_data = lambda data: self._hear(index, data)
        self._heard_ms[index] = self.clock.now_ms
        walker.connect(member.sid, link.feed)

    def _hear(self, index: int, data: bytes) -> None:
        self._heard_ms[index] = self.clock.now_ms
        self.walkers[index].received(data)

    def _is_tired(self, index: int, walker: Walker) -> bool:
        """Of a server that does not answer: ClientCnxn gives it two thirds of the session's time, and less at first."""
        patience_ms = (
            walker.timeout_ms * 2 // 3 if walker.is_connected else walker.timeout_ms // len(self.cluster.members)
        )
        return walker.waits and self.clock.now_ms - self._heard_ms[index] >= patience_ms

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
            elif fault in ("pause", "pause leader"):
                self._draw_pause(fault)
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

    def _draw_pause(self, fault: str) -> None:
        leader = self.cluster.leader()
        members = [leader] if leader is not None and fault == "pause leader" else list(self.cluster.members.values())
        running = [member for member in members if member.is_up and not member.is_paused]
        if leader in running and self.dice.random() < 0.5:
            self._depose(leader)
        elif running:
            self._pause(self.dice.choice(running))

    def _depose(self, leader: SimMember) -> None:
        """It is stopped for long, in a quiet moment; who only looks on is there, and must see nothing stale."""
        for index in self._guests(leader, looks=True, are_here=False):
            self._lose(index)
            self._silent.pop(index, None)
            self._go_to(index, leader)
        last_ms = self.clock.now_ms + self.dice.randint(100, 500)

        def stop() -> None:
            if self._is_healing or not leader.is_serving or leader.is_paused:
                return
            replica = leader.driver.replica
            if self.clock.now_ms < last_ms and replica is not None and replica.in_flight():
                self.clock.call_at(self.clock.now_ms + 5, stop)
            else:
                for index in self._guests(leader, looks=False, are_here=True):
                    self._lose(index)
                for index in self._guests(leader, looks=True, are_here=True):
                    # It has nothing to ask until the others have gone on.
                    self._silent[index] = self.clock.now_ms + self._longest_pause_ms()
                self.clock.post(lambda: self._pause(leader, is_long=True))

        self.clock.call_at(self.clock.now_ms + 50, stop)

    def _guests(self, member: SimMember, *, looks: bool, are_here: bool) -> list[int]:
        """Clients of that kind that are connected there, or are not."""
        guests = [index for index in self.homes if self.servers[index] == member.sid]
        return [index for index, one in enumerate(self.walkers) if one.looks == looks and (index in guests) == are_here]

    def _pause(self, member: SimMember, *, is_long: bool = False) -> None:
        """Shorter than anybody minds, or than a syncLimit; or until the others have gone on without it for a while."""
        assert isinstance(member, TracedMember)
        if not member.is_up or member.is_paused:
            return
        tick_ms, sync_ticks = self.config.tick_ms, self.config.sync_ticks
        member.pause()
        duration_ms = self.dice.randint(1, self.dice.choice((1, sync_ticks, 2 * sync_ticks)) * tick_ms)
        if is_long:
            duration_ms = self._longest_pause_ms()
            self._watch_over(member, member.paused_ms, self.dice.randint(1, 2 * sync_ticks))
        self._go_on_at(self.clock.now_ms + duration_ms, member, member.paused_ms)

    def _longest_pause_ms(self) -> int:
        return 4 * self.config.sync_ticks * self.config.tick_ms

    def _watch_over(self, member: TracedMember, paused_ms: int, ticks: int) -> None:
        """It goes on so many ticks after another leader began to serve."""
        due_ms = self.clock.now_ms + self.config.tick_ms
        leader = self.cluster.leader()
        if leader is not None and leader is not member:
            self._go_on_at(due_ms + ticks * self.config.tick_ms, member, paused_ms)
        elif member.paused_ms == paused_ms and not self._is_healing:
            self.clock.call_at(due_ms, lambda: self._watch_over(member, paused_ms, ticks))

    def _go_on_at(self, due_ms: int, member: TracedMember, paused_ms: int) -> None:
        self.clock.call_at(due_ms, lambda: self._go_on(member) if member.paused_ms == paused_ms else None)

    def _go_on(self, member: TracedMember) -> None:
        if self._is_healing:
            return
        for index in self._guests(member, looks=True, are_here=True):
            # The question that matters: has it missed something?
            self._silent.pop(index, None)
            self.walkers[index].sync()
        member.go_on()

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
            timeout_ms = self.walkers[index].timeout_ms
            self._silent[index] = self.clock.now_ms + dice.choice((timeout_ms // 2, timeout_ms * 3))
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
                self.clock.call_at(until_ms, lambda: self._unclog(one, other))
        elif fault in ("isolate", "isolate leader"):
            leader = self.cluster.leader()
            alone = leader.sid if leader is not None and fault == "isolate leader" else dice.choice(sids)
            self._part([alone], [sid for sid in sids if sid != alone])
        else:
            self._part_all(fault, dice.sample(sids, len(sids)))

    def _unclog(self, one: int, other: int) -> None:
        """Not while the core is by itself: whom it hears, and who does not hear it, is elected and never leads."""
        if not self._is_healing:
            self.net.heal(one, other)

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
            what = dice.choice(("link", "learner", "leader", "pause learner", "pause leader"))
            self.clock.call_at(due_ms, lambda: self._break_snapshot(what, sid, leader_sid))

    def _break_snapshot(self, what: str, sid: int, leader_sid: int) -> None:
        if self._is_healing:
            return
        self.faults["snapshot"] += 1
        if what == "link":
            for link in self.net.links_between(sid, leader_sid):
                self.net.close(link)
            return
        victim = self.cluster.members[sid if what.endswith("learner") else leader_sid]
        if not what.startswith("pause"):
            if victim.is_up:
                victim.crash()
        elif victim.is_up and not victim.is_paused:
            self._pause(victim)

    # Healing

    def _heal_core(self) -> None:
        """A random quorum is whole and by itself; the others are dead, stopped or unheard. It must serve, in time."""
        self._is_healing = True
        self._core_ms = self.clock.now_ms
        dice, config = self.dice, self.config
        voters = self.cluster.view.voters()
        self.core = sorted(dice.sample(voters, dice.randint(len(voters) // 2 + 1, len(voters))))
        config.disk_ms = self._disk_ms
        self.net.heal_all()
        self.net.vote_loss = 0.0
        for sid, member in self.cluster.members.items():
            if sid in self.core:
                if member.is_paused:
                    member.go_on()
                if not member.is_up:
                    member.start()
            elif member.is_paused:
                continue
            elif member.is_up and dice.random() < 0.5:
                member.crash()
            else:
                self._cut_off(sid)
        limit_ms = (2 * config.init_ticks + config.sync_ticks) * config.tick_ms
        self._run_until(lambda: self._is_whole(self.core), limit_ms, "core")

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
        self._healed_ms = self.clock.now_ms
        self.net.heal_all()
        for member in self.cluster.members.values():
            if member.is_paused:
                member.go_on()
            if not member.is_up:
                member.start()
        everybody = sorted(self.cluster.members)
        self._run_until(lambda: self._is_whole(everybody), CONVERGE_MS, "all")
        self.guests.visit()
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
        members = [member for member in self.cluster.members.values() if isinstance(member, TracedMember)]
        pauses = {member.sid: member.pauses for member in members}
        lengths_ms = [end_ms - start_ms for spans in pauses.values() for start_ms, end_ms in spans]
        lag_ms = (config.sync_ticks + 2) * config.tick_ms + 2 * self.net.delay_ms[1] + 400 + max(lengths_ms, default=0)
        sessions = SessionRules(
            skew_ms=None if self._has_steps_of_clock else self.clock.skew_ms,
            tick_ms=config.tick_ms,
            reports=Reports(self.traces, pauses),
            grace_ms=lag_ms + 1000,
            sids=list(self.cluster.members),
            calm=self._calm(),
            answer_ms=WAYS * self.net.delay_ms[1],
        )
        rules = Rules(
            quorum=Quorum(self.cluster.view.voters()),
            sessions=sessions,
            lags=self._lags(pauses),
            registers=REGISTERS,
            seed=self.seed,
        )
        found = check(self.history, traces=self.traces, logs=self.logs(), rules=rules)
        return found + self.guests.check(self.traces)

    def _lags(self, pauses: Mapping[int, Sequence[tuple[int, int]]]) -> list[Lag]:
        """R5: a syncLimit where there are no faults. With them a server that is cut off notices it no sooner either."""
        config = self.config
        limit_ms = config.sync_ticks * config.tick_ms
        return [Lag(limit_ms, self._calm(), pauses), Lag(limit_ms + SLOW_MS, None, pauses)]

    def _calm(self) -> list[tuple[int, int]]:
        """The times without faults."""
        calm = [(self._healed_ms, self.clock.now_ms)]
        return calm if self.faults else [(0, self._core_ms), *calm]

    def logs(self) -> dict[int, ServerLog]:
        """The logs that reach back to the beginning."""
        logs = {}
        for sid, member in self.cluster.members.items():
            try:
                first_zxid = self.config.first_zxid
                logs[sid] = ServerLog(list(member.store.read_log(first_zxid)), first_zxid)
            except StorageCorrupt:
                continue
        return logs

    def trace_hash(self) -> str:
        """Of all that happened, in order."""
        sha = hashlib.sha256()
        for line in (*self.history.lines, *self.traces):
            sha.update(repr(line).encode())
        return sha.hexdigest()
