"""How rows are measured: fair turns, the snapshot's window, which servers take part."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from coati.bench import BenchFailed, Plan, Report
from coati.bench.load import Lane, Load
from coati.bench.ring import access_ring
from coati.bench.session import connect_request
from tools import bench, bench_rows, bench_servers
from tools.bench import Part
from tools.bench_rows import Bench, Measured, Settings, SnapshotWatch, checked, in_turn, is_snapshot, snapshots
from tools.bench_servers import Contender, Server, ServerFailed, busy_s, has_session


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("snapshot.0", True),
        ("snapshot.1f00.gz", True),
        ("snapshot.1f00.snappy", True),
        ("snapshot.1f00.tmp", False),
        ("snapshot.tmp.1f00", False),
        ("snapshot", False),
        ("log.1", False),
        ("tmp.snapshot.1", False),
    ],
)
def test_whole_snapshots_are_known_by_name(name: str, whole: bool) -> None:
    assert is_snapshot(name) is whole


def test_all_but_logs_and_directories_count_as_snapshots(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_bytes(b"12")
    (tmp_path / "snapshot.1").write_bytes(b"123")
    (tmp_path / "some.tmp").write_bytes(b"1")
    (tmp_path / "more").mkdir()
    assert snapshots(tmp_path) == {"snapshot.1": 3, "some.tmp": 1}


class Clock:
    """What `perf_counter_ns` shows: a step more each time."""

    def __init__(self, step_ns: int) -> None:
        self.now_ns = 10**12
        self.step_ns = step_ns

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


class QuietWriter(Load):
    """Counts the bursts instead of sending them."""

    def __init__(self, lane: Lane) -> None:
        super().__init__([lane])
        self.bursts = 0

    def start(self, in_flight: int) -> None:
        self.bursts += 1

    def run_out(self) -> None:
        pass


@pytest.fixture
def writer() -> Iterator[QuietWriter]:
    here, there = socket.socketpair()
    writer = QuietWriter(Lane(here, access_ring([b"/a"], b"", percent=100, window=1)))
    yield writer
    writer.stop()
    here.close()
    there.close()


def test_watch_writes_until_a_snapshot_begins_and_ends_when_it_is_whole_and_quiet(
    tmp_path: Path, writer: QuietWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(bench_rows.BURST_EVERY_NS)
    monkeypatch.setattr(bench_rows, "perf_counter_ns", clock)
    (tmp_path / "snapshot.1").write_bytes(b"an old one")
    watch = SnapshotWatch(tmp_path, writer)
    assert [watch(), watch(), watch()] == [True, True, True]
    assert (writer.bursts, watch.begin_ns) == (3, 0)

    part = tmp_path / "snapshot.2.tmp"
    part.write_bytes(b"x")
    assert watch()
    began_ns = watch.begin_ns
    assert began_ns == watch.end_ns == clock.now_ns
    # However long nothing moves, a part is not a snapshot.
    clock.now_ns += 10 * bench_rows.QUIET_NS
    assert watch()
    part.write_bytes(b"xy")
    assert watch()
    part.rename(tmp_path / "snapshot.2")
    assert watch()
    ended_ns = clock.now_ns
    assert watch()
    clock.now_ns += bench_rows.QUIET_NS
    assert not watch()
    assert (watch.begin_ns, watch.end_ns, writer.bursts) == (began_ns, ended_ns, 3)


def test_watch_looks_only_now_and_then(tmp_path: Path, writer: QuietWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_rows, "perf_counter_ns", Clock(1))
    watch = SnapshotWatch(tmp_path, writer)
    assert all(watch() for _ in range(1000))
    assert writer.bursts == 1


class NoProcess:
    """Stands in for a server's process."""

    pid = 0
    is_running = True

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def log(self) -> str:
        return "mute"


class LoggedServer(Server):
    """A server that only says what is done to it."""

    events: list[str]

    def pause(self) -> None:
        self.events.append(f"pause {self.data_dir.name}")

    def resume(self) -> None:
        self.events.append(f"resume {self.data_dir.name}")


@dataclass(frozen=True)
class LoggedContender(Contender):
    """A contender without any process."""

    events: list[str]

    @contextmanager
    def running(self, data_dir: Path, *, heap: str, props: Mapping[str, str] | None = None) -> Iterator[Server]:
        server = LoggedServer(NoProcess(), 1, Path(self.name))
        server.events = self.events
        yield server
        self.events.append(f"end {self.name}")


