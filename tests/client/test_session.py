"""The session machine by hand: bytes and times in, what it decides out. Claims: ClientCnxn, zookeeper.md 1.5."""

from __future__ import annotations

import struct

import pytest

from coati.client.retry import Retry
from coati.client.session import FOREVER_MS
from coati.client.types import State
from coati.errors import (
    SESSION_EXPIRED,
    SESSION_MOVED,
    AuthFailed,
    ClientClosed,
    ConnectionLoss,
    MarshallingError,
    OperationTimeout,
    SessionExpired,
)
from coati.wire import codes
from tests.client.kit import (
    ID,
    PASSWORD,
    START_MS,
    TIMEOUT_MS,
    A,
    B,
    C,
    Driver,
    asked,
    connected,
    event,
    hello,
    reply,
    text,
)

READ_TIMEOUT_MS = TIMEOUT_MS * 2 // 3
PING_MS = READ_TIMEOUT_MS // 2


# --- handshake ------------------------------------------------------------------------------------


def test_the_first_request_asks_for_a_new_session() -> None:
    driver = Driver(A)
    driver.start()
    assert driver.dials == [A]
    assert asked(driver.connect()) == (0, TIMEOUT_MS, 0, bytes(16), False)
    assert driver.states == [State.CONNECTED]
    machine = driver.machine
    assert (machine.session_id, machine.password, machine.timeout_ms) == (ID, PASSWORD, TIMEOUT_MS)


def test_the_server_decides_on_the_timeout() -> None:
    driver = Driver(A)
    driver.start()
    driver.connect(timeout_ms=4000)
    assert driver.machine.timeout_ms == 4000
    driver.lose()
    driver.redial()
    # What is asked for stays what the caller wants.
    assert asked(driver.connect())[1] == TIMEOUT_MS


def test_an_old_server_says_nothing_of_read_only_mode() -> None:
    driver = Driver(A)
    driver.start()
    driver.machine.on_connected(driver.now_ms)
    driver.feed(hello(old=True))
    assert driver.states == [State.CONNECTED]


def test_a_lost_connection_is_followed_by_the_same_session() -> None:
    driver = connected(A)
    driver.call()
    driver.feed(reply(1, zxid=77))
    driver.lose()
    driver.redial()
    assert asked(driver.connect()) == (77, TIMEOUT_MS, ID, PASSWORD, False)
    assert driver.states == [State.CONNECTED, State.SUSPENDED, State.CONNECTED]


def test_a_session_of_another_process_goes_on() -> None:
    driver = Driver(A)
    driver.machine.resume(ID, PASSWORD, TIMEOUT_MS, 55)
    driver.start()
    assert asked(driver.connect()) == (55, TIMEOUT_MS, ID, PASSWORD, False)
    assert driver.states == [State.CONNECTED]


def test_a_session_that_nobody_knows_any_more_is_reported_and_renewed() -> None:
    driver = connected(A)
    driver.lose()
    driver.redial()
    driver.connect(timeout_ms=0, session_id=0)
    assert driver.states[-2:] == [State.EXPIRED, State.CONNECTING]
    assert driver.machine.alive_until_ms == 0
    driver.redial()
    assert asked(driver.connect(session_id=ID + 1))[2:4] == (0, bytes(16))
    assert driver.machine.session_id == ID + 1


def test_a_session_that_must_not_be_renewed_ends_for_good() -> None:
    driver = connected(A, renews=False)
    driver.lose()
    waiting = driver.call()
    driver.redial()
    driver.connect(timeout_ms=0, session_id=0)
    assert driver.states[-1] is State.EXPIRED
    assert isinstance(waiting.failure, SessionExpired)
    assert driver.machine.next_deadline_ms() == FOREVER_MS
    first, second = driver.call(), driver.call()
    assert isinstance(first.failure, SessionExpired)
    # Each call adds to its error where it happened, so no two may share one.
    assert first.failure is not second.failure
    assert first.failure is not waiting.failure


def test_a_server_that_gives_no_new_session_is_left_with_a_pause() -> None:
    driver = Driver(A)
    driver.start()
    driver.connect(timeout_ms=0, session_id=0)
    assert driver.states == []
    before = 0
    for _ in range(3):
        before = driver.now_ms
        driver.redial()
        driver.connect(timeout_ms=0, session_id=0)
    assert driver.now_ms > before
    assert driver.states == []


