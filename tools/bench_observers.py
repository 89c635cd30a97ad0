"""Reads and writes against the number of observers: three voters, and none to three observers that join one by one.

All servers are on one processor here, so more of them cannot answer more. What an observer brings, and what it costs,
is in the processor time: of a read, and of a write on the leader, on a follower and on an observer. Reads are spread
over all servers; writes go to the voters, so that the load stays the same and only the observers behind it change. For
a lone write the servers have the whole machine.
Knows how this is measured. Must not know how it is shown. Invariant: processor time is that of the measured window.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from coati.bench import Report, run
from tools.bench_group import VOTERS, Group, group, whole_machine
from tools.bench_rows import Bench, checked, short
from tools.bench_servers import JAVA, Contender, Server

KEY: Final = "observers"
TITLE: Final = "three voters and none to three observers: reads, writes, what they cost"
OBSERVERS: Final = 3
CONNECTIONS: Final = 60
IN_FLIGHT: Final = 16
WARM_MIX: Final = "mix:10"


@dataclass(frozen=True)
class Stage:
    """What was measured with so many observers. Times are of processor, but for `lone_set_us`.

    `reads_per_core_s`: what a processor of its own lets one server answer. Of a write: what the leader, one follower
    and one observer spend on it; `observer_us` is None without observers.
    """

    observers: int
    reads_per_s: float
    reads_per_core_s: float
    read_us: float
    writes_per_s: float
    leader_us: float
    follower_us: float
    observer_us: float | None
    lone_set_us: float
    lone_set_p99_us: float

    def as_json(self) -> dict[str, float | None]:
        """For results.json."""
        found = {key: None if value is None else short(value) for key, value in asdict(self).items()}
        return {**found, "observers": self.observers}


def with_a_core_each(stage: Mapping[str, Any]) -> float:
    """Reads/s that all servers of a stage would answer if each had a core: from the cost of a read, not measured.

    So it has no more than three digits.
    """
    return float(f"{(VOTERS + stage['observers']) * stage['reads_per_core_s']:.3g}")


def measure(bench: Bench) -> dict[str, Any]:
    """The entry of results.json."""
    stages: dict[str, list[dict[str, float | None]]] = {}
    for contender in bench.contenders:
        with group(bench, contender, observers=OBSERVERS) as servers:
            _warm(bench, contender, servers.voters)
            for number in range(OBSERVERS + 1):
                if number:
                    _warm(bench, contender, [servers.add_observer()])
                stage = measure_stage(bench, contender, servers)
                bench.say(
                    f"  {contender.name} and {number} observers: {stage.reads_per_s:,.0f} reads/s, "
                    f"{stage.writes_per_s:,.0f} writes/s, a lone one in {stage.lone_set_us:,.0f} us"
                )
                stages.setdefault(contender.name, []).append(stage.as_json())
    return {"title": TITLE, "stages": stages}


def measure_stage(bench: Bench, contender: Contender, servers: Group) -> Stage:
    """Reads, writes, and lone writes, with the servers that are there."""
    leader, followers, observers = servers.leader(), servers.followers(), servers.observers
    reads, read_costs = _costs(bench, servers.servers, servers.servers, "get")
    writes, write_costs = _costs(bench, servers.voters, servers.servers, "set")
    us_of = {server.port: cost for server, cost in zip(servers.servers, write_costs, strict=True)}
    lone = _lone_set(bench, contender, servers)
    return Stage(
        observers=len(observers),
        reads_per_s=reads.ops_per_s,
        reads_per_core_s=1e6 / sum(read_costs),
        read_us=sum(read_costs),
        writes_per_s=writes.ops_per_s,
        leader_us=us_of[leader.port],
        follower_us=_mean(us_of[server.port] for server in followers),
        observer_us=_mean(us_of[server.port] for server in observers) if observers else None,
        lone_set_us=lone.latency_us(50),
        lone_set_p99_us=lone.latency_us(99),
    )


def _warm(bench: Bench, contender: Contender, servers: list[Server]) -> None:
    """Reads and writes on new servers; a Java that joins has less to learn than the first three together."""
    plan = bench.plan(servers, WARM_MIX, CONNECTIONS, IN_FLIGHT)
    settings = bench.settings
    seconds = settings.java_warmup_s if contender.name == JAVA else settings.warmup_s
    checked(run(replace(plan, seconds=seconds if len(servers) > 1 else seconds / 3)))


def _costs(bench: Bench, hosts: Sequence[Server], servers: Sequence[Server], mix: str) -> tuple[Report, list[float]]:
    """A round on the hosts, and what each of the servers spent on one of its requests, in us of processor."""
    looks: list[list[float]] = []
    plan = replace(bench.plan(hosts, mix, CONNECTIONS, IN_FLIGHT), seconds=bench.settings.seconds / 2)
    report = checked(run(plan, lambda: looks.append([server.cpu_s() for server in servers])))
    before, after = looks
    return report, [1e6 * (end - begin) / report.ops for begin, end in zip(before, after, strict=True)]


def _lone_set(bench: Bench, contender: Contender, servers: Group) -> Report:
    """One write at a time of a client that sleeps until its reply comes, on all processors."""
    plan = replace(bench.plan(servers.followers(), "set", 1, 1), spin=False, seconds=bench.settings.seconds / 2)
    with whole_machine(bench):
        if contender.cpu is None:
            return checked(run(plan))
        servers.run_on(range(os.cpu_count() or 1))
        try:
            return checked(run(plan))
        finally:
            servers.run_on([contender.cpu])


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
