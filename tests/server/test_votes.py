"""The election port: one connection to each server of the view, the newest vote, and strangers."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import cast

import pytest

from coati.server.ports import Lookup
from coati.server.votes import VoteConn
from coati.wire.quorum import HelloReader, Notification, decode_notification, frame_vote
from coati.zab.quorum import Server, View
from tests.server.linkkit import (
    HOST,
    WAIT_S,
    Node,
    Run,
    Stranger,
    hello,
    is_listening,
    make_view,
    nodes,
    quick,
    until,
    vote,
)
from tools.javapeer import free_ports

Said = Callable[[str], int]


class Peer:
    """A server of the view on plain sockets."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.came: asyncio.Queue[Stranger] = asyncio.Queue()
        self._all: list[Stranger] = []

    async def __aenter__(self) -> Peer:
        self._listening = await asyncio.start_server(self._on_client, HOST, self.server.election_port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        await self._listening.wait_closed()
        for stranger in self._all:
            stranger.reset()
        await asyncio.sleep(0)

    def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._all.append(Stranger(reader, writer))
        self.came.put_nowait(self._all[-1])

    def leave_open(self) -> None:
        """Connections outlive the port."""
        self._all.clear()

    async def accept(self) -> tuple[int, Stranger]:
        """Who dialled, and the connection behind its hello."""
        async with asyncio.timeout(WAIT_S):
            stranger = await self.came.get()
            reader = HelloReader()
            while (found := reader.feed(await stranger.reader.readexactly(1))) is None:
                pass
        return found.sid, stranger


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """How many lines of the election port's log have these words in them."""
    caplog.set_level(logging.DEBUG, "coati.server.votes")
    return lambda words: sum(words in record.getMessage() for record in caplog.records)


def hanging(asked: list[str]) -> Lookup:
    """A lookup that never ends, and notes the names."""

    async def lookup(host: str) -> list[str]:
        asked.append(host)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    return lookup


async def read_vote(stranger: Stranger) -> Notification:
    (size,) = struct.unpack(">i", await stranger.read(4))
    return decode_notification(await stranger.read(size))


def both_told(small: Node, large: Node) -> Callable[[], bool]:
    """1 and 2 have each other's vote."""
    return lambda: (2, 2) in small.doors.leaders and (1, 1) in large.doors.leaders


def test_votes_go_both_ways_between_two_servers(run: Run) -> None:
    """The smaller one cannot keep a connection: it says hello and is called back."""

    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, 2) as (small, large):
            small.links.send_vote(2, vote(1))
            await until(lambda: large.doors.leaders == [(1, 1)])
            large.links.send_vote(1, vote(2))
            await until(lambda: small.doors.leaders == [(2, 2)])
            small.links.send_vote(2, vote(2))
            await until(lambda: large.doors.leaders == [(1, 1), (1, 2)])
            assert small.links.has_delivered()
            assert small.doors.failures == large.doors.failures == []

    run(scene())


def test_both_servers_dial_at_once(run: Run) -> None:
    """Ten times over, each side gets what the other sent last."""

    async def scene() -> None:
        for _ in range(10):
            async with nodes(make_view(1, 2), 1, 2) as (small, large):
                small.links.send_vote(2, vote(1))
                large.links.send_vote(1, vote(2))
                await until(both_told(small, large))

    run(scene())