def test_a_session_that_the_server_has_swapped_is_reported_as_expired() -> None:
    # ClickHouse Keeper does so (ClickHouse#116690): the ephemerals are gone, and nobody is told.
    driver = connected(A)
    driver.lose()
    driver.redial()
    driver.connect(session_id=ID + 9)
    assert driver.states[-2:] == [State.EXPIRED, State.CONNECTING]
    assert driver.machine.session_id == 0


def test_a_swapped_session_ends_a_client_that_does_not_renew() -> None:
    driver = Driver(A, renews=False)
    driver.machine.resume(ID, PASSWORD, TIMEOUT_MS, 0)
    driver.start()
    driver.connect(session_id=ID + 9)
    assert driver.states == [State.EXPIRED]


def test_nobody_reached_for_four_thirds_of_the_timeout_is_the_end_of_the_session() -> None:
    driver = connected(A)
    driver.lose()
    limit = START_MS + TIMEOUT_MS * 4 // 3
    driver.tick(limit - 1)
    assert State.EXPIRED not in driver.states
    driver.tick(limit)
    assert driver.states[-2:] == [State.EXPIRED, State.CONNECTING]


def test_a_resumed_session_ends_when_nobody_can_be_reached() -> None:
    driver = Driver(A, renews=False)
    driver.machine.resume(ID, PASSWORD, TIMEOUT_MS, 0)
    driver.start()
    driver.tick(START_MS + TIMEOUT_MS * 4 // 3)
    assert driver.states == [State.EXPIRED]


def test_bytes_that_are_no_answer_do_not_put_the_end_off() -> None:
    driver = connected(A)
    driver.lose()
    limit = START_MS + TIMEOUT_MS * 4 // 3
    while State.EXPIRED not in driver.states and driver.now_ms < limit:
        driver.redial()
        driver.machine.on_connected(driver.now_ms)
        driver.take()
        driver.tick(min(driver.now_ms + 500, limit))
        driver.feed(b"\0")
        driver.lose()
    assert State.EXPIRED in driver.states


def test_without_a_session_there_is_none_to_expire() -> None:
    driver = Driver(A)
    driver.start()
    driver.tick(START_MS + 20 * TIMEOUT_MS)
    assert driver.states == []


def test_a_dial_and_the_end_of_the_session_at_once_leave_one_dial() -> None:
    driver = connected(A)
    driver.lose()
    # Both are due at the first tick after a long pause.
    driver.now_ms += TIMEOUT_MS * 2
    driver.machine.on_tick(driver.now_ms)
    out = driver.take()
    assert out.dial is None
    assert State.EXPIRED in driver.states
    driver.redial()
    assert len(driver.dials) == 2


# --- calls ----------------------------------------------------------------------------------------


def test_a_call_is_sent_with_its_number_and_answered() -> None:
    driver = connected(A)
    call = driver.call(codes.OP_GET_DATA)
    assert driver.requests() == [(1, codes.OP_GET_DATA, b"body")]
    assert driver.machine.inflight == 1
    driver.feed(reply(1, zxid=9, body=b"answer"))
    assert driver.told == [call]
    assert (call.err, call.zxid, call.payload[16:], call.failure) == (0, 9, b"answer", None)
    assert driver.machine.inflight == 0
    assert driver.machine.last_zxid == 9


def test_many_answers_come_in_one_piece_or_byte_by_byte() -> None:
    stream = b"".join(reply(xid, body=bytes([xid])) for xid in range(1, 6))
    for step in (len(stream), 1, 7):
        driver = connected(A)
        calls = [driver.call() for _ in range(5)]
        for at in range(0, len(stream), step):
            driver.feed(stream[at : at + step])
        assert driver.told == calls
        assert [call.payload[16:] for call in calls] == [bytes([xid]) for xid in range(1, 6)]


def test_numbers_begin_again_after_the_largest() -> None:
    driver = connected(A)
    driver.machine._xid = (1 << 31) - 3
    for _ in range(4):
        driver.call()
    xids = [xid for xid, _, _ in driver.requests()]
    assert xids == [(1 << 31) - 2, (1 << 31) - 1, 1, 2]
    driver.feed(*(reply(xid) for xid in xids))
    assert len(driver.told) == 4


def test_calls_wait_while_there_is_no_connection() -> None:
    driver = Driver(A)
    driver.start()
    first, second = driver.call(1), driver.call(2)
    assert driver.sends == []
    driver.connect()
    assert [(xid, op) for xid, op, _ in driver.requests()] == [(1, 1), (2, 2)]
    driver.feed(reply(1), reply(2))
    assert driver.told == [first, second]


def test_no_more_are_under_way_than_allowed() -> None:
    driver = connected(A, max_inflight=2)
    calls = [driver.call(op) for op in range(1, 6)]
    assert [op for _, op, _ in driver.requests()] == [1, 2]
    # A withdrawn one keeps its place until its answer has gone by.
    driver.machine.cancel(calls[0], driver.now_ms)
    driver.machine.cancel(calls[3], driver.now_ms)
    assert driver.requests() == []
    driver.feed(reply(1))
    assert [op for _, op, _ in driver.requests()] == [3]
    driver.feed(reply(2), reply(3))
    assert [op for _, op, _ in driver.requests()] == [5]
    driver.feed(reply(4))
    assert driver.told == [calls[1], calls[2], calls[4]]
    assert driver.machine.inflight == 0


def test_the_answer_of_a_withdrawn_call_reaches_nobody() -> None:
    driver = connected(A)
    first, second = driver.call(), driver.call()
    driver.machine.cancel(first, driver.now_ms)
    assert driver.machine.inflight == 2
    driver.feed(reply(1, body=b"first"))
    assert driver.told == []
    driver.feed(reply(2, body=b"second"))
    assert driver.told == [second]
    assert second.payload[16:] == b"second"
    assert first.payload == b""


@pytest.mark.parametrize("xid", [2, 3, 1 << 30], ids=["the one after", "not sent", "far"])
def test_an_answer_out_of_order_ends_the_connection(xid: int) -> None:
    driver = connected(A)
    driver.call()
    call = driver.call(is_write=True)
    driver.feed(reply(xid))
    assert driver.hang_ups == 1
    assert driver.states[-1] is State.SUSPENDED
    assert isinstance(call.failure, ConnectionLoss)
    assert call.failure.maybe_applied


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">i", 15) + bytes(15),
        struct.pack(">i", -1),
        struct.pack(">i", 1 << 30),
        b"GET / HTTP/1.1\r\n",
        struct.pack(">i", 18) + event(codes.EVENT_CREATED, b"/a")[4:22],
        reply(5),
    ],
    ids=["short", "negative", "huge", "http", "cut event", "nobody asked"],
)
def test_garbage_ends_the_connection(data: bytes) -> None:
    driver = connected(A)
    driver.feed(data)
    assert driver.states == [State.CONNECTED, State.SUSPENDED]
    assert driver.hang_ups == 1
    driver.redial()
    driver.connect()
    assert driver.states[-1] is State.CONNECTED


