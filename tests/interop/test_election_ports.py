"""The ports between servers, spoken with a Java server that elects: coati's side is a script over the real shells."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import pytest

from coati.wire.quorum import (
    FOLLOWERINFO,
    FOLLOWING,
    LEADERINFO,
    LEADING,
    LOOKING,
    Notification,
    Packet,
    decode_learner_info,
    encode_learner_info,
    encode_packet,
)
from coati.zab.quorum import View
from tests.interop.peers import missing
from tests.server.linkkit import Doors, Node, is_listening, make_view, quick, until
from tools.javapeer import JavaServer, why_missing


class Voter(Doors):
    """Votes for one server and for nobody else, whoever asks."""

    def __init__(self, leader: int) -> None:
        super().__init__()
        self.leader = leader
        self.node: Node
        self.states: list[int] = []

    def on_vote(self, sender: int, n: Notification) -> None:
        super().on_vote(sender, n)
        self.states.append(n.state)
        if n.state == LOOKING:
            self.vote(sender, n.round)

    def vote(self, sid: int, round_: int) -> None:
        text = self.node.view.to_text()
        self.node.links.send_vote(sid, Notification(LOOKING, self.leader, 0, round_, 0, text))


def java_member(version: str, sid: int, view: View) -> JavaServer:
    lines = {f"server.{other}": server.to_text() for other, server in view.servers.items()}
    return JavaServer(version, sid=sid, cfg={"tickTime": "500", **lines}, props={"zookeeper.forceSync": "no"})


@pytest.mark.parametrize(
    ("version", "own", "leader"),
    [("3.8.0", 2, 1), ("3.8.0", 1, 2), ("3.9.3", 2, 1), ("3.9.3", 1, 2), ("3.9.3", 2, 2)],
)
def test_a_java_server_elects_with_us(version: str, own: int, leader: int) -> None:
    """With the larger and the smaller sid, as the one that follows and as the one that leads."""
    reason = why_missing(version)
    if reason is not None:
        missing(reason)
    java_sid = 3 - own

    async def scene() -> None:
        view = make_view(1, 2)
        doors = Voter(leader)
        node = doors.node = Node(own, view, quick(first_packet_ms=60_000), doors=doors)
        with contextlib.closing(java_member(version, java_sid, view)) as java:
            # It serves once it has a quorum, which is us.
            java.start(wait=False)
            try:
                await until(lambda: is_listening(node.links.election.acceptor), 60)
                doors.vote(java_sid, 1)
                await until(lambda: (java_sid, leader) in doors.leaders, 60)
                if leader == own:
                    await until_followed(node, doors, java_sid)
                else:
                    await until_led(node, doors, java_sid)
            except TimeoutError:
                raise AssertionError(f"{doors.votes} {java.log()[-4000:]}") from None
            finally:
                node.links.stop()

    asyncio.run(scene())


async def until_led(node: Node, doors: Voter, leader: int) -> None:
    """Java leads, and takes us in as a follower as far as its new epoch."""

    def is_tried(failed: int) -> bool:
        return bool(doors.standing) or len(doors.undialled) > failed

    while not doors.standing:
        # It refuses connections until it has taken its role.
        failed = len(doors.undialled)
        node.links.dial(leader)
        await until(partial(is_tried, failed))
    node.links.send(doors.standing[-1], encode_packet(FOLLOWERINFO, 0, encode_learner_info(node.sid, 0)))
    await until(lambda: bool(doors.packets), 60)
    (_, packet) = doors.packets[0]
    assert (packet.type, packet.zxid, packet.data) == (LEADERINFO, 1 << 32, b"\x00\x01\x00\x00")
    # Asked again, it answers as one that leads.
    doors.vote(leader, 1)
    await until(lambda: LEADING in doors.states, 60)


async def until_followed(node: Node, doors: Voter, follower: int) -> None:
    """Java follows: it comes to the quorum port and says who it is."""
    node.links.set_leading(True)
    await until(lambda: bool(doors.packets), 60)
    packet: Packet = doors.packets[0][1]
    assert packet.type == FOLLOWERINFO
    assert decode_learner_info(packet.data)[0] == follower
    doors.vote(follower, 1)
    await until(lambda: FOLLOWING in doors.states, 60)
