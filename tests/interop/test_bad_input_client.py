"""Bad input on the client port: what Java 3.9.3 answers is what coati answers, and both go on serving.

Here connections: before a session exists, frames, records, sizes, authentication, order. What is wrong inside requests
is in test_bad_input_requests.py. After every test a well-behaved client is served and the process lives (`target`).
"""

from __future__ import annotations

import os
import struct
import threading
from time import monotonic

import pytest

from tests.interop import peers, raw
from tests.interop.hostile import (
    AUTH_FAILED,
    INT_MAX,
    INVALID_ACL,
    MARSHALLING,
    MAX_FRAME,
    NO_AUTH,
    NO_NODE,
    OK,
    PER_ADDRESS,
    SESSIONLESS_MS,
    UNIMPLEMENTED,
    ask,
)
from tests.interop.peers import Server
from tests.interop.raw import Reply, Session, Wire, frame, i32, i64, request


def before_session(server: Server, data: bytes) -> Wire:
    wire = Wire(server.host, server.port)
    wire.send(data)
    return wire


def assert_closed(wire: Wire) -> None:
    """The server hangs up without another byte."""
    with wire, pytest.raises(raw.Closed):
        wire.read_frame()


# --- before a session -----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [-1, -(2**31), 0, INT_MAX, MAX_FRAME + 1])
def test_first_frame_of_an_impossible_length_is_closed_at_once(target: Server, length: int) -> None:
    assert_closed(before_session(target, i32(length)))


def test_connections_without_a_session_are_closed_in_time(target: Server) -> None:
    files = f"/proc/{target.pid}/fd"
    opened = len(os.listdir(files))
    hello = frame(raw.connect_request(5000))
    began = monotonic()
    # A few that say nothing, that stop in the length, and that stop in the request.
    waiting = [before_session(target, hello[: (0, 2, 4, 20, 47)[number % 5]]) for number in range(30)]
    for wire in waiting:
        assert_closed(wire)
    assert SESSIONLESS_MS / 1000 * 0.9 <= monotonic() - began < SESSIONLESS_MS / 1000 * 3 + 2
    peers.eventually(lambda: len(os.listdir(files)) <= opened, "the file descriptors are given back")


def test_connections_per_address_are_limited(target: Server) -> None:
    # Connections without a session count too; the bystander is one of the sixty.
    wires = [Wire(target.host, target.port) for _ in range(PER_ADDRESS - 1)]
    try:
        assert_closed(Wire(target.host, target.port))
    finally:
        for wire in wires:
            wire.close()

    def served() -> bool:
        try:
            peers.session(target).close()
        except (raw.Closed, OSError):
            return False
        return True

    peers.eventually(served, "places are given back")


def test_truncated_connect_request(target: Server) -> None:
    whole = raw.connect_request(5000)
    for length in range(len(whole) - 1):  # without its last byte it is a client's before 3.4, which is fine
        assert_closed(before_session(target, frame(whole[:length])))


def test_connect_request_cut_off_by_the_client_at_every_byte(target: Server) -> None:
    # Without its last byte it is not whole either: the length in front says so.
    whole = frame(raw.connect_request(5000))
    for length in range(len(whole)):
        wire = before_session(target, whole[:length])
        wire.sock.shutdown(1)
        assert_closed(wire)


def test_connect_request_without_read_only_is_an_old_client(target: Server) -> None:
    with before_session(target, frame(raw.connect_request(5000, read_only=None))) as wire:
        answer = wire.read_frame()
        assert len(answer) == 36
        protocol, timeout_ms, session_id = struct.unpack(">iiq", answer[:16])
        assert (protocol, timeout_ms) == (0, 5000)
        assert session_id != 0
        wire.send(request(1, raw.CLOSE_SESSION))
        wire.read_frame()


@pytest.mark.parametrize(
    ("asked", "granted"),
    [(0, 400), (-1, 400), (-(2**31), 400), (399, 400), (401, 401), (60_001, 60_000), (INT_MAX, 60_000)],
)
def test_timeout_is_brought_between_its_limits(target: Server, asked: int, granted: int) -> None:
    with Session(target.host, target.port, asked) as session:
        assert session.timeout_ms == granted
        session.close()


