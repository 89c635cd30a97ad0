"""The rows of the benchmark with three servers of a kind, clients spread over them.

Throughput is measured with the servers on one processor and the load on another, as for a lone server. For the time of
one thing at a time, a write or an election, the servers have the whole machine: on one processor three servers in turn
would only show who needs least of it. Knows what is measured of an ensemble, and that a row measured what it says.
Invariant: only one ensemble runs at a time; it is not stopped by signal meanwhile, for it would elect anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from coati.bench import BenchFailed, Session, run
from coati.bench.run import payload
from coati.bench.session import connect_request, request_frame
from coati.errors import NodeExists
from coati.wire.codes import OP_SET_DATA
from coati.wire.records import SetDataRequest
from tools.bench_group import LEADER_LIMIT_S, SYNC_LIMIT, TICK_MS, VOTERS, Group, group, kill, whole_machine
from tools.bench_rows import (
    DATA_BYTES,
    MB,
    Bench,
    Measured,
    Row,
    bars,
    checked,
    checked_get,
    each,
    is_snapshot,
    snapshots,
)
from tools.bench_servers import ASK_AGAIN_S, Contender, Server, first_answer, first_reply

CONNECTIONS: Final = 21
IN_FLIGHT: Final = 16
SESSION_TIMEOUT_MS: Final = 10_000
# A leader that answers nobody is given up after a syncLimit; then there is an election.
STOPPED_LEADER_LIMIT_S: Final = SYNC_LIMIT * TICK_MS / 1000 + 0.5
# While nothing can happen yet it is enough to ask now and then.
STOPPED_ASK_AGAIN_S: Final = 0.02
FAILOVER_LIMIT_MS: Final = 1000
MISSED: Final = 10_000
MISSED_ROOT: Final = b"/missed"
# DIFFs from the log of any size: else a leader whose snapshots are small sends one of those, as Java's does.
ALWAYS_DIFF: Final = {"zookeeper.snapshotSizeFactor": "0"}
# A new client in one go: a session, and a write in it.
PROBE: Final = b"/failover"
PROBE_XID: Final = 1
PROBING: Final = connect_request(SESSION_TIMEOUT_MS) + request_frame(
    PROBE_XID, OP_SET_DATA, SetDataRequest(PROBE, b"x", -1)
)


def in_turn(bench: Bench, measured: Measured, take: Callable[[Group, Contender], float]) -> Measured:
    """A fresh ensemble for each round of each contender, A B C A B C."""
    for _ in range(bench.settings.rounds):
        for contender in bench.contenders:
            with group(bench, contender) as three:
                value = take(three, contender)
            bench.say(f"  {contender.name}: {value:,.4g}")
            measured.add(contender.name, value)
    return measured


def loaded(mix: str, *, stops_follower: bool = False) -> Callable[[Bench], Measured]:
    """Ops/s of a pipeline; with one follower stopped by signal before, if it is to be."""

    def measure(bench: Bench) -> Measured:
        measured = Measured()
        p99: dict[str, list[float]] = {}
        generator: dict[str, list[float]] = {}

        def take(three: Group, contender: Contender) -> float:
            stopped = three.followers()[:1] if stops_follower else []
            serving = [server for server in three.servers if server not in stopped]
            plan = bench.plan(serving, mix, CONNECTIONS * len(serving), IN_FLIGHT)
            bench.warm(contender, plan)
            for server in stopped:
                server.pause()
            with measured.watching(contender, three.servers):
                report = checked(run(plan))
            p99.setdefault(contender.name, []).append(report.latency_us(99))
            generator.setdefault(contender.name, []).append(100 * report.generator_cpu)
            return report.ops_per_s

        in_turn(bench, measured, take)
        measured.note_strangers()
        measured.note_load(p99, generator)
        return measured

    return measure


def lone_set(bench: Bench) -> Measured:
    """The median of a client's writes, one at a time, in us. It sleeps until the reply wakes it, as clients do."""
    measured = Measured()
    p99: dict[str, list[float]] = {}

    def take(three: Group, contender: Contender) -> float:
        plan = replace(bench.plan(three.servers, "set", 1, 1), spin=False)
        bench.warm(contender, plan)
        report = checked(run(plan))
        p99.setdefault(contender.name, []).append(report.latency_us(99))
        return report.latency_us(50)

    with whole_machine(bench) as whole:
        in_turn(whole, measured, take)
    measured.notes.append("p99 " + each(p99, "us"))
    return measured