def test_garbage_for_a_handshake_is_a_failed_attempt() -> None:
    driver = Driver(A, B)
    driver.start()
    driver.machine.on_connected(driver.now_ms)
    driver.feed(struct.pack(">i", 3) + b"abc")
    assert driver.hang_ups == 1
    driver.redial()
    assert sorted(driver.dials) == [A, B]


def test_an_answer_that_is_too_long_fails_its_call_and_no_other() -> None:
    driver = connected(A, max_frame=100)
    first, second, third = driver.call(), driver.call(is_write=True), driver.call()
    # In one piece with the answer before it.
    driver.feed(reply(1, body=b"short"), reply(2, body=bytes(200)))
    assert first.failure is None
    assert first.payload[16:] == b"short"
    assert isinstance(second.failure, MarshallingError)
    assert "216 bytes" in str(second.failure)
    assert "100" in str(second.failure)
    assert "max_frame" in str(second.failure)
    assert second.failure.maybe_applied
    assert isinstance(third.failure, ConnectionLoss)
    assert driver.states[-1] is State.SUSPENDED


def test_an_answer_that_is_too_long_for_a_call_withdrawn() -> None:
    driver = connected(A, max_frame=100)
    call = driver.call()
    driver.machine.cancel(call, driver.now_ms)
    driver.feed(reply(1, body=bytes(200)))
    assert driver.told == []
    assert driver.states[-1] is State.SUSPENDED


