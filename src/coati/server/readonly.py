"""Read-only mode (`readonlymode.enabled`): a server without a quorum answers reads, until it has a leader again.

`ReadOnly` is to clients what a replica is, with a tree that stands still. Its sessions are local: they live on this
server only and end with the mode. It has no log, no zxids to give and no say over the sessions of the ensemble, so
nothing of it can come to the disk (ZOOKEEPER-3526). `Retreat` says from when to when there is one. Both are pure but
for the log.

Invariants: nothing here changes the tree, nor the timeouts of the ensemble's sessions; a client is told that its
session is over only if that was given here and has ended (S1), as others may live where this server cannot look.
Sources: ReadOnlyZooKeeperServer, ReadOnlyRequestProcessor, QuorumPeer.run, ZooKeeperServer.processConnectRequest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from struct import Struct
from typing import Final, Protocol

from coati.core.acl import Access
from coati.core.answer import Answers, error_reply, unimplemented_reply
from coati.core.sessions import Session, SessionTable, is_password
from coati.core.tree import Tree
from coati.core.watches import Watches
from coati.errors import NOT_READ_ONLY, OK, MarshallingError
from coati.server.guard import Guard
from coati.server.handshake import Hello, no_session, read_hello, welcome
from coati.server.login import Login
from coati.server.outlet import Outlet
from coati.server.pipeline import Conn
from coati.server.replica import (
    HEADER_BYTES,
    KIND_AUTH,
    KIND_READ,
    KIND_SYNC,
    KIND_WRITE,
    KINDS,
    TURN_BYTES,
    ReplicaConfig,
)
from coati.server.stats import ServerStats
from coati.wire import codes
from coati.wire.jute import Reader

logger = logging.getLogger("coati.server.readonly")

_unpack_head: Final = Struct(">ii").unpack_from
_unpack_length: Final = Struct(">i").unpack_from

# How long a server looks for a leader before it serves without one (QuorumPeer.run); a tick, if that is longer.
MIN_GRACE_MS: Final = 2000
NO_TERM: Final = -1
# Runs of consecutive session ids that are remembered: one a mode, as a rule.
MAX_RUNS: Final = 100


class GivenIds:
    """The ids of all sessions that were local to this process, as (first, last) of runs."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: list[tuple[int, int]] = []

    def add(self, session_id: int) -> None:
        """It is given to a client now."""
        runs = self._runs
        if runs and runs[-1][1] + 1 == session_id:
            runs[-1] = (runs[-1][0], session_id)
            return
        if len(runs) >= MAX_RUNS:
            del runs[0]
        runs.append((session_id, session_id))

    def __contains__(self, session_id: int) -> bool:
        return any(first <= session_id <= last for first, last in self._runs)


