"""Sessions: ids and passwords, timeouts, owners, and which are due to expire.

Knows time as an argument in ms of a clock that never jumps. Must not know connections or the tree.
A session is tracked from the moment its createSession is prepared (or recovered), and is in `timeouts`, which is what
a snapshot holds, from the moment that txn is delivered. It is closing from the moment its closeSession is prepared,
and nothing of it is prepared afterwards. Moved only in this file.
Invariant: a tracked session stands in exactly one bucket, at or before the tick in which it is due.
Sources: SessionTrackerImpl, ExpiryQueue, ZooKeeperServer.generatePasswd, java.util.Random.
"""

from __future__ import annotations

from typing import Final

from coati.errors import SessionExpired, SessionMoved

PASSWORD_BYTES: Final = 16
_SUPER_SECRET: Final = 0xB3415C00
_LCG_MULTIPLIER: Final = 0x5DEECE66D
_MASK48: Final = (1 << 48) - 1
_MASK64: Final = (1 << 64) - 1
_CONTAINER_OWNER: Final = 1 << 63


def session_password(session_id: int) -> bytes:
    """The password of a session: `new Random(id ^ 0xB3415C00).nextBytes(16)`; every server computes the same."""
    seed = ((session_id ^ _SUPER_SECRET) ^ _LCG_MULTIPLIER) & _MASK48
    password = bytearray()
    for _ in range(PASSWORD_BYTES // 4):
        seed = (seed * _LCG_MULTIPLIER + 0xB) & _MASK48
        password += (seed >> 16).to_bytes(4, "little")
    return bytes(password)


def is_password(session_id: int, password: bytes | None) -> bool:
    """Whether it is the session's password; session 0 has none."""
    return session_id != 0 and password == session_password(session_id)


def signed64(value: int) -> int:
    """The value as Java's long holds it."""
    value &= _MASK64
    return value - (1 << 64) if value >> 63 else value


def initialize_next_session_id(server_id: int, now_ms: int) -> int:
    """The first session id of a server: its number, 40 bits of time, a counter of 0 (ZOOKEEPER-1622)."""
    value = ((now_ms << 24) & _MASK64) >> 8
    value |= (server_id << 56) & _MASK64
    if value == _CONTAINER_OWNER:
        value += 1
    return signed64(value)


def negotiate(timeout_ms: int, min_ms: int, max_ms: int) -> int:
    """The timeout a client gets for the one it asked for."""
    return max(min_ms, min(timeout_ms, max_ms))


class Session:
    """One tracked session. Touching it is one store: `deadline_ms = now + timeout_ms`.

    `owner` is whoever the client is connected through, a connection or the number of another server's link; None until
    the first request.
    """

    __slots__ = ("bucket_ms", "deadline_ms", "is_closing", "owner", "session_id", "timeout_ms")

    def __init__(self, session_id: int, timeout_ms: int, deadline_ms: int) -> None:
        self.session_id = session_id
        self.timeout_ms = timeout_ms
        self.deadline_ms = deadline_ms
        self.is_closing = False
        self.owner: object | None = None
        self.bucket_ms = 0


class SessionTable:
    """All sessions a server tracks, and the timeouts of those that are committed."""

    __slots__ = ("_buckets", "_next_bucket_ms", "_next_id", "sessions", "tick_ms", "timeouts")

    def __init__(self, tick_ms: int, server_id: int, now_ms: int) -> None:
        self.tick_ms = tick_ms
        self.sessions: dict[int, Session] = {}
        self.timeouts: dict[int, int] = {}
        self._next_id = initialize_next_session_id(server_id, now_ms)
        self._buckets: dict[int, dict[int, Session]] = {}
        self._next_bucket_ms = self._round_up(now_ms)

    def _round_up(self, ms: int) -> int:
        return (ms // self.tick_ms + 1) * self.tick_ms

    def take_id(self) -> int:
        """A new session id; not one that was recovered, which a clock set back would come upon again (S7)."""
        session_id = self._next_id
        while session_id in self.sessions or session_id in self.timeouts:
            session_id = signed64(session_id + 1)
        self._next_id = signed64(session_id + 1)
        return session_id

    def restore(self, timeouts: dict[int, int], now_ms: int) -> None:
        """Takes over the sessions of a recovered tree; each gets its full timeout from now."""
        self.timeouts = dict(timeouts)
        self.sessions = {}
        self._buckets = {}
        self._next_bucket_ms = self._round_up(now_ms)
        for session_id, timeout_ms in timeouts.items():
            self.track(session_id, timeout_ms, now_ms)

    def track(self, session_id: int, timeout_ms: int, now_ms: int) -> Session:
        """Starts, or goes on, to watch over a session."""
        session = self.sessions.get(session_id)
        if session is None:
            session = Session(session_id, timeout_ms, now_ms + timeout_ms)
            self.sessions[session_id] = session
            self._put(session)
        else:
            session.deadline_ms = now_ms + timeout_ms
        return session

    def _put(self, session: Session) -> None:
        due = self._round_up(session.deadline_ms)
        if due < self._next_bucket_ms:
            due = self._next_bucket_ms
        session.bucket_ms = due
        bucket = self._buckets.get(due)
        if bucket is None:
            self._buckets[due] = {session.session_id: session}
        else:
            bucket[session.session_id] = session

    def let_go(self) -> None:
        """Somebody else watches over the sessions from now on: none is tracked here, none expires."""
        self.sessions = {}
        self._buckets = {}

    def touch(self, session_id: int, timeout_ms: int, now_ms: int) -> bool:
        """The client was heard of elsewhere, with that timeout; False when the session is unknown or closing."""
        session = self.sessions.get(session_id)
        if session is None or session.is_closing:
            return False
        self.set_timeout(session, timeout_ms, now_ms)
        return True

    def check(self, session_id: int, owner: object) -> None:
        """Before a request is prepared: raises SessionExpired or SessionMoved.

        The first owner to ask keeps the session until `set_owner` moves it (SessionTrackerImpl.checkSession).
        """
        session = self.sessions.get(session_id)
        if session is None or session.is_closing:
            raise SessionExpired
        if session.owner is not owner and session.owner != owner:
            if session.owner is not None:
                raise SessionMoved
            session.owner = owner

    def set_timeout(self, session: Session, timeout_ms: int, now_ms: int) -> None:
        """The client came back, perhaps with another timeout. A shorter one may be due before the session's bucket."""
        session.timeout_ms = timeout_ms
        session.deadline_ms = now_ms + timeout_ms
        if self._round_up(session.deadline_ms) < session.bucket_ms:
            self._buckets[session.bucket_ms].pop(session.session_id)
            self._put(session)

    def set_owner(self, session_id: int, owner: object) -> bool:
        """The client came back through `owner`; False when the session is unknown or closing."""
        session = self.sessions.get(session_id)
        if session is None or session.is_closing:
            return False
        session.owner = owner
        return True

    def is_closing(self, session_id: int) -> bool:
        """Whether its closeSession is prepared, and not delivered yet."""
        session = self.sessions.get(session_id)
        return session is not None and session.is_closing

    def set_closing(self, session_id: int) -> None:
        """Its closeSession has been prepared."""
        session = self.sessions.get(session_id)
        if session is not None:
            session.is_closing = True

    def commit_create(self, session_id: int, timeout_ms: int) -> None:
        """Its createSession has been delivered."""
        self.timeouts[session_id] = timeout_ms

    def commit_close(self, session_id: int) -> None:
        """Its closeSession has been delivered."""
        self.timeouts.pop(session_id, None)
        session = self.sessions.pop(session_id, None)
        if session is not None:
            bucket = self._buckets.get(session.bucket_ms)
            if bucket is not None:
                bucket.pop(session_id, None)

    def expired(self, now_ms: int) -> list[Session]:
        """The sessions whose time is over; they are closing from now on.

        A session is looked at only when its bucket is due. If it was touched meanwhile it moves on to a later one, so
        that a touch costs nothing. The tick after the deadline is the grace Java gives (roundToNextInterval).
        """
        over: list[Session] = []
        while self._next_bucket_ms <= now_ms:
            bucket = self._buckets.pop(self._next_bucket_ms, None)
            self._next_bucket_ms += self.tick_ms
            if bucket is None:
                if not self._buckets:
                    self._next_bucket_ms = self._round_up(now_ms)
                continue
            for session in bucket.values():
                if session.is_closing:
                    continue
                if self._round_up(session.deadline_ms) > now_ms:
                    self._put(session)
                else:
                    session.is_closing = True
                    over.append(session)
        return over

    def next_deadline_ms(self) -> int:
        """When to ask `expired` again."""
        return self._next_bucket_ms