def test_a_lost_connection_fails_what_was_sent_and_keeps_what_was_not() -> None:
    driver = connected(A, max_inflight=2)
    read, write, later = driver.call(), driver.call(is_write=True), driver.call()
    driver.sends.clear()
    driver.lose()
    assert isinstance(read.failure, ConnectionLoss)
    assert not read.failure.maybe_applied
    assert isinstance(write.failure, ConnectionLoss)
    assert write.failure.maybe_applied
    assert later.failure is None
    driver.redial()
    driver.connect()
    assert [op for _, op, _ in driver.requests()] == [codes.OP_GET_DATA]
    driver.feed(reply(3))
    assert driver.told == [read, write, later]


def test_a_call_is_told_when_its_time_is_up() -> None:
    driver = connected(A)
    early = driver.call(deadline_ms=START_MS + 100)
    late = driver.call(deadline_ms=START_MS + 200, is_write=True)
    assert driver.machine.next_deadline_ms() == START_MS + 100
    driver.tick(START_MS + 100)
    assert isinstance(early.failure, OperationTimeout)
    assert not early.failure.maybe_applied
    driver.tick(START_MS + 200)
    assert isinstance(late.failure, OperationTimeout)
    assert late.failure.maybe_applied
    # The places stay.
    assert driver.machine.inflight == 2
    driver.feed(reply(1), reply(2))
    assert driver.machine.inflight == 0
    assert driver.told == [early, late]


def test_a_call_that_waits_for_a_server_is_told_what_keeps_it() -> None:
    driver = Driver(A)
    driver.start()
    call = driver.call(deadline_ms=START_MS + 3000, is_write=True)
    driver.machine.on_dial_failed("a:1 cannot be reached: refused", driver.now_ms)
    driver.tick(START_MS + 3000)
    assert isinstance(call.failure, OperationTimeout)
    assert not call.failure.maybe_applied
    assert str(call.failure) == "no server to ask in time, connecting: a:1 cannot be reached: refused"
    assert driver.machine.inflight == 0


def test_a_call_that_waits_for_room_is_told_so() -> None:
    driver = connected(A, max_inflight=1)
    driver.call()
    call = driver.call(deadline_ms=START_MS + 10)
    driver.tick(START_MS + 10)
    assert str(call.failure) == "no server to ask in time, connected"


# --- time -----------------------------------------------------------------------------------------


def test_a_quiet_client_pings_after_a_third_of_the_timeout() -> None:
    driver = connected(A)
    driver.tick(START_MS + PING_MS - 1)
    assert driver.requests() == []
    driver.tick(START_MS + PING_MS)
    assert driver.requests() == [(codes.XID_PING, codes.OP_PING, b"")]
    # One at a time.
    driver.tick(START_MS + READ_TIMEOUT_MS - 1)
    assert driver.requests() == []
    driver.feed(reply(codes.XID_PING))
    driver.tick(START_MS + 2 * PING_MS)
    assert driver.requests() == [(codes.XID_PING, codes.OP_PING, b"")]


def test_a_client_that_writes_needs_no_ping() -> None:
    driver = connected(A)
    driver.tick(START_MS + PING_MS - 1)
    driver.call()
    driver.feed(reply(1))
    driver.sends.clear()
    driver.tick(START_MS + PING_MS)
    assert driver.sends == []


def test_pings_of_a_long_session_come_every_ten_seconds() -> None:
    driver = Driver(A)
    driver.start()
    driver.connect(timeout_ms=3_600_000)
    driver.tick(START_MS + 9_999)
    assert driver.sends == []
    driver.tick(START_MS + 10_000)
    assert len(driver.sends) == 1


