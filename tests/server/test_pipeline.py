"""One connection's own state: frames in pieces, requests that wait, identities, latencies."""

from __future__ import annotations

from coati.server.pipeline import Conn
from coati.wire.records import Id


class DeafLink:
    """coati.server.pipeline.ClientLink, for a connection on which nothing happens."""

    is_choked = False

    def send(self, data: bytes) -> None:
        raise AssertionError("nothing is sent here")

    def close(self) -> None:
        raise AssertionError("nothing is closed here")

    def pause(self) -> None:
        raise AssertionError("nothing is paused here")

    def resume(self) -> None:
        raise AssertionError("nothing is resumed here")


def conn() -> Conn:
    return Conn(DeafLink(), ("10.0.0.1", 5), 77)


def test_a_new_connection_has_no_session_and_the_identity_of_its_address() -> None:
    new = conn()
    assert (new.session_id, new.session, new.created_ms) == (0, None, 77)
    assert new.auth == [Id("ip", "10.0.0.1")]


def test_a_frame_in_pieces_is_looked_at_when_it_is_whole() -> None:
    new = conn()
    new.keep_rest(b"ab", 6)
    assert new.join_rest(b"c") == b""
    assert new.join_rest(b"de") == b""
    assert new.join_rest(b"fgh") == b"abcdefgh"
    assert not new.rest
    new.keep_rest(b"x", 4)
    assert new.join_rest(b"yzw") == b"xyzw"


def test_a_request_waits_for_the_writes_before_it_only() -> None:
    new = conn()
    new.on_proposed()
    new.defer(b"read 1", 0, 6, 100)
    new.defer(b"read 2", 0, 6, 100)
    new.on_proposed()
    new.on_proposed()
    new.defer(b"read 3", 1, 5, 200)
    assert new.outstanding == 3
    assert new.take_ready() == []
    new.outstanding -= 1
    assert [waiting.data for waiting in new.take_ready()] == [b"read 1", b"read 2"]
    new.outstanding -= 1
    assert new.take_ready() == []
    new.outstanding -= 1
    (last,) = new.take_ready()
    assert (last.data, last.start, last.end, last.created_ms, last.behind) == (b"read 3", 1, 5, 200, 3)
    assert not new.waiting


def test_identities_are_added_once_and_never_to_a_list_in_use() -> None:
    new = conn()
    before = new.auth
    new.add_identity(Id("digest", "a:b"))
    new.add_identity(Id("digest", "a:b"))
    assert before == [Id("ip", "10.0.0.1")]
    assert new.auth == [Id("ip", "10.0.0.1"), Id("digest", "a:b")]


def test_answers_are_counted_by_the_batch() -> None:
    """A special xid does not hide the client's last real request (ServerCnxn.updateStatsForResponse)."""
    new = conn()
    new.on_answered(32, 7, 4, 100, 5000, 0)
    new.on_answered(1, -2, 11, 101, 5001, 0)
    assert (new.sent, new.last_cxid, new.last_op, new.last_zxid, new.last_response_ms) == (33, 7, 11, 101, 5001)
    assert (new.latency_count, new.latency_total_ms, new.latency_min_ms, new.latency_max_ms) == (33, 0, 0, 0)
    new.on_answered(2, 8, 4, 101, 5002, 6)
    new.on_answered(3, 9, 4, 101, 5003, 6)
    assert (new.latency_count, new.latency_total_ms, new.latency_min_ms, new.latency_max_ms) == (38, 30, 0, 6)
    assert new.last_latency_ms == 6
    new.reset_statistics()
    new.on_answered(1, 9, 4, 101, 5003, 6)
    assert (new.latency_count, new.latency_total_ms, new.latency_min_ms, new.latency_max_ms) == (1, 6, 6, 6)


def test_latencies_are_summed_up_until_they_are_set_back() -> None:
    new = conn()
    for latency_ms in (5, 2, 9, 4):
        new.on_answered(1, 9, 5, 100, 5000, latency_ms)
    assert (new.latency_count, new.latency_total_ms) == (4, 20)
    assert (new.latency_min_ms, new.latency_max_ms, new.last_latency_ms) == (2, 9, 4)
    new.received = new.sent = 3
    new.reset_statistics()
    assert (new.received, new.sent, new.latency_count, new.latency_total_ms) == (0, 0, 0, 0)
    new.on_answered(1, 9, 5, 100, 5000, 7)
    assert (new.latency_min_ms, new.latency_max_ms) == (7, 7)
