"""Preparing: a client's write becomes a txn, checked against the tree as it will be when all in flight is committed.

A refusal becomes an error txn with a zxid of its own, so replies and log keep one order. What cannot be read at all has
none, as in Java: it is no txn, and its caller answers it in its turn. The order of the checks decides which error a
client gets, and is Java's.

Knows requests, the tree, sessions and access. Must not know connections other than as owners of sessions, or time
other than as an argument. Sessions are tracked by whoever takes their createSession in, before it is prepared.
Sources: PrepRequestProcessor, ZooKeeperServer.checkQuota, CreateMode, EphemeralType, MultiOperationRecord, Op.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, Protocol

from coati import errors
from coati.core.acl import OPEN_WIRE, Access
from coati.core.change import Change
from coati.core.multi import MultiOp, are_reads, read_multi
from coati.core.quota import QuotaBreach, check_quota, limit_path, stat_path
from coati.core.sessions import SessionTable
from coati.core.tree import CONFIG, ROOT, SPECIAL_PATHS, Tree
from coati.core.znode import (
    BODY_OVERHEAD,
    INT_MAX,
    KIND_CONTAINER,
    KIND_EPHEMERAL,
    KIND_TTL,
    Znode,
    encode_buffer,
    ttl_owner,
    wrap32,
)
from coati.errors import (
    BadArguments,
    BadVersion,
    InvalidACL,
    KeeperError,
    MarshallingError,
    NoAuth,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
    QuotaExceeded,
    ReconfigDisabled,
    Unimplemented,
)
from coati.wire import codes
from coati.wire.jute import NULL_LENGTH, Reader, Writer
from coati.wire.paths import parent_of, validate_path
from coati.wire.records import (
    ACL,
    CreateRequest,
    CreateTTLRequest,
    Id,
    ReconfigRequest,
    SetACLRequest,
    SetDataRequest,
)
from coati.wire.txns import DIGEST_VERSION

# TxnHeader: clientId, cxid, zxid, time, type.
_pack_header: Final = Struct(">qiqqi").pack
# TxnDigest: version, digest; the digest is unsigned in memory, the same bits as Java's long.
_pack_digest: Final = Struct(">iQ").pack
# The end of a CreateTxn: ephemeral, parentCVersion.
_pack_create_tail: Final = Struct(">?i").pack
# The same with the TxnDigest behind it.
_pack_create_end: Final = Struct(">?iiQ").pack
_pack_int: Final = Struct(">i").pack
_pack_long: Final = Struct(">q").pack
_unpack_int: Final = Struct(">i").unpack_from

# Where version and aversion stand in a body, counted from its end.
_VERSION_AT: Final = -36
_AVERSION_AT: Final = -28
# What a closeSession has besides its paths: header, their number, digest.
_CLOSE_OVERHEAD: Final = 48
# Soft quotas that were exceeded are reported, up to so many between two looks.
_MAX_BREACHES: Final = 100

_SEQUENTIAL_FLAGS: Final = (
    codes.FLAG_PERSISTENT_SEQUENTIAL,
    codes.FLAG_EPHEMERAL_SEQUENTIAL,
    codes.FLAG_PERSISTENT_SEQUENTIAL_WITH_TTL,
)
_TTL_FLAGS: Final = (codes.FLAG_PERSISTENT_WITH_TTL, codes.FLAG_PERSISTENT_SEQUENTIAL_WITH_TTL)
_PLAIN_CREATES: Final = (codes.OP_CREATE, codes.OP_CREATE2, codes.OP_CREATE_CONTAINER)
_CREATES: Final = (*_PLAIN_CREATES, codes.OP_CREATE_TTL)
_EPHEMERAL_FLAGS: Final = (codes.FLAG_EPHEMERAL, codes.FLAG_EPHEMERAL_SEQUENTIAL)


class Request:
    """One write: its record is `body[pos:end]`. Prepared, it is a proposal.

    `conn` is the caller's own: whom the session must belong to, a connection or another server's link; None for a
    request of the server's own (closing a session, deleting a container). `prepare` adds `zxid`, the `payload` for the
    log and the peers, and the `change` to commit when it is delivered; what the client is told is in the change: `err`,
    and what the reply needs.
    `created_ms` is the caller's own, too.
    """

    __slots__ = (
        "auth",
        "body",
        "change",
        "conn",
        "created_ms",
        "end",
        "op",
        "payload",
        "pos",
        "session_id",
        "xid",
        "zxid",
    )

    change: Change
    created_ms: int
    payload: bytes
    zxid: int

    def __init__(
        self,
        conn: object | None,
        session_id: int,
        xid: int,
        op: int,
        body: bytes,
        pos: int,
        end: int,
        auth: list[Id],
    ) -> None:
        self.conn = conn
        self.session_id = session_id
        self.xid = xid
        self.op = op
        self.body = body
        self.pos = pos
        self.end = end
        self.auth = auth


class PrepareConfig:
    """Switches of preparing. `enforce_quota` is zookeeper.enforceQuota; a longer payload cannot be read back."""

    __slots__ = ("enforce_quota", "max_payload_bytes", "reconfig_enabled")

    def __init__(
        self, *, enforce_quota: bool = False, reconfig_enabled: bool = False, max_payload_bytes: int = 2 * 0xFFFFF
    ) -> None:
        self.enforce_quota = enforce_quota
        self.max_payload_bytes = max_payload_bytes
        self.reconfig_enabled = reconfig_enabled


class Planner(Protocol):
    """Who knows the ensemble, and whom it could have for members: its leader."""

    def next_config(
        self, joining: str | None, leaving: str | None, members: str | None, version: int, zxid: int
    ) -> bytes:
        """The text that a reconfig puts into the config znode. Raises KeeperError."""


class Preparer:
    """Prepares the writes of all clients, one after the other.

    `breaches` collects exceeded quotas for the log of the server; the caller empties it.
    """

    __slots__ = (
        "_access", "_acls", "_config", "_enforce_quota", "_max_payload_bytes", "_planner", "_sessions", "_tree",
        "breaches",
    )  # fmt: skip

    def __init__(
        self, tree: Tree, sessions: SessionTable, access: Access, config: PrepareConfig | None = None,
        planner: Planner | None = None,
    ) -> None:  # fmt: skip
        self._tree = tree
        self._acls = tree.acls
        self._sessions = sessions
        self._access = access
        self._config = config or PrepareConfig()
        self._planner = planner
        self._max_payload_bytes = self._config.max_payload_bytes
        self._enforce_quota = self._config.enforce_quota
        self.breaches: list[QuotaBreach] = []

    def prepare(self, request: Request, zxid: int, now_ms: int) -> None:
        """Makes the request a proposal, staged in the tree; `now_ms` is wall time and becomes the txn's time.

        With an empty payload it is none: the request cannot be read, and is answered by that error, in its turn.
        """
        request.zxid = zxid
        op = request.op
        try:
            if op == codes.OP_SET_DATA:
                self._prepare_set_data(request, zxid, now_ms)
            elif op == codes.OP_CREATE or op == codes.OP_CREATE2:
                self._prepare_create(request, zxid, now_ms)
            elif op == codes.OP_DELETE:
                self._prepare_delete(request, zxid, now_ms)
            elif op == codes.OP_MULTI:
                self._prepare_multi(request, zxid, now_ms)
            else:
                self._prepare_rare(request, zxid, now_ms)
        except KeeperError as error:
            self.refuse(request, zxid, now_ms, error.code)
        except MarshallingError:
            self._refuse_unreadable(request, zxid, now_ms)
        if len(request.payload) > self._max_payload_bytes:
            # Once logged it could never be read again (ZOOKEEPER-3496): an ACL `auth` stands for all a client's ids.
            self._tree.discard(request.change)
            self.refuse(request, zxid, now_ms, errors.MARSHALLING_ERROR)

    def _prepare_rare(self, request: Request, zxid: int, now_ms: int) -> None:
        op = request.op
        if op == codes.OP_CREATE_CONTAINER:
            self._prepare_create(request, zxid, now_ms)
        elif op == codes.OP_CLOSE_SESSION:
            self._prepare_close(request, zxid, now_ms)
        else:
            r = Reader(request.body, request.pos, request.end)
            self._propose(request, zxid, now_ms, self._rare_change(request, zxid, now_ms, r))

    def _rare_change(self, request: Request, zxid: int, now_ms: int, r: Reader) -> Change:
        op = request.op
        if op == codes.OP_CREATE_TTL:
            ttl_record = CreateTTLRequest.read(r)
            return self._create(
                request,
                zxid,
                now_ms,
                op,
                ttl_record.path,
                encode_buffer(ttl_record.data),
                ttl_record.acl,
                ttl_record.flags,
                ttl_record.ttl,
            )
        if op == codes.OP_SET_ACL:
            return self._set_acl(request, zxid, SetACLRequest.read(r))
        if op == codes.OP_CREATE_SESSION:
            return self._tree.stage_create_session(zxid, request.session_id, r.int32())
        if op == codes.OP_DELETE_CONTAINER:
            return self._delete_container(zxid, r.path())
        if op == codes.OP_RECONFIG:
            wish = r.string(), r.string(), r.string(), r.int64()
            if not self._config.reconfig_enabled:
                raise ReconfigDisabled
            self._sessions.check(request.session_id, request.conn)
            if self._planner is not None:
                return _stage_config(self._tree, self._access, request, now_ms, self._planner.next_config(*wish, zxid))
        raise Unimplemented

    # What becomes of a change

    def _refuse_unreadable(self, request: Request, zxid: int, now_ms: int) -> None:
        """Java gives no zxid to what it cannot read; a multi, and a null path that it stumbles over later, have one."""
        op = request.op
        if op == codes.OP_MULTI:
            self.refuse(request, zxid, now_ms, errors.MARSHALLING_ERROR)
        elif is_readable(op, request.body, request.pos, request.end):
            self.refuse(request, zxid, now_ms, self._error_without_path(request))
        else:
            request.zxid = zxid - 1
            request.payload = b""
            request.change = self._tree.stage_nothing(codes.OP_ERROR, zxid - 1, b"", errors.MARSHALLING_ERROR)

    def _error_without_path(self, request: Request) -> int:
        """What Java looks at before it stumbles over a null path: a create's flags and TTL, and then the session."""
        op = request.op
        r = Reader(_named(request.body, request.pos, request.end))
        try:
            if op == codes.OP_CREATE_TTL:
                record = CreateTTLRequest.read(r)
                if record.flags in _TTL_FLAGS or record.ttl >= 0:
                    self._owner_to_store(request, op, b"", record.flags, record.ttl)
            elif op in _CREATES:
                self._owner_to_store(request, op, b"", CreateRequest.read(r).flags, -1)
            self._sessions.check(request.session_id, request.conn)
        except KeeperError as error:
            return error.code
        # Only these two hand it to PathUtils.validatePath.
        is_looked_at = op == codes.OP_SET_DATA or op == codes.OP_SET_ACL
        return errors.BAD_ARGUMENTS if is_looked_at else errors.MARSHALLING_ERROR

    def refuse(self, request: Request, zxid: int, now_ms: int, err: int) -> None:
        """Makes the request an error txn; nothing of it is staged."""
        request.zxid = zxid
        head = _pack_header(request.session_id, request.xid, zxid, now_ms, codes.OP_ERROR)
        request.payload = head + _pack_int(err)
        request.change = self._tree.stage_nothing(codes.OP_ERROR, zxid, b"", err)

    def _propose(self, request: Request, zxid: int, now_ms: int, change: Change) -> None:
        payload = _pack_header(request.session_id, request.xid, zxid, now_ms, request.op) + encode_change(change)
        request.payload = payload + self._digest()
        request.change = change

    def _digest(self) -> bytes:
        tree = self._tree
        return _pack_digest(DIGEST_VERSION, tree.staged_digest) if tree.digest_enabled else b""

    # setData

    def _prepare_set_data(self, request: Request, zxid: int, now_ms: int) -> None:
        """Read by hand: path, data and version are where the lengths say, and the txn starts with the same bytes."""
        body = request.body
        pos = request.pos
        end = request.end
        if end - pos >= 12:
            data_at = pos + 4 + _unpack_int(body, pos)[0]
            if pos + 4 < data_at <= end - 8:
                version_at = data_at + 4 + _unpack_int(body, data_at)[0]
                if data_at + 4 <= version_at <= end - 4:
                    expected = _unpack_int(body, version_at)[0]
                    change = self._set_data(
                        request, zxid, now_ms, body[pos + 4 : data_at], body[data_at:version_at], expected
                    )
                    tree = self._tree
                    node = change.node
                    assert node is not None, "a staged setData has its version"
                    head = _pack_header(request.session_id, request.xid, zxid, now_ms, codes.OP_SET_DATA)
                    payload = head + body[pos:version_at] + node.body[_VERSION_AT : _VERSION_AT + 4]
                    if tree.digest_enabled:
                        payload += _pack_digest(DIGEST_VERSION, change.digest)
                    request.payload = payload
                    request.change = change
                    return
        record = SetDataRequest.read(Reader(body, pos, end))
        change = self._set_data(request, zxid, now_ms, record.path, encode_buffer(record.data), record.version)
        self._propose(request, zxid, now_ms, change)

    def _set_data(self, request: Request, zxid: int, now_ms: int, path: bytes, buffer: bytes, expected: int) -> Change:
        self._sessions.check(request.session_id, request.conn)
        tree = self._tree
        node = tree.staged.get(path) or tree.nodes.get(path)
        if node is None or not node.body:
            # A path that is there is valid; only now it matters which of the two errors it is.
            validate_path(path)
            raise NoNode(path)
        if not node.acl.is_open and not self._access.allows(node.acl, codes.PERM_WRITE, request.auth):
            raise NoAuth(path)
        if self._enforce_quota:
            self._check_quota(path, len(buffer) + BODY_OVERHEAD - 4 - len(node.body), 0)
        version: int = _unpack_int(node.body, _VERSION_AT)[0]
        if expected != version and expected != -1:
            raise BadVersion(path)
        version = version + 1 if version != INT_MAX else -INT_MAX - 1
        return tree.stage_set_data(zxid, now_ms, path, node, buffer, version)

    # create

    def _prepare_create(self, request: Request, zxid: int, now_ms: int) -> None:
        """By hand as setData, when the ACL is the open one; then path, data and ACL stand in the txn as they came."""
        body = request.body
        pos = request.pos
        end = request.end
        if end - pos >= 12:
            data_at = pos + 4 + _unpack_int(body, pos)[0]
            if pos + 4 < data_at <= end - 8:
                acl_at = data_at + 4 + _unpack_int(body, data_at)[0]
                flags_at = acl_at + len(OPEN_WIRE)
                if data_at + 4 <= acl_at and flags_at <= end - 4 and body.startswith(OPEN_WIRE, acl_at):
                    self._create_open(request, zxid, now_ms, data_at, acl_at)
                    return
        record = CreateRequest.read(Reader(body, pos, end))
        change = self._create(
            request, zxid, now_ms, request.op, record.path, encode_buffer(record.data), record.acl, record.flags, -1
        )
        self._propose(request, zxid, now_ms, change)

    def _create_open(self, request: Request, zxid: int, now_ms: int, data_at: int, acl_at: int) -> None:
        body = request.body
        pos = request.pos
        op = request.op
        flags_at = acl_at + len(OPEN_WIRE)
        path = body[pos + 4 : data_at]
        flags: int = _unpack_int(body, flags_at)[0]
        change = self._create(request, zxid, now_ms, op, path, body[data_at:acl_at], _OPEN_ENTRIES, flags, -1)
        if op == codes.OP_CREATE_CONTAINER:
            self._propose(request, zxid, now_ms, change)
            return
        parent = change.old_parent
        assert parent is not None, "a staged create has its parent"
        payload = _pack_header(request.session_id, request.xid, zxid, now_ms, op)
        if change.path is path:
            payload += body[pos:flags_at]
        else:
            payload += _pack_int(len(change.path)) + change.path + body[data_at:flags_at]
        # Only odd flags are for ephemerals here, 5 being a TTL's.
        if self._tree.digest_enabled:
            payload += _pack_create_end(flags & 1 != 0, _next_cversion(parent), DIGEST_VERSION, change.digest)
        else:
            payload += _pack_create_tail(flags & 1 != 0, _next_cversion(parent))
        request.payload = payload
        request.change = change

    def _create(
        self,
        request: Request,
        zxid: int,
        now_ms: int,
        op: int,
        path: bytes,
        buffer: bytes,
        entries: list[ACL] | None,
        flags: int,
        ttl: int,
    ) -> Change:
        owner = 0
        if flags or op == codes.OP_CREATE_CONTAINER or op == codes.OP_CREATE_TTL:
            owner = self._owner_to_store(request, op, path, flags, ttl)
        self._sessions.check(request.session_id, request.conn)
        slash = path.rfind(b"/")
        if slash < 0 or b"\0" in path:
            raise BadArguments(path)
        fixed: list[ACL] | None = _OPEN_ENTRIES
        if entries is not _OPEN_ENTRIES:
            fixed = self._access.fixup(entries, request.auth)
            if fixed is None:
                raise InvalidACL(path)
        tree = self._tree
        parent_path = path[:slash] or ROOT
        parent = tree.find(parent_path)
        if parent is None:
            raise NoNode(parent_path)
        if not parent.acl.is_open and not self._access.allows(parent.acl, codes.PERM_CREATE, request.auth):
            raise NoAuth(path)
        if flags and flags in _SEQUENTIAL_FLAGS:
            path = b"%s%010d" % (path, parent.cversion)
        # The parent is there, so it is valid (but for the root found under "//"); a plain name makes all of it valid.
        if slash == 1 or not path[slash + 1 :].isalnum():
            validate_path(path)
        old = tree.staged.get(path) or tree.nodes.get(path)
        if old is not None and old.body:
            raise NodeExists(path)
        if parent.owner and tree.kinds.kind(parent.owner) == KIND_EPHEMERAL:
            raise NoChildrenForEphemerals(path)
        if self._enforce_quota:
            self._check_quota(path, len(buffer) - 4, 1)
        acl = self._acls.open if fixed is _OPEN_ENTRIES else self._acls.intern(fixed)
        cversion = _next_cversion(parent)
        return tree.stage_create(op, zxid, now_ms, path, buffer, acl, owner, cversion, parent_path, parent, old)

    def _owner_to_store(self, request: Request, op: int, path: bytes, flags: int, ttl: int) -> int:
        """The owner that the txn gives the znode, after CreateMode.fromFlag and EphemeralType.validateTTL.

        What counts is the type of the txn, so flags for a container do not make one in a plain create, as in Java.
        createTTL without a TTL mode Java lets pass and dies of when it applies it; that is refused.
        """
        if flags < 0 or flags > codes.FLAG_PERSISTENT_SEQUENTIAL_WITH_TTL:
            raise BadArguments(path)
        if flags in _TTL_FLAGS:
            if not self._tree.kinds.extended_types:
                raise Unimplemented(path)
            if not 0 < ttl <= codes.TTL_MAX_MS:
                raise BadArguments(path)
        elif op == codes.OP_CREATE_TTL:
            raise BadArguments(path)
        if op == codes.OP_CREATE_TTL:
            return ttl_owner(ttl)
        if op == codes.OP_CREATE_CONTAINER:
            return codes.OWNER_CONTAINER
        return request.session_id if flags in _EPHEMERAL_FLAGS else 0

    # delete

    def _prepare_delete(self, request: Request, zxid: int, now_ms: int) -> None:
        """By hand as well: the txn is the path as it came."""
        body = request.body
        pos = request.pos
        if request.end - pos >= 8:
            version_at = pos + 4 + _unpack_int(body, pos)[0]
            if pos + 4 <= version_at <= request.end - 4:
                expected: int = _unpack_int(body, version_at)[0]
                change = self._delete(request, zxid, body[pos + 4 : version_at], expected)
                payload = _pack_header(request.session_id, request.xid, zxid, now_ms, codes.OP_DELETE)
                payload += body[pos:version_at]
                if self._tree.digest_enabled:
                    payload += _pack_digest(DIGEST_VERSION, change.digest)
                request.payload = payload
                request.change = change
                return
        raise MarshallingError("a delete without path or version")

    def _delete(self, request: Request, zxid: int, path: bytes, expected: int) -> Change:
        self._sessions.check(request.session_id, request.conn)
        tree = self._tree
        parent_path = _deletable_parent(path)
        parent = tree.find(parent_path)
        if parent is None:
            raise NoNode(parent_path)
        if not parent.acl.is_open and not self._access.allows(parent.acl, codes.PERM_DELETE, request.auth):
            raise NoAuth(path)
        node = tree.find(path)
        if node is None:
            raise NoNode(path)
        if expected != -1 and expected != _unpack_int(node.body, _VERSION_AT)[0]:
            raise BadVersion(path)
        if node.child_count():
            raise NotEmpty(path)
        return tree.stage_delete(codes.OP_DELETE, zxid, path, node, parent_path, parent)

    def _delete_container(self, zxid: int, path: bytes) -> Change:
        """Of the server's own: the znode may have changed since it was found idle.

        Java only spares session's ephemerals here, so a persistent znode that took the place would go with them.
        """
        tree = self._tree
        parent_path = _deletable_parent(path)
        node = tree.find(path)
        parent = tree.find(parent_path)
        if node is None or parent is None:
            raise NoNode(path)
        if node.child_count():
            raise NotEmpty(path)
        if tree.kinds.kind(node.owner) not in (KIND_CONTAINER, KIND_TTL):
            raise BadVersion(path)
        return tree.stage_delete(codes.OP_DELETE_CONTAINER, zxid, path, node, parent_path, parent)

    # setACL, check

    def _set_acl(self, request: Request, zxid: int, record: SetACLRequest) -> Change:
        self._sessions.check(request.session_id, request.conn)
        path = record.path
        validate_path(path)
        fixed = self._access.fixup(record.acl, request.auth)
        if fixed is None:
            raise InvalidACL(path)
        tree = self._tree
        node = tree.find(path)
        if node is None:
            raise NoNode(path)
        if not self._access.allows(node.acl, codes.PERM_ADMIN, request.auth):
            raise NoAuth(path)
        aversion: int = _unpack_int(node.body, _AVERSION_AT)[0]
        if record.version != -1 and record.version != aversion:
            raise BadVersion(path)
        return tree.stage_set_acl(zxid, path, node, self._acls.intern(fixed), wrap32(aversion + 1))

    def _check(self, request: Request, zxid: int, path: bytes, expected: int) -> Change:
        self._sessions.check(request.session_id, request.conn)
        validate_path(path)
        tree = self._tree
        node = tree.find(path)
        if node is None:
            raise NoNode(path)
        if not self._access.allows(node.acl, codes.PERM_READ, request.auth):
            raise NoAuth(path)
        version: int = _unpack_int(node.body, _VERSION_AT)[0]
        if expected != -1 and expected != version:
            raise BadVersion(path)
        change = tree.stage_nothing(codes.OP_CHECK, zxid, path, errors.OK)
        # Kept for the txn only, which says what the version would be if this were a write.
        change.old = node
        return change

    # multi

    def _prepare_multi(self, request: Request, zxid: int, now_ms: int) -> None:
        ops = read_multi(Reader(request.body, request.pos, request.end))
        if are_reads(ops):
            raise MarshallingError("reads in a multi")
        tree = self._tree
        subs: list[Change] = []
        parts: list[bytes] = []
        err = errors.OK
        for op in ops:
            try:
                change = self._stage_part(request, zxid, now_ms, op)
            except KeeperError as error:
                err = error.code
                break
            subs.append(change)
            parts.append(_encode_part(op.op, encode_change(change)))
        if err != errors.OK:
            for change in reversed(subs):
                tree.discard(change)
            self._fail_rest(zxid, ops, subs, parts, err)
        w = Writer()
        w.raw(_pack_header(request.session_id, request.xid, zxid, now_ms, codes.OP_MULTI))
        w.int32(len(parts))
        for part in parts:
            w.raw(part)
        w.raw(self._digest())
        request.payload = w.getvalue()
        request.change = tree.join(zxid, subs, err)

    def _fail_rest(self, zxid: int, ops: list[MultiOp], subs: list[Change], parts: list[bytes], err: int) -> None:
        """Turns the results of a failed multi into errors: 0 before the culprit, -2 behind it.

        The txns of those before it stay in the log's multi, where the error among them keeps them from being applied.
        """
        tree = self._tree
        failed_at = len(subs)
        subs.clear()
        for index in range(len(ops)):
            code = errors.OK if index < failed_at else err if index == failed_at else errors.RUNTIME_INCONSISTENCY
            subs.append(tree.stage_nothing(codes.OP_ERROR, zxid, b"", code))
            if index >= failed_at:
                parts.append(_encode_part(codes.OP_ERROR, _pack_int(code)))

    def _stage_part(self, request: Request, zxid: int, now_ms: int, op: MultiOp) -> Change:
        if op.op == codes.OP_SET_DATA:
            return self._set_data(request, zxid, now_ms, op.path, encode_buffer(op.data), op.version)
        if op.op == codes.OP_CHECK:
            return self._check(request, zxid, op.path, op.version)
        if op.op == codes.OP_DELETE:
            return self._delete(request, zxid, op.path, op.version)
        return self._create(request, zxid, now_ms, op.op, op.path, encode_buffer(op.data), op.acl, op.flags, op.ttl)

    # Sessions and quotas

    def _prepare_close(self, request: Request, zxid: int, now_ms: int) -> None:
        """Not checked against the session's state: whoever closes it, it is the last of it."""
        tree = self._tree
        session_id = request.session_id
        paths = tree.session_paths(session_id)
        change = tree.stage_close_session(zxid, session_id, paths)
        self._sessions.set_closing(session_id)
        w = Writer()
        w.raw(_pack_header(session_id, request.xid, zxid, now_ms, codes.OP_CLOSE_SESSION))
        paths = self._fitting(paths)
        w.int32(len(paths))
        for path in paths:
            w.path(path)
        w.raw(self._digest())
        request.payload = w.getvalue()
        request.change = change

    def _fitting(self, paths: list[bytes]) -> list[bytes]:
        """As many paths as fit into a txn that can be read back (ZOOKEEPER-4306).

        The list is there for fuzzy snapshots only: whoever applies the txn deletes all that the session owns.
        """
        left = self._max_payload_bytes - _CLOSE_OVERHEAD
        for index, path in enumerate(paths):
            left -= 4 + len(path)
            if left < 0:
                return paths[:index]
        return paths

    def _check_quota(self, path: bytes, size_bytes: int, count: int) -> None:
        """Against what is committed, not what is staged, as in Java; so pipelined writes may pass a limit a little."""
        tree = self._tree
        prefix = tree.quotas.find(path)
        if prefix is None:
            return
        limits = tree.nodes.get(limit_path(prefix))
        stats = tree.nodes.get(stat_path(prefix))
        if limits is None or stats is None:
            return
        for breach in check_quota(prefix, limits.data(), stats.data(), count=count, size_bytes=size_bytes):
            if len(self.breaches) < _MAX_BREACHES:
                self.breaches.append(breach)
            if breach.is_hard:
                raise QuotaExceeded(prefix)


