"""The bytes of transaction logs, snapshots and epoch files, which nobody else knows; the tree writes its znodes. Pure.

Log file `log.<hex zxid of its first entry>` (FileTxnLog, FilePadding):

| part | bytes |
|---|---|
| header | int "ZKLG", int version 2, long dbid 0: 16 bytes |
| entry | long Adler32 of the payload alone, int length, payload, byte 0x42 |
| payload | TxnHeader (32 bytes, the zxid at 12), record, TxnDigest: see wire/txns.py |
| padding | zeros up to 16 + k x preAllocSize; a length of 0 ends the log |

Snapshot `snapshot.<hex zxid>[.gz|.snappy]` (FileSnap, SnapStream, SerializeUtils, DataTree), before compression:

| part | bytes |
|---|---|
| header | int "ZKSN", int version 2, long dbid -1: 16 bytes |
| sessions | int count, then long id, int timeout ms |
| ACL table | int count, then long id, vector of ACL; the id -1, open to all, is never listed |
| znodes | string path (the root is ""), buffer data, long ACL id, StatPersisted (60 bytes); parents first |
| end of znodes | string "/" |
| seal | long Adler32 of all bytes so far, string "/" |
| digest (3.6+) | long zxid, int version 2, long digest; then a seal over everything so far |
| last zxid (3.9+) | long; then a seal over everything so far |

Snappy is the stream of snappy-java, not the framing format: 0x82 "SNAPPY" 0x00, int 1, int 1, then int length and one
raw block each. `acceptedEpoch` and `currentEpoch` hold a decimal number, without a line end.

Invariant: nothing is used before a checksum over it was compared, except the head and the znodes of a snapshot, whose
seal stands behind them; who reads one builds aside and throws away what was built when the seal is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from struct import error as struct_error
from typing import Final, TypeAlias
from zlib import adler32

from coati.errors import MarshallingError, ZKError
from coati.wire.jute import Reader, Writer
from coati.wire.records import ACL

# path, data, id of the ACL, then StatPersisted as it stands in the file, in three pieces: czxid and mzxid; ctime,
# mtime, version, cversion, aversion and ephemeralOwner; pzxid. What a client or a digest gets of it are the same bytes.
ZnodeTuple: TypeAlias = tuple[bytes, bytes | None, int, bytes, bytes, bytes]
# A ZnodeTuple for the decoder: with the full type, mypyc would take each tuple apart and put it together again.
BoxedZnode: TypeAlias = tuple[object, ...]

HEADER_BYTES: Final = 16
LOG_MAGIC: Final = 0x5A4B4C47
SNAPSHOT_MAGIC: Final = 0x5A4B534E
FILE_VERSION: Final = 2
LOG_DBID: Final = 0
SNAPSHOT_DBID: Final = -1

ENTRY_HEAD_BYTES: Final = 12
END_OF_ENTRY: Final = b"B"
_END_OF_ENTRY: Final = 0x42
# Adler32 and length before the payload, 0x42 behind it.
ENTRY_FRAME_BYTES: Final = 13
TXN_HEADER_BYTES: Final = 32
_ZXID_OFFSET: Final = 12
# FilePadding grows a file when less than this is left of it.
PADDING_MARGIN_BYTES: Final = 4096

OPEN_ACL_ID: Final = -1
DIGEST_VERSION: Final = 2
END_OF_ZNODES: Final = b"\x00\x00\x00\x01/"
SEAL_BYTES: Final = 13
DIGEST_BYTES: Final = 20
LAST_ZXID_BYTES: Final = 8
_ZNODE_TAIL_BYTES: Final = 68
SESSION_BYTES: Final = 12
# Permissions and the lengths of two strings.
_MIN_ACL_ENTRY_BYTES: Final = 12

SNAPPY_HEADER: Final = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
# SnappyOutputStream.DEFAULT_BLOCK_SIZE.
SNAPPY_BLOCK_BYTES: Final = 32 * 1024

COMPRESSIONS: Final = ("", "gz", "snappy")
_MAX_ZXID: Final = (1 << 63) - 1
_MAX_EPOCH: Final = (1 << 31) - 1
_MASK64: Final = (1 << 64) - 1

_FILE_HEADER: Final = Struct(">iiq")
_ENTRY_HEAD: Final = Struct(">qi")
_pack_entry_head: Final = _ENTRY_HEAD.pack
_INT: Final = Struct(">i")
_LONG: Final = Struct(">q")
_SESSION: Final = Struct(">qi")
_SEAL: Final = Struct(">qi1s")
_DIGEST: Final = Struct(">qiq")
_ZNODE_TAIL: Final = Struct(">q16s36s8s")

_unpack_int: Final = _INT.unpack_from
_unpack_long: Final = _LONG.unpack_from
_unpack_entry_head: Final = _ENTRY_HEAD.unpack_from
_unpack_znode_tail: Final[Callable[[bytes, int], tuple[object, ...]]] = _ZNODE_TAIL.unpack_from
_pack_int: Final = _INT.pack


class Damage(ZKError):
    """Bytes that cannot be what they should be. `offset` counts from the start of what was given to the function."""

    def __init__(self, offset: int, reason: str) -> None:
        self.offset = offset
        self.reason = reason
        super().__init__(f"at byte {offset}: {reason}")


class ZxidDigest:
    """The second trailer of a snapshot: `digest` (unsigned) is that of the tree after `zxid`."""

    __slots__ = ("digest", "version", "zxid")

    def __init__(self, zxid: int, version: int, digest: int) -> None:
        self.zxid = zxid
        self.version = version
        self.digest = digest

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ZxidDigest)
            and self.zxid == other.zxid
            and self.version == other.version
            and self.digest == other.digest
        )

    def __hash__(self) -> int:
        return hash((self.zxid, self.version, self.digest))

    def __repr__(self) -> str:
        return f"ZxidDigest(zxid={self.zxid:#x}, version={self.version}, digest={self.digest})"


# Names


def log_name(zxid: int) -> str:
    """The name of the log whose first entry has this zxid."""
    return f"log.{zxid:x}"


def snapshot_name(zxid: int, compression: str) -> str:
    """The name of the snapshot at this zxid."""
    return f"snapshot.{zxid:x}" + ("." + compression if compression else "")


def parse_log_name(name: str) -> int:
    """The zxid of a log's name, or -1 if it is none. Only the form that `log_name` writes counts."""
    prefix, _, digits = name.partition(".")
    return _parse_hex(digits) if prefix == "log" else -1


