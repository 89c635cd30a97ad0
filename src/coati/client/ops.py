"""The operations of `multi` and `multi_read`: what each sends, and what of a reply is its result.

Pure. Paths are absolute bytes once a view has added its chroot (`rooted`). Source: MultiOperationRecord, MultiResponse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from coati.client.types import ACL, ANY, OPEN, ACLs, Mode, Node, Perm, Stat
from coati.errors import KeeperError, MarshallingError, ZKError, keeper_error
from coati.wire import codes
from coati.wire.jute import Reader, Writer
from coati.wire.records import ACL as WireACL
from coati.wire.records import Id

STAT: Final = Struct(">qqqqiiiqiiq")
STAT_BYTES: Final = STAT.size
_unpack_stat: Final = STAT.unpack_from


@dataclass(frozen=True, slots=True)
class Create:
    """Makes a znode; its result is a Node. `ttl` in seconds; `acl` None is the client's default."""

    path: str
    data: bytes = b""
    mode: Mode = Mode.PERSISTENT
    ttl: float | None = None
    acl: ACLs | None = None


@dataclass(frozen=True, slots=True)
class Set:
    """Sets the data; its result is the new Stat."""

    path: str
    data: bytes
    version: int = ANY


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes a znode; its result is None."""

    path: str
    version: int = ANY


@dataclass(frozen=True, slots=True)
class Check:
    """Refuses the whole multi unless the znode is there and has this version; its result is None."""

    path: str
    version: int = ANY


@dataclass(frozen=True, slots=True)
class Get:
    """Reads a znode; its result is a Node."""

    path: str


@dataclass(frozen=True, slots=True)
class Children:
    """Lists the names of the children; its result is a sorted list."""

    path: str


Op = Create | Set | Delete | Check
Read = Get | Children
OpResult = Node | Stat | None
ReadResult = Node | list[str] | ZKError


class MultiError(KeeperError):
    """A multi was refused, so nothing of it happened. `index` tells the operation that failed, `results` of each why.

    `results[index]` is the error that says what was wrong; operations that were not at fault have None.
    """

    def __init__(self, index: int, results: Sequence[ZKError | None]) -> None:
        fault = results[index]
        code = fault.code if isinstance(fault, KeeperError) else 0
        super().__init__(fault.path if fault is not None else "", code)
        self.index = index
        self.results = list(results)

    def what(self) -> str:
        return f"operation {self.index} of the multi failed: {self.results[self.index]}"

    def __reduce__(self) -> tuple[type[MultiError], tuple[int, Sequence[ZKError | None]], dict[str, object]]:  # type: ignore[override]  # built from other arguments than its base
        return type(self), (self.index, self.results), dict(vars(self))


def create_op(op: Create) -> int:
    """The opcode a create goes by (CreateMode decides)."""
    if op.ttl is not None:
        return codes.OP_CREATE_TTL
    return codes.OP_CREATE_CONTAINER if op.mode is Mode.CONTAINER else codes.OP_CREATE2


def create_body(path: bytes, op: Create, default_acl: ACLs) -> bytes:
    """CreateRequest or CreateTTLRequest. Raises ValueError for a ttl that no server takes."""
    acl = default_acl if op.acl is None else op.acl
    flags = int(op.mode)
    if op.ttl is None:
        return _pack_bytes(path) + _pack_bytes(op.data) + acl_bytes(acl) + _INT.pack(flags)
    if op.mode not in (Mode.PERSISTENT, Mode.SEQUENTIAL):
        raise ValueError(f"a {op.mode.name} znode cannot have a ttl; PERSISTENT and SEQUENTIAL can")
    ttl_ms = round(op.ttl * 1000)
    if not 0 < ttl_ms <= codes.TTL_MAX_MS:
        raise ValueError(f"a ttl of {op.ttl} s is not above 0 and at most {codes.TTL_MAX_MS / 1000} s")
    sequential = op.mode is Mode.SEQUENTIAL
    flags = codes.FLAG_PERSISTENT_SEQUENTIAL_WITH_TTL if sequential else codes.FLAG_PERSISTENT_WITH_TTL
    return _pack_bytes(path) + _pack_bytes(op.data) + acl_bytes(acl) + _INT.pack(flags) + _LONG.pack(ttl_ms)


_INT: Final = Struct(">i")
_LONG: Final = Struct(">q")
_OPEN_BYTES: Final = b"\0\0\0\1" + b"\0\0\0\x1f" + b"\0\0\0\5world" + b"\0\0\0\6anyone"


def _pack_bytes(value: bytes) -> bytes:
    return _INT.pack(len(value)) + value


def acl_bytes(acl: ACLs) -> bytes:
    """A vector of ACL records."""
    if acl is OPEN:
        return _OPEN_BYTES
    w = Writer()
    w.int32(len(acl))
    for line in acl:
        WireACL(int(line.perms), Id(line.scheme, line.id)).write(w)
    return w.getvalue()


def read_acl(r: Reader) -> tuple[ACL, ...]:
    """A vector of ACL records."""
    lines = [WireACL.read(r) for _ in range(max(r.count(), 0))]
    return tuple(ACL(Perm(line.perms), line.id.scheme or "", line.id.id or "") for line in lines)


def stat_at(payload: bytes, pos: int) -> Stat:
    """The Stat that begins here. Raises MarshallingError."""
    if pos + STAT_BYTES > len(payload):
        raise MarshallingError("a Stat is cut short")
    return Stat._make(_unpack_stat(payload, pos))


def read_stat(r: Reader) -> Stat:
    """The next Stat."""
    stat = stat_at(r.data, r.pos)
    r.pos += STAT_BYTES
    return stat


Root = Callable[[str], bytes]
"""A view's path as an absolute one, in bytes; raises BadArguments."""
Show = Callable[[bytes], str]
"""And back."""