def test_only_the_newest_vote_waits_for_a_server_that_is_down(run: Run, said: Said) -> None:
    """ZOOKEEPER-1514 and its kin: old votes that arrive late unsettle a round."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 2) as (node,):
            for round_ in range(5):
                node.links.send_vote(1, vote(2, round_))
            await until(lambda: said("cannot reach") > 0)
            assert not node.links.has_delivered()
            async with Peer(view.servers[1]) as peer:
                node.links.reconnect()
                sid, stranger = await peer.accept()
                assert sid == 2
                assert (await read_vote(stranger)).round == 4
                stranger.reset()

    run(scene())


def test_a_port_that_nobody_listens_on_is_told_with_each_vote(run: Run) -> None:
    """An election does not wait for a server that has crashed; the next attempt to reach it may be seconds off."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 2) as (node,):
            node.links.send_vote(1, vote(2))
            await until(lambda: node.doors.refused == [1])
            node.links.send_vote(1, vote(2, 2))
            await until(lambda: node.doors.refused[1:2] == [1])
            async with Peer(view.servers[1]) as peer:
                node.links.reconnect()
                _, stranger = await peer.accept()
                assert (await read_vote(stranger)).round == 2
                told = len(node.doors.refused)
                node.links.send_vote(1, vote(2, 3))
                assert (await read_vote(stranger)).round == 3
                assert len(node.doors.refused) == told
                stranger.reset()

    run(scene())


def test_a_server_that_comes_up_late_is_found_without_another_vote(run: Run, said: Said) -> None:
    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 2) as (node,):
            node.links.send_vote(1, vote(2))
            await until(lambda: said("cannot reach") > 1)
            async with Peer(view.servers[1]) as peer:
                _, stranger = await peer.accept()
                assert (await read_vote(stranger)).leader == 2
                stranger.reset()

    run(scene())


def test_a_new_connection_begins_with_the_last_vote(run: Run) -> None:
    """ZOOKEEPER-1419: what went into the connection that was replaced may be lost."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 1) as (node,):
            first = await Stranger.at(view.servers[1].election_port)
            first.send(hello(2))
            node.links.send_vote(2, vote(1, 7))
            assert (await read_vote(first)).round == 7
            second = await Stranger.at(view.servers[1].election_port)
            second.send(hello(2) + frame_vote(vote(2)))
            assert (await read_vote(second)).round == 7
            assert await first.read_to_end() == b""
            await until(lambda: node.doors.leaders == [(2, 2)])
            second.reset()

    run(scene())


def test_a_lost_connection_is_dialled_again_for_a_vote(run: Run, said: Said) -> None:
    def has_said(times: int) -> bool:
        return said("lost sid=1") == times

    async def scene() -> None:
        view = make_view(1, 2)
        async with Peer(view.servers[1]) as peer, nodes(view, 2) as (node,):
            for round_ in (1, 2):
                node.links.send_vote(1, vote(2, round_))
                _, stranger = await peer.accept()
                assert (await read_vote(stranger)).round == round_
                stranger.reset()
                await until(partial(has_said, round_))

    run(scene())


def test_a_server_that_dies_is_found_out_without_a_vote(run: Run) -> None:
    """What was sent last went into the broken connection, and the election waits for an answer to it."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 2) as (node,):
            async with Peer(view.servers[1]) as peer:
                node.links.send_vote(1, vote(2))
                _, stranger = await peer.accept()
                assert (await read_vote(stranger)).round == 1
                node.doors.refused.clear()
            stranger.reset()
            await until(lambda: node.doors.refused == [1])

    run(scene())


def test_a_port_that_is_closed_says_nothing_more(run: Run, said: Said) -> None:
    """The reason why the server ends was not the last word in its log."""

    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, 2) as (small, large):
            large.links.send_vote(1, vote(2))
            await until(lambda: small.doors.leaders == [(2, 2)])
            small.links.stop()
            await until(lambda: said("lost sid=1") == 1)
        assert said("lost sid=2") == 0

    run(scene())


def test_a_server_that_does_not_read_gets_the_newest_vote(run: Run, said: Said) -> None:
    """ZOOKEEPER-2201, 3574: it costs no memory but that of one vote, and nobody else waits."""

    async def scene() -> None:
        view = make_view(1, 2, 3)
        async with nodes(view, 1) as (node,):
            lazy = socket.socket()
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect((HOST, view.servers[1].election_port))
            lazy.sendall(hello(2))
            await until(lambda: said("stands sid=2") == 1)
            text = bytes(400_000)
            for round_ in range(100):
                node.links.send_vote(2, vote(1, round_, text))
            assert not node.links.has_delivered()
            other = await Stranger.at(view.servers[1].election_port)
            other.send(hello(3))
            node.links.send_vote(3, vote(1))
            await read_vote(other)
            other.reset()
            lazy.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=lazy)
            slow = Stranger(reader, writer)
            rounds: list[int] = []
            while not rounds or rounds[-1] != 99:
                rounds.append((await read_vote(slow)).round)
            assert len(rounds) < 50
            slow.reset()

    run(scene())


