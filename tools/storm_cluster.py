"""Storms over a real ensemble: servers killed, frozen, cut off from each other and on bad machines, under load.

`coati serve` processes, three voters and an observer if nobody says otherwise, take pipelined writes of several
sessions, which go from server to server as they lose them. In each round a fault is drawn and then undone, and all must
serve again. In the end the logs of all servers, joined, must be one history: what was sent and answered is compared
with it as `storm_process.py` does it for a lone server, and what a client reads of each server with what must be there.
What clients were told of some znodes must be linear besides, whatever logs and zxids say (`storm_registers.py`).
The network is `namespaces.Namespaces` where it can be, and `ensemble.Wires` elsewhere; disks and clocks are of
`hardware.py` and `strace.py`.

Command line: `python -m tools.storm_cluster --rounds 40` prints what it covered and adds a line to docs/ledger.md;
`--faults "ring,slow leader"` draws from these alone, and `--kills 40` adds so many rounds with a kill, of the leader
and of a follower in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import cycle, islice, permutations, product
from pathlib import Path
from random import Random
from statistics import median
from typing import Final, TypeVar

from tests.interop import peers, raw
from tools import hardware, namespaces, strace
from tools.cluster_history import EPOCH_SHIFT, NO_LIMIT, ClusterHistory, last_zxid
from tools.ensemble import Ensemble, EnsembleFailed, Network, Wires
from tools.hardware import SmallDisks
from tools.javapeer import JavaServer
from tools.namespaces import Namespaces
from tools.storm_load import SHORT_TIMEOUT_MS, Client, foundations, observe
from tools.storm_process import (
    DIRECTORY_IS_BROKEN,
    LEDGER,
    LOG_IS_BROKEN,
    PREALLOC_KB,
    SEVERE_LOG_ERROR,
    UNABLE_TO_ACCESS_DATADIR,
    fill,
    last_of,
    scratch_directory,
)
from tools.storm_registers import Registers
from tools.strace import Attached, Delay
from tools.tree_model import Write

T = TypeVar("T")

CLIENTS: Final = 4
# A machine with other work may stand still for seconds; each that waits says now and then that it is there.
TIMEOUT_MS: Final = 60_000
KEEP_ALIVE_S: Final = 2.0
BALLAST: Final = 500
# A client gives a server up that says nothing for so long.
PATIENCE_S: Final = 0.4
EXPIRY_S: Final = 20.0
# Longer than syncLimit ticks, so that the others have another leader meanwhile; and shorter.
LONG_S: Final = 3.0
SHORT_S: Final = 1.0
# What the others have to go on in, and a server on a full disk to find out.
GO_ON_S: Final = 20.0
# How often a server may lose its leader while its tree is read.
OBSERVATIONS: Final = 5
KILLING: Final = ("kill leader", "kill follower", "kill two", "kill all", "stop leader", "stop follower", "roll")
FREEZING: Final = ("freeze leader", "freeze follower", "freeze all")
# These need a network that can be cut.
CUTTING: Final = (
    "part leader", "part follower", "mute leader", "deafen leader", "mute follower", "deafen follower", "part two",
    "halves", "one-way", "ring", "bridge",
)  # fmt: skip
# These need disks of their own; the right to trace; clocks of their own.
FILLING: Final = ("full leader", "full follower")
SLOWING: Final = ("slow leader", "slow follower")
JUMPING: Final = ("jump leader", "jump follower", "jump all")
FAULTS: Final = KILLING + FREEZING + CUTTING + FILLING + SLOWING + JUMPING
KILLS: Final = ("kill leader", "kill follower")
# One of them takes the logs and snapshots of so many rounds besides.
DISK_MB: Final = 64
DISK_MB_A_ROUND: Final = 8
# So that hundreds of starts do not fill the disk.
ALLOCATED_KB: Final = "2048"
SNAP_COUNT: Final = "10000"
# What is left on a full one: some hundreds of txns.
LEFT_BYTES: Final = (100_000, 400_000)
SLOW_MS: Final = (50, 150, 500)
SLOW_PATIENCE_S: Final = 4.0
TIMED_WRITES: Final = 5
# A write that waits for no slow disk takes less, whatever else the machine does; one that does also its delay, twice:
# it may come behind a sync that has just begun.
PROMPT_S: Final = 0.3
HOUR_MS: Final = 3_600_000
DECADE_MS: Final = 10 * 365 * 24 * HOUR_MS
JUMPS_MS: Final = (HOUR_MS, -HOUR_MS, HOUR_MS, -HOUR_MS, DECADE_MS, -DECADE_MS)
STROBE_MS: Final = 500


class Failed(AssertionError):
    """What the storm found, with the seed."""


def cut(shape: str, sids: Sequence[int], dice: Random) -> list[tuple[int, int]]:
    """Who is no longer heard by whom.

    Halves hear nothing of each other, or one hears the other and is not heard; with a bridge one server is of both; in
    a ring each hears its neighbours.
    """
    sids = dice.sample(sids, len(sids))
    if shape == "ring":
        place = {sid: number for number, sid in enumerate(sids)}
        pairs = permutations(sids, 2)
        return [(a, b) for a, b in pairs if (place[a] - place[b]) % len(sids) not in (1, len(sids) - 1)]
    half = len(sids) // 2
    there = list(product(sids[:half], sids[half + (shape == "bridge") :]))
    return there if shape == "one-way" else there + [(b, a) for a, b in there]


class ClusterStorm:
    """One ensemble, the clients that write to it, and its history."""

    def __init__(
        self, seed: int, scratch: Path, ensemble: Ensemble, wires: Network | None = None, *, faults: Sequence[str] = ()
    ) -> None:
        """`faults` are those to draw from; by default what kills and freezes, and what cuts if there are wires."""
        self.seed = seed
        self.scratch = scratch
        # Of the load. The faults of each round have their own, so that they do not depend on how much was written.
        self.dice = Random(seed)
        self.fates = Random()
        self.ensemble = ensemble
        self.wires = wires
        self.faults = faults or KILLING + FREEZING + (CUTTING if wires is not None else ())
        self.history = ClusterHistory()
        self.history.directories = [scratch / str(sid) / "version-2" for sid in ensemble.members]
        self.clients = [Client(self.history, f"c{number}", self.dice, TIMEOUT_MS) for number in range(CLIENTS)]
        self.registers = Registers()
        for client in self.clients:
            client.deadline_s = PATIENCE_S
            client.registers = self.registers
        self._visitors = 0
        # Where each client is; and up to where each server has told one what happened.
        self._home: dict[str, int] = {}
        self._told: dict[int, int] = {}

    @property
    def counts(self) -> Counter[str]:
        """What was covered."""
        return self.history.counts

    def check(self, what: str) -> None:
        """Raises Failed if anything was not right."""
        if self.history.faults:
            logs = [f"--- {sid}\n{member.log()[-1500:]}" for sid, member in self.ensemble.members.items()]
            raise Failed("\n".join([f"seed {self.seed}, {what}:", *self.history.faults, *logs]))

    # Clients.

    def begin(self) -> None:
        """The first writes."""
        first = self.clients[0]
        first.deadline_s = 30.0
        self.ensemble.wait(lambda: first.connect(*self._address(self._any_server())) or None, "a first client")
        for write in foundations([client.name for client in self.clients], BALLAST, self.dice):
            first.send(write)
        first.read()
        first.drop()
        first.deadline_s = PATIENCE_S

    def load(self, until: Callable[[], bool]) -> None:
        """Writes until `until` says so, wherever a client gets in."""
        while not until():
            for client in self.clients:
                self._work(client)
            if self.dice.random() < 0.02:
                self._visit()

    def load_for(self, seconds: float) -> None:
        """Writes so long."""
        ends = time.monotonic() + seconds
        self.load(lambda: time.monotonic() > ends)

    def _work(self, client: Client) -> None:
        self._forgive_silence()
        try:
            if not client.is_connected and not self._connect(client):
                return
            client.burst(self.dice.randint(1, 20))
            client.read(self.dice.choice((0, 5, 20)))
            if self.dice.random() < 0.02:
                client.read()
                client.drop()
        except (raw.Closed, raw.Silent):
            self.counts["connections lost"] += 1
            client.drop()
        finally:
            self._note_told(client)

    def _connect(self, client: Client) -> bool:
        sid = self._any_server()
        if not client.connect(*self._address(sid)):
            return False
        self._home[client.name] = sid
        self.history.moved(client.session_id)
        return True

    def _forgive_silence(self) -> None:
        """A session may expire of which no server heard for so long, since this process or all of them stood still."""
        for client in self.clients:
            if client.session_id and time.monotonic() - client.heard_s > TIMEOUT_MS / 1000 * 0.9:
                self.history.abandoned(client.session_id)
                self.counts["sessions silent too long"] += 1

    def _wait(self, ask: Callable[[], T | None], what: str) -> T:
        """As the ensemble waits, and no client is silent meanwhile. Raises EnsembleFailed."""
        last_s = time.monotonic()

        def ask_and_ping() -> T | None:
            nonlocal last_s
            if time.monotonic() - last_s > KEEP_ALIVE_S:
                for client in self.clients:
                    self._ping(client)
                last_s = time.monotonic()
            return ask()

        return self.ensemble.wait(ask_and_ping, what)

    def _ping(self, client: Client) -> None:
        try:
            if client.is_connected or (client.session_id and self._connect(client)):
                client.ping()
        except (raw.Closed, raw.Silent):
            client.drop()

    def _note_told(self, client: Client) -> None:
        sid = self._home.get(client.name, 0)
        self._told[sid] = max(self._told.get(sid, 0), client.last_zxid)

    def _visit(self) -> None:
        """A session that writes and is left alone: it must expire, and nobody else."""
        self._visitors += 1
        visitor = Client(self.history, f"v{self._visitors}", self.dice, SHORT_TIMEOUT_MS)
        visitor.deadline_s = PATIENCE_S
        try:
            if visitor.connect(*self._address(self._any_server())):
                self.history.abandoned(visitor.session_id)
                path = b"/w/%s-x" % visitor.name.encode()
                visitor.send(Write("create", path, b"here", owner="ephemeral"))
                visitor.read()
        except (raw.Closed, raw.Silent):
            self.counts["connections lost"] += 1
        visitor.drop()

    def _any_server(self) -> int:
        return self.dice.choice(list(self.ensemble.members))

    def _address(self, sid: int) -> tuple[str, int]:
        return self.ensemble.hosts[sid], self.ensemble.ports[sid][0]

    # Faults.

    def round(self, fault: str | None = None) -> None:
        """Load, a fault, load, its end, and all serve again. Raises Failed."""
        self.fates = Random(f"{self.seed}, round {self.counts['rounds']}")
        drawn = self.fates.choice(self.faults)
        fault = fault or drawn
        self.load_for(self.fates.uniform(0.1, 1.0))
        leader = self.ensemble.leader
        others = self.fates.sample([sid for sid in self.ensemble.voters if sid != leader], 2)
        try:
            self._inflict(fault, leader, others)
            self.settle()
        except EnsembleFailed as error:
            self.history.fault(f"they do not serve again: {error}")
        self.counts["rounds"] += 1
        self.counts[fault] += 1
        self.check(fault)

    def _inflict(self, fault: str, leader: int, others: Sequence[int]) -> None:
        verb, _, whom = fault.partition(" ")
        one = leader if whom == "leader" else others[0]
        which = {"all": list(self.ensemble.members), "two": [leader, one]}.get(whom, [one])
        if verb in ("kill", "stop"):
            self._end(which, is_killed=verb == "kill")
        elif verb == "roll":
            self._roll()
        elif verb == "freeze":
            self._freeze(which)
        elif verb == "full":
            self._fill(one)
        elif verb == "slow":
            self._slow(one, is_leader=one == leader)
        elif verb == "jump":
            self._jump(which)
        elif verb in ("mute", "deafen", "part"):
            self._cut(self._cut_off(verb, one, self.fates.choice([leader, others[1]]) if whom == "two" else None))
        else:
            self._cut(cut(verb, list(self.ensemble.members), self.fates))

    def settle(self) -> None:
        """All serve, and what all have delivered is history. Raises EnsembleFailed."""
        for client in self.clients:
            try:
                if client.is_connected:
                    client.read()
            except (raw.Closed, raw.Silent):
                client.drop()
        self._wait(self.ensemble.do_all_serve, "all to serve")
        self.history.limit = self._wait(self._common_zxid, "all at one zxid")
        self._forgive_silence()
        self.history.consume(self.history.directories[0], is_over=False)
        self.history.limit = NO_LIMIT
        self._told = {}

    def _common_zxid(self) -> int | None:
        zxids = {sid: self.ensemble.zxid(sid) for sid in self.ensemble.members}
        first = next(iter(zxids.values()))
        return first if all(zxid == first for zxid in zxids.values()) else None

    def _length_s(self) -> float:
        return self.fates.choice((SHORT_S, LONG_S)) * self.fates.uniform(0.2, 1.0)

    def _go_on(self, what: str) -> None:
        """Some are answered, or it is a fault."""
        before = self.counts["acknowledged"]
        ends = time.monotonic() + GO_ON_S
        self.load(lambda: self.counts["acknowledged"] > before or time.monotonic() > ends)
        if self.counts["acknowledged"] == before:
            self.history.fault(f"nobody is answered for {GO_ON_S:g} s while {what}")

    def _end(self, sids: list[int], *, is_killed: bool) -> None:
        for sid in sids:
            member = self.ensemble.members[sid]
            if is_killed:
                os.kill(member.pid, signal.SIGKILL)
            else:
                member.stop()
        for sid in sids:
            # Waits, since it is dead.
            self.ensemble.members[sid].kill9()
            self._judge_told(sid)
        self.counts["kills"] += is_killed * len(sids)
        if len(sids) < len(self.ensemble.members):
            self.load_for(self._length_s())
        for sid in sids:
            self.ensemble.launch(sid)
        self.load_for(0.3)

    def _judge_told(self, sid: int) -> None:
        """A dead server has on its own disk all that it has told its clients."""
        for client in self.clients:
            if client.is_connected and self._home[client.name] == sid:
                with contextlib.suppress(raw.Closed, raw.Silent):
                    client.read()
                client.drop()
                self._note_told(client)
        told = self._told.get(sid, 0)
        if told > last_zxid(self._directory(sid), self.history.tree.zxid):
            self.history.fault(f"server {sid} has told of zxid {told:#x}, and does not have it")

    def _directory(self, sid: int) -> Path:
        return self.scratch / str(sid) / "version-2"

    def _roll(self) -> None:
        """One after the other, as operators do."""
        for sid in self.ensemble.members:
            self.ensemble.members[sid].stop()
            self.load_for(0.2)
            self.ensemble.launch(sid)
            self.settle()

    def _freeze(self, sids: list[int]) -> None:
        pids = [self.ensemble.members[sid].pid for sid in sids]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            self.load_for(self._length_s())
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        self.load_for(0.5)

    def _fill(self, sid: int) -> None:
        """Its disk is full: it ends and says why, the others go on, and it is back when there is room."""
        ballast = self.scratch / str(sid) / "ballast"
        fill(ballast, left_bytes=self.fates.randint(*LEFT_BYTES))
        try:
            ends = time.monotonic() + GO_ON_S
            self.load(lambda: not self.ensemble.members[sid].is_running or time.monotonic() > ends)
            self._judge_full(sid, {SEVERE_LOG_ERROR: LOG_IS_BROKEN})
            self._go_on(f"the disk of server {sid} is full")
            self.load_for(self._length_s())
            self.ensemble.launch(sid)
            self.load_for(SHORT_S)
            if not self.ensemble.members[sid].is_running:
                reasons = {SEVERE_LOG_ERROR: LOG_IS_BROKEN, UNABLE_TO_ACCESS_DATADIR: DIRECTORY_IS_BROKEN}
                self._judge_full(sid, reasons)
            self.ensemble.members[sid].kill9()
        finally:
            ballast.unlink()
        self.ensemble.launch(sid)
        self.load_for(0.3)

    def _judge_full(self, sid: int, reasons: dict[int, str]) -> None:
        """It has ended with one of these codes and with its reason as the last word."""
        member = self.ensemble.members[sid]
        assert not isinstance(member, JavaServer), "only coati's ends are known"
        code = member.exit_code
        if code not in reasons or reasons[code] not in last_of(member.log()):
            self.history.fault(f"server {sid} on a full disk: exit code {code}, {member.log()[-2000:]}")
        member.kill9()
        self.counts["ended by a full disk"] += 1
        self._judge_told(sid)

    def _slow(self, sid: int, *, is_leader: bool) -> None:
        """Each sync of it takes long. Who is elsewhere does not wait for a follower, and nobody more than that."""
        delay_ms = self.fates.choice(SLOW_MS)
        record = self.scratch / f"strace{self.counts['rounds']}"
        before = self._reign()
        for client in self.clients:
            client.drop()
            client.deadline_s = SLOW_PATIENCE_S
        with contextlib.closing(Attached(Delay("fdatasync", delay_ms), record, self.ensemble.members[sid].pid)):
            # It takes strace a while to get hold of all threads.
            ends = time.monotonic() + GO_ON_S
            self.load(lambda: strace.delayed(record) > 0 or time.monotonic() > ends)
            took_s = self._time_writes(self.fates.choice([other for other in self.ensemble.voters if other != sid]))
            self.load_for(self._length_s())
            self._go_on(f"the disk of server {sid} is slow")
        for client in self.clients:
            client.deadline_s = PATIENCE_S
        if took_s > PROMPT_S + is_leader * 2 * delay_ms / 1000:
            self.history.fault(f"a write takes {took_s:.3f} s while the disk of server {sid} takes {delay_ms} ms")
        if not strace.delayed(record):
            self.history.fault(f"no sync of server {sid} took longer")
        self.counts["slow syncs"] += strace.delayed(record)
        self._judge_reign(before, f"the disk of server {sid} takes {delay_ms} ms")

    def _time_writes(self, sid: int) -> float:
        """What a write of a lone client of this server takes, in the middle."""
        self._visitors += 1
        client = Client(self.history, f"v{self._visitors}", self.fates)
        client.deadline_s = GO_ON_S
        took = []
        try:
            if client.connect(*self._address(sid)):
                for number in range(TIMED_WRITES):
                    began = time.monotonic()
                    client.send(Write("set", b"/s/0", b"%d" % number))
                    client.read()
                    took.append(time.monotonic() - began)
                client.close()
                return median(took)
        except (raw.Closed, raw.Silent) as error:
            self.history.abandoned(client.session_id)
            self.history.fault(f"server {sid} does not go on: {error!r}")
        return GO_ON_S

    def _reign(self) -> tuple[int, int]:
        """Who leads, in which epoch."""
        leader = self.ensemble.leader
        return leader, (self.ensemble.zxid(leader) or 0) >> EPOCH_SHIFT

    def _judge_reign(self, before: tuple[int, int], what: str) -> None:
        after = self._reign()
        if after != before:
            self.history.fault(f"server and epoch that lead were {before}, and are {after}, since {what}")

    def _jump(self, sids: list[int]) -> None:
        """Their time of day is another one, for a while or until the next jump, or to and fro: nobody minds."""
        before = self._reign()
        clocks = [self.ensemble.clocks[sid] for sid in sids]
        if self.fates.random() < 0.25:
            shifts = [STROBE_MS, -STROBE_MS] * 4
        else:
            shifts = [self.fates.choice(JUMPS_MS)]
        for shift in shifts:
            for clock in clocks:
                clock.shift(shift)
            self.load_for(self._length_s() / len(shifts))
        if self.fates.random() < 0.5:
            for clock in clocks:
                clock.shift(0)
            self.load_for(0.3)
        self._go_on("clocks jump")
        self._judge_reign(before, f"the clocks of servers {sids} jumped")

    def _cut_off(self, verb: str, one: int, other: int | None) -> list[tuple[int, int]]:
        """Mute: nobody hears it; deaf: it hears nobody; parted: both, from all or from one."""
        others = [sid for sid in self.ensemble.members if sid != one] if other is None else [other]
        out = [(one, sid) for sid in others]
        back = [(sid, one) for sid in others]
        return {"mute": out, "deafen": back, "part": out + back}[verb]

    def _cut(self, ways: list[tuple[int, int]]) -> None:
        assert self.wires is not None, "only wires can be cut"
        self.wires.block(*ways)
        self.load_for(self._length_s())
        if isinstance(self.wires, Wires):
            self.wires.heal(cuts=self.fates.random() < 0.5)
        else:
            self.wires.heal()
        self.load_for(0.5)

    # The end.

    def finish(self) -> None:
        """All serve, and their logs, the answers and what they show are one history. Raises Failed."""
        self.settle()
        self._close_sessions()
        self.history.consume(self.history.directories[0], is_over=False)
        self._wait_expired()
        for sid in self.ensemble.members:
            self._observe(sid)
        self.counts["epochs"] = self.history.tree.zxid >> EPOCH_SHIFT
        self.counts["registers"] = len(self.registers.steps)
        for fault in self.registers.faults():
            self.history.fault(fault)
        self.check("the end")

    def _close_sessions(self) -> None:
        """Each session of a client that never left must still be there. What follows takes longer than its timeout."""
        for client in self.clients:
            client.drop()
            client.deadline_s = 30.0
            had = client.session_id
            if not had or self.history.is_abandoned(had):
                continue
            try:
                if client.connect(*self._address(self._any_server())):
                    self.history.moved(had)
                    client.close()
                    continue
            except (raw.Closed, raw.Silent):
                client.drop()
            self.history.fault(f"session {had:#x} is not taken back")

    def _wait_expired(self) -> None:
        """The sessions that were left alone."""
        never = threading.Event()
        ends = time.monotonic() + EXPIRY_S
        while self.history.waiting_to_expire(SHORT_TIMEOUT_MS):
            if time.monotonic() > ends:
                self.history.fault(f"do not expire: {self.history.waiting_to_expire(SHORT_TIMEOUT_MS)}")
                return
            never.wait(0.1)
            self.history.consume(self.history.directories[0], is_over=False)

    def _observe(self, sid: int) -> None:
        """What one server shows, up to date."""
        host, port = self.ensemble.hosts[sid], self.ensemble.ports[sid][0]
        with raw.Session(host, port, deadline_s=30.0) as session:
            self.history.opening += 1
            self.history.opened(session.session_id)
            self.history.abandoned(session.session_id)
            session.call(raw.SYNC, raw.ustring("/"))
        for _ in range(OBSERVATIONS):
            with contextlib.suppress(raw.Closed):
                observe(self.history, host, port, self.history.directories[0])
                break
            # It lost its leader meanwhile, as on a machine that stands still.
            self.ensemble.wait_all()
        else:
            self.history.fault(f"server {sid} closes each connection that reads its tree")
        member = self.ensemble.members[sid]
        if peers.monitor(member).get("digest_mismatches_count", "0") != "0":
            self.history.fault(f"server {sid} counts digests that did not fit")
        if "Traceback" in member.log():
            self.history.fault(f"server {sid} has raised: {member.log()[member.log().index('Traceback') :][:3000]}")


def possible(network: str | None) -> tuple[tuple[str, ...], list[str]]:
    """The faults that there can be here, and why the others cannot."""
    reasons = {
        CUTTING: None if network else "no network that can be cut",
        FILLING: hardware.why_no_small_disks(),
        SLOWING: strace.why_not_attached(),
    }
    missing = [f"{', '.join(faults)}: {reason}" for faults, reason in reasons.items() if reason]
    gone = [fault for faults, reason in reasons.items() if reason for fault in faults]
    return tuple(fault for fault in FAULTS if fault not in gone), missing


def storm(seed: int, faults: Sequence[str], options: argparse.Namespace) -> Counter[str]:
    """One ensemble and its rounds. Raises Failed."""
    props = {"zookeeper.preAllocSize": ALLOCATED_KB, "zookeeper.snapCount": SNAP_COUNT}
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_directory())
        if any(fault in FILLING for fault in faults):
            props["zookeeper.preAllocSize"] = PREALLOC_KB
            disks = stack.enter_context(SmallDisks(DISK_MB + DISK_MB_A_ROUND * options.rounds))
            for sid in range(1, options.voters + options.observers + 1):
                disks.add(scratch / str(sid))
        network: Network = Wires() if options.network == "proxies" else Namespaces()
        stack.enter_context(network)
        ensemble = Ensemble(
            scratch,
            wires=network,
            voters=options.voters,
            observers=options.observers,
            props=props,
            with_clocks=any(fault in JUMPING for fault in faults),
        )
        stack.enter_context(ensemble)
        one = ClusterStorm(seed, scratch, ensemble, network, faults=faults)
        one.begin()
        for number, fault in enumerate([*[None] * options.rounds, *islice(cycle(KILLS), options.kills)], 1):
            one.round(fault)
            print(f"seed {seed}, round {number}: {dict(one.counts)}", file=sys.stderr, flush=True)
        one.finish()
        return one.counts


def summary(c: Counter[str]) -> str:
    """All of it in words."""
    faults = ", ".join(f"{fault} {c[fault]}" for fault in FAULTS if c[fault])
    return (
        f"{c['ensembles']} ensembles, {c['rounds']} faults ({faults}), {c['epochs']} epochs; {c['writes']} writes, "
        f"{c['acknowledged']} acknowledged, {c['txns']} txns, {c['reads']} reads, {c['events']} events, "
        f"{c['reads not judged']} reads not judged, {c['connections lost']} connections lost, "
        f"{c['refused behind a move']} writes refused since their session had moved, "
        f"{c['resumed']} sessions resumed, {c['expired']} expired; {c['kills']} servers killed, "
        f"{c['ended by a full disk']} ended by a full disk, {c['slow syncs']} syncs slow, "
        f"{c['txns at odd times']} txns at odd times; {c['trees compared']} trees compared; "
        f"{c['registers']} registers in some order, {c['reads behind a sync']} reads behind a sync"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the storm and notes it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ensembles", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20, help="drawn faults of each ensemble")
    parser.add_argument("--kills", type=int, default=0, help="and behind them kill -9, of leader and follower in turns")
    parser.add_argument("--voters", type=int, default=3)
    parser.add_argument("--observers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--network", choices=("namespaces", "proxies"), help="the first that can be had here")
    parser.add_argument("--faults", help="those to draw from, divided by commas; by default all that there can be")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args(argv)
    if options.network is None:
        reason = namespaces.why_missing() or namespaces.why_refused()
        options.network = "namespaces" if reason is None else "proxies"
        print(f"network: {options.network}{f', since {reason}' if reason else ''}", file=sys.stderr)
    here, missing = possible(options.network) if options.rounds else ((), [])
    faults = here if options.faults is None else tuple(options.faults.split(","))
    unknown = [fault for fault in faults if fault not in here]
    if unknown:
        parser.error(f"no such fault, or not here: {unknown}; {'; '.join(missing)}")
    started = time.monotonic()
    total: Counter[str] = Counter()
    for seed in range(options.seed, options.seed + options.ensembles):
        # Not always in memory, where a sync takes no time.
        is_small = options.faults is not None or seed % 2 == 1
        total += storm(seed, [fault for fault in faults if is_small or fault not in FILLING], options)
        total["ensembles"] += 1
    amount = f"{(time.monotonic() - started) / 60:.0f} min: {summary(total)}"
    if options.faults is None:
        amount = "; not covered: ".join([amount, *missing])
    print(amount)
    names = ("seed", "ensembles", "rounds", "kills", "voters", "observers", "network")
    words = " ".join(f"--{name} {getattr(options, name)}" for name in names)
    if options.faults is not None:
        words += f' --faults "{options.faults}"'
    command = f"`python -m tools.storm_cluster {words}`"
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    with options.ledger.open("a") as ledger:
        ledger.write(f"| {date} | cluster storm | {command} | {amount} | nothing |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
