"""A whole replica under fire: two clients send what the input says, time passes, the disk catches up when told to.

An input is a script of steps, so that a search can reach what lies behind handshakes, writes in flight and watches:
raw bytes, whole requests, a sync, a tick, a reconnect. Whatever the clients send, no exception escapes the replica; at
the end every reply is a whole frame and the replies of a connection come in the order of its requests (W4), each txn
is read and written back alike, a second tree that replays them is the same to the last byte and digest, and the
tables agree with the tree. Knows the doors of server and core; must not know how the search works.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from coati.core.acl import Access, AccessConfig
from coati.core.answer import Answers
from coati.core.prepare import PrepareConfig, Preparer
from coati.core.replay import apply
from coati.core.sessions import SessionTable
from coati.core.tree import Tree, TreeConfig, pristine
from coati.core.watches import Watches
from coati.core.znode import MASK64, STAT_BYTES, digest_of, unpack_stat
from coati.errors import MARSHALLING_ERROR, UNIMPLEMENTED
from coati.server.pipeline import Conn
from coati.server.replica import Replica, ReplicaConfig
from coati.server.stats import ServerStats
from coati.wire import codes
from coati.wire.jute import Reader, Writer, frame
from coati.wire.records import (
    ACL,
    AddWatchRequest,
    AuthPacket,
    CheckVersionRequest,
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    CreateTTLRequest,
    DeleteRequest,
    GetDataRequest,
    Id,
    MultiHeader,
    ReplyHeader,
    SetACLRequest,
    SetDataRequest,
    SetWatches2,
    SyncRequest,
)
from coati.wire.txns import decode_txn, encode_txn
from coati.zab.solo import Solo

# super:secret, so that the search can become super.
SUPER_DIGEST = "super:lK75jTNcA+U9vtVEw5vB51mj/w4="
START_MS = 1_700_000_000_000
OPEN = ACL(31, Id("world", "anyone"))
# The steps: the low bits of a byte say which, the next one which client.
RAW, REQUEST, SYNC, TICK, RECONNECT = range(5)
CLIENT_BIT = 8
OPS = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 100, 101, 102, 103, 104, 105, 106, 107,
    -1, -10, -11, 0, 9999,
)  # fmt: skip
# Answered as they come, not behind the writes before them, as in ZooKeeperServer.processPacket.
OUT_OF_ORDER = (codes.OP_AUTH, codes.OP_SASL)


class Link:
    """The socket's side of a connection."""

    def __init__(self) -> None:
        self.is_closed = False
        self.is_choked = False

    def send(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


class Client:
    """What went over one connection: `sent` and `got` are streams, `ops` the requests that were sent whole."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self.sent = bytearray()
        self.got = bytearray()


class Machine:
    """A replica on an empty tree, with two clients."""

    def __init__(self) -> None:
        config = TreeConfig(extended_types=True)
        self.tree = pristine(config)
        self.twin = pristine(config)
        self.now_ms = 10_000
        access = Access(AccessConfig(super_digest=SUPER_DIGEST))
        self.watches = Watches()
        sessions = SessionTable(2000, 1, self.now_ms)
        self.replica = Replica(
            tree=self.tree,
            sessions=sessions,
            watches=self.watches,
            preparer=Preparer(self.tree, sessions, access, PrepareConfig(enforce_quota=True)),
            answers=Answers(self.tree, self.watches, access),
            access=access,
            broadcast=Solo(0),
            stats=ServerStats(),
            entropy=random.Random(0),
            config=ReplicaConfig(container_interval_ms=4000, container_max_never_used_ms=6000, outstanding_limit=20),
        )
        self._pass(0)
        self.past: list[Client] = []
        self.clients = [self._connect("127.0.0.1"), self._connect("::1")]

    def _connect(self, address: str) -> Client:
        conn = Conn(Link(), (address, 4000), self.now_ms)
        self.replica.on_connected(conn)
        return Client(conn)

    def _pass(self, ms: int) -> None:
        self.now_ms += ms
        self.replica.begin_turn(self.now_ms, START_MS + self.now_ms)

    def receive(self, client: Client, data: bytes) -> None:
        """Bytes of a client."""
        if not client.conn.is_closed:
            client.sent += data
            self.replica.on_received(client.conn, data)
            self._flush()

    def sync(self) -> None:
        """Everything proposed becomes durable. What was logged goes into the twin."""
        self._pass(1)
        for payload in self.replica.solo.take_log():
            record = decode_txn(payload)
            assert encode_txn(record.header, record.txn, record.digest) == payload, "a txn written in another way"
            apply(self.twin, record.header, record.txn, record.digest)
            assert self.twin.digest_mismatches == 0, f"the digest in {record.header} is not that of its tree"
        self.replica.on_synced(self.replica.solo.proposed_zxid)
        self._flush()

    def tick(self, seconds: int) -> None:
        """Time passes."""
        self._pass(1000 * seconds)
        self.replica.on_tick()
        self._flush()

    def reconnect(self, index: int, *, resumes: bool) -> None:
        """A client comes back on a new connection, with its session or without."""
        old = self.clients[index]
        if resumes and old.conn.session_id:
            # The server hears of the new connection first.
            self.clients[index] = self._connect("127.0.0.1")
            login = ConnectRequest(0, 0, 10_000, old.conn.session_id, password_of(old.got), False)
            self.receive(self.clients[index], request_frame(login))
            self._close(old)
        else:
            self._close(old)
            self.clients[index] = self._connect("::1")
        self.past.append(old)

    def _close(self, client: Client) -> None:
        self.replica.on_closed(client.conn)
        self._flush()

    def _flush(self) -> None:
        for conn in self.replica.outlet.take_dirty():
            assert conn.is_dirty, "in the list, but not marked"
            conn.is_dirty = False
            for client in [*self.clients, *self.past]:
                if client.conn is conn:
                    client.got += b"".join(conn.out)
            conn.out.clear()
            if conn.flush_then_close:
                self.replica.on_closed(conn)
        for conn in self.replica.outlet.take_closes():
            assert conn.is_done, "closed, but still listened to"
            self.replica.on_closed(conn)

    def finish(self) -> None:
        """Everything is durable now; looks at all that was said and done."""
        self.sync()
        while self.replica.proposals:
            assert self.replica.solo.log, "a proposal that nobody delivered"
            self.sync()
        for client in [*self.past, *self.clients]:
            check_replies(client)
        check_tree(self.tree)
        check_same(self.tree, self.twin)


def password_of(got: bytearray) -> bytes | None:
    """What the ConnectResponse at the start of a stream gave as the password."""
    first = frames_of(bytes(got[:64]))[:1]
    return ConnectResponse.read(Reader(first[0] + b"\0")).passwd if first else b""


def frames_of(stream: bytes) -> list[bytes]:
    """The whole frames of a stream whose lengths are sane."""
    found: list[bytes] = []
    pos = 0
    while pos + 4 <= len(stream):
        length = int.from_bytes(stream[pos : pos + 4], "big", signed=True)
        if length < 0 or pos + 4 + length > len(stream):
            break
        found.append(stream[pos + 4 : pos + 4 + length])
        pos += 4 + length
    return found


def check_replies(client: Client) -> None:
    """Replies are whole, and in the order of the requests."""
    got = frames_of(bytes(client.got))
    assert sum(4 + len(payload) for payload in got) == len(client.got), "half a frame was sent"
    if not got:
        return
    assert len(got[0]) in (36, 37), "the first frame is no ConnectResponse"
    asked: list[int] = []
    for payload in frames_of(bytes(client.sent))[1:]:
        if len(payload) < 8:
            break
        xid, op = int.from_bytes(payload[:4], "big", signed=True), int.from_bytes(payload[4:8], "big", signed=True)
        if op not in OUT_OF_ORDER:
            asked.append(codes.XID_PING if op == codes.OP_PING else xid)
    special = dict.fromkeys(xids_out_of_order(client))
    waiting = iter(asked)
    for payload in got[1:]:
        assert len(payload) >= 16, "a reply without a header"
        header = ReplyHeader.read(Reader(payload))
        if header.xid == codes.XID_NOTIFICATION or header.xid in special:
            continue
        if header.err == UNIMPLEMENTED and header.zxid == -1:
            # UnimplementedRequestProcessor: at once, and the connection ends with it.
            break
        assert any(xid == header.xid for xid in waiting), f"a reply to {header.xid} out of order, or to nothing"
        assert header.err == 0 or len(payload) == 16 or header.err == MARSHALLING_ERROR, "an error with a body"


def xids_out_of_order(client: Client) -> Iterator[int]:
    for payload in frames_of(bytes(client.sent))[1:]:
        if len(payload) >= 8 and int.from_bytes(payload[4:8], "big", signed=True) in OUT_OF_ORDER:
            yield int.from_bytes(payload[:4], "big", signed=True)


def check_tree(tree: Tree) -> None:
    """Nothing is in flight, every child has its parent, every table agrees with the znodes."""
    assert not tree.staged, "staged, though all is delivered"
    assert tree.staged_digest == tree.digest, "a staged digest of its own"
    total = 0
    owners: dict[int, list[bytes]] = {}
    for path, node in tree.nodes.items():
        total = (total + digest_of(path, node)) & MASK64
        stat = unpack_stat(node.body, -STAT_BYTES)
        assert stat[8] == max(0, int.from_bytes(node.body[:4], "big", signed=True)), f"data length of {path!r}"
        children = list(node.children.paths) if node.children is not None else []
        assert stat[9] == len(children), f"number of children of {path!r}"
        assert all(child in tree.nodes for child in children), f"a child of {path!r} is not there"
        if stat[7]:
            owners.setdefault(stat[7], []).append(path)
    assert total == tree.digest, "the digest is not the sum"
    assert {owner: sorted(paths) for owner, paths in tree.ephemerals.items() if paths} == {
        owner: sorted(paths) for owner, paths in owners.items()
    }, "the table of ephemerals"
    assert len(tree.nodes) == 1 + sum(len(n.children.paths) for n in tree.nodes.values() if n.children), "an orphan"


def check_same(tree: Tree, twin: Tree) -> None:
    """What was replayed is what was served."""
    assert list(tree.nodes) == list(twin.nodes), "other znodes after replaying, or in another order"
    for path, node in tree.nodes.items():
        other = twin.nodes[path]
        assert (node.body, node.cversion, node.owner) == (other.body, other.cversion, other.owner), f"another {path!r}"
        assert node.acl.entries == other.acl.entries, f"another ACL of {path!r}"
    assert (tree.digest, tree.last_zxid) == (twin.digest, twin.last_zxid), "another digest"


# Scripts.


def request_frame(*parts: object) -> bytes:
    """A frame of ints (four bytes each), bytes and records."""
    w = Writer()
    for part in parts:
        if isinstance(part, int):
            w.int32(part)
        elif isinstance(part, bytes):
            w.raw(part)
        else:
            part.write(w)  # type: ignore[attr-defined] # a record
    return frame(w.getvalue())


LOGIN = request_frame(ConnectRequest(0, 0, 10_000, 0, bytes(16), False))


def play(data: bytes) -> None:
    """Runs a script. The first byte says which clients log in first, and whether they wait for the answer."""
    machine = Machine()
    for index, client in enumerate(machine.clients):
        if data[:1] and data[0] >> index & 1 == 0:
            machine.receive(client, LOGIN)
    if data[:1] and data[0] & 4 == 0:
        machine.sync()
    pos, xid = 1, 0
    while pos < len(data):
        step, index = data[pos] & 7, data[pos] >> 3 & 1
        client = machine.clients[index]
        pos += 1
        if step == RAW:
            size = int.from_bytes(data[pos : pos + 2], "big") % 1024
            machine.receive(client, data[pos + 2 : pos + 2 + size])
            pos += 2 + size
        elif step == REQUEST:
            # Which operation, the length of the record, the record.
            op, size = (
                OPS[int.from_bytes(data[pos : pos + 1], "big") % len(OPS)],
                int.from_bytes(data[pos + 1 : pos + 2], "big"),
            )
            xid += 1
            machine.receive(client, request_frame(xid, op, data[pos + 2 : pos + 2 + size]))
            pos += 2 + size
        elif step == SYNC:
            machine.sync()
        elif step == TICK:
            machine.tick(1 + data[pos - 1] >> 4)
        elif step == RECONNECT:
            machine.reconnect(index, resumes=data[pos - 1] & 16 == 0)
    machine.finish()


def request(op: int, *parts: object, client: int = 0) -> bytes:
    """The step that sends one request."""
    record = request_frame(*parts)[4:]
    assert len(record) < 256, "a step holds a short record"
    return bytes((REQUEST | client * CLIENT_BIT, OPS.index(op), len(record))) + record


def multi(*ops: tuple[int, object]) -> bytes:
    """The record of a multi."""
    parts: list[object] = []
    for op, record in ops:
        parts += [MultiHeader(op, False, -1), record]
    return request_frame(*parts, MultiHeader(-1, True, -1))[4:]


def seeds() -> Iterable[bytes]:
    """Scripts that reach every kind of request once."""
    yield from write_seeds()
    yield from read_seeds()
    yield from session_seeds()


def write_seeds() -> Iterable[bytes]:
    """Writes, alone and in a multi, and the two that the server deletes by itself."""
    sync = bytes((SYNC,))
    creates = [CreateRequest(b"/a", b"x", [OPEN], 0), CreateRequest(b"/a/b-", None, [OPEN], 3)]
    yield b"\x03" + bytes((RAW, 0, len(LOGIN))) + LOGIN + sync
    yield b"\x00" + request(1, creates[0]) + request(15, creates[1]) + sync + request(8, GetDataRequest(b"/a", True))
    yield (
        b"\x00"
        + request(1, creates[0])
        + request(5, SetDataRequest(b"/a", b"y", 0))
        + request(2, DeleteRequest(b"/a", 1))
        + sync
    )
    yield (
        b"\x00"
        + request(21, CreateTTLRequest(b"/t", b"", [OPEN], 5, 500))
        + sync
        + bytes((TICK | 240, TICK | 240))
        + sync
    )
    yield b"\x00" + request(19, CreateRequest(b"/c", b"", [OPEN], 4)) + sync + bytes((TICK | 240,)) + sync
    yield (
        b"\x00"
        + request(14, multi((1, creates[0]), (13, CheckVersionRequest(b"/a", 0)), (2, DeleteRequest(b"/a", 0))))
        + sync
    )
    yield b"\x00" + request(14, multi((5, SetDataRequest(b"/", b"", 9)), (21, creates[0]))) + sync
    quota = CreateRequest(b"/zookeeper/quota/a", b"", [OPEN], 0)
    limits = CreateRequest(b"/zookeeper/quota/a/zookeeper_limits", b"count=1,bytes=1=;byteHardLimit=1", [OPEN], 0)
    stats = CreateRequest(b"/zookeeper/quota/a/zookeeper_stats", b"count=1,bytes=1", [OPEN], 0)
    yield (
        b"\x00"
        + b"".join(request(1, record) for record in (creates[0], quota, limits, stats))
        + sync
        + request(5, SetDataRequest(b"/a", b"long", -1))
        + sync
    )


def read_seeds() -> Iterable[bytes]:
    """Reads, identities and watches."""
    sync = bytes((SYNC,))
    digest = Id("digest", "a:b")
    create = CreateRequest(b"/a", b"x", [OPEN], 0)
    yield b"\x00" + request(22, multi((4, GetDataRequest(b"/", False)), (8, GetDataRequest(b"/x", False))))
    yield (
        b"\x00"
        + request(100, AuthPacket(0, "digest", b"super:secret"))
        + request(7, SetACLRequest(b"/", [ACL(1, digest)], 0))
        + sync
    )
    yield b"\x00" + request(100, AuthPacket(0, "nobody", b"x")) + request(11)
    yield (
        b"\x00"
        + request(1, CreateRequest(b"/z", b"", [ACL(31, Id("auth", ""))], 1))
        + request(6, SyncRequest(b"/z"))
        + sync
    )
    watches = SetWatches2(0, [b"/a"], [b"/n"], [b"/"], [b"/p"], [b"/r"])
    yield (
        b"\x00" + request(105, watches) + request(106, AddWatchRequest(b"/", 1)) + request(1, create, client=1) + sync
    )
    yield (
        b"\x00"
        + request(3, GetDataRequest(b"/a", True))
        + request(18, CheckVersionRequest(b"/a", 3))
        + request(17, CheckVersionRequest(b"/", 1))
    )
    yield (
        b"\x00"
        + request(1, create)
        + request(103, SyncRequest(b"/"))
        + request(104, SyncRequest(b"/"))
        + request(107)
        + sync
    )


def session_seeds() -> Iterable[bytes]:
    """Sessions that come back, end, and expire."""
    sync, other = bytes((SYNC,)), CLIENT_BIT
    yield b"\x00" + sync + bytes((RECONNECT, RECONNECT | 16 | other)) + request(11) + sync
    yield b"\x00" + sync + request(15, CreateRequest(b"/a", b"x", [OPEN], 0)) + request(-11) + request(11) + sync
    yield (
        b"\x00"
        + sync
        + request(15, CreateRequest(b"/e", b"", [OPEN], 1))
        + sync
        + bytes((TICK | 240, TICK | 240))
        + sync
    )
