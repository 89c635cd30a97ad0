"""The rows of the benchmark with three servers of a kind, clients spread over them.

Knows how three servers are started, who of them leads, and what is measured of them. Invariant: only one ensemble runs
at a time; it is not stopped by signal meanwhile, for it would elect anew.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from coati.bench import BenchFailed, Plan, Session, run
from coati.errors import ProtocolError
from tools.bench_rows import DATA_BYTES, MB, Bench, Measured, Row, checked
from tools.bench_servers import JAVA_VERSION, CoatiServer, Contender, Process, Server, ServerFailed, first_answer
from tools.javapeer import HOST, JavaServer, four_letter, free_port

MEMBERS: Final = 3
HEAP: Final = "700m"
LEADER_LIMIT_S: Final = 60.0
ASK_AGAIN_S: Final = 0.005
SESSION_TIMEOUT_MS: Final = 10_000


class Trio:
    """Three servers that serve; `first_answer_s` from the start of the first until each has opened a session."""

    def __init__(self, servers: list[Server], first_answer_s: float) -> None:
        self.servers = servers
        self.first_answer_s = first_answer_s

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

    def leader(self) -> Server:
        """Who leads. Raises ServerFailed."""
        deadline_s = time.perf_counter() + LEADER_LIMIT_S
        while time.perf_counter() < deadline_s:
            for server in self.servers:
                if "Mode: leader" in four_letter(HOST, server.port, "srvr"):
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
            server = _start_member(bench, contender, sid, port, members)
            stack.callback(shutil.rmtree, server.data_dir, ignore_errors=True)
            stack.callback(server.process.close)
            servers.append(server)
        answered_s = max([first_answer(server) for server in servers])
        yield Trio(servers, answered_s - start_s)


def _start_member(bench: Bench, contender: Contender, sid: int, port: int, members: dict[str, str]) -> Server:
    directory = bench.fresh_dir(contender)
    directory.mkdir(parents=True)
    (directory / "myid").write_text(f"{sid}\n")
    process: Process
    if contender.python is None:
        process = java = JavaServer(
            JAVA_VERSION, directory, port, cfg=members, jvm_args=[f"-Xmx{HEAP}"], sid=sid, cpu=contender.cpu,
            log_level="ERROR",
        )  # fmt: skip
        java.start(wait=False)
    else:
        keys = {"tickTime": 2000, "initLimit": 10, "syncLimit": 5, "dataDir": directory, "clientPort": port,
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


def loaded(mix: str, connections: int, in_flight: int) -> Callable[[Bench], Measured]:
    """Ops/s of a pipeline; of a lone client the median latency in us."""

    def measure(bench: Bench) -> Measured:
        def take(three: Trio, contender: Contender) -> float:
            plan = three.plan(bench, mix, connections, in_flight)
            bench.warm(contender, plan)
            report = checked(run(plan))
            return report.latency_us(50) if plan.is_lone else report.ops_per_s

        return in_turn(bench, take)

    return measure


def start(bench: Bench) -> Measured:
    """From the start of the first process until all three have opened a session."""
    return in_turn(bench, lambda three, contender: three.first_answer_s)


def memory(bench: Bench) -> Measured:
    """Resident memory of all three after some requests."""

    def take(three: Trio, contender: Contender) -> float:
        plan = three.plan(bench, "get", MEMBERS, 1)
        checked(run(replace(plan, seconds=0.2, keys=10, keep=False)))
        return three.rss_bytes() / MB

    return in_turn(bench, take)


def failover(bench: Bench) -> Measured:
    """From kill -9 of the leader until a write of a new client is acknowledged, in ms."""

    def take(three: Trio, contender: Contender) -> float:
        with Session(three.servers[0].address) as session:
            session.create(b"/failover")
        leader = three.leader()
        others = [server for server in three.servers if server is not leader]
        start_s = time.perf_counter()
        leader.process.close()
        return 1000 * (_first_write(others) - start_s)

    return in_turn(bench, take)


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
    Row("trio-get", "pipelined get, 63 x 16", "ops/s", ">=", {}, loaded("get", 63, 16)),
    Row("trio-set", "pipelined set, 63 x 16, fdatasync on", "ops/s", ">=", {}, loaded("set", 63, 16)),
    Row("trio-lone-set", "lone set, p50", "us", "<=", {}, loaded("set", 1, 1)),
    Row("trio-start", "start of the processes until all three answer, empty directories", "s", "<=", {}, start),
    Row("trio-memory", "memory of all three, empty", "MB", "<=", {}, memory),
    Row("trio-failover", "kill -9 of the leader until a write is acknowledged", "ms", "<=", {}, failover),
)
