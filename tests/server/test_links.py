"""The quorum port: links that stand and end, packets, raw snapshots, and who is too slow or too loud."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from coati.server import links as links_module
from coati.server.links import Link
from coati.wire.quorum import (
    ACK,
    DIFF,
    FOLLOWERINFO,
    LEADERINFO,
    OBSERVERINFO,
    PING,
    SNAP,
    UPTODATE,
    encode_learner_info,
    encode_packet,
)
from tests.server.linkkit import HOST, Node, Run, Stranger, is_listening, make_view, nodes, quick, until, vote

INTRODUCTION = encode_packet(FOLLOWERINFO, 0, encode_learner_info(2, 0))


def types(node: Node) -> list[int]:
    return [packet.type for _, packet in node.doors.packets]


async def lead(node: Node) -> None:
    node.links.set_leading(True)
    await until(lambda: is_listening(node.links._acceptor))


async def learner(node: Node) -> Stranger:
    """A learner that has said who it is."""
    count = len(node.doors.packets)
    stranger = await Stranger.at(node.links.quorum_port)
    stranger.send(INTRODUCTION)
    await until(lambda: len(node.doors.packets) > count)
    return stranger


def is_refused(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_packets_go_both_ways(run: Run) -> None:
    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, 2) as (follower, leader):
            await lead(leader)
            leader.doors.reply = lambda link, packet: leader.links.send(link, encode_packet(LEADERINFO, 7, b"\0\1\0\0"))
            link = follower.links.dial(2)
            await until(lambda: follower.doors.standing == [link])
            follower.links.send(link, INTRODUCTION)
            await until(lambda: types(follower) == [LEADERINFO])
            assert types(leader) == [FOLLOWERINFO]
            (number, packet) = follower.doors.packets[0]
            assert (number, packet.zxid, packet.data) == (link, 7, b"\0\1\0\0")
            assert follower.links.buffered_bytes(link) == 0
            leader.links.set_leading(False)
            await until(lambda: follower.doors.lost == [link])
            assert leader.doors.lost == []
            assert follower.links.buffered_bytes(link) == 0

    run(scene())


def test_learners_get_in_only_while_it_leads(run: Run) -> None:
    """A learner that comes too early is refused by the kernel, and tries again as Java's does (connectToLeader);
    were it let in and dropped, it would go back to the election."""

    async def scene() -> None:
        view = make_view(1, 2)
        async with nodes(view, 1) as (node,):
            port = view.servers[1].quorum_port
            for _ in range(3):
                assert is_refused(port)
                await lead(node)
                stranger = await learner(node)
                node.links.set_leading(False)
                assert await stranger.read_to_end() == b""
            assert node.doors.lost == []
            assert len(set(node.doors.standing)) == 3

    run(scene())


def test_a_port_that_somebody_else_has_is_got_in_time(run: Run) -> None:
    async def scene() -> None:
        view = make_view(1)
        with socket.create_server((HOST, view.servers[1].quorum_port)):
            node = Node(1, view, quick())
            node.links.set_leading(True)
            await until(lambda: node.links._acceptor.failures > 1)
            assert not is_listening(node.links._acceptor)
        await until(lambda: is_listening(node.links._acceptor))
        assert node.doors.failures == []
        node.links.stop()

    run(scene())


def test_a_port_that_was_taken_between_binding_and_listening(run: Run) -> None:
    async def scene() -> None:
        view = make_view(1)
        async with nodes(view, 1) as (node,):
            rival = socket.socket()
            rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            rival.bind((HOST, view.servers[1].quorum_port))
            rival.listen()
            node.links.set_leading(True)
            await until(lambda: node.links._acceptor.failures > 0)
            rival.close()
            await until(lambda: is_listening(node.links._acceptor))

    run(scene())


def test_a_link_that_is_closed_is_not_reported(run: Run) -> None:
    """What was sent before leaves; what comes afterwards is nobody's."""

    async def scene() -> None:
        async with nodes(make_view(1, 2), 1) as (node,):
            await lead(node)
            stranger = await learner(node)
            (link,) = node.doors.standing
            node.links.send(link, encode_packet(UPTODATE, -1))
            node.links.close(link)
            node.links.close(link)
            node.links.send(link, encode_packet(PING, 1))
            node.links.pause(link)
            node.links.resume(link)
            node.links.end_raw(link, b"")
            stranger.send(encode_packet(ACK, 1))
            assert await stranger.read_to_end() == encode_packet(UPTODATE, -1)
            assert types(node) == [FOLLOWERINFO]
            assert node.doors.lost == []

    run(scene())