def test_a_silent_server_is_left_after_two_thirds_of_the_timeout() -> None:
    driver = connected(A, B)
    first = driver.dials[0]
    driver.tick(START_MS + READ_TIMEOUT_MS - 1)
    assert driver.states == [State.CONNECTED]
    driver.tick(START_MS + READ_TIMEOUT_MS)
    assert driver.states[-1] is State.SUSPENDED
    assert str(READ_TIMEOUT_MS) in driver.reasons[-1]
    driver.redial()
    assert driver.dials[-1] != first


def test_a_server_has_its_share_of_the_timeout_to_accept() -> None:
    driver = Driver(A, B, C)
    driver.start()
    share = TIMEOUT_MS // 3
    driver.tick(START_MS + share - 1)
    assert driver.hang_ups == 0
    driver.machine.on_connected(driver.now_ms)
    driver.take()
    # It takes the connection and says nothing.
    driver.tick(START_MS + share)
    assert driver.hang_ups == 1


def test_every_server_is_tried_before_pauses_grow() -> None:
    # A dice that always says one half: pauses are half of base, doubling from round to round.
    driver = Driver(A, B, C, retry=Retry(base=0.1, cap=0.4))
    driver.start()
    times = []
    for _ in range(13):
        driver.machine.on_dial_failed("refused", driver.now_ms)
        driver.take()
        before = driver.now_ms
        driver.redial()
        times.append(driver.now_ms - before)
    assert times == [50, 0, 0, 100, 100, 100, 200, 200, 200, 200, 200, 200, 200]
    assert [driver.dials.count(host) for host in (A, B, C)] == [5, 5, 4] or len(set(driver.dials[:3])) == 3


def test_an_accepted_session_starts_the_pauses_anew() -> None:
    driver = Driver(A, retry=Retry(base=0.1, cap=0.4))
    driver.start()
    for _ in range(5):
        driver.machine.on_dial_failed("refused", driver.now_ms)
        driver.take()
        driver.redial()
    driver.connect()
    driver.lose()
    before = driver.now_ms
    driver.redial()
    assert driver.now_ms - before == 50


# --- how long the session is certainly alive ------------------------------------------------------


def test_the_session_is_alive_a_timeout_after_the_handshake_was_sent() -> None:
    driver = Driver(A)
    driver.start()
    driver.machine.on_connected(driver.now_ms)
    driver.tick(START_MS + 500)
    driver.feed(hello())
    assert driver.machine.alive_until_ms == START_MS + TIMEOUT_MS


def test_an_answer_prolongs_from_when_its_request_was_sent() -> None:
    driver = connected(A)
    driver.tick(START_MS + 100)
    driver.call()
    driver.tick(START_MS + 900)
    driver.feed(reply(1))
    assert driver.machine.alive_until_ms == START_MS + 100 + TIMEOUT_MS


def test_the_answer_to_a_withdrawn_call_prolongs_too() -> None:
    driver = connected(A)
    driver.tick(START_MS + 100)
    driver.machine.cancel(driver.call(), driver.now_ms)
    driver.feed(reply(1))
    assert driver.machine.alive_until_ms == START_MS + 100 + TIMEOUT_MS


def test_an_event_prolongs_nothing() -> None:
    driver = connected(A)
    driver.tick(START_MS + 100)
    driver.feed(event(codes.EVENT_CREATED, b"/a"))
    assert driver.machine.alive_until_ms == START_MS + TIMEOUT_MS


def test_a_ping_prolongs_from_when_it_was_sent() -> None:
    driver = connected(A)
    driver.tick(START_MS + PING_MS + 500)
    driver.feed(reply(codes.XID_PING))
    assert driver.machine.alive_until_ms == START_MS + PING_MS + TIMEOUT_MS
    # One that nobody asked for says nothing of the time.
    driver.feed(reply(codes.XID_PING))
    assert driver.machine.alive_until_ms == START_MS + PING_MS + TIMEOUT_MS


@pytest.mark.parametrize("err", [SESSION_EXPIRED, SESSION_MOVED])
def test_a_server_that_does_not_know_the_session_prolongs_nothing(err: int) -> None:
    driver = connected(A)
    driver.tick(START_MS + 100)
    call = driver.call()
    driver.feed(reply(1, err=err))
    assert call.err == err
    assert driver.machine.alive_until_ms == START_MS + TIMEOUT_MS


