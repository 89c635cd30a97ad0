"""Sessions of a served replica: how they begin, come back, expire and move; and what the server removes by itself.

Expectations are ZooKeeper's (ZooKeeperServer, SessionTrackerImpl, ExpiryQueue, ContainerManager); S1 to S7 are its
guarantees for sessions. Tests that take `parts` are also run on broken servers, by test_mutants.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from coati import errors
from coati.core.sessions import session_password
from coati.core.tree import TreeConfig
from coati.server.replica import ReplicaConfig
from coati.testing.server import (
    Parts,
    SimClient,
    SimConfig,
    connect_frame,
    create_body,
    data_of,
    request_frame,
    stat_of,
)
from coati.wire import codes
from coati.wire.jute import Writer
from coati.wire.records import ACL, CreateTTLRequest, Id
from tests.now import now
from tests.server.kit import EPHEMERAL, TICK_MS, auth_body, joined, serve, xids

# Handshake


def test_a_handshake_and_requests_arrive_byte_by_byte() -> None:
    server = serve()
    link = server.link()
    client = SimClient(link)
    stream = connect_frame(10_000) + request_frame(1, codes.OP_CREATE, create_body(b"/a", b"x"))
    stream += request_frame(codes.XID_PING, codes.OP_PING) + request_frame(2, codes.OP_GET_DATA, b"\0\0\0\2/a\0")
    for byte in stream:
        link.feed(bytes((byte,)))
        server.run(1)
    server.run()
    assert client.connected is not None
    assert xids(client) == [1, codes.XID_PING, 2]
    assert data_of(client.reply(2)) == b"x"


@pytest.mark.parametrize("cut", range(1, 45 + 12 + 14))
def test_a_handshake_with_requests_behind_it_may_be_cut_anywhere(cut: int) -> None:
    server = serve()
    link = server.link()
    client = SimClient(link)
    stream = connect_frame(10_000) + request_frame(1, codes.OP_EXISTS, b"\0\0\0\1/\0")
    stream += request_frame(codes.XID_PING, codes.OP_PING)
    link.feed(stream[:cut])
    server.run(1)
    link.feed(stream[cut:])
    server.run()
    assert xids(client) == [1, codes.XID_PING]


def test_the_reply_to_a_handshake_has_timeout_id_and_password() -> None:
    client = joined(serve())
    # length, protocolVersion, timeOut, sessionId, password, readOnly: spec of ConnectResponse.
    head = (37).to_bytes(4, "big") + bytes(4) + (10_000).to_bytes(4, "big")
    expected = head + client.session_id.to_bytes(8, "big") + (16).to_bytes(4, "big")
    assert bytes(client.link.received) == expected + session_password(client.session_id) + b"\0"
    # The high byte of an id is the server's number, 1 for a standalone one.
    assert client.session_id >> 56 == 1


def test_a_client_from_before_3_4_gets_a_reply_without_the_flag() -> None:
    server = serve()
    client = SimClient(server.link())
    client.open_session(has_read_only=False)
    server.run()
    assert len(client.link.received) == 4 + 36
    client.get(b"/")
    server.run()
    assert client.reply(1).err == errors.OK


@pytest.mark.parametrize(
    ("asked", "granted"), [(0, 4000), (-1, 4000), (3999, 4000), (4000, 4000), (40000, 40000), (2**31 - 1, 40000)]
)
def test_timeouts_are_clamped(asked: int, granted: int) -> None:
    server = serve()
    client = joined(server, asked)
    assert client.timeout_ms == granted
    again = SimClient(server.link())
    again.resume_from(client, timeout_ms=asked)
    server.run()
    assert again.timeout_ms == granted


def test_a_client_that_has_seen_more_is_refused_without_a_session() -> None:
    server = serve()
    client = SimClient(server.link())
    client.open_session(last_zxid=1)
    server.run()
    assert not client.is_open
    assert not client.link.received
    assert not server.replica.sessions.sessions
    assert server.replica.solo.proposed_zxid == 0


@pytest.mark.parametrize("password", [bytes(16), b"", None, b"x" * 15, b"x" * 17])
def test_a_wrong_password_looks_like_an_expired_session(password: bytes | None) -> None:
    """S5; the session and its connection are not touched by the attempt."""
    server = serve()
    owner = joined(server)
    link = server.link()
    thief = SimClient(link)
    link.feed(connect_frame(10_000, owner.session_id, password))
    link.feed(request_frame(1, codes.OP_GET_DATA, b"\0\0\0\1/\0"))
    server.run()
    unknown = SimClient(server.link())
    unknown.open_session(session_id=owner.session_id + 1, password=session_password(owner.session_id + 1))
    server.run()
    assert thief.link.received == unknown.link.received
    assert thief.connected is not None
    assert (thief.session_id, thief.timeout_ms, thief.password) == (0, 0, bytes(16))
    assert not thief.is_open
    assert not thief.replies
    assert owner.is_open
    owner.get(b"/")
    server.run()
    assert owner.reply(1).err == errors.OK


def test_a_session_that_comes_back_leaves_its_old_connection(parts: Parts) -> None:
    """S4: one home. What still arrives on the old connection is not executed."""
    server = serve(parts)
    old = joined(server)
    old.create(b"/mine", flags=EPHEMERAL)
    server.run()
    new = SimClient(server.link())
    new.resume_from(old)
    old.create(b"/late")
    server.run()
    assert (new.session_id, new.password) == (old.session_id, old.password)
    assert not old.is_open
    assert len(old.replies) == 1
    # Not even to refuse it: the session and its ephemeral are all there is.
    assert server.replica.solo.proposed_zxid == 2
    new.exists(b"/late")
    new.set_data(b"/mine", b"x")
    server.run()
    assert [reply.err for reply in new.replies] == [errors.NO_NODE, errors.OK]
    assert stat_of(new.replies[1]).ephemeral_owner == old.session_id


@pytest.mark.parametrize("is_closed_before", [False, True])
def test_reads_of_a_session_that_is_back_wait_for_its_writes_in_flight(is_closed_before: bool) -> None:
    """CommitProcessor keeps them by session: who looks for what it has made, as kazoo's locks do, must not miss it."""
    server = serve(config=SimConfig(disk_ms=(300, 300)))
    server.run(1000)
    old = server.client(timeout_ms=10_000)
    server.run(1000)
    old.create(b"/a")
    server.run(1)
    new = old
    for _ in range(2):
        # Also when it comes back once more before that.
        if is_closed_before:
            new.link.drop()
            server.run(1)
        back = SimClient(server.link())
        back.resume_from(new)
        new = back
        server.run(1)
    new.exists(b"/a")
    new.create(b"/b")
    new.exists(b"/b")
    server.run(1)
    assert new.replies == []
    server.run(1000)
    assert [reply.err for reply in new.replies] == [errors.OK] * 3
    assert new.link.conn.outstanding == 0


