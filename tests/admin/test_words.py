"""Answers of running servers taken apart, and what is damaged refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from coati.admin import words
from coati.admin.ask import ask
from coati.admin.ensemble import parse_member, parse_members
from coati.client.hosts import Host
from tests.interop import peers, raw
from tests.interop.ensembles import COATI, Ensemble
from tests.interop.peers import Server

# The fields of Java's own `srvr`, as a leader of 3.9.3 gives them.
LEADER = """Zookeeper version: 3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on 2024-10-17 23:21 UTC
Latency min/avg/max: 0/2.6/7
Received: 14
Sent: 13
Connections: 3
Outstanding: 1
Zxid: 0x500000004
Mode: leader
Node count: 7
Proposal sizes last/min/max: 48/36/90
"""
READ_ONLY = "Zookeeper version: 3.8.0-x, built on 1\nREAD-ONLY mode; serving only read-only clients\nMode: read-only\n"


def told(server: Server, word: str) -> str:
    """What it answers to a word."""
    return asyncio.run(ask(Host(server.host, server.port), word, timeout_s=20))


def test_a_server_says_who_it_is(server: Server) -> None:
    info = words.parse_srvr(told(server, "srvr"))
    assert info.mode == "standalone"
    assert info.is_serving
    assert info.release in told(server, "envi")
    assert info.node_count == int(peers.monitor(server)["znode_count"])
    assert info.proposal_sizes == ()
    with_clients, clients = words.parse_stat(told(server, "stat"))
    assert with_clients.version == info.version
    assert len(clients) == with_clients.connections
    assert words.parse_ruok(told(server, "ruok"))
    assert words.parse_isro(told(server, "isro")) is False


def test_sessions_their_connections_watches_and_ephemerals(server: Server) -> None:
    with peers.session(server, 20_000) as one, peers.session(server, 30_000) as two:
        assert one.call(raw.CREATE, raw.create("/held\u20ac", flags=1))[0] == 0
        assert two.call(raw.GET_DATA, raw.path_watch("/held\u20ac", True))[0] == 0
        assert two.call(raw.EXISTS, raw.path_watch("/not there", True))[0] == -101
        connections = {found.session_id: found for found in words.parse_cons(told(server, "cons"))}
        assert connections[one.session_id].timeout_ms == 20_000
        assert connections[two.session_id].timeout_ms == 30_000
        assert connections[one.session_id].address.startswith("127.0.0.1:")
        assert connections[one.session_id].last_op == "CREA"
        assert connections[one.session_id].received == 2
        dump = words.parse_dump(told(server, "dump"))
        assert {one.session_id, two.session_id} <= set(dump.sessions)
        assert dump.sessions[one.session_id].expires
        assert dump.ephemerals == {one.session_id: ["/held\u20ac"]}
        by_path = words.parse_wchp(told(server, "wchp"))
        assert by_path == {"/held\u20ac": [two.session_id], "/not there": [two.session_id]}
        by_session = words.parse_wchc(told(server, "wchc"))
        assert {session: sorted(paths) for session, paths in by_session.items()} == {
            two.session_id: ["/held\u20ac", "/not there"]
        }
        assert words.parse_wchs(told(server, "wchs")) == words.WatchCounts(connections=1, paths=2, watches=2)
        one.close()
        two.close()


def test_figures_and_settings(server: Server) -> None:
    figures = words.parse_mntr(told(server, "mntr"))
    assert figures["server_state"] == "standalone"
    assert int(figures["znode_count"]) > 3
    assert len(figures) > 100
    conf = words.parse_conf(told(server, "conf"))
    assert conf.values["clientPort"] == str(server.port)
    assert conf.values["tickTime"] == peers.QUICK_CFG["tickTime"]
    assert conf.members == {}
    assert words.parse_envi(told(server, "envi"))["zookeeper.version"] == figures["version"]


def test_what_is_not_allowed_says_what_to_set(server: Server) -> None:
    with pytest.raises(words.WordRefused, match=r"4lw\.commands\.whitelist=hash"):
        told(server, "hash")


@pytest.mark.interop
def test_members_of_an_ensemble(tmp_path: Path) -> None:
    """Of two empty servers the one with the larger id leads: Java, followed by coati."""
    with Ensemble(tmp_path, [COATI, "3.9.3"]) as ensemble:
        ensemble.start(1, 2)
        leader, follower = ensemble[2].server, ensemble[1].server
        with peers.session(follower, 30_000) as one:
            assert one.call(raw.CREATE, raw.create("/held", flags=1))[0] == 0
            for server in (leader, follower):
                dump = words.parse_dump(told(server, "dump"))
                assert dump.ephemerals == {one.session_id: ["/held"]}
                info = dump.sessions[one.session_id]
                assert (info.timeout_ms == 30_000, bool(info.expires)) == (server is follower, server is leader)
                conf = words.parse_conf(told(server, "conf"))
                assert [member.identity for member in parse_members(conf.members)] == [
                    parse_member(sid, member.quorum_ports).identity for sid, member in ensemble.members.items()
                ]
                assert conf.values["serverId"] == str(1 if server is follower else 2)
            one.close()
        said = words.parse_srvr(told(leader, "srvr"))
        assert (said.mode, said.epoch, len(said.proposal_sizes)) == ("leader", 1, 3)
        assert words.parse_srvr(told(follower, "srvr")).mode == "follower"
        assert words.parse_mntr(told(leader, "mntr"))["synced_followers"] == "1"


def test_a_leader() -> None:
    info = words.parse_srvr(LEADER)
    assert (info.epoch, info.counter, info.mode, info.proposal_sizes) == (5, 4, "leader", (48, 36, 90))
    assert (info.latency_min_ms, info.latency_avg_ms, info.latency_max_ms, info.outstanding) == (0, 2.6, 7, 1)
    assert info.release == "3.9.3"


def test_a_server_that_reads_only_serves_nobody_who_writes() -> None:
    info = words.parse_srvr(READ_ONLY)
    assert (info.is_read_only, info.is_serving) == (True, False)


def test_refusals() -> None:
    with pytest.raises(words.NotServing, match="no quorum"):
        words.checked("srvr", b"This ZooKeeper instance is not currently serving requests\n")
    with pytest.raises(words.BadAnswer, match="no answer"):
        words.checked("abcd", b"")
    assert words.checked("mntr", b"zk_\xff") == "zk_\\xff"
    assert words.parse_isro("null") is None


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (words.parse_srvr, "HTTP/1.1 400 Bad Request\r\n"),
        (words.parse_srvr, LEADER.replace("0x500000004", "soon")),
        (words.parse_srvr, LEADER.replace("0/2.6/7", "0/2.6")),
        (words.parse_srvr, LEADER.partition("Zxid")[0]),
        (words.parse_stat, LEADER.replace("Latency", "Clients:\n nobody\n\nLatency")),
        (words.parse_cons, " /127.0.0.1:1[1](queued=0,recved=1"),
        (words.parse_cons, " /127.0.0.1:1[1](queued=x,recved=1,sent=1)"),
        (words.parse_mntr, "zk_version\t3.9"),
        (words.parse_dump, "SessionTracker dump:\n"),
        (words.parse_dump, "ephemeral nodes dump:\nSessions with Ephemerals (1):\n\t/a\nConnections dump:\n"),
        (words.parse_wchc, "0xnothing\n"),
        (words.parse_wchp, "\t0x1\n"),
        (words.parse_wchp, "/a\n\tnobody\n"),
        (words.parse_wchs, "1 connections"),
        (words.parse_conf, "hello"),
        (words.parse_envi, "hello"),
        (words.parse_ruok, "no"),
        (words.parse_isro, "perhaps"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(words.BadAnswer, match="an answer that is none"):
        parse(text)


def test_a_long_answer_is_not_shown_whole() -> None:
    assert len(str(words.BadAnswer("srvr", "x" * 1000))) < 200
