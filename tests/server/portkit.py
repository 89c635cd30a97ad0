"""For tests of the client port: a listener on the loopback, and a driver that only takes notes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from coati.server.fourletter import parse_whitelist
from coati.server.listeners import ClientListener, Limits, bind
from coati.server.pipeline import Conn
from tests.server.views import PlainView

WAIT_S: Final = 20
ALL = parse_whitelist("*", is_read_only_enabled=False)


class Notes:
    """A driver that keeps what it is told; `reply` may answer."""

    def __init__(self) -> None:
        self.conns: list[Conn] = []
        self.data: dict[Conn, bytes] = {}
        self.gone: list[Conn] = []
        self.reply: Callable[[Conn, bytes], None] = lambda conn, data: None
        self.changed = asyncio.Event()

    def connected(self, conn: Conn) -> None:
        self.conns.append(conn)
        self.changed.set()

    def received(self, conn: Conn, data: bytes) -> None:
        self.data[conn] = self.data.get(conn, b"") + data
        self.reply(conn, data)
        self.changed.set()

    def closed(self, conn: Conn) -> None:
        self.gone.append(conn)
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


class Port:
    """A listener and what stands around it."""

    def __init__(self, limits: Limits, words: frozenset[str] = ALL) -> None:
        loop = asyncio.get_running_loop()
        self.notes = Notes()
        self.view = PlainView()
        self.listener = ClientListener(self.notes, self.view, words, limits, loop, lambda: int(loop.time() * 1000))
        bound = bind("127.0.0.1", 0)
        self.host, self.port = bound.getsockname()
        self.listener.start(bound)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    async def heard(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client whose first frame, an `x`, has come."""
        reader, writer = await self.connect()
        writer.write(frame(b"x"))
        await self.notes.until(lambda: bool(self.notes.data))
        return reader, writer

    def connect_lazily(self, data: bytes) -> socket.socket:
        """A client that sends and never reads; the kernel takes next to nothing for it."""
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((self.host, self.port))
        lazy.sendall(data)
        return lazy

    async def ask(self, data: bytes) -> bytes:
        reader, writer = await self.connect()
        writer.write(data)
        answer = await read_all(reader)
        writer.close()
        return answer


class ManyWatches:
    """`View.watches_by_session` of so many sessions with 100 watches each; `made` is how many were asked for."""

    def __init__(self, sessions: int) -> None:
        self.sessions = sessions
        self.made = 0

    def __call__(self) -> Iterator[tuple[int, list[bytes]]]:
        paths = [b"/some/path/that/is/watched/by/somebody/%d" % n for n in range(100)]
        for session in range(self.sessions):
            self.made += 1
            yield session, paths


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes, politely or not."""
    parts: list[bytes] = []
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                parts.append(part)
    return b"".join(parts)


@contextlib.asynccontextmanager
async def open_port(limits: Limits | None = None, words: frozenset[str] = ALL) -> AsyncIterator[Port]:
    port = Port(limits or Limits(), words)
    try:
        yield port
    finally:
        port.listener.stop()
        port.listener.abort_connections()
        await port.notes.until(lambda: port.listener.connection_count == 0)


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload
