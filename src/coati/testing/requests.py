"""What clients ask, read from its bytes for the checkers, and who may do what.

Knows the records of requests. Must not know trees or servers, and has none of the server's own code but its records.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Final

from coati.errors import MarshallingError
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import (
    ACL,
    AuthPacket,
    CheckVersionRequest,
    CreateRequest,
    CreateTTLRequest,
    DeleteRequest,
    Id,
    MultiHeader,
    SetACLRequest,
    SetDataRequest,
)

WRITES: Final = (
    codes.OP_CREATE,
    codes.OP_CREATE2,
    codes.OP_CREATE_CONTAINER,
    codes.OP_CREATE_TTL,
    codes.OP_DELETE,
    codes.OP_SET_DATA,
    codes.OP_SET_ACL,
    codes.OP_CHECK,
    codes.OP_MULTI,
    codes.OP_CLOSE_SESSION,
    codes.OP_RECONFIG,
)
_ANYONE: Final = Id("world", "anyone")


class Write:
    """A write, or part `index` of a multi; fields that its kind does not have are as they are by default."""

    __slots__ = ("acl", "data", "flags", "index", "op", "parts", "path", "ttl", "version")

    def __init__(self, op: int, path: bytes = b"", version: int = -1) -> None:
        self.op = op
        self.path = path
        self.version = version
        self.data: bytes | None = None
        self.acl: list[ACL] | None = None
        self.flags = 0
        self.ttl = -1
        self.index = 0
        self.parts: list[Write] = []

    def __repr__(self) -> str:
        name = codes.OP_NAMES.get(self.op, str(self.op))
        if self.parts:
            return f"{name}{self.parts}"
        flags = f", flags {self.flags}" if self.flags else ""
        version = f", version {self.version}" if self.version != -1 else ""
        data = f", {self.data[:40]!r}" if self.data else ""
        return f"{name}({self.path.decode(errors='replace')}{data}{flags}{version})"


def parent_path(path: bytes) -> bytes:
    """Where the znode stands."""
    return path[: path.rindex(b"/")] or b"/"


def read_write(op: int, body: bytes) -> Write | None:
    """The write that a request asks for; None if it cannot be read."""
    try:
        r = Reader(body)
        return _read_multi(r) if op == codes.OP_MULTI else _read_one(op, r)
    except MarshallingError:
        return None


def _read_multi(r: Reader) -> Write:
    write = Write(codes.OP_MULTI)
    header = MultiHeader.read(r)
    while not header.done:
        part = _read_one(header.type, r)
        part.index = len(write.parts)
        write.parts.append(part)
        header = MultiHeader.read(r)
    return write


def _read_one(op: int, r: Reader) -> Write:
    if op in (codes.OP_CREATE, codes.OP_CREATE2, codes.OP_CREATE_CONTAINER, codes.OP_CREATE_TTL):
        record = CreateTTLRequest.read(r) if op == codes.OP_CREATE_TTL else CreateRequest.read(r)
        write = Write(op, record.path)
        write.data, write.acl, write.flags = record.data, record.acl, record.flags
        if isinstance(record, CreateTTLRequest):
            write.ttl = record.ttl
        return write
    if op == codes.OP_SET_DATA:
        set_data = SetDataRequest.read(r)
        write = Write(op, set_data.path, set_data.version)
        write.data = set_data.data
        return write
    if op == codes.OP_SET_ACL:
        set_acl = SetACLRequest.read(r)
        write = Write(op, set_acl.path, set_acl.version)
        write.acl = set_acl.acl
        return write
    if op == codes.OP_DELETE:
        delete = DeleteRequest.read(r)
        return Write(op, delete.path, delete.version)
    if op == codes.OP_CHECK:
        check = CheckVersionRequest.read(r)
        return Write(op, check.path, check.version)
    if op == codes.OP_CLOSE_SESSION:
        return Write(op)
    raise MarshallingError(f"op {op} is no write")


def is_open(acl: Sequence[ACL] | None) -> bool:
    """Whether it names the world only, so that no server changes it."""
    return acl is not None and all(entry.id.scheme == "world" for entry in acl)


def may(acl: Sequence[ACL], perm: int, ids: Sequence[Id]) -> bool | None:
    """Whether somebody has a permission; None if that depends on what only the server knows."""
    schemes = [entry.id.scheme for entry in acl if entry.perms & perm and entry.id not in (*ids, _ANYONE)]
    if len(schemes) < len([entry for entry in acl if entry.perms & perm]):
        return True
    if "super" in [one.scheme for one in ids] or any(scheme not in ("world", "digest") for scheme in schemes):
        return None
    return False


def read_auth(body: bytes) -> list[Id]:
    """Who an addAuth says the client is, for the one scheme that needs no server (DigestAuthenticationProvider)."""
    packet = AuthPacket.read(Reader(body))
    if packet.scheme != "digest" or packet.auth is None:
        return []
    user = packet.auth.partition(b":")[0].decode(errors="replace")
    digest = base64.b64encode(hashlib.sha1(packet.auth).digest()).decode()
    return [Id("digest", f"{user}:{digest}")]
