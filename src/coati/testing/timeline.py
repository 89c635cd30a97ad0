"""Every state of the tree, from the committed log: what each txn must be, did, triggered and is answered with.

Knows the meaning of txns and requests from the specification alone: no code of `coati.core` is in it, since it judges
that. Versions of a znode are two lists, zxids and states, so any state is found by bisection. Must not know clients,
servers or connections.
Invariant: nothing is raised for what a txn says; each mistake is a fault with the id of its invariant, and the log is
believed from there on.
Sources: the order of checks in PrepRequestProcessor, DataTree, DigestCalculator.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from coati import errors
from coati.errors import MarshallingError
from coati.testing.requests import Write, is_open, may, parent_path
from coati.wire import codes
from coati.wire.jute import Reader, Writer
from coati.wire.records import ACL, Id, MultiHeader
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

Fault: TypeAlias = tuple[str, str]

_STAT: Final = struct.Struct(">qqqqiiiqiiq")
_BLOCK: Final = struct.Struct(">qqqqqiiiq")
_INT: Final = struct.Struct(">i")
_U64: Final = (1 << 64) - 1
_SYSTEM: Final = b"/zookeeper/"
_CHECKPOINT: Final = 64
_SEQUENTIAL: Final = (2, 3, 6)
_EPHEMERAL: Final = (1, 3)
_CREATES: Final = (codes.OP_CREATE, codes.OP_CREATE2, codes.OP_CREATE_CONTAINER, codes.OP_CREATE_TTL)
# Errors that depend on more than the tree: the log is believed.
_UNSURE: Final = (
    errors.SESSION_MOVED,
    errors.QUOTA_EXCEEDED,
    errors.UNIMPLEMENTED,
    errors.BAD_ARGUMENTS,
    errors.INVALID_ACL,
    errors.MARSHALLING_ERROR,
    errors.RECONFIG_DISABLED,
    errors.THROTTLED_OP,
    errors.EPHEMERAL_ON_LOCAL_SESSION,
)
# What a refusal by mistake, or its absence, breaks; all others are W6.
_IDS: Final = {errors.BAD_VERSION: "W5", errors.SESSION_EXPIRED: "W10"}


class Refused(Exception):
    """The write must fail with this code."""

    def __init__(self, err: int) -> None:
        super().__init__(err)
        self.err = err


class Unsure(Exception):
    """What must come of the write depends on what is not in the log."""


def wrap32(value: int) -> int:
    """As a signed 32-bit number."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def is_session(owner: int) -> bool:
    """Whether an owner is a session: neither none, nor the mark of a container or of a TTL (EphemeralType)."""
    return owner not in (0, codes.OWNER_CONTAINER) and owner & codes.OWNER_TTL_MASK != codes.OWNER_TTL_MASK


class Node:
    """A znode in one state; `creates` is the cversion that is stored, the number of children ever created."""

    __slots__ = (
        "acl", "aversion", "children", "creates", "ctime", "czxid", "data", "mtime", "mzxid", "owner", "pzxid", "share",
        "version",
    )  # fmt: skip

    def __init__(self, data: bytes | None, acl: list[ACL], zxid: int, time_ms: int, owner: int) -> None:
        self.data = data
        self.acl = acl
        self.czxid = self.mzxid = self.pzxid = zxid
        self.ctime = self.mtime = time_ms
        self.version = self.creates = self.aversion = self.children = self.share = 0
        self.owner = owner

    def copy(self) -> Node:
        new = Node(self.data, self.acl, self.czxid, self.ctime, self.owner)
        new.mzxid, new.pzxid, new.mtime = self.mzxid, self.pzxid, self.mtime
        new.version, new.creates, new.aversion = self.version, self.creates, self.aversion
        new.children = self.children
        return new

    def stat(self) -> bytes:
        """As clients see it."""
        owner = self.owner if is_session(self.owner) else 0
        shown = wrap32(self.creates * 2 - self.children)
        head = (self.czxid, self.mzxid, self.ctime, self.mtime, self.version, shown, self.aversion)
        return _STAT.pack(*head, owner, len(self.data or b""), self.children, self.pzxid)

    def share_of(self, path: bytes) -> int:
        """What it adds to the tree's digest."""
        if path.startswith(_SYSTEM):
            return 0
        times = (self.czxid, self.mzxid, self.pzxid, self.ctime, self.mtime)
        block = _BLOCK.pack(*times, self.version, self.creates, self.aversion, self.owner)
        return zlib.crc32(block, zlib.crc32(self.data or b"", zlib.crc32(b"" if path == b"/" else path)))


class Family:
    """The children of a path, over all time."""

    __slots__ = ("_known", "changes", "zxids")

    def __init__(self) -> None:
        self.zxids: list[int] = []
        self.changes: list[tuple[bytes, bool]] = []
        self._known: list[dict[bytes, None]] = []

    def at(self, zxid: int) -> list[bytes]:
        """The names at a zxid, sorted. Asked only when the log has been read."""
        end = bisect_right(self.zxids, zxid)
        while len(self._known) <= end // _CHECKPOINT:
            at = len(self._known) * _CHECKPOINT
            before = dict(self._known[-1]) if self._known else {}
            self._known.append(self._replay(before, max(at - _CHECKPOINT, 0), at))
        names = self._replay(dict(self._known[end // _CHECKPOINT]), end // _CHECKPOINT * _CHECKPOINT, end)
        return sorted(names)

    def _replay(self, names: dict[bytes, None], start: int, end: int) -> dict[bytes, None]:
        for name, is_there in self.changes[start:end]:
            if is_there:
                names[name] = None
            else:
                names.pop(name, None)
        return names


class Trigger:
    """An event that a txn causes; `order` counts those of one txn. `acl`: whoever may not READ by it is not told."""

    __slots__ = ("acl", "order", "path", "type", "zxid")

    def __init__(self, zxid: int, order: int, event_type: int, path: bytes, acl: list[ACL]) -> None:
        self.zxid = zxid
        self.order = order
        self.type = event_type
        self.path = path
        self.acl = acl


class Result:
    """What came of one write, or of one part of a multi."""

    __slots__ = ("err", "op", "path", "stat")

    def __init__(self, op: int, err: int = 0, path: bytes = b"", stat: bytes = b"") -> None:
        self.op = op
        self.err = err
        self.path = path
        self.stat = stat


class Done:
    """A txn and what came of it; `results` has one for each part of a multi, otherwise one."""

    __slots__ = ("cxid", "op", "results", "session_id", "time_ms", "zxid")

    def __init__(self, record: TxnRecord, results: list[Result]) -> None:
        header = record.header
        self.zxid = header.zxid
        self.session_id = header.client_id
        self.cxid = header.cxid
        self.op = header.type
        self.time_ms = header.time
        self.results = results

    def __repr__(self) -> str:
        name = codes.OP_NAMES.get(self.op, str(self.op))
        told = ", ".join(f"{result.err} {result.path.decode(errors='replace')}" for result in self.results)
        return f"Done({self.zxid:#x} {name} of {self.session_id:#x} cxid {self.cxid}: {told})"


class Timeline:
    """All states, after `apply` of all txns in their order."""

    def __init__(self) -> None:
        self.zxids: list[int] = []
        self.done: dict[int, Done] = {}
        self.digests: dict[int, int] = {}
        self.versions: dict[bytes, tuple[list[int], list[Node | None]]] = {}
        self.families: dict[bytes, Family] = {}
        self.data_triggers: dict[bytes, list[Trigger]] = {}
        self.child_triggers: dict[bytes, list[Trigger]] = {}
        self.opened: dict[int, int] = {}
        self.timeouts: dict[int, int] = {}
        self.closed: dict[int, int] = {}
        self.owned: dict[int, dict[bytes, None]] = {}
        self.digest = 0
        self._record: TxnRecord
        self._zxid = 0
        self._fired: list[Trigger] = []
        self._faults: list[Fault] = []
        self._undo: list[Callable[[], object]] | None = None
        self._make_pristine()

    def _make_pristine(self) -> None:
        everyone = [ACL(codes.PERM_ALL, Id("world", "anyone"))]
        reader = [ACL(codes.PERM_READ, Id("world", "anyone"))]
        nodes = {path: Node(b"", everyone, 0, 0, 0) for path in (b"/", b"/zookeeper", b"/zookeeper/quota")}
        nodes[b"/zookeeper/config"] = Node(b"", reader, 0, 0, 0)
        nodes[b"/zookeeper/config"].aversion = -1
        nodes[b"/"].children = 1
        nodes[b"/zookeeper"].children = 2
        for path, node in nodes.items():
            self._put(path, node)
            if path != b"/":
                self._note_child(path, True)

    # Reading

    def at(self, path: bytes, zxid: int) -> Node | None:
        """The znode as it was after that txn."""
        versions = self.versions.get(path)
        if versions is None:
            return None
        index = bisect_right(versions[0], zxid)
        return versions[1][index - 1] if index else None

    def children_at(self, path: bytes, zxid: int) -> list[bytes]:
        """The names of the children as they were, sorted."""
        family = self.families.get(path)
        return [] if family is None else family.at(zxid)

    def last_zxid(self) -> int:
        return self.zxids[-1] if self.zxids else 0

    def is_between(self, path: bytes, low: int, high: int) -> list[int]:
        """The zxids in (low, high] at which the znode changed."""
        versions = self.versions.get(path)
        if versions is None:
            return []
        return versions[0][bisect_right(versions[0], low) : bisect_right(versions[0], high)]

    # Writing

    def apply(self, record: TxnRecord, write: Write | None = None, ids: Sequence[Id] = ()) -> list[Fault]:
        """The next txn; `write` is the request it came from, where that is known. Gives what is wrong with it."""
        header = record.header
        self._record, self._zxid = record, header.zxid
        self._faults, self._fired = [], []
        txn = record.txn
        if isinstance(txn, MultiTxn):
            results = self._apply_multi(txn, write, ids)
        else:
            if write is not None:
                self._compare_with(write, ids, txn)
            results = [self._force(header.type, txn)]
        self.zxids.append(self._zxid)
        self.done[self._zxid] = Done(record, results)
        self.digests[self._zxid] = self.digest
        for trigger in self._fired:
            self._note_trigger(trigger)
        if record.digest is not None and record.digest != self.digest:
            self._fault("Z11", f"the digest in the txn is {record.digest}, the tree's {self.digest}")
        # The first mistake; those that follow from it only hide it.
        return self._faults[:1]

    def _fault(self, id_: str, text: str) -> None:
        self._faults.append((id_, f"zxid {self._zxid:#x}: {text}"))

    def _note_trigger(self, trigger: Trigger) -> None:
        if trigger.type != codes.EVENT_CHILDREN_CHANGED:
            self.data_triggers.setdefault(trigger.path, []).append(trigger)
        if trigger.type in (codes.EVENT_CHILDREN_CHANGED, codes.EVENT_DELETED):
            self.child_triggers.setdefault(trigger.path, []).append(trigger)

    # The txn that a request must become

    def _compare_with(self, write: Write, ids: Sequence[Id], actual: AnyTxn) -> None:
        err = actual.err if isinstance(actual, ErrorTxn) else 0
        if err in _UNSURE:
            return
        try:
            expected = self._prepare(write, ids)
        except Unsure:
            return
        except Refused as refused:
            if refused.err != err:
                id_ = _IDS.get(refused.err, _IDS.get(err, "W6"))
                self._fault(id_, f"{write} is logged as {actual} instead of error {refused.err}")
            return
        if expected != actual:
            self._fault(_id_of_difference(write, expected, actual), f"{write} is logged as {actual}, not {expected}")

    def _prepare(self, write: Write, ids: Sequence[Id]) -> AnyTxn:
        session_id = self._record.header.client_id
        if write.op == codes.OP_CLOSE_SESSION:
            # Whatever paths it lists, and whether it is there still: `_close` looks at them.
            raise Unsure
        if session_id not in self.opened or session_id in self.closed:
            raise Refused(errors.SESSION_EXPIRED)
        if write.op in _CREATES:
            return self._prepare_create(write, ids)
        if write.op == codes.OP_DELETE:
            return self._prepare_delete(write, ids)
        node = self._now(write.path)
        if node is None:
            raise Refused(errors.NO_NODE)
        perms = {codes.OP_SET_DATA: 2, codes.OP_SET_ACL: 16, codes.OP_CHECK: 1}
        if write.op not in perms:
            raise Unsure
        _demand(node.acl, perms[write.op], ids)
        is_acl = write.op == codes.OP_SET_ACL
        version = node.aversion if is_acl else node.version
        if write.version not in (-1, version):
            raise Refused(errors.BAD_VERSION)
        after = wrap32(version + 1)
        if is_acl:
            return SetACLTxn(write.path, self._acl_of(write), after)
        return (
            SetDataTxn(write.path, write.data, after)
            if write.op == codes.OP_SET_DATA
            else CheckVersionTxn(write.path, after)
        )

    def _acl_of(self, write: Write) -> list[ACL] | None:
        # The schemes auth and digest are rewritten by the server; only the open one must come out as it went in.
        if is_open(write.acl):
            return write.acl
        txn = self._logged_part(write)
        return txn.acl if isinstance(txn, CreateTxn | CreateContainerTxn | CreateTTLTxn | SetACLTxn) else write.acl

    def _logged_part(self, write: Write) -> AnyTxn | None:
        txn = self._record.txn
        if not isinstance(txn, MultiTxn):
            return txn
        parts = txn.txns or []
        return _read_part(parts[write.index].type, parts[write.index].data) if write.index < len(parts) else None

    def _prepare_create(self, write: Write, ids: Sequence[Id]) -> AnyTxn:
        parent = self._now(parent_path(write.path))
        if parent is None:
            raise Refused(errors.NO_NODE)
        _demand(parent.acl, codes.PERM_CREATE, ids)
        path = write.path
        if write.flags in _SEQUENTIAL:
            path += b"%010d" % parent.creates
        if self._now(path) is not None:
            raise Refused(errors.NODE_EXISTS)
        if is_session(parent.owner):
            raise Refused(errors.NO_CHILDREN_FOR_EPHEMERALS)
        creates = wrap32(parent.creates + 1)
        acl = self._acl_of(write)
        if write.op == codes.OP_CREATE_CONTAINER:
            return CreateContainerTxn(path, write.data, acl, creates)
        if write.op == codes.OP_CREATE_TTL:
            return CreateTTLTxn(path, write.data, acl, creates, write.ttl)
        return CreateTxn(path, write.data, acl, write.flags in _EPHEMERAL, creates)

    def _prepare_delete(self, write: Write, ids: Sequence[Id]) -> AnyTxn:
        parent = self._now(parent_path(write.path))
        if parent is None:
            raise Refused(errors.NO_NODE)
        _demand(parent.acl, codes.PERM_DELETE, ids)
        node = self._now(write.path)
        if node is None:
            raise Refused(errors.NO_NODE)
        if write.version not in (-1, node.version):
            raise Refused(errors.BAD_VERSION)
        if node.children:
            raise Refused(errors.NOT_EMPTY)
        return DeleteTxn(write.path)

    # Multis

    def _apply_multi(self, txn: MultiTxn, write: Write | None, ids: Sequence[Id]) -> list[Result]:
        parts = txn.txns or []
        try:
            records = [(part.type, _read_part(part.type, part.data)) for part in parts]
        except MarshallingError as error:
            self._fault("W7", f"a part of the multi cannot be read: {error}")
            return []
        failed = [index for index, (type_, _) in enumerate(records) if type_ == codes.OP_ERROR]
        if write is not None and len(write.parts) != len(records):
            self._fault("W7", f"the multi has {len(records)} parts instead of {len(write.parts)}")
            write = None
        if failed:
            return self._fail_multi(records, failed[0], write, ids)
        results = []
        for index, (type_, record) in enumerate(records):
            if write is not None:
                self._compare_with(write.parts[index], ids, record)
            results.append(self._force(type_, record))
        return results

    def _fail_multi(
        self, records: list[tuple[int, AnyTxn]], first: int, write: Write | None, ids: Sequence[Id]
    ) -> list[Result]:
        """All parts before the culprit are tried and taken back, to see that it is one."""
        logged = [record.err if isinstance(record, ErrorTxn) else 0 for _, record in records]
        rest = [errors.RUNTIME_INCONSISTENCY] * (len(records) - first - 1)
        if logged[first + 1 :] != rest:
            self._fault("W7", f"behind the error of part {first} the multi says {logged[first + 1 :]}")
        if write is not None:
            digest = self.digest
            self._undo = []
            for index in range(first + 1):
                self._compare_with(write.parts[index], ids, records[index][1])
                if index < first:
                    self._force(*records[index])
            for undo in reversed(self._undo):
                undo()
            self._undo = None
            # Its events too: nothing else is in this txn.
            self.digest, self._fired = digest, []
        return [Result(codes.OP_ERROR, err) for err in logged]

    # What a txn does

    def _force(self, type_: int, txn: AnyTxn) -> Result:
        if isinstance(txn, ErrorTxn):
            return Result(type_, txn.err)
        header = self._record.header
        session_id = header.client_id
        if isinstance(txn, CreateSessionTxn):
            if session_id in self.opened:
                self._fault("S7", f"session {session_id:#x} is created again")
            self.opened[session_id] = self._zxid
            self.timeouts[session_id] = txn.time_out
            return Result(type_)
        # A session may be closed twice: by its client, whose request was on its way, and by expiry.
        if session_id in self.closed and type_ not in (codes.OP_DELETE_CONTAINER, codes.OP_CLOSE_SESSION):
            closed = self.closed[session_id]
            self._fault("W10", f"{txn} of session {session_id:#x}, which was closed at {closed:#x}")
        if isinstance(txn, CloseSessionTxn):
            return self._close(session_id, txn)
        if isinstance(txn, CreateTxn):
            owner = session_id if txn.ephemeral else 0
            return self._create(type_, txn.path, (txn.data, txn.acl or []), owner, txn.parent_cversion)
        if isinstance(txn, CreateContainerTxn):
            acl = txn.acl or []
            return self._create(type_, txn.path, (txn.data, acl), codes.OWNER_CONTAINER, txn.parent_cversion)
        if isinstance(txn, CreateTTLTxn):
            owner = codes.OWNER_TTL_MASK | txn.ttl
            return self._create(type_, txn.path, (txn.data, txn.acl or []), owner, txn.parent_cversion)
        assert not isinstance(txn, MultiTxn), "a multi has no multi in it"
        return self._change(type_, txn)

    def _change(self, type_: int, txn: DeleteTxn | SetDataTxn | SetACLTxn | CheckVersionTxn) -> Result:
        old = self._now(txn.path)
        if old is None:
            self._fault("W6", f"{txn} of what is not there")
            return Result(type_, 0, txn.path)
        if isinstance(txn, DeleteTxn):
            if old.children:
                self._fault("W6", f"{txn} of what has {old.children} children")
            self._remove(txn.path, old)
            return Result(codes.OP_DELETE, 0, txn.path)
        if isinstance(txn, CheckVersionTxn):
            return Result(type_, 0, txn.path)
        node = old.copy()
        if isinstance(txn, SetACLTxn):
            node.acl, node.aversion = txn.acl or [], txn.version
        else:
            if txn.version != wrap32(old.version + 1):
                self._fault("W5", f"{txn} behind version {old.version}")
            node.data, node.version = txn.data, txn.version
            node.mzxid, node.mtime = self._zxid, self._record.header.time
            self._fire(codes.EVENT_DATA_CHANGED, txn.path, old.acl)
        self._put(txn.path, node)
        return Result(type_, 0, txn.path, node.stat())

    def _create(
        self, type_: int, path: bytes, content: tuple[bytes | None, list[ACL]], owner: int, creates: int
    ) -> Result:
        above = parent_path(path)
        parent = self._now(above)
        if parent is None:
            self._fault("W6", f"{path!r} is created without a parent")
            return Result(type_, 0, path)
        if self._now(path) is not None:
            self._fault("W6", f"{path!r} is created where it is")
            return Result(type_, 0, path)
        if creates != wrap32(parent.creates + 1):
            self._fault("W9", f"{path!r} is child {creates} of a parent that had {parent.creates}")
        grown = parent.copy()
        grown.creates, grown.pzxid = creates, self._zxid
        grown.children += 1
        self._put(above, grown)
        node = Node(*content, self._zxid, self._record.header.time, owner)
        self._put(path, node)
        self._note_child(path, True)
        if is_session(owner):
            self._note_owner(owner, path, True)
        self._fire(codes.EVENT_CREATED, path, node.acl)
        self._fire(codes.EVENT_CHILDREN_CHANGED, above, parent.acl)
        return Result(type_, 0, path, node.stat())

    def _close(self, session_id: int, txn: CloseSessionTxn) -> Result:
        mine = self.owned.get(session_id, {})
        # The list may be cut short, or missing (closeSessionTxn.enabled); the others go as well.
        wrong = [path for path in txn.paths_to_delete if path not in mine]
        if wrong:
            self._fault("S1", f"the end of session {session_id:#x} deletes {wrong}, which it does not own")
        for path in [*(path for path in txn.paths_to_delete if path in mine), *mine]:
            node = self._now(path)
            if node is not None:
                self._remove(path, node)
        self.owned.pop(session_id, None)
        self.closed.setdefault(session_id, self._zxid)
        return Result(codes.OP_CLOSE_SESSION)

    def _remove(self, path: bytes, old: Node) -> None:
        above = parent_path(path)
        parent = self._now(above)
        self._put(path, None)
        self._note_child(path, False)
        if is_session(old.owner):
            self._note_owner(old.owner, path, False)
        self._fire(codes.EVENT_DELETED, path, old.acl)
        if parent is not None:
            shrunk = parent.copy()
            shrunk.children -= 1
            shrunk.pzxid = self._zxid
            self._put(above, shrunk)
            self._fire(codes.EVENT_CHILDREN_CHANGED, above, parent.acl)

    # Changes, each of which can be taken back

    def _now(self, path: bytes) -> Node | None:
        versions = self.versions.get(path)
        return versions[1][-1] if versions is not None and versions[1] else None

    def _put(self, path: bytes, node: Node | None) -> None:
        zxids, nodes = self.versions.setdefault(path, ([], []))
        old = nodes[-1] if nodes else None
        if node is not None:
            node.share = node.share_of(path)
        self.digest = (self.digest + (node.share if node else 0) - (old.share if old else 0)) & _U64
        if zxids and zxids[-1] == self._zxid:
            nodes[-1] = node
            self._on_undo(lambda: _put_back(nodes, old))
        else:
            zxids.append(self._zxid)
            nodes.append(node)
            self._on_undo(lambda: _shorten(zxids, nodes))

    def _note_child(self, path: bytes, is_there: bool) -> None:
        above = parent_path(path)
        family = self.families.get(above)
        if family is None:
            family = self.families[above] = Family()
        family.zxids.append(self._zxid)
        family.changes.append((path[len(above) + (above != b"/") :], is_there))
        zxids, changes = family.zxids, family.changes
        self._on_undo(lambda: _shorten(zxids, changes))

    def _note_owner(self, owner: int, path: bytes, is_there: bool) -> None:
        mine = self.owned.setdefault(owner, {})
        if is_there:
            mine[path] = None
            self._on_undo(lambda: mine.pop(path))
        else:
            mine.pop(path, None)
            self._on_undo(lambda: mine.setdefault(path))

    def _on_undo(self, call: Callable[[], object]) -> None:
        if self._undo is not None:
            self._undo.append(call)

    def _fire(self, event_type: int, path: bytes, acl: list[ACL]) -> None:
        self._fired.append(Trigger(self._zxid, len(self._fired), event_type, path, acl))


def _demand(acl: list[ACL], perm: int, ids: Sequence[Id]) -> None:
    allowed = may(acl, perm, ids)
    if allowed is None:
        raise Unsure
    if not allowed:
        raise Refused(errors.NO_AUTH)


def _read_part(type_: int, data: bytes | None) -> AnyTxn:
    return read_record(type_, Reader(data or b""))


def _id_of_difference(write: Write, expected: AnyTxn, actual: AnyTxn) -> str:
    if isinstance(actual, ErrorTxn):
        return _IDS.get(actual.err, "W6")
    if type(expected) is not type(actual):
        return "W1"
    if isinstance(expected, CreateTxn) and isinstance(actual, CreateTxn):
        is_named = write.flags in _SEQUENTIAL and expected.path != actual.path
        return "W9" if is_named or expected.parent_cversion != actual.parent_cversion else "W1"
    if isinstance(expected, SetDataTxn) and isinstance(actual, SetDataTxn) and expected.version != actual.version:
        return "W5"
    return "W1"


def _put_back(nodes: list[Node | None], old: Node | None) -> None:
    nodes[-1] = old


def _shorten(*lists: list[int] | list[Node | None] | list[tuple[bytes, bool]]) -> None:
    for one in lists:
        one.pop()


def reply_of(write: Write, done: Done) -> tuple[int, bytes]:
    """Error and body of the reply that tells what came of a write."""
    if write.op == codes.OP_MULTI and done.op == codes.OP_MULTI:
        w = Writer()
        for result in done.results:
            MultiHeader(_told_op(result), False, result.err).write(w)
            if result.op == codes.OP_ERROR:
                w.int32(result.err)
            else:
                w.raw(_body_of(result.op, result))
        MultiHeader(-1, True, -1).write(w)
        return 0, w.getvalue()
    result = done.results[0]
    return result.err, b"" if result.err else _body_of(write.op, result)


def _told_op(result: Result) -> int:
    is_special = result.op in (codes.OP_CREATE_CONTAINER, codes.OP_CREATE_TTL)
    return codes.OP_CREATE2 if is_special else result.op


def _body_of(op: int, result: Result) -> bytes:
    if op in (codes.OP_SET_DATA, codes.OP_SET_ACL):
        return result.stat
    if op not in _CREATES:
        return b""
    return _INT.pack(len(result.path)) + result.path + (b"" if op == codes.OP_CREATE else result.stat)


def read_body(op: int, timeline: Timeline, path: bytes, zxid: int) -> tuple[int, bytes | None]:
    """Error and body of the reply to a read at a state; None where the order of its parts is the server's."""
    node = timeline.at(path or b"/", zxid)
    if node is None:
        return errors.NO_NODE, b""
    if op == codes.OP_GET_DATA:
        data = node.data
        return 0, (_INT.pack(-1) if data is None else _INT.pack(len(data)) + data) + node.stat()
    return 0, node.stat() if op == codes.OP_EXISTS else None
