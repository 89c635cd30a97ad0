"""Members of an ensemble: how they are named, found and compared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from coati.admin import ask as asking
from coati.admin.ask import why
from coati.admin.ensemble import Report, distinct, lag_of, leader_of, parse_member, parse_members, survey, unnamed
from coati.admin.words import BadAnswer, ServerInfo
from coati.client.hosts import Host

SRVR = b"Zookeeper version: 3.9.3-x, built on 1\nZxid: 0x100000001\nMode: follower\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("zk1:2888:3888", ("zk1", 2888, 3888, False, None)),
        ("zk1:2888:3888:Observer", ("zk1", 2888, 3888, True, None)),
        ("zk1:2888:3888:participant;2181", ("zk1", 2888, 3888, False, Host("zk1", 2181))),
        ("zk1:2888:3888;0.0.0.0:2181", ("zk1", 2888, 3888, False, Host("zk1", 2181))),
        ("zk1:2888:3888;[::]:2181", ("zk1", 2888, 3888, False, Host("zk1", 2181))),
        ("zk1:2888:3888;10.0.0.1:2181", ("zk1", 2888, 3888, False, Host("10.0.0.1", 2181))),
        ("[2001:db8::1]:2888:3888", ("2001:db8::1", 2888, 3888, False, None)),
        ("zk1:2888:3888|zk1b:2888:3888;2181", ("zk1", 2888, 3888, False, Host("zk1", 2181))),
    ],
)
def test_a_line_says_where_a_member_is(text: str, found: tuple[str, int, int, bool, Host | None]) -> None:
    member = parse_member(1, text)
    assert (*member.identity, member.client) == found


@pytest.mark.parametrize(
    "text", ["", "zk1", "zk1:2888", "zk1:a:b", "zk1:1:2:leader", "zk1:1:2:observer:x", "zk1:1:2;x:y"]
)
def test_a_line_that_says_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_member(1, text)
    assert [member.sid for member in parse_members({2: "zk2:1:2", 1: text})] == [2]


def test_members_that_nobody_named() -> None:
    members = parse_members([
        (1, "zk1:2888:3888;2181"), (2, "zk2:2888:3888;2181"), (3, "zk3:2888:3888"), (4, "zk4:2888:3888"),
    ])  # fmt: skip
    new, lost = unnamed(members, [Host("zk1", 2181), Host("zk3", 2181)])
    assert (new, [member.sid for member in lost]) == ([Host("zk2", 2181)], [4])


def test_names_of_one_machine_are_one_server() -> None:
    hosts = [Host("127.0.0.1", 1), Host("localhost", 1), Host("localhost", 2), Host("nobody.invalid", 1)]
    found = asyncio.run(distinct(hosts))
    assert Host("localhost", 2) in found
    assert Host("nobody.invalid", 1) in found
    assert found[0] == hosts[0]


def report(zxid: int, mode: str = "follower") -> Report:
    return Report(Host("h", 1), ServerInfo(mode=mode, zxid=zxid))


def test_how_far_a_member_is_behind() -> None:
    leader = report(0x500000010, "leader")
    assert leader_of([report(1), leader]) is leader
    assert leader_of([report(1), Report(Host("h", 1))]) is None
    assert lag_of(report(0x50000000C), leader) == 4
    # It was asked a moment later than the leader.
    assert lag_of(report(0x500000011), leader) == 0
    assert lag_of(report(0x400000010), leader) is None
    assert lag_of(report(0x500000010), None) is None
    assert lag_of(Report(Host("h", 1)), leader) is None


def test_figures_that_are_none() -> None:
    assert Report(Host("h", 1), monitor={"state": "leader"}).number("state") is None
    assert Report(Host("h", 1)).number("state") is None


@asynccontextmanager
async def answering(answers: dict[bytes, bytes]) -> AsyncIterator[Host]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.get(await reader.read(4), b""))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Host("127.0.0.1", server.sockets[0].getsockname()[1])


def surveyed(answers: dict[bytes, bytes], *more: str) -> Report:
    async def run() -> Report:
        async with answering(answers) as host:
            (found,) = await survey([host], timeout_s=10, more=more)
            return found

    return asyncio.run(run())


def test_a_member_that_looks_for_a_leader() -> None:
    found = surveyed({b"srvr": b"This ZooKeeper instance is not currently serving requests\n"})
    assert (found.info, found.is_serving, found.error) == (None, False, "not serving: no quorum, or starting")


def test_a_member_that_answers_in_part() -> None:
    found = surveyed(
        {b"srvr": SRVR, b"cons": b"cons is not executed because it is not in the whitelist.\n", b"mntr": b"nonsense"},
        "cons", "mntr", "conf",
    )  # fmt: skip
    assert (found.is_serving, found.refused) == (True, ["cons"])
    assert found.error.startswith("conf: no answer")


def test_somebody_else_at_that_port() -> None:
    found = surveyed({b"srvr": b"SSH-2.0-OpenSSH"})
    assert "an answer that is none: 'SSH-2.0-OpenSSH'" in found.error


def test_an_answer_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MAX_ANSWER_BYTES", 10)
    assert "more than 10 bytes" in surveyed({b"srvr": bytes(20)}).error


def test_reasons() -> None:
    assert why(TimeoutError()) == "no answer in time"
    assert why(ConnectionRefusedError()) == "connection refused"
    assert why(OSError(113, "No route to host")) == "no route to host"
    assert why(OSError("Several")) == "several"
    assert why(BadAnswer("srvr", "")).startswith("srvr: no answer")
