"""One question to one server on a plain socket, without an event loop: for probes, which have to be quick.

Knows the four-letter words' exchange and the client's handshake (ConnectRequest, closeSession). Loads next to nothing:
even `words` and `client` would cost a probe more than its answer does.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

MAX_ANSWER_BYTES: Final = 65_536
# protocolVersion, lastZxidSeen, timeOut, sessionId, passwd, readOnly
_CONNECT: Final = struct.Struct(">iqiqi16s?")
# xid, closeSession
_CLOSE: Final = struct.pack(">iii", 8, 1, -11)
# Its first fields again: protocolVersion, timeOut, sessionId
_CONNECTED: Final = struct.Struct(">iiq")


def ask(address: tuple[str, int], word: str, timeout_s: float, tls: ssl.SSLContext | None = None) -> bytes:
    """The answer to a four-letter word, up to its end or a limit. Raises OSError."""
    with _connected(address, timeout_s, tls) as sock:
        sock.sendall(word.encode())
        answer = b""
        while len(answer) < MAX_ANSWER_BYTES:
            chunk = sock.recv(MAX_ANSWER_BYTES)
            if not chunk:
                break
            answer += chunk
        return answer


def shake_hands(address: tuple[str, int], timeout_s: float, tls: ssl.SSLContext | None = None) -> str:
    """Opens a session that reads only, and closes it: `rw`, `ro`, or empty if the server takes no session.

    Raises OSError.
    """
    with _connected(address, timeout_s, tls) as sock:
        request = _CONNECT.pack(0, 0, int(timeout_s * 1000), 0, 16, bytes(16), True)
        sock.sendall(struct.pack(">i", len(request)) + request)
        try:
            (size,) = struct.unpack(">i", _exactly(sock, 4))
            if not _CONNECTED.size <= size <= MAX_ANSWER_BYTES:
                return ""
            answer = _exactly(sock, size)
        except (EOFError, ConnectionResetError):
            return ""
        _, timeout_ms, session_id = _CONNECTED.unpack_from(answer)
        sock.sendall(_CLOSE)
        _wait_for_end(sock)
        # The last byte of an answer says whether it reads only; servers before 3.4 have none.
        (passwd,) = struct.unpack_from(">i", answer, _CONNECTED.size)
        read_only = len(answer) > _CONNECTED.size + 4 + max(passwd, 0) and answer[-1] == 1
        if timeout_ms <= 0 or session_id == 0:
            return ""
        return "ro" if read_only else "rw"


def _wait_for_end(sock: socket.socket) -> None:
    """Until the session is closed: a socket that is closed before may take the request with it."""
    try:
        while sock.recv(MAX_ANSWER_BYTES):
            pass
    except OSError:
        return


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError("it closed the connection")
        data += chunk
    return data


def _connected(address: tuple[str, int], timeout_s: float, tls: ssl.SSLContext | None) -> socket.socket:
    sock = socket.create_connection(address, timeout=timeout_s)
    if tls is None:
        return sock
    try:
        return tls.wrap_socket(sock, server_hostname=address[0])
    except BaseException:
        sock.close()
        raise
