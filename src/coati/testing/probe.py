"""What a test asks a server as a stranger would: four-letter words, the tree, the end of somebody's session.

Knows the client port and nothing else, so that it works with any ZooKeeper. Blocking, each call with its time; never
called on the loop that runs the server.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from struct import Struct
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from coati.errors import NoNode, ProtocolError, ZKError, keeper_error
from coati.wire.codes import OP_CLOSE_SESSION, OP_GET_CHILDREN2
from coati.wire.jute import Reader, Writer, frame
from coati.wire.records import (
    ConnectRequest,
    ConnectResponse,
    GetChildren2Response,
    GetChildrenRequest,
    ReplyHeader,
    RequestHeader,
)

T = TypeVar("T")

TIMEOUT_S: Final = 5.0
SESSION_TIMEOUT_MS: Final = 10_000
PASSWORD_BYTES: Final = 16
WORD_BYTES: Final = 1 << 16
_INT: Final = Struct(">i")
Address = tuple[str, int]


class ProbeFailed(ZKError):
    """The server closed the connection, or kept silent."""


class Seen(NamedTuple):
    """A znode as a dump shows it."""

    path: str
    data_bytes: int
    version: int
    owner: int


def four_letter(address: Address, word: str, timeout_s: float = TIMEOUT_S) -> str:
    """The whole answer. Raises OSError where nobody listens or answers."""
    ends = monotonic() + timeout_s
    with socket.create_connection(address, timeout_s) as sock:
        sock.sendall(word.encode())
        pieces: list[bytes] = []
        while True:
            sock.settimeout(max(ends - monotonic(), 0.001))
            piece = sock.recv(WORD_BYTES)
            if not piece:
                return b"".join(pieces).decode(errors="replace")
            pieces.append(piece)


def mode(address: Address, timeout_s: float = TIMEOUT_S) -> str | None:
    """`leader`, `follower`, `observer`, `standalone`, `read-only`; None while it serves nobody."""
    try:
        answer = four_letter(address, "srvr", timeout_s)
    except OSError:
        return None
    for line in answer.splitlines():
        if line.startswith("Mode: "):
            return line.removeprefix("Mode: ")
    return None


class Probe:
    """A session of its own, or somebody's. Raises ProbeFailed, also from its verbs."""

    def __init__(self, address: Address, *, session_id: int = 0, password: bytes = b"") -> None:
        self._sock = _told(lambda: socket.create_connection(address, TIMEOUT_S))
        self._xid = 0
        writer = Writer()
        secret = password or bytes(PASSWORD_BYTES)
        ConnectRequest(0, 0, SESSION_TIMEOUT_MS, session_id, secret, False).write(writer)
        try:
            response = ConnectResponse.read(Reader(self._ask(writer)))
        except BaseException:
            self._sock.close()
            raise
        self.session_id = response.session_id

    def call(self, op: int, write: Callable[[Writer], None]) -> Reader:
        """One request and the body of its reply. Raises KeeperError."""
        self._xid += 1
        writer = Writer()
        RequestHeader(self._xid, op).write(writer)
        write(writer)
        reply = Reader(self._ask(writer))
        header = ReplyHeader.read(reply)
        if header.xid != self._xid:
            raise ProtocolError(f"reply to xid {header.xid} where {self._xid} was due")
        if header.err:
            raise keeper_error(header.err)
        return reply

    def end(self) -> None:
        """Ends the session and hangs up."""
        try:
            self.call(OP_CLOSE_SESSION, lambda writer: None)
        finally:
            self._sock.close()

    def hang_up(self) -> None:
        self._sock.close()

    def _ask(self, writer: Writer) -> bytes:
        _told(lambda: self._sock.sendall(frame(writer.getvalue())))
        return self._receive(_INT.unpack(self._receive(4))[0])

    def _receive(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count > 0:
            piece = _told(partial(self._sock.recv, count))
            if not piece:
                raise ProbeFailed("the server closed the connection")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


def _told(call: Callable[[], T]) -> T:
    try:
        return call()
    except OSError as error:
        raise ProbeFailed(f"connection lost: {error}") from error


def end_session(address: Address, session_id: int, password: bytes) -> bool:
    """Takes a session over and ends it, so that its client finds it expired; False if it was no more.

    Raises ProbeFailed.
    """
    probe = Probe(address, session_id=session_id, password=password)
    if probe.session_id != session_id:
        probe.hang_up()
        return False
    probe.end()
    return True


def read_tree(address: Address, limit: int) -> list[Seen]:
    """The znodes in order of their paths, parents first, at most so many. Raises ProbeFailed, KeeperError."""
    probe = Probe(address)
    try:
        found: list[Seen] = []
        waiting = [b"/"]
        while waiting and len(found) < limit:
            path = waiting.pop()
            try:
                body = probe.call(OP_GET_CHILDREN2, GetChildrenRequest(path, False).write)
            except NoNode:
                continue
            answer = GetChildren2Response.read(body)
            stat = answer.stat
            found.append(Seen(path.decode(errors="replace"), stat.data_length, stat.version, stat.ephemeral_owner))
            base = path.rstrip(b"/")
            waiting += [base + b"/" + name for name in sorted(answer.children, reverse=True)]
        return found
    finally:
        probe.end()
