"""The rows of the benchmark: what each measures, and the bar it is held to.

Knows how a row is measured fairly: every contender is warmed up, only the measured one runs (the others are stopped by
signal), and rounds go A B C A B C, so that a slow moment of the machine hits all alike. Must not know how results are
shown. Invariant: a round with any error reply ends the benchmark.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Final

from coati.bench import BenchFailed, Plan, Report, Session, fill, percentile, run, run_lone
from coati.bench.fill import filled_path
from coati.bench.load import Lane, Load
from coati.bench.ring import access_ring
from coati.bench.run import payload
from tools.bench_servers import COMPILED, JAVA, PURE, Contender, Server, busy_s

MB: Final = 1_000_000
DATA_BYTES: Final = 100
FILL_ROOT: Final = b"/filled"
HEAP: Final = "2g"
LARGE_HEAP: Final = "4g"
# The snapshot row: few writes make a snapshot due; which of its gets count; when it is over.
SNAP_COUNT: Final = 1000
BURST: Final = 100
BURST_EVERY_NS: Final = 50_000_000
LOOK_EVERY_NS: Final = 10_000_000
LEAD_NS: Final = 100_000_000
QUIET_NS: Final = 1_000_000_000
SNAPSHOT_LIMIT_S: Final = 120.0
SETTLE_LIMIT_S: Final = 60.0
SETTLE_S: Final = 1.0
STRANGERS_LIMIT: Final = 5.0


@dataclass(frozen=True)
class Settings:
    """How long and how often; `--quick` makes a smaller one."""

    rounds: int = 3
    seconds: float = 5.0
    java_warmup_s: float = 12.0
    warmup_s: float = 2.0
    starts: int = 5
    znodes: int = 1_000_000
    trials: int = 30


QUICK: Final = Settings(rounds=1, seconds=1.0, java_warmup_s=4.0, warmup_s=0.5, starts=2, znodes=50_000, trials=2)


@dataclass
class Measured:
    """The values of each contender, round by round, and what else is worth saying.

    `own` and `strangers` are how much of the servers' processor, in percent, the servers and all others used meanwhile:
    a noisy machine shows.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    own: dict[str, list[float]] = field(default_factory=dict)
    strangers: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    @contextmanager
    def watching(self, contender: Contender, servers: Sequence[Server]) -> Iterator[None]:
        """Add the shares of the processor over the block."""
        if contender.cpu is None:
            yield
            return
        start_s, start_busy_s, start_cpu_s = time.perf_counter(), busy_s(contender.cpu), cpu_s(servers)
        yield
        took_s, own_s = time.perf_counter() - start_s, cpu_s(servers) - start_cpu_s
        strange_s = busy_s(contender.cpu) - start_busy_s - own_s
        self.own.setdefault(contender.name, []).append(100 * own_s / took_s)
        self.strangers.setdefault(contender.name, []).append(max(0.0, 100 * strange_s / took_s))

    def per_own_s(self) -> dict[str, list[float]]:
        """The values by second of processor time that the servers themselves had, which noise disturbs less."""
        return {
            name: [value * 100 / share for value, share in zip(self.values[name], shares, strict=True)]
            for name, shares in self.own.items()
        }

    def note_strangers(self) -> None:
        """Says so if others had more of the servers' processor than can be overlooked."""
        if any(share > STRANGERS_LIMIT for shares in self.strangers.values() for share in shares):
            self.notes.append(f"other processes took of the server's processor: {each(self.strangers, '%')}")

    def note_load(self, p99: Mapping[str, list[float]], generator: Mapping[str, list[float]]) -> None:
        """What a reader wants to know of a pipeline besides its throughput."""
        self.notes.append("p99 " + each(p99, "us"))
        if self.own:
            self.notes.append("in a second of server processor time " + each(self.per_own_s(), "ops"))
        self.notes.append("the load took of its own processor " + each(generator, "%"))