def test_a_closed_link_whose_peer_does_not_read_is_cut(run: Run) -> None:
    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, limits=quick(connect_ms=100)) as (node,):
            await lead(node)
            stranger = await learner(node)
            stranger.stop_reading()
            (link,) = node.doors.standing
            node.links.send(link, bytes(16 << 20))
            node.links.close(link)
            await until(lambda: not node.links._closing)
            stranger.reset()

    run(scene())


def test_dialling_that_fails_is_reported_unless_it_was_given_up(run: Run) -> None:
    async def scene() -> None:
        async with nodes(make_view(1, 2), 1) as (node,):
            given_up = node.links.dial(2)
            node.links.close(given_up)
            node.links.dial(2)
            node.links.dial(9)
            await until(lambda: sorted(node.doors.undialled) == [2, 9])
            assert node.doors.standing == []

    run(scene())


# Snapshots.


def test_bytes_behind_a_snap_are_raw_until_the_snapshot_ends(run: Run) -> None:
    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, 2) as (follower, leader):
            await lead(leader)
            link = follower.links.dial(2)
            body, behind = bytes(range(256)) * 4000, encode_packet(UPTODATE, -1)

            def on_bytes(raw_link: int) -> None:
                data = follower.doors.raw[raw_link]
                if len(data) >= len(body):
                    follower.links.end_raw(raw_link, data[len(body) :])

            follower.doors.on_bytes = on_bytes
            await until(lambda: follower.doors.standing == [link])
            follower.links.send(link, INTRODUCTION)
            await until(lambda: types(leader) == [FOLLOWERINFO])
            back = leader.doors.standing[0]
            leader.links.send(back, encode_packet(DIFF, 1) + encode_packet(SNAP, 5) + body[:100])
            leader.links.send(back, body[100:] + behind + encode_packet(PING, 9))
            await until(lambda: types(follower) == [DIFF, SNAP, UPTODATE, PING])
            assert follower.doors.raw[link].startswith(body)
            # A second one, whose end is the end of what came, and then nonsense.
            leader.links.send(back, encode_packet(SNAP, 6))
            await until(lambda: types(follower)[-1] == SNAP)
            follower.doors.on_bytes = lambda raw_link: follower.links.end_raw(
                raw_link, struct.pack(">i", 77) + bytes(16)
            )
            leader.links.send(back, b"x")
            await until(lambda: follower.doors.lost == [link])

    run(scene())


def test_a_snapshot_is_streamed_as_fast_as_it_is_taken(run: Run) -> None:
    """ZOOKEEPER-2201, 783: a follower that stalls in its snapshot holds up nothing and costs a bounded buffer."""

    async def scene() -> None:
        async with nodes(make_view(1, 2, 3), 1) as (node,):
            await lead(node)
            stalled = await learner(node)
            stalled.stop_reading()
            (link,) = node.doors.standing
            sent = 0
            while node.links.buffered_bytes(link) <= links_module.HIGH_WATER_BYTES:
                node.links.send(link, bytes(100_000))
                sent += 100_000
            assert node.links.buffered_bytes(link) < 2 * links_module.HIGH_WATER_BYTES
            other = await learner(node)
            node.links.send(node.doors.standing[1], encode_packet(PING, 1))
            assert await other.read(len(encode_packet(PING, 1))) == encode_packet(PING, 1)
            assert node.doors.drained == []
            stalled.go_on_reading()
            taken = 0
            while taken < sent:
                taken += len(await stalled.reader.read(1 << 20))
            await until(lambda: node.doors.drained == [link])
            assert node.links.buffered_bytes(link) <= links_module.LOW_WATER_BYTES
            stalled.reset()
            other.reset()
            await until(lambda: len(node.doors.lost) == 2)

    run(scene())


