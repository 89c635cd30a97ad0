"""Jute: ints, longs, booleans, buffers, strings and counts, big-endian; and the framing of a TCP stream.

Knows bytes and their limits, not what records mean. A length or count is checked against what is really there before
anything is allocated or sliced. Sources: BinaryInputArchive, BinaryOutputArchive, NIOServerCnxn.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from coati.errors import MarshallingError
from coati.wire.codes import MAX_BUFFER_BYTES

_INT: Final = Struct(">i")
_LONG: Final = Struct(">q")
_pack_int: Final = _INT.pack
_pack_long: Final = _LONG.pack
_unpack_int: Final = _INT.unpack_from
_unpack_long: Final = _LONG.unpack_from

NULL_LENGTH: Final = b"\xff\xff\xff\xff"
# A surrogate half written as three bytes, which is no UTF-8, or what there is of one.
_SURROGATE: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]?")
_REPLACEMENT: Final = "\ufffd".encode()


class Reader:
    """Reads fields in order from `data[pos:end]`.

    Raises MarshallingError when a field does not fit in what is left, or when a length is negative (other than the
    null's -1) or above `max_field` bytes ("Unreasonable length" in BinaryInputArchive.checkLength).
    """

    __slots__ = ("data", "end", "max_field", "pos")

    def __init__(self, data: bytes, pos: int = 0, end: int = -1, max_field: int = 2 * MAX_BUFFER_BYTES) -> None:
        self.data = data
        self.pos = pos
        self.end = len(data) if end < 0 else end
        self.max_field = max_field

    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.pos

    def int32(self) -> int:
        pos = self.pos
        if pos + 4 > self.end:
            raise MarshallingError("an int is cut short")
        self.pos = pos + 4
        value: int = _unpack_int(self.data, pos)[0]
        return value

    def int64(self) -> int:
        pos = self.pos
        if pos + 8 > self.end:
            raise MarshallingError("a long is cut short")
        self.pos = pos + 8
        value: int = _unpack_long(self.data, pos)[0]
        return value

    def boolean(self) -> bool:
        pos = self.pos
        if pos >= self.end:
            raise MarshallingError("a boolean is cut short")
        self.pos = pos + 1
        # DataInputStream.readBoolean: any byte but zero is true.
        return self.data[pos] != 0

    def buffer(self) -> bytes | None:
        length = self.int32()
        if length == -1:
            return None
        if length < 0 or length > self.max_field:
            raise MarshallingError(f"Unreasonable length = {length}")
        pos = self.pos
        if length > self.end - pos:
            raise MarshallingError("a buffer is cut short")
        self.pos = pos + length
        return self.data[pos : pos + length]

    def path(self) -> bytes:
        """A string field kept as its UTF-8 bytes; Java's null string is refused, as its use there ends in an error."""
        value = self.buffer()
        if value is None:
            raise MarshallingError("a path is null")
        return value

    def string(self) -> str | None:
        value = self.buffer()
        return None if value is None else decode_text(value)

    def text(self) -> str:
        """A string field in which null reads as empty."""
        return self.string() or ""

    def count(self) -> int:
        """The number of elements of a vector; -1 for null.

        Each element has at least one byte, so a count above the bytes left is a lie: refused before any list exists.
        """
        value = self.int32()
        if value > self.end - self.pos:
            raise MarshallingError(f"a vector of {value} elements cannot be in {self.end - self.pos} bytes")
        # BinaryIndex.done: a vector with fewer than no elements is empty.
        return 0 if value < -1 else value

    def length(self) -> int:
        """The number of elements of a vector that must not be null: Java answers its NullPointerException with -5."""
        value = self.count()
        if value < 0:
            raise MarshallingError("a vector is null")
        return value


def decode_text(value: bytes) -> str:
    """The text as Java's decoder reads it: U+FFFD for whatever is not UTF-8, and on it goes."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        # Both decoders put one U+FFFD for each longest beginning of a character, save that Java takes the bytes of
        # a surrogate half as one fault and Python each as its own (java.lang.String.decodeUTF8_UTF16, malformed3).
        return _SURROGATE.sub(_REPLACEMENT, value).decode("utf-8", "replace")


class Writer:
    """Collects fields in order; `getvalue` joins them."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def int32(self, value: int) -> None:
        self.parts.append(_pack_int(value))

    def int64(self, value: int) -> None:
        self.parts.append(_pack_long(value))

    def boolean(self, value: bool) -> None:
        self.parts.append(b"\x01" if value else b"\x00")

    def buffer(self, value: bytes | None) -> None:
        if value is None:
            self.parts.append(NULL_LENGTH)
        else:
            self.parts.append(_pack_int(len(value)))
            self.parts.append(value)

    def path(self, value: bytes) -> None:
        self.parts.append(_pack_int(len(value)))
        self.parts.append(value)

    def string(self, value: str | None) -> None:
        self.buffer(None if value is None else value.encode("utf-8", "surrogatepass"))

    def raw(self, value: bytes) -> None:
        """Bytes that are fields already."""
        self.parts.append(value)

    def getvalue(self) -> bytes:
        return b"".join(self.parts)


class FrameTooLong(MarshallingError):
    """A length below zero or above what is taken. `frames` were whole before it."""

    def __init__(self, length: int, frames: list[bytes]) -> None:
        super().__init__(f"Len error {length}")
        self.length = length
        self.frames = frames


class FrameBuffer:
    """Cuts a TCP stream into frames of `int length, payload`.

    Raises FrameTooLong on a length below zero or above `max_frame` bytes: the caller closes the connection.
    """

    __slots__ = ("_kept", "_kept_bytes", "_need_bytes", "max_frame")

    def __init__(self, max_frame: int = MAX_BUFFER_BYTES) -> None:
        self.max_frame = max_frame
        # The beginning of a frame that is not whole yet, in pieces: joined once, however small the pieces are.
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._need_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """All payloads that are whole now, in order; the rest is kept for the next call."""
        if self._kept:
            self._kept.append(data)
            self._kept_bytes += len(data)
            if self._kept_bytes < self._need_bytes:
                return []
            data = b"".join(self._kept)
            self._kept = []
        frames: list[bytes] = []
        pos = 0
        size = len(data)
        need = 4
        while size - pos >= 4:
            length: int = _unpack_int(data, pos)[0]
            if length < 0 or length > self.max_frame:
                raise FrameTooLong(length, frames)
            end = pos + 4 + length
            if end > size:
                need = 4 + length
                break
            frames.append(data[pos + 4 : end])
            pos = end
        if pos < size:
            self._kept = [data[pos:]]
            self._kept_bytes = size - pos
            self._need_bytes = need
        return frames


def frame(payload: bytes) -> bytes:
    """The payload with its length in front."""
    return _pack_int(len(payload)) + payload
