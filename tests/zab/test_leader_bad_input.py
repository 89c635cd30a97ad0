"""The leader against learners that must not be believed: each is closed, none is an error of ours (rows 42 to 45)."""

from __future__ import annotations

import random

import pytest

from coati.wire.codes import OP_SYNC
from coati.wire.quorum import (
    ACK,
    ACKEPOCH,
    COMMIT,
    FOLLOWERINFO,
    OBSERVERINFO,
    PING,
    PROPOSAL,
    REQUEST,
    REVALIDATE,
    Packet,
    encode_int,
    encode_learner_info,
    encode_request,
)
from coati.zab.outbox import NOTHING
from tests.zab.leaderkit import TICK_MS, Bench, established, pong, refused, view_of
from tests.zab.learnerkit import z


@pytest.mark.parametrize(
    ("kind", "zxid", "data", "why"),
    [
        (ACK, 0, None, "ACK"),
        (REQUEST, 0, encode_request(1, 1, 1, b""), "REQUEST from server -1, which is new"),
        (PING, 0, None, "PING"),
        (COMMIT, z("2:1"), None, "COMMIT"),
        (ACKEPOCH, z("1:3"), encode_int(1), "ACKEPOCH"),
        (FOLLOWERINFO, z("1:0"), None, "introduced itself with -1 bytes"),
        (FOLLOWERINFO, z("1:0"), bytes(4), "introduced itself with 4 bytes"),
        (OBSERVERINFO, z("1:0"), bytes(8), "introduced itself with 8 bytes"),
        (FOLLOWERINFO, z("1:0"), encode_learner_info(-3, 0), "the sid -3"),
        (FOLLOWERINFO, z("1:0"), encode_learner_info(1, 0), "the sid of its leader"),
        (FOLLOWERINFO, z("1:0"), encode_learner_info(2, 1), "a later configuration"),
        (FOLLOWERINFO, z("1:0"), (2).to_bytes(8, "big") + (0x9999).to_bytes(4, "big"), "before ZooKeeper 3.4"),
        (FOLLOWERINFO, -1, encode_learner_info(2, 0), "has accepted the epoch -1"),
        (FOLLOWERINFO, 0x7FFFFFFF << 32, encode_learner_info(2, 0), "has accepted the epoch 2147483647"),
    ],
)
def test_who_does_not_introduce_itself_is_closed(kind: int, zxid: int, data: bytes | None, why: str) -> None:
    """Row 42 of the bad inputs."""
    bench = Bench()
    link = bench.connect(2)
    bench.say(link, kind, zxid, data)
    refused(bench, link, why)
    assert bench.outbox.accepted_epoch == NOTHING


def test_nobody_pushes_a_live_follower_out() -> None:
    """Row 42: the sid of another. Only one that has been silent for a tick is replaced."""
    bench, two, three = established()
    second = bench.introduce(2)
    refused(bench, second, "connected already")
    bench.tick(TICK_MS)
    assert not bench.is_closed(two)
    second = bench.introduce(2)
    refused(bench, second, "connected already")
    bench.tick(1)
    pong(bench, three)
    second = bench.introduce(2)
    refused(bench, two, "connected again")
    assert bench.said(second) == ["LEADERINFO 2:0"]
    # While one joins there is no silence to be seen.
    third = bench.introduce(2)
    refused(bench, third, "connected already")


def test_a_promise_of_a_later_epoch_is_refused() -> None:
    """Row 43."""
    bench, two, _ = established()
    bench.lose(two)
    two = bench.introduce(2)
    bench.promise(two, 3)
    refused(bench, two, "in the epoch 3")
    two = bench.introduce(2)
    bench.say(two, ACKEPOCH, z("1:3"), b"")
    refused(bench, two, "no number")


@pytest.mark.parametrize("zxid", ["2:2", "3:0", "9:9"])
def test_an_ack_of_what_was_not_proposed_is_refused(zxid: str) -> None:
    """Row 43."""
    bench, two, _ = established()
    bench.propose()
    bench.sync()
    bench.say(two, ACK, z(zxid))
    refused(bench, two, "was not proposed")
    assert bench.delivered == []


def test_an_ack_again_counts_once() -> None:
    """Row 43: nor does it make a quorum with itself."""
    bench, two, _ = established(Bench(view=view_of(5)))
    zxid = bench.propose()
    bench.sync()
    for _ in range(3):
        bench.say(two, ACK, zxid)
        bench.say(two, ACK, z("1:2"))
    assert bench.delivered == []
    assert not bench.is_closed(two)


