"""status, top, who, sessions, watches, 4lw, metrics, events, latency: against what words and sessions say."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator

import pytest

from coati.admin.ensemble import Report
from coati.admin.words import Connection, ServerInfo
from coati.cli import exits
from coati.cli.command import Streams
from coati.cli.top import REDRAW, Sample, connection_rows, server_rows
from coati.cli.who import EVENTS
from coati.client.hosts import Host
from tests.cli import kit
from tests.interop import peers, raw
from tests.interop.ensembles import COATI, Ensemble
from tests.interop.peers import Server
from tools.javapeer import four_letter

STATUS_COLUMNS = [
    "server", "role", "zxid", "lag", "epoch", "connections", "latency_avg", "latency_max", "outstanding", "znodes",
    "version", "note",
]  # fmt: skip


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """Three coati servers; the members' lines say nothing of clients' ports."""
    with Ensemble(tmp_path_factory.mktemp("ensemble"), [COATI] * 3) as members:
        members.start(1, 2, 3)
        yield members


@pytest.fixture(scope="module")
def shut() -> Iterator[Server]:
    """Allows no word but srvr, as a server without a whitelist does."""
    with peers.running("coati", cfg={"4lw.commands.whitelist": "srvr"}) as server:
        yield server


def address(ensemble: Ensemble, *sids: int) -> str:
    """The connect string of some members."""
    return ",".join(f"127.0.0.1:{ensemble[sid].port}" for sid in sids)


def objects(done: kit.Done) -> list[dict[str, object]]:
    """What `-o json` or `jsonl` says."""
    assert done.code == exits.DONE, done.err
    return [json.loads(line) for line in done.lines] if done.lines[0] != "[" else json.loads(done.out)


# --- status -------------------------------------------------------------------------------------


def test_status_of_a_server_alone(cli: kit.Cli, server: Server) -> None:
    (row,) = objects(cli("-o", "json", "status"))
    assert list(row) == STATUS_COLUMNS
    said = dict(line.split(": ", 1) for line in four_letter(server.host, server.port, "srvr").splitlines())
    assert (row["server"], row["role"], row["lag"]) == (server.address, said["Mode"], 0)
    assert row["zxid"] == said["Zxid"]
    assert row["znodes"] == int(said["Node count"])
    assert said["Zookeeper version"].startswith(str(row["version"]))
    plain = cli("status")
    assert (plain.code, plain.err) == (exits.DONE, "")
    assert plain.text.startswith(f"{server.address}\tstandalone\t0x")
    head, line = cli("-o", "table", "status").lines
    assert head.split() == [column.upper() for column in STATUS_COLUMNS]
    assert line.split()[:2] == [server.address, "standalone"]


def test_status_of_an_ensemble(ensemble: Ensemble) -> None:
    rows = objects(kit.run("-s", address(ensemble, 1, 2, 3), "-o", "jsonl", "status"))
    assert {row["server"]: row["role"] for row in rows} == {
        f"127.0.0.1:{member.port}": member.mode() for member in ensemble.members.values()
    }
    assert {row["lag"] for row in rows} == {0}
    assert len({row["epoch"] for row in rows}) == 1


def test_status_says_which_members_it_cannot_ask(ensemble: Ensemble) -> None:
    leader = ensemble.leader().sid
    done = kit.run("-s", address(ensemble, leader), "status")
    assert (done.code, len(done.lines)) == (exits.DONE, 1)
    assert len(re.findall(r"server\.\d at 127\.0\.0\.1 is not asked", done.err)) == 2
    follower = next(sid for sid in (1, 2, 3) if sid != leader)
    done = kit.run("-s", address(ensemble, follower), "status", "--only-named")
    assert done.code == exits.CHECK_FAILED
    assert "no leader answers" in done.err
    assert "is not asked" not in done.err


def test_status_shows_a_member_that_is_down(ensemble: Ensemble) -> None:
    done = kit.run("-s", f"{address(ensemble, 1, 2, 3)},127.0.0.1:1", "-o", "jsonl", "status")
    assert done.code == exits.CHECK_FAILED
    last = json.loads(done.lines[-1])
    assert (last["server"], last["role"], last["note"]) == ("127.0.0.1:1", "down", "connection refused")
    assert "not serving: 127.0.0.1:1" in done.err


def test_status_without_any_server() -> None:
    done = kit.run("-s", "127.0.0.1:1", "--timeout", "1", "status")
    assert done.code == exits.CHECK_FAILED
    assert done.lines == ["127.0.0.1:1\tdown" + "\t" * 10 + "connection refused"]
    assert kit.run("-s", "dns-srv://x", "status").code == exits.USAGE


def test_status_needs_no_whitelist(shut: Server) -> None:
    done = kit.run("-s", shut.address, "status")
    assert (done.code, done.err) == (exits.DONE, "")


# --- words --------------------------------------------------------------------------------------


def test_a_word_is_passed_on(cli: kit.Cli, server: Server) -> None:
    assert cli("4lw", "ruok").out == b"imok\n"
    said = json.loads(cli("-o", "json", "4lw", "conf").out)
    assert said == {"server": server.address, "word": "conf", "answer": four_letter(server.host, server.port, "conf")}


def test_a_word_of_several_servers(cli: kit.Cli, server: Server) -> None:
    done = kit.run("-s", f"{server.address},127.0.0.1:1", "4lw", "ruok")
    assert (done.code, done.out) == (exits.DONE, b"imok\n")
    assert f"from {server.address}" in done.err
    assert "127.0.0.1:1: connection refused" in done.err
    assert kit.run("-s", "127.0.0.1:1", "4lw", "ruok").code == exits.NO_CONNECTION


@pytest.mark.parametrize("word", ["stmk", "ls", "srvrs", "r k!"])
def test_what_is_no_word(word: str, shut: Server) -> None:
    assert kit.run("-s", shut.address, "4lw", word).code == exits.USAGE


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["4lw", "cons"], "cons"),
        (["metrics"], "mntr"),
        (["watches"], "wchp"),
        (["watches", "--by", "session"], "wchc"),
        (["sessions"], "dump"),
        (["sessions", "--path", "/"], "dump"),
    ],
)
def test_a_server_that_allows_no_words_says_what_to_set(argv: list[str], line: str, shut: Server) -> None:
    done = kit.run("-s", shut.address, *argv)
    assert (done.code, done.out) == (exits.REFUSED, b"")
    assert f"4lw.commands.whitelist={line}" in done.err


def test_metrics_are_those_of_mntr(cli: kit.Cli, server: Server) -> None:
    rows = objects(cli("-o", "json", "metrics"))
    assert {row["server"] for row in rows} == {server.address}
    shown = {row["metric"]: row["value"] for row in rows}
    monitor = peers.monitor(server)
    assert set(shown) == set(monitor)
    assert shown["max_file_descriptor_count"] == int(monitor["max_file_descriptor_count"])
    assert shown["server_state"] == "standalone"
    some = cli("metrics", "--grep", "^znode_c")
    assert re.fullmatch(rf"{server.address}\tznode_count\t\d+\n", some.text)
    assert cli("metrics", "--grep", "(").code == exits.USAGE


# --- who is there -------------------------------------------------------------------------------


def test_who_knows_owners_watchers_and_those_who_wait(cli: kit.Cli, server: Server, hosts: str) -> None:
    base = hosts[hosts.index("/") :]
    with peers.session(server) as one, peers.session(server) as two:
        assert one.call(raw.CREATE, raw.create(f"{base}/lock"))[0] == 0
        for session, name in ((two, "b-lock-"), (one, "a-lock-")):
            assert session.call(raw.CREATE, raw.create(f"{base}/lock/{name}", name.encode(), flags=3))[0] == 0
        # What is no contender: without a number, or without a session.
        assert one.call(raw.CREATE, raw.create(f"{base}/lock/lease"))[0] == 0
        assert one.call(raw.CREATE, raw.create(f"{base}/lock/old-", flags=2))[0] == 0
        # Its data may not be read.
        closed = [(16, "world", "anyone")]
        assert one.call(raw.CREATE, raw.create(f"{base}/lock/c-", b"secret", closed, flags=3))[0] == 0
        assert two.call(raw.GET_DATA, raw.path_watch(f"{base}/lock", True))[0] == 0
        done = cli("-o", "json", "who", "/lock")
        rows = objects(done)
        # 3.8 shows everybody the Stat.
        is_old = "Zookeeper version: 3.8" in four_letter(server.host, server.port, "srvr")
        assert ("may not be read: c-0000000004" in done.err) is not is_old
        first, second = f"0x{two.session_id:x}", f"0x{one.session_id:x}"
        assert [(row["what"], row["session"], row["path"], row["data"]) for row in rows] == [
            ("holder", first, "/lock/b-lock-0000000000", "b-lock-"),
            ("waits 1", second, "/lock/a-lock-0000000001", "a-lock-"),
            *([("waits 2", second, "/lock/c-0000000004", "")] if is_old else []),
            ("watcher", first, "/lock", None),
        ]
        assert {row["server"] for row in rows} == {server.address}
        assert all(str(row["address"]).startswith("127.0.0.1:") for row in rows)
        (owner,) = objects(cli("-o", "jsonl", "who", "/lock/b-lock-0000000000"))
        assert (owner["what"], owner["session"]) == ("owner", first)
        one.close()
        two.close()
    assert cli("who", "/nowhere").code == exits.MISSING
    assert "nobody watches it" in cli("who", "/lock/lease").err


def test_who_does_without_words(shut: Server) -> None:
    with peers.session(shut) as one:
        assert one.call(raw.CREATE, raw.create("/mine", b"x", flags=1))[0] == 0
        done = kit.run("-s", shut.address, "who", "/mine")
        assert done.code == exits.DONE
        assert done.text.startswith(f"owner\t0x{one.session_id:x}\t\t\t/mine\t")
        assert "4lw.commands.whitelist=wchp" in done.err
        assert "4lw.commands.whitelist=cons" in done.err
        one.close()


def test_sessions_have_addresses_and_ephemerals(cli: kit.Cli, server: Server, hosts: str) -> None:
    base = hosts[hosts.index("/") :]
    with peers.session(server, 21_000) as one:
        assert one.call(raw.CREATE, raw.create(f"{base}/e1", flags=1))[0] == 0
        assert one.call(raw.CREATE, raw.create(f"{base}/e2", flags=1))[0] == 0
        name = f"0x{one.session_id:x}"
        (row,) = (row for row in objects(cli("-o", "json", "sessions")) if row["session"] == name)
        assert (row["timeout_ms"], row["ephemerals"], row["server"]) == (21_000, 2, server.address)
        assert str(row["address"]).startswith("127.0.0.1:")
        assert row["expires"]
        below = objects(cli("-o", "jsonl", "sessions", "--path", "/"))
        assert [(one["session"], one["path"]) for one in below] == [(name, "/e1"), (name, "/e2")]
        (alone,) = cli("sessions", "--path", "/e2").lines
        assert alone.split("\t")[-1] == "/e2"
        one.close()


def test_sessions_of_an_ensemble_have_timeouts_from_followers(ensemble: Ensemble) -> None:
    with ensemble.session(ensemble.leader().sid, 33_000) as one:
        rows = objects(kit.run("-s", address(ensemble, 1, 2, 3), "-o", "jsonl", "sessions"))
        (row,) = (row for row in rows if row["session"] == f"0x{one.session_id:x}")
        assert (row["timeout_ms"], row["ephemerals"]) == (33_000, 0)
        one.close()


@pytest.mark.parametrize("whitelist", ["srvr,wchp", "srvr,wchc"])
def test_either_word_lists_watches(whitelist: str) -> None:
    with peers.running("coati", cfg={"4lw.commands.whitelist": whitelist}) as server, peers.session(server) as one:
        for path in ("/b", "/a", "/a/c"):
            assert one.call(raw.EXISTS, raw.path_watch(path, True))[0] == -101
        name = f"0x{one.session_id:x}"
        assert kit.run("-s", server.address, "watches").lines == [
            f"{path}\t{name}\t{server.address}" for path in ("/a", "/a/c", "/b")
        ]
        assert kit.run("-s", f"{server.address}/a", "watches", "--by", "session").lines == [
            f"{name}\t{path}\t{server.address}" for path in ("/", "/c")
        ]
        assert kit.run("-s", server.address, "watches", "--path", "/a/c").lines == [f"/a/c\t{name}\t{server.address}"]
        one.close()


def test_watches_of_java_are_listed(cli: kit.Cli, server: Server, hosts: str) -> None:
    base = hosts[hosts.index("/") :]
    with peers.session(server) as one:
        assert one.call(raw.GET_DATA, raw.path_watch(base, True))[0] == 0
        (row,) = objects(cli("-o", "json", "watches"))
        assert row == {"path": "/", "session": f"0x{one.session_id:x}", "server": server.address}
        one.close()


# --- what happens -------------------------------------------------------------------------------


def test_top_shows_servers_and_connections(cli: kit.Cli, server: Server) -> None:
    with peers.session(server) as one:
        one.ping()
        done = cli("top", "-i", "0.01", "-n", "2", "--connections", "100")
        assert (done.code, done.err) == (exits.DONE, "")
        blocks = done.text.split("\n\n")
        assert [block.startswith(f"{server.address}\tstandalone\t") for block in blocks[:4]] == [
            True,
            False,
            True,
            False,
        ]
        assert f"0x{one.session_id:x}" in blocks[1]
        rows = objects(cli("-o", "jsonl", "top", "-i", "0.01", "-n", "1"))
        assert rows[0]["role"] == "standalone"
        assert f"0x{one.session_id:x}" in [row.get("session") for row in rows]
        on_screen = cli("top", "-i", "0.01", "-n", "1", is_terminal=True)
        assert on_screen.out.startswith(REDRAW + b"SERVER ")
        one.close()


def test_top_without_words(shut: Server) -> None:
    done = kit.run("-s", shut.address, "top", "-i", "0.01", "-n", "1")
    assert (done.code, len(done.lines)) == (exits.DONE, 2)
    assert "4lw.commands.whitelist=cons" in done.err
    assert kit.run("-s", shut.address, "top", "-i", "0.01", "-n", "1", "--connections", "0").err == ""
    assert kit.run("-s", "127.0.0.1:1", "--timeout", "0.3", "top", "-i", "0.01", "-n", "1").code == exits.CHECK_FAILED
    assert kit.run("-s", shut.address, "top", "-i", "0").code == exits.USAGE


def sample(at: float, info: ServerInfo | None, *connections: Connection, error: str = "") -> Sample:
    """Of one server."""
    return Sample(at, [Report(Host("h", 1), info, connections=list(connections), error=error)])


def test_rates_are_differences() -> None:
    before = sample(10.0, ServerInfo(mode="leader", received=100, zxid=0x100000010), Connection("a:1", received=5))
    busy = Connection("a:1", received=25, session_id=1, last_op="SETD")
    new = Connection("b:1", received=40, session_id=2)
    after = sample(12.0, ServerInfo(mode="leader", received=300, zxid=0x100000014), busy, new, Connection("word:1"))
    assert server_rows(before, after) == [("h:1", "leader", 100.0, 2.0, 0.0, 0.0, 0, 0, "")]
    assert [(row[0], row[3]) for row in connection_rows(before, after)] == [("b:1", 20.0), ("a:1", 10.0)]
    # The server started again in between; it is in another epoch; it does not answer.
    assert server_rows(before, sample(12.0, ServerInfo(mode="leader", zxid=0x100000000)))[0][2:4] == (None, None)
    assert server_rows(before, sample(12.0, ServerInfo(received=200, zxid=0x200000000)))[0][2:4] == (50.0, None)
    assert server_rows(before, sample(12.0, None, error="gone")) == [("h:1", "down", *(None,) * 6, "gone")]
    assert server_rows(sample(1.0, None), after)[0][2:4] == (None, None)


def test_latency_of_words_and_reads(cli: kit.Cli, server: Server) -> None:
    rows = objects(cli("-o", "json", "latency", "-n", "3", "-i", "0"))
    assert [(row["server"], row["kind"], row["n"]) for row in rows] == [
        (server.address, "word", 3), (server.address, "read", 3),
    ]  # fmt: skip
    for row in rows:
        low, middle, high, top = (float(str(row[key])) for key in ("min_ms", "p50_ms", "p99_ms", "max_ms"))
        assert 0 < low <= middle <= high <= top
    done = kit.run("-s", "127.0.0.1:1", "--timeout", "0.5", "latency")
    assert done.code == exits.NO_CONNECTION
    assert done.lines[0] == "127.0.0.1:1\tword\t0\t\t\t\t\tconnection refused"
    assert cli("latency", "-n", "0").code == exits.USAGE
    assert cli("latency", "-n", "2", "-i", "0.001").code == exits.DONE


class Lines(io.BytesIO):
    """Stdout that does something when a line comes."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self._on_line = on_line

    def write(self, data: bytes) -> int:  # type: ignore[override]  # bytes are all that comes
        written = super().write(data)
        self._on_line(data.decode())
        return written