def test_a_learner_that_takes_nothing_is_cut(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """ZOOKEEPER-3574, 3774: row 61."""

    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, limits=quick(unsent_bytes=4 << 20)) as (node,):
            await lead(node)
            stuck = await learner(node)
            stuck.stop_reading()
            (link,) = node.doors.standing
            for _ in range(40):
                node.links.send(link, bytes(1 << 20))
            node.links.pause(link)
            assert node.doors.lost == []  # not from inside a verb
            await until(lambda: node.doors.lost == [link])
            assert "too many bytes unsent" in caplog.text
            stuck.reset()

    run(scene())


def test_a_link_that_is_paused_reads_nothing(run: Run) -> None:
    async def scene() -> None:
        async with nodes(make_view(1, 2), 1) as (node,):
            await lead(node)
            stranger = await learner(node)
            (link,) = node.doors.standing
            node.links.pause(link)
            stranger.send(encode_packet(ACK, 1, bytes(100)))
            other = await learner(node)
            assert types(node) == [FOLLOWERINFO, FOLLOWERINFO]
            node.links.resume(link)
            await until(lambda: types(node)[-1] == ACK)
            stranger.reset()
            other.reset()

    run(scene())


# Strangers. Numbers are rows of section 4.4.


@pytest.mark.parametrize(
    "data",
    [
        encode_packet(ACK, 1),
        encode_packet(SNAP, 1),
        INTRODUCTION + encode_packet(SNAP, 1),
        encode_packet(FOLLOWERINFO, 0, bytes(1025)),
        struct.pack(">iqi", FOLLOWERINFO, 0, -2),
        struct.pack(">iqi", FOLLOWERINFO, 0, 2**31 - 1),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        bytes(1 << 16),
        INTRODUCTION + struct.pack(">iqi", 77, 0, 0),
    ],
    ids=[
        "42 ACK first",
        "42 SNAP first",
        "a SNAP from a learner",
        "45 first packet too long",
        "length -2",
        "length of an int",
        "49 HTTP",
        "49 zeros",
        "unknown type",
    ],
)
def test_a_bad_packet_costs_its_own_link_only(run: Run, data: bytes) -> None:
    async def scene() -> None:
        async with nodes(make_view(1, 2), 1) as (node,):
            await lead(node)
            good = await learner(node)
            bad = await Stranger.at(node.links.quorum_port)
            bad.send(data)
            assert await bad.read_to_end() == b""
            await until(lambda: node.doors.lost == [node.doors.standing[1]])
            good.send(encode_packet(PING, 1))
            await until(lambda: types(node)[-1] == PING)
            good.reset()

    run(scene())


def test_packets_as_large_as_they_may_be_come_behind_the_first(run: Run) -> None:
    """Row 45: PING with the sessions of a whole server, a request of the largest frame; not a byte more."""

    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, limits=quick(max_data_bytes=500_000)) as (node,):
            await lead(node)
            stranger = await Stranger.at(node.links.quorum_port)
            stranger.send(encode_packet(OBSERVERINFO, 0, encode_learner_info(2, 0)))
            await until(lambda: types(node) == [OBSERVERINFO])
            stranger.send(encode_packet(PING, 1, bytes(500_000)))
            await until(lambda: types(node)[-1] == PING)
            stranger.send(encode_packet(PING, 1, bytes(500_001)))
            assert await stranger.read_to_end() == b""
            assert len(node.doors.packets) == 2

    run(scene())


def test_learners_without_a_word_do_not_keep_others_out(run: Run) -> None:
    """Row 41 on the quorum port: a thousand stalled connections are a few, and those go in time."""

    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, limits=quick(strangers=8, first_packet_ms=300)) as (node,):
            await lead(node)
            silent = [await Stranger.at(node.links.quorum_port) for _ in range(100)]
            for one in silent:
                one.send(INTRODUCTION[:10])
            good = await learner(node)
            for one in silent:
                assert await one.read_to_end() == b""
            await until(lambda: len(node.doors.lost) == 100)
            good.send(encode_packet(PING, 1))
            await until(lambda: types(node)[-1] == PING)
            good.reset()

    run(scene())