@pytest.mark.parametrize("zxid", ["2:1", "1:3", "3:0"])
def test_an_ack_before_that_of_newleader_is_refused(zxid: str) -> None:
    """ZOOKEEPER-4685, row 43: it says nothing of the history before it."""
    bench, two, _ = established()
    bench.lose(two)
    bench.propose()
    two = bench.introduce(2)
    bench.promise(two)
    bench.say(two, ACK, z(zxid))
    refused(bench, two, "ACK from server 2, which is syncing")


def test_an_ack_of_newleader_counts_once_the_leader_has_it_too() -> None:
    """ZOOKEEPER-3023, 3911, 4646: before that, and with no quorum, nobody serves."""
    bench = Bench(view=view_of(5))
    two, three = bench.introduce(2), bench.introduce(3)
    bench.disk()
    for link in (two, three):
        bench.promise(link)
    bench.disk()
    bench.ack(two, z("2:0"))
    bench.ack(two, z("2:0"))
    assert not bench.leader.is_established
    bench.say(three, ACK, z("2:1"))
    refused(bench, three, "ACK from server 3")
    assert not bench.leader.is_established
    bench.say(two, ACK, z("2:1"))
    refused(bench, two, "was not proposed")


def test_who_has_no_vote_acknowledges_nothing() -> None:
    """Row 43, and Z13: a follower that nobody knows may say what it wants, an observer has nothing to say."""
    bench, two, _ = established(Bench(view=view_of(5, observers=1)))
    stranger = bench.join(8)
    six = bench.join(6, is_observer=True)
    # As a Java observer does for UPTODATE.
    bench.say(six, ACK, z("2:0"))
    zxid = bench.propose()
    bench.sync()
    bench.ack(two, zxid)
    bench.say(stranger, ACK, zxid)
    assert bench.delivered == []
    assert bench.said(stranger)[-1] == "PROPOSAL 2:1"
    bench.say(six, ACK, zxid)
    refused(bench, six, "observes and acknowledges")
    bench.tick()
    pong(bench, two)
    pong(bench, stranger)
    assert not bench.is_closed(stranger)


@pytest.mark.parametrize(
    ("kind", "data", "why"),
    [
        (REQUEST, b"short", "without a header"),
        (REQUEST, None, "without a header"),
        (REVALIDATE, bytes(11), "names no session"),
        (PING, bytes(13), "13 bytes of touched sessions"),
        (PING, None, "answers a PING that was not sent"),
        (FOLLOWERINFO, encode_learner_info(2, 0), "FOLLOWERINFO from server 2, which is following"),
        (PROPOSAL, b"x", "PROPOSAL"),
    ],
)
def test_a_follower_that_talks_nonsense_is_closed(kind: int, data: bytes | None, why: str) -> None:
    """Rows 44 and 45."""
    bench, two, _ = established()
    bench.say(two, kind, 0, data)
    refused(bench, two, why)
    assert bench.outbox.requests == []


def test_a_link_that_never_was_is_no_matter() -> None:
    bench = Bench()
    bench.leader.on_lost(99, bench.now_ms)
    assert bench.outbox.closes == []


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_a_learner_says_is_an_error_of_the_leader(seed: int) -> None:
    """Rows 42 to 45: links are closed, and the leader goes on."""
    dice = random.Random(seed)
    bench, two, three = established(Bench(view=view_of(5, observers=1)))
    bodies = (None, b"", bytes(9), encode_int(1), encode_learner_info(4, 0), encode_request(1, 2, OP_SYNC, b""))
    for _ in range(1000):
        link = bench.connect(4) if dice.random() < 0.2 else dice.choice(list(bench.peers))
        if link in (two, three):
            continue
        zxid = dice.choice((z("1:0"), z("1:3"), z("2:0"), z("2:1"), -1, dice.getrandbits(63)))
        packet = Packet(dice.randrange(20), zxid, dice.choice(bodies))
        bench.leader.on_packets(link, [packet], bench.now_ms)
        bench.turn()
    assert not bench.is_closed(two)
    bench.sync()
    for link in (two, three):
        bench.ack(link, bench.propose())
    assert bench.leader.is_established
    assert bench.outbox.closes
