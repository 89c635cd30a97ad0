"""One blocking session of the load generator: handshake, requests for setting up, the socket for the rest.

Knows the client protocol's framing and handshake. Must not know what is measured.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from struct import Struct
from types import TracebackType
from typing import Final, Protocol, Self

from coati.errors import ProtocolError, ZKError, keeper_error
from coati.wire.codes import OP_CLOSE_SESSION, OP_CREATE, OP_DELETE, OP_GET_CHILDREN, PERM_ALL
from coati.wire.jute import Reader, Writer, frame
from coati.wire.records import (
    ACL,
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    DeleteRequest,
    GetChildrenRequest,
    GetChildrenResponse,
    Id,
    ReplyHeader,
    RequestHeader,
)

SESSION_TIMEOUT_MS: Final = 30_000
SOCKET_TIMEOUT_S: Final = 30.0
PIPELINED: Final = 100
CLOSE_XID: Final = 0x7FFFFFFF
PASSWORD_BYTES: Final = 16
OPEN_ACL: Final = ACL(PERM_ALL, Id("world", "anyone"))
_INT: Final = Struct(">i")

Host = tuple[str, int]


class BenchFailed(ZKError):
    """The run cannot give a figure: a lost connection, a silent server, a refused session."""


class Record(Protocol):
    """What every jute record can do."""

    def write(self, w: Writer) -> None: ...


def request_frame(xid: int, op: int, record: Record | None) -> bytes:
    """A whole request as it goes on the wire."""
    writer = Writer()
    RequestHeader(xid, op).write(writer)
    if record is not None:
        record.write(writer)
    return frame(writer.getvalue())


def connect_request(timeout_ms: int) -> bytes:
    """The frame that asks for a new session."""
    writer = Writer()
    ConnectRequest(0, 0, timeout_ms, 0, bytes(PASSWORD_BYTES), False).write(writer)
    return frame(writer.getvalue())


class Session:
    """A connection with an open session. Raises BenchFailed when the server refuses, hangs up or keeps silent."""

    __slots__ = ("_xid", "session_id", "sock")

    def __init__(self, host: Host, timeout_ms: int = SESSION_TIMEOUT_MS) -> None:
        try:
            self.sock = socket.create_connection(host, timeout=SOCKET_TIMEOUT_S)
        except OSError as error:
            raise BenchFailed(f"{host[0]}:{host[1]}: {error}") from error
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._xid = 0
        try:
            self.session_id = self._handshake(timeout_ms)
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def call(self, op: int, records: Sequence[Record]) -> list[Reader]:
        """Send requests of one kind, PIPELINED at a time, and return the bodies of their replies.

        Raises KeeperError for the first error reply, ProtocolError.
        """
        bodies: list[Reader] = []
        for at in range(0, len(records), PIPELINED):
            chunk = records[at : at + PIPELINED]
            first = self._xid + 1
            self._xid += len(chunk)
            self._send(b"".join(request_frame(first + i, op, record) for i, record in enumerate(chunk)))
            # All of them first: after an error reply the session is still good for more.
            replies = [Reader(self._receive()) for _ in chunk]
            for i, reply in enumerate(replies):
                header = ReplyHeader.read(reply)
                if header.xid != first + i:
                    raise ProtocolError(f"reply to xid {header.xid} where {first + i} was due")
                if header.err:
                    raise keeper_error(header.err)
            bodies += replies
        return bodies

    def create(self, *paths: bytes, data: bytes = b"") -> None:
        """Create persistent znodes open to all."""
        self.call(OP_CREATE, [CreateRequest(path, data, [OPEN_ACL], 0) for path in paths])

    def delete(self, *paths: bytes) -> None:
        """Delete znodes of any version."""
        self.call(OP_DELETE, [DeleteRequest(path, -1) for path in paths])

    def children(self, *paths: bytes) -> list[bytes]:
        """The paths of all children of znodes."""
        found: list[bytes] = []
        bodies = self.call(OP_GET_CHILDREN, [GetChildrenRequest(path, False) for path in paths])
        for path, body in zip(paths, bodies, strict=True):
            found += [b"%s/%s" % (path, name) for name in GetChildrenResponse.read(body).children]
        return found

    def close(self) -> None:
        """End the session as a client should, then hang up; errors no longer matter."""
        try:
            self.sock.settimeout(SOCKET_TIMEOUT_S)
            self._send(request_frame(CLOSE_XID, OP_CLOSE_SESSION, None))
            self._receive()
        except (OSError, ZKError):
            pass
        finally:
            self.sock.close()

    def abort(self) -> None:
        """Hang up without a word; the session then ends by its timeout. Harmless after `close`."""
        self.sock.close()

    def _handshake(self, timeout_ms: int) -> int:
        self._send(connect_request(timeout_ms))
        response = ConnectResponse.read(Reader(self._receive()))
        if response.session_id == 0:
            raise BenchFailed("the server refused the session")
        return response.session_id

    def _send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise BenchFailed(f"connection lost: {error}") from error

    def _receive(self) -> bytes:
        (length,) = _INT.unpack(self._receive_exactly(4))
        return self._receive_exactly(length)

    def _receive_exactly(self, count: int) -> bytes:
        chunks: list[bytes] = []
        while count > 0:
            try:
                chunk = self.sock.recv(count)
            except OSError as error:
                raise BenchFailed(f"connection lost: {error}") from error
            if not chunk:
                raise BenchFailed("the server closed the connection")
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)
