"""A whole server without sockets: replica, driver and store on a simulated disk and clock, and clients for it.

Everything that happens is an event of the clock; with the same dice the same run happens again. The parts of the server
are taken from `Parts`, so that a test can put a broken one in and see itself fail. `SimClient` is no client library: it
sends what it is told and writes down what comes back, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from coati.core.acl import Access, AccessConfig
from coati.core.answer import Answers
from coati.core.prepare import PrepareConfig, Preparer
from coati.core.sessions import SessionTable
from coati.core.tree import Tree, TreeConfig
from coati.core.watches import Watches
from coati.errors import MarshallingError
from coati.server.driver import Driver
from coati.server.pipeline import Conn
from coati.server.recovery import Loaded, load
from coati.server.replica import Replica, ReplicaConfig
from coati.server.stats import ServerStats
from coati.storage.store import Store, StoreConfig
from coati.testing.clock import SimClock
from coati.testing.disk import SimDisk
from coati.wire import codes
from coati.wire.jute import FrameBuffer, Reader, Writer
from coati.wire.records import (
    ACL,
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    DeleteRequest,
    GetDataRequest,
    Id,
    MultiHeader,
    ReplyHeader,
    RequestHeader,
    SetDataRequest,
    Stat,
    WatcherEvent,
)
from coati.zab.solo import Solo

DATA_DIR: Final = "/data"
OPEN_ACL: Final = (ACL(codes.PERM_ALL, Id("world", "anyone")),)
STAT_BYTES: Final = 68
# Long enough for everything that was begun to end, shorter than any timer.
SETTLE_MS: Final = 50


@dataclass(slots=True)
class SimConfig:
    """One simulated server. `disk_ms`: the shortest and the longest time that a job of the disk takes."""

    replica: ReplicaConfig = field(default_factory=ReplicaConfig)
    store: StoreConfig = field(default_factory=lambda: StoreConfig(DATA_DIR, prealloc_bytes=4096))
    tree: TreeConfig = field(default_factory=TreeConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    disk_ms: tuple[int, int] = (1, 1)


@dataclass(slots=True)
class Parts:
    """What the server is made of."""

    replica: type[Replica] = Replica
    driver: type[Driver] = Driver
    store: type[Store] = Store
    solo: type[Solo] = Solo
    sessions: type[SessionTable] = SessionTable
    watches: type[Watches] = Watches
    access: type[Access] = Access
    answers: type[Answers] = Answers
    preparer: type[Preparer] = Preparer
    load: Callable[[Store, TreeConfig], Loaded] = load


class SimServer:
    """One server: `start` it, add clients, let time pass with `run`; `stop`, `kill` or `crash` it, and `start` again.

    A disk that is given should schedule its jobs by `schedule_job`; the one made here does.
    """

    def __init__(
        self,
        clock: SimClock | None = None,
        disk: SimDisk | None = None,
        *,
        dice: Random | None = None,
        config: SimConfig | None = None,
        parts: Parts | None = None,
    ) -> None:
        self.clock = clock or SimClock()
        self.disk = disk or SimDisk(self.schedule_job)
        self.dice = dice or Random(0)
        self.config = config or SimConfig()
        self.parts = parts or Parts()
        self.fatal: list[BaseException] = []
        self.links: list[SimLink] = []
        self.is_up = False
        self._life = 0
        self.store: Store
        self.loaded: Loaded
        self.replica: Replica
        self.driver: Driver

    def schedule_job(self, run_job: Callable[[], None]) -> None:
        """Lets a job of the disk take its time."""
        shortest, longest = self.config.disk_ms
        self.clock.call_at(self.clock.now_ms + self.dice.randint(shortest, longest), run_job)

    @property
    def tree(self) -> Tree:
        return self.replica.tree

    # Its life.

    def start(self) -> SimServer:
        """Recovers what the disk has and begins to serve. Raises StorageCorrupt, StorageFailed."""
        assert not self.is_up, "it runs already"
        parts, config, clock = self.parts, self.config, self.clock
        self.store = parts.store(self.disk, config.store)
        self.loaded = parts.load(self.store, config.tree)
        tree = self.loaded.tree
        sessions = parts.sessions(config.replica.tick_ms, 1, clock.wall_ms())
        sessions.restore(self.loaded.timeouts, clock.monotonic_ms())
        access = parts.access(config.access)
        watches = parts.watches()
        self.replica = parts.replica(
            tree=tree,
            sessions=sessions,
            watches=watches,
            preparer=parts.preparer(tree, sessions, access, config.prepare),
            answers=parts.answers(tree, watches, access),
            access=access,
            broadcast=parts.solo(tree.last_zxid),
            stats=ServerStats(),
            entropy=self.dice,
            config=config.replica,
        )
        self.driver = parts.driver(
            self.replica, self.store, clock, stats=self.replica.stats, post=self.post, on_fatal=self.fatal.append
        )
        self.is_up = True
        self._tick()
        return self

    def hear(self, source: object, call: Callable[[], None], *, is_end: bool = False) -> None:
        """Something comes from outside."""
        call()

    def post(self, call: Callable[[], None]) -> None:
        life = self._life
        # What a dead process had left to do is not done by the next one.
        self.clock.post(lambda: call() if life == self._life else None)

    def _tick(self) -> None:
        """As often as a session may be due, and once a tick at least."""
        self.driver.tick()
        now_ms = self.clock.now_ms
        due_ms = min(self.replica.sessions.next_deadline_ms(), now_ms + self.config.replica.tick_ms)
        life = self._life
        self.clock.call_at(max(due_ms, now_ms + 1), lambda: self._tick() if life == self._life else None)

    def stop(self) -> None:
        """An orderly end: what is under way is made durable."""
        self.run(SETTLE_MS)
        self.store.close()
        self._end()

    def kill(self) -> None:
        """The process dies; what it had written stays."""
        self._end()
        self.disk.kill()

    def crash(self, dice: Random, mode: str = "random") -> None:
        """The power fails; of what was not synced something may be lost (SimDisk.crash)."""
        self._end()
        self.disk.crash(dice, mode)

    def _end(self) -> None:
        self.is_up = False
        self._life += 1
        links, self.links = self.links, []
        for link in links:
            link.abandon()

    def run(self, duration_ms: int = SETTLE_MS) -> None:
        """Lets time pass."""
        self.clock.advance(duration_ms)

    # Its clients.

    def link(self, address: tuple[str, int] = ("127.0.0.1", 40000)) -> SimLink:
        """A connection on which nothing has been sent yet."""
        assert self.is_up, "it does not run"
        return SimLink(self, address)

    def client(self, *, timeout_ms: int = 10_000) -> SimClient:
        """A client with a session, once time has passed."""
        client = SimClient(self.link())
        client.open_session(timeout_ms=timeout_ms)
        return client


class LinkHost(Protocol):
    """A simulated process that clients connect to."""

    clock: SimClock
    driver: Driver
    links: list[SimLink]

    def post(self, call: Callable[[], None]) -> None:
        """Soon, in this process only."""

    def hear(self, source: object, call: Callable[[], None], *, is_end: bool = False) -> None:
        """Something comes from outside, from a connection, or its end: at once, or when the process goes on."""


class SimLink:
    """One connection, both ends: the server's is `coati.server.pipeline.ClientLink`.

    `received` is all the server has sent. While it is paused the client's bytes wait outside, as in a socket's buffer.
    """

    def __init__(self, server: LinkHost, address: tuple[str, int]) -> None:
        self.server = server
        self.received = bytearray()
        self.sends = 0
        self.is_open = True
        self.is_paused = False
        self.is_choked = False
        self.pauses = 0
        self.on_data: Callable[[bytes], None] | None = None
        self._outside: list[bytes] = []
        self.conn = Conn(self, address, server.clock.now_ms)
        server.links.append(self)
        server.hear(self, lambda: server.driver.connected(self.conn))

    # The server's end.

    def send(self, data: bytes) -> None:
        if not self.is_open:
            return
        self.sends += 1
        self.received += data
        if self.on_data is not None:
            self.on_data(data)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._lose()

    def pause(self) -> None:
        assert not self.is_paused, "it was paused before"
        self.is_paused = True
        self.pauses += 1

    def resume(self) -> None:
        assert self.is_paused, "it was not paused"
        self.is_paused = False
        waiting, self._outside = self._outside, []
        for data in waiting:
            self.server.driver.received(self.conn, data)

    # The client's end.

    def feed(self, data: bytes) -> None:
        """Bytes of the client arrive."""
        if not self.is_open:
            return
        if self.is_paused:
            self._outside.append(data)
        else:
            server = self.server
            server.hear(self, lambda: server.driver.received(self.conn, data))

    def abandon(self) -> None:
        """The server's process is gone, and nobody is left there who would hear of the end."""
        self.is_open = False

    def drop(self) -> None:
        """The connection breaks."""
        if self.is_open:
            self.is_open = False
            self._lose()

    def _lose(self) -> None:
        """The server hears of it later, as from a transport."""
        server = self.server
        if self in server.links:
            server.links.remove(self)
            server.hear(self, lambda: server.post(lambda: server.driver.closed(self.conn)), is_end=True)


