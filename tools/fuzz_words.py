"""The first bytes on a client port: a four-letter word to answer, or a client to hand to the driver.

The listener's protocol object runs on a transport and a loop that only remember; what it does must not depend on how
the bytes are cut, and whoever is no word reaches the driver with every byte. Knows the listener's doors; must not know
how the search works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from coati.server.fourletter import NAMES, TRACE_MASK_BYTES, ConnInfo, parse_whitelist
from coati.server.listeners import ClientListener, ClientProtocol, Limits
from coati.server.pipeline import Conn
from tests.server.views import PlainView

WORDS = list(NAMES)
WHITELISTS = ("*", "srvr, ruok,stmk", "")
MAX_CALLS = 10_000


class Loop:
    """Keeps what is to be called soon; what is to be called later never is."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def time(self) -> float:
        return 1.0

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self.waiting.append((callback, args))

    def call_later(self, _: float, callback: Callable[..., object], *args: object) -> None:
        pass

    def run(self) -> None:
        """Calls until nothing waits."""
        for _ in range(MAX_CALLS):
            if not self.waiting:
                return
            callback, args = self.waiting.pop(0)
            callback(*args)
        raise AssertionError("an answer without an end")


class Transport(asyncio.Transport):
    """Remembers what was sent; always has room for more."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "sent after closing"
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class Driver:
    """Takes what a client sends."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def connected(self, conn: Conn) -> None:
        pass

    def received(self, conn: Conn, data: bytes) -> None:
        self.taken += data

    def closed(self, conn: Conn) -> None:
        pass


def view() -> PlainView:
    """Something to show for each word."""
    shown = PlainView()
    shown.infos = [ConnInfo("127.0.0.1:4000", 1, 0, 3, 2)]
    shown.sessions = [(1_700_000_000_000, 0x100)]
    shown.conn_deadlines = [(1_700_000_000_000, "127.0.0.1:4000", 0x100)]
    shown.owners = {0x100: [b"/e\xff", b"/f"]}
    shown.watches = [(0x100, [b"/w\n", b"/x"])]
    shown.digest_log = [(1, 1 << 63)]
    shown.conf = [("clientPort", "2181")]
    shown.env = [("user.name", "\udcff")]
    return shown


def outcome(stream: bytes, step: int, whitelist: str) -> tuple[bytes, bytes, bool]:
    """What the driver was given, what was sent, and whether the connection was closed."""
    loop, driver, transport = Loop(), Driver(), Transport()
    words = parse_whitelist(whitelist, is_read_only_enabled=False)
    listener = ClientListener(driver, view(), words, Limits(), cast(asyncio.AbstractEventLoop, loop), lambda: 1000)
    protocol = ClientProtocol(listener, ("127.0.0.1", 4000))
    protocol.connection_made(transport)
    for at in range(0, len(stream), step):
        if not transport.closed:
            protocol.data_received(stream[at : at + step])
            loop.run()
    return bytes(driver.taken), bytes(transport.sent), transport.closed


def run(data: bytes) -> None:
    """The first byte chooses the whitelist and the size of the pieces."""
    if not data:
        return
    whitelist, step, stream = WHITELISTS[data[0] % 3], 1 + data[0] // 3 % 9, data[1:]
    taken, sent, closed = outcome(stream, max(1, len(stream)), whitelist)
    assert (taken, sent, closed) == outcome(stream, step, whitelist), "it matters how the bytes are cut"
    if stream[:4] in NAMES:
        assert not taken, "a word reaches the driver"
        waits = stream[:4] == b"stmk" and len(stream) < 4 + TRACE_MASK_BYTES and whitelist != ""
        assert closed is not waits, "an answered word ends the connection, and nothing else does"
    else:
        assert taken == (stream if len(stream) >= 4 else b""), "bytes of a client are lost"
        assert not sent, "an answer to no word"
        assert not closed, "a client is sent away"


def seeds() -> Iterable[bytes]:
    for index, word in enumerate(WORDS):
        yield bytes((index * 3 % 27,)) + word
    yield from more_seeds()


def more_seeds() -> Iterator[bytes]:
    yield b"\x00stmk\x00\x00\x00\x00\x00\x00\x00\x7f"
    yield b"\x01stmk\x80\x00\x00"
    yield b"\x02ruok\n"
    yield b"\x06rUOK"
    yield b"\x00GET / HTTP/1.1\r\n\r\n"
    yield b"\x03\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    yield b"\x04\x00\x00\x00\x2d" + bytes(45)