# Strangers. Numbers are rows of section 4.4.

BAD_HELLOS = {
    "37 version 0 is the sid 0 of 3.4": struct.pack(">q", 0),
    "37 version 5 is the sid 5 of 3.4": struct.pack(">q", 5),
    "37 version -1": hello(2, version=-1),
    "37 version -65534": hello(2, version=-65534),
    "37 sid -1": hello(-1),
    "37 own sid": hello(1),
    "37 unknown sid": hello(99),
    "37 an observer without a sid": hello(2**63 - 1),
    "38 length -1": hello(2, length=-1),
    "38 length 0": hello(2, length=0),
    "38 length 2049": hello(2, b"a" * 2049),
    "38 length of an int": hello(2, length=2**31 - 1),
    "38 address without a port": hello(2, b"nowhere.invalid"),
    "38 port 99999": hello(2, b"nowhere.invalid:99999"),
    "38 not UTF-8": hello(2, b"\xff\xfe:1"),
    "39 message of length -1": hello(2) + struct.pack(">i", -1),
    "39 empty message": hello(2) + struct.pack(">i", 0),
    "39 message above 512 KiB": hello(2) + struct.pack(">i", (512 << 10) + 1),
    "39 27 bytes": hello(2) + struct.pack(">i", 27) + bytes(27),
    "39 state 7": hello(2) + struct.pack(">i", 28) + struct.pack(">iqqq", 7, 1, 1, 1),
    "39 configuration of -1 bytes": hello(2) + struct.pack(">iiqqqqii", 44, 0, 1, 1, 1, 1, 2, -1),
    "39 configuration not UTF-8": hello(2) + struct.pack(">iiqqqqii", 46, 0, 1, 1, 1, 1, 2, 2) + b"\xc3\x28",
    "49 HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "49 zeros": bytes(1 << 16),
    "49 TLS": bytes.fromhex("16030100c8010000c40303") + bytes(64),
}


@pytest.mark.parametrize("data", BAD_HELLOS.values(), ids=BAD_HELLOS.keys())
def test_a_bad_message_costs_its_own_connection_only(run: Run, said: Said, data: bytes) -> None:
    """ZOOKEEPER-3769, 4787: such bytes once left a server deaf. No name is looked up for them."""
    asked: list[str] = []

    async def lookup(host: str) -> list[str]:
        asked.append(host)
        return []

    async def scene() -> None:
        view = make_view(1, 2, 3)
        async with nodes(view, 1, lookup=lookup) as (node,):
            good = await Stranger.at(view.servers[1].election_port)
            good.send(hello(3))
            await until(lambda: said("stands sid=3") == 1)
            bad = await Stranger.at(view.servers[1].election_port)
            bad.send(data)
            assert await bad.read_to_end() == b""
            good.send(frame_vote(vote(3)))
            await until(lambda: node.doors.leaders == [(3, 3)])
            good.reset()
        assert asked == []

    run(scene())


