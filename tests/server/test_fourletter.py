"""The four-letter words: as recorded from Java 3.9.3 (java393/README.txt), and as monitors parse them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coati.server.fourletter import (
    CHUNK_BYTES,
    FULL_VERSION,
    NAMES,
    ConnInfo,
    answer,
    java_date,
    java_double,
    parse_whitelist,
)
from tests.server.kit import frame
from tests.server.views import PlainView

RECORDED = Path(__file__).parent / "java393"
JAVA_VERSION = "3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on 2024-10-17 23:21 UTC"
ALL = parse_whitelist("*", is_read_only_enabled=False)


def java(word: str) -> str:
    """What Java said, as if it had been our version of it."""
    return (RECORDED / f"{word}.txt").read_text().replace(JAVA_VERSION, FULL_VERSION)


def ask(word: str, view: PlainView, mask: int = 0, enabled: frozenset[str] = ALL) -> str:
    return b"".join(answer(word.encode(), enabled, view, mask)).decode()


def info(address: str, interest: int, received: int, sent: int, **more: object) -> ConnInfo:
    made = ConnInfo(address, interest, 0, received, sent)
    for name, value in more.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


Z = 0x100000EDC5A0000
Z2 = Z + 1
Z3 = Z + 2


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The zone of the recording; java_date shows local time, as Java does."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def view() -> PlainView:
    """The server of the recording."""
    made = PlainView()
    made.connected = 4
    made.infos = [
        info(
            "127.0.0.1:53678", 1, 8, 8, session_id=Z, last_op="SETD", established_ms=1795230175280, timeout_ms=10000,
            last_cxid=7, last_zxid=7, last_response_ms=1031076, last_latency_ms=1, average_ms=1, max_ms=5,
        ),
        info("127.0.0.1:45042", 0, 1, 0),
        info(
            "127.0.0.1:45022", 1, 1, 1, session_id=Z3, last_op="SESS", established_ms=1795230175313, timeout_ms=25000,
            last_cxid=0, last_zxid=8, last_response_ms=1031078,
        ),
        info(
            "127.0.0.1:53682", 1, 4, 4, session_id=Z2, last_op="GETD", established_ms=1795230175292, timeout_ms=10000,
            last_cxid=3, last_zxid=6, last_response_ms=1031073, max_ms=1,
        ),
    ]  # fmt: skip
    made.watches = [(Z, [b"/a", b"/nope"]), (Z2, [b"/a"])]
    made.owners = {Z: [b"/a/g", b"/a/e"], Z2: [b"/a/f"]}
    at = 1795230186000  # 03:03:06 on that day
    made.sessions = [(at, Z2), (at, Z), (at + 16000, Z3)]
    made.conn_deadlines = [
        (at + 8000, "127.0.0.1:53678", Z),
        (at + 8000, "127.0.0.1:45056", 0),
        (at + 8000, "127.0.0.1:53682", Z2),
        (at + 18000, "127.0.0.1:45022", Z3),
    ]
    return made


def test_cons_is_java_s(view: PlainView) -> None:
    assert ask("cons", view) == java("cons")


@pytest.mark.usefixtures("utc")
def test_dump_is_java_s(view: PlainView) -> None:
    assert ask("dump", view) == java("dump")


@pytest.mark.parametrize("word", ["wchs", "wchc", "wchp"])
def test_watches_are_java_s(view: PlainView, word: str) -> None:
    assert ask(word, view) == java(word)


def test_empty_tables_are_java_s() -> None:
    """As recorded from a server without any client."""
    assert ask("wchs", PlainView()) == "0 connections watching 0 paths\nTotal watches:0\n"
    assert ask("wchc", PlainView()) == ask("wchp", PlainView()) == ask("cons", PlainView()) == "\n"
    assert ask("hash", PlainView()) == ""
    assert ask("dump", PlainView()) == (
        "SessionTracker dump:\nSession Sets (0)/(0):\nephemeral nodes dump:\nSessions with Ephemerals (0):\n"
        "Connections dump:\nConnections Sets (0)/(0):\n"
    )


def count_recorded(view: PlainView, received: int, sent: int) -> None:
    stats = view.stats
    for latency in (0, 0, 1, 1, 1, 1, 3, 5):
        stats.on_updates(1, latency)
    for replies, latency in ((3, 0), (2, 1)):
        stats.on_reads(replies, latency)
    stats.packets_received, stats.packets_sent = received, sent


def test_srvr_is_java_s(view: PlainView) -> None:
    count_recorded(view, 37, 39)
    assert ask("srvr", view) == java("srvr")


def test_stat_is_java_s(view: PlainView) -> None:
    count_recorded(view, 38, 40)
    view.infos[1].address = "127.0.0.1:45134"
    assert ask("stat", view) == java("stat")


def test_conf_is_java_s(view: PlainView) -> None:
    lines = java("conf").splitlines()
    view.conf = [(key, value) for key, _, value in (line.partition("=") for line in lines)]
    assert ask("conf", view) == java("conf")


def test_envi_is_java_s(view: PlainView) -> None:
    lines = java("envi").splitlines()[1:]
    view.env = [(key, value) for key, _, value in (line.partition("=") for line in lines)]
    assert ask("envi", view) == java("envi")


def test_dirs_and_masks() -> None:
    view = PlainView()
    assert ask("dirs", view) == "datadir_size: 478\nlogdir_size: 67109358\n"
    assert ask("gtmk", view) == "306"
    assert ask("stmk", view, mask=0x102) == "258"
    assert ask("gtmk", view) == "258"
    assert ask("stmk", view, mask=-1) == ask("gtmk", view) == "-1"


def test_words_without_a_newline() -> None:
    view = PlainView()
    assert ask("ruok", view) == "imok"
    assert ask("isro", view) == "rw"
    view.read_only = True
    assert ask("isro", view) == "ro"
    assert "READ-ONLY mode; serving only read-only clients\n" in ask("srvr", view)


def test_hash_shows_signed_digests() -> None:
    """`Long.toHexString(zxid): digest`, where the digest is a signed long."""
    view = PlainView()
    view.digest_log = [(0x80, 7), (0x100, 2**64 - 1)]
    assert ask("hash", view) == "80: 7\n100: -1\n"


def test_resets() -> None:
    view = PlainView()
    view.stats.packets_received = 5
    assert ask("crst", view) == "Connection stats reset.\n"
    assert (view.resets, view.stats.packets_received) == (1, 5)
    assert ask("srst", view) == "Server stats reset.\n"
    assert (view.resets, view.stats.packets_received) == (1, 0)


def test_connection_after_a_reset_is_java_s() -> None:
    """Recorded after crst: no lcxid, a zxid of -1, lop=NA."""
    view = PlainView()
    view.infos = [
        info(
            "127.0.0.1:53678", 1, 0, 0, session_id=Z, established_ms=1795230175280, timeout_ms=10000, last_zxid=-1
        )
    ]  # fmt: skip
    assert ask("cons", view) == (
        " /127.0.0.1:53678[1](queued=0,recved=0,sent=0,sid=0x100000edc5a0000,lop=NA,est=1795230175280,to=10000,"
        "lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)\n\n"
    )


@pytest.mark.parametrize("word", [word.decode() for word in NAMES if word.isalpha()])
def test_answer_while_not_serving(word: str) -> None:
    view = PlainView()
    view.serving = False
    text = "This ZooKeeper instance is not currently serving requests"
    others = {"ruok": "imok", "isro": "null", "gtmk": "306", "stmk": "0", "envi": "Environment:\n", "hash": text}
    assert ask(word, view) == others.get(word, f"{text}\n")


# The whitelist. Source: FourLetterCommands.isEnabled; the texts were recorded.


def test_whitelist_has_srvr_alone_by_default() -> None:
    assert parse_whitelist("", is_read_only_enabled=False) == {"srvr"}
    assert parse_whitelist("", is_read_only_enabled=True) == {"srvr", "isro"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ruok, stat ,,mntr,", {"srvr", "ruok", "stat", "mntr"}),
        ("stat,*,nonsense", {*ALL, "stat"}),
        ("*ruok", {"srvr", "*ruok"}),
        ("STAT", {"srvr", "STAT"}),
    ],
)
def test_whitelist_is_a_list_of_words(text: str, words: set[str]) -> None:
    assert parse_whitelist(text, is_read_only_enabled=False) == words


def test_star_means_all_nineteen() -> None:
    assert len(ALL) == 19
    assert "telnet close" in ALL


@pytest.mark.parametrize("word", ["stat", "ruok", "stmk", "isro"])
def test_word_that_is_not_enabled(word: str) -> None:
    view = PlainView()
    assert ask(word, view, mask=5, enabled=frozenset({"srvr"})) == (
        f"{word} is not executed because it is not in the whitelist.\n"
    )
    assert view.trace_mask == 306


def test_telnet_close_has_java_s_odd_answer_only_when_it_is_not_enabled() -> None:
    view = PlainView()
    assert list(answer(b"\xff\xf4\xff\xfd", ALL, view)) == []
    assert list(answer(b"\xff\xf4\xff\xfd", frozenset({"srvr"}), view)) == [
        b"telnet close is not executed because it is not in the whitelist.\n"
    ]


# mntr.


def recorded_metrics() -> dict[str, str]:
    lines = [line.split("\t") for line in java("mntr").splitlines()]
    # Families per znode name are made by the paths in use: `a_read_per_namespace`.
    return {name: value for name, value in lines if not name.endswith("_per_namespace")}


def test_mntr_has_java_s_names_in_java_s_order() -> None:
    names = [line.split("\t")[0] for line in ask("mntr", PlainView()).splitlines()]
    assert names == list(recorded_metrics())


def test_mntr_has_java_s_values(view: PlainView) -> None:
    """Every figure of the recording that coati counts in the same way, and zero where Java has zero."""
    stats = view.stats
    count_recorded(view, 35, 35)
    for size in (89, 16, 84):
        stats.on_sent(frame(size))
    recorded = recorded_metrics()
    view.gauge_values = {
        name: int(recorded[f"zk_{name}"])
        for name in (
            "ephemerals_count", "num_alive_connections", "znode_count", "global_sessions", "watch_count", "uptime",
            "approximate_data_size", "open_file_descriptor_count", "max_file_descriptor_count",
        )
    }  # fmt: skip
    stats.received_bytes = 587
    stats.count("connection_request_count", 3)
    for value in (0,) * 5 + (1,) * 3:
        stats.observe("sync_process_time", 0 if value == 0 else 1)
    ours = dict(line.split("\t") for line in ask("mntr", view).splitlines())
    skipped = ("prep_", "sync_", "propagation", "proposal_", "request_throttle", "outstanding_changes", "cnt_fsynctime")
    counted_otherwise = ("response_packet", "response_bytes", "connection_token", "updatelatency", "readlatency")
    for name, shown in recorded.items():
        if not any(part in name for part in (*skipped, *counted_otherwise)):
            assert ours[name] == shown, name


@pytest.mark.parametrize(
    ("name", "values"),
    [("updatelatency", (0, 0, 1, 1, 1, 1, 3, 5)), ("readlatency", (0, 0, 0, 1, 1)), ("fsynctime", (0,) * 8)],
)
def test_mntr_summary_is_java_s(name: str, values: tuple[int, ...]) -> None:
    """The lines of one summary, from values with the recorded sum, count, minimum and maximum."""
    view = PlainView()
    for value in values:
        view.stats.observe(name, value)
    ours = dict(line.split("\t") for line in ask("mntr", view).splitlines())
    wanted = {key: value for key, value in recorded_metrics().items() if key.endswith(f"_{name}")}
    assert {key: ours[key] for key in wanted} == wanted


def test_mntr_shows_integers_and_doubles_as_java(view: PlainView) -> None:
    ours = dict(line.split("\t") for line in ask("mntr", view).splitlines())
    for name, value in recorded_metrics().items():
        if name not in ("zk_version", "zk_server_state"):
            assert ("." in value) == ("." in ours[name]), name


# What monitors do with the answers.


def test_version_line_is_parsed_by_zktop() -> None:
    """zktop.py of zktop 1.0.0: the first line of `stat`, then the clients up to an empty line, then figures."""
    lines = iter(ask("stat", PlainView()).splitlines())
    assert re.search(r"^.*: (\d+)\.(\d+)\.(\d+)-.*$", next(lines))
    assert next(lines) == "Clients:"
    rest = list(lines)
    figures = rest[rest.index("") + 1 :]
    assert re.search(r"^Latency min/avg/max: (-?\d+)/(-?[\d.]*)/(-?\d+)$", figures[0])
    assert re.search(r"^Received: (\d+)$", figures[1])
    assert re.search(r"^Sent: (\d+)$", figures[2])


def test_client_lines_are_parsed_by_zktop(view: PlainView) -> None:
    found = re.findall(
        r"^ /(\d+\.\d+\.\d+\.\d+):(\d+)\[(\d+)\]\(queued=(\d+),recved=(\d+),sent=(\d+)", ask("stat", view), re.M
    )
    assert len(found) == 4
    assert found[0] == ("127.0.0.1", "53678", "1", "0", "8", "8")


def test_every_line_of_mntr_is_parsed_by_telegraf(view: PlainView) -> None:
    """inputs/zookeeper: one line that does not match fails the whole gathering, and so would an empty value."""
    for line in ask("mntr", view).splitlines():
        assert re.match(r"^zk_(\w[\w.\-]*)\s+([\w.\-]+)", line), line


def test_stat_is_parsed_by_datadog(view: PlainView) -> None:
    """The positions that its check reads: version, clients until a blank line, then one figure a line."""
    lines = iter(ask("stat", view).splitlines())
    version = re.match(r"Zookeeper version: ([^.]+)\.([^.]+)\.([^-]+)", next(lines), re.I)
    assert version is not None
    assert version.groups() == ("3", "9", "5")
    next(lines)
    clients = 0
    while next(lines).strip():
        clients += 1
    assert clients == 4
    low, average, high = (float(value) for value in next(lines).split(":")[1].strip().split("/"))
    assert (low, average, high) == (0.0, 0.0, 0.0)
    names = [line.split(":")[0] for line in lines]
    assert names == ["Received", "Sent", "Connections", "Outstanding", "Zxid", "Mode", "Node count"]


def test_mntr_is_parsed_by_collectd() -> None:
    """zookeeper.c splits at the tab and reads a number."""
    fields = dict(line.split("\t") for line in ask("mntr", PlainView()).splitlines())
    for name in ("avg_latency", "min_latency", "max_latency", "packets_received", "packets_sent", "znode_count",
                 "outstanding_requests", "num_alive_connections", "watch_count", "ephemerals_count",
                 "approximate_data_size"):  # fmt: skip
        float(fields[f"zk_{name}"])


# Large answers.


def test_large_answers_come_in_bounded_chunks() -> None:
    view = PlainView()
    view.watches = [(n, [b"/watched/by/%d/%d" % (n, k) for k in range(100)]) for n in range(1000)]
    chunks = list(answer(b"wchc", ALL, view))
    assert len(chunks) > 50
    assert max(map(len, chunks)) < CHUNK_BYTES + 100
    assert b"".join(chunks).count(b"\n") == 100_000 + 1000 + 1


def test_large_answer_is_not_made_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    view = PlainView()
    taken = 0

    def endless() -> Iterator[tuple[int, list[bytes]]]:
        nonlocal taken
        while True:
            taken += 1
            yield taken, [b"/path"]

    monkeypatch.setattr(view, "watches_by_session", endless)
    chunks = answer(b"wchc", ALL, view)
    next(chunks)
    assert taken < CHUNK_BYTES


# Java's number and date formats.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"), (1.0, "1.0"), (1.0769, "1.0769"), (0.001, "0.001"), (0.0009, "9.0E-4"), (0.0001, "1.0E-4"),
        (0.00012, "1.2E-4"), (9999999.0, "9999999.0"), (1e7, "1.0E7"), (12345678.5, "1.23456785E7"),
        (-0.0005, "-5.0E-4"), (-1.5, "-1.5"), (3, "3.0"),
    ],
)  # fmt: skip
def test_doubles_are_written_as_by_double_to_string(value: float, text: str) -> None:
    assert java_double(value) == text


def test_dates_are_written_as_by_date_to_string() -> None:
    text = java_date(1795230186000)
    assert re.fullmatch(r"(Fri|Sat|Sun) Nov 2[012] \d\d:\d\d:06 [A-Z0-9+-]+ 2026", text)