def multi_body(ops: Iterable[Op], root: Root, default_acl: ACLs) -> bytes:
    """The records of a multi, with its end."""
    parts: list[bytes] = []
    for op in ops:
        path = root(op.path)
        if isinstance(op, Create):
            parts += (_header(create_op(op)), create_body(path, op, default_acl))
        elif isinstance(op, Set):
            parts += (_header(codes.OP_SET_DATA), _pack_bytes(path), _pack_bytes(op.data), _INT.pack(op.version))
        else:
            code = codes.OP_DELETE if isinstance(op, Delete) else codes.OP_CHECK
            parts += (_header(code), _pack_bytes(path), _INT.pack(op.version))
    parts.append(_END)
    return b"".join(parts)


def multi_read_body(ops: Iterable[Read], root: Root) -> bytes:
    """The records of a multiRead, with its end."""
    parts: list[bytes] = []
    for op in ops:
        code = codes.OP_GET_DATA if isinstance(op, Get) else codes.OP_GET_CHILDREN
        parts += (_header(code), _pack_bytes(root(op.path)), b"\0")
    parts.append(_END)
    return b"".join(parts)


_END: Final = Struct(">i?i").pack(-1, True, -1)


def reconfig_body(
    join: Sequence[str], leave: Sequence[int | str], members: Sequence[str] | None, from_version: int
) -> bytes:
    """ReconfigRequest: null stands for what is not asked for, unlike an empty list of members."""
    w = Writer()
    w.string(",".join(join) or None)
    w.string(",".join(map(str, leave)) or None)
    w.string(None if members is None else ",".join(members))
    w.int64(from_version)
    return w.getvalue()


def _header(op: int) -> bytes:
    return _INT.pack(op) + b"\0\xff\xff\xff\xff"


def multi_results(ops: Sequence[Op], r: Reader, show: Show) -> list[OpResult]:
    """One for each operation. Raises MultiError if it was refused, MarshallingError if it is no answer."""
    results: list[OpResult] = []
    errors: list[ZKError | None] = []
    for op in ops:
        type, _, _ = r.int32(), r.boolean(), r.int32()
        if type == codes.OP_ERROR:
            errors.append(_multi_error(r.int32(), op.path))
        elif isinstance(op, Create):
            path = show(r.path())
            stat = _NO_STAT if type == codes.OP_CREATE else read_stat(r)
            results.append(Node(path, op.data, stat))
        else:
            results.append(read_stat(r) if isinstance(op, Set) else None)
    if errors:
        raise MultiError(_index_of_fault(errors), errors)
    return results


_NO_STAT: Final = Stat(*[0] * 11)


def _multi_error(code: int, path: str) -> ZKError | None:
    # 0 stands before the one that failed, RUNTIME_INCONSISTENCY behind it (PrepRequestProcessor).
    return None if code == 0 else keeper_error(code, path)


def _index_of_fault(errors: Sequence[ZKError | None]) -> int:
    for index, error in enumerate(errors):
        if isinstance(error, KeeperError) and error.code != -2:
            return index
    # All the same, as a server that refuses the session does.
    for index, error in enumerate(errors):
        if error is not None:
            return index
    raise MarshallingError("a multi failed, and no operation of it")


def multi_read_results(ops: Sequence[Read], r: Reader) -> list[ReadResult]:
    """One for each operation, an error where it failed. Raises MarshallingError."""
    results: list[ReadResult] = []
    for op in ops:
        type, _, _ = r.int32(), r.boolean(), r.int32()
        if type == codes.OP_ERROR:
            results.append(keeper_error(r.int32(), op.path))
        elif isinstance(op, Get):
            data = r.buffer() or b""
            results.append(Node(op.path, data, read_stat(r)))
        else:
            results.append(read_names(r))
    return results


def read_names(r: Reader) -> list[str]:
    """A vector of names, sorted: servers promise no order."""
    return sorted(r.path().decode("utf-8", "replace") for _ in range(max(r.count(), 0)))