def test_the_end_of_the_session_leaves_no_time() -> None:
    for renews in (True, False):
        driver = connected(A, renews=renews)
        driver.lose()
        assert driver.machine.alive_until_ms == START_MS + TIMEOUT_MS
        driver.redial()
        driver.connect(session_id=0, timeout_ms=0)
        assert driver.machine.alive_until_ms == 0


# --- read-only servers ----------------------------------------------------------------------------


def test_a_read_only_server_prolongs_nothing() -> None:
    driver = connected(A, B, read_only=True)
    driver.lose()
    driver.redial()
    driver.connect(reads_only=True)
    assert driver.states[-1] is State.READ_ONLY
    driver.tick(driver.now_ms + 1000)
    driver.call()
    driver.feed(reply(1))
    # It cannot tell its leader that we live, so the leader may well expire the session.
    assert driver.machine.alive_until_ms == START_MS + TIMEOUT_MS


def test_a_session_of_a_read_only_server_is_no_session_elsewhere() -> None:
    # ClientCnxn.seenRwServerBefore: its number is its own, and asking a quorum for it would only bring an expiry.
    driver = Driver(A, B, read_only=True)
    driver.start()
    assert asked(driver.connect(reads_only=True, session_id=5))[4]
    assert driver.machine.alive_until_ms == 0
    driver.lose()
    driver.tick(driver.now_ms + TIMEOUT_MS * 4)
    assert State.EXPIRED not in driver.states
    driver.redial()
    assert asked(driver.connect(session_id=6))[2:4] == (0, bytes(16))
    assert driver.states[-3:] == [State.READ_ONLY, State.SUSPENDED, State.CONNECTED]
    assert driver.machine.session_id == 6


def test_a_known_session_outlives_a_read_only_server() -> None:
    driver = connected(A, read_only=True)
    driver.lose()
    driver.redial()
    assert asked(driver.connect(reads_only=True))[2] == ID
    driver.lose()
    driver.redial()
    assert asked(driver.connect())[2] == ID


def test_a_read_only_client_looks_for_a_quorum() -> None:
    driver = Driver(A, B, read_only=True)
    driver.start()
    driver.connect(reads_only=True)
    here = driver.dials[0]
    other = B if here == A else A
    driver.tick(START_MS + 99)
    assert driver.probes == []
    driver.tick(START_MS + 100)
    assert driver.probes == [other]
    driver.tick(START_MS + 100 + 199)
    assert len(driver.probes) == 1
    driver.tick(START_MS + 100 + 200)
    assert len(driver.probes) == 2
    driver.machine.on_probed(other, False, driver.now_ms)
    driver.take()
    assert driver.states[-1:] == [State.READ_ONLY]
    driver.machine.on_probed(other, True, driver.now_ms)
    driver.take()
    assert driver.states[-1:] == [State.SUSPENDED]
    driver.redial()
    assert driver.dials[-1] == other
    driver.connect()
    # What comes late changes nothing.
    driver.machine.on_probed(here, True, driver.now_ms)
    driver.take()
    assert driver.states[-1:] == [State.CONNECTED]


def test_probes_come_at_most_once_a_minute_and_need_somebody_to_ask() -> None:
    driver = Driver(A, read_only=True)
    driver.start()
    driver.connect(reads_only=True, timeout_ms=3_600_000)
    for _ in range(30):
        driver.tick(driver.now_ms + 10_000)
        driver.feed(reply(codes.XID_PING))
    assert driver.probes == []
    assert driver.machine._probe.pause_ms == 60_000


# --- authentication -------------------------------------------------------------------------------


def credentials(scheme: bytes, secret: bytes) -> bytes:
    return struct.pack(">i", 0) + text(scheme) + text(secret)


def test_credentials_go_first_on_each_connection() -> None:
    driver = Driver(A)
    driver.machine.authenticate("digest", b"a:b", START_MS)
    driver.start()
    driver.call()
    driver.connect()
    first = (codes.XID_AUTH, codes.OP_AUTH, credentials(b"digest", b"a:b"))
    assert driver.requests() == [first, (1, codes.OP_GET_DATA, b"body")]
    driver.machine.authenticate("ip", b"x", driver.now_ms)
    driver.take()
    second = (codes.XID_AUTH, codes.OP_AUTH, credentials(b"ip", b"x"))
    assert driver.requests() == [second]
    driver.feed(reply(codes.XID_AUTH), reply(codes.XID_AUTH))
    driver.lose()
    driver.redial()
    driver.connect()
    assert driver.requests() == [first, second]