def cpu_s(servers: Sequence[Server]) -> float:
    """Processor time that all of them used so far."""
    return sum(server.cpu_s() for server in servers)


@dataclass(frozen=True)
class Row:
    """`bars` by contender. `compare` says what is held against them: the value over Java's, which has to be at least
    (">=") or at most ("<=") the bar, or the value itself ("max")."""

    key: str
    title: str
    unit: str
    compare: str
    bars: Mapping[str, float]
    measure: Callable[[Bench], Measured]


class Bench:
    """One run of the benchmark: who takes part, how thoroughly, and where the data goes."""

    def __init__(self, contenders: list[Contender], settings: Settings, data_root: Path, say: Callable[[str], None]):
        self.contenders = contenders
        self.settings = settings
        self.data_root = data_root
        self.say = say
        self._serial = 0
        self._filled: dict[str, tuple[Path, int]] = {}
        self._once: dict[Callable[[Bench], Measured], Measured] = {}

    def fresh_dir(self, contender: Contender) -> Path:
        """A data directory that nobody used."""
        self._serial += 1
        return self.data_root / f"{self._serial:03d}-{contender.name}"

    def filled(self, contender: Contender) -> tuple[Path, int]:
        """A directory with the million znodes, written by this contender itself, and its memory right after."""
        if contender.name not in self._filled:
            directory = self.fresh_dir(contender)
            count = self.settings.znodes
            with contender.running(directory, heap=LARGE_HEAP) as server:
                start_s = time.perf_counter()
                fill([server.address], FILL_ROOT, count, payload(DATA_BYTES))
                took_s = time.perf_counter() - start_s
                self.say(f"  {contender.name}: {count:,} creates in {took_s:.1f} s")
                self._filled[contender.name] = directory, server.rss_bytes()
        return self._filled[contender.name]

    def once(self, measure: Callable[[Bench], Measured]) -> Measured:
        """What `measure` finds, measured the first time: for rows that show two sides of the same trials."""
        if measure not in self._once:
            self._once[measure] = measure(self)
        return self._once[measure]

    def plan(self, servers: Sequence[Server], mix: str, connections: int, in_flight: int) -> Plan:
        """The plan of a measured round, on these servers in turn."""
        return Plan(
            hosts=tuple(server.address for server in servers),
            mix=mix,
            connections=connections,
            in_flight=in_flight,
            data_bytes=DATA_BYTES,
            seconds=self.settings.seconds,
            warmup_seconds=min(0.5, self.settings.seconds / 10),
            keep=True,
            spin=True,
        )

    def warm(self, contender: Contender, plan: Plan) -> None:
        """The same load as will be measured, for Java long enough to compile what is hot."""
        settings = self.settings
        seconds = settings.java_warmup_s if contender.name == JAVA else settings.warmup_s
        checked(run(replace(plan, seconds=seconds)))


def checked(report: Report) -> Report:
    """The report, or BenchFailed if it may not be used."""
    if not report.ok:
        raise BenchFailed(f"error replies: {report}")
    return report


def in_turn(
    bench: Bench, mix: str, connections: int, in_flight: int, take: Callable[[Contender, Plan], float]
) -> Measured:
    """Start all contenders, warm each up, then measure them in turn; only the measured one runs."""
    measured = Measured()
    with ExitStack() as stack:
        servers: list[Server] = []
        for contender in bench.contenders:
            directory = bench.fresh_dir(contender)
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            server = stack.enter_context(contender.running(directory, heap=HEAP))
            bench.warm(contender, bench.plan([server], mix, connections, in_flight))
            server.pause()
            servers.append(server)
        for _ in range(bench.settings.rounds):
            for contender, server in zip(bench.contenders, servers, strict=True):
                server.resume()
                with measured.watching(contender, [server]):
                    measured.add(contender.name, take(contender, bench.plan([server], mix, connections, in_flight)))
                server.pause()
    measured.note_strangers()
    return measured