def parse_snapshot_name(name: str) -> tuple[int, str]:
    """Zxid and compression of a snapshot's name, or (-1, "") if it is none."""
    prefix, _, rest = name.partition(".")
    digits, dot, compression = rest.partition(".")
    zxid = _parse_hex(digits)
    if prefix != "snapshot" or zxid < 0 or (dot and compression not in ("gz", "snappy")):
        return -1, ""
    return zxid, compression


def _parse_hex(digits: str) -> int:
    try:
        value = int(digits, 16)
    except ValueError:
        return -1
    return value if 0 <= value <= _MAX_ZXID and f"{value:x}" == digits else -1


# Logs


def encode_log_header() -> bytes:
    """The first 16 bytes of a log."""
    return _FILE_HEADER.pack(LOG_MAGIC, FILE_VERSION, LOG_DBID)


def check_log_header(data: bytes) -> None:
    """Raises Damage unless these 16 bytes start a log. The dbid is not looked at, as in Java."""
    _check_header(data, LOG_MAGIC, "a transaction log")


def is_unwritten_header(data: bytes) -> bool:
    """Whether `data`, a whole file without the zeros at its end, is what a crash leaves of a log without entries.

    That is a header cut anywhere, or one whose rest is still zero though the file has its size already.
    """
    return len(data) < HEADER_BYTES and encode_log_header().startswith(data)


def encode_entry_head(payload: bytes) -> bytes:
    """What stands before a payload; `END_OF_ENTRY` stands behind it."""
    return _pack_entry_head(adler32(payload), len(payload))


def encode_entries(payloads: list[bytes]) -> bytes:
    """Whole entries, one behind the other."""
    parts: list[bytes] = []
    append = parts.append
    for payload in payloads:
        append(_pack_entry_head(adler32(payload), len(payload)))
        append(payload)
        append(END_OF_ENTRY)
    return b"".join(parts)


def padded_size(position: int, size: int, prealloc_bytes: int) -> int:
    """The size a log should have when it is written up to `position` (FilePadding.calculateFileSizeWithPadding)."""
    if prealloc_bytes <= 0 or position + PADDING_MARGIN_BYTES < size:
        return size
    if position > size:
        grown = position + prealloc_bytes
        return grown - grown % prealloc_bytes
    return size + prealloc_bytes