class ReadOnly:
    """Serves clients that may be read-only. `sessions` tracks theirs; its timeouts are those of the ensemble."""

    def __init__(
        self,
        *,
        tree: Tree,
        sessions: SessionTable,
        access: Access,
        stats: ServerStats,
        config: ReplicaConfig,
        given: GivenIds,
    ) -> None:
        self.tree = tree
        self.sessions = sessions
        self.watches = Watches()
        self.stats = stats
        self.config = config
        self.outstanding_limit = config.outstanding_limit
        self.outlet = Outlet()
        self.conns = self.outlet.conns
        self._answers = Answers(tree, self.watches, access)
        self._given = given
        self._guard = Guard()
        self._login = Login(access, self._guard, self.outlet, stats, config.required_schemes)
        self._limits = config.hello_limits()
        self._now_ms = 0
        # Somebody else watches over the ensemble's sessions, if anybody can.
        sessions.let_go()

    # Doors, as the replica has them.

    def begin_turn(self, now_ms: int, wall_ms: int) -> None:
        """The monotonic time of everything until the next call. The time of day is for txns."""
        self._now_ms = now_ms

    def on_connected(self, conn: Conn) -> None:
        """A client has connected; its handshake is to come."""
        self.conns[conn] = None
        conn.is_barred = self._login.is_barred(conn.auth)

    def on_closed(self, conn: Conn) -> None:
        """The connection is gone. Its watches go with it, its session stays until it expires."""
        self.watches.remove_watcher(conn)
        self.outlet.leave(conn)

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
            pos = self._read_hello(conn, data)
        if conn.is_greeted:
            pos = self._read_requests(conn, data, pos)
        if pos < len(data):
            self._keep_rest(conn, data, pos)

    def on_tick(self) -> None:
        """Local sessions expire, without a word, and nobody else hears of it."""
        for session in self.sessions.expired(self._now_ms):
            self._end_session(session.session_id, None)

    def in_flight(self) -> int:
        """There are no writes."""
        return 0

    def count_updates(self) -> None:
        """There are none."""

    def retire(self) -> None:
        """The mode is over: all clients are to connect anew."""
        for conn in self.conns:
            self.outlet.drop(conn)

    def _keep_rest(self, conn: Conn, data: bytes, pos: int) -> None:
        if not conn.is_done and not conn.keep_frame(data, pos, self.config.max_frame_bytes):
            self.outlet.drop(conn)

    # The handshake.

    def _read_hello(self, conn: Conn, data: bytes) -> int:
        try:
            hello = read_hello(conn, data, self._limits)
        except MarshallingError:
            self.outlet.drop(conn)
            return 0
        if hello is None:
            return 0
        self.stats.count("connection_request_count")
        if not hello.may_read_only or hello.last_zxid > self.tree.last_zxid:
            # It must find a server that has a quorum, or is not behind (R2).
            self.outlet.drop(conn)
        elif hello.session_id == 0:
            self._open(conn)
        else:
            self._come_back(conn, hello)
        return hello.end

    def _open(self, conn: Conn) -> None:
        session_id = self.sessions.take_id()
        self._given.add(session_id)
        self._greet(conn, self.sessions.track(session_id, conn.timeout_ms, self._now_ms))

    def _come_back(self, conn: Conn, hello: Hello) -> None:
        session_id = hello.session_id
        if session_id in self.sessions.timeouts:
            # It belongs to the ensemble, which will know.
            self.outlet.drop(conn)
            return
        session = self.sessions.sessions.get(session_id)
        if not is_password(session_id, hello.password) or (session is None and session_id in self._given):
            self.outlet.emit(conn, no_session(conn, reads_only=True))
            conn.say_goodbye("")
        elif session is None:
            # It may have begun elsewhere, and the txn not have come here.
            self.outlet.drop(conn)
        else:
            old = self.outlet.homes.get(session_id)
            if old is not None:
                self._guard.on_moved(session_id, old.address[0], conn.address[0])
                self.outlet.drop(old)
            self.sessions.set_timeout(session, conn.timeout_ms, self._now_ms)
            self._greet(conn, session)

    def _greet(self, conn: Conn, session: Session) -> None:
        conn.session = session
        conn.session_id = session.session_id
        session.owner = conn
        self.outlet.homes[session.session_id] = conn
        conn.is_greeted = True
        self.outlet.emit(conn, welcome(conn, session.session_id, conn.timeout_ms, reads_only=True))
        self._on_answered(conn, 0, codes.OP_CREATE_SESSION)

    def _end_session(self, session_id: int, conn: Conn | None) -> None:
        self.sessions.commit_close(session_id)
        self.outlet.close_home(session_id, conn)

    # Requests.

    def _read_requests(self, conn: Conn, data: bytes, pos: int) -> int:
        """Answers the whole requests in `data[pos:]`, as many as there is room for; the position behind the last."""
        size = len(data)
        room = TURN_BYTES
        conn.is_full = False
        while size - pos >= 4 and not conn.is_done and not conn.is_full:
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
                self._on_request(conn, xid, op, data, pos + 4 + HEADER_BYTES, end)
            pos = end
            room -= len(conn.out[-1]) if conn.out else 0
            if room < 0:
                conn.is_full = True
        session = conn.session
        assert session is not None, "requests come after the handshake"
        session.deadline_ms = self._now_ms + conn.timeout_ms
        return pos

    def _on_request(self, conn: Conn, xid: int, op: int, data: bytes, start: int, end: int) -> None:
        conn.received += 1
        kind = KINDS.get(op, 0)
        if kind == KIND_READ:
            self.outlet.emit(conn, self._answers.answer(conn, xid, op, data, start, end))
            self._on_answered(conn, xid, op)
        elif kind == KIND_AUTH:
            self._login.answer(conn, xid, op, Reader(data, start, end), self._now_ms)
        elif op == codes.OP_CLOSE_SESSION:
            self.outlet.emit(conn, error_reply(xid, self.tree.last_zxid, OK))
            self._on_answered(conn, xid, op)
            self._end_session(conn.session_id, conn)
            conn.say_goodbye("")
        elif kind in (KIND_WRITE, KIND_SYNC) or op == codes.OP_DELETE_CONTAINER:
            # Not even looked at.
            self.outlet.emit(conn, error_reply(xid, self.tree.last_zxid, NOT_READ_ONLY))
            self._on_answered(conn, xid, op)
        else:
            self.outlet.emit(conn, unimplemented_reply(xid))
            conn.say_goodbye(f"no client may send opcode {op}")

    def _on_answered(self, conn: Conn, xid: int, op: int) -> None:
        conn.on_answered(1, xid, op, self.tree.last_zxid, self._now_ms, 0)
        self.stats.on_reads(1)


class Stage(Protocol):
    """What the driver does for the retreat."""

    def set_replica(self, replica: ReadOnly | None) -> None:
        """Clients are served by it from now on; None: by nobody."""


class Retreat:
    """Has clients served while this server looks for a leader, once it has done so for long.

    `make` makes what serves them, from the tree and the timeouts of the ensemble's sessions; None: nothing does.
    """

    __slots__ = ("_due_ms", "_grace_ms", "_make", "_serving", "_term")

    def __init__(self, make: Callable[[Tree, dict[int, int]], ReadOnly] | None = None, *, tick_ms: int = 0) -> None:
        self._make = make
        self._grace_ms = max(MIN_GRACE_MS, tick_ms)
        self._serving: ReadOnly | None = None
        self._term = NO_TERM
        self._due_ms = 0

    def follow(self, stage: Stage, term: int, tree: Tree, timeouts: dict[int, int], now_ms: int) -> None:
        """The server looks for a leader in this term, or in none. With another tree the mode begins anew."""
        if self._make is None:
            return
        serving = self._serving
        if serving is not None and (term != self._term or serving.tree is not tree):
            self._serving = None
            serving.retire()
            stage.set_replica(None)
            logger.info("read-only mode ends sessions=%d", len(serving.sessions.sessions))
        if term != self._term:
            self._term = term
            self._due_ms = now_ms + self._grace_ms
        if term != NO_TERM and self._serving is None and now_ms >= self._due_ms:
            self._serving = self._make(tree, timeouts)
            stage.set_replica(self._serving)
            logger.warning("read-only mode: no leader, only reads are answered zxid=%#x", tree.last_zxid)

    def sooner(self, other_ms: int | None) -> int | None:
        """When to follow again, if that is before some other time."""
        if self._make is None or self._term == NO_TERM or self._serving is not None:
            return other_ms
        return self._due_ms if other_ms is None else min(self._due_ms, other_ms)