def throughput(mix: str, connections: int, in_flight: int) -> Callable[[Bench], Measured]:
    """Ops/s of a pipelined mix."""

    def measure(bench: Bench) -> Measured:
        p99: dict[str, list[float]] = {}
        generator: dict[str, list[float]] = {}

        def take(contender: Contender, plan: Plan) -> float:
            report = checked(run(plan))
            p99.setdefault(contender.name, []).append(report.latency_us(99))
            generator.setdefault(contender.name, []).append(100 * report.generator_cpu)
            bench.say(f"  {contender.name}: {report}")
            return report.ops_per_s

        measured = in_turn(bench, mix, connections, in_flight, take)
        measured.note_load(p99, generator)
        return measured

    return measure


def lone(mix: str) -> Callable[[Bench], Measured]:
    """The median latency of one request at a time, by a client that spins; with one that sleeps in the notes."""

    def measure(bench: Bench) -> Measured:
        sleeping: dict[str, list[float]] = {}
        p99: dict[str, list[float]] = {}

        def take(contender: Contender, plan: Plan) -> float:
            report = checked(run(plan))
            p99.setdefault(contender.name, []).append(report.latency_us(99))
            half = replace(plan, spin=False, seconds=plan.seconds / 2)
            sleeping.setdefault(contender.name, []).append(checked(run(half)).latency_us(50))
            bench.say(f"  {contender.name}: {report}")
            return report.latency_us(50)

        measured = in_turn(bench, mix, 1, 1, take)
        measured.notes.append("p99 " + each(p99, "us"))
        measured.notes.append("p50 of a client that sleeps until the reply wakes it " + each(sleeping, "us"))
        return measured

    return measure


def start_empty(bench: Bench) -> Measured:
    """From the start of the process on an empty directory to the first session."""
    return _starts(bench, lambda server: server.first_answer_s)


def memory_empty(bench: Bench) -> Measured:
    """Resident memory of a server that has nothing and answered some requests."""

    def take(server: Server) -> float:
        checked(run(replace(bench.plan([server], "get", 1, 1), seconds=0.2, keys=10, keep=False)))
        return server.rss_bytes() / MB

    return _starts(bench, take)


def memory_filled(bench: Bench) -> Measured:
    """Resident memory with a million znodes: the larger of just created and just loaded."""
    measured = Measured()
    created: dict[str, list[float]] = {}
    loaded: dict[str, list[float]] = {}
    for contender in bench.contenders:
        directory, rss = bench.filled(contender)
        created[contender.name] = [rss / MB]
        with contender.running(directory, heap=LARGE_HEAP) as server:
            loaded[contender.name] = [server.rss_bytes() / MB]
        measured.add(contender.name, max(created[contender.name] + loaded[contender.name]))
    measured.notes.append("just created " + each(created, "MB") + "; just loaded " + each(loaded, "MB"))
    return measured


def cold_start(bench: Bench) -> Measured:
    """From the start of the process on a million znodes to the first session; the last znode is then read."""
    measured = Measured()
    for contender in bench.contenders:
        bench.filled(contender)
    last = filled_path(FILL_ROOT, bench.settings.znodes - 1)
    for _ in range(bench.settings.rounds):
        for contender in bench.contenders:
            _read_all(bench.filled(contender)[0])
            with contender.running(bench.filled(contender)[0], heap=LARGE_HEAP) as server:
                bench.say(f"  {contender.name}: first answer after {server.first_answer_s:.2f} s")
                measured.add(contender.name, server.first_answer_s)
                with Session(server.address) as session:
                    checked_get(session, last)
    return measured


