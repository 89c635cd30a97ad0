"""How an ensemble is measured: what counts as a write, who was caught up how, whose processor time it was."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coati.bench import BenchFailed, Plan, Report
from tests.bench.test_bench_rows import NoProcess
from tools import bench_observers, bench_trio
from tools.bench_group import group
from tools.bench_observers import with_a_core_each
from tools.bench_rows import Bench, Settings
from tools.bench_servers import PURE, Contender, Server
from tools.bench_trio import ALWAYS_DIFF, TRIO_ROWS, catch_up_once, has_written

CONTENDER = Contender(PURE, Path(sys.executable), None)
GREETING = b"\0\0\0\x25" + bytes(4) + b"\0\0\x75\x30\1" + bytes(28)


def bench(tmp_path: Path) -> Bench:
    # Processor time is counted in hundredths of a second: a window has to have some.
    settings = Settings(rounds=1, seconds=0.4, warmup_s=0.05, trials=2)
    return Bench([CONTENDER], settings, tmp_path, lambda said: None)


def reply(xid: int, error: int) -> bytes:
    return struct.pack(">iiqi", 16, xid, 0x100000002, error)


def test_a_session_and_a_reply_without_error_are_a_write() -> None:
    done = GREETING + reply(1, 0)
    assert has_written(done)
    assert not any(has_written(done[:length]) for length in range(len(done)))
    assert not has_written(GREETING + reply(1, -4))
    # Of an event, or of somebody else's request.
    assert not has_written(GREETING + reply(-1, 0))


def test_the_bars_are_those_promised() -> None:
    assert [(row.key, row.compare, row.bars["pure"], row.bars["compiled"]) for row in TRIO_ROWS] == [
        ("trio-get", ">=", 2, 3),
        ("trio-set", ">=", 1, 1.5),
        ("trio-stopped-follower", ">=", 1, 1.5),
        ("trio-lone-set", "<=", 1, 1),
        ("trio-start", "max", 1, 1),
        ("trio-memory", "max", 180, 180),
        ("trio-failover", "<=", 1, 1),
        ("trio-failover-worst", "max", 1000, 1000),
        # syncLimit 5 of 2 s, and half a second to elect.
        ("trio-stopped-leader", "max", 10.5, 10.5),
        ("trio-catch-up", "max", 3, 3),
    ]


@pytest.mark.slow
def test_a_follower_that_gets_a_snapshot_is_not_caught_up(tmp_path: Path) -> None:
    """More is missed than the leader has in memory: what is on its disk decides, as it is allowed to use it or not."""
    assert 0 < catch_up_once(bench(tmp_path), CONTENDER, 600, ALWAYS_DIFF) < 60
    with pytest.raises(BenchFailed, match=r"not a DIFF, but a snapshot: snapshot\.1"):
        catch_up_once(bench(tmp_path / "again"), CONTENDER, 600, {"zookeeper.snapshotSizeFactor": "-1"})


@pytest.mark.slow
def test_each_trial_kills_a_leader_and_both_rows_show_the_same_trials(tmp_path: Path) -> None:
    it = bench(tmp_path)
    (values,) = bench_trio.failover(it).values.values()
    assert len(values) == 2
    assert all(1 < value < 60_000 for value in values)
    assert bench_trio.worst_failover(it).values == {PURE: [max(values)]}
    assert bench_trio.failover(it).notes[0].startswith("2 trials each; the shortest pure ")


class Meter(Server):
    """A server whose processor time is what a test says, look by look."""

    looks: list[float]

    def cpu_s(self) -> float:
        return self.looks.pop(0)


def test_each_server_s_processor_time_is_by_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan: Plan, at_edge: Callable[[], None]) -> Report:
        at_edge()
        at_edge()
        assert plan.hosts == (("127.0.0.1", 1),)
        return Report(mix=plan.mix, connections=1, in_flight=1, data_bytes=1, seconds=2, ops=1000)

    monkeypatch.setattr(bench_observers, "run", run)
    servers = [Meter(NoProcess(), port, tmp_path) for port in (1, 2)]
    servers[0].looks, servers[1].looks = [10.0, 10.5], [3.0, 3.25]
    report, costs = bench_observers._costs(bench(tmp_path), servers[:1], servers, "set")
    assert (report.ops_per_s, costs) == (500, [500, 250])


@pytest.mark.slow
def test_observers_join_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_observers, "OBSERVERS", 1)
    found = bench_observers.measure(bench(tmp_path))["stages"][PURE]
    assert [stage["observers"] for stage in found] == [0, 1]
    assert [stage["observer_us"] is None for stage in found] == [True, False]
    measured = ("reads_per_s", "reads_per_core_s", "read_us", "writes_per_s", "lone_set_us", "lone_set_p99_us")
    assert all(stage[key] > 0 for stage in found for key in measured)
    assert with_a_core_each({"observers": 1, "reads_per_core_s": 1000}) == 4000


@pytest.mark.slow
def test_who_leads_is_known_while_one_is_down(tmp_path: Path) -> None:
    with group(bench(tmp_path), CONTENDER) as three:
        leader, followers = three.leader(), three.followers()
        assert sorted(server.port for server in (leader, *followers)) == sorted(server.port for server in three.voters)
        followers[0].process.close()
        assert three.leader() is leader
    assert not any(server.process.is_running for server in three.servers)
    assert not any(server.data_dir.exists() for server in three.servers)