def test_writes_in_flight_when_a_session_moves_take_effect() -> None:
    server = serve()
    old = joined(server)
    old.create(b"/a")
    old.get(b"/a")
    server.run(0)
    new = SimClient(server.link())
    new.resume_from(old)
    new.get(b"/a")
    server.run()
    assert not old.replies
    assert not old.is_open
    # It has waited for what its session had asked for before.
    assert new.reply(3).err == errors.OK


def test_reads_kept_for_a_connection_that_was_left_are_no_sign_of_life() -> None:
    server = serve()
    old = joined(server, 40_000)
    old.create(b"/a", flags=EPHEMERAL)
    old.get(b"/a", watch=True)
    server.run(0)
    new = SimClient(server.link())
    new.resume_from(old, timeout_ms=4_000)
    server.run()
    new.link.drop()
    server.run(4_000 + TICK_MS)
    assert old.session_id not in server.replica.sessions.sessions
    assert server.replica.watches.size() == 0


@pytest.mark.parametrize("length", [-1, -(2**31), 0, 2**31 - 1, codes.MAX_BUFFER_BYTES + 1])
def test_a_bad_length_before_the_handshake_closes(length: int) -> None:
    server = serve()
    link = server.link()
    link.feed((length & 0xFFFFFFFF).to_bytes(4, "big"))
    server.run()
    assert not link.is_open
    assert not link.received


