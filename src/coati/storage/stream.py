"""A snapshot as it travels from a leader: the body of the file, without header and seals, in pieces of any size.

    sessions, ACL table, znodes, end of znodes       as in the file, see format.py
    signature                                        string "BenWasHere"

Knows where the parts end, and what cannot be. Must not know sockets or a tree: znodes are plain tuples.
Invariants: work is linear in what came; no more than one field waits, whatever the other side says; nothing is
reserved for what is only announced. Sources: LearnerHandler.run, SerializeUtils.serializeSnapshot.
"""

from __future__ import annotations

from typing import Final, cast

from coati.storage import format
from coati.storage.format import Damage, ZnodeTuple
from coati.wire.jute import Reader
from coati.wire.records import ACL

# What a leader of any version writes behind the znodes.
SIGNATURE: Final = b"\x00\x00\x00\x0aBenWasHere"

_END_AND_SIGNATURE: Final = format.END_OF_ZNODES + SIGNATURE
# No znode has a path of one byte: it begins the end mark.
_PATH_OF_ONE: Final = format.END_OF_ZNODES[:4]
_ACL_HEAD_BYTES: Final = 12

# What comes next.
_SESSION_COUNT: Final = 0
_SESSIONS: Final = 1
_ACL_COUNT: Final = 2
_ACL: Final = 3
_ENTRIES: Final = 4
_ZNODES: Final = 5
_END: Final = 6
_NOTHING: Final = 7


class StreamReader:
    """Takes the stream apart. `sessions` (id -> timeout in ms) and `acls` (id -> entries) are whole at the first znode.

    `body` is what the last `feed` made use of, for the file: all of it together is the file's part between header and
    end mark. When `is_done`, `rest` is what came behind the signature. Offsets in errors count from the start of the
    stream.
    """

    __slots__ = (
        "_acl",
        "_entries",
        "_left",
        "_limit_bytes",
        "_max_field_bytes",
        "_need_bytes",
        "_offset",
        "_pieces",
        "_size",
        "_state",
        "_znodes",
        "acls",
        "body",
        "rest",
        "sessions",
    )

    def __init__(self, *, max_field_bytes: int, limit_bytes: int) -> None:
        self.sessions: dict[int, int] = {}
        self.acls: dict[int, list[ACL]] = {}
        self.body = b""
        self.rest = b""
        self._max_field_bytes = max_field_bytes
        self._limit_bytes = limit_bytes
        self._state = _SESSION_COUNT
        self._left = 0  # sessions or ACLs that are still to come
        self._acl: list[ACL] = []
        self._entries = 0  # the same for the entries of this ACL
        self._znodes: list[ZnodeTuple] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._need_bytes = 0
        self._offset = 0

    @property
    def is_done(self) -> bool:
        """The signature has been read."""
        return self._state == _NOTHING

    def feed(self, data: bytes) -> list[ZnodeTuple]:
        """The znodes that are whole now. Raises Damage; then the stream is of no use any more."""
        assert self._state != _NOTHING
        self._pieces.append(data)
        self._size += len(data)
        self.body = b""
        self._znodes = []
        if self._size < self._need_bytes:
            return self._znodes
        data = b"".join(self._pieces)
        pos = self._read_all(data)
        self._offset += pos
        if self._offset > self._limit_bytes:
            raise Damage(self._offset, f"it has more than {self._limit_bytes} bytes")
        rest = data[pos:]
        if self._state == _NOTHING:
            self.rest = rest
            rest = b""
        self._pieces = [rest]
        self._size = len(rest)
        return self._znodes

    def _read_all(self, data: bytes) -> int:
        """Reads until more is needed; returns where."""
        pos = 0
        self._need_bytes = 0
        try:
            while not self._need_bytes and self._state < _END:
                pos = self._read(data, pos)
            self.body = data[:pos]
            if self._state == _END:
                pos = self._read_end(data, pos)
        except Damage as damage:
            raise Damage(self._offset + damage.offset, damage.reason) from None
        return pos

    def _read(self, data: bytes, pos: int) -> int:
        state = self._state
        if state == _ZNODES:
            return self._read_znodes(data, pos)
        if state == _SESSIONS:
            return self._read_sessions(data, pos)
        if state == _ENTRIES:
            return self._read_entries(data, pos)
        if state == _ACL:
            return self._read_acl(data, pos)
        if len(data) - pos < 4:
            self._need_bytes = 4
            return pos
        self._left = format.decode_count(data, pos)
        self._state = _SESSIONS if state == _SESSION_COUNT else _ACL
        return pos + 4

    def _read_sessions(self, data: bytes, pos: int) -> int:
        count = min(self._left, (len(data) - pos) // format.SESSION_BYTES)
        format.decode_sessions(data, pos, count, self.sessions)
        self._left -= count
        if self._left:
            self._need_bytes = format.SESSION_BYTES
        else:
            self._state = _ACL_COUNT
        return pos + count * format.SESSION_BYTES

    def _read_acl(self, data: bytes, pos: int) -> int:
        if not self._left:
            self._state = _ZNODES
            return pos
        if len(data) - pos < _ACL_HEAD_BYTES:
            self._need_bytes = _ACL_HEAD_BYTES
            return pos
        r = Reader(data, pos)
        acl_id = r.int64()
        # A null vector is refused, as in ReferenceCountedACLCache.deserialize.
        self._entries = format.decode_count(data, r.pos)
        if acl_id in self.acls or acl_id == format.OPEN_ACL_ID:
            raise Damage(pos, f"ACL {acl_id} is listed twice")
        self._acl = []
        self.acls[acl_id] = self._acl
        self._left -= 1
        self._state = _ENTRIES
        return pos + _ACL_HEAD_BYTES

    def _read_entries(self, data: bytes, pos: int) -> int:
        while self._entries:
            size = format.acl_entry_bytes(data, pos, self._max_field_bytes)
            if size > len(data) - pos:
                self._need_bytes = size
                return pos
            self._acl.append(ACL.read(Reader(data, pos, pos + size, max_field=self._max_field_bytes)))
            self._entries -= 1
            pos += size
        self._state = _ACL
        return pos

    def _read_znodes(self, data: bytes, pos: int) -> int:
        boxed: list[format.BoxedZnode] = []
        stop = format.decode_znodes(data, pos, boxed, self._max_field_bytes)
        self._znodes = cast(list[ZnodeTuple], boxed)
        if data.startswith(_PATH_OF_ONE, stop):
            self._state = _END
        else:
            self._need_bytes = format.znode_bytes(data, stop)
        return stop

    def _read_end(self, data: bytes, pos: int) -> int:
        found = data[pos : pos + len(_END_AND_SIGNATURE)]
        if not _END_AND_SIGNATURE.startswith(found):
            raise Damage(pos, f"{found!r} instead of the end and the signature")
        if len(found) < len(_END_AND_SIGNATURE):
            self._need_bytes = len(found) + 1
            return pos
        self._state = _NOTHING
        return pos + len(_END_AND_SIGNATURE)