@pytest.mark.parametrize("ahead", [1, 1 << 32, 2**63 - 1], ids=["a little", "an epoch", "as far as can be"])
def test_client_that_has_seen_more_is_sent_away_without_a_session(target: Server, ahead: int) -> None:
    with peers.session(target) as witness:
        seen = witness.ping()
        assert_closed(before_session(target, frame(raw.connect_request(5000, last_zxid=min(seen + ahead, 2**63 - 1)))))
        assert witness.ping() == seen, "a session was opened for it"
        with Session(target.host, target.port, last_zxid=seen) as served:
            served.close()
        witness.close()


def test_session_that_never_was_is_expired(target: Server) -> None:
    with pytest.raises(raw.Expired):
        Session(target.host, target.port, session_id=0x1234567890ABCDEF, password=b"p" * 16)


@pytest.mark.parametrize("version", [1, -1, 99])
def test_protocol_version_is_not_looked_at(target: Server, version: int) -> None:
    with before_session(target, frame(i32(version) + raw.connect_request(5000)[4:])) as wire:
        assert wire.read_frame()[:8] == i32(0) + i32(5000)
        wire.send(request(1, raw.CLOSE_SESSION))
        wire.read_frame()


@pytest.mark.parametrize(
    "password", [None, b"", b"x" * 15, b"x" * 17, b"x" * 1_000_000], ids=["null", "0", "15", "17", "1M"]
)
def test_password_of_any_size_for_a_new_session(target: Server, password: bytes | None) -> None:
    with before_session(target, frame(raw.connect_request(5000, 0, password))) as wire:
        assert wire.read_frame()[:8] == i32(0) + i32(5000)
        wire.send(request(1, raw.CLOSE_SESSION))
        wire.read_frame()


def test_wrong_password_looks_like_an_expired_session(target: Server) -> None:
    with peers.session(target) as session:
        pass
    for password in (None, b"", bytes(16), session.password[:15], session.password + b"x", b"x" * 100_000):
        with before_session(target, frame(raw.connect_request(5000, session.session_id, password))) as wire:
            assert wire.read_frame() == i32(0) + i32(0) + i64(0) + raw.buffer(bytes(16)) + b"\0"
            with pytest.raises(raw.Closed):
                wire.read_frame()
    with Session(target.host, target.port, session_id=session.session_id, password=session.password) as again:
        again.close()


def test_session_of_another_connection_moves_to_who_knows_its_password(target: Server) -> None:
    with peers.session(target) as first:
        assert ask(first, raw.CREATE, raw.create("/moved", flags=1)) == OK
        with Session(target.host, target.port, session_id=first.session_id, password=first.password) as second:
            assert second.session_id == first.session_id
            with pytest.raises(raw.Closed):
                first.receive()
            assert ask(second, raw.EXISTS, raw.path_watch("/moved")) == OK
            second.close()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"ruok", b"imok"),
        (b"ruok\n", b"imok"),
        (b"ruok" + b"x" * 100, b"imok"),
        (b"stmk" + b"garbage!", b"%d" % int.from_bytes(b"garbage!", "big")),
        (b"gtmk", b"%d" % int.from_bytes(b"garbage!", "big")),
        (b"isro", b"rw"),
        (b"RUOK", b""),
        (b"Ruok", b""),
        (b"xyzw", b""),
        (b"\xff\xf4\xff\xfd", b"telnet close is not executed because it is not in the whitelist.\n"),
        (b"wchc", b"wchc is not executed because it is not in the whitelist.\n"),
        (b"dump", b"dump is not executed because it is not in the whitelist.\n"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b""),
    ],
)
def test_four_letters_and_strangers(target: Server, sent: bytes, answer: bytes) -> None:
    with before_session(target, sent) as wire:
        assert wire.read_to_end().strip() == answer.strip()