def start(bench: Bench) -> Measured:
    """From the start of the first process until all three have opened a session."""
    with whole_machine(bench) as whole:
        return in_turn(whole, Measured(), lambda three, contender: three.first_answer_s)


def memory(bench: Bench) -> Measured:
    """Resident memory of all three after some requests."""
    measured = Measured()
    leaders: dict[str, list[float]] = {}
    followers: dict[str, list[float]] = {}

    def take(three: Group, contender: Contender) -> float:
        plan = bench.plan(three.servers, "get", VOTERS, 1)
        checked(run(replace(plan, seconds=0.2, keys=10, keep=False)))
        leaders.setdefault(contender.name, []).append(three.leader().rss_bytes() / MB)
        followers.setdefault(contender.name, []).extend(one.rss_bytes() / MB for one in three.followers())
        return three.rss_bytes() / MB

    in_turn(bench, measured, take)
    measured.notes.append("the leader " + each(leaders, "MB") + "; a follower " + each(followers, "MB"))
    return measured


def failover(bench: Bench) -> Measured:
    """From kill -9 of the leader until a write of a new client is acknowledged, in ms."""
    return bench.once(failover_trials)


def worst_failover(bench: Bench) -> Measured:
    """The longest of the same trials."""
    return Measured({name: [max(values)] for name, values in bench.once(failover_trials).values.items()})