@pytest.mark.parametrize("size", range(43))
def test_a_handshake_that_is_too_short_closes(size: int) -> None:
    server = serve()
    link = server.link()
    link.feed(size.to_bytes(4, "big") + connect_frame(10_000)[4 : 4 + size])
    server.run()
    # 28 bytes are whole up to a password, but its length says that there is more.
    assert not link.is_open
    assert not server.replica.sessions.sessions


def test_the_version_of_a_handshake_is_not_looked_at() -> None:
    server = serve()
    link = server.link()
    frame = connect_frame(10_000)
    link.feed(frame[:4] + b"\0\0\0\7" + frame[8:])
    server.run()
    assert len(link.received) == 41


def test_session_ids_are_not_given_twice_when_the_clock_goes_back(parts: Parts) -> None:
    """S7."""
    server = serve(parts)
    first = [joined(server) for _ in range(3)]
    wall_ms = server.clock.wall_ms()
    server.stop()
    server.clock.skew_ms -= server.clock.wall_ms() - wall_ms + 3 * 50
    server.start()
    second = [joined(server) for _ in range(3)]
    ids = [client.session_id for client in first + second]
    assert len(dict.fromkeys(ids)) == 6


# Expiry


@pytest.mark.parametrize("offset_ms", [0, 1, 700, 1999, 2000])
def test_a_silent_session_expires_after_its_timeout_and_within_a_tick(offset_ms: int, parts: Parts) -> None:
    """S2 and S3, wherever in a tick its last sign of life falls."""
    server = serve(parts)
    server.run(offset_ms)
    client = joined(server)
    client.create(b"/mine", flags=EPHEMERAL)
    server.run(50)
    client.ping()
    server.run(0)
    server.run(10_000)
    assert now(client.is_open)
    assert b"/mine" in server.tree.nodes
    server.run(TICK_MS + 10)
    assert not client.is_open
    assert b"/mine" not in server.tree.nodes
    assert client.session_id not in server.replica.sessions.sessions
    assert client.session_id not in server.replica.sessions.timeouts


@pytest.mark.parametrize("kind", ["ping", "read", "fast read", "write", "auth"])
def test_every_request_is_a_sign_of_life(kind: str) -> None:
    server = serve()
    client = joined(server, 4000)
    for _ in range(8):
        if kind == "ping":
            client.ping()
        elif kind == "read":
            client.exists(b"/")
        elif kind == "fast read":
            client.get(b"/")
        elif kind == "write":
            client.create(b"/a")
        else:
            client.send(codes.OP_AUTH, auth_body("digest", b"a:b"), xid=codes.XID_AUTH)
        server.run(3900)
    assert client.is_open
    server.run(4000 + TICK_MS + 10)
    assert not client.is_open


def test_a_shorter_timeout_of_a_session_that_comes_back_counts_at_once(parts: Parts) -> None:
    """S3: the bucket of the old, longer timeout is left."""
    server = serve(parts)
    client = joined(server, 40_000)
    client.create(b"/mine", flags=EPHEMERAL)
    server.run()
    back = SimClient(server.link())
    back.resume_from(client, timeout_ms=4000)
    server.run()
    server.run(4000 + TICK_MS)
    assert not back.is_open
    assert b"/mine" not in server.tree.nodes


