"""The replica: one server's state machine, from client bytes to replies.

It introduces the rooms to each other: requests are read here, prepared by core, proposed by zab, and delivered into
the tree; reads are answered on the spot. It acts on nothing: `solo.log`, `dirty` and `closes` are its outbox, which the
driver carries out. Must not know sockets, files, clocks: time is given once a turn by `begin_turn`.

Invariants: the tree shows exactly the delivered txns; a reply that promises a write is emitted only by `on_synced`;
events enter a connection's output before the reply that reveals them.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Final

from coati.core.acl import Access, AuthResult
from coati.core.answer import Answers, error_reply, notifications, sasl_off_reply, unimplemented_reply, write_reply
from coati.core.change import Change
from coati.core.prepare import Preparer, Request
from coati.core.reap import Reaper
from coati.core.sessions import Session, SessionTable, is_password, negotiate, session_password
from coati.core.tree import Tree
from coati.core.watches import Watches
from coati.errors import (
    AUTH_FAILED,
    MARSHALLING_ERROR,
    OK,
    SESSION_CLOSED_REQUIRE_SASL_AUTH,
    SESSION_MOVED,
    MarshallingError,
)
from coati.seams import Entropy
from coati.server.guard import Guard
from coati.server.pipeline import Conn, Waiting
from coati.server.stats import ServerStats
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import Id
from coati.zab.solo import Solo

# length, xid, op, length of the path: how every request that begins with a path begins.
_unpack_path_head: Final = Struct(">iiii").unpack_from
_unpack_head: Final = Struct(">ii").unpack_from
_unpack_length: Final = Struct(">i").unpack_from
# length, xid, zxid, err: a frame's length and its ReplyHeader.
_pack_reply: Final = Struct(">iiqi").pack
# length, protocolVersion, timeOut, sessionId, length of the password: the ConnectResponse.
_pack_connected: Final = Struct(">iiiqi").pack

PATH_HEAD_BYTES: Final = 16
HEADER_BYTES: Final = 8
# Bytes of answers after which a connection has to wait for its next turn, until they have left; and how many a client
# may have coming when it asked for them behind a write. A few bytes of request may ask for a megabyte.
TURN_BYTES: Final = 2 << 20
MAX_ANSWER_BYTES: Final = 32 << 20
# More bytes than a connection ever keeps: nothing is parsed until somebody takes them.
UNTIL_GREETED: Final = 1 << 62
NO_PASSWORD: Final = bytes(16)
NOBODY: Final[list[Id]] = []
NO_SIZE_LIMIT: Final = 1 << 62

# What a client may send. The rest is refused without a look, internal opcodes too: Java executes a client's
# deleteContainer without asking for permission, and logs its createSession.
_KIND_READ: Final = 1
_KIND_WRITE: Final = 2
_KIND_AUTH: Final = 3
_KINDS: Final[dict[int, int]] = {
    **dict.fromkeys(
        (
            codes.OP_EXISTS,
            codes.OP_GET_DATA,
            codes.OP_GET_ACL,
            codes.OP_GET_CHILDREN,
            codes.OP_SYNC,
            codes.OP_PING,
            codes.OP_GET_CHILDREN2,
            codes.OP_CHECK_WATCHES,
            codes.OP_REMOVE_WATCHES,
            codes.OP_MULTI_READ,
            codes.OP_SET_WATCHES,
            codes.OP_GET_EPHEMERALS,
            codes.OP_GET_ALL_CHILDREN_NUMBER,
            codes.OP_SET_WATCHES2,
            codes.OP_ADD_WATCH,
            codes.OP_WHO_AM_I,
        ),
        _KIND_READ,
    ),
    **dict.fromkeys(
        (
            codes.OP_CREATE,
            codes.OP_CREATE2,
            codes.OP_CREATE_CONTAINER,
            codes.OP_CREATE_TTL,
            codes.OP_DELETE,
            codes.OP_SET_DATA,
            codes.OP_SET_ACL,
            codes.OP_MULTI,
            codes.OP_RECONFIG,
            codes.OP_CLOSE_SESSION,
        ),
        _KIND_WRITE,
    ),
    codes.OP_AUTH: _KIND_AUTH,
    codes.OP_SASL: _KIND_AUTH,
}


class ReplicaConfig:
    """What of the configuration the replica needs. Times in ms; `snap_count` in txns; no size limit if it is 0.

    `required_schemes`: a client must have authenticated by one of them; none: nobody has to.
    """

    __slots__ = (
        "container_interval_ms",
        "container_max_never_used_ms",
        "container_max_per_minute",
        "max_frame_bytes",
        "max_session_timeout_ms",
        "min_session_timeout_ms",
        "outstanding_limit",
        "required_schemes",
        "snap_count",
        "snap_size_limit_bytes",
        "tick_ms",
    )

    def __init__(
        self,
        *,
        tick_ms: int = 2000,
        min_session_timeout_ms: int = 4000,
        max_session_timeout_ms: int = 40000,
        max_frame_bytes: int = codes.MAX_BUFFER_BYTES,
        snap_count: int = 100_000,
        snap_size_limit_bytes: int = 4 << 30,
        outstanding_limit: int = 1000,
        container_interval_ms: int = 60_000,
        container_max_per_minute: int = 10_000,
        container_max_never_used_ms: int = 0,
        required_schemes: tuple[str, ...] = (),
    ) -> None:
        self.tick_ms = tick_ms
        self.min_session_timeout_ms = min_session_timeout_ms
        self.max_session_timeout_ms = max_session_timeout_ms
        self.max_frame_bytes = max_frame_bytes
        self.snap_count = snap_count
        self.snap_size_limit_bytes = snap_size_limit_bytes
        self.outstanding_limit = outstanding_limit
        self.container_interval_ms = container_interval_ms
        self.container_max_per_minute = container_max_per_minute
        self.container_max_never_used_ms = container_max_never_used_ms
        self.required_schemes = required_schemes

    def reaper(self) -> Reaper:
        """What reaps as configured."""
        return Reaper(self.container_interval_ms, self.container_max_per_minute, self.container_max_never_used_ms)


class Replica:
    """All of one server but its disk and its sockets."""

    def __init__(
        self,
        *,
        tree: Tree,
        sessions: SessionTable,
        watches: Watches,
        preparer: Preparer,
        answers: Answers,
        access: Access,
        solo: Solo,
        stats: ServerStats,
        entropy: Entropy,
        config: ReplicaConfig,
    ) -> None:
        self.tree = tree
        self.sessions = sessions
        self.watches = watches
        self.preparer = preparer
        self.answers = answers
        self.access = access
        self.solo = solo
        self.stats = stats
        self.config = config
        self.outstanding_limit = config.outstanding_limit
        self.proposals: deque[Request] = deque()
        self.dirty: list[Conn] = []
        self.closes: list[Conn] = []
        # Every open connection, in the order they came.
        self.conns: dict[Conn, None] = {}
        # Which connection a session is on.
        self.homes: dict[int, Conn] = {}
        self._entropy = entropy
        self._guard = Guard()
        self.on_snapshot_begun()
        self._reaper = config.reaper()
        # The last of the writes answered but not counted yet, and how many they are.
        self._answered: Request | None = None
        self._answered_count = 0
        self._now_ms = 0
        self._wall_ms = 0

    # Doors.

    def begin_turn(self, now_ms: int, wall_ms: int) -> None:
        """The time of everything until the next call: `now_ms` monotonic, `wall_ms` Unix time for the txns."""
        self._now_ms = now_ms
        self._wall_ms = wall_ms

    def take_dirty(self) -> list[Conn]:
        """The connections that have output, each once."""
        dirty = self.dirty
        self.dirty = []
        return dirty

    def take_closes(self) -> list[Conn]:
        """The connections to close without sending what they still have."""
        closes = self.closes
        self.closes = []
        return closes

    def on_connected(self, conn: Conn) -> None:
        """A client has connected; its handshake is to come."""
        self.conns[conn] = None
        conn.is_barred = _is_barred(conn.auth, self.config.required_schemes)

    def on_closed(self, conn: Conn) -> None:
        """The connection is gone. Its watches go with it, its session stays until it expires."""
        conn.is_closed = True
        conn.is_done = True
        # A read that is answered now would leave a watch that nobody removes any more (E7).
        conn.waiting.clear()
        self.conns.pop(conn, None)
        self.watches.remove_watcher(conn)
        if self.homes.get(conn.session_id) is conn:
            del self.homes[conn.session_id]

    def on_received(self, conn: Conn, data: bytes) -> None:
        """Bytes of a client, cut anywhere."""
        if conn.is_done:
            return
        if conn.rest:
            data = conn.join_rest(data)
            if not data:
                return
        pos = self._read_handshake(conn, data) if conn.session is None else 0
        if conn.is_greeted:
            if conn.is_barred:
                pos = self._read_tail(conn, data, pos)
            if not conn.is_barred:
                pos = self._read_requests(conn, data, pos)
        elif conn.session is not None:
            # Nothing else is read before the session is there (ZooKeeperServer.processConnectRequest, disableRecv).
            conn.keep_rest(data[pos:], UNTIL_GREETED)
            return
        if pos < len(data):
            self._keep_rest(conn, data, pos)
        if conn.out and not conn.is_dirty:
            conn.is_dirty = True
            self.dirty.append(conn)

    def on_synced(self, zxid: int) -> None:
        """Everything up to `zxid` is durable: deliver it. `count_updates` comes when the replies have left."""
        self.solo.on_synced(zxid)
        proposals = self.proposals
        while proposals and proposals[0].zxid <= zxid:
            self._deliver(proposals.popleft())

    def on_tick(self) -> None:
        """Expires sessions and reaps containers and TTL znodes; call it about once a tick."""
        for session in self.sessions.expired(self._now_ms):
            self.close_session(session.session_id)
        for path in self._reaper.due(self.tree, self._now_ms, self._wall_ms):
            body = len(path).to_bytes(4, "big") + path
            self._propose(None, 0, 0, codes.OP_DELETE_CONTAINER, body, 0, len(body))

    def close_session(self, session_id: int) -> None:
        """Proposes the end of a session on the server's own account."""
        self._propose(None, session_id, 0, codes.OP_CLOSE_SESSION, b"", 0, 0)

    def on_snapshot_begun(self) -> None:
        """The driver has begun a snapshot; the next one is due a random time later, so that servers take turns.

        That is after half to all of what is configured (SyncRequestProcessor.shouldSnapshot).
        """
        config = self.config
        self.snapshot_is_due = False
        self._txns_to_snapshot = _half_or_more(config.snap_count, self._entropy)
        # Bytes in the log, since the last snapshot, that make the next one due.
        self.snapshot_after_bytes = NO_SIZE_LIMIT
        if config.snap_size_limit_bytes > 0:
            self.snapshot_after_bytes = _half_or_more(config.snap_size_limit_bytes, self._entropy)

    # Frames.

    def _keep_rest(self, conn: Conn, data: bytes, pos: int) -> None:
        if conn.is_done:
            return
        need = 4
        if len(data) - pos >= 4:
            length: int = _unpack_length(data, pos)[0]
            if length < 0 or length > self.config.max_frame_bytes:
                self._drop(conn)
                return
            need = 4 + length
        conn.keep_rest(data[pos:], need)

    def _read_requests(self, conn: Conn, data: bytes, pos: int) -> int:
        """Executes the whole requests in `data[pos:]`; the position behind the last one.

        The plain getData of an open znode is served right here: it is most of what a server does.
        """
        find = self.tree.nodes.get
        zxid = self.tree.last_zxid
        out = conn.out
        append = out.append
        size = len(data)
        last = size - PATH_HEAD_BYTES
        received = xid = 0
        room = TURN_BYTES
        limit = self.outstanding_limit
        conn.is_full = False
        while pos <= last and not conn.is_done:
            length, xid, op, path_bytes = _unpack_path_head(data, pos)
            end = pos + 4 + length
            if (
                op == codes.OP_GET_DATA
                and length == path_bytes + 13
                and end <= size
                and data[end - 1] == 0
                and conn.outstanding == 0
            ):
                node = find(data[pos + PATH_HEAD_BYTES : end - 1])
                if node is not None and node.acl.is_open:
                    body = node.body
                    append(_pack_reply(16 + len(body), xid, zxid, 0))
                    append(body)
                    received += 1
                    pos = end
                    room -= len(body)
                    if room < 0:
                        conn.is_full = True
                        break
                    continue
            if end > size or length < HEADER_BYTES or length > self.config.max_frame_bytes:
                break
            self._on_request(conn, xid, op, data, pos + 4, end)
            pos = end
            if not conn.outstanding:
                room -= len(out[-1]) if out else 0
            if room < 0 or conn.is_full or (conn.outstanding and len(conn.waiting) > limit):
                conn.is_full = True
                break
        session = conn.session
        assert session is not None, "requests come after the handshake"
        session.deadline_ms = self._now_ms + conn.timeout_ms
        if received:
            conn.received += received
            self._on_answered(conn, xid, codes.OP_GET_DATA, received, 0)
        return pos if conn.is_full else self._read_tail(conn, data, pos)

    def _read_tail(self, conn: Conn, data: bytes, pos: int) -> int:
        """The short requests at the end, and the place where a frame is not whole or not sane.

        All requests of a client that has to authenticate first.
        """
        size = len(data)
        while not conn.is_done and size - pos >= 4:
            length: int = _unpack_length(data, pos)[0]
            end = pos + 4 + length
            if length < 0 or length > self.config.max_frame_bytes or end > size:
                break
            if length < HEADER_BYTES:
                self._drop(conn)
                break
            xid, op = _unpack_head(data, pos + 4)
            if conn.is_barred and op != codes.OP_AUTH and op != codes.OP_SASL:
                self._refuse_unauthenticated(conn, xid)
            else:
                self._on_request(conn, xid, op, data, pos + 4, end)
            pos = end
        return pos

    def _refuse_unauthenticated(self, conn: Conn, xid: int) -> None:
        """The end of the connection, unexecuted, even for a ping or closeSession (AuthenticationHelper)."""
        conn.received += 1
        conn.sent += 1
        self.stats.on_auth(is_ok=False)
        # No txn was looked at, and Java says so by the zxid.
        self._emit(conn, error_reply(xid, 0, SESSION_CLOSED_REQUIRE_SASL_AUTH))
        conn.say_goodbye("not authenticated by a scheme of enforce.auth.schemes")

    def _on_answered(self, conn: Conn, xid: int, op: int, count: int, latency_ms: int) -> None:
        """Statistics of `count` reads; the last one is named."""
        conn.on_answered(count, xid, op, self.tree.last_zxid, self._now_ms, latency_ms)
        self.stats.on_reads(count, latency_ms)

    def _drop(self, conn: Conn) -> None:
        """The client broke the protocol: its connection is closed at once, its session stays."""
        conn.waiting.clear()
        if not conn.is_done:
            conn.is_done = True
            self.closes.append(conn)

    def _emit(self, conn: Conn, data: bytes) -> None:
        if conn.is_closed:
            return
        conn.out.append(data)
        if not conn.is_dirty:
            conn.is_dirty = True
            self.dirty.append(conn)

    # Handshake.

    def _read_handshake(self, conn: Conn, data: bytes) -> int:
        """The ConnectRequest, once it is whole; the position behind it (ZooKeeperServer.processConnectRequest)."""
        if len(data) < 4:
            return 0
        length: int = _unpack_length(data, 0)[0]
        end = 4 + length
        if length < 0 or length > self.config.max_frame_bytes or end > len(data):
            return 0
        try:
            r = Reader(data, 4, end)
            r.int32()  # protocolVersion, which Java never looks at
            zxid, timeout_ms, session_id = r.int64(), r.int32(), r.int64()
            password = r.buffer()
        except MarshallingError:
            self._drop(conn)
            return 0
        # Clients before 3.4 do not send the flag, and do not expect it in the reply.
        conn.speaks_read_only = r.left() > 0
        conn.received += 1
        self.stats.count("connection_request_count")
        if zxid > self.tree.last_zxid:
            # The client has seen more than there is here: it must find a server that is not behind (R2).
            self._drop(conn)
            return 0
        config = self.config
        conn.timeout_ms = negotiate(timeout_ms, config.min_session_timeout_ms, config.max_session_timeout_ms)
        if session_id == 0:
            self._open_session(conn)
        else:
            self._resume_session(conn, session_id, password)
        return end

    def _open_session(self, conn: Conn) -> None:
        session_id = self.sessions.take_id()
        self._move_in(conn, self.sessions.track(session_id, conn.timeout_ms, self._now_ms))
        body = conn.timeout_ms.to_bytes(4, "big")
        self._propose(conn, session_id, 0, codes.OP_CREATE_SESSION, body, 0, 4)

    def _resume_session(self, conn: Conn, session_id: int, password: bytes | None) -> None:
        session = self.sessions.sessions.get(session_id)
        if session is None or session.is_closing or not is_password(session_id, password):
            # No such session, or not yours: no difference to see (S5).
            self._emit(conn, _connect_reply(conn, 0, 0, NO_PASSWORD))
            conn.say_goodbye("")
            return
        self.sessions.set_timeout(session, conn.timeout_ms, self._now_ms)
        old = self.homes.get(session_id)
        if old is not None:
            # One home (S4): what the old connection had not sent yet is not executed any more.
            self._guard.on_moved(session_id, old.address[0], conn.address[0])
            self._drop(old)
        self._move_in(conn, session)
        conn.is_greeted = True
        self._emit(conn, _connect_reply(conn, conn.timeout_ms, session_id, session_password(session_id)))

    def _move_in(self, conn: Conn, session: Session) -> None:
        conn.session = session
        conn.session_id = session.session_id
        session.owner = conn
        self.homes[session.session_id] = conn

    # Requests.

    def _on_request(self, conn: Conn, xid: int, op: int, data: bytes, start: int, end: int) -> None:
        """One request `data[start:end]`: a write is proposed, a read answered or kept behind the writes before it."""
        conn.received += 1
        kind = _KINDS.get(op, 0)
        if kind == _KIND_READ:
            self._answer_in_turn(conn, data, start, end)
        elif kind == _KIND_WRITE:
            if op == codes.OP_CLOSE_SESSION:
                # What follows in the same batch comes too late.
                conn.is_done = True
            self._propose(conn, conn.session_id, xid, op, data, start + HEADER_BYTES, end)
        elif op == codes.OP_AUTH:
            self._authenticate(conn, xid, data, start + HEADER_BYTES, end)
        elif op == codes.OP_SASL:
            self._refuse_sasl(conn, xid, Reader(data, start + HEADER_BYTES, end))
        else:
            self._emit(conn, unimplemented_reply(xid))
            conn.say_goodbye(f"no client may send opcode {op}")

    def _answer_in_turn(self, conn: Conn, data: bytes, start: int, end: int) -> None:
        if conn.outstanding:
            conn.defer(data, start, end, self._now_ms)
        else:
            xid, op = _unpack_head(data, start)
            self._answer(conn, xid, op, data, start, end)
            self._on_answered(conn, xid, op, 1, 0)

    def _answer(self, conn: Conn, xid: int, op: int, data: bytes, start: int, end: int) -> None:
        """A request that reads, or that only concerns this server: pings, watches, sync."""
        if _KINDS.get(op, 0) == _KIND_WRITE:
            # It could not be read, so it has no txn, only a reply in its turn.
            self._emit(conn, error_reply(xid, self.tree.last_zxid, MARSHALLING_ERROR))
        else:
            self._emit(conn, self.answers.answer(conn, xid, op, data, start + HEADER_BYTES, end))

    def _answer_ready(self, conn: Conn, zxid: int) -> None:
        """The reads that waited for the txn, counted as one batch: they came together, as a rule."""
        ready = conn.take_ready(zxid)
        if not ready:
            return
        xid = op = 0
        room = MAX_ANSWER_BYTES if conn.outstanding else TURN_BYTES
        out = conn.out
        for number, waiting in enumerate(ready):
            xid, op = _unpack_head(waiting.data, waiting.start)
            body = _plain_data(self.tree, op, waiting)
            if body:
                out += (_pack_reply(16 + len(body), xid, zxid, 0), body)
            else:
                self._answer(conn, xid, op, waiting.data, waiting.start, waiting.end)
            room -= len(out[-1]) if out else 0
            if room < 0:
                if not conn.outstanding:
                    conn.push_back(ready[number + 1 :])
                    break
                # A write is to be answered next, and its reply must not come without those before it (W4).
                self._drop(conn)
                conn.be_silent()
                break
        self._on_answered(conn, xid, op, len(ready), self._now_ms - ready[0].created_ms)

    def _refuse_sasl(self, conn: Conn, xid: int, r: Reader) -> None:
        """Nothing is configured for SASL: a token is answered by none, its absence by closing, as Java does."""
        try:
            token = r.buffer()
        except MarshallingError:
            token = None
        if token is None:
            self._drop(conn)
        else:
            self._emit(conn, sasl_off_reply(xid))

    def _authenticate(self, conn: Conn, xid: int, data: bytes, start: int, end: int) -> None:
        """At once, not behind the writes before it: so does ZooKeeperServer.processPacket."""
        try:
            result = _identify(self.access, self._guard, conn, Reader(data, start, end), self._now_ms)
        except MarshallingError:
            self._drop(conn)
            return
        conn.is_barred = _is_barred(conn.auth, self.config.required_schemes)
        if result.must_close:
            self._drop(conn)
            return
        self._emit(conn, _pack_reply(16, xid, 0, result.err))
        conn.sent += 1
        self.stats.on_auth(is_ok=result.err == OK)
        if result.err != OK:
            conn.say_goodbye("authentication failed")

    def _propose(
        self, conn: Conn | None, session_id: int, xid: int, op: int, data: bytes, start: int, end: int
    ) -> None:
        """Prepares a write and sends it on its way; a refused one is an error txn, so order stays uniform."""
        auth = NOBODY if conn is None else conn.auth
        request = Request(conn, session_id, xid, op, data, start, end, auth)
        zxid = self.solo.next_zxid()
        self.preparer.prepare(request, zxid, self._wall_ms)
        if not request.payload:
            assert conn is not None, "the server's own requests are readable"
            self._answer_in_turn(conn, data, start - HEADER_BYTES, end)
            return
        request.created_ms = self._now_ms
        self.solo.propose(zxid, request.payload)
        self.proposals.append(request)
        if conn is not None:
            conn.on_proposed(zxid)

    # Delivery.

    def _deliver(self, request: Request) -> None:
        """Applies a committed txn, tells the watchers, answers its client, and lets that client's next reads go."""
        change = request.change
        self.tree.commit(change)
        if not self.watches.is_empty():
            self._notify(change)
        conn = request.conn
        assert conn is None or isinstance(conn, Conn), "requests come from connections"
        if request.op == codes.OP_CREATE_SESSION:
            self.sessions.commit_create(change.session_id, change.timeout_ms)
        elif request.op == codes.OP_CLOSE_SESSION:
            self._end_session(request.session_id, conn)
        if conn is not None:
            self._reply(conn, request)
        self._txns_to_snapshot -= 1
        if self._txns_to_snapshot <= 0:
            self.snapshot_is_due = True

    def count_updates(self) -> None:
        """Writes of one client that came and went together, as a pipeline does, are counted together."""
        last = self._answered
        if last is not None and isinstance(last.conn, Conn):
            count = self._answered_count
            latency_ms = self._now_ms - last.created_ms
            last.conn.on_answered(count, last.xid, last.op, last.zxid, self._now_ms, latency_ms)
            self.stats.on_updates(count, latency_ms)
        self._answered = None
        self._answered_count = 0

    def _notify(self, change: Change) -> None:
        triggers = self.tree.triggers(change)
        if triggers:
            for watcher, frame in notifications(self.watches, self.access, triggers, change.zxid):
                assert isinstance(watcher, Conn), "only connections watch"
                watcher.sent += 1
                self.stats.on_event(len(frame))
                self._emit(watcher, frame)

    def _end_session(self, session_id: int, conn: Conn | None) -> None:
        """The session is over; if the server ended it, its connection goes without a word (S1)."""
        self.sessions.commit_close(session_id)
        home = self.homes.pop(session_id, None)
        if home is not None and home is not conn:
            home.is_done = True
            self.closes.append(home)

    def _reply(self, conn: Conn, request: Request) -> None:
        change = request.change
        conn.outstanding -= 1
        op = request.op
        if op == codes.OP_CREATE_SESSION:
            session_id = request.session_id
            self._emit(conn, _connect_reply(conn, change.timeout_ms, session_id, session_password(session_id)))
        elif change.err == SESSION_MOVED:
            self._drop(conn)
        else:
            self._emit(conn, write_reply(op, request.xid, change))
            if op == codes.OP_CLOSE_SESSION:
                conn.flush_then_close = True
        last = self._answered
        if last is not None and (last.conn is not conn or last.created_ms != request.created_ms):
            self.count_updates()
        self._answered = request
        self._answered_count += 1
        if conn.waiting:
            self.count_updates()
            self._answer_ready(conn, change.zxid)
        if op == codes.OP_CREATE_SESSION:
            conn.is_greeted = True
            self.on_received(conn, conn.take_rest())