def followed(server: Server, argv: list[str], on_line: Callable[[str], None]) -> tuple[int, list[str]]:
    """`coati events`, and what it said."""
    out, err = Lines(on_line), io.StringIO()
    code = EVENTS.run(["-s", server.address, *argv], Streams(io.BytesIO(), out, err))
    return code, out.getvalue().decode().splitlines()


def test_events_of_a_tree(server: Server, hosts: str) -> None:
    base = hosts[hosts.index("/") :]
    with peers.session(server) as one:

        def write(line: str) -> None:
            if "connected" in line:
                for path in ("/a", "/a/b"):
                    assert one.call(raw.CREATE, raw.create(base + path))[0] == 0
                assert one.call(raw.SET_DATA, raw.set_data(f"{base}/a", b"x"))[0] == 0
                assert one.call(raw.DELETE, raw.path_version(f"{base}/a/b"))[0] == 0

        code, lines = followed(server, ["-o", "jsonl", "--follow", base, "-n", "4"], write)
        one.close()
    assert code == exits.DONE
    first, *rest = map(json.loads, lines)
    assert (first["event"], first["state"]) == ("session", "connected")
    assert first["server"] == server.address
    assert [(event["event"], event["path"]) for event in rest] == [
        ("created", f"{base}/a"), ("created", f"{base}/a/b"), ("changed", f"{base}/a"), ("deleted", f"{base}/a/b"),
    ]  # fmt: skip