def test_the_ephemerals_of_an_expired_session_go_at_one_zxid(parts: Parts) -> None:
    """S1: with those that were proposed before the end and delivered with it; the connection goes without a word."""
    server = serve(parts, SimConfig(disk_ms=(300, 300)))
    server.run(1000)
    client = server.client(timeout_ms=4000)
    watcher = server.client(timeout_ms=40_000)
    server.run(1000)
    watcher.children(b"/", watch=True)
    for number in range(3):
        client.create(b"/e%d" % number, flags=EPHEMERAL)
    server.run(1000)
    received = len(client.link.received)
    session = server.replica.sessions.sessions[client.session_id]
    server.run(max(0, session.deadline_ms - server.clock.now_ms - 100))
    while not session.is_closing:
        server.run(1)
    # It is closing: what arrives now is too late, but answered in order.
    client.create(b"/late", flags=EPHEMERAL)
    server.run(2000)
    assert not client.is_open
    assert len(client.link.received) == received
    assert list(server.tree.nodes) == [b"/", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config"]
    assert not server.tree.ephemerals
    watcher.children(b"/")
    server.run()
    assert stat_of(watcher.reply(2)).pzxid == server.replica.solo.delivered_zxid - 1


def test_a_read_that_waits_when_its_session_ends_is_not_answered_behind_the_last_event(parts: Parts) -> None:
    """W4, S1: the event, the end and the write that the read waits for are delivered in one turn."""
    server = serve(parts, SimConfig(disk_ms=(300, 300)))
    client, other = server.client(), server.client()
    server.run(1000)
    client.get(b"/")
    client.exists(b"/seen", watch=True)
    other.create(b"/first")
    server.run(0)
    # The disk is busy with that one.
    other.create(b"/seen")
    server.run(0)
    server.replica.close_session(client.session_id)
    client.create(b"/late", flags=EPHEMERAL)
    client.get(b"/")
    server.run(1000)
    assert not client.is_open
    assert [event.path for event in client.events] == [b"/seen"]
    assert xids(client) == [1, 2]


def test_writes_of_a_session_that_is_closing_are_refused() -> None:
    server = serve()
    client = joined(server)
    server.replica.close_session(client.session_id)
    client.create(b"/late", flags=EPHEMERAL)
    client.get(b"/")
    server.run(0)
    assert not client.replies
    server.run()
    assert not client.is_open
    assert b"/late" not in server.tree.nodes


def test_an_expired_session_that_comes_back_is_told_so() -> None:
    """S6: also while its end is still on its way to the disk."""
    server = serve()
    client = joined(server)
    client.link.drop()
    server.replica.close_session(client.session_id)
    early = SimClient(server.link())
    early.resume_from(client)
    server.run()
    late = SimClient(server.link())
    late.resume_from(client)
    server.run()
    for back in (early, late):
        assert back.connected is not None
        assert (back.session_id, back.timeout_ms) == (0, 0)
        assert not back.is_open


@pytest.mark.slow
def test_thousands_may_expire_at_once_and_the_others_live(parts: Parts) -> None:
    """ZOOKEEPER-1049, 1669: whose ping waits in the inbox while time has jumped is alive."""
    server = serve(parts)
    silent = [server.client(timeout_ms=4000) for _ in range(5000)]
    alive = [server.client(timeout_ms=4000) for _ in range(100)]
    server.run()
    for client in silent[:1000]:
        client.create(b"/e-", flags=codes.FLAG_EPHEMERAL_SEQUENTIAL)
    server.run()
    assert len(server.tree.nodes) == 4 + 1000
    server.run(3800)
    # The process was stopped for a while: when it goes on, pings are waiting, and the tick comes first.
    server.clock.now_ms += 20_000
    for client in alive:
        client.ping()
    server.driver.tick()
    server.run()
    assert [client.session_id for client in alive if not client.is_open] == []
    assert sum(client.is_open for client in silent) == 0
    assert len(server.tree.nodes) == 4
    assert len(server.replica.sessions.sessions) == 100
    for client in alive:
        client.get(b"/")
    server.run()
    assert all(client.replies[-1].err == errors.OK for client in alive)


def test_a_session_outlives_its_connection_until_it_expires() -> None:
    server = serve()
    client = joined(server)
    client.create(b"/mine", flags=EPHEMERAL)
    server.run()
    client.link.drop()
    server.run(9000)
    back = SimClient(server.link())
    back.resume_from(client)
    server.run(9000)
    back.exists(b"/mine")
    server.run(1)
    assert back.reply(2).err == errors.OK
    assert back.session_id == client.session_id


def test_a_moved_session_closes_the_connection_that_asked() -> None:
    """FinalRequestProcessor answers SessionMovedException with a close and no reply (ZOOKEEPER-710)."""
    server = serve()
    client = joined(server)
    client.create(b"/a")
    server.run()
    session = client.link.conn.session
    assert session is not None
    session.owner = object()
    client.create(b"/b")
    client.create(b"/c")
    client.get(b"/a", watch=True)
    server.run()
    assert len(client.replies) == 1
    assert not client.is_open
    assert server.replica.watches.size() == 0


def test_a_moved_session_is_not_told_of_its_end_where_a_write_was_refused_without_a_word() -> None:
    """W4: the client had said goodbye already, and heard the answer to that without the one before it."""
    server = serve()
    client = joined(server)
    session = client.link.conn.session
    assert session is not None
    session.owner = object()
    client.create(b"/b")
    client.close_session()
    server.run()
    assert client.replies == []
    assert not client.is_open
    assert client.session_id not in server.replica.sessions.timeouts


def test_a_plain_read_behind_a_write_is_not_answered_when_the_session_is_over() -> None:
    """W4 and S1: its connection was mute, and the quickest way of all to answer did not ask."""
    server = serve()
    client, other = joined(server), joined(server)
    client.create(b"/a")
    client.exists(b"/a", watch=True)
    server.run()
    # While the disk is busy with this, the rest comes together: something is to be sent to the client first.
    other.create(b"/dummy")
    server.run(0)
    other.set_data(b"/a", b"new")
    server.run(0)
    server.replica.close_session(client.session_id)
    client.create(b"/b")
    client.get(b"/a")
    server.run()
    assert len(client.replies) == 2
    assert not client.is_open


# Reaping


def ttl_body(path: bytes, ttl_ms: int) -> bytes:
    w = Writer()
    acl = [ACL(codes.PERM_ALL, Id("world", "anyone"))]
    CreateTTLRequest(path, b"", acl, codes.FLAG_PERSISTENT_WITH_TTL, ttl_ms).write(w)
    return w.getvalue()


def reaping(**settings: Any) -> SimConfig:
    replica = ReplicaConfig(container_interval_ms=10_000, **settings)
    return SimConfig(replica=replica, tree=TreeConfig(extended_types=True))


def test_containers_go_when_they_have_become_empty() -> None:
    server = serve(config=reaping())
    client = joined(server, 40_000)
    for name in (b"/used", b"/unused", b"/full"):
        client.send(codes.OP_CREATE_CONTAINER, create_body(name, flags=codes.FLAG_CONTAINER))
    client.create(b"/used/child")
    client.create(b"/full/child")
    client.delete(b"/used/child")
    client.exists(b"/used", watch=True)
    server.run()
    # The first round is an interval after the start (ContainerManager.start).
    server.run(9_000)
    assert b"/used" in server.tree.nodes
    server.run(2_000)
    assert [path for path in (b"/used", b"/unused", b"/full") if path in server.tree.nodes] == [b"/unused", b"/full"]
    assert client.events[-1].type == codes.EVENT_DELETED
    # A child that comes at the same time keeps its parent: the server's own request is refused as any other.
    client.delete(b"/full/child")
    client.create(b"/full/late")
    server.run(20_000)
    assert b"/full" in server.tree.nodes


def test_containers_that_were_never_used_may_go_too() -> None:
    server = serve(config=reaping(container_max_never_used_ms=15_000))
    client = joined(server, 40_000)
    client.send(codes.OP_CREATE_CONTAINER, create_body(b"/unused", flags=codes.FLAG_CONTAINER))
    server.run(10_100)
    assert b"/unused" in server.tree.nodes
    server.run(10_000)
    assert b"/unused" not in server.tree.nodes


def test_znodes_go_when_their_time_to_live_is_over() -> None:
    server = serve(config=reaping())
    client = joined(server, 40_000)
    client.send(codes.OP_CREATE_TTL, ttl_body(b"/short", 5_000))
    client.send(codes.OP_CREATE_TTL, ttl_body(b"/long", 15_000))
    server.run(10_100)
    assert b"/short" not in server.tree.nodes
    client.set_data(b"/long", b"again")
    server.run(10_000)
    assert b"/long" in server.tree.nodes
    server.run(10_000)
    assert b"/long" not in server.tree.nodes


def test_reaping_keeps_its_pace() -> None:
    server = serve(config=reaping(container_max_per_minute=12))
    client = joined(server, 40_000)
    for number in range(5):
        client.send(codes.OP_CREATE_TTL, ttl_body(b"/%d" % number, 1))
    # Two every ten seconds.
    for left in (3, 1, 0):
        server.run(10_000)
        assert sum(b"/%d" % number in server.tree.nodes for number in range(5)) == left