@pytest.mark.parametrize(
    "address",
    [b"attacker.invalid:1", b"0.0.0.0:1", b"|".join([b"a.invalid:1"] * 170), b"[fe80::1]:1", b"a" * 2000 + b":1"],
    ids=["name", "wildcard", "many", "link-local", "long"],
)
def test_a_hello_is_answered_at_the_address_of_the_view(run: Run, address: bytes) -> None:
    """Row 38: whoever pretends to be a smaller server makes us dial that server, and nobody else."""
    asked: list[str] = []

    async def lookup(host: str) -> list[str]:
        asked.append(host)
        return []

    async def scene() -> None:
        view = make_view(1, 2)
        async with Peer(view.servers[1]) as peer, nodes(view, 2, lookup=lookup) as (node,):
            node.links.send_vote(1, vote(2))
            _, standing = await peer.accept()
            await read_vote(standing)
            liar = await Stranger.at(view.servers[2].election_port)
            liar.send(hello(1, address, version=-65535 if b"|" in address else -65536))
            assert await liar.read_to_end() == b""
            sid, again = await peer.accept()
            assert sid == 2
            # The connection that stood stays until the other one does.
            assert await standing.read_to_end() == b""
            again.send(frame_vote(vote(1)))
            await until(lambda: node.doors.leaders == [(1, 1)])
            again.reset()
        assert asked == []

    run(scene())


def test_a_liar_cannot_cut_the_connection_of_a_smaller_server(run: Run, said: Said) -> None:
    """Java closes what stands before it dials; if the server cannot be dialled just now, votes would be lost."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 2) as (node,):
            async with Peer(view.servers[1]) as peer:
                node.links.send_vote(1, vote(2))
                _, standing = await peer.accept()
                await read_vote(standing)
                peer.leave_open()
            liar = await Stranger.at(view.servers[2].election_port)
            liar.send(hello(1))
            assert await liar.read_to_end() == b""
            await until(lambda: said("cannot reach") == 1)
            standing.send(frame_vote(vote(1)))
            await until(lambda: node.doors.leaders == [(1, 1)])
            standing.reset()

    run(scene())


def test_an_observer_of_the_view_gets_in(run: Run) -> None:
    async def scene() -> None:
        view = make_view(1, 2, 5, observers=[5])
        async with nodes(view, 1) as (node,):
            observer = await Stranger.at(view.servers[1].election_port)
            observer.send(struct.pack(">q", 5) + frame_vote(vote(5)))
            await until(lambda: node.doors.leaders == [(5, 5)])
            observer.reset()

    run(scene())


def test_strangers_without_a_word_do_not_keep_servers_out(run: Run) -> None:
    """Row 41: the oldest goes when there are too many, all go in time, and halves of a hello are no word."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 1, limits=quick(strangers=8, hello_ms=300)) as (node,):
            port = view.servers[1].election_port
            silent = [await Stranger.at(port) for _ in range(100)]
            for one in silent:
                one.send(hello(2)[:9])
            silent[50].reset()
            good = await Stranger.at(port)
            good.send(hello(2) + frame_vote(vote(2)))
            await until(lambda: node.doors.leaders == [(2, 2)])
            for one in silent:
                assert await one.read_to_end() == b""
            good.reset()

    run(scene())


