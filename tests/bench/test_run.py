"""Whole runs against a little server: setting up, measuring, failing honestly, cleaning up; filling; the command."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest

from coati.bench import BenchFailed, Plan, Report, Session, fill, remove_tree, run, run_lone
from coati.bench.fill import filled_path
from coati.bench.ring import access_ring
from coati.bench.run import payload
from coati.cli.bench import main
from coati.errors import NodeExists, ProtocolError
from tests.bench.fakeserver import GET, SET, FakeServer, Script, get_reply, reply

DATA = payload(100)


def measure(server: FakeServer, mix: str, connections: int = 2, in_flight: int = 4, **plan: Any) -> Report:
    fields = {"seconds": 0.03, "warmup_seconds": 0.01, "keys": 5} | plan
    hosts = (server.address,)
    return run(Plan(hosts=hosts, mix=mix, connections=connections, in_flight=in_flight, **fields))


@pytest.mark.parametrize("mix", ["get", "set", "create", "mix:30"])
@pytest.mark.parametrize(("connections", "in_flight"), [(2, 4), (1, 1)])
def test_a_run_measures_and_leaves_nothing(mix: str, connections: int, in_flight: int) -> None:
    with FakeServer() as server:
        report = measure(server, mix, connections, in_flight)
        assert report.ok
        assert report.ops == sum(report.ops_by_connection) > 0
        assert 0.03 <= report.seconds < 5
        assert report.latencies_ns == sorted(report.latencies_ns) != []
    assert server.tree == {b"": b""}
    assert server.closed == server.sessions
    assert gc.isenabled()


@pytest.mark.parametrize(("connections", "in_flight"), [(2, 4), (1, 1)])
def test_a_run_tells_where_its_window_begins_and_ends(connections: int, in_flight: int) -> None:
    seen: list[float] = []
    with FakeServer() as server:
        plan = Plan(hosts=(server.address,), mix="get", connections=connections, in_flight=in_flight, seconds=0.03)
        report = run(replace(plan, warmup_seconds=0.01, keys=5), lambda: seen.append(perf_counter()))
    begin_s, end_s = seen
    assert begin_s + report.seconds == pytest.approx(end_s, abs=0.02)


def test_a_run_may_keep_its_znodes() -> None:
    with FakeServer() as server:
        measure(server, "get", keep=True, data_bytes=7)
    assert sorted(len(data) for data in server.tree.values()) == [0, 0, 7, 7, 7, 7, 7]


def test_each_connection_has_exactly_its_requests_in_flight() -> None:
    # Replies wait until eight requests have come: with fewer in flight the run would stand still, with more they show.
    with FakeServer(hold=8) as server:
        report = measure(server, "get", connections=2, in_flight=8)
    assert report.ok
    assert server.most_held == 8


def test_a_spinning_lone_client_measures_too() -> None:
    with FakeServer() as server:
        assert measure(server, "get", 1, 1, spin=True).ok


def test_error_replies_make_a_run_fail() -> None:
    def script(xid: int, op: int, answer: bytes) -> bytes:
        return reply(xid, err=-101) if op == SET and xid % 10 == 0 else answer

    with FakeServer(script) as server:
        report = measure(server, "set")
    assert not report.ok
    assert list(report.errors) == [-101]


@pytest.mark.parametrize(("connections", "in_flight"), [(2, 4), (1, 1)])
def test_a_wrong_xid_ends_a_run_and_still_cleans_up(connections: int, in_flight: int) -> None:
    def script(xid: int, op: int, answer: bytes) -> bytes:
        return get_reply(xid + 1, DATA) if op == GET and xid == 7 else answer

    with FakeServer(script) as server, pytest.raises(ProtocolError, match="xid 8 where 7 was due"):
        measure(server, "get", connections, in_flight)
    assert server.tree == {b"": b""}
    assert gc.isenabled()


def test_hosts_share_the_connections() -> None:
    with FakeServer() as one, FakeServer() as two:
        two.tree = one.tree
        plan = Plan(hosts=(one.address, two.address), connections=4, in_flight=2, seconds=0.03, warmup_seconds=0)
        assert run(plan).ok
        assert two.sessions == 2


def lone(script: Script, seconds: float = 0.0, *, spin: bool = False) -> dict[int, int]:
    with FakeServer(script) as server, Session(server.address) as session:
        server.tree[b"/a"] = DATA
        return dict(run_lone(session, access_ring([b"/a"], DATA, percent=0, window=1), seconds, spin=spin).errors)


@pytest.mark.parametrize("spin", [False, True])
def test_lone_error_reply_is_counted_and_not_waited_on(spin: bool) -> None:
    assert lone(lambda xid, op, answer: reply(xid, err=-102) if op == GET else answer, spin=spin) == {-102: 1}


def test_lone_good_reply_of_the_wrong_size_ends_the_run() -> None:
    with pytest.raises(ProtocolError, match="193 bytes where 192 were due"):
        lone(lambda xid, op, answer: get_reply(xid, DATA + b"!") if op == GET else answer)


def test_lone_get_with_other_data_ends_the_run() -> None:
    with pytest.raises(ProtocolError, match="xid 1 has other data"):
        lone(lambda xid, op, answer: get_reply(xid, b"D" * 100) if op == GET else answer)


def test_lone_run_fails_when_the_server_hangs_up() -> None:
    def hang_up(xid: int, op: int, answer: bytes) -> bytes:
        raise OSError  # which ends the connection

    with FakeServer() as server:
        session = Session(server.address)
        server.script = hang_up
        ring = access_ring([b"/a"], DATA, percent=0, window=1)
        server.tree[b"/a"] = DATA
        with pytest.raises(BenchFailed, match="closed the connection"):
            run_lone(session, ring, 0)
        session.abort()


def test_lone_run_stops_when_told() -> None:
    left = iter([True, True, False])
    with FakeServer() as server, Session(server.address) as session:
        server.tree[b"/a"] = DATA
        ring = access_ring([b"/a"], DATA, percent=0, window=1)
        seen = run_lone(session, ring, 10, between=lambda: next(left))
    assert len(seen.latencies_ns) == len(seen.ended_ns) == 3


def test_lone_run_goes_round_its_ring() -> None:
    with FakeServer() as server, Session(server.address) as session:
        server.tree[b"/a"] = DATA
        ring = access_ring([b"/a"], DATA, percent=0, window=1)
        left = iter(range(ring.size + 1, -1, -1))
        seen = run_lone(session, ring, 10, first_lap=4, between=lambda: next(left) > 0)
    assert (len(seen.latencies_ns), seen.lap, seen.errors) == (ring.size + 2, 5, {})


def test_session_reports_what_the_server_says() -> None:
    with FakeServer() as server, Session(server.address) as session:
        session.create(b"/a", b"/a/b", b"/a/c", b"/a/b/d", data=b"1")
        with pytest.raises(NodeExists):
            session.create(b"/a/e", b"/a/b", b"/a/f")
        assert session.children(b"/a", b"/a/c", b"/a/b") == [b"/a/b", b"/a/c", b"/a/e", b"/a/f", b"/a/b/d"]


def test_session_that_is_refused_or_not_there_fails() -> None:
    with FakeServer(refuse=True) as server, pytest.raises(BenchFailed, match="refused"):
        Session(server.address)
    with pytest.raises(BenchFailed, match=r"^127\.0\.0\.1:1: "):
        Session(("127.0.0.1", 1))


def test_session_notices_a_foreign_reply() -> None:
    with FakeServer(lambda xid, op, answer: reply(xid + 1)) as server:
        session = Session(server.address)
        with pytest.raises(ProtocolError, match="xid 2 where 1 was due"):
            session.create(b"/a")
        session.abort()


@pytest.mark.parametrize(("count", "parents"), [(0, 0), (1, 1), (2500, 3), (10_000, 10)])
def test_fill_makes_exactly_what_was_asked_for(count: int, parents: int) -> None:
    with FakeServer() as server:
        fill([server.address], b"/filled", count, b"xyz")
        below = [path for path in server.tree if path.startswith(b"/filled/")]
        leaves = {path for path in below if server.tree[path] == b"xyz"}
        assert leaves == {filled_path(b"/filled", number) for number in range(count)}
        assert len(below) == count + parents


def test_fill_fails_when_something_is_there_already() -> None:
    with FakeServer() as server:
        server.tree |= {b"/filled": b"", b"/filled/p000000": b""}
        with pytest.raises(NodeExists):
            fill([server.address], b"/filled", 5, b"")
        del server.tree[b"/filled"]
        with pytest.raises(BenchFailed, match=r"-110: 1"):
            fill([server.address], b"/filled", 5, b"")


def test_remove_tree_deletes_children_first() -> None:
    with FakeServer() as server, Session(server.address) as session:
        session.create(b"/a", b"/a/b", b"/a/b/c", b"/a/d", b"/z")
        remove_tree(session, b"/a")
    assert set(server.tree) == {b"", b"/z"}
    assert server.deleted.index(b"/a/b/c") < server.deleted.index(b"/a/b") < server.deleted.index(b"/a")


def command(server: FakeServer, *arguments: str) -> int:
    host, port = server.address
    return main([f"--hosts={host}:{port}", "--seconds=0.02", "--warmup=0", "--keys=3", *arguments])


def test_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer() as server:
        assert command(server, "--json", "--mix=mix:50", "--connections=2", "--in-flight=3", "--size=9") == 0
    fields = json.loads(capsys.readouterr().out)
    assert (fields["mix"], fields["connections"], fields["in_flight"], fields["data_bytes"]) == ("mix:50", 2, 3, 9)
    assert fields["ok"]


def test_command_prints_a_line_and_fails_on_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(lambda xid, op, answer: reply(xid, err=-101) if op == GET else answer) as server:
        assert command(server) == 1
    assert "ERRORS -101: " in capsys.readouterr().out


def test_command_refuses_wrong_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mix=chaos"]) == 2
    assert "unknown mix 'chaos'" in capsys.readouterr().err


def test_command_says_when_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--hosts=127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith("coati bench: 127.0.0.1:1: ")
