"""Lanes and loads: framing, what is in flight, and that nothing wrong passes unnoticed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter

import pytest

from coati.bench.load import Lane, Load
from coati.bench.ring import LAP_MARK, Ring, access_ring, create_ring
from coati.bench.session import BenchFailed
from coati.errors import ProtocolError
from tests.bench.fakeserver import get_reply, reply, set_reply
from tests.bench.test_ring import requests

DATA = b"d" * 100
SCRATCH = bytearray(1 << 16)
VIEW = memoryview(SCRATCH)
NO_NODE = -101


def gets(window: int = 4, percent: int = 0) -> Ring:
    return access_ring([b"/a"], DATA, percent=percent, window=window)


class Wire:
    """A lane and the server's end of its connection."""

    def __init__(self, ring: Ring, **lane: int) -> None:
        here, self.there = socket.socketpair()
        self.lane = Lane(here, ring, **lane)

    def asked(self) -> list[tuple[int, int, bytes]]:
        return requests(self.there.recv(1 << 20))

    def answer(self, data: bytes) -> int:
        self.there.sendall(data)
        return self.lane.on_readable(SCRATCH, VIEW)

    def close(self) -> None:
        self.lane.sock.close()
        self.there.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire(gets())
    yield wire
    wire.close()


def test_lane_sends_consecutive_xids_and_takes_their_replies(wire: Wire) -> None:
    wire.lane.send(3)
    assert [xid for xid, _, _ in wire.asked()] == [1, 2, 3]
    assert wire.answer(get_reply(1, DATA) + get_reply(2, DATA)) == 2
    assert (wire.lane.in_flight, wire.lane.done) == (1, 2)
    wire.lane.send(2)
    assert [xid for xid, _, _ in wire.asked()] == [4, 5]


def test_lane_takes_replies_that_come_byte_by_byte(wire: Wire) -> None:
    wire.lane.send(2)
    stream = get_reply(1, DATA) + get_reply(2, DATA)
    counts = [wire.answer(stream[i : i + 1]) for i in range(len(stream))]
    assert [i for i, count in enumerate(counts) if count] == [191, 383]
    assert not wire.lane.errors


def test_lane_takes_replies_cut_anywhere(wire: Wire) -> None:
    stream = get_reply(1, DATA) + get_reply(2, DATA) + get_reply(3, DATA)
    wire.lane.send(3)
    taken = wire.answer(stream[:250]) + wire.answer(stream[250:390]) + wire.answer(stream[390:])
    assert (taken, wire.lane.in_flight) == (3, 0)


def test_lane_wraps_at_the_end_of_its_ring() -> None:
    wire = Wire(gets(), start=998)
    wire.lane.send(4)
    assert [xid for xid, _, _ in wire.asked()] == [999, 1000, 1, 2]
    assert wire.answer(b"".join(get_reply(xid, DATA) for xid in (999, 1000, 1, 2))) == 4
    wire.close()


def test_lane_numbers_its_laps() -> None:
    wire = Wire(create_ring(b"/p" + LAP_MARK, b"", window=2, size=2), first_lap=3, lap_step=8)
    wire.lane.send(2)
    wire.lane.in_flight = 0
    wire.lane.send(1)
    names = [body[4:18] for _, _, body in wire.asked()]
    assert names == [b"/p000003000000", b"/p000003000001", b"/p000011000000"]
    wire.close()


def test_lane_sends_no_more_than_its_budget() -> None:
    wire = Wire(gets(), budget=3)
    wire.lane.send(2)
    wire.lane.send(2)
    wire.lane.send(2)
    assert [xid for xid, _, _ in wire.asked()] == [1, 2, 3]
    wire.close()


def test_error_replies_are_counted_by_code_and_taken_as_answers(wire: Wire) -> None:
    wire.lane.send(4)
    stream = get_reply(1, DATA) + reply(2, err=NO_NODE) + get_reply(3, DATA) + reply(4, err=-102)
    assert wire.answer(stream) == 4
    assert wire.lane.errors == {NO_NODE: 1, -102: 1}
    assert wire.lane.in_flight == 0


def test_an_error_reply_alone_is_not_waited_on(wire: Wire) -> None:
    # It is shorter than the reply that is due, so counting bytes alone would wait for ever.
    wire.lane.send(1)
    assert wire.answer(reply(1, err=NO_NODE)) == 1
    assert wire.lane.errors == {NO_NODE: 1}


def test_an_error_reply_after_good_ones_is_found_with_the_next(wire: Wire) -> None:
    wire.lane.send(2)
    assert wire.answer(get_reply(1, DATA) + reply(2, err=NO_NODE)) == 1
    wire.lane.send(1)
    assert wire.answer(get_reply(3, DATA)) == 2
    assert wire.lane.errors == {NO_NODE: 1}


def test_a_wrong_xid_ends_the_run(wire: Wire) -> None:
    wire.lane.send(2)
    with pytest.raises(ProtocolError, match="xid 3 where 2 was due"):
        wire.answer(get_reply(1, DATA) + get_reply(3, DATA))


def test_a_reply_that_nobody_asked_for_ends_the_run(wire: Wire) -> None:
    with pytest.raises(ProtocolError, match="0 in flight"):
        wire.answer(get_reply(1, DATA))


