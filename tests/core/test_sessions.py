"""Sessions: ids and passwords as Java computes them, expiry by buckets of ticks, owners."""

from __future__ import annotations

import pytest

from coati.core.sessions import (
    SessionTable,
    initialize_next_session_id,
    is_password,
    negotiate,
    session_password,
)
from coati.errors import SessionExpired, SessionMoved


@pytest.mark.parametrize(
    ("session_id", "password"),
    [
        (0x1, "054cc74a37327db215e702e20c73f005"),
        (0x1000A1B2C3D0000, "99540115b2ac339b9f3f41ba4b39270b"),
        (0x2000A1B2C3D0001, "ac75fb1452f812e09482a8e51fc23bd8"),
        (0x0, "f22acd4a97e69d6d20a49bb638eadb38"),
        (0x0100000000000000, "f22acd4a97e69d6d20a49bb638eadb38"),
    ],
)
def test_password_is_what_the_jdk_computes(session_id: int, password: str) -> None:
    assert session_password(session_id).hex() == password


def test_password_of_a_negative_id_uses_its_low_bits() -> None:
    # Only the low 48 bits reach java.util.Random's seed.
    assert session_password(-(1 << 63) | 1) == session_password(1)


def test_password_is_checked() -> None:
    assert is_password(5, session_password(5))
    assert not is_password(5, session_password(6))
    assert not is_password(5, None)
    assert not is_password(0, session_password(0)), "ZooKeeperServer.checkPasswd: session 0 is nobody's"


@pytest.mark.parametrize(
    ("server_id", "now_ms", "expected"),
    [
        (1, 0x0A1B2C3D, 0x01000A1B2C3D0000),
        (1, 0x12345_0A1B2C3D4E, 0x010A1B2C3D4E0000),  # only 40 bits of the time have room
        (0, 0, 0),
        (0x7F, 1, 0x7F00000000010000),
        (0xFE, 0, -0x0200000000000000),
        (0x80, 0, -(1 << 63) + 1),  # would be the owner of containers (EphemeralType.CONTAINER_EPHEMERAL_OWNER)
    ],
)
def test_first_session_id(server_id: int, now_ms: int, expected: int) -> None:
    assert initialize_next_session_id(server_id, now_ms) == expected


def test_first_session_id_keeps_the_server_in_the_top_byte_early_after_boot() -> None:
    """ZOOKEEPER-1622: an arithmetic shift let the time's sign run into it."""
    assert initialize_next_session_id(5, 1 << 39) >> 56 == 5


def test_ids_are_given_once() -> None:
    table = SessionTable(2000, 1, 0)
    assert [table.take_id() for _ in range(3)] == [1 << 56, (1 << 56) + 1, (1 << 56) + 2]


def test_ids_wrap_as_a_long() -> None:
    table = SessionTable(2000, 0x7F, (1 << 40) - 1)
    first = table.take_id()
    assert first == 0x7FFFFFFFFFFF0000
    for _ in range(0xFFFF):
        table.take_id()
    assert table.take_id() == -(1 << 63)


@pytest.mark.parametrize(("asked", "given"), [(0, 4000), (-1, 4000), (4000, 4000), (30000, 30000), (1 << 31, 40000)])
def test_timeout_is_clamped(asked: int, given: int) -> None:
    assert negotiate(asked, 4000, 40000) == given


def test_session_expires_in_the_tick_after_its_deadline() -> None:
    """ExpiryQueue.roundToNextInterval: 10 s from 500 is due at 12000, not before."""
    table = SessionTable(2000, 1, 500)
    table.track(9, 10_000, 500)
    assert table.expired(11_999) == []
    assert [s.session_id for s in table.expired(12_000)] == [9]
    assert table.expired(99_000) == [], "it is given out once"


def test_session_that_is_due_at_a_tick_gets_the_next_one() -> None:
    table = SessionTable(2000, 1, 0)
    table.track(9, 4000, 0)
    assert table.expired(4000) == []
    assert [s.session_id for s in table.expired(6000)] == [9]


def test_touched_session_lives_on() -> None:
    table = SessionTable(2000, 1, 0)
    session = table.track(9, 4000, 0)
    for now in range(0, 60_000, 1000):
        assert table.expired(now) == []
        assert table.touch(9, 4000, now)
    session.deadline_ms = 61_000  # what touching is on the hot path: one store
    assert table.expired(61_999) == []
    assert [s.session_id for s in table.expired(63_000)] == [9]


def test_expired_session_is_closing() -> None:
    table = SessionTable(2000, 1, 0)
    table.track(9, 4000, 0)
    assert len(table.expired(10_000)) == 1
    assert not table.touch(9, 4000, 10_000)
    assert not table.set_owner(9, "me")
    with pytest.raises(SessionExpired):
        table.check(9, "me")


def test_closing_session_is_not_expired_again() -> None:
    table = SessionTable(2000, 1, 0)
    table.track(9, 4000, 0)
    table.set_closing(9)
    assert table.expired(20_000) == []


def test_unknown_session_is_expired_to_whoever_asks() -> None:
    table = SessionTable(2000, 1, 0)
    assert not table.touch(3, 5000, 0)
    assert not table.set_owner(3, "me")
    table.set_closing(3)
    table.commit_close(3)
    with pytest.raises(SessionExpired):
        table.check(3, "me")


