"""What a run leaves behind for the checkers: lines of clients, traces of servers, and violations found in them.

Knows the records and how a client's lines become operations. Must not know what is right or wrong.
The lines of a History stand in the order of one clock: a line that happened before another stands before it. Whoever
merges histories of several processes puts the calls of a moment before its returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from coati.wire.records import Id

# What a State line says.
CONNECTING: Final = "connecting"
CONNECTED: Final = "connected"
DISCONNECTED: Final = "disconnected"
EXPIRED: Final = "expired"

# What a Trace says; in brackets the fields that count besides `at_ms` and `sid`.
LOOKING: Final = "looking"  # [zxid: the last one it claims in its vote]
JOINING: Final = "joining"  # it begins to follow or observe
LEADING: Final = "leading"  # [epoch] it sends NEWLEADER
SERVING: Final = "serving"  # [epoch, is_leader] it serves clients
DOWN: Final = "down"  # the process is gone
RECOVERED: Final = "recovered"  # [zxid, accepted, epoch: what the disk has]
PROPOSED: Final = "proposed"  # [zxid, payload] by a leader
LOGGED: Final = "logged"  # [zxid, payload]
SYNCED: Final = "synced"  # [zxid] durable up to here
TRUNCATED: Final = "truncated"  # [zxid] the log ends here
INSTALLED: Final = "installed"  # [zxid] a durable snapshot replaces all
PROMISED: Final = "promised"  # [epoch] others hear of it: LEADERINFO of a leader, ACKEPOCH of a learner
EPOCHS: Final = "epochs"  # [accepted, epoch: the current one] durable
ACKED: Final = "acked"  # [zxid] ACK of a proposal is sent; a leader's own ack is its SYNCED
ACKED_LEADER: Final = "acked leader"  # [epoch] ACK of NEWLEADER is sent
COMMITTED: Final = "committed"  # [zxid, acks: whom the leader counted; it tells the others behind this]
APPLIED: Final = "applied"  # [zxid, digest]
REPORTED: Final = "reported"  # [epoch, acks: the learner, count: until when in ms it has told whom it heard of]
WATCHES: Final = "watches"  # [count: watches held, acks: connections open]


@dataclass(slots=True)
class Call:
    """A request is about to be sent."""

    at_ms: int
    conn: int
    session_id: int
    xid: int
    op: int
    body: bytes


@dataclass(slots=True)
class Return:
    """A reply has come; `zxid` is its header's, `body` what stands behind the header."""

    at_ms: int
    conn: int
    session_id: int
    xid: int
    zxid: int
    err: int
    body: bytes


@dataclass(slots=True)
class Event:
    """A watch has fired; the zxid is its header's, -1 where a server does not say."""

    at_ms: int
    conn: int
    session_id: int
    zxid: int
    type: int
    path: bytes


@dataclass(slots=True)
class State:
    """A connection changes. While it is connecting, `session_id` is the one asked for, 0 for a new one."""

    at_ms: int
    conn: int
    session_id: int
    state: str
    server: int = 0
    last_zxid: int = 0
    timeout_ms: int = 0
    has_password: bool = True


Line: TypeAlias = Call | Return | Event | State


@dataclass(slots=True)
class Trace:
    """Something a server did; the kinds say which fields count."""

    at_ms: int
    sid: int
    kind: str
    zxid: int = 0
    epoch: int = 0
    accepted: int = 0
    payload: bytes = b""
    digest: int | None = None
    acks: tuple[int, ...] = ()
    count: int = 0
    is_leader: bool = False


@dataclass(slots=True)
class ServerLog:
    """The txn log of a server as it lies on its disk, and the snapshot it stands on."""

    entries: list[tuple[int, bytes]]
    snapshot_zxid: int = 0


@dataclass(slots=True)
class Violation:
    """An invariant that does not hold: its id in the list, what happened, and the lines that show it."""

    id: str
    text: str
    slice: list[object] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n    ".join([f"{self.id}: {self.text}", *map(str, self.slice)])


