"""The rows of the benchmark with three servers of a kind, clients spread over them.

Throughput is measured with the servers on one processor and the load on another, as for a lone server. For the time of
one thing at a time, a write or an election, the servers have the whole machine: on one processor three servers in turn
would only show who needs least of it. Knows how three servers are started, who of them leads, and what is measured of
them. Invariant: only one ensemble runs at a time; it is not stopped by signal meanwhile, for it would elect anew.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from coati.bench import BenchFailed, Plan, Session, run
from coati.errors import ProtocolError
from tools.bench_rows import DATA_BYTES, MB, Bench, Measured, Row, bars, checked
from tools.bench_servers import JAVA_VERSION, CoatiServer, Contender, Process, Server, ServerFailed, first_answer
from tools.javapeer import HOST, JavaServer, four_letter, free_port

MEMBERS: Final = 3
HEAP: Final = "700m"
LEADER_LIMIT_S: Final = 60.0
ASK_AGAIN_S: Final = 0.005
SESSION_TIMEOUT_MS: Final = 10_000
TICK_MS: Final = 2000
SYNC_LIMIT: Final = 5
# A leader that answers nobody is given up after a syncLimit; then there is an election.
STOPPED_LEADER_LIMIT_S: Final = SYNC_LIMIT * TICK_MS / 1000 + 0.5
MISSED: Final = 10_000


class Trio:
    """Three servers that serve; `first_answer_s` from the start of the first until each has opened a session.

    `restart` starts a dead one again on its directory.
    """

    def __init__(self, servers: list[Server], first_answer_s: float, restart: Callable[[Server], Server]) -> None:
        self.servers = servers
        self.first_answer_s = first_answer_s
        self.restart = restart

    def plan(self, bench: Bench, mix: str, connections: int, in_flight: int) -> Plan:
        """A measured round, on all of them in turn."""
        return Plan(
            hosts=tuple(server.address for server in self.servers),
            mix=mix,
            connections=connections,
            in_flight=in_flight,
            data_bytes=DATA_BYTES,
            seconds=bench.settings.seconds,
            warmup_seconds=0.5,
            keep=True,
            spin=True,
        )

    def rss_bytes(self) -> int:
        """Resident memory of all three."""
        return sum(server.rss_bytes() for server in self.servers)

    def follower(self) -> Server:
        """One of those who follow. Raises ServerFailed."""
        leader = self.leader()
        return next(server for server in self.servers if server is not leader)

    def leader(self) -> Server:
        """Who leads. Raises ServerFailed."""
        deadline_s = time.perf_counter() + LEADER_LIMIT_S
        while time.perf_counter() < deadline_s:
            for server in self.servers:
                if server.process.is_running and "Mode: leader" in four_letter(HOST, server.port, "srvr"):
                    return server
        raise ServerFailed("nobody leads")


@contextmanager
def trio(bench: Bench, contender: Contender) -> Iterator[Trio]:
    """Three servers on empty directories, all on the contender's processor."""
    ports = [(free_port(), free_port(), free_port()) for _ in range(MEMBERS)]
    members = {
        f"server.{sid}": f"{HOST}:{quorum}:{election}" for sid, (_, quorum, election) in enumerate(ports, start=1)
    }
    with ExitStack() as stack:
        servers: list[Server] = []
        start_s = time.perf_counter()
        for sid, (port, _, _) in enumerate(ports, start=1):
            directory = bench.fresh_dir(contender)
            directory.mkdir(parents=True)
            server = _start_member(directory, contender, sid, port, members)
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            stack.callback(server.process.close)
            servers.append(server)

        def restart(old: Server) -> Server:
            new = _start_member(old.data_dir, contender, servers.index(old) + 1, old.port, members)
            stack.callback(new.process.close)
            servers[servers.index(old)] = new
            return new

        answered_s = max([first_answer(server) for server in servers])
        yield Trio(servers, answered_s - start_s, restart)


@contextmanager
def whole_machine(bench: Bench) -> Iterator[Bench]:
    """The same contenders on all processors, and their load too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        contenders = [replace(contender, cpu=None) for contender in bench.contenders]
        yield Bench(contenders, bench.settings, bench.data_root / "whole", bench.say)
    finally:
        os.sched_setaffinity(0, before)


def _start_member(directory: Path, contender: Contender, sid: int, port: int, members: dict[str, str]) -> Server:
    (directory / "myid").write_text(f"{sid}\n")
    process: Process
    if contender.python is None:
        process = java = JavaServer(
            JAVA_VERSION, directory, port, cfg=members, jvm_args=[f"-Xmx{HEAP}"], sid=sid, cpu=contender.cpu,
            log_level="ERROR",
        )  # fmt: skip
        java.start(wait=False)
    else:
        keys = {"tickTime": TICK_MS, "initLimit": 10, "syncLimit": SYNC_LIMIT, "dataDir": directory, "clientPort": port,
                "clientPortAddress": HOST, "maxClientCnxns": 0, **members}  # fmt: skip
        config = directory.parent / f"{directory.name}.cfg"
        config.write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
        process = CoatiServer(contender.python, directory, port, cpu=contender.cpu, props={}, config=config)
    return Server(process, port, directory)


def in_turn(bench: Bench, take: Callable[[Trio, Contender], float]) -> Measured:
    """A fresh ensemble for each round of each contender, A B C A B C."""
    measured = Measured()
    for _ in range(bench.settings.rounds):
        for contender in bench.contenders:
            with trio(bench, contender) as three:
                value = take(three, contender)
            bench.say(f"  {contender.name}: {value:,.4g}")
            measured.add(contender.name, value)
    return measured


def loaded(mix: str, *, stops_follower: bool = False) -> Callable[[Bench], Measured]:
    """Ops/s of a pipeline; with one follower stopped by signal before, if it is to be."""

    def measure(bench: Bench) -> Measured:
        def take(three: Trio, contender: Contender) -> float:
            plan = three.plan(bench, mix, 21 * MEMBERS, 16)
            if not stops_follower:
                bench.warm(contender, plan)
                return checked(run(plan)).ops_per_s
            stopped = three.follower()
            others = tuple(server.address for server in three.servers if server is not stopped)
            plan = replace(plan, hosts=others, connections=21 * len(others))
            bench.warm(contender, plan)
            os.kill(stopped.process.pid, signal.SIGSTOP)
            return checked(run(plan)).ops_per_s

        return in_turn(bench, take)

    return measure


def lone_set(bench: Bench) -> Measured:
    """The median of a client's writes, one at a time, in us. It sleeps until the reply wakes it, as clients do."""

    def take(three: Trio, contender: Contender) -> float:
        plan = replace(three.plan(bench, "set", 1, 1), spin=False)
        bench.warm(contender, plan)
        return checked(run(plan)).latency_us(50)

    with whole_machine(bench) as whole:
        return in_turn(whole, take)