def test_four_letter_word_in_four_packets(target: Server) -> None:
    with Wire(target.host, target.port) as wire:
        for letter in b"srvr":
            wire.send(bytes([letter]))
        assert b"Mode: standalone" in wire.read_to_end()


def test_four_letter_word_with_a_megabyte_behind_it(target: Server) -> None:
    with before_session(target, b"ruok" + b"x" * 1_000_000) as wire:
        assert wire.read_to_end() in (b"imok", b"")  # the rest of the data may reset the connection first


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [frame(b""), frame(i32(1)), frame(b"1234567"), i32(-1), i32(-(2**31)), i32(INT_MAX), i32(MAX_FRAME + 1)],
    ids=["empty", "4 bytes", "7 bytes", "-1", "-2^31", "2^31-1", "too long"],
)
def test_frame_that_cannot_be_a_request_ends_the_connection(target: Server, data: bytes) -> None:
    with peers.session(target) as session:
        session.wire.send(data)
        with pytest.raises(raw.Closed):
            session.receive()
    with Session(target.host, target.port, session_id=session.session_id, password=session.password) as again:
        again.close()


@pytest.mark.parametrize("op", [9999, -1, 0, 10, 13, 23, 99, 108, -12])
def test_unknown_operation_is_refused_and_ends_the_connection(target: Server, op: int) -> None:
    with peers.session(target) as witness, peers.session(target) as session:
        before = witness.ping()
        session.send(op, raw.path_version("/", -1))
        assert session.receive() == Reply(1, -1, UNIMPLEMENTED, b"")
        with pytest.raises(raw.Closed):
            session.receive()
        assert witness.ping() == before, "it has been logged"
        witness.close()


def test_operations_of_servers_do_no_harm(target: Server) -> None:
    # createSession and deleteContainer: Java takes them from a client; whatever is answered, nothing may be deleted.
    with peers.session(target) as victim:
        assert ask(victim, raw.CREATE, raw.create("/kept")) == OK
        with peers.session(target) as session:
            session.send(raw.DELETE_CONTAINER, raw.ustring("/kept"))
            assert session.reply().err != OK or ask(victim, raw.EXISTS, raw.path_watch("/kept")) == NO_NODE
        if ask(victim, raw.EXISTS, raw.path_watch("/kept")) == OK:
            assert ask(victim, raw.DELETE, raw.path_version("/kept")) == OK
        victim.close()


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [INT_MAX, -2, -(2**31), 1_000_000, 100])
@pytest.mark.parametrize("op", [raw.CREATE, raw.DELETE, raw.EXISTS, raw.SET_DATA, raw.SYNC, raw.GET_ACL, raw.ADD_WATCH])
def test_length_inside_a_record_that_lies(target: Server, op: int, length: int) -> None:
    with peers.session(target) as session:
        assert ask(session, op, i32(length) + b"/abc") == MARSHALLING
        assert ask(session, raw.EXISTS, raw.path_watch("/")) == OK
        session.close()


@pytest.mark.parametrize("count", [INT_MAX, 1000])
def test_count_inside_a_record_that_lies(target: Server, count: int) -> None:
    with peers.session(target) as session:
        assert ask(session, raw.CREATE, raw.ustring("/q") + raw.buffer(b"") + i32(count)) == MARSHALLING
        session.send(raw.SET_WATCHES, i64(0) + i32(count), xid=raw.XID_SET_WATCHES)
        assert session.reply().err == MARSHALLING
        assert ask(session, raw.EXISTS, raw.path_watch("/")) == OK
        session.close()


def test_negative_counts_are_empty_lists(target: Server) -> None:
    with peers.session(target) as session:
        assert ask(session, raw.CREATE, raw.ustring("/q") + raw.buffer(b"") + i32(-5) + i32(0)) == INVALID_ACL
        session.send(raw.SET_WATCHES, i64(0) + i32(-5) + i32(0) + i32(0), xid=raw.XID_SET_WATCHES)
        assert session.reply().err == OK
        session.close()