def decode_entries(data: bytes, pos: int, out: list[tuple[int, bytes]]) -> int:
    """Appends (zxid, payload) of each whole and sound entry from `pos` on, up to the first that is not.

    Returns where that one starts. `judge_tail` says what it is, once all that follows is there too.
    """
    append = out.append
    end = len(data)
    while pos + ENTRY_HEAD_BYTES <= end:
        checksum, length = _unpack_entry_head(data, pos)
        stop = pos + ENTRY_HEAD_BYTES + length
        if length < TXN_HEADER_BYTES or stop >= end or data[stop] != _END_OF_ENTRY:
            break
        payload = data[pos + ENTRY_HEAD_BYTES : stop]
        if adler32(payload) != checksum:
            break
        append((_unpack_long(payload, _ZXID_OFFSET)[0], payload))
        pos = stop + 1
    return pos


def entry_bytes(data: bytes, pos: int) -> int:
    """How many bytes the entry at `pos` says it has: at least the 13 around a payload, 13 also if it says nonsense."""
    if pos + ENTRY_HEAD_BYTES > len(data):
        return ENTRY_FRAME_BYTES
    length: int = _unpack_int(data, pos + 8)[0]
    return ENTRY_FRAME_BYTES + max(length, 0)


def judge_tail(data: bytes, max_payload_bytes: int) -> str:
    """What stands at the first entry that is not sound: "" for nothing or a torn entry, else what is damaged.

    `data` reaches from there to the end of the file, without the zeros at the end. A crash leaves a beginning of an
    entry and then zeros or the end of the file. Everything else is damage: Java's reader takes a bad length, a missing
    end marker or a zeroed entry for the end of the log and loses what follows.
    """
    size = len(data)
    if size <= ENTRY_HEAD_BYTES:
        return ""
    checksum, length = _unpack_entry_head(data, 0)
    stop = ENTRY_HEAD_BYTES + length
    if length == 0:
        return "an entry of length 0 has data behind it"
    if length < TXN_HEADER_BYTES or length > max_payload_bytes:
        return f"an entry cannot have a length of {length}"
    if stop < size:
        if data[stop] == _END_OF_ENTRY:
            return "the checksum of an entry is wrong"
        if data[stop] != 0:
            return f"the end marker of an entry is {data[stop]:#04x} instead of 0x42"
        return "an unfinished entry has data behind it"
    if _is_whole_otherwise(data, checksum):
        return f"an entry has a wrong length, {length}"
    if _find_entry(data, max_payload_bytes):
        return "an unfinished entry has sound ones behind it"
    return ""


def _is_whole_otherwise(data: bytes, checksum: int) -> bool:
    """Whether the checksum fits a payload that ends at any of the end markers in sight: then the length is wrong."""
    start = ENTRY_HEAD_BYTES
    running = 1
    while True:
        stop = data.find(END_OF_ENTRY, start)
        if stop < 0:
            return False
        running = adler32(data[start:stop], running)
        if running == checksum:
            return True
        running = adler32(END_OF_ENTRY, running)
        start = stop + 1


def _find_entry(data: bytes, max_payload_bytes: int) -> bool:
    """Whether a sound entry starts anywhere behind the head of the first."""
    size = len(data)
    for pos in range(ENTRY_HEAD_BYTES, size - ENTRY_FRAME_BYTES - TXN_HEADER_BYTES + 1):
        checksum, length = _unpack_entry_head(data, pos)
        if length < TXN_HEADER_BYTES or length > max_payload_bytes:
            continue
        start = pos + ENTRY_HEAD_BYTES
        stop = start + length
        if stop < size and data[stop] == _END_OF_ENTRY and adler32(data[start:stop]) == checksum:
            return True
    return False


# Snapshots


def check_snapshot_header(data: bytes) -> None:
    """Raises Damage unless these 16 bytes start a snapshot."""
    _check_header(data, SNAPSHOT_MAGIC, "a snapshot")