def start(bench: Bench) -> Measured:
    """From the start of the first process until all three have opened a session."""
    with whole_machine(bench) as whole:
        return in_turn(whole, lambda three, contender: three.first_answer_s)


def catch_up(bench: Bench) -> Measured:
    """From the start of a follower that missed MISSED txns until it has opened a session."""

    def take(three: Trio, contender: Contender) -> float:
        missing = three.follower()
        missing.process.close()
        with Session(three.leader().address, SESSION_TIMEOUT_MS) as session:
            session.create(b"/missed")
            session.create(*[b"/missed/n%d" % number for number in range(MISSED)], data=bytes(DATA_BYTES))
        start_s = time.perf_counter()
        return first_answer(three.restart(missing)) - start_s

    with whole_machine(bench) as whole:
        return in_turn(whole, take)


def memory(bench: Bench) -> Measured:
    """Resident memory of all three after some requests."""

    def take(three: Trio, contender: Contender) -> float:
        plan = three.plan(bench, "get", MEMBERS, 1)
        checked(run(replace(plan, seconds=0.2, keys=10, keep=False)))
        return three.rss_bytes() / MB

    return in_turn(bench, take)


def failover(bench: Bench) -> Measured:
    """From kill -9 of the leader until a write of a new client is acknowledged, in ms."""
    return _without_leader(bench, lambda leader: leader.process.close(), 1000)


def stopped_leader(bench: Bench) -> Measured:
    """From SIGSTOP of the leader until a write of a new client is acknowledged, in s."""
    return _without_leader(bench, lambda leader: os.kill(leader.process.pid, signal.SIGSTOP), 1)


def _without_leader(bench: Bench, end: Callable[[Server], object], units_per_s: int) -> Measured:
    def take(three: Trio, contender: Contender) -> float:
        with Session(three.servers[0].address) as session:
            session.create(b"/failover")
        leader = three.leader()
        others = [server for server in three.servers if server is not leader]
        start_s = time.perf_counter()
        end(leader)
        return units_per_s * (_first_write(others) - start_s)

    with whole_machine(bench) as whole:
        return in_turn(whole, take)


def _first_write(servers: list[Server]) -> float:
    """The time when a write was acknowledged."""
    deadline_s = time.perf_counter() + LEADER_LIMIT_S
    while time.perf_counter() < deadline_s:
        for number, server in enumerate(servers):
            try:
                with Session(server.address, SESSION_TIMEOUT_MS) as session:
                    session.create(b"/failover/n%d-%d" % (number, time.perf_counter_ns()))
                    return time.perf_counter()
            except (BenchFailed, ProtocolError, OSError):
                # It has no leader yet.
                time.sleep(ASK_AGAIN_S)
    raise ServerFailed("no write after the leader was killed")


TRIO_ROWS: Final[tuple[Row, ...]] = (
    Row("trio-get", "three servers: pipelined get, 63 x 16", "ops/s", ">=", bars(2, 3), loaded("get")),
    Row("trio-set", "three servers: pipelined set, 63 x 16, fdatasync on", "ops/s", ">=", bars(1, 1.5), loaded("set")),
    Row("trio-stopped-follower", "three servers, one follower stopped: pipelined set, 42 x 16", "ops/s", ">=",
        bars(1, 1.5), loaded("set", stops_follower=True)),
    Row("trio-lone-set", "three servers: lone set, p50", "us", "<=", bars(1, 1), lone_set),
    Row("trio-start", "three servers: start of the processes until all answer", "s", "max", bars(1, 1), start),
    Row("trio-memory", "three servers: memory of all, empty", "MB", "max", bars(180, 180), memory),
    Row("trio-failover", "kill -9 of the leader until a write is acknowledged", "ms", "<=", bars(1, 1), failover),
    Row("trio-stopped-leader", "SIGSTOP of the leader until a write is acknowledged", "s", "max",
        bars(STOPPED_LEADER_LIMIT_S, STOPPED_LEADER_LIMIT_S), stopped_leader),
    Row("trio-catch-up", f"start of a follower that missed {MISSED:,} txns until it answers", "s", "max", bars(3, 3),
        catch_up),
)  # fmt: skip