def _stage_config(tree: Tree, access: Access, request: Request, now_ms: int, text: bytes) -> Change:
    """A reconfig: data of the config znode, whose own version is always -1."""
    node = tree.find(CONFIG)
    if node is None:
        raise NoNode(CONFIG)
    if not access.allows(node.acl, codes.PERM_WRITE, request.auth):
        raise NoAuth(CONFIG)
    return tree.stage_set_data(request.zxid, now_ms, CONFIG, node, encode_buffer(text), -1)


# The request's ACL is world:anyone ALL, recognised by its bytes.
_OPEN_ENTRIES: Final[list[ACL]] = []


def is_readable(op: int, body: bytes, pos: int, end: int) -> bool:
    """Whether a client's write becomes a txn, if only an error: what is none must be answered by whom it was sent to.

    As `prepare` reads it: a multi is always one, and what is whole but for a null path, which Java stumbles over later.
    """
    if op == codes.OP_MULTI or op == codes.OP_CLOSE_SESSION:
        return True
    if body.startswith(NULL_LENGTH, pos, end) and op != codes.OP_RECONFIG:
        named = _named(body, pos, end)
        return is_readable(op, named, 0, len(named))
    if end - pos < 8:
        return False
    data_at: int = pos + 4 + _unpack_int(body, pos)[0]
    if op == codes.OP_DELETE:
        return pos + 4 <= data_at <= end - 4
    if pos + 4 < data_at <= end - 8:
        next_at: int = data_at + 4 + _unpack_int(body, data_at)[0]
        if data_at + 4 <= next_at:
            if op == codes.OP_SET_DATA and next_at <= end - 4:
                return True
            if op in _PLAIN_CREATES and next_at + len(OPEN_WIRE) <= end - 4 and body.startswith(OPEN_WIRE, next_at):
                return True
    return _is_record(op, Reader(body, pos, end))


