"""A server of the core room alone, for its tests: requests in, replies and events out, nothing in between.

Knows how requests are written. Time is `now_ms`, which a test sets; txns are committed at once unless it
says otherwise.
"""

from __future__ import annotations

from struct import pack

from coati.core.acl import Access, AccessConfig
from coati.core.answer import Answers, notifications, write_reply
from coati.core.change import Change
from coati.core.load import ZnodeTuple
from coati.core.prepare import Planner, PrepareConfig, Preparer, Request
from coati.core.sessions import SessionTable
from coati.core.tree import Tree, TreeConfig, pristine
from coati.core.watches import Watches
from coati.core.znode import Znode
from coati.wire import codes
from coati.wire.jute import Reader, Writer
from coati.wire.records import ACL, ErrorResponse, Id, MultiHeader, ReplyHeader, Stat, WatcherEvent
from coati.wire.txns import TxnHeader, TxnRecord, decode_txn

OPEN = [ACL(31, Id("world", "anyone"))]
READ_ONLY = [ACL(1, Id("world", "anyone"))]
NOBODY = [ACL(31, Id("digest", "nobody:x"))]
T0 = 1_700_000_000_000


def jint(value: int) -> bytes:
    return pack(">i", value)


def jlong(value: int) -> bytes:
    return pack(">q", value)


def jbuf(value: bytes | None) -> bytes:
    return jint(-1) if value is None else jint(len(value)) + value


def jvec(paths: list[bytes]) -> bytes:
    return jint(len(paths)) + b"".join(map(jbuf, paths))


def jacl(entries: list[ACL] | None) -> bytes:
    if entries is None:
        return jint(-1)
    w = Writer()
    for entry in entries:
        entry.write(w)
    return jint(len(entries)) + w.getvalue()


def packed(path: bytes, data: bytes | None, key: int, *stat: int) -> ZnodeTuple:
    """A znode as a snapshot's reader gives it; `stat` are the fields of StatPersisted."""
    raw = pack(">qqqqiiiqq", *stat)
    return path, data, key, raw[:16], raw[16:-8], raw[-8:]


def create_body(path: bytes, data: bytes | None = b"", acl: list[ACL] | None = OPEN, flags: int = 0) -> bytes:
    return jbuf(path) + jbuf(data) + jacl(acl) + jint(flags)


def multi_body(*ops: tuple[int, bytes]) -> bytes:
    parts = [jint(op) + b"\0" + jint(-1) + body for op, body in ops]
    return b"".join(parts) + jint(-1) + b"\1" + jint(-1)


class Client:
    """A watcher: what core may know of a connection, and the event frames it was sent."""

    def __init__(self, session_id: int) -> None:
        self.session_id = session_id
        self.auth: list[Id] = [Id("ip", "127.0.0.1")]
        self.frames: list[bytes] = []

    def take_events(self) -> list[tuple[int, bytes, int]]:
        """Type, path and header zxid of the events since the last call."""
        frames, self.frames = self.frames, []
        return [read_event(frame) for frame in frames]


def read_event(frame: bytes) -> tuple[int, bytes, int]:
    r = Reader(frame, 4)
    header = ReplyHeader.read(r)
    assert header.xid == codes.XID_NOTIFICATION
    event = WatcherEvent.read(r)
    assert event.state == codes.STATE_SYNC_CONNECTED
    assert len(frame) == 4 + Reader(frame).int32() == r.pos
    return event.type, event.path, header.zxid


class Reply:
    """A reply frame taken apart: header fields, and a reader behind them."""

    def __init__(self, frame: bytes) -> None:
        assert len(frame) == 4 + Reader(frame).int32()
        self.frame = frame
        self.r = Reader(frame, 4)
        header = ReplyHeader.read(self.r)
        self.xid, self.zxid, self.err = header.xid, header.zxid, header.err

    def stat(self) -> Stat:
        return Stat.read(self.r)

    def paths(self) -> list[bytes]:
        return [self.r.path() for _ in range(self.r.count())]

    def at_end(self) -> bool:
        return self.r.left() == 0


def stat_of(node: Znode) -> Stat:
    """The Stat as clients see it."""
    return Stat.read(Reader(node.stat()))


