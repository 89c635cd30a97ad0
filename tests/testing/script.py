"""Histories by hand: an ideal server that answers as the log says, until a test makes it say something else."""

from __future__ import annotations

from coati import errors
from coati.testing.history import Event, History, Return
from coati.testing.requests import parent_path, read_write
from coati.testing.timeline import Timeline, read_body, reply_of
from coati.wire import codes
from coati.wire.jute import Writer
from coati.wire.records import (
    ACL,
    AddWatchRequest,
    AuthPacket,
    CreateRequest,
    DeleteRequest,
    GetDataRequest,
    Id,
    MultiHeader,
    SetDataRequest,
    SetWatches2,
    SyncRequest,
)
from coati.wire.txns import (
    AnyTxn,
    CloseSessionTxn,
    CreateSessionTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetDataTxn,
    Txn,
    TxnHeader,
    decode_txn,
    encode_record,
    encode_txn,
)

OPEN = [ACL(codes.PERM_ALL, Id("world", "anyone"))]
SECRET = [ACL(codes.PERM_ALL, Id("digest", "bob:x"))]
BASE = 1 << 56


def packed(record: object) -> bytes:
    w = Writer()
    record.write(w)  # type: ignore[attr-defined]  # any record has it
    return w.getvalue()


class Script:
    """Log and history; `last` is the line that was written last."""

    def __init__(self) -> None:
        self.now_ms = 1000
        self.history = History(lambda: self.now_ms)
        self.log: list[tuple[int, bytes]] = []
        self.timeline = Timeline()
        self.epoch = 1
        self.sessions = BASE

    @property
    def zxid(self) -> int:
        return self.timeline.last_zxid()

    @property
    def last(self) -> Return:
        line = self.history.lines[-1]
        assert isinstance(line, Return)
        return line

    def event(self) -> Event:
        """The last event."""
        return next(line for line in reversed(self.history.lines) if isinstance(line, Event))

    def commit(self, session_id: int, cxid: int, op: int, txn: AnyTxn) -> int:
        """Puts a txn into the log."""
        zxid = self.zxid + 1 if self.zxid >> 32 == self.epoch else self.epoch << 32 | 1
        payload = encode_txn(TxnHeader(session_id, cxid, zxid, self.now_ms, op), txn, None)
        self.log.append((zxid, payload))
        self.timeline.apply(decode_txn(payload))
        return zxid

    def client(self, timeout_ms: int = 6000) -> Client:
        """With a new session."""
        self.sessions += 1
        self.commit(self.sessions, 0, codes.OP_CREATE_SESSION, CreateSessionTxn(timeout_ms))
        client = Client(self, self.sessions, timeout_ms)
        client.connect(0)
        return client


