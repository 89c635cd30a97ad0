"""The handshake: how a client gets a session, or comes back to the one it had.

Who leads knows all sessions. Who does not asks the leader whether a session lives, and tracks none: there a Session is
only where the time of the last request is noted. Knows the two records, sessions and connections. Must not know txns;
a new session's createSession is the replica's to propose.
Sources: ZooKeeperServer.processConnectRequest, finishSessionInit; Learner.validateSession.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias

from coati.core.sessions import Session, SessionTable, is_password, negotiate, session_password
from coati.errors import MarshallingError
from coati.server.errands import Errands
from coati.server.guard import Guard
from coati.server.outlet import Outlet
from coati.server.pipeline import Conn
from coati.server.stats import ServerStats
from coati.wire.jute import Reader
from coati.zab.broadcast import Broadcast
from coati.zab.solo import Solo

# length, protocolVersion, timeOut, sessionId, length of the password: the ConnectResponse.
_pack_connected: Final = Struct(">iiiqi").pack
_NO_PASSWORD: Final = bytes(16)


# The link to a learner, the session, its timeout in ms; and the link of who is a client of this very server.
Question: TypeAlias = tuple[int, int, int]
NO_LINK: Final = -1


class Doubt:
    """The token of a sync: whether a session is over that this leader does not know (doubts.py)."""

    __slots__ = ("question",)

    def __init__(self, question: Question) -> None:
        self.question = question


class HelloLimits:
    """What a client may ask for."""

    __slots__ = ("max_frame_bytes", "max_timeout_ms", "min_timeout_ms")

    def __init__(self, *, max_frame_bytes: int, min_timeout_ms: int, max_timeout_ms: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.min_timeout_ms = min_timeout_ms
        self.max_timeout_ms = max_timeout_ms


class Hello:
    """A ConnectRequest that ends at `end`. `may_read_only`: a server without a quorum will do."""

    __slots__ = ("end", "last_zxid", "may_read_only", "password", "session_id")

    def __init__(
        self, *, end: int, last_zxid: int, session_id: int, password: bytes | None, may_read_only: bool
    ) -> None:
        self.end = end
        self.last_zxid = last_zxid
        self.session_id = session_id
        self.password = password
        self.may_read_only = may_read_only


def read_hello(conn: Conn, data: bytes, limits: HelloLimits) -> Hello | None:
    """The ConnectRequest at the beginning of `data`; the connection gets its timeout.

    None: it is not whole yet. Raises MarshallingError when it is whole, and none.
    """
    if len(data) < 4:
        return None
    end = 4 + int.from_bytes(data[:4], "big", signed=True)
    if end < 4 or end > limits.max_frame_bytes + 4 or end > len(data):
        return None
    r = Reader(data, 4, end)
    r.int32()  # protocolVersion, which Java never looks at
    last_zxid, timeout_ms, session_id = r.int64(), r.int32(), r.int64()
    password = r.buffer()
    # Clients before 3.4 do not send the flag, and do not expect it in the reply.
    conn.speaks_read_only = r.left() > 0
    may_read_only = conn.speaks_read_only and data[end - r.left()] != 0
    conn.received += 1
    conn.timeout_ms = negotiate(timeout_ms, limits.min_timeout_ms, limits.max_timeout_ms)
    return Hello(end=end, last_zxid=last_zxid, session_id=session_id, password=password, may_read_only=may_read_only)


class Handshake:
    """Gives connections their sessions."""

    __slots__ = ("_broadcast", "_errands", "_guard", "_limits", "_outlet", "_sessions", "_stats")

    def __init__(
        self,
        *,
        sessions: SessionTable,
        outlet: Outlet,
        errands: Errands,
        broadcast: Broadcast,
        guard: Guard,
        stats: ServerStats,
        limits: HelloLimits,
    ) -> None:
        self._sessions = sessions
        self._outlet = outlet
        self._errands = errands
        self._broadcast = broadcast
        self._guard = guard
        self._stats = stats
        self._limits = limits

    def read(self, conn: Conn, data: bytes, last_zxid: int, now_ms: int) -> int:
        """The ConnectRequest, once it is whole; the position behind it.

        Who then has the id of a session, and is not greeted, has a new one, which is to be proposed.
        """
        try:
            hello = read_hello(conn, data, self._limits)
        except MarshallingError:
            self._outlet.drop(conn)
            return 0
        if hello is None:
            return 0
        self._stats.count("connection_request_count")
        if hello.last_zxid > last_zxid:
            # The client has seen more than there is here: it must find a server that is not behind (R2).
            self._outlet.drop(conn)
            return 0
        session_id = hello.session_id
        if session_id == 0:
            self._open(conn, now_ms)
        elif not is_password(session_id, hello.password):
            self._refuse(conn)
        elif self._broadcast.leads:
            self._resume(conn, session_id, now_ms)
        else:
            # Only the leader knows which sessions live, also those that begin here a moment later.
            self._wait(conn, session_id, now_ms)
            self._broadcast.revalidate(session_id, conn.timeout_ms)
        return hello.end

    def on_revalidated(self, session_id: int, is_alive: bool) -> Conn | None:
        """The leader's answer to the oldest question after that session; who is welcome now."""
        conn = self._errands.answered(session_id)
        if conn is None or conn.is_done:
            return None
        session = conn.session
        assert session is not None, "who asked has said which"
        conn.outstanding -= 1
        if is_alive:
            self._welcome_back(conn, session)
            return conn
        self._refuse(conn)
        return None

    def on_ended(self, session_id: int) -> None:
        """The session is over, also for those who came back to it meanwhile."""
        while self._errands.is_asked_for(session_id):
            self.on_revalidated(session_id, False)

    def _wait(self, conn: Conn, session_id: int, now_ms: int) -> None:
        """Whether the session lives is told later.

        The old connection goes at once, as in ZooKeeperServer.processConnectRequest: what waits there behind a sync
        must not be sent behind the question, for then the leader takes it for the new connection's (W4).
        """
        self._leave_old(session_id, conn)
        conn.session = Session(session_id, conn.timeout_ms, now_ms + conn.timeout_ms)
        conn.on_proposed()
        self._errands.ask(session_id, conn)

    def _open(self, conn: Conn, now_ms: int) -> None:
        session_id = self._sessions.take_id()
        if self._broadcast.leads:
            self._move_in(conn, self._sessions.track(session_id, conn.timeout_ms, now_ms))
        else:
            self._move_in(conn, Session(session_id, conn.timeout_ms, now_ms + conn.timeout_ms))

    def _resume(self, conn: Conn, session_id: int, now_ms: int) -> None:
        session = self._sessions.sessions.get(session_id)
        if session is None and isinstance(self._broadcast, Solo):
            self._refuse(conn)
        elif session is None:
            self._wait(conn, session_id, now_ms)
            self._broadcast.sync(Doubt((NO_LINK, session_id, conn.timeout_ms)))
        elif session.is_closing:
            # Its end may yet be lost with this leader, and then it goes on: nobody is told before it is so (S1).
            self._wait(conn, session_id, now_ms)
        else:
            self._sessions.set_timeout(session, conn.timeout_ms, now_ms)
            self._welcome_back(conn, session)

    def _refuse(self, conn: Conn) -> None:
        """No such session, or not yours: no difference to see (S5)."""
        self._outlet.emit(conn, no_session(conn))
        conn.say_goodbye("")

    def _welcome_back(self, conn: Conn, session: Session) -> None:
        session_id = session.session_id
        self._leave_old(session_id, conn)
        self._move_in(conn, session)
        conn.is_greeted = True
        self._outlet.emit(conn, welcome(conn, session_id, conn.timeout_ms))

    def _leave_old(self, session_id: int, conn: Conn) -> None:
        """One home (S4): what the old connection had not sent yet is not executed any more."""
        old = self._outlet.homes.get(session_id)
        if old is not None and not old.is_mute:
            self._guard.on_moved(session_id, old.address[0], conn.address[0])
            self._outlet.drop(old)

    def _move_in(self, conn: Conn, session: Session) -> None:
        conn.session = session
        conn.session_id = session.session_id
        session.owner = conn
        self._outlet.homes[session.session_id] = conn


def welcome(conn: Conn, session_id: int, timeout_ms: int, *, reads_only: bool = False) -> bytes:
    """The ConnectResponse that grants the session; `reads_only`: this server has no quorum."""
    return _connected(conn, timeout_ms, session_id, session_password(session_id), reads_only)


def no_session(conn: Conn, *, reads_only: bool = False) -> bytes:
    """The ConnectResponse that says that the session is over."""
    return _connected(conn, 0, 0, _NO_PASSWORD, reads_only)


def _connected(conn: Conn, timeout_ms: int, session_id: int, password: bytes, reads_only: bool) -> bytes:
    """A ConnectResponse; a client from before 3.4 does not expect the last byte."""
    tail = (b"\x01" if reads_only else b"\x00") if conn.speaks_read_only else b""
    size = len(password)
    return _pack_connected(20 + size + len(tail), 0, timeout_ms, session_id, size) + password + tail
