"""The election port: votes to and from the servers of the view.

Knows the handshake and its rule that the larger sid's connection is the one that stays (QuorumCnxManager), and that of
the votes for one server only the newest counts. Must not know what a vote means.
Limits: strangers that have not said who they are, their time, the size of a message, one connection a server.
Invariants: only servers of the view are dialled, at the address that the view has, whatever a hello says; a bad message
costs its own connection and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import Final, Protocol, cast

from coati.errors import ProtocolError
from coati.server.ports import Acceptor, Resolver, dial, socket_of
from coati.wire.addresses import format_address
from coati.wire.quorum import (
    Hello,
    HelloReader,
    Notification,
    VoteReader,
    decode_notification,
    encode_hello,
    frame_vote,
)
from coati.zab.quorum import Server, View

logger = logging.getLogger("coati.server.votes")

# Time between two attempts to reach a server, doubled after each; what starts anew starts with the shorter one.
MIN_REDIAL_S: Final = 0.2
MAX_REDIAL_S: Final = 2.0
# The same when the attempt had led to a connection that stood: an election wants to know whether that server runs.
STOOD_REDIAL_S: Final = 0.05
# What a server has not acknowledged for so long never will be: Linux would try for a quarter of an hour.
UNACKED_MS: Final = 10_000


class VoteDoors(Protocol):
    """What the election port tells."""

    def on_vote(self, sender: int, n: Notification) -> None: ...

    def on_refused(self, sid: int) -> None: ...

    def on_bind_failed(self, reason: str) -> None: ...


class _Peer:
    """What is known of one server: its connection, and the votes that it is to get."""

    __slots__ = (
        "address", "conn", "dialled_s", "gap_s", "is_refused", "last", "pending", "refusal", "sid", "task", "timer",
    )  # fmt: skip

    def __init__(self, sid: int) -> None:
        self.sid = sid
        self.conn: VoteConn | None = None
        # The newest vote that has not gone out, and the last that has: a new connection begins with one of them, since
        # what went into the old one may be lost (ZOOKEEPER-1419 and its kin).
        self.pending: bytes | None = None
        self.last: bytes | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.gap_s = 0.0
        self.dialled_s = 0.0
        # Why it could not be reached: told once, as it may stay down for days. And whether nobody listens there.
        self.refusal = ""
        self.is_refused = False
        # Where it says it listens; of a server that is not in the view.
        self.address = ("", 0)


class VoteConn(asyncio.Protocol):
    """One connection of the election port. `sid` is known from the start if it was dialled, else from its hello."""

    _transport: asyncio.Transport

    def __init__(self, port: ElectionPort, name: str, sid: int | None) -> None:
        self._port = port
        self._hello: HelloReader | None = HelloReader() if sid is None else None
        self._votes = VoteReader()
        self.name = name
        self.sid = sid
        self.is_choked = False
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has all the methods of asyncio's and is none by type.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        self.is_open = True
        self._port.on_open(self, socket_of(self._transport))

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        try:
            if self._hello is not None:
                hello = self._hello.feed(data)
                if hello is None:
                    return
                data = self._hello.take_rest()
                self._hello = None
                if not self._port.on_hello(self, hello):
                    return
            # All are read, so that none is bad; the newest is what the sender means.
            votes = [decode_notification(message) for message in self._votes.feed(data)]
        except ProtocolError as error:
            logger.warning("election connection closed peer=%s sid=%s reason=%s", self.name, self.sid, error)
            self.abort()
            return
        if votes:
            self._port.on_vote(self, votes[-1])

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._port.on_lost(self)

    def pause_writing(self) -> None:
        self.is_choked = True

    def resume_writing(self) -> None:
        self.is_choked = False
        self._port.on_writable(self)

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        """Closes after what was sent has left."""
        self.is_open = False
        self._transport.close()

    def abort(self) -> None:
        self.is_open = False
        self._transport.abort()


class ElectionPort:
    """The listening socket, and one connection to each other server of the view."""

    def __init__(
        self,
        sid: int,
        view: View,
        doors: VoteDoors,
        loop: asyncio.AbstractEventLoop,
        resolver: Resolver,
        *,
        host: str,
        connect_s: float,
        hello_s: float,
        max_strangers: int,
        bind_retries: int,
        bind_pause_s: float,
        is_kept_alive: bool,
        is_dynamic: bool = False,
    ) -> None:
        own = view.servers[sid]
        self._sid = sid
        self._view = view
        self._doors = doors
        self._loop = loop
        self._resolver = resolver
        self._connect_s = connect_s
        self._hello_s = hello_s
        self._max_strangers = max_strangers
        self._is_kept_alive = is_kept_alive
        self._is_dynamic = is_dynamic
        self._hello = encode_hello(sid, format_address(own.host, own.election_port))
        self._peers: dict[int, _Peer] = {}
        # Who has not said hello, oldest first, and when it is closed for that.
        self._strangers: dict[VoteConn, asyncio.TimerHandle] = {}
        self._open: dict[VoteConn, None] = {}
        self._is_closed = False
        self.acceptor = Acceptor(
            loop,
            resolver,
            (host, own.election_port),
            make=self._accepted,
            on_failed=doors.on_bind_failed,
            retries=bind_retries,
            pause_s=bind_pause_s,
        )

    def start(self) -> None:
        self.acceptor.start(listens=True)

    def close(self) -> None:
        self._is_closed = True
        self.acceptor.close()
        for peer in self._peers.values():
            self._stop_dialling(peer)
        for conn in list(self._open):
            conn.abort()

    def set_view(self, view: View) -> None:
        """Who is not in the new view, or at another address there, has no connection any more; it may ask again."""
        before, self._view = self._view, view
        for sid in [sid for sid in self._peers if _has_moved(before.servers.get(sid), view.servers.get(sid))]:
            peer = self._peers.pop(sid)
            self._stop_dialling(peer)
            if peer.conn is not None:
                peer.conn.abort()

    def send(self, sid: int, n: Notification) -> None:
        """Sends a vote to a server of the view or one that asks, in place of one that has not left yet."""
        if sid == self._sid or (sid not in self._view.servers and sid not in self._peers):
            return
        peer = self._peer(sid)
        peer.pending = frame_vote(n)
        self._push(peer)
        if peer.is_refused:
            # The next attempt may be long off. In a turn of its own: the caller is in the middle of one.
            self._loop.call_soon(self._tell_refused, peer)

    def reconnect(self) -> None:
        """Tries those that cannot be reached now, however long the last attempt said to wait."""
        for peer in self._peers.values():
            if peer.conn is None:
                self._dial_soon(peer, is_urgent=True)

    def has_delivered(self) -> bool:
        """Whether some vote has left, as far as is known here (QuorumCnxManager.haveDelivered)."""
        return any(peer.pending is None for peer in self._peers.values())

    # What connections report.

    def on_open(self, conn: VoteConn, opened: socket.socket) -> None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._is_kept_alive:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKED_MS)
        self._open[conn] = None
        if self._is_closed:
            conn.abort()
        elif conn.sid is None:
            self._on_stranger(conn)
        else:
            conn.send(self._hello)
            peer = self._peers.get(conn.sid)
            if peer is None or conn.sid > self._sid:
                # The larger one dials back, and that connection stays.
                conn.close()
            else:
                self._stand(conn, peer)

    def on_hello(self, conn: VoteConn, hello: Hello) -> bool:
        """A stranger said who it is; whether the connection stays."""
        self._strangers.pop(conn).cancel()
        sid = hello.sid
        if sid not in self._view.servers and not self._may_ask(hello):
            logger.warning("election connection refused peer=%s sid=%d reason=not in the view", conn.name, sid)
        elif sid == self._sid:
            # ZOOKEEPER-2164: a wrong configuration, or somebody who pretends.
            logger.warning("election connection refused peer=%s sid=%d reason=our own sid", conn.name, sid)
        elif sid > self._sid:
            conn.sid = sid
            self._stand(conn, self._peer(sid))
            return True
        else:
            # What stands stays until ours is there to replace it: who says hello need not be who it says it is.
            self._dial_soon(self._peer(sid), is_urgent=True)
        conn.abort()
        return False

    def _may_ask(self, hello: Hello) -> bool:
        """Whether who is not in the view is answered: it may be about to join, where that is possible.

        Its word is all there is on where it listens. It is dialled at that one address as long as it answers.
        """
        guests = [sid for sid in self._peers if sid not in self._view.servers]
        if not self._is_dynamic or not hello.addresses or (len(guests) >= self._max_strangers):
            return False
        self._peer(hello.sid).address = hello.addresses[0]
        return True

    def on_vote(self, conn: VoteConn, n: Notification) -> None:
        assert conn.sid is not None, "votes come behind a hello"
        self._doors.on_vote(conn.sid, n)

    def on_writable(self, conn: VoteConn) -> None:
        peer = self._peers.get(conn.sid) if conn.sid is not None else None
        if peer is not None and peer.conn is conn:
            self._push(peer)

    def on_lost(self, conn: VoteConn) -> None:
        del self._open[conn]
        timer = self._strangers.pop(conn, None)
        if timer is not None:
            timer.cancel()
        peer = self._peers.get(conn.sid) if conn.sid is not None else None
        if peer is not None and peer.conn is conn:
            peer.conn = None
            if self._is_closed:
                # The reason to end is the last word in the log.
                return
            logger.info("election connection lost sid=%d", peer.sid)
            if peer.sid not in self._view.servers:
                del self._peers[peer.sid]
                return
            # Once at least, also if no vote waits: the last may be lost with it, and whether the server still runs
            # is what an election wants to know.
            self._dial_soon(peer)

    # Connections that come.

    def _accepted(self, name: str) -> VoteConn:
        return VoteConn(self, name, None)

    def _on_stranger(self, conn: VoteConn) -> None:
        if len(self._strangers) >= self._max_strangers:
            oldest = next(iter(self._strangers))
            self._strangers.pop(oldest).cancel()
            oldest.abort()
        self._strangers[conn] = self._loop.call_later(self._hello_s, self._on_silent, conn)

    def _on_silent(self, conn: VoteConn) -> None:
        logger.info("election connection closed peer=%s reason=no hello in time", conn.name)
        self._strangers.pop(conn)
        conn.abort()

    # Connections that stand, and their votes.

    def _peer(self, sid: int) -> _Peer:
        peer = self._peers.get(sid)
        if peer is None:
            peer = self._peers[sid] = _Peer(sid)
        return peer

    def _stand(self, conn: VoteConn, peer: _Peer) -> None:
        old = peer.conn
        peer.conn = conn
        if old is not None:
            old.abort()
        if peer.timer is not None:
            peer.timer.cancel()
            peer.timer = None
        peer.gap_s = STOOD_REDIAL_S
        peer.refusal = ""
        peer.is_refused = False
        logger.info("election connection stands sid=%d peer=%s", peer.sid, conn.name)
        peer.pending = peer.pending or peer.last
        self._push(peer)

    def _push(self, peer: _Peer) -> None:
        conn = peer.conn
        if conn is None:
            self._dial_soon(peer)
        elif peer.pending is not None and conn.is_open and not conn.is_choked:
            peer.last, peer.pending = peer.pending, None
            conn.send(peer.last)

    # Dialling.

    def _dial_soon(self, peer: _Peer, *, is_urgent: bool = False) -> None:
        """At most one attempt at a time, and a while between two; all servers are dialled side by side."""
        if peer.task is not None or self._is_closed:
            return
        if is_urgent:
            peer.gap_s = min(peer.gap_s, MIN_REDIAL_S)
            if peer.timer is not None:
                peer.timer.cancel()
                peer.timer = None
        if peer.timer is None:
            wait_s = peer.dialled_s + peer.gap_s - self._loop.time() if peer.gap_s else 0.0
            peer.timer = self._loop.call_later(max(wait_s, 0.0), self._dial, peer)

    def _dial(self, peer: _Peer) -> None:
        peer.timer = None
        peer.dialled_s = self._loop.time()
        peer.gap_s = min(max(peer.gap_s * 2, MIN_REDIAL_S), MAX_REDIAL_S)
        peer.task = self._loop.create_task(self._connect(peer))

    async def _connect(self, peer: _Peer) -> None:
        server = self._view.servers.get(peer.sid)
        address = peer.address if server is None else (server.host, server.election_port)
        name = format_address(*address)
        try:
            await dial(self._loop, self._resolver, address, partial(VoteConn, self, name, peer.sid), self._connect_s)
        except OSError as error:
            refusal, peer.refusal = peer.refusal, str(error)
            level = logging.DEBUG if peer.refusal == refusal else logging.INFO
            logger.log(level, "cannot reach election port sid=%d address=%s reason=%s", peer.sid, name, error)
            peer.is_refused = isinstance(error, ConnectionRefusedError)
            self._tell_refused(peer)
            if server is None and self._peers.get(peer.sid) is peer:
                del self._peers[peer.sid]
                return
        finally:
            peer.task = None
        if peer.conn is None and peer.pending is not None:
            self._dial_soon(peer)

    def _tell_refused(self, peer: _Peer) -> None:
        if peer.is_refused and peer.conn is None and self._peers.get(peer.sid) is peer and not self._is_closed:
            self._doors.on_refused(peer.sid)

    def _stop_dialling(self, peer: _Peer) -> None:
        if peer.timer is not None:
            peer.timer.cancel()
            peer.timer = None
        if peer.task is not None:
            peer.task.cancel()


def _has_moved(before: Server | None, now: Server | None) -> bool:
    """Whether a server is at another election port, or has none any more."""
    if before is None:
        return False
    return now is None or (before.host, before.election_port) != (now.host, now.election_port)
