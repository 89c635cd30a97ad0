"""A server that says what the test wants: to bring about answers that a real one gives only at an unlucky moment."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from coati.wire import codes
from tests.client.kit import hello, reply

STAT = struct.pack(">qqqqiiiqiiq", 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 1)
HANG_UP = b"hang up"
Answer = Callable[[int, int, bytes], bytes]
"""What to send for a request (xid, opcode, body); HANG_UP ends the connection, nothing is silence."""


class Scripted:
    """Answers pings, closes and the `exists` of the root, with which clients begin; asks the test for all else."""

    def __init__(self, answer: Answer, *, reads_only: bool = False, isro: bytes = b"rw") -> None:
        self.port = 0
        self.hellos = 0
        self.ops: list[int] = []
        self.reads_only = reads_only
        self._answer = answer
        self._isro = isro

    async def on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readexactly(4)
            if head == b"isro":
                writer.write(self._isro)
                return
            await reader.readexactly(struct.unpack(">i", head)[0])
            self.hellos += 1
            writer.write(hello(reads_only=self.reads_only, session_id=0x77))
            while True:
                (length,) = struct.unpack(">i", await reader.readexactly(4))
                payload = await reader.readexactly(length)
                xid, op = struct.unpack_from(">ii", payload)
                data = self._reply(xid, op, payload[8:])
                if data == HANG_UP:
                    return
                writer.write(data)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    def _reply(self, xid: int, op: int, body: bytes) -> bytes:
        if op == codes.OP_PING or op == codes.OP_CLOSE_SESSION:
            return reply(xid)
        if op == codes.OP_EXISTS and body == struct.pack(">i", 1) + b"/\0":
            return reply(xid, body=STAT)
        self.ops.append(op)
        return self._answer(xid, op, body)


@asynccontextmanager
async def scripted(answer: Answer, *, reads_only: bool = False, isro: bytes = b"rw") -> AsyncIterator[Scripted]:
    made = Scripted(answer, reads_only=reads_only, isro=isro)
    server = await asyncio.start_server(made.on_client, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
