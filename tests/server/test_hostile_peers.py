"""Whole servers, and peers that say anything: no packet and no vote ends a server (rows 39 to 46 of the bad inputs)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from random import Random

import pytest

from coati.testing.cluster import ClusterConfig, SimCluster, SimMember
from coati.testing.server import SimClient
from coati.wire import codes, quorum
from coati.wire.quorum import NAMES, SNAP, Notification, Packet
from coati.wire.records import ACL, CreateTxn, Id, TxnHeader
from coati.wire.txns import encode_txn
from tests.server.clusterkit import somebody_leads

SEEDS = 60
STEPS = 60
LONG = 2**63 - 1
ANYONE = [ACL(31, Id("world", "anyone"))]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Much is refused."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Hostile:
    """Says something to a server, on a link that it has or out of nowhere."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice

    def speak(self, member: SimMember) -> None:
        dice = self.dice
        role = member.hub.peer.role
        end = 0 if role is None else role.proposed_zxid
        epoch = end >> 32
        near = (end, end + 1, end + 2, end - 1, 0, -1, epoch << 32, (epoch + 1) << 32, dice.getrandbits(63))
        zxid = dice.choice(near)
        if dice.random() < 0.3:
            vote = Notification(dice.randrange(4), dice.choice((1, 2, 3, 4, 9, -1)), zxid,
                                dice.choice((0, 1, 2, 5, LONG)), dice.choice((0, 1, 2, LONG)), b"x")  # fmt: skip
            member.hub.on_vote(dice.choice((1, 2, 3, 4, 9, -1)), vote)
            return
        link = dice.choice(list(member._ports._ends) or [77])
        packets = [self._packet(zxid)]
        # Nothing comes behind a SNAP but its bytes.
        if dice.random() < 0.3 and packets[0].type != SNAP:
            packets.append(self._packet(zxid + 1))
        member.hub.on_packets(link, packets)
        if dice.random() < 0.1:
            member.hub.on_raw(link, dice.randbytes(dice.randrange(40)))

    def _packet(self, zxid: int) -> Packet:
        auth = [Id("super", "")] if self.dice.random() < 0.1 else None
        return Packet(self.dice.choice(list(NAMES)), zxid, self._data(zxid), auth)

    def _data(self, zxid: int) -> bytes | None:
        dice = self.dice
        header = TxnHeader(1, 1, zxid, 1000, dice.choice((codes.OP_CREATE, codes.OP_CREATE, codes.OP_MULTI, 77)))
        return dice.choice(
            (
                None,
                dice.randbytes(dice.randrange(30)),
                encode_txn(header, CreateTxn(b"/x%d" % dice.randrange(9), b"", ANYONE, False, -1), None),
                quorum.encode_int(dice.choice((0x10000, 1, -1))),
                quorum.encode_learner_info(dice.randrange(5), dice.choice((0, 0, 1, -1))),
                quorum.encode_touched([(dice.getrandbits(63), dice.choice((0, -1, 5000)))]),
                quorum.encode_request(dice.getrandbits(63), 1, dice.choice((1, 5, 9, 14, 16, -10, -11, 99)), bytes(9)),
                quorum.encode_revalidate(dice.getrandbits(63), 5000),
            )
        )


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_nothing_that_a_peer_says_ends_a_server(first: int) -> None:
    for seed in range(first, first + 10):
        dice = Random(seed)
        cluster = SimCluster(ClusterConfig(3, observers=seed % 2, disk_ms=(1, 1 + seed % 8)), dice=Random(seed))
        cluster.start()
        if dice.random() < 0.6:
            cluster.run_until(cluster.all_serve)
        hostile = Hostile(dice)
        clients: list[SimClient] = []
        for _ in range(STEPS):
            member = dice.choice(list(cluster.members.values()))
            if member.is_serving and dice.random() < 0.2:
                clients.append(member.client())
            for client in clients[-3:]:
                if client.session_id and client.is_open:
                    client.create(b"/c%d" % dice.randrange(50), flags=dice.choice((0, 1)))
            if member.is_up:
                hostile.speak(member)
            cluster.run(dice.choice((0, 1, 3, 20, 200)))
        fatal = [error for member in cluster.members.values() for error in member.fatal]
        assert fatal == [], f"seed {seed}"
        cluster.run_until(somebody_leads(cluster))