def test_bytes_behind_a_record_are_ignored(target: Server) -> None:
    with peers.session(target) as session:
        assert ask(session, raw.EXISTS, raw.path_watch("/") + b"junk") == OK
        assert ask(session, raw.CREATE, raw.create("/trail") + b"junk") == OK
        assert ask(session, raw.DELETE, raw.path_version("/trail") + b"junk") == OK
        assert session.ping() > 0
        session.close()


# --- sizes ----------------------------------------------------------------------------------------


def test_data_up_to_the_limit_of_a_frame(target: Server) -> None:
    overhead = len(request(1, raw.CREATE, raw.create("/big", b""))) - 4
    with peers.session(target) as session:
        assert ask(session, raw.CREATE, raw.create("/big", bytes(MAX_FRAME - overhead))) == OK
        assert session.call(raw.GET_DATA, raw.path_watch("/big"))[0] == OK
        assert ask(session, raw.DELETE, raw.path_version("/big")) == OK
        session.send(raw.CREATE, raw.create("/big", bytes(MAX_FRAME - overhead + 1)))
        with pytest.raises(raw.Closed):
            session.receive()
    with Session(target.host, target.port, session_id=session.session_id, password=session.password) as again:
        assert ask(again, raw.EXISTS, raw.path_watch("/big")) == NO_NODE
        again.close()


def test_long_and_deep_paths(target: Server) -> None:
    with peers.session(target) as session:
        long = "/" + "x" * 900_000
        assert ask(session, raw.CREATE, raw.create(long)) == OK
        assert ask(session, raw.DELETE, raw.path_version(long)) == OK
        assert ask(session, raw.CREATE, raw.create("/x" * 400_000)) == NO_NODE
        assert ask(session, raw.EXISTS, raw.path_watch("/x" * 400_000, watch=True)) == NO_NODE
        session.send(raw.ADD_WATCH, raw.path_version("/x" * 100_000, 1))
        assert session.reply().err == OK
        session.close()


def test_many_watches_at_once(target: Server) -> None:
    paths = [f"/{number:x}" for number in range(100_000)]
    with peers.session(target) as session:
        session.send(raw.SET_WATCHES, raw.set_watches(session.last_zxid, [], paths, []), xid=raw.XID_SET_WATCHES)
        assert session.reply().err == OK
        assert ask(session, raw.CREATE, raw.create(paths[-1])) == OK
        assert [event.path for event in session.events] == [paths[-1]]
        assert ask(session, raw.DELETE, raw.path_version(paths[-1])) == OK
        session.close()


def test_many_requests_without_reading(target: Server) -> None:
    count = 30_000
    waiting = b"".join(request(number, raw.EXISTS, raw.path_watch("/")) for number in range(1, count + 1))
    with peers.session(target) as session:
        # Somebody else has to send: neither server reads on without end while nobody takes its answers.
        sender = threading.Thread(target=session.wire.sock.sendall, args=(waiting,))
        sender.start()
        assert [session.reply().xid for _ in range(count)] == list(range(1, count + 1))
        sender.join()
        session.close()


def test_client_that_does_not_read_its_events(target: Server) -> None:
    with peers.session(target) as deaf, peers.session(target) as writer:
        assert ask(deaf, raw.ADD_WATCH, raw.path_version("/hot", 1)) == OK
        assert ask(writer, raw.CREATE, raw.create("/hot")) == OK
        count = 5000
        writer.wire.send(b"".join(request(number, raw.SET_DATA, raw.set_data("/hot", b"")) for number in range(count)))
        for _ in range(count):
            assert writer.reply().err == OK
        assert ask(writer, raw.DELETE, raw.path_version("/hot")) == OK
        deaf.ping()
        assert len(deaf.events) == count + 2
        writer.close()
        deaf.close()


# --- authentication -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "data"),
    [("nope", b""), ("", b""), ("digest", None), ("super", b"x"), ("world", b"anyone"), ("auth", b"")],
)
def test_failed_authentication_ends_the_connection(target: Server, scheme: str, data: bytes | None) -> None:
    with peers.session(target) as session:
        session.send(raw.AUTH, raw.auth(scheme, data), xid=raw.XID_AUTH)
        assert session.receive() == Reply(raw.XID_AUTH, 0, AUTH_FAILED, b"")
        with pytest.raises(raw.Closed):
            session.receive()