def test_many_sessions_expire_at_once_and_the_others_live() -> None:
    """ZOOKEEPER-1049: thousands of deaths in one tick take nobody else along."""
    table = SessionTable(2000, 1, 0)
    for session_id in range(10_000):
        table.track(session_id, 4000, 0)
    for session_id in range(0, 10_000, 2):
        table.touch(session_id, 4000, 5000)
    assert [s.session_id for s in table.expired(6000)] == list(range(1, 10_000, 2))


def test_time_may_jump_far() -> None:
    table = SessionTable(2000, 1, 0)
    assert table.expired(10**9) == []
    assert table.next_deadline_ms() == 10**9 + 2000, "no bucket is looked for where there are no sessions"
    table.track(9, 4000, 10**9)
    table.track(8, 400_000, 10**9)
    assert [s.session_id for s in table.expired(10**9 + 100_000)] == [9]


def test_session_tracked_behind_the_clock_is_still_found() -> None:
    table = SessionTable(2000, 1, 0)
    table.track(8, 400_000, 0)
    table.expired(100_000)
    table.track(9, 4000, 50_000)
    assert [s.session_id for s in table.expired(102_000)] == [9]


def test_tracking_again_is_a_touch() -> None:
    table = SessionTable(2000, 1, 0)
    first = table.track(9, 4000, 0)
    assert table.track(9, 4000, 7000) is first
    assert table.expired(11_999) == []
    assert len(table.expired(12_000)) == 1


def test_first_owner_keeps_the_session() -> None:
    table = SessionTable(2000, 1, 0)
    table.track(9, 4000, 0)
    one, other = object(), object()
    table.check(9, one)
    table.check(9, one)
    with pytest.raises(SessionMoved):
        table.check(9, other)


def test_moved_session_belongs_to_the_new_owner() -> None:
    """ZOOKEEPER-2886: whoever revalidated last is it, and the old one hears of it."""
    table = SessionTable(2000, 1, 0)
    table.track(9, 4000, 0)
    one, other = object(), object()
    table.check(9, one)
    assert table.set_owner(9, other)
    table.check(9, other)
    with pytest.raises(SessionMoved):
        table.check(9, one)


def test_timeouts_are_those_of_delivered_sessions() -> None:
    table = SessionTable(2000, 1, 0)
    table.track(9, 4000, 0)
    assert table.timeouts == {}
    table.commit_create(9, 4000)
    assert table.timeouts == {9: 4000}
    table.set_closing(9)
    assert table.timeouts == {9: 4000}, "closing is not closed"
    table.commit_close(9)
    assert table.timeouts == {}
    assert table.sessions == {}
    assert table.expired(100_000) == []


def test_session_closed_after_its_bucket_was_emptied() -> None:
    table = SessionTable(2000, 1, 0)
    table.track(9, 4000, 0)
    assert len(table.expired(6000)) == 1
    table.commit_close(9)
    assert table.sessions == {}


def test_restored_sessions_get_their_full_timeout() -> None:
    """A new leader restarts the clocks (S2), and forgets what was closing but never delivered."""
    table = SessionTable(2000, 1, 0)
    table.track(1, 4000, 0)
    table.set_closing(1)
    table.restore({1: 4000, 2: 10_000}, 100_000)
    assert table.timeouts == {1: 4000, 2: 10_000}
    assert table.expired(104_000) == []
    assert [s.session_id for s in table.expired(106_000)] == [1]
    assert [s.session_id for s in table.expired(112_000)] == [2]


def test_recovered_id_is_not_given_again() -> None:
    """S7: the clock was set back, and a session of the time before still lives."""
    table = SessionTable(2000, 1, 0)
    table.restore({1 << 56: 4000, (1 << 56) + 1: 4000}, 0)
    assert [table.take_id(), table.take_id()] == [(1 << 56) + 2, (1 << 56) + 3]


def test_timeout_may_change_when_the_client_comes_back() -> None:
    table = SessionTable(2000, 1, 0)
    session = table.track(9, 40_000, 0)
    table.set_timeout(session, 4000, 1000)
    assert table.expired(5999) == []
    assert [s.session_id for s in table.expired(6000)] == [9]


def test_longer_timeout_waits_for_the_bucket_it_has() -> None:
    table = SessionTable(2000, 1, 0)
    session = table.track(9, 4000, 0)
    table.set_timeout(session, 40_000, 1000)
    assert table.expired(41_999) == []
    assert [s.session_id for s in table.expired(42_000)] == [9]


def test_a_touch_from_elsewhere_brings_its_own_timeout() -> None:
    """A shorter one is due before the bucket in which the session stands."""
    table = SessionTable(2000, 1, 0)
    table.track(9, 40_000, 0)
    assert table.touch(9, 4000, 1000)
    assert [s.session_id for s in table.expired(6000)] == [9]


def test_sessions_that_somebody_else_watches_over_do_not_expire_until_they_are_taken_over() -> None:
    """S2: who begins to lead gives each its full timeout."""
    table = SessionTable(2000, 1, 0)
    table.restore({9: 4000, 10: 8000}, 0)
    table.let_go()
    assert table.expired(60_000) == []
    assert table.timeouts == {9: 4000, 10: 8000}
    assert not table.touch(9, 4000, 60_000)
    table.restore(table.timeouts, 60_000)
    assert table.expired(64_000) == []
    assert [s.session_id for s in table.expired(66_000)] == [9]


def test_an_owner_is_whoever_is_equal() -> None:
    """Other servers' links are numbers, and a number is not always the same object."""
    table = SessionTable(2000, 1, 0)
    table.track(9, 4000, 0)
    table.check(9, 10**6)
    table.check(9, int("1000000"))
    with pytest.raises(SessionMoved):
        table.check(9, 10**6 + 1)