def _check_header(data: bytes, magic: int, what: str) -> None:
    if len(data) < HEADER_BYTES:
        raise Damage(0, f"{len(data)} bytes are too short for the header of {what}")
    found, version, _ = _FILE_HEADER.unpack_from(data, 0)
    if found != magic:
        raise Damage(0, f"the magic number {found & 0xFFFFFFFF:#010x} is not that of {what}")
    if version != FILE_VERSION:
        raise Damage(4, f"version {version} of {what} is not known, only {FILE_VERSION}")


def encode_snapshot_head(sessions: Mapping[int, int], acls: Mapping[int, Sequence[ACL]]) -> bytes:
    """Header, sessions (id -> timeout in ms) and the ACL table (id -> entries)."""
    return encode_snapshot_header() + encode_tables(sessions, acls)


def encode_snapshot_header() -> bytes:
    """The first 16 bytes of a snapshot."""
    return _FILE_HEADER.pack(SNAPSHOT_MAGIC, FILE_VERSION, SNAPSHOT_DBID)


def encode_tables(sessions: Mapping[int, int], acls: Mapping[int, Sequence[ACL]]) -> bytes:
    """Sessions and ACLs: what a snapshot on its way to a learner begins with."""
    w = Writer()
    w.int32(len(sessions))
    for session_id, timeout_ms in sessions.items():
        w.raw(_SESSION.pack(session_id, timeout_ms))
    w.int32(len(acls))
    for acl_id, entries in acls.items():
        assert acl_id != OPEN_ACL_ID
        w.int64(acl_id)
        w.int32(len(entries))
        for entry in entries:
            entry.write(w)
    return w.getvalue()


def decode_count(data: bytes, pos: int) -> int:
    """The number of sessions or ACLs at `pos`. Raises Damage if it is negative."""
    count: int = _unpack_int(data, pos)[0]
    if count < 0:
        raise Damage(pos, f"a count of {count}")
    return count


def decode_sessions(data: bytes, pos: int, count: int, out: dict[int, int]) -> None:
    """Puts `count` sessions, all of them in `data`, into `out`. Raises Damage on a session listed twice."""
    for index in range(count):
        at = pos + index * SESSION_BYTES
        session_id, timeout_ms = _SESSION.unpack_from(data, at)
        if session_id in out or timeout_ms < 0:
            raise Damage(at, f"session {session_id & _MASK64:#x} is listed twice or has a timeout of {timeout_ms} ms")
        out[session_id] = timeout_ms


def decode_acl(data: bytes, pos: int, out: dict[int, list[ACL]]) -> int:
    """Puts the ACL at `pos` into `out` and returns where the next one starts; -1 if it is not whole yet.

    Raises Damage on a null vector (ReferenceCountedACLCache.deserialize throws, too) or an id listed twice.
    """
    r = Reader(data, pos)
    try:
        acl_id = r.int64()
        count = r.int32()
        if count < 0:
            raise Damage(pos, f"ACL {acl_id} has {count} entries")
        if count * _MIN_ACL_ENTRY_BYTES > r.left():
            return -1
        entries = [ACL.read(r) for _ in range(count)]
    except MarshallingError:
        return -1
    if acl_id in out or acl_id == OPEN_ACL_ID:
        raise Damage(pos, f"ACL {acl_id} is listed twice")
    out[acl_id] = entries
    return r.pos


def decode_znodes(data: bytes, pos: int, out: list[BoxedZnode], max_field_bytes: int) -> int:
    """Appends each whole znode from `pos` on, a ZnodeTuple, and returns where the first stands that is not whole, or
    the end mark.

    Raises Damage on a length that cannot be. The ACL ids, and whether parents come first, are for the caller to check.
    """
    append = out.append
    try:
        while True:
            size = _unpack_int(data, pos)[0]
            start = pos + 4
            stop = start + size
            if size > 1:
                path = data[start:stop]
            elif size == 0:
                path = b"/"
            elif size == 1:
                return pos
            else:
                break
            size = _unpack_int(data, stop)[0]
            start = stop + 4
            if size >= 0:
                stop = start + size
                append((path, data[start:stop]) + _unpack_znode_tail(data, stop))  # noqa: RUF005  # no list in between
            elif size == -1:
                stop = start
                append((path, None) + _unpack_znode_tail(data, stop))  # noqa: RUF005  # no list in between
            else:
                break
            pos = stop + _ZNODE_TAIL_BYTES
    except struct_error:
        _check_lengths(data, pos, max_field_bytes)
        return pos
    raise Damage(pos, f"a znode has a field of length {size}")


