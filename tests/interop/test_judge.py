"""The lockstep judge: quiet about two equal servers, and not deaf.

A judge that finds nothing proves nothing unless it can find something: here two Java servers of one version agree,
two of different versions do not, and no byte of a recorded conversation can change without being noticed, times
apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop import lockstep, peers, raw
from tests.interop.lockstep import Lockstep, Side, hunt
from tests.interop.sequences import Step

QUIET_SEQUENCES = 60
# One step of each kind that has a reply with a body, and events, in an order that makes them succeed.
TOUR = (
    Step(0, "create", ("/a", b"data", raw.OPEN, 0)),
    Step(0, "create2", ("/a/b", b"x", ((31, "digest", "u:p"), (1, "world", "anyone")), 1)),
    Step(1, "getData", ("/a", True)),
    Step(1, "getChildren2", ("/a", True)),
    Step(1, "getChildren", ("/a", False)),
    Step(1, "getACL", ("/a/b",)),
    Step(1, "whoAmI"),
    Step(1, "addWatch", ("/a", 1)),
    Step(1, "getAllChildrenNumber", ("",)),
    Step(0, "getEphemerals", ("",)),
    Step(0, "multi", (("setData", "/a", b"y", 0), ("create", "/a/c", b"", raw.OPEN, 0), ("check", "/a", 1))),
    Step(0, "multi", (("delete", "/a/c", 0),)),
    Step(0, "multi", (("setData", "/a", b"y", 0), ("delete", "/nope", -1), ("delete", "/a", 7))),
    Step(1, "multiRead", (("getData", "/a", False), ("getChildren", "/a", False), ("getData", "/nope", False))),
    Step(0, "sync", ("/a",)),
    Step(0, "setACL", ("/a", raw.OPEN, 0)),
    Step(0, "exists", ("/a", False)),
    Step(1, "ping"),
)  # fmt: skip


@pytest.fixture(scope="module")
def java() -> Iterator[peers.Server]:
    with peers.running("3.9.3", props=peers.LOCKSTEP_PROPS) as running:
        yield running


@pytest.fixture(scope="module")
def other_java() -> Iterator[peers.Server]:
    with peers.running("3.9.3", props=peers.LOCKSTEP_PROPS) as running:
        yield running


@pytest.fixture(scope="module")
def old_java() -> Iterator[peers.Server]:
    with peers.running("3.8.0", props=peers.LOCKSTEP_PROPS) as running:
        yield running


def test_equal_servers_do_not_differ(java: peers.Server, other_java: peers.Server) -> None:
    assert hunt(Lockstep(java, other_java, "quiet"), range(QUIET_SEQUENCES), 3) == []


def test_different_versions_differ_and_the_sequence_is_shrunk(java: peers.Server, old_java: peers.Server) -> None:
    # Known change between the releases: a notification's header carries the zxid since 3.9 (ZOOKEEPER-4655).
    steps = [Step(0, "ping"), *TOUR, Step(0, "ping")]
    pair = Lockstep(old_java, java, "old")
    difference = pair.run(steps)
    assert difference is not None
    shrunk, again = pair.shrink(steps, difference)
    assert len(shrunk) < len(steps) / 2
    assert again.first() != (None, None)


def test_every_byte_of_a_reply_counts(java: peers.Server) -> None:
    side = Side(java, "/bytes")
    stats = unnoticed = 0
    for turn in lockstep.turns(TOUR):
        side.begin(turn[0].who)
        slot = side.slots[turn[0].who]
        side.send(slot, turn)
        sent = list(slot.pending)
        frames: list[bytes] = []
        while sum(raw.Reader(payload).i32() != raw.XID_EVENT for payload in frames) < len(turn):
            frames.append(slot.session.wire.read_frame())
        want = items(side, slot, frames, sent)
        stats += repr(want).count("'stat'")
        for index, payload in enumerate(frames):
            for offset in range(len(payload)):
                frames[index] = payload[:offset] + bytes([payload[offset] ^ 1]) + payload[offset + 1 :]
                unnoticed += items(side, slot, frames, sent) == want
            frames[index] = payload
    for who in range(2):
        side.finish(who)
    # Only times may move, by what the low bits of the three low bytes of ctime and mtime are worth.
    assert (stats, unnoticed) == (stats, 6 * stats)
    assert stats == 8


def items(side: Side, slot: lockstep.Slot, frames: list[bytes], sent: list[tuple[int, int]]) -> object:
    """What the judge makes of these frames, or why it cannot read them."""
    slot.pending[:] = sent
    try:
        return [side.read(slot, raw.parse(payload)) for payload in frames]
    except (raw.Malformed, UnicodeDecodeError, IndexError) as error:
        return repr(error)
    finally:
        slot.pending.clear()
