"""A client's end of a simulated connection: an asyncio.Transport that behaves as a socket's does.

Knows its protocol and the line it speaks on. Must not know what is at the other end, or between. Protocols are called
from the loop, never from within their own calls; `connection_lost` comes once, and nothing behind it.
Source: asyncio's _SelectorSocketTransport.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Final, Protocol

from coati.testing.loop import SimLoop, refuse

# What the socket takes besides the transport's own buffer, and how much of that is too much, if nobody says.
SOCKET_BYTES: Final = 64 << 10
HIGH_BYTES: Final = 64 << 10


class Out(Protocol):
    """The way from the client."""

    on_left: Callable[[], None] | None

    @property
    def waiting_bytes(self) -> int: ...


class Line(Protocol):
    """What a transport speaks on. `name` is for complaints."""

    name: str

    @property
    def forward(self) -> Out: ...

    def say(self, data: bytes) -> None: ...

    def read(self, is_reading: bool) -> None: ...

    def hang_up(self, *, is_reset: bool = False) -> None: ...


class SimTransport(asyncio.Transport):
    """`peer` and `own` are the addresses that `get_extra_info` shows as `peername` and `sockname`; it has no socket."""

    def __init__(
        self,
        loop: SimLoop,
        line: Line,
        protocol: asyncio.BaseProtocol,
        *,
        peer: tuple[str, int],
        own: tuple[str, int],
    ) -> None:
        super().__init__({"peername": peer, "sockname": own})
        self.name = line.name
        self.is_lost = False
        self._loop = loop
        self._line = line
        self._protocol = protocol
        self._context = copy_context()
        self._is_closing = False
        self._is_eof_sent = False
        self._reads = True
        # What had come already when nobody wanted to read more; empty bytes are the end.
        self._held: list[bytes] = []
        self._high_bytes, self._low_bytes = HIGH_BYTES, HIGH_BYTES // 4
        self._is_choked = False
        line.forward.on_left = self._on_left
        loop.transports[self] = None

    def __repr__(self) -> str:
        return f"<SimTransport {self.name}{' closing' if self._is_closing else ''}>"

    # asyncio.Transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._reads and not self._is_closing

    def pause_reading(self) -> None:
        if self.is_reading():
            self._reads = False
            self._line.read(False)

    def resume_reading(self) -> None:
        if not self._reads and not self._is_closing:
            self._reads = True
            held, self._held = self._held, []
            for data in held:
                self._soon(self._deliver, data)
            self._line.read(True)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_eof_sent:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if data and not self._is_closing:
            self._line.say(bytes(data))
            self._watch_buffer()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._is_eof_sent and not self._is_closing:
            self._is_eof_sent = True
            self._line.hang_up()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return max(0, self._line.forward.waiting_bytes - SOCKET_BYTES)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_bytes, self._high_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_bytes, self._low_bytes = high, low
        self._watch_buffer()

    def close(self) -> None:
        """Behind what was written, however long that takes."""
        if not self._is_closing:
            self._is_closing = True
            if not self.get_write_buffer_size():
                self._end(None)

    def abort(self) -> None:
        self._break(None)

    # What the line brings.

    def on_data(self, data: bytes) -> None:
        """Bytes have come."""
        self._soon(self._deliver, data)

    def on_end(self, is_reset: bool) -> None:
        """The other end is closed, or knows nothing of this connection."""
        if is_reset:
            self._break(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        else:
            self._soon(self._deliver, b"")

    def _soon(self, call: Callable[[bytes], None], data: bytes) -> None:
        self._loop.call_soon(call, data, context=self._context)

    def _deliver(self, data: bytes) -> None:
        if self._is_closing:
            return
        if not self._reads:
            self._held.append(data)
            return
        try:
            if data:
                self._hand_over(data)
            elif not self._on_eof():
                self.close()
        except Exception as error:
            context = {"message": "Fatal error: a protocol failed.", "exception": error, "transport": self}
            self._loop.call_exception_handler(context)
            self._break(error)

    def _hand_over(self, data: bytes) -> None:
        if not isinstance(self._protocol, asyncio.Protocol):
            refuse("a protocol with a buffer of its own")
        self._protocol.data_received(data)

    def _on_eof(self) -> bool:
        return isinstance(self._protocol, asyncio.Protocol) and bool(self._protocol.eof_received())

    # Writing and ending.

    def _watch_buffer(self) -> None:
        waiting_bytes = self.get_write_buffer_size()
        if not self._is_choked and waiting_bytes > self._high_bytes:
            self._is_choked = True
            self._protocol.pause_writing()
        elif self._is_choked and waiting_bytes <= self._low_bytes:
            self._is_choked = False
            self._protocol.resume_writing()

    def _on_left(self) -> None:
        if self._is_choked or self._is_closing:
            self._loop.call_soon(self._go_on, context=self._context)

    def _go_on(self) -> None:
        if self.is_lost:
            return
        self._watch_buffer()
        if self._is_closing and not self.get_write_buffer_size():
            self._end(None)

    def _break(self, error: Exception | None) -> None:
        """At once, whatever is still to be sent."""
        self._is_closing = True
        self._end(error, is_reset=True)

    def _end(self, error: Exception | None, *, is_reset: bool = False) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._line.hang_up(is_reset=is_reset)
            self._loop.call_soon(self._tell, error, context=self._context)

    def _tell(self, error: Exception | None) -> None:
        self._loop.transports.pop(self, None)
        self._held.clear()
        self._protocol.connection_lost(error)
