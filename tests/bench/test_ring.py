"""Rings: the requests on the wire, and what is and is not an expected reply."""

from __future__ import annotations

import struct

import pytest

from coati.bench import Plan
from coati.bench.ring import LAP_MARK, access_ring, create_ring, data_ring, key_path, ring_size
from tests.bench.fakeserver import get_reply, reply, set_reply

DATA = b"d" * 100
PATHS = [b"/a", b"/bb", b"/ccc"]


def requests(data: bytes) -> list[tuple[int, int, bytes]]:
    """xid, op and body of each request of a stream."""
    found = []
    while data:
        length, xid, op = struct.unpack_from(">iii", data)
        found.append((xid, op, data[12 : 4 + length]))
        data = data[4 + length :]
    return found


def test_get_requests_are_as_the_protocol_wants_them() -> None:
    ring = access_ring(PATHS, DATA, percent=0, window=4)
    # length, xid, getData 4, path with its length, no watch
    assert ring.requests[: ring.request_at[1]] == bytes.fromhex("0000000f 00000001 00000004 00000002 2f61 00")
    found = requests(ring.requests)
    assert [xid for xid, _, _ in found] == list(range(1, 1001))
    assert [body for _, _, body in found[:4]] == [b"\0\0\0\2/a\0", b"\0\0\0\3/bb\0", b"\0\0\0\4/ccc\0", b"\0\0\0\2/a\0"]


def test_request_positions_cut_the_stream_into_requests() -> None:
    ring = access_ring(PATHS, DATA, percent=30, window=4)
    cut = [requests(ring.requests[ring.request_at[i] : ring.request_at[i + 1]]) for i in range(ring.size)]
    assert [found[0][0] for found in cut] == [ring.xid(i) for i in range(ring.size)]
    assert {len(found) for found in cut} == {1}


def test_a_mix_has_its_share_of_sets() -> None:
    plan = Plan(hosts=(("h", 1),), mix="mix:10", in_flight=16)
    ops = [op for _, op, _ in requests(data_ring(plan, DATA).requests)]
    assert (ops.count(4), ops.count(5)) == (900, 100)


def test_sets_carry_the_data_and_any_version() -> None:
    ring = access_ring([b"/a"], DATA, percent=100, window=1)
    _, op, body = requests(ring.requests)[0]
    assert (op, body) == (5, b"\0\0\0\2/a" + b"\0\0\0\x64" + DATA + b"\xff\xff\xff\xff")


def test_creates_name_each_znode_once_over_all_laps() -> None:
    ring = create_ring(b"/p/n" + LAP_MARK, DATA, window=8)
    names = [body[4 : 4 + body[3]] for lap in (0, 1, 123456) for _, _, body in requests(ring.lap(lap))]
    assert names[0] == b"/p/n000000000000"
    assert names[1001] == b"/p/n000001000001"
    assert names[-1] == b"/p/n123456000999"
    assert len(set(names)) == 3 * ring.size


def test_laps_without_mark_share_their_bytes() -> None:
    ring = access_ring(PATHS, DATA, percent=0, window=1)
    assert ring.lap(5) is ring.requests


@pytest.mark.parametrize(("window", "size"), [(1, 1000), (499, 1000), (500, 2000), (10_000, 21_000)])
def test_a_ring_holds_two_windows(window: int, size: int) -> None:
    assert ring_size(window) == size
    assert size >= 2 * window


def test_keys_of_a_plan_are_visited_in_turn() -> None:
    plan = Plan(hosts=(("h", 1),), keys=2, root=b"/r")
    bodies = [body for _, _, body in requests(data_ring(plan, DATA).requests)[:3]]
    assert bodies[0] == bodies[2] != bodies[1]
    assert key_path(b"/r", 1) in bodies[1]


def test_right_replies_match() -> None:
    ring = access_ring(PATHS, DATA, percent=50, window=4)
    stream = bytearray(set_reply(1) + get_reply(2, DATA) + set_reply(3))
    assert ring.matches(0, 3, stream)
    assert ring.matches(2, 1, bytearray(set_reply(3)))


def test_replies_match_over_the_end_of_the_ring() -> None:
    ring = access_ring(PATHS, DATA, percent=0, window=4)
    assert ring.matches(998, 4, bytearray(b"".join(get_reply(xid, DATA) for xid in (999, 1000, 1, 2))))


@pytest.mark.parametrize(
    "second",
    [
        get_reply(3, DATA),  # wrong xid
        get_reply(2, DATA + b"!"),  # wrong length
        struct.pack(">iiqi", 188, 2, 7, -101) + bytes(172),  # an error code with a body
        reply(2, err=-101) + bytes(172),
    ],
    ids=["xid", "length", "error", "short error"],
)
def test_wrong_replies_do_not_match(second: bytes) -> None:
    ring = access_ring(PATHS, DATA, percent=0, window=4)
    stream = bytearray(get_reply(1, DATA) + second)
    assert ring.matches(0, 1, stream)
    assert not ring.matches(0, 2, stream)


def test_the_last_get_of_a_batch_must_have_the_right_data() -> None:
    ring = access_ring(PATHS, DATA, percent=50, window=4)  # sets and gets in turn
    other = b"D" * 100
    assert not ring.matches(0, 2, bytearray(set_reply(1) + get_reply(2, other)))
    assert ring.matches(0, 3, bytearray(set_reply(1) + get_reply(2, other) + set_reply(3)))


def test_whole_replies_are_counted_by_bytes_up_to_those_in_flight() -> None:
    ring = access_ring(PATHS, DATA, percent=50, window=4)  # replies of 88 and 192 bytes in turn
    counts = [ring.whole_replies(0, available, 3) for available in (0, 87, 88, 279, 280, 367, 368, 5000)]
    assert counts == [0, 0, 1, 1, 2, 2, 3, 3]
    assert ring.whole_replies(1, 191, 1) == 0
    assert ring.whole_replies(1, 192, 1) == 1
    assert ring.whole_replies(1, 192, 0) == 0
