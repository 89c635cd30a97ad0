"""The replica behind its driver, byte for byte: order of replies, opcodes, identities, events, what is counted.

Expectations are ZooKeeper's (ZooKeeperServer, PrepRequestProcessor, FinalRequestProcessor), and the guarantees by their
names: W writes, R reads, E events. Tests that take `parts` are also run on broken servers, by test_mutants.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from coati import errors
from coati.core.acl import AccessConfig, generate_digest
from coati.core.prepare import PrepareConfig
from coati.server.replica import ReplicaConfig
from coati.testing.clock import SimClock
from coati.testing.server import (
    Event,
    Parts,
    Reply,
    SimClient,
    SimConfig,
    SimServer,
    create_body,
    data_of,
    names_of,
    path_of,
    request_frame,
    stat_of,
)
from coati.wire import codes
from coati.wire.jute import Reader, Writer
from coati.wire.records import ACL, Id, SetWatches, WhoAmIResponse
from tests.server.kit import EPHEMERAL, acl_body, auth_body, joined, path_and_int, serve, xids

# Order within a session


def test_pipelined_replies_leave_in_the_order_of_the_requests(parts: Parts) -> None:
    """W4 and R3: a read sees the writes before it, and not those behind."""
    server = serve(parts)
    client = joined(server)
    client.create(b"/a", b"0")
    for number in range(1, 6):
        client.set_data(b"/a", b"%d" % number)
        client.get(b"/a")
        client.ping()
        client.children(b"/")
    client.set_data(b"/none", b"")
    client.exists(b"/none")
    client.delete(b"/a")
    client.get(b"/a")
    server.run()
    order = [1]
    for number in range(1, 6):
        first = number * 3 - 1
        order += [first, first + 1, codes.XID_PING, first + 2]
    assert xids(client) == [*order, 17, 18, 19, 20]
    for number in range(1, 6):
        read = client.reply(number * 3)
        assert data_of(read) == b"%d" % number
        assert stat_of(read).version == number
        assert read.zxid == client.reply(number * 3 - 1).zxid
    assert [client.reply(xid).err for xid in (17, 18, 19, 20)] == [errors.NO_NODE, errors.NO_NODE, 0, errors.NO_NODE]


def test_a_write_does_not_delay_the_reads_of_other_sessions() -> None:
    server = serve(config=SimConfig(disk_ms=(500, 500)))
    writer = server.client()
    reader = server.client()
    server.run(600)
    writer.create(b"/a")
    writer.get(b"/a")
    server.run(10)
    reader.get(b"/")
    reader.exists(b"/a")
    server.run(10)
    assert [reply.err for reply in reader.replies] == [errors.OK, errors.NO_NODE]
    assert not writer.replies
    server.run(1000)
    assert xids(writer) == [1, 2]


def test_requests_sent_with_the_handshake_wait_for_it() -> None:
    server = serve()
    client = server.client()
    client.get(b"/")
    client.create(b"/a", flags=EPHEMERAL)
    server.run()
    assert [reply.err for reply in client.replies] == [errors.OK, errors.OK]
    assert stat_of(client.reply(2)).ephemeral_owner == client.session_id


def test_errors_of_writes_are_txns_and_do_not_stop_what_follows() -> None:
    server = serve()
    client = joined(server)
    client.create(b"/a")
    client.create(b"/a")
    client.set_data(b"/a", b"x", version=7)
    client.send(codes.OP_SET_DATA, b"\0\0\0\2")
    client.set_data(b"/a", b"y", version=0)
    server.run()
    expected = [0, errors.NODE_EXISTS, errors.BAD_VERSION, errors.MARSHALLING_ERROR, 0]
    assert [reply.err for reply in client.replies] == expected
    # The session's createSession was the first txn; what cannot be read has none, as in Java.
    assert [reply.zxid for reply in client.replies] == [2, 3, 4, 4, 5]
    assert server.replica.solo.delivered_zxid == 5


def test_a_refused_multi_leaves_nothing_for_those_behind_it(parts: Parts) -> None:
    """W7 in a pipeline: what the failed multi had staged is forgotten before the next request is prepared."""
    server = serve(parts)
    client = joined(server)
    client.multi(
        (codes.OP_CREATE, create_body(b"/m", b"1")), (codes.OP_SET_DATA, b"\0\0\0\5/none\0\0\0\0\xff\xff\xff\xff")
    )
    client.create(b"/m/child")
    client.create(b"/m", b"2")
    client.get(b"/m")
    server.run()
    assert [reply.err for reply in client.replies] == [errors.OK, errors.NO_NODE, errors.OK, errors.OK]
    assert data_of(client.reply(4)) == b"2"
    assert stat_of(client.reply(4)).czxid == client.reply(3).zxid


def test_short_and_plain_reads_mix_with_others_in_one_piece() -> None:
    server = serve()
    client = joined(server)
    client.create(b"/a", b"x")
    client.create(b"/closed", b"y", acl=[ACL(codes.PERM_ALL, Id("ip", "127.0.0.1"))])
    server.run()
    frames = [
        request_frame(10, codes.OP_GET_DATA, b"\0\0\0\2/a\0"),
        request_frame(codes.XID_PING, codes.OP_PING),
        request_frame(11, codes.OP_GET_DATA, b"\0\0\0\7/closed\0"),
        request_frame(12, codes.OP_GET_DATA, b"\0\0\0\4/nil\0"),
        request_frame(13, codes.OP_GET_DATA, b"\xff\xff\xff\xff\0"),
        request_frame(14, codes.OP_GET_DATA, b"\xff\xff\xff\xff"),
        request_frame(15, codes.OP_GET_DATA, b"\0\0\0\2/a\0 and what Java never reads"),
        request_frame(16, codes.OP_GET_DATA, b"\0\0\0\2/a\1"),
        request_frame(17, codes.OP_GET_DATA, b"\0\0\0\2/a\0"),
        request_frame(codes.XID_PING, codes.OP_PING),
    ]
    client.link.feed(b"".join(frames))
    server.run()
    answers = client.replies[2:]
    assert [reply.xid for reply in answers] == [10, codes.XID_PING, 11, 12, 13, 14, 15, 16, 17, codes.XID_PING]
    expected = [0, 0, 0, errors.NO_NODE, errors.MARSHALLING_ERROR, errors.MARSHALLING_ERROR, 0, 0, 0, 0]
    assert [reply.err for reply in answers] == expected
    assert data_of(answers[2]) == b"y"
    assert server.replica.watches.size() == 1


def test_one_answer_of_a_turn_is_one_send() -> None:
    server = serve()
    client = joined(server)
    sends = client.link.sends
    client.link.feed(b"".join(request_frame(xid, codes.OP_EXISTS, b"\0\0\0\1/\0") for xid in range(1, 50)))
    server.run()
    assert len(client.replies) == 49
    assert client.link.sends == sends + 1


# Opcodes and frames


@pytest.mark.parametrize(
    "op",
    [
        codes.OP_NOTIFICATION,
        codes.OP_ERROR,
        codes.OP_CREATE_SESSION,
        codes.OP_DELETE_CONTAINER,
        codes.OP_CHECK,
        10,
        9999,
        -2,
        2**31 - 1,
    ],
)
def test_an_unknown_or_internal_opcode_is_refused_and_not_logged(op: int) -> None:
    """UnimplementedRequestProcessor: a reply with zxid -1, then the connection is closed; the session stays."""
    server = serve()
    client = joined(server)
    client.send(codes.OP_CREATE_CONTAINER, create_body(b"/c", flags=codes.FLAG_CONTAINER))
    server.run()
    last = server.replica.solo.proposed_zxid
    client.send(op, b"\0\0\0\2/c")
    client.get(b"/c")
    server.run()
    assert client.replies[1:] == [Reply(2, -1, errors.UNIMPLEMENTED, b"")]
    assert not client.is_open
    assert server.replica.solo.proposed_zxid == last
    assert client.session_id in server.replica.sessions.sessions
    assert b"/c" in server.tree.nodes


@pytest.mark.parametrize("length", [-1, -(2**31), 0, 4, 7, codes.MAX_BUFFER_BYTES + 1, 2**31 - 1])
def test_a_bad_length_in_a_session_closes_the_connection(length: int) -> None:
    server = serve()
    client = joined(server)
    good = request_frame(1, codes.OP_GET_DATA, b"\0\0\0\1/\0")
    client.link.feed(good + (length & 0xFFFFFFFF).to_bytes(4, "big") + bytes(20) + good)
    server.run()
    assert not client.is_open
    assert xids(client) == [1]
    assert client.session_id in server.replica.sessions.sessions


def test_a_long_request_is_not_kept_beyond_the_limit() -> None:
    server = serve(config=SimConfig(replica=ReplicaConfig(max_frame_bytes=100)))
    client = joined(server)
    client.link.feed(request_frame(1, codes.OP_SET_DATA, b"\0\0\0\1/" + bytes(87)))
    server.run()
    client.link.feed((101).to_bytes(4, "big"))
    server.run()
    assert xids(client) == [1]
    assert not client.is_open


def test_no_request_is_executed_behind_a_close(parts: Parts) -> None:
    server = serve(parts)
    client = joined(server)
    other = joined(server)
    client.create(b"/mine", flags=EPHEMERAL)
    client.get(b"/mine")
    client.close_session()
    client.create(b"/late")
    client.close_session()
    client.get(b"/mine")
    server.run()
    assert [(reply.xid, reply.err) for reply in client.replies] == [(1, 0), (2, 0), (3, 0)]
    assert not client.is_open
    other.children(b"/")
    server.run()
    assert names_of(other.reply(1)) == [b"zookeeper"]
    assert client.session_id not in server.replica.sessions.sessions
    assert client.session_id not in server.replica.homes


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\0\0\0\2/a\0", id="plain"),
        pytest.param(b"\0\0\0\2/a\1", id="watch"),
        pytest.param(b"\0\0\0\2/a\0rest\0", id="garbage behind it"),
        pytest.param(b"\0\0\0\1/a\0", id="length too short"),
        pytest.param(b"\0\0\0\3/a\0", id="length too long"),
        pytest.param(b"\0\0\0\2/a", id="no flag"),
        pytest.param(b"\0\0\0\2/b\0", id="nobody's"),
        pytest.param(b"\0\0\0\2/c\0", id="not there"),
        pytest.param(b"\xff\xff\xff\xff\0", id="null"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_read_behind_a_write_is_answered_as_any_other(parts: Parts, body: bytes) -> None:
    server = serve(parts)
    client = joined(server)
    client.create(b"/a", b"data")
    client.create(b"/b", acl=[])
    client.create(b"/b", acl=[ACL(codes.PERM_READ, Id("digest", "not:you"))])
    server.run()
    alone = client.send(codes.OP_GET_DATA, body)
    server.run()
    client.set_data(b"/z", b"which is not there")
    behind = client.send(codes.OP_GET_DATA, body)
    server.run()
    assert (client.reply(behind).err, client.reply(behind).body) == (client.reply(alone).err, client.reply(alone).body)


def test_a_txn_that_could_not_be_read_back_is_refused() -> None:
    """ZOOKEEPER-3496: the ACL `auth` becomes all the ids of the client, however many these are."""
    limit = 2000
    config = SimConfig(prepare=PrepareConfig(max_payload_bytes=limit))
    config.store = replace(config.store, max_payload_bytes=limit)
    server = serve(config=config)
    client = joined(server)
    for number in range(60):
        client.send(codes.OP_AUTH, auth_body("digest", b"user%d:x" % number), xid=codes.XID_AUTH)
    creator = [ACL(codes.PERM_ALL, Id("auth", ""))]
    client.create(b"/a", acl=creator)
    client.multi((codes.OP_CREATE, create_body(b"/b")), (codes.OP_CREATE, create_body(b"/c", acl=creator)))
    client.create(b"/a/b")
    client.create(b"/b")
    server.run()
    replies = [reply for reply in client.replies if reply.xid != codes.XID_AUTH]
    assert [reply.err for reply in replies] == [errors.MARSHALLING_ERROR] * 2 + [errors.NO_NODE, errors.OK]
    server.stop()
    server.start()
    assert server.loaded.tree.digest_mismatches == 0
    assert b"/a" not in server.tree.nodes


def test_closing_a_session_with_many_ephemerals_is_one_txn_that_can_be_read_back() -> None:
    """ZOOKEEPER-4306: the list in the txn is cut, the deletes are not."""
    limit = 2000
    config = SimConfig(prepare=PrepareConfig(max_payload_bytes=limit))
    config.store = replace(config.store, max_payload_bytes=limit)
    server = serve(config=config)
    client = joined(server)
    for number in range(40):
        client.create(b"/%d" % number + b"x" * 100, flags=EPHEMERAL)
    server.run()
    assert len(server.tree.nodes) == 44
    client.close_session()
    server.run()
    assert client.replies[-1].err == errors.OK
    assert len(server.tree.nodes) == 4
    digest = server.tree.digest
    server.kill()
    server.start()
    assert (server.tree.digest, server.tree.digest_mismatches) == (digest, 0)
    assert len(server.tree.nodes) == 4


# Identities


def test_a_good_identity_is_told_at_once_and_counts_from_then_on() -> None:
    server = serve()
    client = joined(server)
    secret = [ACL(codes.PERM_ALL, Id("digest", generate_digest("bob:pw")))]
    client.create(b"/secret", acl=secret)
    client.get(b"/secret")
    client.send(codes.OP_AUTH, auth_body("digest", b"bob:pw"), xid=codes.XID_AUTH)
    client.send(codes.OP_AUTH, auth_body("digest", b"bob:pw"), xid=codes.XID_AUTH)
    server.run()
    # The packet overtakes the write, and the read behind the write finds the identity there, as in Java.
    assert client.replies[0] == Reply(codes.XID_AUTH, 0, errors.OK, b"")
    assert xids(client) == [codes.XID_AUTH, codes.XID_AUTH, 1, 2]
    assert client.reply(2).err == errors.OK
    xid = client.send(codes.OP_WHO_AM_I)
    server.run()
    who = WhoAmIResponse.read(Reader(client.reply(xid).body))
    assert [(info.auth_scheme, info.user) for info in who.client_info or []] == [("ip", "127.0.0.1"), ("digest", "bob")]


@pytest.mark.parametrize(("scheme", "auth"), [("nobody", b"x"), ("ip", b""), ("digest", b"no colon")])
def test_a_refused_identity_is_told_and_the_connection_closed(scheme: str, auth: bytes) -> None:
    server = serve(config=SimConfig(access=AccessConfig(digest_enabled=False)))
    client = joined(server)
    client.create(b"/a")
    client.get(b"/a", watch=True)
    client.send(codes.OP_AUTH, auth_body("digest" if scheme == "ip" else scheme, auth), xid=codes.XID_AUTH)
    client.create(b"/late")
    server.run()
    assert client.replies == [Reply(codes.XID_AUTH, 0, errors.AUTH_FAILED, b"")]
    assert not client.is_open
    assert server.replica.stats.auth_failed == 1
    assert client.session_id in server.replica.sessions.sessions
    # What was on its way takes effect; nobody is there to be told, nor to watch.
    assert b"/a" in server.tree.nodes
    assert b"/late" not in server.tree.nodes
    assert server.replica.watches.size() == 0


REQUIRED = SimConfig(replica=ReplicaConfig(required_schemes=("digest",)))
REFUSED = errors.SESSION_CLOSED_REQUIRE_SASL_AUTH


@pytest.mark.parametrize("op", [codes.OP_GET_DATA, codes.OP_CREATE, codes.OP_PING, codes.OP_CLOSE_SESSION, 55])
def test_who_must_authenticate_is_refused_everything_else(op: int, caplog: pytest.LogCaptureFixture) -> None:
    """ZOOKEEPER-3905: nothing is executed first; the session stays."""
    server = serve(config=REQUIRED)
    client = joined(server)
    zxid = server.tree.last_zxid
    client.send(op, create_body(b"/a") if op == codes.OP_CREATE else path_and_int(b"/", 0)[:-3], xid=7)
    client.send(codes.OP_AUTH, auth_body("digest", b"bob:pw"), xid=codes.XID_AUTH)
    server.run()
    assert client.replies == [Reply(7, 0, REFUSED, b"")]
    assert not client.is_open
    assert server.tree.last_zxid == zxid
    assert client.session_id in server.replica.sessions.sessions
    session = f"{client.session_id:#x}"
    assert f"client refused host=127.0.0.1 session={session} reason=not authenticated by a scheme" in caplog.text


def test_who_has_authenticated_as_required_is_served_from_the_next_request_on() -> None:
    server = serve(config=REQUIRED)
    client = joined(server)
    client.send(codes.OP_AUTH, auth_body("ip", b""), xid=codes.XID_AUTH)
    client.send(codes.OP_AUTH, auth_body("digest", b"bob:pw"), xid=codes.XID_AUTH)
    client.create(b"/a")
    client.get(b"/a")
    server.run()
    assert [reply.err for reply in client.replies] == [errors.OK] * 4
    assert client.is_open


def test_each_connection_of_a_session_has_to_authenticate() -> None:
    server = serve(config=REQUIRED)
    client = joined(server)
    client.send(codes.OP_AUTH, auth_body("digest", b"bob:pw"), xid=codes.XID_AUTH)
    server.run()
    back = SimClient(server.link())
    back.resume_from(client)
    back.get(b"/")
    server.run()
    assert back.session_id == client.session_id
    assert [reply.err for reply in back.replies] == [REFUSED]
    assert not back.is_open


def test_who_must_authenticate_is_refused_what_came_with_the_handshake() -> None:
    server = serve(config=REQUIRED)
    client = server.client()
    client.create(b"/a")
    client.get(b"/")
    server.run()
    assert client.session_id in server.replica.sessions.sessions
    assert [(reply.xid, reply.err) for reply in client.replies] == [(1, REFUSED)]
    assert b"/a" not in server.tree.nodes


def test_refused_requests_do_not_keep_a_session_alive() -> None:
    server = serve(config=REQUIRED)
    client = joined(server)
    session = server.replica.sessions.sessions[client.session_id]
    deadline_ms = session.deadline_ms
    server.run(1000)
    client.ping()
    server.run()
    assert [reply.err for reply in client.replies] == [REFUSED]
    assert session.deadline_ms == deadline_ms


def test_broken_frames_of_the_unauthenticated_end_the_connection() -> None:
    for data in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\4\0\0\0\1", b"\0\0\0\0"):
        server = serve(config=REQUIRED)
        client = joined(server)
        client.link.feed(data)
        server.run()
        assert not client.replies
        assert not client.is_open


def test_a_client_of_another_ensemble_is_closed_without_a_word() -> None:
    """EnsembleAuthenticationProvider: it shall look for another server."""
    server = serve(config=SimConfig(access=AccessConfig(schemes=("ensemble",), ensemble_names=("ours",))))
    friend, stranger = joined(server), joined(server)
    friend.send(codes.OP_AUTH, auth_body("ensemble", b"ours"), xid=codes.XID_AUTH)
    stranger.send(codes.OP_AUTH, auth_body("ensemble", b"theirs"), xid=codes.XID_AUTH)
    server.run()
    assert friend.is_open
    assert friend.replies == [Reply(codes.XID_AUTH, 0, errors.OK, b"")]
    assert not stranger.is_open
    assert not stranger.replies


def test_a_broken_auth_packet_closes() -> None:
    server = serve()
    client = joined(server)
    client.send(codes.OP_AUTH, b"\0\0\0\0\0\0", xid=codes.XID_AUTH)
    server.run()
    assert not client.is_open
    assert not client.replies


def test_a_sasl_token_is_answered_where_sasl_is_off() -> None:
    server = serve()
    client = joined(server)
    client.send(codes.OP_SASL, b"\0\0\0\0")
    client.get(b"/")
    server.run()
    assert client.replies[0] == Reply(1, 0, errors.OK, b"\xff\xff\xff\xff")
    assert client.reply(2).err == errors.OK


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff\xff"])
def test_a_missing_sasl_token_closes(body: bytes) -> None:
    server = serve()
    client = joined(server)
    client.send(codes.OP_SASL, body)
    server.run()
    assert not client.is_open
    assert not client.replies


# Events


def test_an_event_comes_before_the_reply_that_reveals_it(parts: Parts) -> None:
    """E1 and E2: to a reader, and to the writer itself; once each."""
    server = serve(parts)
    writer = joined(server)
    reader = joined(server)
    writer.create(b"/a")
    server.run()
    reader.get(b"/a", watch=True)
    reader.get(b"/a", watch=True)
    writer.get(b"/a", watch=True)
    server.run()
    writer.set_data(b"/a", b"x")
    writer.set_data(b"/a", b"y")
    server.run(0)
    reader.get(b"/a")
    server.run()
    reader.get(b"/a")
    server.run()
    zxid = writer.reply(3).zxid
    told = Event(zxid, codes.EVENT_DATA_CHANGED, b"/a")
    assert [entry.xid if isinstance(entry, Reply) else entry for entry in writer.log] == [1, 2, told, 3, 4]
    assert [entry.xid if isinstance(entry, Reply) else entry for entry in reader.log] == [1, 2, 3, told, 4]
    assert data_of(reader.reply(3)) == b""
    assert data_of(reader.reply(4)) == b"y"
    assert reader.reply(4).zxid >= zxid


def test_an_event_reaches_a_reader_whose_own_write_waits() -> None:
    """E3: events and replies of a connection are in the order of zxids."""
    server = serve()
    writer = joined(server)
    reader = joined(server)
    reader.exists(b"/a", watch=True)
    reader.children(b"/", watch=True)
    server.run()
    reader.create(b"/r")
    writer.create(b"/a")
    reader.get(b"/a")
    server.run()
    order = [entry.xid if isinstance(entry, Reply) else (entry.type, entry.path) for entry in reader.log]
    children = (codes.EVENT_CHILDREN_CHANGED, b"/")
    assert order == [1, 2, children, 3, 4, (codes.EVENT_CREATED, b"/a")]
    # Behind its own write, and before the other one: so it does not see that.
    assert reader.reply(4).err == errors.NO_NODE


def test_persistent_watches_stay_and_one_shots_go(parts: Parts) -> None:
    server = serve(parts)
    client = joined(server)
    client.send(codes.OP_ADD_WATCH, path_and_int(b"/", codes.WATCH_MODE_PERSISTENT_RECURSIVE))
    client.create(b"/a")
    client.exists(b"/a", watch=True)
    client.create(b"/a/b")
    client.delete(b"/a/b")
    client.delete(b"/a")
    server.run()
    paths = [(event.type, event.path) for event in client.events]
    created, deleted = codes.EVENT_CREATED, codes.EVENT_DELETED
    assert paths == [(created, b"/a"), (created, b"/a/b"), (deleted, b"/a/b"), (deleted, b"/a")]
    assert server.replica.watches.size() == 1
    assert server.replica.conns[client.link.conn] is None
    assert client.link.conn.sent == 1 + 6 + 4


def test_events_go_only_to_those_who_may_read(parts: Parts) -> None:
    """E6 (CVE-2024-23944)."""
    server = serve(parts)
    owner = joined(server)
    stranger = joined(server)
    for client in (owner, stranger):
        client.send(codes.OP_ADD_WATCH, path_and_int(b"/", codes.WATCH_MODE_PERSISTENT_RECURSIVE))
    owner.send(codes.OP_AUTH, auth_body("digest", b"bob:pw"), xid=codes.XID_AUTH)
    owner.create(b"/secret", acl=[ACL(codes.PERM_ALL, Id("auth", ""))])
    owner.set_data(b"/secret", b"x")
    owner.send(
        codes.OP_SET_ACL, acl_body(b"/secret", [ACL(codes.PERM_WRITE | codes.PERM_ADMIN, Id("world", "anyone"))])
    )
    owner.delete(b"/secret")
    owner.create(b"/open")
    server.run()
    assert [event.path for event in stranger.events] == [b"/open"]
    assert [event.path for event in owner.events] == [b"/secret", b"/secret", b"/open"]


def test_the_watches_of_a_connection_go_with_it(parts: Parts) -> None:
    """E7: also those of a read that was still waiting when the connection went."""
    server = serve(parts)
    client = joined(server)
    client.get(b"/", watch=True)
    client.send(codes.OP_ADD_WATCH, path_and_int(b"/", codes.WATCH_MODE_PERSISTENT))
    server.run()
    client.create(b"/a")
    client.get(b"/a", watch=True)
    client.children(b"/a", watch=True)
    server.run(0)
    assert server.replica.watches.size() > 0
    client.link.drop()
    server.run()
    assert b"/a" in server.tree.nodes
    assert server.replica.watches.size() == 0
    assert client.link.conn not in server.replica.conns
    assert client.session_id not in server.replica.homes


def test_watches_are_set_again_behind_what_was_missed() -> None:
    server = serve()
    client = joined(server)
    client.create(b"/a")
    client.create(b"/b")
    server.run()
    seen = client.last_zxid
    client.set_data(b"/a", b"x")
    server.run()
    back = SimClient(server.link())
    back.resume_from(client)
    w = Writer()
    SetWatches(seen, [b"/a", b"/b"], [b"/c"], [b"/gone"]).write(w)
    back.send(codes.OP_SET_WATCHES, w.getvalue(), xid=codes.XID_SET_WATCHES)
    server.run()
    changed, deleted = codes.EVENT_DATA_CHANGED, codes.EVENT_DELETED
    assert back.log[:2] == [Event(-1, changed, b"/a"), Event(-1, deleted, b"/gone")]
    assert back.log[2] == Reply(codes.XID_SET_WATCHES, client.last_zxid, errors.OK, b"")
    assert server.replica.watches.size() == 2


# What is counted


def test_requests_and_answers_are_counted_once() -> None:
    server = serve()
    client = joined(server)
    conn = client.link.conn
    assert (conn.received, conn.sent, conn.last_op, conn.last_cxid) == (1, 1, codes.OP_CREATE_SESSION, 0)
    client.create(b"/a")
    client.exists(b"/a")
    server.run(3)
    assert (conn.received, conn.sent, conn.last_op, conn.last_cxid) == (3, 3, codes.OP_EXISTS, 2)
    client.get(b"/a")
    server.run()
    assert (conn.received, conn.sent, conn.last_op, conn.last_cxid) == (4, 4, codes.OP_GET_DATA, 3)
    client.ping()
    server.run()
    assert (conn.received, conn.sent, conn.last_op, conn.last_cxid) == (5, 5, codes.OP_PING, 3)
    stats = server.replica.stats
    assert (stats.packets_received, stats.packets_sent) == (5, 5)
    assert stats.update_latency.count == 2
    reads = stats.summaries["readlatency"]
    assert reads.count == 3
    # The read behind the write waited as long as that.
    assert (reads.total, stats.update_latency.total) == (1, 2)


def test_a_wall_clock_that_jumps_expires_nobody() -> None:
    clock = SimClock()
    server = SimServer(clock).start()
    client = joined(server)
    client.create(b"/a")
    clock.skew_ms += 10**9
    client.create(b"/b")
    server.run()
    assert client.is_open
    assert path_of(client.reply(2)) == b"/b"
    assert stat_of(client.reply(2)).ctime == clock.wall_ms() - 50


@pytest.mark.parametrize("size", range(6))
def test_a_get_data_cut_short_behind_a_write_is_an_error_of_its_own(size: int) -> None:
    """Compiled, it was a SystemError, which ended the server."""
    server = serve()
    client = joined(server)
    client.create(b"/a")
    client.send(codes.OP_GET_DATA, bytes(size))
    client.get(b"/a")
    server.run()
    expected = errors.OK if size == 5 else errors.MARSHALLING_ERROR
    assert [reply.err for reply in client.replies] == [errors.OK, expected, errors.OK]