class Core:
    """One server's core."""

    def __init__(
        self,
        *,
        tree: Tree | None = None,
        extended_types: bool = False,
        enforce_quota: bool = False,
        reconfig_enabled: bool = False,
        access: AccessConfig | None = None,
        digest_enabled: bool = True,
        max_payload_bytes: int = 1 << 20,
        planner: Planner | None = None,
    ) -> None:
        config = TreeConfig(extended_types=extended_types, digest_enabled=digest_enabled)
        self.tree = tree or pristine(config)
        self.sessions = SessionTable(2000, 1, 0)
        self.access = Access(access)
        self.watches = Watches()
        prepare_config = PrepareConfig(
            enforce_quota=enforce_quota, reconfig_enabled=reconfig_enabled, max_payload_bytes=max_payload_bytes
        )
        self.preparer = Preparer(self.tree, self.sessions, self.access, prepare_config, planner)
        self.answers = Answers(self.tree, self.watches, self.access)
        self.zxid = self.tree.last_zxid
        self.now_ms = T0
        self.xid = 0
        self.log: list[bytes] = []

    def connect(self, session_id: int, timeout_ms: int = 30_000) -> Client:
        client = Client(session_id)
        self.sessions.track(session_id, timeout_ms, 0).owner = client
        self.write(client, codes.OP_CREATE_SESSION, jint(timeout_ms))
        return client

    def prepare(self, client: Client | None, op: int, body: bytes = b"", *, session_id: int = 0) -> Request:
        """Prepares without committing; the request stands in the middle of a longer buffer, as on the wire."""
        self.zxid += 1
        self.xid += 1
        auth = [] if client is None else client.auth
        owner_id = session_id if client is None else client.session_id
        frame = b"\xaa\xbb" + body + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"
        request = Request(client, owner_id, self.xid, op, frame, 2, 2 + len(body), auth)
        self.preparer.prepare(request, self.zxid, self.now_ms)
        if request.payload:
            self.log.append(request.payload)
        else:
            self.zxid -= 1
        return request

    def deliver(self, proposal: Request) -> Reply:
        change = proposal.change
        self.tree.commit(change)
        self.note_session(change)
        for watcher, frame in notifications(self.watches, self.access, self.tree.triggers(change), proposal.zxid):
            assert isinstance(watcher, Client)
            watcher.frames.append(frame)
        return Reply(write_reply(proposal.op, proposal.xid, change))

    def note_session(self, change: Change) -> None:
        if change.op == codes.OP_CREATE_SESSION:
            self.sessions.commit_create(change.session_id, change.timeout_ms)
        elif change.op == codes.OP_CLOSE_SESSION:
            self.sessions.commit_close(change.session_id)

    def write(self, client: Client | None, op: int, body: bytes = b"", *, session_id: int = 0) -> Reply:
        return self.deliver(self.prepare(client, op, body, session_id=session_id))

    def read_frames(self, client: Client, op: int, body: bytes = b"") -> bytes:
        self.xid += 1
        return self.answers.answer(client, self.xid, op, b"\xcc" + body + b"\xff\xff\xff\xff", 1, 1 + len(body))

    def read(self, client: Client, op: int, body: bytes = b"") -> Reply:
        return Reply(self.read_frames(client, op, body))

    def node(self, path: bytes) -> Znode:
        return self.tree.nodes[path]

    def stat(self, path: bytes) -> Stat:
        return stat_of(self.tree.nodes[path])

    def last_txn(self) -> TxnRecord:
        return decode_txn(self.log[-1])

    # Short forms.

    def create(self, client: Client, path: bytes, data: bytes | None = b"", **more: object) -> Reply:
        acl = more.get("acl", OPEN)
        assert acl is None or isinstance(acl, list)
        flags = more.get("flags", 0)
        assert isinstance(flags, int)
        return self.write(client, codes.OP_CREATE, create_body(path, data, acl, flags))

    def set(self, client: Client, path: bytes, data: bytes | None, version: int = -1) -> Reply:
        return self.write(client, codes.OP_SET_DATA, jbuf(path) + jbuf(data) + jint(version))

    def delete(self, client: Client, path: bytes, version: int = -1) -> Reply:
        return self.write(client, codes.OP_DELETE, jbuf(path) + jint(version))

    def set_acl(self, client: Client, path: bytes, acl: list[ACL] | None, version: int = -1) -> Reply:
        return self.write(client, codes.OP_SET_ACL, jbuf(path) + jacl(acl) + jint(version))

    def multi(self, client: Client, *ops: tuple[int, bytes]) -> Reply:
        return self.write(client, codes.OP_MULTI, multi_body(*ops))

    def close(self, session_id: int) -> Reply:
        return self.write(None, codes.OP_CLOSE_SESSION, session_id=session_id)


def multi_results(reply: Reply) -> list[tuple[int, int]]:
    """Type and error of each result; the bodies are read past."""
    results: list[tuple[int, int]] = []
    r = reply.r
    while not (header := MultiHeader.read(r)).done:
        results.append((header.type, header.err))
        if header.type == codes.OP_ERROR:
            assert ErrorResponse.read(r).err == header.err
        if header.type in (codes.OP_CREATE, codes.OP_CREATE2):
            r.path()
        if header.type in (codes.OP_CREATE2, codes.OP_SET_DATA):
            Stat.read(r)
    assert (header.type, header.err) == (-1, -1)
    assert reply.at_end()
    return results


def header(type_: int, zxid: int, *, client_id: int = 7, time_ms: int = T0) -> TxnHeader:
    return TxnHeader(client_id, 1, zxid, time_ms, type_)


# What a znode is to everybody: everything but its caches.
Image = tuple[bytes, int, int, bytes, tuple[bytes, ...]]


def image(tree: Tree) -> dict[bytes, Image]:
    """All of a tree that must be equal for two trees to be the same."""
    images: dict[bytes, Image] = {}
    for path, node in tree.nodes.items():
        children = () if node.children is None else tuple(sorted(node.children.paths))
        images[path] = (node.body, node.cversion, node.owner, node.acl.wire, children)
    return images