def test_contenders_take_turns_and_only_the_measured_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def warmed(plan: Plan) -> Report:
        events.append(f"warm {plan.seconds:g}")
        return report()

    monkeypatch.setattr(bench_rows, "run", warmed)
    contenders: list[Contender] = [LoggedContender(name, None, None, events) for name in ("java", "pure")]
    settings = Settings(rounds=2, java_warmup_s=12, warmup_s=2)
    it = Bench(contenders, settings, tmp_path, print)
    values = iter([1.0, 2.0, 3.0, 4.0])

    def take(contender: Contender, plan: Plan) -> float:
        events.append(f"measure {contender.name}")
        return next(values)

    assert in_turn(it, "get", 1, 1, take).values == {"java": [1.0, 3.0], "pure": [2.0, 4.0]}
    turn = ["resume java", "measure java", "pause java", "resume pure", "measure pure", "pause pure"]
    warm = ["warm 12", "pause java", "warm 2", "pause pure"]
    assert events == warm + turn + turn + ["end pure", "end java"]


def report(errors: int = 0) -> Report:
    found = {-1: errors} if errors else {}
    return Report(mix="get", connections=1, in_flight=1, data_bytes=1, seconds=1, ops=1, errors=found)


def test_a_round_with_an_error_reply_is_refused() -> None:
    assert checked(report()).ok
    with pytest.raises(BenchFailed, match="ERRORS -1: 3"):
        checked(report(errors=3))


def test_time_of_a_processor_only_grows() -> None:
    before = busy_s(0)
    assert 0 < before <= busy_s(0)
    with pytest.raises(ValueError, match="no processor 4711"):
        busy_s(4711)


def test_first_answer_ignores_connections_that_are_closed_without_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(NoProcess(), listener.getsockname()[1], Path())
        asking: dict[socket.socket, bytes] = {}
        asked = connect_request(10_000)
        bench_servers._ask(server, asked, asking)
        accepted, _ = listener.accept()
        assert accepted.recv(100) == asked
        accepted.close()
        (closed,) = asking
        assert not bench_servers._listen(closed, asking)
        assert asking == {}
        bench_servers._ask(server, asked, asking)
        accepted, _ = listener.accept()
        (open_one,) = asking
        # In two pieces, as TCP may.
        for piece, is_whole in ((b"\0\0\0\x25" + bytes(4) + b"\0\0\x75", False), (b"\x30\1" + bytes(30), True)):
            accepted.sendall(piece)
            assert bench_servers._listen(open_one, asking)
            assert has_session(asking[open_one]) is is_whole
        for sock in (accepted, *asking):
            sock.close()


def test_first_reply_gives_up_with_the_log() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(NoProcess(), listener.getsockname()[1], Path())
        with pytest.raises(ServerFailed, match="no answer:\nmute"):
            bench_servers.first_reply([server], b"anybody?", has_session, 0.05, every_s=0.002)


def test_what_two_rows_show_is_measured_once(tmp_path: Path) -> None:
    it = Bench([], Settings(), tmp_path, print)
    calls: list[Bench] = []

    def measure(bench: Bench) -> Measured:
        calls.append(bench)
        return Measured({"pure": [1.0]})

    assert it.once(measure) is it.once(measure)
    assert calls == [it]


def test_rows_can_be_chosen() -> None:
    assert [part.key for part in bench._chosen("start,observers,get-8x32")] == ["start", "observers", "get-8x32"]
    with pytest.raises(ValueError, match="unknown rows start-up; there are get-8x32"):
        bench._chosen("start-up")


def test_what_fails_does_not_cost_what_comes_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: Exception) -> Part:
        def take(bench: Bench) -> dict[str, object]:
            raise error

        return Part("bad", "a bad one", take)

    results: dict[str, dict[str, object]] = {"rows": {}}
    parts = [fail(BenchFailed("a")), fail(ServerFailed("b")), fail(OSError("c")), Part("good", "", lambda _: {"x": 1})]
    assert bench._measure(Bench([], Settings(), tmp_path, print), parts, results, None)
    assert results["rows"] == {"good": {"x": 1}}
    assert capsys.readouterr().err == "".join(f"  FAILED: {reason}\n" for reason in "abc")
    assert not bench._measure(Bench([], Settings(), tmp_path, print), parts[-1:], results, None)


def test_the_command_is_shown_without_this_machines_directories() -> None:
    parse = bench._parser().parse_args
    assert bench._command(parse([])) == "python tools/bench.py"
    shown = bench._command(parse(["--out", "/x", "--data-root=/y", "--only", "start", "--rounds=5", "--quick"]))
    assert shown == "python tools/bench.py --only start --rounds 5 --quick"