def test_refused_credentials_end_the_client() -> None:
    driver = connected(A, max_inflight=3)
    driver.machine.authenticate("digest", b"bad", START_MS)
    gone, read, write, queued = (driver.call(is_write=number > 1) for number in range(4))
    driver.machine.cancel(gone, driver.now_ms)
    driver.feed(reply(codes.XID_AUTH, err=-115), reply(1))
    assert driver.states[-1] is State.AUTH_FAILED
    failures = [call.failure for call in (read, write, queued, driver.call())]
    assert all(isinstance(failure, AuthFailed) for failure in failures)
    assert [failure.maybe_applied for failure in failures if failure is not None] == [False, True, False, False]
    assert driver.machine.next_deadline_ms() == FOREVER_MS
    driver.machine.on_tick(driver.now_ms)
    driver.machine.close(driver.now_ms)
    assert driver.take().changes == []


# --- the end --------------------------------------------------------------------------------------


def test_close_waits_for_what_was_sent_before() -> None:
    driver = connected(A, max_inflight=1)
    call, queued = driver.call(), driver.call()
    driver.machine.close(driver.now_ms)
    driver.take()
    assert isinstance(queued.failure, ClientClosed)
    assert isinstance(driver.call().failure, ClientClosed)
    assert driver.requests()[-1] == (2, codes.OP_CLOSE_SESSION, b"")
    driver.feed(reply(1))
    assert call.failure is None
    assert driver.states == [State.CONNECTED]
    driver.feed(reply(2))
    assert driver.states[-1] is State.CLOSED
    assert driver.machine.next_deadline_ms() == FOREVER_MS
    driver.machine.on_closed("gone", driver.now_ms)
    driver.machine.on_dial_failed("late", driver.now_ms)
    assert driver.take().changes == []


def test_close_without_a_connection_is_at_once() -> None:
    driver = Driver(A)
    driver.start()
    call = driver.call()
    driver.machine.close(driver.now_ms)
    driver.machine.close(driver.now_ms)
    driver.take()
    assert driver.states == [State.CLOSED]
    assert isinstance(call.failure, ClientClosed)


@pytest.mark.parametrize("how", ["gone", "garbage", "silence", "another list", "another quorum"])
def test_close_is_the_end_whatever_happens_then(how: str) -> None:
    driver = Driver(A, B, read_only=True)
    driver.start()
    driver.connect(reads_only=True)
    write = driver.call(is_write=True)
    driver.machine.close(driver.now_ms)
    driver.take()
    if how == "gone":
        driver.lose()
    elif how == "garbage":
        driver.feed(reply(99))
    elif how == "another list":
        driver.machine.move(driver.now_ms)
    elif how == "another quorum":
        driver.machine.on_probed(B, True, driver.now_ms)
    driver.tick(START_MS + TIMEOUT_MS)
    assert driver.states[-1] is State.CLOSED
    assert State.SUSPENDED not in driver.states
    assert len(driver.dials) == 1
    assert isinstance(write.failure, ConnectionLoss)
    assert write.failure.maybe_applied
    assert driver.machine.next_deadline_ms() == FOREVER_MS


def test_a_server_that_goes_on_talking_does_not_keep_a_client_that_closes() -> None:
    driver = connected(A)
    driver.machine.close(driver.now_ms)
    driver.take()
    for step in range(1, 10):
        driver.tick(START_MS + step * 1000)
        driver.feed(event(codes.EVENT_CREATED, b"/a"))
    assert driver.states[-1] is State.CLOSED
    assert driver.now_ms == START_MS + TIMEOUT_MS


def test_a_changed_list_of_servers_moves_the_client() -> None:
    driver = connected(A)
    driver.machine.move(driver.now_ms)
    driver.take()
    assert driver.states[-1] is State.SUSPENDED
    driver.machine.move(driver.now_ms)
    assert driver.take().changes == []