def test_ten_thousand_votes_in_a_row_are_one_a_read(run: Run) -> None:
    """Row 40: only the newest is what a server means; nothing piles up."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 1) as (node,):
            noisy = await Stranger.at(view.servers[1].election_port)
            noisy.send(hello(2) + b"".join(frame_vote(vote(2, round_)) for round_ in range(10_000)))
            await until(lambda: bool(node.doors.votes) and node.doors.votes[-1][1].round == 9_999)
            assert len(node.doors.votes) < 1000
            noisy.reset()

    run(scene())


def test_votes_for_nobody_of_the_view_are_dropped(run: Run) -> None:
    async def scene() -> None:
        async with nodes(make_view(1, 2), 1) as (node,):
            node.links.send_vote(1, vote(1))
            node.links.send_vote(9, vote(1))
            assert not node.links.has_delivered()
            node.links.reconnect()
            # Nothing is kept of them, and so nobody is dialled.
            assert not node.links.election._peers

    run(scene())


def test_who_leaves_the_view_loses_its_connection(run: Run, said: Said) -> None:
    asked: list[str] = []

    async def scene() -> None:
        view = make_view(1, 2, 3, hosts=["hangs.example", HOST, HOST])
        smaller = View.build([view.servers[1], view.servers[2]], {}, {})
        async with nodes(view, 2, limits=quick(connect_ms=600_000), lookup=hanging(asked)) as (node,):
            port = view.servers[2].election_port
            gone = await Stranger.at(port)
            gone.send(hello(3))
            await until(lambda: said("stands sid=3") == 1)
            node.links.send_vote(1, vote(2))
            node.links.set_view(smaller)
            assert await gone.read_to_end() == b""
            await until(lambda: asked == ["hangs.example"])
            tasks = len(asyncio.all_tasks())
            node.links.set_view(View.build([view.servers[2]], {}, {}))
            await until(lambda: len(asyncio.all_tasks()) == tasks - 1)
            again = await Stranger.at(port)
            again.send(hello(3))
            assert await again.read_to_end() == b""

    run(scene())


# Names, ports that are taken, servers that are away.


@pytest.mark.parametrize("sid", [1, 3])
def test_who_is_not_in_the_view_may_ask_where_members_may_change(run: Run, sid: int, said: Said) -> None:
    """A joiner: a smaller sid is called back where it says it listens, as in Java."""

    async def scene() -> None:
        async with nodes(make_view(2), 2, limits=quick(is_dynamic=True)) as (node,):
            (port,) = free_ports(1)
            async with Peer(Server(sid, HOST, 1, port)) as joiner:
                stranger = await Stranger.at(node.links.election_port)
                stranger.send(hello(sid, b"%s:%d" % (HOST.encode(), port)))
                if sid == 1:
                    assert await stranger.read_to_end() == b""
                    _, stranger = await joiner.accept()
                stranger.send(frame_vote(vote(sid)))
                await until(lambda: node.doors.leaders == [(sid, sid)])
                node.links.send_vote(sid, vote(2))
                assert (await read_vote(stranger)).leader == 2
                if sid == 1:
                    # It joins where it is: nothing is cut.
                    node.links.set_view(View.build([*make_view(2).servers.values(), joiner.server], {}, {}))
                    node.links.send_vote(sid, vote(3))
                    assert (await read_vote(stranger)).leader == 3
                else:
                    stranger.reset()
                    await until(lambda: said("election connection lost") == 1)
                    node.links.send_vote(sid, vote(3))
                    assert not node.links.has_delivered()

    run(scene())


def test_who_is_not_in_the_view_and_does_not_answer_is_forgotten(run: Run, said: Said) -> None:
    async def scene() -> None:
        async with nodes(make_view(2), 2, limits=quick(is_dynamic=True, strangers=1)) as (node,):
            (port,) = free_ports(1)
            strangers: list[Stranger] = []
            for data, words in (
                (hello(1, b"%s:%d" % (HOST.encode(), port)), "cannot reach election port"),
                # Nobody knows where it is: before 3.5.
                (struct.pack(">q", 1), "sid=1 reason=not in the view"),
                (hello(5, b"h:1"), "election connection stands sid=5"),
                # No more than so many.
                (hello(6, b"h:1"), "sid=6 reason=not in the view"),
            ):
                stranger = await Stranger.at(node.links.election_port)
                stranger.send(data)
                strangers.append(stranger)
                await until(lambda words=words: said(words) == 1)  # type: ignore[misc]  # bound at once
            for stranger in strangers:
                stranger.reset()

    run(scene())


def test_a_name_is_looked_up_again_for_each_attempt(run: Run) -> None:
    """ZOOKEEPER-2982, 3084: a server that comes back under another address, or whose name was unknown, is found."""
    asked: list[str] = []

    async def lookup(host: str) -> list[str]:
        asked.append(host)
        if len(asked) == 1:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return ["127.9.9.9", HOST] if len(asked) > 2 else []

    async def scene() -> None:
        view = make_view(1, 2, hosts=["one.example", HOST])
        async with Peer(view.servers[1]) as peer, nodes(view, 2, lookup=lookup) as (node,):
            node.links.send_vote(1, vote(2))
            _, stranger = await peer.accept()
            assert (await read_vote(stranger)).leader == 2
            stranger.reset()
        assert asked == ["one.example"] * 3

    run(scene())


def test_a_name_that_hangs_keeps_nobody_else_waiting(run: Run, said: Said) -> None:
    """ZOOKEEPER-2164, 3756: servers are dialled side by side, and one lookup of a name is enough."""
    asked: list[str] = []

    async def scene() -> None:
        view = make_view(1, 2, 3, hosts=["hangs.example", HOST, HOST])
        limits = quick(connect_ms=200)
        async with Peer(view.servers[2]) as peer, nodes(view, 3, limits=limits, lookup=hanging(asked)) as (node,):
            node.links.send_vote(1, vote(3))
            node.links.send_vote(2, vote(3))
            _, stranger = await peer.accept()
            await read_vote(stranger)
            await until(lambda: said("cannot reach") > 1)
            link = node.links.dial(1)
            await until(lambda: node.doors.undialled == [1])
            assert link not in node.doors.standing
            stranger.reset()
        assert asked == ["hangs.example"]

    run(scene())


def test_the_first_address_may_be_a_black_hole(run: Run) -> None:
    """ZOOKEEPER-3756: 192.0.2.1 is nobody's; the other address gets its part of the time."""

    async def lookup(host: str) -> list[str]:
        return ["192.0.2.1", HOST]

    async def scene() -> None:
        view = make_view(1, 2, hosts=["two.example", HOST])
        limits = quick(connect_ms=400)
        async with Peer(view.servers[1]) as peer, nodes(view, 2, limits=limits, lookup=lookup) as (node,):
            node.links.send_vote(1, vote(2))
            _, stranger = await peer.accept()
            await read_vote(stranger)
            stranger.reset()

    run(scene())