@dataclass(slots=True)
class Reply:
    """A reply as it came: the header, and the record behind it."""

    xid: int
    zxid: int
    err: int
    body: bytes


@dataclass(slots=True)
class Event:
    """An event as it came; `zxid` is that of its header."""

    zxid: int
    type: int
    path: bytes


class SimClient:
    """A raw client: `log` has replies and events in the order they came."""

    def __init__(self, link: SimLink) -> None:
        self.link = link
        self.connected: ConnectResponse | None = None
        self.log: list[Reply | Event] = []
        self.session_id = 0
        self.password = bytes(16)
        self.timeout_ms = 0
        self.last_zxid = 0
        self._frames = FrameBuffer()
        self._xid = 0
        link.on_data = self._on_data

    @property
    def is_open(self) -> bool:
        """Whether the connection stands."""
        return self.link.is_open

    @property
    def replies(self) -> list[Reply]:
        """All replies, in order."""
        return [entry for entry in self.log if isinstance(entry, Reply)]

    @property
    def events(self) -> list[Event]:
        """All events, in order."""
        return [entry for entry in self.log if isinstance(entry, Event)]

    def reply(self, xid: int) -> Reply:
        """The one reply with this xid."""
        (found,) = (reply for reply in self.replies if reply.xid == xid)
        return found

    # The session.

    def open_session(
        self,
        *,
        timeout_ms: int = 10_000,
        session_id: int = 0,
        password: bytes | None = None,
        last_zxid: int = 0,
        has_read_only: bool = True,
        read_only: bool = False,
    ) -> None:
        """Sends a ConnectRequest; `read_only`: a server that has no quorum will do."""
        frame = connect_frame(
            timeout_ms, session_id, password or bytes(16), last_zxid, has_read_only, read_only=read_only
        )
        self.link.feed(frame)

    def resume_from(self, other: SimClient, *, timeout_ms: int = 10_000, read_only: bool = False) -> None:
        """Comes back on this connection with the other's session."""
        self._xid = other._xid
        self.open_session(
            timeout_ms=timeout_ms,
            session_id=other.session_id,
            password=other.password,
            last_zxid=other.last_zxid,
            read_only=read_only,
        )

    # Requests. Each gives its xid.

    def send(self, op: int, body: bytes = b"", *, xid: int | None = None) -> int:
        """Any request."""
        if xid is None:
            self._xid += 1
            xid = self._xid
        self.link.feed(request_frame(xid, op, body))
        return xid

    def create(self, path: bytes, data: bytes = b"", flags: int = 0, acl: list[ACL] | None = None) -> int:
        return self.send(codes.OP_CREATE2, create_body(path, data, flags, acl))

    def set_data(self, path: bytes, data: bytes, version: int = -1) -> int:
        return self.send(codes.OP_SET_DATA, encode(SetDataRequest(path, data, version)))

    def delete(self, path: bytes, version: int = -1) -> int:
        return self.send(codes.OP_DELETE, encode(DeleteRequest(path, version)))

    def get(self, path: bytes, *, watch: bool = False) -> int:
        return self.send(codes.OP_GET_DATA, encode(GetDataRequest(path, watch)))

    def exists(self, path: bytes, *, watch: bool = False) -> int:
        return self.send(codes.OP_EXISTS, encode(GetDataRequest(path, watch)))

    def children(self, path: bytes, *, watch: bool = False) -> int:
        return self.send(codes.OP_GET_CHILDREN2, encode(GetDataRequest(path, watch)))

    def multi(self, *parts: tuple[int, bytes]) -> int:
        return self.send(codes.OP_MULTI, multi_body(*parts))

    def ping(self) -> int:
        return self.send(codes.OP_PING, xid=codes.XID_PING)

    def close_session(self) -> int:
        return self.send(codes.OP_CLOSE_SESSION)

    # What comes.

    def _on_data(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            if self.connected is None:
                self._on_connected(frame)
            else:
                self._on_frame(frame)

    def _on_connected(self, frame: bytes) -> None:
        r = Reader(frame)
        r.int32()
        timeout_ms, session_id, password = r.int32(), r.int64(), r.buffer()
        read_only = r.boolean() if r.left() else False
        self.connected = ConnectResponse(0, timeout_ms, session_id, password, read_only)
        self.session_id = session_id
        self.timeout_ms = timeout_ms
        self.password = password or b""

    def _on_frame(self, frame: bytes) -> None:
        r = Reader(frame)
        header = ReplyHeader.read(r)
        self.last_zxid = max(self.last_zxid, header.zxid)
        if header.xid == codes.XID_NOTIFICATION:
            event = WatcherEvent.read(r)
            self.log.append(Event(header.zxid, event.type, event.path))
        else:
            self.log.append(Reply(header.xid, header.zxid, header.err, frame[r.pos :]))


# Bytes of requests, and replies read.


def encode(record: SetDataRequest | DeleteRequest | GetDataRequest | CreateRequest) -> bytes:
    """A record's bytes."""
    w = Writer()
    record.write(w)
    return w.getvalue()


def create_body(path: bytes, data: bytes = b"", flags: int = 0, acl: list[ACL] | None = None) -> bytes:
    """The record of all kinds of create, but for that with a TTL."""
    return encode(CreateRequest(path, data, list(OPEN_ACL) if acl is None else acl, flags))


def multi_body(*parts: tuple[int, bytes]) -> bytes:
    """The record of a multi, from opcodes and their records."""
    w = Writer()
    for op, body in parts:
        MultiHeader(op, False, -1).write(w)
        w.raw(body)
    MultiHeader(-1, True, -1).write(w)
    return w.getvalue()


def request_frame(xid: int, op: int, body: bytes = b"") -> bytes:
    """A request with its length in front."""
    w = Writer()
    RequestHeader(xid, op).write(w)
    head = w.getvalue()
    return (len(head) + len(body)).to_bytes(4, "big") + head + body


def connect_frame(
    timeout_ms: int,
    session_id: int = 0,
    password: bytes | None = bytes(16),
    last_zxid: int = 0,
    has_read_only: bool = True,
    *,
    read_only: bool = False,
) -> bytes:
    """A ConnectRequest with its length in front; clients before 3.4 do not send the last byte."""
    w = Writer()
    ConnectRequest(0, last_zxid, timeout_ms, session_id, password, read_only).write(w)
    body = w.getvalue()
    if not has_read_only:
        body = body[:-1]
    return len(body).to_bytes(4, "big") + body


def stat_of(reply: Reply) -> Stat:
    """The Stat that a reply to create2, setData, getData, exists or getChildren2 ends with."""
    if len(reply.body) < STAT_BYTES:
        raise MarshallingError("there is no Stat in it")
    return Stat.read(Reader(reply.body, len(reply.body) - STAT_BYTES))


def data_of(reply: Reply) -> bytes | None:
    """The data in the reply to a getData."""
    return Reader(reply.body).buffer()


def path_of(reply: Reply) -> bytes:
    """The path in the reply to a create."""
    return Reader(reply.body).path()


def names_of(reply: Reply) -> list[bytes]:
    """The names in the reply to a getChildren."""
    r = Reader(reply.body)
    return [r.path() for _ in range(r.count())]