def test_events_tell_of_the_session_too() -> None:
    with peers.running("coati", props=peers.QUICK_PROPS) as server:

        def restart(line: str) -> None:
            if line.startswith("session    connected") and not stopped:
                stopped.append(line)
                server.stop()
            elif line.startswith("session    suspended"):
                server.start()
            elif line.startswith("session    connected"):
                with peers.session(server) as one:
                    assert one.call(raw.CREATE, raw.create("/new"))[0] == 0
                    one.close()

        stopped: list[str] = []
        code, lines = followed(server, ["/new", "-n", "1"], restart)
    assert code == exits.DONE
    assert [line.split()[:2] for line in lines] == [
        ["session", "connected"], ["session", "suspended"], ["session", "connected"], ["resync", "/new"],
        ["created", "/new"],
    ]  # fmt: skip


def test_events_end_with_the_session() -> None:
    with peers.running("coati", props=peers.QUICK_PROPS) as server:

        def forget(line: str) -> None:
            if "connected" in line:
                server.stop()
                shutil.rmtree(server.data_dir)
            elif "suspended" in line:
                server.start()
                # So that it has seen as much as the client has, and may answer it.
                with peers.session(server) as one:
                    for number in range(5):
                        assert one.call(raw.CREATE, raw.create(f"/{number}"))[0] == 0
                    one.close()

        code, lines = followed(server, ["/"], forget)
    assert code == exits.NO_CONNECTION
    assert [line.split()[:2] for line in lines] == [
        ["session", "connected"], ["session", "suspended"], ["session", "expired"],
    ]  # fmt: skip


def test_events_want_a_number(shut: Server) -> None:
    assert kit.run("-s", shut.address, "events", "-n", "-1").code == exits.USAGE