def test_an_own_name_that_does_not_resolve_is_tried_for_ever(run: Run) -> None:
    """ZOOKEEPER-3320, 3991."""
    asked: list[str] = []

    async def lookup(host: str) -> list[str]:
        asked.append(host)
        if len(asked) < 10:
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        return [HOST]

    async def scene() -> None:
        async with nodes(make_view(1, hosts=["me.example"]), 1, limits=quick(bind_retries=3), lookup=lookup) as (node,):
            assert node.doors.failures == []
        assert len(asked) >= 10

    run(scene())


def test_a_busy_port_is_tried_again(run: Run) -> None:
    async def scene() -> None:
        view = make_view(1)
        with socket.create_server((HOST, view.servers[1].election_port)):
            node = Node(1, view, quick(bind_retries=0))
            await until(lambda: node.links.election.acceptor.failures > 5)
        await until(lambda: is_listening(node.links.election.acceptor))
        assert node.doors.failures == []
        node.links.stop()

    run(scene())


def test_a_busy_port_ends_it_when_it_was_tried_often_enough(run: Run) -> None:
    """electionPortBindRetry."""

    async def scene() -> None:
        view = make_view(1)
        port = view.servers[1].election_port
        with socket.create_server((HOST, port)):
            node = Node(1, view, quick(bind_retries=3))
            await until(lambda: node.doors.failures != [])
            assert node.doors.failures == [f"cannot listen on {HOST}:{port}: Address already in use"]
            assert node.links.election.acceptor.failures == 3
            node.links.stop()

    run(scene())


def test_listening_on_all_addresses(run: Run) -> None:
    async def scene() -> None:
        view = make_view(1, 2, hosts=["nobody.invalid", HOST])
        async with nodes(view, 1, limits=quick(listens_on_all=True, is_kept_alive=True)) as (node,):
            stranger = await Stranger.at(view.servers[1].election_port)
            stranger.send(hello(2) + frame_vote(vote(2)))
            await until(lambda: node.doors.leaders == [(2, 2)])
            stranger.reset()

    run(scene())