def failover_trials(bench: Bench) -> Measured:
    """All trials. An ensemble loses one leader after the other; each is back before the next one goes."""
    measured = Measured()
    rounds, trials = bench.settings.rounds, bench.settings.trials
    with whole_machine(bench) as whole:
        for number in range(rounds):
            for contender in whole.contenders:
                with group(whole, contender) as three:
                    for _ in range(trials * number // rounds, trials * (number + 1) // rounds):
                        measured.add(contender.name, 1000 * _killed_leader(three))
                values = ", ".join(f"{value:.0f}" for value in measured.values.get(contender.name, []))
                bench.say(f"  {contender.name}: {values}")
    # The largest tenth is beyond.
    most = {name: [sorted(values)[-1 - len(values) // 10]] for name, values in measured.values.items()}
    least = {name: [min(values)] for name, values in measured.values.items()}
    text = f"{trials} trials each; the shortest {each(least, 'ms')}; nine of ten within {each(most, 'ms')}"
    measured.notes.append(text)
    return measured


def _killed_leader(three: Group) -> float:
    """Seconds without writes. The leader is there again afterwards."""
    _prepare(three)
    leader, others = three.leader(), three.followers()
    start_s = time.perf_counter()
    kill(leader)
    took_s = _next_write(others, ASK_AGAIN_S) - start_s
    leader.process.close()
    first_answer(three.restart(leader))
    return took_s


def stopped_leader(bench: Bench) -> Measured:
    """From SIGSTOP of the leader until a write of a new client is acknowledged, in s."""

    def take(three: Group, contender: Contender) -> float:
        _prepare(three)
        leader, others = three.leader(), three.followers()
        start_s = time.perf_counter()
        leader.pause()
        return _next_write(others, STOPPED_ASK_AGAIN_S) - start_s

    with whole_machine(bench) as whole:
        measured = in_turn(whole, Measured(), take)
    measured.notes.append(f"syncLimit x tickTime is {SYNC_LIMIT * TICK_MS / 1000:g} s")
    return measured


def _prepare(three: Group) -> None:
    """All serve, and there is what is to be written to."""
    for server in three.servers:
        first_answer(server)
    with Session(three.servers[0].address, SESSION_TIMEOUT_MS) as session, suppress(NodeExists):
        session.create(PROBE)


def _next_write(servers: list[Server], every_s: float) -> float:
    """The time when a write was acknowledged by one of them."""
    return first_reply(servers, PROBING, has_written, LEADER_LIMIT_S, every_s=every_s)


def has_written(answer: bytes) -> bool:
    """Whether a connection was answered with a session and with the reply to a write that was done."""
    after = 4 + int.from_bytes(answer[:4], "big")
    # Length, xid, zxid, error.
    header = answer[after : after + 20]
    return len(header) == 20 and header[4:8] == PROBE_XID.to_bytes(4, "big") and not any(header[16:20])


def catch_up(bench: Bench) -> Measured:
    """From the start of a follower that missed MISSED txns until it has opened a session."""
    measured = Measured()
    with whole_machine(bench) as whole:
        for _ in range(whole.settings.rounds):
            for contender in whole.contenders:
                took_s = catch_up_once(whole, contender, MISSED, ALWAYS_DIFF)
                bench.say(f"  {contender.name}: {took_s:.3g}")
                measured.add(contender.name, took_s)
    measured.notes.append("by DIFF from the leader's log (snapshotSizeFactor=0), as was verified")
    return measured


def catch_up_once(bench: Bench, contender: Contender, missed: int, props: Mapping[str, str]) -> float:
    """Seconds. Raises BenchFailed if the follower got anything but a DIFF."""
    with group(bench, contender, props=props) as three:
        missing = three.followers()[0]
        missing.process.close()
        before = _whole_snapshots(missing.data_dir)
        paths = [b"%s/n%d" % (MISSED_ROOT, number) for number in range(missed)]
        with Session(three.leader().address, SESSION_TIMEOUT_MS) as session:
            session.create(MISSED_ROOT)
            session.create(*paths, data=payload(DATA_BYTES))
        start_s = time.perf_counter()
        back = three.restart(missing)
        took_s = first_answer(back) - start_s
        # Who gets a SNAP, Java or coati, has it on disk before it serves. Who got none and has all of it got a DIFF.
        new = [name for name in _whole_snapshots(back.data_dir) if name not in before]
        if new:
            raise BenchFailed(f"{contender.name}: not a DIFF, but a snapshot: {', '.join(new)}")
        with Session(back.address, SESSION_TIMEOUT_MS) as session:
            checked_get(session, paths[0])
            checked_get(session, paths[-1])
    return took_s


def _whole_snapshots(data_dir: Path) -> list[str]:
    return sorted(name for name in snapshots(data_dir / "version-2") if is_snapshot(name))


TRIO_ROWS: Final[tuple[Row, ...]] = (
    Row("trio-get", "three servers: pipelined get, 63 x 16", "ops/s", ">=", bars(2, 3), loaded("get")),
    Row("trio-set", "three servers: pipelined set, 63 x 16, fdatasync on", "ops/s", ">=", bars(1, 1.5), loaded("set")),
    Row("trio-stopped-follower", "three servers, one follower stopped: pipelined set, 42 x 16", "ops/s", ">=",
        bars(1, 1.5), loaded("set", stops_follower=True)),
    Row("trio-lone-set", "three servers: lone set, p50", "us", "<=", bars(1, 1), lone_set),
    Row("trio-start", "three servers: start of the processes until all answer", "s", "max", bars(1, 1), start),
    Row("trio-memory", "three servers: memory of all, empty", "MB", "max", bars(180, 180), memory),
    Row("trio-failover", "kill -9 of the leader until a write is acknowledged, median", "ms", "<=", bars(1, 1),
        failover),
    Row("trio-failover-worst", "kill -9 of the leader until a write is acknowledged, longest of all trials", "ms",
        "max", bars(FAILOVER_LIMIT_MS, FAILOVER_LIMIT_MS), worst_failover),
    Row("trio-stopped-leader", "SIGSTOP of the leader until a write is acknowledged", "s", "max",
        bars(STOPPED_LEADER_LIMIT_S, STOPPED_LEADER_LIMIT_S), stopped_leader),
    Row("trio-catch-up", f"start of a follower that missed {MISSED:,} txns until it answers", "s", "max", bars(3, 3),
        catch_up),
)  # fmt: skip
