"""The outlet: all connections, what is to be sent on them, and which are to be closed.

Knows who is connected and which session is where. Must not know what is said. The driver carries out `dirty` and
`closes`. Invariants: a connection is in `dirty` once, if it has output; a home is an open connection.
"""

from __future__ import annotations

from coati.server.pipeline import Conn


class Outlet:
    """`conns`: every open connection, in the order they came. `homes`: which one a session is on."""

    __slots__ = ("closes", "conns", "dirty", "homes")

    def __init__(self) -> None:
        self.dirty: list[Conn] = []
        self.closes: list[Conn] = []
        self.conns: dict[Conn, None] = {}
        self.homes: dict[int, Conn] = {}

    def emit(self, conn: Conn, data: bytes) -> None:
        """More output for a connection."""
        if conn.is_mute:
            return
        conn.out.append(data)
        if not conn.is_dirty:
            conn.is_dirty = True
            self.dirty.append(conn)

    def mark(self, conn: Conn) -> None:
        """It may have been given output."""
        if conn.out and not conn.is_dirty:
            conn.is_dirty = True
            self.dirty.append(conn)

    def leave(self, conn: Conn) -> bool:
        """The connection is gone; whether a session was on it."""
        conn.is_closed = conn.is_done = conn.is_mute = True
        # A read that is answered now would leave a watch that nobody removes any more (E7).
        conn.waiting.clear()
        self.conns.pop(conn, None)
        if self.homes.get(conn.session_id) is not conn:
            return False
        del self.homes[conn.session_id]
        return True

    def drop(self, conn: Conn) -> None:
        """The connection is closed at once, as when the client broke the protocol; its session stays."""
        conn.waiting.clear()
        # It may be done without being closed: it has sent a closeSession. That is not answered any more: its answer
        # would come before those that are missing (W4).
        if not conn.is_mute:
            conn.is_done = conn.is_mute = True
            self.closes.append(conn)

    def close_home(self, session_id: int, but: object | None) -> None:
        """The session is over: its connection goes without a word (S1), unless that is the one that asked for it."""
        home = self.homes.pop(session_id, None)
        if home is not None and home is not but:
            # What is committed behind that may still answer it, in the same turn, and the reads that wait for that.
            home.is_done = home.is_mute = True
            home.waiting.clear()
            self.closes.append(home)

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
