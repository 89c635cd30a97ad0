"""One client connection as the replica sees it, and the order of its requests.

Writes of a session are proposed as they arrive, so that one fsync covers all of them; a read waits only behind the
writes of its own connection that are not delivered yet. Writes of a connection are delivered in their order, also
those that a leader elsewhere gives zxids to, so replies leave in the order of the requests (W4), and a read sees every
write before it (R3). Other sessions are never waited for.

Knows requests as bytes and by their number; must not know the tree, sockets or files.
Invariant: `waiting` is ordered by `behind`, and holds nothing whose writes are all delivered.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Final, Protocol

from coati.core.sessions import Session
from coati.wire.records import Id

_unpack_length: Final = Struct(">i").unpack_from
# Each request looks all of them up, and each new one is compared with all.
MAX_IDENTITIES: Final = 1000


class ClientLink(Protocol):
    """What the shell lends to a connection: the socket's verbs.

    `is_choked` says that what was sent has not left yet. When it has, the driver hears of a connection that `is_full`.
    """

    is_choked: bool

    def send(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None: ...


class Waiting:
    """A request that has to wait until the first `behind` writes of its connection are delivered.

    Its bytes are `data[start:end]`.
    """

    __slots__ = ("behind", "created_ms", "data", "end", "start")

    def __init__(self, behind: int, data: bytes, start: int, end: int, created_ms: int) -> None:
        self.behind = behind
        self.created_ms = created_ms
        self.data = data
        self.start = start
        self.end = end


class Conn:
    """The state of one client connection.

    `session_id` is 0 until the handshake; `auth` is replaced, never changed, so that a write keeps the list it came
    with. `out` are the bytes to send in order; the driver joins them once a turn.
    """

    __slots__ = (
        "address",
        "auth",
        "created_ms",
        "flush_then_close",
        "is_barred",
        "is_closed",
        "is_dirty",
        "is_done",
        "is_full",
        "is_greeted",
        "is_mute",
        "is_paused",
        "last_cxid",
        "last_latency_ms",
        "last_op",
        "last_response_ms",
        "last_zxid",
        "latency_count",
        "latency_max_ms",
        "latency_min_ms",
        "latency_total_ms",
        "link",
        "need_bytes",
        "out",
        "outstanding",
        "received",
        "refusal",
        "rest",
        "sent",
        "session",
        "session_id",
        "speaks_read_only",
        "sync",
        "timeout_ms",
        "waiting",
        "writes",
    )

    def __init__(self, link: ClientLink, address: tuple[str, int], now_ms: int) -> None:
        self.link = link
        self.address = address
        self.created_ms = now_ms
        self.session_id = 0
        self.session: Session | None = None
        self.timeout_ms = 0
        self.speaks_read_only = True
        self.auth: list[Id] = [Id("ip", address[0])]
        self.out: list[bytes] = []
        # The beginning of a frame that is not whole yet. It grows in place: a list of its pieces would be many times
        # as large when they are small, and joining them one by one would cost a copy a piece.
        self.rest = bytearray()
        self.need_bytes = 0
        self.is_dirty = False
        self.is_closed = False
        # Nothing more is said: it is closed, or its session is over.
        self.is_mute = False
        self.is_paused = False
        # Whole requests are kept in `rest`, because there are enough answers for now.
        self.is_full = False
        # No further request is read: the session is closing, or the client broke the protocol.
        self.is_done = False
        # The ConnectResponse is on its way; before it nothing else is read or said. Nor is it behind a sync that is
        # under way or waits for its turn.
        self.is_greeted = False
        # It must authenticate before it may ask for anything else.
        self.is_barred = False
        self.flush_then_close = False
        # Why, for the log.
        self.refusal = ""
        self.outstanding = 0
        # Of this connection, ever; `outstanding` of them are not answered yet.
        self.writes = 0
        # The sync that the leader has been asked for.
        self.sync: Waiting | None = None
        self.waiting: deque[Waiting] = deque()
        self.received = 0
        self.sent = 0
        self.last_op = 0
        self.last_cxid = -1
        self.last_zxid = 0
        self.last_response_ms = 0
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """What the four-letter word `crst` sets back."""
        self.received = 0
        self.sent = 0
        self.latency_count = 0
        self.latency_total_ms = 0
        self.latency_min_ms = 0
        self.latency_max_ms = 0
        self.last_latency_ms = 0

    def on_answered(self, count: int, xid: int, op: int, zxid: int, now_ms: int, latency_ms: int) -> None:
        """Counts that many requests answered equally long after they came, of which the last is named."""
        self.sent += count
        # Pings and their like are not what somebody who looks wants to know (ServerCnxn.updateStatsForResponse).
        if xid >= 0:
            self.last_cxid = xid
        self.last_op = op
        self.last_zxid = zxid
        self.last_response_ms = now_ms
        # One that was seen before, and zero, where all begin, moves neither the smallest nor the largest.
        if latency_ms != self.last_latency_ms:
            if self.latency_count == 0 or latency_ms < self.latency_min_ms:
                self.latency_min_ms = latency_ms
            if latency_ms > self.latency_max_ms:
                self.latency_max_ms = latency_ms
            self.last_latency_ms = latency_ms
        self.latency_count += count
        self.latency_total_ms += latency_ms * count

    def add_identity(self, identity: Id) -> bool:
        """One more identity, unless there are too many; requests already waiting keep the old list."""
        if identity not in self.auth:
            if len(self.auth) >= MAX_IDENTITIES:
                return False
            self.auth = [*self.auth, identity]
        return True

    def may_ask(self) -> bool:
        """Whether requests of all kinds are read now."""
        return self.is_greeted and not self.is_barred

    def keep_rest(self, rest: bytes, need_bytes: int) -> None:
        """Keeps the beginning of a frame; nothing is parsed again before `need_bytes` are there."""
        self.rest = bytearray(rest)
        self.need_bytes = need_bytes

    def keep_frame(self, data: bytes, pos: int, max_bytes: int) -> bool:
        """Keeps what stands from `pos` on, the beginning of a frame; False if none can begin so."""
        need = 4
        if len(data) - pos >= 4:
            length: int = _unpack_length(data, pos)[0]
            if length < 0 or length > max_bytes:
                return False
            need = 4 + length
        self.keep_rest(data[pos:], need)
        return True

    def join_rest(self, data: bytes) -> bytes:
        """The kept bytes with `data` behind them, or nothing as long as the frame is not whole."""
        self.rest += data
        if len(self.rest) >= self.need_bytes:
            return self.take_rest()
        self.is_full = False
        return b""

    def say_goodbye(self, reason: str) -> None:
        """It is closed behind what it was sent, its session stays; the log has the reason, unless that is empty."""
        self.is_done = True
        self.refusal = reason
        self.flush_then_close = True
        self.waiting.clear()

    def be_silent(self) -> None:
        """Nothing more is sent to it, not even what it was to be sent."""
        self.is_closed = self.is_mute = True
        self.out.clear()

    def push_back(self, unanswered: list[Waiting]) -> None:
        """Requests that waited are read again, before all that came behind them."""
        frames: list[bytes] = []
        for one in unanswered:
            frames.append((one.end - one.start).to_bytes(4, "big"))
            frames.append(one.data[one.start : one.end])
        rest = b"".join(frames)
        if rest:
            self.need_bytes = len(frames[1]) + 4
            self.rest[:0] = rest
            self.is_full = True

    def take_rest(self) -> bytes:
        """The kept bytes, whole or not."""
        rest = bytes(self.rest)
        self.rest = bytearray()
        return rest

    def on_proposed(self) -> None:
        """A write of this connection is on its way, or something else that only the leader can answer."""
        self.outstanding += 1
        self.writes += 1

    def defer(self, data: bytes, start: int, end: int, now_ms: int) -> None:
        """Keeps a request until the writes proposed before it are delivered."""
        self.waiting.append(Waiting(self.writes, data, start, end, now_ms))

    def begin_sync(self, data: bytes, start: int, end: int, now_ms: int) -> None:
        """The leader is asked for a sync."""
        self.sync = Waiting(self.writes, data, start, end, now_ms)
        self.on_proposed()

    def end_sync(self) -> Waiting | None:
        """The request for a sync that is to be answered now, if anybody still wants it; then others may be read."""
        sync = self.sync
        if sync is None or self.is_done:
            return None
        self.sync = None
        self.outstanding -= 1
        self.is_greeted = True
        return sync

    def take_ready(self) -> list[Waiting]:
        """The deferred requests that need wait no longer, in order."""
        ready: list[Waiting] = []
        waiting = self.waiting
        delivered = self.writes - self.outstanding
        while waiting and waiting[0].behind <= delivered:
            ready.append(waiting.popleft())
        return ready
