"""The replica: one server's state machine, from client bytes to replies.

It introduces the rooms to each other: requests are read here, prepared by core, proposed by zab, and delivered into
the tree; reads are answered on the spot. It acts on nothing: what the broadcast and the `outlet` hold is
for the driver to carry out. Must not know sockets, files, clocks: time is given once a turn by `begin_turn`.

It lives as long as its role does. Who leads prepares the writes of all servers' clients and watches over all sessions.
Who does not sends its clients' writes to the leader (`errands`), and recognises them when they are delivered.

Invariants: the tree shows exactly the delivered txns; a reply that promises a write is emitted only when that is
delivered here; events enter a connection's output before the reply that reveals them.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Final

from coati.core.acl import Access
from coati.core.answer import Answers, error_reply, notifications, unimplemented_reply, write_reply
from coati.core.change import Change
from coati.core.prepare import Preparer, Request, is_readable
from coati.core.reap import Reaper
from coati.core.replay import compare_digest, stage_payload
from coati.core.sessions import SessionTable
from coati.core.tree import Tree
from coati.core.watches import Watches
from coati.errors import MARSHALLING_ERROR, SESSION_MOVED
from coati.seams import Entropy
from coati.server.errands import Errands, Inherited, inherit
from coati.server.guard import Guard
from coati.server.handshake import Handshake, HelloLimits, welcome
from coati.server.login import Login
from coati.server.outlet import Outlet
from coati.server.pipeline import Conn, Waiting
from coati.server.stats import ServerStats
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import Id
from coati.zab.broadcast import Broadcast
from coati.zab.solo import Solo

# length, xid, op, length of the path: how every request that begins with a path begins.
_unpack_path_head: Final = Struct(">iiii").unpack_from
_unpack_head: Final = Struct(">ii").unpack_from
_unpack_length: Final = Struct(">i").unpack_from
# length, xid, zxid, err: a frame's length and its ReplyHeader.
_pack_reply: Final = Struct(">iiqi").pack

PATH_HEAD_BYTES: Final = 16
HEADER_BYTES: Final = 8
# Bytes of answers after which a connection has to wait for its next turn, until they have left; and how many a client
# may have coming when it asked for them behind a write. A few bytes of request may ask for a megabyte.
TURN_BYTES: Final = 2 << 20
MAX_ANSWER_BYTES: Final = 32 << 20
# More bytes than a connection ever keeps: nothing is parsed until somebody takes them.
UNTIL_GREETED: Final = 1 << 62
NOBODY: Final[list[Id]] = []
NO_SIZE_LIMIT: Final = 1 << 62

# What a client may send. The rest is refused without a look, internal opcodes too: Java executes a client's
# deleteContainer without asking for permission, and logs its createSession.
KIND_READ: Final = 1
KIND_WRITE: Final = 2
KIND_AUTH: Final = 3
KIND_SYNC: Final = 4
KINDS: Final[dict[int, int]] = {
    **dict.fromkeys(
        (
            codes.OP_EXISTS,
            codes.OP_GET_DATA,
            codes.OP_GET_ACL,
            codes.OP_GET_CHILDREN,
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
        KIND_READ,
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
        KIND_WRITE,
    ),
    codes.OP_SYNC: KIND_SYNC,
    codes.OP_AUTH: KIND_AUTH,
    codes.OP_SASL: KIND_AUTH,
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

    def hello_limits(self) -> HelloLimits:
        """What clients may ask for, as configured."""
        return HelloLimits(
            max_frame_bytes=self.max_frame_bytes,
            min_timeout_ms=self.min_session_timeout_ms,
            max_timeout_ms=self.max_session_timeout_ms,
        )

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
        broadcast: Broadcast,
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
        self.broadcast = broadcast
        self.stats = stats
        self.config = config
        self.outstanding_limit = config.outstanding_limit
        self.proposals: deque[Request] = deque()
        self.outlet = Outlet()
        self.conns = self.outlet.conns
        self.homes = self.outlet.homes
        self.errands = Errands()
        self._leads = broadcast.leads
        self._is_alone = isinstance(broadcast, Solo)
        self._entropy = entropy
        guard = Guard()
        self._login = Login(access, guard, self.outlet, stats, config.required_schemes)
        self._handshake = Handshake(
            sessions=sessions,
            outlet=self.outlet,
            errands=self.errands,
            broadcast=broadcast,
            guard=guard,
            stats=stats,
            limits=config.hello_limits(),
        )
        self.on_snapshot_begun()
        self._reaper = config.reaper()
        # The last of the writes answered but not counted yet, and how many they are.
        self._answered: Request | None = None
        self._answered_count = 0
        self._now_ms = 0
        self._wall_ms = 0
        if not self._leads:
            sessions.let_go()

    @property
    def solo(self) -> Solo:
        """The broadcast of a standalone server."""
        assert isinstance(self.broadcast, Solo), "a server of an ensemble has another role"
        return self.broadcast

    # Doors.

    def begin_turn(self, now_ms: int, wall_ms: int) -> None:
        """The time of everything until the next call: `now_ms` monotonic, `wall_ms` Unix time for the txns."""
        self._now_ms = now_ms
        self._wall_ms = wall_ms

    def on_connected(self, conn: Conn) -> None:
        """A client has connected; its handshake is to come."""
        self.conns[conn] = None
        conn.is_barred = self._login.is_barred(conn.auth)

    def on_closed(self, conn: Conn) -> None:
        """The connection is gone. Its watches go with it, its session stays until it expires."""
        self.watches.remove_watcher(conn)
        if self.outlet.leave(conn) and not self._leads:
            self.errands.leave(conn)

    def on_received(self, conn: Conn, data: bytes) -> None:
        """Bytes of a client, cut anywhere."""
        if conn.is_done:
            return
        if conn.rest:
            data = conn.join_rest(data)
            if not data:
                return
        pos = 0
        if conn.session is None:
            pos = self._handshake.read(conn, data, self.tree.last_zxid, self._now_ms)
            if conn.session_id and not conn.is_greeted:
                body = conn.timeout_ms.to_bytes(4, "big")
                self._propose(conn, conn.session_id, 0, codes.OP_CREATE_SESSION, body, 0, 4)
            elif conn.is_greeted:
                inherit(conn, self.proposals)
        if conn.is_greeted:
            if not conn.is_barred:
                pos = self._read_requests(conn, data, pos)
            else:
                pos = self._read_tail(conn, data, pos)
                if conn.may_ask():
                    pos = self._read_requests(conn, data, pos)
        elif conn.session is not None:
            # Nothing else is read before the session is there (ZooKeeperServer.processConnectRequest, disableRecv).
            conn.keep_rest(data[pos:], UNTIL_GREETED)
            return
        if pos < len(data):
            self._keep_rest(conn, data, pos)
        if conn.out and not conn.is_dirty:
            conn.is_dirty = True
            self.outlet.dirty.append(conn)

    def on_synced(self, zxid: int) -> None:
        """Who is alone has everything up to `zxid` durably: deliver it. `count_updates` comes when the replies left."""
        self.solo.on_synced(zxid)
        proposals = self.proposals
        while proposals and proposals[0].zxid <= zxid:
            request = proposals.popleft()
            self._deliver(request.change, request)

    def on_delivered(self, zxid: int, payload: bytes) -> None:
        """An ensemble has committed a txn, the next in order; `count_updates` comes when the replies have left.

        Raises MarshallingError when it cannot be read. Nothing may be delivered any more then.
        """
        if self.proposals:
            request = self.proposals.popleft()
            assert request.zxid == zxid, "who leads delivers what it proposed, in order"
            self._deliver(request.change, request)
            return
        change, session_id, xid, op, digest = stage_payload(self.tree, zxid, payload)
        own = self.errands.take(session_id, xid, op, zxid)
        if own is not None:
            own.zxid = zxid
            own.change = change
        self._deliver(change, own)
        compare_digest(self.tree, zxid, digest)

    def on_remote_request(
        self, origin: object, session_id: int, xid: int, op: int, body: bytes, auth: list[Id]
    ) -> None:
        """A write that came through another server, `origin`, as the number of its link. What is none is refused."""
        if op == codes.OP_CREATE_SESSION and len(body) >= 4:
            session = self.sessions.track(session_id, int.from_bytes(body[:4], "big", signed=True), self._now_ms)
            session.owner = origin
        elif KINDS.get(op, 0) != KIND_WRITE:
            op = 0
        request = Request(origin, session_id, xid, op, body, 0, len(body), auth)
        zxid = self.broadcast.next_zxid()
        self.preparer.prepare(request, zxid, self._wall_ms)
        if not request.payload:
            # Java's leader drops it without a word, and its client waits for ever.
            self.preparer.refuse(request, zxid, self._wall_ms, MARSHALLING_ERROR)
        self.broadcast.propose(zxid, request.payload)
        self.proposals.append(request)

    def revalidate(self, origin: object, session_id: int, timeout_ms: int) -> bool:
        """A client has come with its session to another server: whether it lives. It is at home there now (S4)."""
        is_alive = self.sessions.touch(session_id, timeout_ms, self._now_ms)
        return is_alive and self.sessions.set_owner(session_id, origin)

    def touch(self, session_id: int, timeout_ms: int) -> None:
        """Another server has heard of a client."""
        self.sessions.touch(session_id, timeout_ms, self._now_ms)

    def take_touched(self) -> list[tuple[int, int]]:
        """Sessions that the leader is to know were heard of here, and their timeouts."""
        return self.errands.take_touched(self.homes)

    def on_revalidated(self, session_id: int, is_alive: bool) -> None:
        """The leader's answer to the question whether that session lives."""
        conn = self._handshake.on_revalidated(session_id, is_alive)
        if conn is not None:
            inherit(conn, self.proposals if self._leads else self.errands.under_way(session_id))
            self.on_received(conn, conn.take_rest())

    def on_sync_done(self, token: object) -> None:
        """What was committed before the client asked for it is delivered here."""
        assert isinstance(token, Conn), "it comes back as it was given"
        sync = token.end_sync()
        if sync is None:
            return
        xid, op = _unpack_head(sync.data, sync.start)
        self.outlet.emit(token, self.answers.answer(token, xid, op, sync.data, sync.start + HEADER_BYTES, sync.end))
        self.on_received(token, token.take_rest())

    def in_flight(self) -> int:
        """Writes that are not delivered yet, of all clients here, and elsewhere if this server leads."""
        return len(self.proposals) + self.errands.count

    def retire(self) -> None:
        """The role is over: nobody is answered any more, and what was proposed is forgotten."""
        self.proposals.clear()
        self.tree.discard_all()
        for conn in self.conns:
            self.outlet.drop(conn)

    def on_tick(self) -> None:
        """Expires sessions and reaps containers and TTL znodes, if this server leads; call it about once a tick."""
        for session in self.sessions.expired(self._now_ms):
            self.close_session(session.session_id)
        for path in self._reaper.due(self.tree, self._now_ms, self._wall_ms) if self._leads else []:
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
        if not conn.is_done and not conn.keep_frame(data, pos, self.config.max_frame_bytes):
            self.outlet.drop(conn)

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
        while size - pos >= 4 and not conn.is_done and conn.is_greeted:
            length: int = _unpack_length(data, pos)[0]
            end = pos + 4 + length
            if length < 0 or length > self.config.max_frame_bytes or end > size:
                break
            if length < HEADER_BYTES:
                self.outlet.drop(conn)
                break
            xid, op = _unpack_head(data, pos + 4)
            if conn.is_barred and op != codes.OP_AUTH and op != codes.OP_SASL:
                self._login.refuse_unauthenticated(conn, xid)
            else:
                self._on_request(conn, xid, op, data, pos + 4, end)
            pos = end
        return pos

    def _on_answered(self, conn: Conn, xid: int, op: int, count: int, latency_ms: int) -> None:
        """Statistics of `count` reads; the last one is named."""
        conn.on_answered(count, xid, op, self.tree.last_zxid, self._now_ms, latency_ms)
        self.stats.on_reads(count, latency_ms)

    # Requests.

    def _on_request(self, conn: Conn, xid: int, op: int, data: bytes, start: int, end: int) -> None:
        """One request `data[start:end]`: a write is proposed, a read answered or kept behind the writes before it."""
        conn.received += 1
        kind = KINDS.get(op, 0)
        if kind == KIND_READ:
            self._answer_in_turn(conn, data, start, end)
        elif kind == KIND_WRITE:
            if op == codes.OP_CLOSE_SESSION:
                # What follows in the same batch comes too late.
                conn.is_done = True
            self._propose(conn, conn.session_id, xid, op, data, start + HEADER_BYTES, end)
        elif kind == KIND_AUTH:
            # At once, not behind the writes before it: so does ZooKeeperServer.processPacket.
            self._login.answer(conn, xid, op, Reader(data, start + HEADER_BYTES, end), self._now_ms)
        elif kind == KIND_SYNC:
            if not self._is_alone:
                # Nothing behind it is read before it is answered: a write must not overtake it (W4).
                conn.is_greeted = False
                conn.is_full = True
            self._answer_in_turn(conn, data, start, end)
        else:
            self.outlet.emit(conn, unimplemented_reply(xid))
            conn.say_goodbye(f"no client may send opcode {op}")

    def _answer_in_turn(self, conn: Conn, data: bytes, start: int, end: int) -> None:
        if conn.outstanding:
            conn.defer(data, start, end, self._now_ms)
        else:
            xid, op = _unpack_head(data, start)
            self._answer(conn, xid, op, data, start, end)
            self._on_answered(conn, xid, op, 1, 0)

    def _answer(self, conn: Conn, xid: int, op: int, data: bytes, start: int, end: int) -> None:
        """A request that reads, or that only concerns this server: pings, watches. The answer to a sync comes later."""
        kind = KINDS.get(op, 0)
        if kind == KIND_SYNC and not self._is_alone:
            conn.begin_sync(data, start, end, self._now_ms)
            self.broadcast.sync(conn)
        elif kind == KIND_WRITE:
            # It could not be read, so it has no txn, only a reply in its turn.
            self.outlet.emit(conn, error_reply(xid, self.tree.last_zxid, MARSHALLING_ERROR))
        else:
            self.outlet.emit(conn, self.answers.answer(conn, xid, op, data, start + HEADER_BYTES, end))

    def _answer_ready(self, conn: Conn, zxid: int) -> None:
        """The reads that waited for the txn, counted as one batch: they came together, as a rule."""
        self.count_updates()
        ready = conn.take_ready()
        if not ready:
            return
        xid = op = 0
        has_writes = conn.outstanding > 0
        room = MAX_ANSWER_BYTES if has_writes else TURN_BYTES
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
                if not has_writes:
                    # Among them may be a sync, which is read again, too.
                    conn.is_greeted = conn.sync is None
                    conn.push_back(ready[number + 1 :])
                    break
                # A write is to be answered next, and its reply must not come without those before it (W4).
                self.outlet.drop(conn)
                conn.be_silent()
                break
        self._on_answered(conn, xid, op, len(ready), self._now_ms - ready[0].created_ms)

    def _propose(
        self, conn: Conn | None, session_id: int, xid: int, op: int, data: bytes, start: int, end: int
    ) -> None:
        """Prepares a write and sends it on its way; a refused one is an error txn, so order stays uniform."""
        if not self._leads:
            assert conn is not None, "who does not lead wants nothing for itself"
            if op == codes.OP_CREATE_SESSION or is_readable(op, data, start, end):
                self._forward(conn, session_id, xid, op, data[start:end])
            else:
                self._answer_in_turn(conn, data, start - HEADER_BYTES, end)
            return
        auth = NOBODY if conn is None else conn.auth
        request = Request(conn, session_id, xid, op, data, start, end, auth)
        zxid = self.broadcast.next_zxid()
        self.preparer.prepare(request, zxid, self._wall_ms)
        if not request.payload:
            assert conn is not None, "the server's own requests are readable"
            self._answer_in_turn(conn, data, start - HEADER_BYTES, end)
            return
        request.created_ms = self._now_ms
        self.broadcast.propose(zxid, request.payload)
        self.proposals.append(request)
        if conn is not None:
            conn.on_proposed()

    def _forward(self, conn: Conn, session_id: int, xid: int, op: int, body: bytes) -> None:
        """Sends a write to the leader; `errands` knows whose it is when it is delivered."""
        request = Request(conn, session_id, xid, op, b"", 0, 0, conn.auth)
        request.created_ms = self._now_ms
        request.zxid = self.broadcast.proposed_zxid
        self.errands.send(request)
        conn.on_proposed()
        self.broadcast.request(session_id, xid, op, body, conn.auth)

    # Delivery.

    def _deliver(self, change: Change, request: Request | None) -> None:
        """Applies a committed txn, tells the watchers, answers its client, and lets that client's next reads go."""
        self.tree.commit(change)
        if not self.watches.is_empty():
            self._notify(change)
        if change.op == codes.OP_CREATE_SESSION:
            self.sessions.commit_create(change.session_id, change.timeout_ms)
        elif change.op == codes.OP_CLOSE_SESSION:
            self._end_session(change.session_id, None if request is None else request.conn)
        if request is not None:
            conn = request.conn
            if isinstance(conn, Conn):
                self._reply(conn, request)
            elif isinstance(conn, Inherited):
                heir = conn.conn
                heir.outstanding -= 1
                self._answer_ready(heir, change.zxid)
                self.outlet.mark(heir)
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
                self.outlet.emit(watcher, frame)

    def _end_session(self, session_id: int, conn: object | None) -> None:
        """The session is over; `conn` asked for it, if it is a connection of this server."""
        self.sessions.commit_close(session_id)
        self.errands.forget(session_id)
        self._handshake.on_ended(session_id)
        self.outlet.close_home(session_id, conn)

    def _reply(self, conn: Conn, request: Request) -> None:
        change = request.change
        conn.outstanding -= 1
        op = request.op
        if op == codes.OP_CREATE_SESSION:
            self.outlet.emit(conn, welcome(conn, request.session_id, change.timeout_ms))
        elif change.err == SESSION_MOVED:
            # Without a word to this request, nor to any behind it, even if it has said goodbye (W4).
            self.outlet.drop(conn)
        else:
            self.outlet.emit(conn, write_reply(op, request.xid, change))
            if op == codes.OP_CLOSE_SESSION:
                conn.flush_then_close = True
        last = self._answered
        if last is not None and (last.conn is not conn or last.created_ms != request.created_ms):
            self.count_updates()
        self._answered = request
        self._answered_count += 1
        if conn.waiting:
            self._answer_ready(conn, change.zxid)
        if op == codes.OP_CREATE_SESSION:
            conn.is_greeted = True
            self.on_received(conn, conn.take_rest())


def _plain_data(tree: Tree, op: int, request: Waiting) -> bytes:
    """What a plain getData of an open znode is answered with; nothing if it is something else."""
    data, start, end = request.data, request.start, request.end
    if op == codes.OP_GET_DATA and data[end - 1] == 0 and end - start >= 13:
        # The path is all there is between its length and the watch flag. Compiled, a slice that ends before it begins
        # is no empty one but a SystemError.
        node = tree.nodes.get(data[start + HEADER_BYTES + 4 : end - 1])
        if node is not None and node.acl.is_open and _unpack_length(data, start + HEADER_BYTES)[0] == end - start - 13:
            return node.body
    return b""


def _half_or_more(limit: int, entropy: Entropy) -> int:
    half = max(1, limit // 2)
    return half + entropy.randrange(half)
