"""A little server of the client protocol, in threads, that answers as a test tells it to.

Just enough of a tree for the load generator's own requests. The replies are built here from the protocol's description
(ReplyHeader, Stat, ...), not with the generator's tables.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

CREATE, DELETE, GET, SET, CHILDREN, CLOSE = 1, 2, 4, 5, 8, -11
NO_NODE, NODE_EXISTS = -101, -110
STAT = bytes(68)

Script = Callable[[int, int, bytes], bytes]


def reply(xid: int, body: bytes = b"", err: int = 0) -> bytes:
    """A reply with its length: xid, zxid, err and the body."""
    payload = struct.pack(">iqi", xid, 7, err) + body
    return struct.pack(">i", len(payload)) + payload


def buffer(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def get_reply(xid: int, data: bytes) -> bytes:
    return reply(xid, buffer(data) + STAT)


def set_reply(xid: int) -> bytes:
    return reply(xid, STAT)


class FakeServer:
    """`script(xid, op, reply) -> bytes` may put anything in the place of a reply. With `hold`, the replies to gets
    wait until so many have come on that connection, and `most_held` says how many there ever were."""

    def __init__(self, script: Script | None = None, *, hold: int = 0, refuse: bool = False) -> None:
        self.tree: dict[bytes, bytes] = {b"": b""}
        self.children: dict[bytes, list[bytes]] = {}
        self.deleted: list[bytes] = []
        self.sessions = 0
        self.closed = 0
        self.most_held = 0
        self.script = script
        self._hold = hold
        self._refuse = refuse
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = []

    @property
    def address(self) -> tuple[str, int]:
        name: tuple[str, int] = self._listener.getsockname()
        return name

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Only shutdown wakes a thread that sits in accept or recv.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                self._converse(sock)
            except OSError:
                return

    def _converse(self, sock: socket.socket) -> None:
        rest, is_open, held = b"", False, b""
        count = 0
        while chunk := sock.recv(65536):
            rest += chunk
            out = b""
            while len(rest) >= 4 and len(rest) >= 4 + int.from_bytes(rest[:4], "big"):
                end = 4 + int.from_bytes(rest[:4], "big")
                payload, rest = rest[4:end], rest[end:]
                if not is_open:
                    is_open = True
                    out += self._open()
                    continue
                answer, is_held = self._answer(payload)
                if is_held:
                    held += answer
                    count += 1
                else:
                    out += answer
            self.most_held = max(self.most_held, count)
            if self._hold and count >= self._hold:
                out, held, count = out + held, b"", 0
            if out:
                sock.sendall(out)

    def _open(self) -> bytes:
        with self._lock:
            self.sessions += 1
            session_id = 0 if self._refuse else self.sessions
        return buffer(struct.pack(">iiqi", 0, 30000, session_id, 16) + bytes(16) + b"\0")

    def _answer(self, payload: bytes) -> tuple[bytes, bool]:
        xid, op = struct.unpack_from(">ii", payload)
        with self._lock:
            err, body = self._execute(op, payload[8:])
        answer = reply(xid, b"" if err else body, err)
        if self.script is not None:
            answer = self.script(xid, op, answer)
        return answer, bool(self._hold) and op == GET

    def _execute(self, op: int, body: bytes) -> tuple[int, bytes]:
        if op == CLOSE:
            self.closed += 1
            return 0, b""
        length = int.from_bytes(body[:4], "big")
        path, rest = body[4 : 4 + length], body[4 + length :]
        parent, _, name = path.rpartition(b"/")
        if op == CREATE:
            if path in self.tree:
                return NODE_EXISTS, b""
            if parent not in self.tree:
                return NO_NODE, b""
            self.tree[path] = rest[4 : 4 + int.from_bytes(rest[:4], "big")]
            self.children.setdefault(parent, []).append(name)
            return 0, buffer(path)
        if path not in self.tree:
            return NO_NODE, b""
        if op == DELETE:
            self.deleted.append(path)
            del self.tree[path]
            self.children[parent].remove(name)
            return 0, b""
        if op == SET:
            self.tree[path] = rest[4 : 4 + int.from_bytes(rest[:4], "big")]
            return 0, STAT
        if op == GET:
            return 0, buffer(self.tree[path]) + STAT
        names = self.children.get(path, [])
        return 0, struct.pack(">i", len(names)) + b"".join(map(buffer, names))