def _read_all(directory: Path) -> None:
    """Brings the files into the page cache, so that the disk is not measured."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            path.read_bytes()


def snapshot_p99(bench: Bench) -> Measured:
    """The 99th percentile of lone gets while a snapshot of a million znodes is being written."""
    measured = Measured()
    worst: dict[str, list[float]] = {}
    took: dict[str, list[float]] = {}
    for contender in bench.contenders:
        bench.filled(contender)
    for _ in range(bench.settings.rounds):
        for contender in bench.contenders:
            props = {"zookeeper.snapCount": str(SNAP_COUNT)}
            with contender.running(bench.filled(contender)[0], heap=LARGE_HEAP, props=props) as server:
                latencies, seconds = _gets_during_snapshot(server)
            p99_ms = percentile(latencies, 99) / 1e6
            measured.add(contender.name, p99_ms)
            worst.setdefault(contender.name, []).append(latencies[-1] / 1e6)
            took.setdefault(contender.name, []).append(seconds)
            bench.say(f"  {contender.name}: p99 {p99_ms:.2f} ms of {len(latencies):,} gets in {seconds:.1f} s")
    measured.notes.append("slowest get " + each(worst, "ms") + "; the snapshot took " + each(took, "s"))
    return measured


class SnapshotWatch:
    """Called between two gets: makes a snapshot due by writing, and sees in the directory when it begins and ends."""

    def __init__(self, directory: Path, writer: Load) -> None:
        self.begin_ns = 0
        self.end_ns = 0
        self._directory = directory
        self._writer = writer
        self._look_ns = 0
        self._write_ns = 0
        self._seen = snapshots(directory)
        self._old = set(self._seen)

    def __call__(self) -> bool:
        """False when the snapshot is complete."""
        now_ns = perf_counter_ns()
        if now_ns < self._look_ns:
            return True
        self._look_ns = now_ns + LOOK_EVERY_NS
        seen = snapshots(self._directory)
        new = seen.keys() - self._old
        if not self.begin_ns and not new:
            self._write(now_ns)
            return True
        if not self.begin_ns:
            self.begin_ns = now_ns
        if seen != self._seen:
            self.end_ns = now_ns
            self._seen = seen
        is_whole = any(is_snapshot(name) and seen[name] for name in new)
        return not (is_whole and now_ns - self.end_ns > QUIET_NS)

    def _write(self, now_ns: int) -> None:
        if now_ns < self._write_ns:
            return
        self._write_ns = now_ns + BURST_EVERY_NS
        self._writer.lanes[0].budget = BURST
        self._writer.start(BURST)
        self._writer.run_out()


def is_snapshot(name: str) -> bool:
    """Whether a file has the final name of a snapshot, compressed or not; not that of one in the making."""
    parts = name.split(".")
    return parts[0] == "snapshot" and len(parts) > 1 and parts[-1] != "tmp" and parts[1] != "tmp"


def snapshots(directory: Path) -> dict[str, int]:
    """All files that are not logs, with their sizes: snapshots, finished or in the making."""
    found: dict[str, int] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.startswith("log.") and entry.is_file():
                try:
                    found[entry.name] = entry.stat().st_size
                except FileNotFoundError:  # renamed just now
                    continue
    return found


def checked_get(session: Session, path: bytes) -> None:
    """Read a znode that `fill` made, to see that it is there and whole."""
    ring = access_ring([path], payload(DATA_BYTES), percent=0, window=1)
    if run_lone(session, ring, 0).errors:
        raise BenchFailed(f"{path.decode()} cannot be read")


def _gets_during_snapshot(server: Server) -> tuple[list[int], float]:
    """Latencies in nanoseconds, ascending, of gets from shortly before a snapshot began to its end; its seconds."""
    directory = server.data_dir / "version-2"
    _settle(directory)
    paths = [filled_path(FILL_ROOT, number) for number in range(1000)]
    data = payload(DATA_BYTES)
    gets = access_ring(paths, data, percent=0, window=1)
    sets = access_ring(paths, data, percent=100, window=BURST)
    with Session(server.address) as reading, Session(server.address) as writing:
        writer = Load([Lane(writing.sock, sets, budget=0)])
        watch = SnapshotWatch(directory, writer)
        seen = run_lone(reading, gets, SNAPSHOT_LIMIT_S, between=watch)
        writer.stop()
    if seen.errors or any(lane.errors for lane in writer.lanes):
        raise BenchFailed("error replies while a snapshot was taken")
    if watch.end_ns <= watch.begin_ns:
        raise BenchFailed(f"no snapshot in {SNAPSHOT_LIMIT_S:g} s in {directory}")
    during = [
        latency
        for latency, ended_ns in zip(seen.latencies_ns, seen.ended_ns, strict=True)
        if watch.begin_ns - LEAD_NS <= ended_ns and ended_ns - latency <= watch.end_ns
    ]
    return sorted(during), (watch.end_ns - watch.begin_ns) / 1e9


def _settle(directory: Path) -> None:
    """Wait until a snapshot that the start itself caused is written."""
    deadline_s = time.perf_counter() + SETTLE_LIMIT_S
    before: dict[str, int] = {}
    while (now := snapshots(directory)) != before and time.perf_counter() < deadline_s:
        before = now
        time.sleep(SETTLE_S)


def rounded(value: float) -> str:
    """About three digits, never an exponent."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def short(value: float) -> float:
    """Five digits, for results.json."""
    return float(f"{value:.5g}")