class History:
    """Takes the lines of all clients of a run, in order."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.lines: list[Line] = []
        self._now_ms = now_ms
        self._conns = 0

    def connecting(
        self, server: int, *, session_id: int = 0, last_zxid: int = 0, timeout_ms: int = 0, has_password: bool = True
    ) -> int:
        """A ConnectRequest is about to be sent; gives the number of the connection."""
        self._conns += 1
        state = State(self._now_ms(), self._conns, session_id, CONNECTING, server, last_zxid, timeout_ms, has_password)
        self.lines.append(state)
        return self._conns

    def connected(self, conn: int, session_id: int, timeout_ms: int) -> None:
        """A ConnectResponse has come; one without a session says that it has expired."""
        state = CONNECTED if session_id else EXPIRED
        self.lines.append(State(self._now_ms(), conn, session_id, state, timeout_ms=timeout_ms))

    def disconnected(self, conn: int, session_id: int) -> None:
        """The connection is gone."""
        self.lines.append(State(self._now_ms(), conn, session_id, DISCONNECTED))

    def called(self, conn: int, session_id: int, xid: int, op: int, body: bytes) -> None:
        self.lines.append(Call(self._now_ms(), conn, session_id, xid, op, body))

    def returned(self, conn: int, session_id: int, header: tuple[int, int, int], body: bytes) -> None:
        """A reply; the header is xid, zxid, err."""
        xid, zxid, err = header
        self.lines.append(Return(self._now_ms(), conn, session_id, xid, zxid, err, body))

    def fired(self, conn: int, session_id: int, zxid: int, event_type: int, path: bytes) -> None:
        self.lines.append(Event(self._now_ms(), conn, session_id, zxid, event_type, path))


class Operation:
    """A call and, if it has come, its return. `at` and `until` are places in the history; `until` is -1 if none came.

    `txn_zxid` is that of its txn, which the checkers find in the log; 0 if there is none. `ids`: who asked, as far as
    the connection had said so.
    """

    __slots__ = ("at", "call", "end", "ids", "txn_zxid", "until")

    def __init__(self, at: int, call: Call) -> None:
        self.at = at
        self.call = call
        self.until = -1
        self.end: Return | None = None
        self.txn_zxid = 0
        self.ids: list[Id] = []

    def __repr__(self) -> str:
        return f"{self.call} -> {self.end}"


class Conn:
    """One connection: how it began, and its lines in order: operations where they return, and events."""

    __slots__ = ("asked", "asked_at", "calls", "connected", "connected_at", "ended_at", "expired_at", "heard", "number")

    def __init__(self, number: int, asked: State, asked_at: int) -> None:
        self.number = number
        self.asked = asked
        self.asked_at = asked_at
        self.connected: State | None = None
        self.connected_at = -1
        self.expired_at = -1
        self.ended_at = -1
        self.calls: list[Operation] = []
        self.heard: list[Operation | Event] = []


class Story:
    """A history, ordered by operations and connections. What fits nothing is in `strays`."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.operations: list[Operation] = []
        self.conns: dict[int, Conn] = {}
        self.strays: list[Line] = []
        self._pending: dict[int, dict[int, deque[Operation]]] = {}
        for at, line in enumerate(lines):
            self._take(at, line)

    def _take(self, at: int, line: Line) -> None:
        if isinstance(line, State) and line.state == CONNECTING:
            self.conns[line.conn] = Conn(line.conn, line, at)
            self._pending[line.conn] = {}
            return
        conn = self.conns[line.conn]
        if isinstance(line, Call):
            operation = Operation(at, line)
            self.operations.append(operation)
            conn.calls.append(operation)
            self._pending[line.conn].setdefault(line.xid, deque()).append(operation)
        elif isinstance(line, Return):
            pending = self._pending[line.conn].get(line.xid)
            if not pending:
                self.strays.append(line)
                return
            operation = pending.popleft()
            operation.until = at
            operation.end = line
            conn.heard.append(operation)
        elif isinstance(line, Event):
            conn.heard.append(line)
        elif line.state == CONNECTED:
            conn.connected = line
            conn.connected_at = at
        elif line.state == EXPIRED:
            conn.expired_at = at
        else:
            conn.ended_at = at
