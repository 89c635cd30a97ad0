"""Answers come as fast as the client takes them, in order; memory does not grow with what it asks for."""

from __future__ import annotations

import logging
import tracemalloc

import pytest

from coati.core.acl import AccessConfig, generate_digest
from coati.errors import AUTH_FAILED, MARSHALLING_ERROR, OK
from coati.server import guard
from coati.server.pipeline import MAX_IDENTITIES
from coati.server.replica import MAX_ANSWER_BYTES, TURN_BYTES
from coati.testing.server import SimClient, SimConfig, SimServer, create_body, encode, multi_body, request_frame
from coati.wire import codes
from coati.wire.records import GetDataRequest
from tests.server.kit import auth_body, joined, serve, xids

BIG_BYTES = 300_000
READ_BIG = encode(GetDataRequest(b"/big", False))


def reads(first: int, count: int) -> bytes:
    return b"".join(request_frame(xid, codes.OP_GET_DATA, READ_BIG) for xid in range(first, first + count))


def with_big() -> tuple[SimServer, SimClient]:
    server = serve()
    client = joined(server)
    client.create(b"/big", bytes(BIG_BYTES))
    server.run()
    return server, client


def go_on(server: SimServer, client: SimClient) -> None:
    """All that was sent has left, and the shell says so."""
    client.link.is_choked = False
    server.driver.received(client.link.conn, b"")
    server.run(1)


def test_answers_of_a_turn_are_bounded_and_the_rest_follows_in_order() -> None:
    server, client = with_big()
    sizes: list[int] = []
    read = client.link.on_data
    assert read is not None

    def measure(data: bytes) -> None:
        sizes.append(len(data))
        read(data)

    client.link.on_data = measure
    client.link.feed(reads(100, 50))
    server.run(1)
    assert xids(client)[1:] == list(range(100, 150))
    assert max(sizes) <= TURN_BYTES + 2 * BIG_BYTES
    assert not client.link.is_paused


def test_who_does_not_take_the_answers_gets_no_more_until_they_have_left() -> None:
    server, client = with_big()
    other = joined(server)
    client.link.is_choked = True
    client.link.feed(reads(100, 50))
    server.run(1)
    had = len(xids(client))
    assert had - 1 <= TURN_BYTES // BIG_BYTES + 1
    assert client.link.is_paused
    client.link.feed(reads(150, 1))
    read = other.get(b"/big")
    server.run(10)
    assert other.reply(read).err == OK
    assert len(xids(client)) == had
    go_on(server, client)
    server.run(10)
    assert xids(client)[1:] == list(range(100, 151))
    assert not client.link.is_paused


@pytest.mark.parametrize("whole", range(1, 16))
def test_half_a_request_behind_enough_answers_does_not_stop_the_connection(whole: int) -> None:
    server, client = with_big()
    half = len(reads(0, 1)) // 2
    data = reads(100, whole + 1)
    client.link.feed(data[:-half])
    server.run(10)
    assert xids(client)[1:] == list(range(100, 100 + whole))
    assert not client.link.is_paused
    client.link.feed(data[-half:])
    server.run(10)
    assert xids(client)[-1] == 100 + whole


def test_identity_is_followed_by_what_others_want() -> None:
    server = serve()
    client, other = joined(server), joined(server)
    auth = b"".join(
        request_frame(codes.XID_AUTH, codes.OP_AUTH, auth_body("digest", b"u%d:x" % number))
        + request_frame(number, codes.OP_PING)
        for number in range(20)
    )
    client.link.feed(auth + reads(0, 1)[:9])
    read = other.ping()
    server.driver.turn()
    assert other.reply(read).err == OK
    assert len(client.replies) <= 2
    server.run(5)
    assert len(client.replies) == 40
    assert not client.link.is_paused


def test_reads_behind_a_write_are_bounded_too() -> None:
    server, client = with_big()
    client.link.feed(request_frame(99, codes.OP_CREATE, create_body(b"/w")) + reads(100, 50))
    client.link.is_choked = True
    server.run(10)
    had = len(xids(client))
    assert had - 2 <= TURN_BYTES // BIG_BYTES + 1
    client.link.feed(reads(150, 1))
    go_on(server, client)
    server.run(10)
    assert xids(client)[1:] == list(range(99, 151))


def test_reads_between_writes_that_would_fill_the_memory_end_the_connection() -> None:
    """The reply to the second write must not pass the reads before it (W4), and they are more than may wait."""
    server, client = with_big()
    many = MAX_ANSWER_BYTES // BIG_BYTES + 10
    client.link.feed(
        request_frame(99, codes.OP_CREATE, create_body(b"/w"))
        + reads(100, many)
        + request_frame(99 + many + 1, codes.OP_CREATE, create_body(b"/x"))
    )
    received = len(client.link.received)
    server.run(50)
    assert len(client.link.received) == received
    assert not client.link.is_open
    assert joined(server).link.is_open