def znode_bytes(data: bytes, pos: int) -> int:
    """How many bytes the znode at `pos` has at least, as far as its lengths are here and say."""
    size = 4
    for _ in range(2):
        if pos + size > len(data):
            return size
        length: int = _unpack_int(data, pos + size - 4)[0]
        size += max(length, 0) + 4
    return size - 4 + _ZNODE_TAIL_BYTES


def acl_entry_bytes(data: bytes, pos: int, max_field_bytes: int) -> int:
    """How many bytes the entry of an ACL at `pos` has at least, as far as its lengths are here and say.

    Raises Damage on a length that cannot be.
    """
    size = 8
    for _ in range(2):
        if pos + size > len(data):
            return size
        length: int = _unpack_int(data, pos + size - 4)[0]
        if length < -1 or length > max_field_bytes:
            raise Damage(pos, f"Unreasonable length = {length}")
        size += max(length, 0) + 4
    return size - 4


def _check_lengths(data: bytes, pos: int, max_field_bytes: int) -> None:
    """Raises Damage if the znode at `pos`, of which only a part is here, says that it is longer than allowed."""
    for _ in range(2):
        if pos + 4 > len(data):
            return
        size: int = _unpack_int(data, pos)[0]
        if size > max_field_bytes:
            raise Damage(pos, f"Unreasonable length = {size}")
        pos += 4 + max(size, 0)


def encode_seal(checksum: int) -> bytes:
    """The seal over everything before it, whose Adler32 is `checksum`."""
    return _SEAL.pack(checksum, 1, b"/")


def check_seal(data: bytes, pos: int, checksum: int) -> None:
    """Raises Damage unless the seal at `pos` is there and has this checksum."""
    if data[pos : pos + SEAL_BYTES] != encode_seal(checksum):
        raise Damage(pos, "the checksum is wrong")


def encode_digest(value: ZxidDigest) -> bytes:
    """The digest trailer, without its seal."""
    digest = value.digest
    return _DIGEST.pack(value.zxid, value.version, digest - (1 << 64) if digest >> 63 else digest)


def encode_last_zxid(zxid: int) -> bytes:
    """The trailer of 3.9, without its seal."""
    return _LONG.pack(zxid)


def decode_trailers(data: bytes, checksum: int) -> tuple[ZxidDigest | None, int | None]:
    """What stands behind the first seal, to the end of the file: digest and last zxid, each only if it was written.

    `checksum` is the Adler32 of everything before `data`. Raises Damage on a wrong seal or on bytes left over.
    """
    digest: ZxidDigest | None = None
    last_zxid: int | None = None
    size = len(data)
    pos = 0
    if size >= DIGEST_BYTES + SEAL_BYTES:
        zxid, version, value = _DIGEST.unpack_from(data, 0)
        checksum = adler32(data[:DIGEST_BYTES], checksum)
        check_seal(data, DIGEST_BYTES, checksum)
        pos = DIGEST_BYTES + SEAL_BYTES
        checksum = adler32(data[DIGEST_BYTES:pos], checksum)
        digest = ZxidDigest(zxid, version, value & _MASK64)
    if size - pos >= LAST_ZXID_BYTES + SEAL_BYTES:
        checksum = adler32(data[pos : pos + LAST_ZXID_BYTES], checksum)
        check_seal(data, pos + LAST_ZXID_BYTES, checksum)
        last_zxid = _unpack_long(data, pos)[0]
        pos += LAST_ZXID_BYTES + SEAL_BYTES
    if pos != size:
        raise Damage(pos, f"{size - pos} bytes too many")
    return digest, last_zxid


# Epoch files


def encode_epoch(epoch: int) -> bytes:
    """The content of an epoch file (QuorumPeer.writeLongToFile)."""
    return str(epoch).encode("ascii")


def decode_epoch(data: bytes) -> int:
    """The epoch in a file: its first line, as QuorumPeer.readLongFromFile. Raises Damage unless it is 0 .. 2^31-1."""
    line, _, _ = data.partition(b"\n")
    line = line.removesuffix(b"\r")
    # More digits than a long has are not converted at all.
    if not line.isdigit() or len(line) > 19 or int(line) > _MAX_EPOCH:
        raise Damage(0, f"{line[:40]!r} is no epoch")
    return int(line)