class Client:
    """One client. Writes come in two halves, so that they may overlap: `call` and `answer`."""

    def __init__(self, script: Script, session_id: int, timeout_ms: int) -> None:
        self.script = script
        self.session_id = session_id
        self.timeout_ms = timeout_ms
        self.conn = 0
        self.xid = 0

    def connect(self, asked: int | None = None, *, server: int = 1, has_password: bool = True) -> None:
        history = self.script.history
        asked = self.session_id if asked is None else asked
        last = self.script.zxid if asked else 0
        self.conn = history.connecting(server, session_id=asked, last_zxid=last, has_password=has_password)
        history.connected(self.conn, self.session_id, self.timeout_ms)

    def call(self, op: int, body: bytes, xid: int = 0) -> int:
        if not xid:
            self.xid += 1
            xid = self.xid
        self.script.now_ms += 10
        self.script.history.called(self.conn, self.session_id, xid, op, body)
        return xid

    def answer(self, xid: int, zxid: int, err: int, body: bytes = b"") -> None:
        self.script.now_ms += 10
        self.script.history.returned(self.conn, self.session_id, (xid, zxid, err), body)

    def told(self, event_type: int, path: bytes, zxid: int | None = None) -> None:
        zxid = self.script.zxid if zxid is None else zxid
        self.script.history.fired(self.conn, self.session_id, zxid, event_type, path)

    # Writes

    def write(self, op: int, body: bytes, txn_op: int, txn: AnyTxn) -> None:
        """Called, committed and answered."""
        xid = self.call(op, body)
        self.settle(xid, op, body, self.script.commit(self.session_id, xid, txn_op, txn))

    def settle(self, xid: int, op: int, body: bytes, zxid: int) -> None:
        """The answer to what was committed."""
        write = read_write(op, body)
        assert write is not None
        self.answer(xid, zxid, *reply_of(write, self.script.timeline.done[zxid]))

    def create(
        self, path: bytes, data: bytes = b"", flags: int = 0, *, shift: int = 0, acl: list[ACL] | None = None
    ) -> bytes:
        """`shift` is added to the number of a sequential name."""
        parent = self.script.timeline.at(parent_path(path), self.script.zxid)
        assert parent is not None
        body = packed(CreateRequest(path, data, acl or OPEN, flags))
        if flags & 2:
            path += b"%010d" % (parent.creates + shift)
        txn = CreateTxn(path, data, acl or OPEN, flags & 1 != 0, parent.creates + 1)
        self.write(codes.OP_CREATE2, body, codes.OP_CREATE2, txn)
        return path

    def set(self, path: bytes, data: bytes, version: int = -1) -> None:
        node = self.script.timeline.at(path, self.script.zxid)
        assert node is not None
        txn = SetDataTxn(path, data, node.version + 1)
        self.write(codes.OP_SET_DATA, packed(SetDataRequest(path, data, version)), codes.OP_SET_DATA, txn)

    def delete(self, path: bytes, version: int = -1) -> None:
        self.write(codes.OP_DELETE, packed(DeleteRequest(path, version)), codes.OP_DELETE, DeleteTxn(path))

    def refused(self, path: bytes, version: int, err: int) -> None:
        """A setData that fails."""
        body = packed(SetDataRequest(path, b"no", version))
        self.write(codes.OP_SET_DATA, body, codes.OP_ERROR, ErrorTxn(err))

    def multi(self, *parts: tuple[int, bytes, AnyTxn]) -> None:
        """Op and body of the requests, and the txns they became."""
        w = Writer()
        for op, body, _ in parts:
            MultiHeader(op, False, -1).write(w)
            w.raw(body)
        MultiHeader(-1, True, -1).write(w)
        txns = [Txn(-1 if isinstance(txn, ErrorTxn) else op, encode_record(txn)) for op, _, txn in parts]
        self.write(codes.OP_MULTI, w.getvalue(), codes.OP_MULTI, MultiTxn(txns))

    def close(self) -> None:
        paths = list(self.script.timeline.owned.get(self.session_id, {}))
        self.write(codes.OP_CLOSE_SESSION, b"", codes.OP_CLOSE_SESSION, CloseSessionTxn(paths))

    # Reads

    def read(self, op: int, path: bytes, *, watch: bool = False, zxid: int | None = None) -> None:
        """As of a zxid, the last one by default."""
        zxid = self.script.zxid if zxid is None else zxid
        xid = self.call(op, packed(GetDataRequest(path, watch)))
        err, body = read_body(op, self.script.timeline, path, zxid)
        if body is None:
            node = self.script.timeline.at(path, zxid)
            assert node is not None
            w = Writer()
            names = self.script.timeline.children_at(path, zxid)
            w.int32(len(names))
            for name in names:
                w.path(name)
            body = w.getvalue() + (node.stat() if op == codes.OP_GET_CHILDREN2 else b"")
        self.answer(xid, zxid, err, body)

    def get(self, path: bytes, *, watch: bool = False, zxid: int | None = None) -> None:
        self.read(codes.OP_GET_DATA, path, watch=watch, zxid=zxid)

    def exists(self, path: bytes, *, watch: bool = False) -> None:
        self.read(codes.OP_EXISTS, path, watch=watch)

    def children(self, path: bytes, *, watch: bool = False) -> None:
        self.read(codes.OP_GET_CHILDREN2, path, watch=watch)

    def sync(self, zxid: int | None = None) -> None:
        xid = self.call(codes.OP_SYNC, packed(SyncRequest(b"/")))
        self.answer(xid, self.script.zxid if zxid is None else zxid, 0, packed(SyncRequest(b"/")))

    def add_watch(self, path: bytes, mode: int) -> None:
        self.answer(self.call(codes.OP_ADD_WATCH, packed(AddWatchRequest(path, mode))), self.script.zxid, 0)

    def add_auth(self, auth: bytes) -> None:
        body = packed(AuthPacket(0, "digest", auth))
        self.answer(self.call(codes.OP_AUTH, body, codes.XID_AUTH), 0, 0)

    def set_watches(self, zxid: int, *, data: bytes = b"", exists: bytes = b"", children: bytes = b"") -> int:
        """Only called."""
        first, second, third = ([path] if path else [] for path in (data, exists, children))
        body = packed(SetWatches2(zxid, first, second, third, [], []))
        return self.call(codes.OP_SET_WATCHES2, body, codes.XID_SET_WATCHES)


NO_NODE = errors.NO_NODE
