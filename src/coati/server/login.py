"""Who a client says it is: its auth packets, and whether it has to send one before it may ask for anything.

Knows connections and their identities, and what is tried too often. Must not know sessions or the tree.
Sources: ZooKeeperServer.processPacket, processSasl, AuthenticationHelper.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from coati.core.acl import Access, AuthResult
from coati.core.answer import error_reply, sasl_off_reply
from coati.errors import AUTH_FAILED, OK, SESSION_CLOSED_REQUIRE_SASL_AUTH, MarshallingError
from coati.server.guard import Guard
from coati.server.outlet import Outlet
from coati.server.pipeline import Conn
from coati.server.stats import ServerStats
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import Id

# length, xid, zxid, err: a frame's length and its ReplyHeader.
_pack_reply: Final = Struct(">iiqi").pack
_NOTHING: Final = b""


class Login:
    """Adds identities to connections.

    `required_schemes`: a client must have authenticated by one of them; none: nobody has to.
    """

    __slots__ = ("_access", "_guard", "_outlet", "_required_schemes", "_stats")

    def __init__(
        self, access: Access, guard: Guard, outlet: Outlet, stats: ServerStats, required_schemes: tuple[str, ...]
    ) -> None:
        self._access = access
        self._guard = guard
        self._outlet = outlet
        self._stats = stats
        self._required_schemes = required_schemes

    def is_barred(self, ids: list[Id]) -> bool:
        """Whether somebody with these ids must authenticate before anything else."""
        required = self._required_schemes
        return bool(required) and all(who.scheme not in required for who in ids)

    def refuse_unauthenticated(self, conn: Conn, xid: int) -> None:
        """The end of the connection, unexecuted, even for a ping or closeSession (AuthenticationHelper)."""
        conn.received += 1
        conn.sent += 1
        self._stats.on_auth(is_ok=False)
        # No txn was looked at, and Java says so by the zxid.
        self._outlet.emit(conn, error_reply(xid, 0, SESSION_CLOSED_REQUIRE_SASL_AUTH))
        conn.say_goodbye("not authenticated by a scheme of enforce.auth.schemes")

    def answer(self, conn: Conn, xid: int, op: int, r: Reader, now_ms: int) -> None:
        """Answers an auth or SASL packet, or drops the connection."""
        reply = self._reply(conn, xid, op, r, now_ms)
        if reply:
            self._outlet.emit(conn, reply)
        else:
            self._outlet.drop(conn)

    def _reply(self, conn: Conn, xid: int, op: int, r: Reader, now_ms: int) -> bytes:
        try:
            if op == codes.OP_SASL:
                # Nothing is configured for SASL: a token is answered by none, its absence by closing, as Java does.
                return _NOTHING if r.buffer() is None else sasl_off_reply(xid)
            result = self._identify(conn, r, now_ms)
        except MarshallingError:
            return _NOTHING
        conn.is_barred = self.is_barred(conn.auth)
        if result.must_close:
            return _NOTHING
        conn.sent += 1
        self._stats.on_auth(is_ok=result.err == OK)
        if result.err != OK:
            conn.say_goodbye("authentication failed")
        return _pack_reply(16, xid, 0, result.err)

    def _identify(self, conn: Conn, r: Reader, now_ms: int) -> AuthResult:
        """What an AuthPacket brings its connection. Raises MarshallingError."""
        r.int32()
        host = conn.address[0]
        result = self._access.authenticate(r.string(), r.buffer(), host)
        if result.names_super and self._guard.refuses_super(host, len(result.ids) > 1, now_ms):
            return AuthResult(AUTH_FAILED, [])
        # Who one is may have to be looked up in long ACLs, anew each time: others come first.
        conn.is_full = True
        for identity in result.ids:
            if not conn.add_identity(identity):
                return AuthResult(AUTH_FAILED, [])
        return result