@pytest.mark.parametrize("data", [b"nocolon", b"", b"a:", b":x", b"a:b:c", b"\xff\xfe:x", b"super:wrong"])
def test_odd_digests_are_taken_and_give_no_power(target: Server, data: bytes) -> None:
    with peers.session(target) as session:
        session.send(raw.AUTH, raw.auth("digest", data), xid=raw.XID_AUTH)
        assert session.receive() == Reply(raw.XID_AUTH, 0, OK, b"")
        assert ask(session, raw.SET_DATA, raw.set_data("/zookeeper/config", b"x")) == NO_AUTH
        session.close()


def test_very_many_identities(target: Server) -> None:
    with peers.session(target) as session:
        for number in range(900):
            session.send(raw.AUTH, raw.auth("digest", f"user{number}:x".encode()), xid=raw.XID_AUTH)
        assert {session.reply().err for _ in range(900)} == {OK}
        assert ask(session, raw.EXISTS, raw.path_watch("/")) == OK
        session.close()


@pytest.mark.parametrize("token", [b"", b"garbage", b"\0" * 100_000])
def test_sasl_where_it_is_not_configured(target: Server, token: bytes) -> None:
    with peers.session(target) as session:
        session.send(raw.SASL, raw.buffer(token))
        assert session.receive() == Reply(1, 0, OK, i32(-1))
        assert ask(session, raw.SET_DATA, raw.set_data("/zookeeper/config", b"x")) == NO_AUTH
        session.close()


@pytest.mark.parametrize(("op", "body"), [(raw.AUTH, b"\0\0"), (raw.SASL, b"\0\0"), (raw.SASL, i32(-1))])
def test_broken_authentication_record_ends_the_connection(target: Server, op: int, body: bytes) -> None:
    with peers.session(target) as session:
        session.send(op, body)
        with pytest.raises(raw.Closed):
            session.receive()


# --- order ----------------------------------------------------------------------------------------


def test_xids_are_the_clients_own_affair(target: Server) -> None:
    with peers.session(target) as session:
        for xid in (5, 5, 3, 0, -1, -2, -4, -8, -9, INT_MAX, -(2**31)):
            session.send(raw.GET_CHILDREN, raw.path_watch("/"), xid=xid)
            payload = session.wire.read_frame()
            assert raw.Reader(payload).i32() == xid
            assert raw.decode(raw.GET_CHILDREN, payload[16:])
        session.send(raw.PING, xid=7)
        assert session.reply().xid == raw.XID_PING
        session.send(raw.AUTH, raw.auth("digest", b"a:b"), xid=7)
        assert session.reply().xid == 7
        session.send(raw.SET_WATCHES, raw.set_watches(0, [], [], []), xid=7)
        assert session.reply().xid == 7
        session.close()


SECOND_CLOSE = 3


def refuse_until_closed(session: raw.Session) -> None:
    while True:
        late = session.receive()
        assert isinstance(late, Reply)
        # A session that is closed twice is closed.
        assert late.err != OK or late.xid == SECOND_CLOSE


def test_nothing_after_close_session_is_done(target: Server) -> None:
    with peers.session(target) as session:
        session.wire.send(
            request(1, raw.CLOSE_SESSION)
            + request(2, raw.CREATE, raw.create("/after"))
            + request(SECOND_CLOSE, raw.CLOSE_SESSION)
            + request(4, raw.CREATE, raw.create("/after", flags=1))
        )
        first = session.receive()
        assert isinstance(first, Reply)
        assert (first.xid, first.err) == (1, OK)
        # Java may still say no to what follows before its connection is gone.
        with pytest.raises(raw.Closed):
            refuse_until_closed(session)
    with peers.session(target) as witness:
        assert ask(witness, raw.EXISTS, raw.path_watch("/after")) == NO_NODE
        witness.close()