def test_very_many_reads_behind_a_write_wait_in_their_bytes() -> None:
    server, client = with_big()
    limit = server.replica.outstanding_limit
    small = b"".join(request_frame(xid, codes.OP_PING) for xid in range(3 * limit))
    client.link.feed(request_frame(99, codes.OP_CREATE, create_body(b"/w")) + small)
    server.driver.turn()
    assert len(client.link.conn.waiting) == limit + 1
    server.run(50)
    assert len(xids(client)) == 2 + 3 * limit


def test_frame_in_small_pieces_takes_no_more_memory_than_itself() -> None:
    server, client = with_big()
    size = 500_000
    whole = request_frame(7, codes.OP_CREATE, create_body(b"/slow", bytes(range(250)) * (size // 250)))
    receive = server.replica.on_received
    server.replica.begin_turn(server.clock.now_ms, server.clock.wall_ms())
    tracemalloc.start()
    try:
        for at in range(0, len(whole) - 2, 2):
            receive(client.link.conn, whole[at : at + 2])
        assert tracemalloc.get_traced_memory()[1] < 2 * size
    finally:
        tracemalloc.stop()
    server.driver.received(client.link.conn, whole[(len(whole) - 1) // 2 * 2 :])
    server.run()
    assert client.reply(7).err == OK


def test_reply_to_a_multi_read_is_bounded() -> None:
    server, client = with_big()
    parts = [(codes.OP_GET_DATA, READ_BIG)] * (MAX_ANSWER_BYTES // BIG_BYTES + 10)
    few = client.send(codes.OP_MULTI_READ, multi_body(*parts[:3]))
    many = client.send(codes.OP_MULTI_READ, multi_body(*parts))
    server.run(5)
    assert client.reply(few).err == OK
    assert len(client.reply(few).body) > 3 * BIG_BYTES
    assert client.reply(many).err == MARSHALLING_ERROR
    assert len(client.reply(many).body) == 9


def test_identities_of_a_connection_are_bounded() -> None:
    server = serve()
    client = joined(server)
    for number in range(MAX_IDENTITIES - 1):
        client.send(codes.OP_AUTH, auth_body("digest", b"u%d:x" % number), xid=codes.XID_AUTH)
    # One that is there already is no new one.
    client.send(codes.OP_AUTH, auth_body("digest", b"u0:x"), xid=codes.XID_AUTH)
    server.run(1)
    assert {reply.err for reply in client.replies} == {OK}
    client.send(codes.OP_AUTH, auth_body("digest", b"one:more"), xid=codes.XID_AUTH)
    server.run(1)
    assert client.replies[-1].err == AUTH_FAILED
    assert not client.is_open


# The super user's password.

SUPER = b"super:secret"


def guarded() -> SimServer:
    return serve(config=SimConfig(access=AccessConfig(super_digest=generate_digest(SUPER.decode()))))


def guess(server: SimServer, password: bytes, host: str = "10.0.0.1") -> int:
    """The error of the answer."""
    client = SimClient(server.link((host, 40000)))
    client.open_session()
    server.run(2)
    client.send(codes.OP_AUTH, auth_body("digest", password), xid=codes.XID_AUTH)
    server.run(1)
    client.link.drop()
    return client.replies[-1].err


def test_guessing_the_super_user_s_password_is_limited_by_address_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    server = guarded()
    for number in range(guard.MAX_WRONG):
        assert guess(server, b"super:%d" % number) == OK, "as in Java: an identity like any other"
    # From here on nobody learns anything, with the right one neither. Other users and addresses are not concerned.
    assert guess(server, SUPER) == AUTH_FAILED
    assert guess(server, b"super:wrong") == AUTH_FAILED
    assert guess(server, b"alice:alice") == OK
    assert guess(server, SUPER, "10.0.0.2") == OK
    assert [record.getMessage() for record in caplog.records if record.name == guard.logger.name] == [
        "wrong password of the super user peer=10.0.0.1",
        f"too many wrong passwords of the super user peer=10.0.0.1 barred_ms={guard.WINDOW_MS}",
    ]
    assert server.replica.stats.auth_failed == 2
    assert "secret" not in caplog.text
    server.run(guard.WINDOW_MS)
    assert guess(server, SUPER) == OK


def test_addresses_that_guess_are_remembered_up_to_a_limit() -> None:
    one = guard.Guard()
    for number in range(guard.MAX_ADDRESSES + 5):
        assert not one.refuses_super(f"h{number}", False, 0)
    assert len(one._wrong) == guard.MAX_ADDRESSES


def test_session_that_moves_to_another_connection_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = serve()
    first = joined(server)
    second = SimClient(server.link(("10.9.9.9", 1)))
    second.resume_from(first)
    server.run(1)
    assert second.session_id == first.session_id
    assert f"session moved session={first.session_id:#x} from=127.0.0.1 to=10.9.9.9" in caplog.text
