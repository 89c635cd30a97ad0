"""Until when the leader cannot have expired the session: what moves that on, and who asks for it."""

from __future__ import annotations

from coati.client.session import FOREVER_MS
from coati.errors import SESSION_EXPIRED, SESSION_MOVED
from coati.wire import codes
from tests.client.kit import START_MS, TIMEOUT_MS, Driver, connected, reply

# An answer says what the leader had been told a quarter of the timeout before (see Vouch).
KNOWN_MS = TIMEOUT_MS * 3 // 4


def later(driver: Driver, ms: int) -> int:
    driver.tick(driver.now_ms + ms)
    return driver.now_ms


def test_a_new_connection_was_accepted_by_the_leader() -> None:
    assert connected().machine.vouch.until_ms == START_MS + TIMEOUT_MS


def test_a_server_without_a_quorum_vouches_for_nothing() -> None:
    driver = Driver(read_only=True)
    driver.start()
    driver.connect(reads_only=True)
    assert driver.machine.vouch.until_ms == 0


def test_writes_and_syncs_move_it_on_from_when_they_were_sent_and_reads_do_not() -> None:
    for op, is_write, moves in (
        (codes.OP_SET_DATA, True, True),
        (codes.OP_SYNC, False, True),
        (codes.OP_GET_DATA, False, False),
    ):
        driver = connected()
        sent_ms = later(driver, TIMEOUT_MS * 3 // 10)
        call = driver.call(op, is_write=is_write)
        later(driver, 100)
        driver.feed(reply(call.xid))
        expected = sent_ms + KNOWN_MS if moves else START_MS + TIMEOUT_MS
        assert driver.machine.vouch.until_ms == expected


def test_an_answer_that_denies_the_session_proves_nothing() -> None:
    for code in (SESSION_EXPIRED, SESSION_MOVED):
        driver = connected()
        later(driver, TIMEOUT_MS * 3 // 10)
        call = driver.call(codes.OP_SET_DATA, is_write=True)
        driver.feed(reply(call.xid, err=code))
        assert driver.machine.vouch.until_ms <= START_MS + TIMEOUT_MS


def test_while_somebody_relies_on_it_the_leader_is_asked_now_and_then() -> None:
    driver = connected()
    assert driver.machine.vouch.due_ms(TIMEOUT_MS) == FOREVER_MS
    driver.machine.vouch.holders += 1
    driver.machine.on_tick(driver.now_ms)
    driver.take()
    ((xid, op, body),) = driver.requests()
    assert (op, body) == (codes.OP_SYNC, b"\0\0\0\1/")
    driver.feed(reply(xid))
    for _ in range(4):
        later(driver, TIMEOUT_MS // 6)
        ((xid, op, _),) = [request for request in driver.requests() if request[1] == codes.OP_SYNC]
        driver.feed(reply(xid))
    assert driver.machine.vouch.until_ms == START_MS + 4 * (TIMEOUT_MS // 6) + KNOWN_MS
    driver.machine.vouch.holders -= 1
    later(driver, TIMEOUT_MS // 3)
    assert not [request for request in driver.requests() if request[1] == codes.OP_SYNC]


def test_nothing_is_known_of_a_session_that_is_over() -> None:
    driver = connected()
    driver.lose()
    driver.redial()
    driver.connect(0, 0)
    assert driver.machine.vouch.until_ms == 0
