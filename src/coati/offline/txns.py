"""Txns as people read them: each as the operations it is made of.

Knows the records of txns; must not know files or trees.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from coati.errors import OK, RUNTIME_INCONSISTENCY, keeper_error
from coati.offline.moments import zxid_text
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import ACL
from coati.wire.txns import (
    AnyTxn,
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
    TxnRecord,
    read_record,
)

_LETTERS: Final = (
    (codes.PERM_CREATE, "c"),
    (codes.PERM_DELETE, "d"),
    (codes.PERM_READ, "r"),
    (codes.PERM_WRITE, "w"),
    (codes.PERM_ADMIN, "a"),
)
# Why an ephemeral was deleted, why a change is none, and what an ephemeral is created as.
CLOSED: Final = "its session was closed"
REFUSED: Final = "refused with its multi"
EPHEMERAL: Final = "ephemeral"
_MASK40: Final = (1 << 40) - 1


class Step(NamedTuple):
    """One operation of a txn. `version` is what the znode's became (the ACL's, of a setACL), None where none is said;
    `detail` what else it says. `err`: it was refused, and changed nothing."""

    type: str
    path: bytes
    data: bytes | None = None
    version: int | None = None
    detail: str = ""
    err: int = OK

    @property
    def has_data(self) -> bool:
        """Creates and setData: data None is null data there."""
        return self.type in _WITH_DATA


_WITH_DATA: Final = frozenset(
    codes.OP_NAMES[op]
    for op in (
        *(codes.OP_CREATE, codes.OP_CREATE2, codes.OP_CREATE_CONTAINER, codes.OP_CREATE_TTL),
        *(codes.OP_SET_DATA, codes.OP_RECONFIG),
    )
)


def steps_of(record: TxnRecord) -> list[Step]:
    """The operations of a txn, in order: a multi's, a closing session's deletes, or the one that it is.

    Raises MarshallingError.
    """
    txn = record.txn
    if isinstance(txn, CloseSessionTxn):
        paths = txn.paths_to_delete
        return [Step(op_name(record.header.type), b""), *(Step("delete", path, detail=CLOSED) for path in paths)]
    if not isinstance(txn, MultiTxn):
        return [_step(record.header.type, txn)]
    steps: list[Step] = []
    for part in txn.txns or []:
        data = part.data or b""
        steps.append(_step(part.type, read_record(part.type, Reader(data, 0, len(data), len(data)))))
    if any(step.err for step in steps):
        # A multi is all or nothing.
        steps = [step if step.err else step._replace(err=RUNTIME_INCONSISTENCY, detail=REFUSED) for step in steps]
    return steps


def _step(type_: int, txn: AnyTxn) -> Step:
    name = op_name(type_)
    if isinstance(txn, CreateTxn):
        return Step(name, txn.path, txn.data, 0, _joined(EPHEMERAL if txn.ephemeral else "", txn.acl))
    if isinstance(txn, SetDataTxn):
        return Step(name, txn.path, txn.data, txn.version)
    if isinstance(txn, DeleteTxn):
        return Step(name, txn.path)
    if isinstance(txn, CreateContainerTxn):
        return Step(name, txn.path, txn.data, 0, _joined("container", txn.acl))
    if isinstance(txn, CreateTTLTxn):
        return Step(name, txn.path, txn.data, 0, _joined(f"ttl={txn.ttl}ms", txn.acl))
    if isinstance(txn, SetACLTxn):
        return Step(name, txn.path, None, txn.version, acl_text(txn.acl))
    if isinstance(txn, CheckVersionTxn):
        return Step(name, txn.path, None, txn.version)
    if isinstance(txn, CreateSessionTxn):
        return Step(name, b"", detail=f"timeout={txn.time_out}ms")
    assert isinstance(txn, ErrorTxn), "no other txn is part of a multi, and a closing session's is not asked for here"
    return Step(name, b"", detail=error_name(txn.err), err=txn.err)


def error_name(err: int) -> str:
    """The error's name, as NoNode."""
    return "" if err == OK else type(keeper_error(err)).__name__ + f" ({err})"


def op_name(type_: int) -> str:
    """The type's name, or its number."""
    return codes.OP_NAMES.get(type_, str(type_))


def _joined(kind: str, acl: list[ACL] | None) -> str:
    return " ".join(part for part in (kind, "" if is_open(acl) else f"acl={acl_text(acl)}") if part)


def is_open(acl: list[ACL] | None) -> bool:
    """Whether anybody may do anything: what nearly all znodes are created with."""
    return (
        acl is not None
        and len(acl) == 1
        and (acl[0].perms, acl[0].id.scheme, acl[0].id.id) == (codes.PERM_ALL, "world", "anyone")
    )


def acl_text(acl: list[ACL] | None) -> str:
    """`scheme:id:perms`, comma-separated."""
    return ",".join(f"{one.id.scheme}:{one.id.id}:{letters(one.perms)}" for one in acl or [])


def letters(perms: int) -> str:
    """cdrwa, or those of them that are there."""
    return "".join(letter for perm, letter in _LETTERS if perms & perm)


def owner_text(owner: int) -> tuple[str, str]:
    """What a stored owner says: persistent, ephemeral, container or ttl; and the session, or the time to live."""
    if owner == 0:
        return "persistent", ""
    if owner == codes.OWNER_CONTAINER:
        return "container", ""
    if codes.OWNER_TTL_MASK <= owner < 0 and (owner >> 40) & 0xFFFF == 0:
        return "ttl", f"{owner & _MASK40}ms"
    return "ephemeral", zxid_text(owner)