def _named(body: bytes, pos: int, end: int) -> bytes:
    """A request with a null path, with an empty one in its place."""
    return _pack_int(0) + body[pos + 4 : end]


def _is_record(op: int, r: Reader) -> bool:
    try:
        if op == codes.OP_SET_DATA:
            SetDataRequest.read(r)
        elif op == codes.OP_CREATE_TTL:
            CreateTTLRequest.read(r)
        elif op == codes.OP_SET_ACL:
            SetACLRequest.read(r)
        elif op == codes.OP_RECONFIG:
            ReconfigRequest.read(r)
        else:
            CreateRequest.read(r)
    except MarshallingError:
        return False
    return True


def _next_cversion(parent: Znode) -> int:
    creates = parent.cversion
    return creates + 1 if creates != INT_MAX else -INT_MAX - 1


def _deletable_parent(path: bytes) -> bytes:
    if b"/" not in path or b"\0" in path or path in SPECIAL_PATHS:
        raise BadArguments(path)
    return parent_of(path)


def _encode_part(op: int, record: bytes) -> bytes:
    return _pack_int(op) + _pack_int(len(record)) + record


def encode_change(change: Change) -> bytes:
    """The txn record of a change that was prepared here."""
    op = change.op
    path = change.path
    node = change.node
    head = _pack_int(len(path)) + path
    if op == codes.OP_DELETE or op == codes.OP_DELETE_CONTAINER:
        return head
    if op == codes.OP_CREATE_SESSION:
        return _pack_int(change.timeout_ms)
    if node is None:
        old = change.old
        assert old is not None, "a check knows what it found"
        version: int = _unpack_int(old.body, _VERSION_AT)[0]
        return head + _pack_int(wrap32(version + 1))
    if op == codes.OP_SET_DATA:
        return head + node.buffer() + node.body[_VERSION_AT : _VERSION_AT + 4]
    if op == codes.OP_SET_ACL:
        return head + node.acl.wire + node.body[_AVERSION_AT : _AVERSION_AT + 4]
    parent = change.old_parent
    assert parent is not None, "a staged create has its parent"
    head += node.buffer() + node.acl.wire
    if op == codes.OP_CREATE_CONTAINER:
        return head + _pack_int(_next_cversion(parent))
    if op == codes.OP_CREATE_TTL:
        return head + _pack_int(_next_cversion(parent)) + _pack_long(node.owner & codes.TTL_MAX_MS)
    return head + _pack_create_tail(node.owner != 0, _next_cversion(parent))