def _plain_data(tree: Tree, op: int, request: Waiting) -> bytes:
    """What a plain getData of an open znode is answered with; nothing if it is something else."""
    data, start, end = request.data, request.start, request.end
    if op == codes.OP_GET_DATA and data[end - 1] == 0:
        # The path is all there is between its length and the watch flag.
        node = tree.nodes.get(data[start + HEADER_BYTES + 4 : end - 1])
        if node is not None and node.acl.is_open and _unpack_length(data, start + HEADER_BYTES)[0] == end - start - 13:
            return node.body
    return b""


def _is_barred(ids: list[Id], required_schemes: tuple[str, ...]) -> bool:
    """Whether somebody with these ids must authenticate before anything else."""
    return bool(required_schemes) and all(who.scheme not in required_schemes for who in ids)


def _half_or_more(limit: int, entropy: Entropy) -> int:
    half = max(1, limit // 2)
    return half + entropy.randrange(half)


def _identify(access: Access, guard: Guard, conn: Conn, r: Reader, now_ms: int) -> AuthResult:
    """What an AuthPacket brings its connection. Raises MarshallingError."""
    r.int32()
    host = conn.address[0]
    result = access.authenticate(r.string(), r.buffer(), host)
    if result.names_super and guard.refuses_super(host, len(result.ids) > 1, now_ms):
        return AuthResult(AUTH_FAILED, [])
    # Who one is may have to be looked up in long ACLs, anew each time: others come first.
    conn.is_full = True
    for identity in result.ids:
        if not conn.add_identity(identity):
            return AuthResult(AUTH_FAILED, [])
    return result


def _connect_reply(conn: Conn, timeout_ms: int, session_id: int, password: bytes) -> bytes:
    """The ConnectResponse; a client from before 3.4 does not expect the last byte."""
    tail = b"\x00" if conn.speaks_read_only else b""
    size = len(password)
    return _pack_connected(20 + size + len(tail), 0, timeout_ms, session_id, size) + password + tail
