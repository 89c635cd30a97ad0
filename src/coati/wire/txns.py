"""Txns: what a prepared request became, as it stands in the log and travels in proposals.

A payload is TxnHeader, the record of its type, and from 3.6 on a TxnDigest (an error txn carries none). Knows the
types and their records; must not know the tree. Sources: SerializeUtils.deserializeTxn, FileTxnLog.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias

from coati.errors import MarshallingError
from coati.wire import codes
from coati.wire.jute import Reader, Writer
from coati.wire.records import (
    ACL,
    CheckVersionTxn,
    CloseSessionTxn,
    CreateContainerTxn,
    CreateSessionTxn,
    CreateTTLTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetACLTxn,
    SetDataTxn,
    Txn,
    TxnHeader,
)

__all__ = [
    "AnyTxn",
    "CheckVersionTxn",
    "CloseSessionTxn",
    "CreateContainerTxn",
    "CreateSessionTxn",
    "CreateTTLTxn",
    "CreateTxn",
    "DeleteTxn",
    "ErrorTxn",
    "MultiTxn",
    "SetACLTxn",
    "SetDataTxn",
    "Txn",
    "TxnHeader",
    "TxnRecord",
    "decode_txn",
    "encode_record",
    "encode_txn",
    "is_readable",
    "read_record",
]

AnyTxn: TypeAlias = (
    CreateTxn
    | CreateContainerTxn
    | CreateTTLTxn
    | DeleteTxn
    | SetDataTxn
    | SetACLTxn
    | CheckVersionTxn
    | CreateSessionTxn
    | CloseSessionTxn
    | ErrorTxn
    | MultiTxn
)

# DigestCalculator.DIGEST_VERSION.
DIGEST_VERSION: Final = 2
_HEADER: Final = Struct(">qiqqi")
_DIGEST: Final = Struct(">iq")
HEADER_BYTES: Final = 32
# The type in the header, and the length of the path behind it.
_unpack_type: Final = Struct(">ii").unpack_from
_unpack_int: Final = Struct(">i").unpack_from
_TYPE_AT: Final = 28
# Anybody may do anything: what nearly all znodes are created with; then a flag and the parent's counter.
_OPEN_ACL: Final = b"\0\0\0\1\0\0\0\x1f\0\0\0\5world\0\0\0\6anyone"
_CREATE_END_BYTES: Final = len(_OPEN_ACL) + 5
# A logged txn is as long as the longest request plus what preparing adds; what was written must be readable
# (ZOOKEEPER-3496), so reading a txn bounds its fields only by the bytes that are there.
_NO_LIMIT: Final = 0x7FFFFFFF
_MASK64: Final = (1 << 64) - 1


class TxnRecord:
    """One entry of the log, decoded. `digest` is the tree's after it (unsigned), or None where none was written."""

    __slots__ = ("digest", "header", "payload", "txn")

    def __init__(self, header: TxnHeader, txn: AnyTxn, digest: int | None, payload: bytes) -> None:
        self.header = header
        self.txn = txn
        self.digest = digest
        self.payload = payload


def read_record(type_: int, r: Reader) -> AnyTxn:
    """The record of a part of a multi (DataTree.processTxn). Raises MarshallingError on another type or bad bytes."""
    if type_ == codes.OP_SET_DATA:
        return SetDataTxn.read(r)
    if type_ == codes.OP_CREATE or type_ == codes.OP_CREATE2:
        return CreateTxn.read(r)
    if type_ == codes.OP_DELETE or type_ == codes.OP_DELETE_CONTAINER:
        return DeleteTxn.read(r)
    if type_ == codes.OP_CHECK:
        return CheckVersionTxn.read(r)
    if type_ == codes.OP_ERROR:
        return ErrorTxn.read(r)
    if type_ == codes.OP_CREATE_TTL:
        return CreateTTLTxn.read(r)
    if type_ == codes.OP_CREATE_CONTAINER:
        return CreateContainerTxn.read(r)
    raise MarshallingError(f"Invalid type of op: {type_}")


def _read_logged(type_: int, r: Reader) -> AnyTxn:
    """The record behind a header (SerializeUtils.deserializeTxn): all but check, and what is never part of a multi."""
    if type_ == codes.OP_CREATE:
        return _read_create(r)
    if type_ == codes.OP_MULTI:
        return MultiTxn.read(r)
    if type_ == codes.OP_CREATE_SESSION:
        return CreateSessionTxn.read(r)
    if type_ == codes.OP_CLOSE_SESSION:
        return CloseSessionTxn.read(r) if _has_close_body(r) else CloseSessionTxn([])
    if type_ == codes.OP_SET_ACL:
        return SetACLTxn.read(r)
    if type_ == codes.OP_RECONFIG:
        return SetDataTxn.read(r)
    if type_ == codes.OP_CHECK:
        raise MarshallingError(f"Unsupported Txn with type={type_}")
    return read_record(type_, r)


def _read_create(r: Reader) -> CreateTxn:
    start = r.pos
    try:
        return CreateTxn.read(r)
    except MarshallingError:
        # CreateTxnV0 of 3.3 and older has no parentCVersion; -1 makes the tree count the create itself.
        r.pos = start
        path, data = r.path(), r.buffer()
        count = r.count()
        acl = None if count < 0 else [ACL.read(r) for _ in range(count)]
        return CreateTxn(path, data, acl, r.boolean(), -1)


def _has_close_body(r: Reader) -> bool:
    # Before 3.6, and with closeSessionTxn.enabled=false, a closeSession has no body: behind its header comes the digest
    # or nothing. As a body, a digest would be two paths of impossible lengths, unless it is 0, which none ever is.
    left = r.left()
    if left != _DIGEST.size:
        return left != 0
    version, digest = _DIGEST.unpack_from(r.data, r.pos)
    return not (version == DIGEST_VERSION and digest)


def decode_txn(payload: bytes) -> TxnRecord:
    """Header, record and digest of a payload. Raises MarshallingError."""
    if len(payload) < HEADER_BYTES:
        raise MarshallingError(f"a txn of {len(payload)} bytes has no header")
    client_id, cxid, zxid, time, type_ = _HEADER.unpack_from(payload, 0)
    r = Reader(payload, HEADER_BYTES, len(payload), _NO_LIMIT)
    txn = _read_logged(type_, r)
    digest: int | None = None
    if r.left() >= _DIGEST.size:
        version, value = _DIGEST.unpack_from(payload, r.pos)
        if version == DIGEST_VERSION:
            digest = value & _MASK64
    return TxnRecord(TxnHeader(client_id, cxid, zxid, time, type_), txn, digest, payload)


def is_readable(payload: bytes) -> bool:
    """Whether it can be replayed from a log: by arithmetic for what nearly all txns are, else by reading all of it."""
    if _is_plain(payload):
        return True
    try:
        txn = decode_txn(payload).txn
        if isinstance(txn, MultiTxn):
            for part in txn.txns or []:
                data = part.data or b""
                read_record(part.type, Reader(data, 0, len(data), _NO_LIMIT))
    except MarshallingError:
        return False
    return True


def _is_plain(payload: bytes) -> bool:
    """A whole setData, or a create with an open ACL, both with data."""
    size = len(payload)
    if size < HEADER_BYTES + 8:
        return False
    type_, path_bytes = _unpack_type(payload, _TYPE_AT)
    data_at: int = HEADER_BYTES + 4 + path_bytes
    if path_bytes < 0 or data_at + 4 > size:
        return False
    data_bytes: int = _unpack_int(payload, data_at)[0]
    end = data_at + 4 + data_bytes
    if data_bytes < 0:
        return False
    if type_ == codes.OP_SET_DATA:
        return end + 4 <= size
    is_create: bool = type_ == codes.OP_CREATE or type_ == codes.OP_CREATE2
    return is_create and end + _CREATE_END_BYTES <= size and payload.startswith(_OPEN_ACL, end)


def encode_record(txn: AnyTxn) -> bytes:
    """The record alone, as it stands in a multi."""
    w = Writer()
    txn.write(w)
    return w.getvalue()


def encode_txn(header: TxnHeader, txn: AnyTxn, digest: int | None) -> bytes:
    """The payload for the log; `digest` is the tree's after the txn (unsigned), or None for no digest."""
    body = encode_record(txn)
    head = _HEADER.pack(header.client_id, header.cxid, header.zxid, header.time, header.type)
    if digest is None:
        return head + body
    return head + body + encode_digest(digest)


def encode_digest(digest: int) -> bytes:
    """The TxnDigest at the end of a payload."""
    return _DIGEST.pack(DIGEST_VERSION, digest - (1 << 64) if digest >> 63 else digest)