def test_a_good_reply_of_the_wrong_size_ends_the_run(wire: Wire) -> None:
    wire.lane.send(1)
    with pytest.raises(ProtocolError, match="189 bytes where 188 were due"):
        wire.answer(get_reply(1, DATA + b"!"))


def test_other_data_than_was_written_ends_the_run(wire: Wire) -> None:
    wire.lane.send(2)
    with pytest.raises(ProtocolError, match="xid 2 has other data"):
        wire.answer(get_reply(1, DATA) + get_reply(2, b"D" * 100))


@pytest.mark.parametrize("length", [b"\0\0\0\x0f", b"\xff\xff\xff\xff", b"\x7f\0\0\0"])
def test_an_impossible_length_ends_the_run(wire: Wire, length: bytes) -> None:
    wire.lane.send(1)
    with pytest.raises(ProtocolError, match="a reply of"):
        wire.answer(length + bytes(200))


def test_notifications_and_pings_are_no_replies(wire: Wire) -> None:
    wire.lane.send(2)
    event = reply(-1, b"\0\0\0\3\0\0\0\3\0\0\0\2/a")
    assert wire.answer(event + get_reply(1, DATA) + reply(-2) + get_reply(2, DATA)) == 2
    assert not wire.lane.errors


def test_a_closed_connection_ends_the_run(wire: Wire) -> None:
    wire.lane.send(2)
    wire.asked()
    wire.there.shutdown(socket.SHUT_WR)
    with pytest.raises(BenchFailed, match="closed a connection with 2 requests in flight"):
        wire.lane.on_readable(SCRATCH, VIEW)


def test_a_reset_connection_ends_the_run(wire: Wire) -> None:
    wire.lane.send(2)
    wire.there.close()  # with unread requests: the socket pair answers with a reset
    with pytest.raises(BenchFailed, match="connection lost"):
        wire.lane.on_readable(SCRATCH, VIEW)
    with pytest.raises(BenchFailed, match="connection lost"):
        wire.lane.send(1)


def test_nothing_to_read_is_nothing(wire: Wire) -> None:
    assert wire.lane.on_readable(SCRATCH, VIEW) == 0


def test_a_batch_is_timed_from_its_send_to_its_last_reply(wire: Wire) -> None:
    wire.lane.send(2)
    wire.answer(get_reply(1, DATA))
    assert wire.lane.latencies_ns == []
    start = perf_counter()
    wire.answer(get_reply(2, DATA))
    (latency,) = wire.lane.latencies_ns
    assert latency > 0
    wire.lane.send(1)
    wire.answer(get_reply(3, DATA))
    assert len(wire.lane.latencies_ns) == 2
    assert wire.lane.latencies_ns[1] < (perf_counter() - start) * 1e9


class Echo:
    """The servers' ends of some lanes, answering in the same thread: `turn` is one round."""

    def __init__(self, wires: list[Wire]) -> None:
        self.wires = wires
        self.seen: list[int] = []

    def turn(self) -> None:
        for wire in self.wires:
            found = wire.asked()
            self.seen.append(len(found))
            wire.there.sendall(b"".join(get_reply(xid, DATA) if op == 4 else set_reply(xid) for xid, op, _ in found))


def test_load_keeps_exactly_so_many_in_flight() -> None:
    wires = [Wire(gets(8, percent=10), start=37 * i) for i in range(3)]
    load = Load([wire.lane for wire in wires])
    echo = Echo(wires)
    load.start(8)
    for _ in range(100):
        echo.turn()
        load.run_until(perf_counter() + 0.0002)
        while any(lane.done_at == lane.sent_at for lane in load.lanes if not lane.in_flight):
            load.run_until(perf_counter() + 0.0002)
    assert [lane.in_flight for lane in load.lanes] == [8, 8, 8]
    assert sum(echo.seen) == sum(lane.done for lane in load.lanes)
    echo.turn()
    load.stop()
    assert [lane.in_flight for lane in load.lanes] == [0, 0, 0]
    assert not any(lane.errors for lane in load.lanes)
    for wire in wires:
        wire.close()


def test_load_goes_on_when_a_socket_takes_bytes_again() -> None:
    large = access_ring([b"/a"], b"x" * 20_000, percent=100, window=8)
    wire = Wire(large, budget=16)
    wire.lane.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
    wire.there.setblocking(False)
    load = Load([wire.lane])
    load.start(8)
    assert wire.lane.backlog
    stream, xid = b"", 1
    while wire.lane.done < 16:
        with suppress(BlockingIOError):
            stream += wire.there.recv(1 << 20)
        while len(stream) >= 4 and len(stream) >= 4 + int.from_bytes(stream[:4], "big"):
            stream = stream[4 + int.from_bytes(stream[:4], "big") :]
            wire.there.sendall(set_reply(xid))
            xid += 1
        load.run_until(perf_counter() + 0.0005)
    load.stop()
    assert not wire.lane.errors
    wire.close()


def test_silence_ends_the_run() -> None:
    wire = Wire(gets())
    load = Load([wire.lane], silence_limit_s=0.02)
    load.start(2)
    with pytest.raises(BenchFailed, match=r"no reply for 0\.02 s with 2 requests in flight"):
        load.run_out()
    wire.close()
