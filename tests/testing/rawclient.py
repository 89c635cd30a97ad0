"""A client of the raw protocol on asyncio, as small as can be: for tests of the loop and the world it runs in."""

from __future__ import annotations

import asyncio

from coati.testing.server import connect_frame, create_body, encode, request_frame
from coati.wire import codes
from coati.wire.jute import FrameBuffer, Reader
from coati.wire.records import GetDataRequest, ReplyHeader


class RawProtocol(asyncio.Protocol):
    """One connection. `lost` ends with it; `received` are its bytes until the first frame is waited for."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.pieces: list[bytes] = []
        self._buffer = FrameBuffer()
        self.is_raw = False
        self.has_eof = False

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        if not self.is_raw:
            for frame in self._buffer.feed(data):
                self.frames.put_nowait(frame)

    def eof_received(self) -> bool | None:
        self.has_eof = True
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)
        self.frames.put_nowait(None)


class RawClient:
    """A session on one connection; requests are sent one after the other."""

    def __init__(self, transport: asyncio.Transport, protocol: RawProtocol) -> None:
        self.transport = transport
        self.protocol = protocol
        self.session_id = 0
        self.password = bytes(16)
        self._xid = 0

    async def next_frame(self) -> bytes:
        """Raises ConnectionError when the connection ends before."""
        frame = await self.protocol.frames.get()
        if frame is None:
            raise ConnectionError("lost")
        return frame

    async def greet(self, session_id: int = 0, password: bytes = bytes(16), timeout_ms: int = 10_000) -> RawClient:
        self.transport.write(connect_frame(timeout_ms, session_id, password))
        r = Reader(await self.next_frame())
        r.int32()
        r.int32()
        self.session_id = r.int64()
        self.password = r.buffer() or b""
        return self

    async def call(self, op: int, body: bytes = b"") -> tuple[int, bytes]:
        """The error code and the rest of the answer; events are left out."""
        self._xid += 1
        self.transport.write(request_frame(self._xid, op, body))
        while True:
            frame = await self.next_frame()
            r = Reader(frame)
            header = ReplyHeader.read(r)
            if header.xid == self._xid:
                return header.err, frame[r.pos :]

    async def create(self, path: bytes, data: bytes = b"", flags: int = 0) -> int:
        return (await self.call(codes.OP_CREATE2, create_body(path, data, flags)))[0]

    async def get(self, path: bytes) -> bytes | None:
        err, body = await self.call(codes.OP_GET_DATA, encode(GetDataRequest(path, False)))
        return None if err else Reader(body).buffer()

    async def close(self) -> None:
        """Ends the session and the connection."""
        await self.call(codes.OP_CLOSE_SESSION)
        await self.hang_up()

    async def hang_up(self) -> None:
        self.transport.close()
        await self.protocol.lost


async def dial(host: str = "zk", port: int = 2181) -> RawClient:
    """A connection without a session."""
    transport, protocol = await asyncio.get_running_loop().create_connection(RawProtocol, host, port)
    return RawClient(transport, protocol)


async def connect(host: str = "zk", *, timeout_ms: int = 10_000) -> RawClient:
    """A connection with a session."""
    return await (await dial(host)).greet(timeout_ms=timeout_ms)
