"""Errands: what a server that does not lead has asked its leader, and for whom.

A write comes back as a txn among those of all others. Those of one session come in the order they were sent; one may
be missing only when the session's end was delivered before it. Knows requests and connections; must not know txns, the
tree, or how the leader is reached. Sources: FollowerRequestProcessor, CommitProcessor, Learner, LearnerSessionTracker.
Invariants: a deque in `_writes` or `_asked` is never empty; `count` is how many writes there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from coati.core.prepare import Request
from coati.server.pipeline import Conn
from coati.wire import codes


class Errands:
    """Writes under way by session, and sessions asked for."""

    __slots__ = ("_asked", "_touched", "_writes", "count")

    def __init__(self) -> None:
        self.count = 0
        self._writes: dict[int, deque[Request]] = {}
        self._asked: dict[int, deque[Conn]] = {}
        # Sessions heard of on connections that are gone, and their timeouts.
        self._touched: dict[int, int] = {}

    def send(self, request: Request) -> None:
        """A write is on its way to the leader. It has the zxid of the last proposal seen here, for its own is later."""
        session_id = request.session_id
        self.count += 1
        writes = self._writes.get(session_id)
        if writes is None:
            self._writes[session_id] = deque((request,))
        else:
            writes.append(request)

    def take(self, session_id: int, xid: int, op: int, zxid: int) -> Request | None:
        """The request that a txn of that session answers; None if it came through another server.

        A client that has moved may number its requests anew, so a late write of its old connection looks like its own:
        but that was proposed before the leader let it move. A session that the leader ends by itself has xid 0.
        """
        writes = self._writes.get(session_id)
        if (
            writes is None
            or writes[0].xid != xid
            or writes[0].zxid >= zxid
            or (op == codes.OP_CLOSE_SESSION) != (writes[0].op == codes.OP_CLOSE_SESSION)
        ):
            return None
        self.count -= 1
        request = writes.popleft()
        if not writes:
            del self._writes[session_id]
        return request

    def under_way(self, session_id: int) -> Iterable[Request]:
        """The writes of that session that have not come back."""
        return self._writes.get(session_id, ())

    def forget(self, session_id: int) -> None:
        """The session is over: what it still asks for is refused, and nobody is there to be told."""
        writes = self._writes.pop(session_id, None)
        if writes is not None:
            self.count -= len(writes)

    def ask(self, session_id: int, conn: Conn) -> None:
        """The leader is asked whether the session lives."""
        asked = self._asked.get(session_id)
        if asked is None:
            self._asked[session_id] = deque((conn,))
        else:
            asked.append(conn)

    def is_asked_for(self, session_id: int) -> bool:
        """Whether somebody waits to hear of the session."""
        return session_id in self._asked

    def answered(self, session_id: int) -> Conn | None:
        """Who asked first; None: nobody did."""
        asked = self._asked.get(session_id)
        if asked is None:
            return None
        conn = asked.popleft()
        if not asked:
            del self._asked[session_id]
        return conn

    def leave(self, conn: Conn) -> None:
        """A connection is gone; that its client was heard of is still to be reported (S2)."""
        session = conn.session
        if session is not None and session.deadline_ms > session.bucket_ms:
            self._touched[conn.session_id] = conn.timeout_ms

    def take_touched(self, homes: dict[int, Conn]) -> list[tuple[int, int]]:
        """The sessions heard of since the last call, and their timeouts.

        A session that only its leader watches over stands in no bucket: there is noted which deadline was reported.
        Who waits for a sync is not listened to, so it counts as heard of.
        """
        touched = self._touched
        self._touched = {}
        for session_id, conn in homes.items():
            session = conn.session
            assert session is not None, "a home has a session"
            if session.deadline_ms > session.bucket_ms or conn.sync is not None:
                session.bucket_ms = session.deadline_ms
                touched[session_id] = conn.timeout_ms
        return list(touched.items())


class Inherited:
    """In place of the connection that has sent a write: `conn`, on which its session is now, and whose reads wait."""

    __slots__ = ("conn",)

    def __init__(self, conn: Conn) -> None:
        self.conn = conn


def inherit(conn: Conn, writes: Iterable[Request]) -> None:
    """A session is back: what `conn` reads waits for its writes of the connection before, if they are in flight here.

    So it is in Java (CommitProcessor.pendingRequests), and clients rely on it that look for what they have made when
    the answer was lost. At another server a read does not wait: only a sync does.
    """
    for request in writes:
        if request.session_id == conn.session_id:
            request.conn = Inherited(conn)
            conn.on_proposed()