def test_a_thousand_failed_dials_leave_nothing(run: Run) -> None:
    """ZOOKEEPER-4736, 3112, 3706: descriptors and tasks are as many as before."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 2) as (node,):
            node.links.dial(1)
            await until(lambda: len(node.doors.undialled) == 1)
            with socket.socket() as probe:
                lowest = probe.fileno()
            for _ in range(1000):
                link = node.links.dial(1)
                if link % 10 == 0:
                    node.links.close(link)
            await until(lambda: len(node.doors.undialled) == 901)
            await until(lambda: len(asyncio.all_tasks()) == 1)
            with socket.socket() as probe:
                assert probe.fileno() == lowest
            assert node.doors.standing == node.doors.lost == []

    run(scene())


def test_a_vote_that_waits_for_a_lost_connection_goes_into_the_next(run: Run) -> None:
    """ZOOKEEPER-1419: also one that is sent between the end of a connection and the news of it."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with Peer(view.servers[1]) as peer, nodes(view, 2) as (node,):
            node.links.send_vote(1, vote(2, 1))
            _, first = await peer.accept()
            await read_vote(first)
            first.stop_reading()
            for round_ in range(100):
                node.links.send_vote(1, vote(2, round_, bytes(400_000)))
            node.links.reconnect()  # nothing to do: it stands
            first.reset()
            _, second = await peer.accept()
            assert (await read_vote(second)).round == 99
            conn = next(iter(node.links.election._open))
            conn.abort()
            node.links.send_vote(1, vote(2, 100))
            conn.data_received(b"late")
            _, third = await peer.accept()
            assert (await read_vote(third)).round == 100
            third.reset()

    run(scene())


def test_a_hello_while_its_sender_is_dialled_dials_no_second_time(run: Run) -> None:
    asked: list[str] = []

    async def scene() -> None:
        view = make_view(1, 2, hosts=["hangs.example", HOST])
        async with nodes(view, 2, lookup=hanging(asked)):
            for _ in range(3):
                liar = await Stranger.at(view.servers[2].election_port)
                liar.send(hello(1))
                assert await liar.read_to_end() == b""
            assert asked == ["hangs.example"]

    run(scene())


def test_a_name_of_this_machine_is_found(run: Run) -> None:
    """The system's own resolver."""

    async def scene() -> None:
        view = make_view(1, 2, hosts=["localhost", HOST])
        async with Peer(view.servers[1]) as peer, nodes(view, 2) as (node,):
            node.links.send_vote(1, vote(2))
            _, stranger = await peer.accept()
            await read_vote(stranger)
            stranger.reset()

    run(scene())


class _NoDescriptors:
    """A listening socket whose first accept fails."""

    def __init__(self, real: socket.socket) -> None:
        self.real = real
        self.failed = 0

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self.failed == 0:
            self.failed += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self.real.accept()

    def fileno(self) -> int:
        return self.real.fileno()

    def close(self) -> None:
        self.real.close()


def test_without_descriptors_it_accepts_later(run: Run) -> None:
    """Row 41, 63: who waits is served when there is room, and the listener lives."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 1) as (node,):
            acceptor = node.links.election.acceptor
            real = acceptor._socket
            assert real is not None
            asyncio.get_running_loop().remove_reader(real)
            acceptor._socket = cast(socket.socket, _NoDescriptors(real))
            asyncio.get_running_loop().add_reader(real, acceptor._accept)
            stranger = await Stranger.at(view.servers[1].election_port)
            stranger.send(hello(2) + frame_vote(vote(2)))
            await until(lambda: node.doors.leaders == [(2, 2)])
            stranger.reset()
            # One that is gone before it has a transport is nobody's fault.
            gone = socket.socket()
            gone.close()
            await acceptor._adopt(gone, "gone")

    run(scene())


def test_a_connection_that_stands_after_the_end_is_closed(run: Run) -> None:
    async def scene() -> None:
        view = make_view(1, 2)
        async with Peer(view.servers[1]) as peer:
            async with nodes(view, 2) as (node,):
                pass
            loop = asyncio.get_running_loop()
            await loop.create_connection(
                lambda: VoteConn(node.links.election, "late", 1), HOST, view.servers[1].election_port
            )
            stranger = await peer.came.get()
            assert await stranger.read_to_end() == b""

    run(scene())