def test_a_door_that_closes_a_link_hears_no_more_of_it(run: Run) -> None:
    """What comes in one read is told at once, and answered with a close."""

    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, limits=quick(is_kept_alive=True)) as (node,):
            await lead(node)
            node.doors.reply = lambda link, packet: node.links.close(link)
            stranger = await Stranger.at(node.links.quorum_port)
            stranger.send(INTRODUCTION + encode_packet(ACK, 1))
            await until(lambda: types(node) == [FOLLOWERINFO, ACK])
            stranger.send(encode_packet(ACK, 2))
            assert await stranger.read_to_end() == b""
            assert types(node) == [FOLLOWERINFO, ACK]
            assert node.doors.lost == []

    run(scene())


def test_what_comes_in_while_it_stops_leading_is_closed(run: Run) -> None:
    """Accepted by the kernel before, by us after."""

    async def scene() -> None:
        async with nodes(make_view(1, 2), 1) as (node,):
            await lead(node)
            node.links.set_leading(True)
            late = socket.create_connection((HOST, node.links.quorum_port))
            node.links._acceptor._accept()
            node.links.set_leading(False)
            late.setblocking(False)
            assert await Stranger(*await asyncio.open_connection(sock=late)).read_to_end() == b""
            assert node.doors.standing == []

    run(scene())


def test_a_link_that_is_closed_does_not_say_when_it_is_drained(run: Run) -> None:
    async def scene() -> None:
        async with nodes(make_view(1, 2), 1) as (node,):
            await lead(node)
            slow = await learner(node)
            slow.stop_reading()
            (link,) = node.doors.standing
            node.links.send(link, bytes(16 << 20))
            assert node.links.buffered_bytes(link) > links_module.HIGH_WATER_BYTES
            node.links.close(link)
            slow.go_on_reading()
            assert len(await slow.read_to_end()) == 16 << 20
            assert node.doors.drained == node.doors.lost == []

    run(scene())


def test_a_connection_that_stands_after_it_was_given_up_is_closed(run: Run) -> None:
    """`close` comes between the kernel's yes and the loop's."""

    async def scene() -> None:
        async with nodes(make_view(1, 2), 1, 2) as (follower, leader):
            await lead(leader)
            loop = asyncio.get_running_loop()
            _, late = await loop.create_connection(
                lambda: Link(follower.links, 999, "late", 2), HOST, leader.links.quorum_port
            )
            late.data_received(INTRODUCTION)
            await until(lambda: len(leader.doors.lost) == 1)
            assert (follower.doors.standing, follower.doors.lost, follower.doors.packets) == ([], [], [])

    run(scene())


def test_stopping_leaves_nothing_behind(run: Run) -> None:
    """With a link that lingers, one that is dialled, one just accepted, and a name that is being looked up."""

    async def lookup(host: str) -> list[str]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def scene() -> None:
        view = make_view(1, 2, 3, hosts=[HOST, "hangs.example", HOST])
        async with nodes(view, 1, lookup=lookup) as (node,):
            await lead(node)
            stuck = await learner(node)
            stuck.stop_reading()
            node.links.send(node.doors.standing[0], bytes(16 << 20))
            node.links.close(node.doors.standing[0])
            node.links.dial(2)
            node.links.dial(3)
            node.links.send_vote(2, vote(1))
            socket.create_connection((HOST, node.links.quorum_port)).close()
            socket.create_connection((HOST, node.links.election_port)).close()
            node.links._acceptor._accept()
            node.links.stop()
            stuck.reset()
        assert node.doors.undialled == node.doors.lost == []

    run(scene())


def test_stopping_before_the_own_name_is_known(run: Run) -> None:
    async def lookup(host: str) -> list[str]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def scene() -> None:
        node = Node(1, make_view(1, hosts=["me.example"]), quick(), lookup)
        await asyncio.sleep(0)
        node.links.stop()
        await until(lambda: len(asyncio.all_tasks()) == 1)

    run(scene())
