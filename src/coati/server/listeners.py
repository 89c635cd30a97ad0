"""The client port: sockets in, bytes to the driver, bytes out; and the limits that keep one client from hurting others.

Knows asyncio, sockets and the four-letter words by their first four bytes. Must not know frames, requests or sessions,
but for one question: whether a connection has a session yet. Per-frame work happens in the replica.
Limits: connections per address and in all, time without a session, bytes waiting for a slow reader, accepts per turn.
Invariants: every connection counted in is counted out once; after `close` nothing more is sent or reported.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, cast

from coati.server.fourletter import NAMES, TRACE_MASK_BYTES, ServerView, answer
from coati.server.pipeline import Conn

logger = logging.getLogger("coati.server.listeners")

WORD_BYTES: Final = 4
# Accepted in one turn of the loop; more wait in the kernel, so that open sessions are never starved by new ones.
ACCEPT_BATCH: Final = 32
ACCEPT_PAUSE_S: Final = 0.1
# For Java's -1, "the system's default"; its 50 drops connections when a restarted ensemble's clients come back.
DEFAULT_BACKLOG: Final = 1024
# What one client may leave unread, in bytes, before it is cut off. Reading from it stops long before.
MAX_UNREAD_BYTES: Final = 32 << 20
# Time that a closed connection has to take its last bytes.
LINGER_MS: Final = 5000
_GONE_BY_NOW: Final = (BlockingIOError, InterruptedError, ConnectionAbortedError)
# Reasons not to read from a client.
_BY_DRIVER: Final = 1
_BY_SLOW_READER: Final = 2
_READ: Final = 1  # SelectionKey.OP_READ, OP_WRITE: what `cons` shows in brackets
_WRITE: Final = 4


class DriverDoors(Protocol):
    """What the shell tells the driver."""

    def connected(self, conn: Conn) -> None: ...

    def received(self, conn: Conn, data: bytes) -> None: ...

    def closed(self, conn: Conn) -> None: ...


@dataclass(slots=True)
class Limits:
    """0 means no limit, but for the times."""

    per_address: int = 60
    total: int = 0
    open_files: int = 0
    sessionless_ms: int = 10_000
    unread_bytes: int = MAX_UNREAD_BYTES
    linger_ms: int = LINGER_MS
    backlog: int = -1
    is_kept_alive: bool = False


class ClientProtocol(asyncio.Protocol):
    """One client's socket, lent to its Conn as `link`. Nobody knows it before it has its transport."""

    _transport: asyncio.Transport

    def __init__(self, listener: ClientListener, address: tuple[str, int]) -> None:
        self._listener = listener
        self._received = listener.driver.received
        self._head = b""
        self._is_client = False
        self._is_open = True
        self.is_choked = False
        self._pauses = 0
        self._word: Iterator[bytes] | None = None
        self._is_chunk_due = False
        self.conn = Conn(self, address, listener.now_ms())

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has all the methods of asyncio's and is none by type.
        self._transport = cast(asyncio.Transport, transport)
        self._listener.on_open(self)

    def data_received(self, data: bytes) -> None:
        if self._is_client:
            self._received(self.conn, data)
        else:
            self._on_first_bytes(data)

    def eof_received(self) -> None:
        # The transport closes itself now; if bytes are left to send, it must not wait for ever to do so.
        if self._is_open:
            self._is_open = False
            self._listener.on_closing(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._word = None
        self._listener.on_lost(self)

    def pause_writing(self) -> None:
        self.is_choked = True
        self._stop_reading(_BY_SLOW_READER)

    def resume_writing(self) -> None:
        self.is_choked = False
        self._go_on_reading(_BY_SLOW_READER)
        if self.conn.is_full:
            self._received(self.conn, b"")
        if self._word is not None:
            self._post_chunk()

    # ClientLink.

    def send(self, data: bytes) -> None:
        transport = self._transport
        if not self._is_open:
            return
        transport.write(data)
        if self.is_choked and transport.get_write_buffer_size() > self._listener.limits.unread_bytes:
            logger.warning("slow reader cut off peer=%s session=%#x", self.peer, self.conn.session_id)
            self.abort()

    def close(self) -> None:
        """Closes after what was sent has left; a peer that does not take it is cut off after a while."""
        if self._is_open:
            self._is_open = False
            self._word = None
            self._transport.close()
            self._listener.on_closing(self)

    def pause(self) -> None:
        self._stop_reading(_BY_DRIVER)

    def resume(self) -> None:
        self._go_on_reading(_BY_DRIVER)

    # For the listener.

    @property
    def peer(self) -> str:
        host, port = self.conn.address
        return java_address(host, port)

    @property
    def interest(self) -> int:
        """What Java's selector would wait for: nothing for a four-letter word, else reads and perhaps writes."""
        if self._word is not None:
            return 0
        waits_to_write = self._transport.get_write_buffer_size() > 0
        return (0 if self._pauses else _READ) | (_WRITE if waits_to_write else 0)

    def abort(self) -> None:
        """Closes at once, whatever is still to be sent."""
        self._is_open = False
        self._word = None
        self._transport.abort()

    # Reading and not reading.

    def _stop_reading(self, reason: int) -> None:
        if self._pauses == 0 and self._can_steer():
            self._transport.pause_reading()
        self._pauses |= reason

    def _go_on_reading(self, reason: int) -> None:
        was = self._pauses
        self._pauses &= ~reason
        if was and self._pauses == 0 and self._word is None and self._can_steer():
            self._transport.resume_reading()

    def _can_steer(self) -> bool:
        return self._is_open and not self._transport.is_closing()

    # The first bytes: a four-letter word, or the length of a ConnectRequest.

    def _on_first_bytes(self, data: bytes) -> None:
        head = self._head + data
        word = head[:WORD_BYTES]
        if len(word) < WORD_BYTES:
            self._head = head
        elif word not in NAMES:
            self._head = b""
            self._is_client = True
            self._received(self.conn, head)
        elif word == b"stmk" and "stmk" in self._listener.words and len(head) < WORD_BYTES + TRACE_MASK_BYTES:
            self._head = head
        else:
            self._answer_word(word, head[WORD_BYTES : WORD_BYTES + TRACE_MASK_BYTES])

    def _answer_word(self, word: bytes, argument: bytes) -> None:
        self._head = b""
        self.conn.received += 1
        view = self._listener.view
        view.stats.packets_received += 1
        view.stats.received_bytes += WORD_BYTES
        logger.debug("four letter word word=%s peer=%s", NAMES[word], self.peer)
        self._word = answer(word, self._listener.words, view, int.from_bytes(argument, "big", signed=True))
        # What follows the word is nobody's business, and its end is no reason to stop answering.
        self._stop_reading(_BY_DRIVER)
        self._send_chunk()

    def _post_chunk(self) -> None:
        """Between two pieces of an answer the loop serves others."""
        if not self._is_chunk_due:
            self._is_chunk_due = True
            self._listener.soon(self._send_chunk)

    def _send_chunk(self) -> None:
        """Sends the next piece of the answer, unless its reader is behind: `resume_writing` comes back then."""
        self._is_chunk_due = False
        if self._word is None or self.is_choked:
            return
        try:
            chunk = next(self._word, None)
        except Exception:
            logger.exception("four letter word failed peer=%s", self.peer)
            chunk = None
        if chunk is None:
            self.close()
            return
        self.send(chunk)
        self._listener.view.stats.packets_sent += 1
        self._post_chunk()


class ClientListener:
    """The listening socket and all its connections."""

    def __init__(
        self,
        driver: DriverDoors,
        view: ServerView,
        words: frozenset[str],
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        now_ms: Callable[[], int],
    ) -> None:
        self.driver = driver
        self.view = view
        self.words = words
        self.limits = limits
        self.now_ms = now_ms
        self._loop = loop
        self.soon: Callable[[Callable[[], None]], object] = loop.call_soon
        self._socket: socket.socket | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._adopting: dict[asyncio.Task[None], None] = {}
        self._per_address: dict[str, int] = {}
        self._total = 0
        self._open: dict[ClientProtocol, None] = {}
        # Until when a connection must have a session, or be gone. Each is in order of time, as all waits are equal.
        self._sessionless: dict[ClientProtocol, int] = {}
        self._lingering: dict[ClientProtocol, int] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_at_ms = 0

    # The listening socket.

    def start(self, bound: socket.socket) -> None:
        """Lets clients in by a socket from `bind`, which is the listener's from now on."""
        self._socket = bound
        bound.listen(DEFAULT_BACKLOG if self.limits.backlog < 0 else max(self.limits.backlog, 1))
        self._loop.add_reader(bound, self._accept)

    def stop(self) -> None:
        """Lets nobody in any more; open connections stay."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def close_connections(self) -> None:
        """Closes every connection once what was sent to it has left."""
        for protocol in list(self._open):
            protocol.close()

    def abort_connections(self) -> None:
        """Closes every connection at once, and forgets the timers."""
        for protocol in list(self._open):
            protocol.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    @property
    def connection_count(self) -> int:
        return self._total

    def protocols(self) -> list[ClientProtocol]:
        """The open connections, oldest first."""
        return list(self._open)

    # Accepting.

    def _accept(self) -> None:
        assert self._socket is not None, "the loop is told when the socket goes"
        for _ in range(ACCEPT_BATCH):
            if 0 < self.limits.open_files <= self._total:
                self._pause_accepting("connections leave no files to open")
                return
            try:
                client, address = self._socket.accept()
            except _GONE_BY_NOW:
                return
            except OSError as error:
                # Out of descriptors or memory; or, on Linux, an error of the network that befell the new connection.
                self._pause_accepting(error.strerror or str(error))
                return
            host = java_host(str(address[0]))
            reason = self._refusal(host)
            if reason:
                logger.warning("connection refused peer=%s reason=%s", java_address(host, address[1]), reason)
                self.view.stats.count("connection_rejected")
                client.close()
            else:
                self._adopt(client, (host, int(address[1])))

    def _pause_accepting(self, reason: str) -> None:
        """Waiting connections stay in the kernel's queue; without a pause the loop would spin on them."""
        assert self._socket is not None
        logger.warning("accepting paused reason=%s connections=%d", reason, self._total)
        self._loop.remove_reader(self._socket)
        self._retry = self._loop.call_later(ACCEPT_PAUSE_S, self._resume_accepting)

    def _resume_accepting(self) -> None:
        self._retry = None
        assert self._socket is not None, "the timer is cancelled when the socket goes"
        self._loop.add_reader(self._socket, self._accept)

    def _refusal(self, host: str) -> str:
        """Why this client must not come in, or nothing. Source: NIOServerCnxnFactory.doAccept."""
        limits = self.limits
        if 0 < limits.total <= self._total:
            return f"too many connections, max is {limits.total}"
        if 0 < limits.per_address <= self._per_address.get(host, 0):
            return f"too many connections from this address, max is {limits.per_address}"
        return ""

    def _adopt(self, client: socket.socket, address: tuple[str, int]) -> None:
        self._total += 1
        self._per_address[address[0]] = self._per_address.get(address[0], 0) + 1
        task = self._loop.create_task(self._make_transport(client, address))
        self._adopting[task] = None
        task.add_done_callback(self._forget_task)

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        self._adopting.pop(task, None)

    async def _make_transport(self, client: socket.socket, address: tuple[str, int]) -> None:
        protocol = ClientProtocol(self, address)
        try:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.limits.is_kept_alive:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await self._loop.connect_accepted_socket(lambda: protocol, client)
        except OSError as error:
            # The client has gone again already; there is no transport, so nobody else will count it out.
            logger.debug("connection lost at once reason=%s", error)
            client.close()
            self._count_out(address[0])

    def _count_out(self, host: str) -> None:
        self._total -= 1
        left = self._per_address[host] - 1
        if left:
            self._per_address[host] = left
        else:
            del self._per_address[host]

    # What the protocols report.

    def on_open(self, protocol: ClientProtocol) -> None:
        self._open[protocol] = None
        self._sessionless[protocol] = self.now_ms() + self.limits.sessionless_ms
        self._arm_sweeper()
        self.driver.connected(protocol.conn)

    def on_closing(self, protocol: ClientProtocol) -> None:
        self._sessionless.pop(protocol, None)
        self._lingering[protocol] = self.now_ms() + self.limits.linger_ms
        self._arm_sweeper()

    def on_lost(self, protocol: ClientProtocol) -> None:
        del self._open[protocol]
        self._sessionless.pop(protocol, None)
        self._lingering.pop(protocol, None)
        self._count_out(protocol.conn.address[0])
        self.driver.closed(protocol.conn)

    # Deadlines.

    def _arm_sweeper(self) -> None:
        """Sets the timer to the next deadline, unless it is set to that one already."""
        waits = [next(iter(waiting.values())) for waiting in (self._sessionless, self._lingering) if waiting]
        if not waits:
            return
        next_ms = min(waits)
        if self._sweeper is not None:
            if self._sweep_at_ms <= next_ms:
                return
            self._sweeper.cancel()
        self._sweep_at_ms = next_ms
        self._sweeper = self._loop.call_later(max(0, next_ms - self.now_ms()) / 1000, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now_ms = self.now_ms()
        for protocol in _due(self._sessionless, now_ms):
            del self._sessionless[protocol]
            if protocol.conn.session_id == 0:
                logger.info("no session in time peer=%s", protocol.peer)
                self.view.stats.count("sessionless_connections_expired")
                protocol.abort()
        for protocol in _due(self._lingering, now_ms):
            del self._lingering[protocol]
            protocol.abort()
        self._arm_sweeper()


def _due(waiting: dict[ClientProtocol, int], now_ms: int) -> list[ClientProtocol]:
    due: list[ClientProtocol] = []
    for protocol, deadline_ms in waiting.items():
        if deadline_ms > now_ms:
            break
        due.append(protocol)
    return due


def java_host(host: str) -> str:
    """InetAddress.getHostAddress: IPv6 written out, an IPv4 client on a dual-stack socket as IPv4, without a zone."""
    host = host.partition("%")[0]
    if ":" not in host:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host)
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return ":".join(f"{int.from_bytes(packed[i : i + 2], 'big'):x}" for i in range(0, 16, 2))


def java_address(host: str, port: int) -> str:
    """The address part of InetSocketAddress.toString."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the port and does not listen yet. Raises OSError.

    It is bound to the first address of `host`; when that is empty to every address, IPv6 and IPv4, as Java does.
    """
    if host:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return _bind_to(family, address)
    try:
        return _bind_to(socket.AF_INET6, ("::", port))
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _bind_to(socket.AF_INET, ("0.0.0.0", port))


def _bind_to(family: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and address[0] == "::":
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(address)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound
