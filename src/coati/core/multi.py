"""The operations of a multi or multiRead, read from its bytes.

Knows the framing and which operations may stand in it. Must not know the tree.
Sources: MultiOperationRecord.deserialize, Op.create.
"""

from __future__ import annotations

from typing import Final

from coati.errors import MarshallingError
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import (
    ACL,
    CheckVersionRequest,
    CreateRequest,
    CreateTTLRequest,
    DeleteRequest,
    MultiHeader,
    SetDataRequest,
)

_CREATES: Final = (codes.OP_CREATE, codes.OP_CREATE2, codes.OP_CREATE_CONTAINER)
_TTL_FLAGS: Final = (codes.FLAG_PERSISTENT_WITH_TTL, codes.FLAG_PERSISTENT_SEQUENTIAL_WITH_TTL)
_READS: Final = (codes.OP_GET_DATA, codes.OP_GET_CHILDREN)


class MultiOp:
    """One operation; the fields its kind does not have are left as they are by default. Only a read may lack a path."""

    __slots__ = ("acl", "data", "flags", "has_path", "op", "path", "ttl", "version")

    def __init__(self, op: int, path: bytes) -> None:
        self.op = op
        self.path = path
        self.has_path = True
        self.data: bytes | None = None
        self.acl: list[ACL] | None = None
        self.flags = 0
        self.ttl = -1
        self.version = -1


def read_multi(r: Reader) -> list[MultiOp]:
    """The operations of a multi. Raises MarshallingError on one that may not stand in it, and on reads among writes.

    Reads alone it takes: both requests have the same record, and what does not belong in one of them is refused later.
    """
    ops: list[MultiOp] = []
    header = MultiHeader.read(r)
    while not header.done:
        if header.type in _READS:
            op = _read_read(header.type, r)
        else:
            op = _read_write(header.type, r)
        if ops and (op.op in _READS) != (ops[0].op in _READS):
            raise MarshallingError("reads and writes in one multi")
        ops.append(op)
        header = MultiHeader.read(r)
    return ops


def are_reads(ops: list[MultiOp]) -> bool:
    """Whether the operations, at least one, are reads."""
    return bool(ops) and ops[0].op in _READS


def _read_read(type_: int, r: Reader) -> MultiOp:
    """A getData or getChildren; the watch flag is read and not heeded, Op.getData has none."""
    path = r.buffer()
    r.boolean()
    op = MultiOp(type_, path or b"")
    op.has_path = path is not None
    return op


def _read_write(type_: int, r: Reader) -> MultiOp:
    if type_ in _CREATES:
        return _read_create(type_, r)
    if type_ == codes.OP_SET_DATA:
        set_data = SetDataRequest.read(r)
        op = MultiOp(type_, set_data.path)
        op.data = set_data.data
        op.version = set_data.version
        return op
    if type_ == codes.OP_DELETE:
        delete = DeleteRequest.read(r)
        op = MultiOp(type_, delete.path)
        op.version = delete.version
        return op
    if type_ == codes.OP_CHECK:
        check = CheckVersionRequest.read(r)
        op = MultiOp(type_, check.path)
        op.version = check.version
        return op
    if type_ == codes.OP_CREATE_TTL:
        create = CreateTTLRequest.read(r)
        # Without a TTL mode it is a plain create, and the TTL is dropped.
        has_ttl = create.flags in _TTL_FLAGS
        op = MultiOp(type_ if has_ttl else _type_by_flags(create.flags, codes.OP_CREATE), create.path)
        op.data = create.data
        op.acl = create.acl
        op.flags = create.flags
        op.ttl = create.ttl if has_ttl else -1
        return op
    raise MarshallingError(f"operation {type_} in a multi")


def _read_create(type_: int, r: Reader) -> MultiOp:
    create = CreateRequest.read(r)
    flags = create.flags
    if flags < 0 or flags > codes.FLAG_CONTAINER or create.acl is None:
        # No such mode, or a TTL one without a TTL, or no ACL at all: Java fails while reading.
        raise MarshallingError(f"flags {flags} in a multi")
    op = MultiOp(_type_by_flags(flags, type_), create.path)
    op.data = create.data
    op.acl = create.acl
    op.flags = flags
    return op


def _type_by_flags(flags: int, default: int) -> int:
    return codes.OP_CREATE_CONTAINER if flags == codes.FLAG_CONTAINER else default
