"""Staging and applying txns that somebody else prepared: a leader's, or those of the log.

A txn of the log may be older than the content it meets, because Java's snapshots are taken while the tree changes.
Then a create of what exists and a delete of what does not are no errors to anybody: they raise the parent's counters,
and the end is the same. Knows what each txn type does; must not know requests or sessions.
Sources: DataTree.processTxn, createNode, deleteNode, killSession, setCversionPzxid, compareDigest.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from coati import errors
from coati.core.acl import OPEN_WIRE, AclList
from coati.core.change import Change
from coati.core.tree import Tree
from coati.core.znode import MASK64, STAT_BYTES, Znode, encode_buffer, pack_stat, ttl_owner, unpack_stat, wrap32
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.paths import parent_of
from coati.wire.txns import (
    DIGEST_VERSION,
    AnyTxn,
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
    TxnHeader,
    decode_txn,
    read_record,
)

# A part of a multi in the log was within the limits when it was a request.
_NO_LIMIT: Final = 0x7FFFFFFF
# A header and the length of the path behind it; the digest at the end.
_unpack_txn: Final = Struct(">qiqqii").unpack_from
_unpack_int: Final = Struct(">i").unpack_from
_unpack_digest: Final = Struct(">iq").unpack_from
_DIGEST_BYTES: Final = 12
_PATH_AT: Final = 36
_SHORTEST_BYTES: Final = _PATH_AT + _DIGEST_BYTES


def apply(tree: Tree, header: TxnHeader, txn: AnyTxn, digest: int | None = None) -> Change:
    """Stages and commits, and compares the digest the txn came with; the tree counts mismatches."""
    change = stage(tree, header, txn)
    tree.commit(change)
    compare_digest(tree, header.zxid, digest)
    return change


def compare_digest(tree: Tree, zxid: int, digest: int | None) -> None:
    """Behind the commit of a txn: whether the tree has the digest that the txn came with."""
    if not tree.digest_enabled:
        return
    target = tree.digest_target
    if target is None:
        if digest is not None and digest != tree.digest:
            tree.digest_mismatches += 1
    elif zxid >= target[0]:
        # Only now the content is what it was when the snapshot ended (DataTree.compareSnapshotDigests).
        if zxid == target[0] and target[1] != tree.digest:
            tree.digest_mismatches += 1
        tree.digest_target = None


def stage_payload(tree: Tree, zxid: int, payload: bytes) -> tuple[Change, int, int, int, int | None]:
    """(change, session, cxid, type, digest) of the txn `zxid` as it was proposed. Raises MarshallingError."""
    size = len(payload)
    if size >= _SHORTEST_BYTES:
        session_id, cxid, txn_zxid, time_ms, op, path_bytes = _unpack_txn(payload, 0)
        change: Change | None = None
        if op == codes.OP_SET_DATA:
            change = _stage_plain_set(tree, zxid, time_ms, payload, path_bytes, size - _DIGEST_BYTES)
        elif op == codes.OP_CREATE or op == codes.OP_CREATE2:
            header = TxnHeader(session_id, cxid, zxid, time_ms, op)
            change = _stage_plain_create(tree, header, payload, path_bytes, size - _DIGEST_BYTES)
        if change is not None:
            assert txn_zxid == zxid, "the broadcast knows what it delivers"
            value: int = _unpack_digest(payload, size - _DIGEST_BYTES)[1]
            return change, session_id, cxid, op, value & MASK64
    record = decode_txn(payload)
    header = record.header
    assert header.zxid == zxid, "the broadcast knows what it delivers"
    return stage(tree, header, record.txn), header.client_id, header.cxid, header.type, record.digest


# By hand what nearly all txns are: with data and a digest, which begins at `end`, and an open ACL. None: not that.


def _stage_plain_set(tree: Tree, zxid: int, time_ms: int, payload: bytes, path_bytes: int, end: int) -> Change | None:
    data_at = _PATH_AT + path_bytes
    if path_bytes < 0 or data_at + 4 > end:
        return None
    data_bytes: int = _unpack_int(payload, data_at)[0]
    version_at = data_at + 4 + data_bytes
    if data_bytes < 0 or version_at + 4 != end or _unpack_digest(payload, end)[0] != DIGEST_VERSION:
        return None
    path = payload[_PATH_AT:data_at]
    node = tree.find(path)
    if node is None:
        return None
    return tree.stage_set_data(
        zxid, time_ms, path, node, payload[data_at:version_at], _unpack_int(payload, version_at)[0]
    )


def _stage_plain_create(tree: Tree, header: TxnHeader, payload: bytes, path_bytes: int, end: int) -> Change | None:
    data_at = _PATH_AT + path_bytes
    if path_bytes < 0 or data_at + 4 > end:
        return None
    data_bytes: int = _unpack_int(payload, data_at)[0]
    acl_at = data_at + 4 + data_bytes
    flag_at = acl_at + len(OPEN_WIRE)
    if data_bytes < 0 or flag_at + 5 != end or _unpack_digest(payload, end)[0] != DIGEST_VERSION:
        return None
    if not payload.startswith(OPEN_WIRE, acl_at):
        return None
    path = payload[_PATH_AT:data_at]
    owner = header.client_id if payload[flag_at] else 0
    parent_cversion: int = _unpack_int(payload, flag_at + 1)[0]
    return _stage_create(tree, header, path, payload[data_at:acl_at], tree.acls.open, owner, parent_cversion)


def stage(tree: Tree, header: TxnHeader, txn: AnyTxn) -> Change:
    """The change that a txn makes to the staged tree; what does not fit becomes the change's `err`.

    Raises MarshallingError when a part of a multi is not what its type says; nothing is staged then.
    """
    op = header.type
    zxid = header.zxid
    if isinstance(txn, SetDataTxn):
        node = tree.find(txn.path)
        if node is None:
            return tree.stage_nothing(op, zxid, txn.path, errors.NO_NODE)
        return tree.stage_set_data(zxid, header.time, txn.path, node, encode_buffer(txn.data), txn.version)
    if isinstance(txn, CreateTxn):
        owner = header.client_id if txn.ephemeral else 0
        acl = tree.acls.intern(txn.acl)
        return _stage_create(tree, header, txn.path, encode_buffer(txn.data), acl, owner, txn.parent_cversion)
    if isinstance(txn, DeleteTxn):
        return tree.stage_delete_of(op, zxid, txn.path)
    if isinstance(txn, MultiTxn):
        return _stage_multi(tree, header, txn)
    if isinstance(txn, SetACLTxn):
        node = tree.find(txn.path)
        if node is None:
            return tree.stage_nothing(op, zxid, txn.path, errors.NO_NODE)
        return tree.stage_set_acl(zxid, txn.path, node, tree.acls.intern(txn.acl), txn.version)
    if isinstance(txn, CreateSessionTxn):
        return tree.stage_create_session(zxid, header.client_id, txn.time_out)
    if isinstance(txn, CloseSessionTxn):
        return tree.stage_close_session(zxid, header.client_id, txn.paths_to_delete)
    if isinstance(txn, CreateContainerTxn):
        acl = tree.acls.intern(txn.acl)
        owner = codes.OWNER_CONTAINER
        return _stage_create(tree, header, txn.path, encode_buffer(txn.data), acl, owner, txn.parent_cversion)
    if isinstance(txn, CreateTTLTxn):
        acl = tree.acls.intern(txn.acl)
        owner = ttl_owner(txn.ttl)
        return _stage_create(tree, header, txn.path, encode_buffer(txn.data), acl, owner, txn.parent_cversion)
    if isinstance(txn, ErrorTxn):
        return tree.stage_nothing(op, zxid, b"", txn.err)
    return tree.stage_nothing(op, zxid, txn.path, errors.OK)


def _stage_create(
    tree: Tree, header: TxnHeader, path: bytes, buffer: bytes, acl: AclList, owner: int, parent_cversion: int
) -> Change:
    zxid = header.zxid
    parent_path = parent_of(path)
    parent = tree.find(parent_path)
    if parent is None:
        return tree.stage_nothing(header.type, zxid, path, errors.NO_NODE)
    old = tree.staged.get(path) or tree.nodes.get(path)
    if old is not None and old.body:
        return _stage_create_again(tree, header, path, acl, parent_cversion, parent, old)
    return tree.stage_create(
        header.type, zxid, header.time, path, buffer, acl, owner, parent_cversion, parent_path, parent, old
    )


def _stage_create_again(
    tree: Tree, header: TxnHeader, path: bytes, acl: AclList, parent_cversion: int, parent: Znode, old: Znode
) -> Change:
    """A create of what is there.

    The znode takes the ACL, and the parent's counters are raised. Java raises them for plain `create` alone and so may
    give a sequence number twice after a create2 (compare ZOOKEEPER-3249); the live tree had raised them for all.
    """
    before = tree.staged_digest
    node = Znode(old.body, acl, old.cversion, old.owner, old.children, old.digest)
    tree.staged[path] = node
    change = Change(header.type, header.zxid, path, node, old, before, before)
    change.err = errors.NODE_EXISTS
    if parent_cversion == -1:
        parent_cversion = wrap32(parent.cversion + 1)
    if parent_cversion > parent.cversion:
        tree.stage_parent(change, parent_of(path), parent, _raised(parent, header.zxid, parent_cversion))
    return change


def _raised(parent: Znode, zxid: int, cversion: int) -> Znode:
    czxid, mzxid, ctime, mtime, version, _, aversion, owner, size, child_count, _ = unpack_stat(
        parent.body, -STAT_BYTES
    )
    shown = wrap32(cversion * 2 - child_count)
    stat = pack_stat(czxid, mzxid, ctime, mtime, version, shown, aversion, owner, size, child_count, zxid)
    return Znode(parent.buffer() + stat, parent.acl, cversion, parent.owner, parent.children, -1)


def _stage_multi(tree: Tree, header: TxnHeader, txn: MultiTxn) -> Change:
    zxid = header.zxid
    records: list[tuple[int, AnyTxn]] = []
    failed = False
    for part in txn.txns or []:
        data = part.data or b""
        records.append((part.type, read_record(part.type, Reader(data, 0, len(data), _NO_LIMIT))))
        failed = failed or part.type == codes.OP_ERROR
    subs: list[Change] = []
    first_err = errors.OK
    for type_, record in records:
        if failed and not isinstance(record, ErrorTxn):
            # What stands before the failed part was fine, what stands behind it was not tried.
            err = errors.OK if first_err == errors.OK else errors.RUNTIME_INCONSISTENCY
            sub = tree.stage_nothing(codes.OP_ERROR, zxid, b"", err)
        else:
            sub = stage(tree, TxnHeader(header.client_id, header.cxid, zxid, header.time, type_), record)
        if first_err == errors.OK:
            first_err = sub.err
        subs.append(sub)
    return tree.join(zxid, subs, first_err)