def _starts(bench: Bench, take: Callable[[Server], float]) -> Measured:
    measured = Measured()
    for _ in range(bench.settings.starts):
        for contender in bench.contenders:
            directory = bench.fresh_dir(contender)
            with contender.running(directory, heap=HEAP) as server:
                measured.add(contender.name, take(server))
            shutil.rmtree(directory, ignore_errors=True)
    for name, values in measured.values.items():
        bench.say(f"  {name}: {', '.join(f'{value:.3g}' for value in values)}")
    return measured


def each(values: Mapping[str, list[float]], unit: str) -> str:
    """The medians, in words."""
    return ", ".join(f"{name} {rounded(statistics.median(found))} {unit}" for name, found in values.items())


def bars(pure: float, compiled: float) -> dict[str, float]:
    """What the builds are held against."""
    return {PURE: pure, COMPILED: compiled}


ROWS: Final[tuple[Row, ...]] = (
    Row("get-8x32", "pipelined get, 8 connections x 32 in flight, 100 bytes", "ops/s", ">=", bars(4, 6),
        throughput("get", 8, 32)),
    Row("get-64x16", "pipelined get, 64 x 16", "ops/s", ">=", bars(3, 4.5), throughput("get", 64, 16)),
    Row("set-64x16", "pipelined set, 64 x 16, fdatasync on", "ops/s", ">=", bars(1.5, 2), throughput("set", 64, 16)),
    Row("create-8x32", "pipelined create, 8 x 32", "ops/s", ">=", bars(1.5, 2), throughput("create", 8, 32)),
    Row("mix10-64x16", "mix with 10% writes, 64 x 16", "ops/s", ">=", bars(2, 3), throughput("mix:10", 64, 16)),
    Row("lone-get", "lone get, p50", "us", "<=", bars(0.6, 0.6), lone("get")),
    Row("lone-set", "lone set, p50", "us", "<=", bars(0.9, 0.9), lone("set")),
    Row("start", "process start to first answer, empty directory", "s", "max", bars(0.4, 0.4), start_empty),
    Row("memory-empty", "memory, empty", "MB", "max", bars(60, 60), memory_empty),
    Row("memory-1m", "memory, 1,000,000 znodes x 100 bytes", "MB", "max", bars(1000, 1000), memory_filled),
    Row("cold-start", "cold start with 1,000,000 znodes", "s", "max", bars(8, 4), cold_start),
    Row("snapshot", "p99 of gets while 1,000,000 znodes are being snapshotted", "ms", "max", bars(25, 25),
        snapshot_p99),
)  # fmt: skip
