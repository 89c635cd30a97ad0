"""Clients as they come: a seeded mix of all requests, sent over any transport, and all of it written to a History.

A Walker is one client. It is given bytes of its connection and a `send`; whoever owns the connections connects it,
tells it of their loss, and lets it `act`. It resumes its session with the last zxid it has seen, sets its watches again
(setWatches2), and takes a new session when the old one is over. Every choice comes from the dice it is given.
Must not know servers, links or clocks. Sources: ClientCnxn (primeConnection), ZKWatchManager.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

from coati import errors
from coati.errors import MarshallingError
from coati.testing.history import History
from coati.wire import codes
from coati.wire.jute import FrameBuffer, Reader, Writer
from coati.wire.records import (
    ACL,
    AddWatchRequest,
    CheckVersionRequest,
    ConnectRequest,
    CreateRequest,
    DeleteRequest,
    GetDataRequest,
    Id,
    MultiHeader,
    ReplyHeader,
    RequestHeader,
    SetDataRequest,
    SetWatches2,
    SyncRequest,
    WatcherEvent,
)

_STAT_BYTES: Final = 68
_VERSION_AT: Final = -36
_OPEN: Final = [ACL(codes.PERM_ALL, Id("world", "anyone"))]
# What a client does, and how often.
MIX: Final[dict[str, float]] = {
    "create": 6,
    "ephemeral": 3,
    "sequence": 5,
    "set": 8,
    "cas": 4,
    "delete": 5,
    "multi": 4,
    "get": 8,
    "exists": 5,
    "children": 5,
    "sync": 2,
    "watch": 1,
    "ping": 2,
    "close": 0.3,
}
# What somebody does who only looks on: nothing that it asked for before holds up its syncs.
LOOKS: Final[dict[str, float]] = {"get": 6, "exists": 3, "children": 3, "sync": 6, "watch": 1, "ping": 3}
# What `linear.py` has most to say of: single znodes, written by all and read behind a sync.
REGISTER_MIX: Final[dict[str, float]] = {
    "create": 6,
    "set": 8,
    "cas": 8,
    "delete": 2,
    "multi": 2,
    "sync": 10,
    "watch": 1,
    "ping": 1,
}
# Names are few, so that clients meet.
ROOTS: Final = (b"/a", b"/b", b"/c")
LEAVES: Final = (b"x", b"y", b"z", b"q")
MAX_IN_FLIGHT: Final = 8


class Walker:
    """One client. `is_connected`: it has a session and a connection."""

    def __init__(
        self,
        history: History,
        dice: Random,
        *,
        timeout_ms: int = 10_000,
        mix: dict[str, float] | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self.history = history
        self.dice = dice
        self.timeout_ms = timeout_ms
        self.max_in_flight = max_in_flight
        self.session_id = 0
        self.last_zxid = 0
        self.is_connected = False
        # The server has said goodbye: the connection is of no use any more.
        self.is_over = False
        # It writes nothing.
        self.looks = mix is LOOKS
        self._kinds = list(mix or MIX)
        self._weights = list((mix or MIX).values())
        self._password = bytes(16)
        self._xid = 0
        self.conn = 0
        self._serial = 0
        self._send: Callable[[bytes], None] | None = None
        self._frames = FrameBuffer()
        self._in_flight: deque[tuple[int, int, bytes]] = deque()
        self._versions: dict[bytes, int] = {}
        self._mine: dict[bytes, None] = {}
        # Watches by path: what to set again on the next connection.
        self._data: dict[bytes, None] = {}
        self._exists: dict[bytes, None] = {}
        self._children: dict[bytes, None] = {}
        self._persistent: dict[bytes, None] = {}
        self._recursive: dict[bytes, None] = {}

    # Its connection

    def connect(self, server: int, send: Callable[[bytes], None]) -> None:
        """A new connection to a server is there."""
        self._send = send
        self._frames = FrameBuffer()
        self._in_flight.clear()
        self.is_connected = False
        self.is_over = False
        self.conn = self.history.connecting(
            server, session_id=self.session_id, last_zxid=self.last_zxid, timeout_ms=self.timeout_ms
        )
        record = ConnectRequest(0, self.last_zxid, self.timeout_ms, self.session_id, self._password, False)
        w = Writer()
        record.write(w)
        send(_framed(w.getvalue()))

    def lost(self) -> None:
        """The connection is gone; what was in flight may have happened or not."""
        if self._send is not None:
            self.history.disconnected(self.conn, self.session_id)
        self._send = None
        self.is_connected = False
        self._in_flight.clear()

    def abandon(self) -> None:
        """Forgets the session, which will expire. Only without a connection."""
        assert self._send is None, "it has a connection"
        self._forget()

    def _forget(self) -> None:
        self.session_id = 0
        self._password = bytes(16)
        self._xid = 0
        self.last_zxid = 0
        self._mine.clear()
        for watches in (self._data, self._exists, self._children, self._persistent, self._recursive):
            watches.clear()

    def received(self, data: bytes) -> None:
        """Bytes of the server."""
        for frame in self._frames.feed(data):
            if self._send is None:
                return
            if self.is_connected:
                self._on_frame(frame)
            else:
                self._on_connected(Reader(frame))

    def _on_connected(self, r: Reader) -> None:
        r.int32()
        timeout_ms, session_id, password = r.int32(), r.int64(), r.buffer()
        self.history.connected(self.conn, session_id, timeout_ms)
        if not session_id:
            self.is_over = True
            self._forget()
            return
        self.session_id = session_id
        self._password = password or bytes(16)
        self.is_connected = True
        self._set_watches_again()

    def _set_watches_again(self) -> None:
        # ClientCnxn asks with the last zxid it has seen, on each connection but a session's first.
        lists = [list(one) for one in (self._data, self._exists, self._children, self._persistent, self._recursive)]
        if any(lists):
            record = SetWatches2(self.last_zxid, *lists)
            self._request(codes.OP_SET_WATCHES2, _bytes_of(record), codes.XID_SET_WATCHES)

    # What it does

    def act(self) -> None:
        """One request, or none if it has enough to wait for."""
        if self.is_connected and not self.is_over and len(self._in_flight) < self.max_in_flight:
            (kind,) = self.dice.choices(self._kinds, self._weights)
            _ACTIONS[kind](self)

    def ping(self) -> None:
        """What keeps a session alive that has nothing to ask."""
        if self.is_connected and not self.is_over:
            self._request(codes.OP_PING, b"", codes.XID_PING)

    @property
    def waits(self) -> bool:
        """Whether the server owes it an answer."""
        return not self.is_connected or bool(self._in_flight)

    def sync(self) -> None:
        """Asks for what is new, however much it waits for already."""
        if self.is_connected and not self.is_over:
            self._sync()

    def close(self) -> None:
        """Ends the session."""
        if self.is_connected and not self.is_over:
            self.is_over = True
            self._request(codes.OP_CLOSE_SESSION, b"")

    def _path(self) -> bytes:
        root = self.dice.choice(ROOTS)
        return root if self.dice.random() < 0.3 else root + b"/" + self.dice.choice(LEAVES)

    def _data_of(self) -> bytes:
        self._serial += 1
        return b"%d-%d" % (self.session_id & 0xFFFF, self._serial)

    def _create(self) -> None:
        self._request(codes.OP_CREATE2, _create(self._path(), self._data_of(), codes.FLAG_PERSISTENT))

    def _create_ephemeral(self) -> None:
        flags = self.dice.choice((codes.FLAG_EPHEMERAL, codes.FLAG_EPHEMERAL_SEQUENTIAL))
        path = self.dice.choice(ROOTS) + b"/e-" + self.dice.choice(LEAVES)
        self._request(codes.OP_CREATE, _create(path, self._data_of(), flags))

    def _create_sequence(self) -> None:
        path = self.dice.choice(ROOTS) + b"/n-"
        self._request(codes.OP_CREATE2, _create(path, self._data_of(), codes.FLAG_PERSISTENT_SEQUENTIAL))

    def _set(self) -> None:
        self._request(codes.OP_SET_DATA, _bytes_of(SetDataRequest(self._path(), self._data_of(), -1)))

    def _cas(self) -> None:
        path = self._path()
        version = self._versions.get(path, 0)
        self._request(codes.OP_SET_DATA, _bytes_of(SetDataRequest(path, self._data_of(), version)))

    def _delete(self) -> None:
        mine = list(self._mine)
        path = self.dice.choice(mine) if mine and self.dice.random() < 0.7 else self._path()
        self._mine.pop(path, None)
        version = self._versions.get(path, 0) if self.dice.random() < 0.2 else -1
        self._request(codes.OP_DELETE, _bytes_of(DeleteRequest(path, version)))

    def _multi(self) -> None:
        parts: list[tuple[int, bytes]] = []
        for _ in range(self.dice.randint(1, 4)):
            path = self._path()
            choice = self.dice.randrange(5)
            if choice == 0:
                parts.append((codes.OP_CREATE, _create(path, self._data_of(), 0)))
            elif choice == 1:
                parts.append((codes.OP_CREATE2, _create(self.dice.choice(ROOTS) + b"/m-", b"", 2)))
            elif choice == 2:
                parts.append((codes.OP_SET_DATA, _bytes_of(SetDataRequest(path, self._data_of(), -1))))
            elif choice == 3:
                parts.append((codes.OP_DELETE, _bytes_of(DeleteRequest(path, -1))))
            else:
                check = CheckVersionRequest(path, self._versions.get(path, -1))
                parts.append((codes.OP_CHECK, _bytes_of(check)))
        w = Writer()
        for op, body in parts:
            MultiHeader(op, False, -1).write(w)
            w.raw(body)
        MultiHeader(-1, True, -1).write(w)
        self._request(codes.OP_MULTI, w.getvalue())

    def _get(self) -> None:
        self._request(codes.OP_GET_DATA, self._read())

    def _ask_exists(self) -> None:
        self._request(codes.OP_EXISTS, self._read())

    def _get_children(self) -> None:
        op = self.dice.choice((codes.OP_GET_CHILDREN, codes.OP_GET_CHILDREN2))
        self._request(op, self._read())

    def _read(self) -> bytes:
        return _bytes_of(GetDataRequest(self._path(), self.dice.random() < 0.4))

    def _sync(self) -> None:
        """And what it is for."""
        path = self._path()
        self._request(codes.OP_SYNC, _bytes_of(SyncRequest(path)))
        self._request(codes.OP_GET_DATA, _bytes_of(GetDataRequest(path, False)))

    def _add_watch(self) -> None:
        mode = self.dice.choice((codes.WATCH_MODE_PERSISTENT, codes.WATCH_MODE_PERSISTENT_RECURSIVE))
        self._request(codes.OP_ADD_WATCH, _bytes_of(AddWatchRequest(self.dice.choice(ROOTS), mode)))

    def _request(self, op: int, body: bytes, xid: int = 0) -> None:
        if not xid:
            self._xid += 1
            xid = self._xid
        assert self._send is not None, "it has no connection"
        w = Writer()
        RequestHeader(xid, op).write(w)
        self.history.called(self.conn, self.session_id, xid, op, body)
        self._in_flight.append((xid, op, body))
        self._send(_framed(w.getvalue() + body))

    # What it is told

    def _on_frame(self, frame: bytes) -> None:
        r = Reader(frame)
        header = ReplyHeader.read(r)
        if header.zxid > 0:
            self.last_zxid = max(self.last_zxid, header.zxid)
        if header.xid == codes.XID_NOTIFICATION:
            event = WatcherEvent.read(r)
            self.history.fired(self.conn, self.session_id, header.zxid, event.type, event.path)
            self._use_up(event)
            return
        body = frame[r.pos :]
        self.history.returned(self.conn, self.session_id, (header.xid, header.zxid, header.err), body)
        for index, (xid, op, request) in enumerate(self._in_flight):
            if xid == header.xid:
                del self._in_flight[index]
                self._learn(op, Reader(request), header.err, body)
                break

    def _use_up(self, event: WatcherEvent) -> None:
        if event.type != codes.EVENT_CHILDREN_CHANGED:
            self._data.pop(event.path, None)
            self._exists.pop(event.path, None)
        if event.type in (codes.EVENT_CHILDREN_CHANGED, codes.EVENT_DELETED):
            self._children.pop(event.path, None)

    def _learn(self, op: int, r: Reader, err: int, body: bytes) -> None:
        """Keeps what later requests are made of."""
        try:
            if op == codes.OP_CLOSE_SESSION and not err:
                self._forget()
            elif op in (codes.OP_CREATE, codes.OP_CREATE2) and not err:
                self._mine[Reader(body).path()] = None
            elif op == codes.OP_SET_DATA and not err:
                self._versions[r.path()] = _version_in(body)
            elif op == codes.OP_ADD_WATCH and not err:
                path, mode = r.path(), r.int32()
                (self._recursive if mode else self._persistent)[path] = None
            elif op in (codes.OP_GET_DATA, codes.OP_EXISTS, codes.OP_GET_CHILDREN, codes.OP_GET_CHILDREN2):
                self._learn_read(op, r, err, body)
        except MarshallingError:
            return

    def _learn_read(self, op: int, r: Reader, err: int, body: bytes) -> None:
        path, is_watch = r.path(), r.boolean()
        if op in (codes.OP_GET_DATA, codes.OP_EXISTS) and not err:
            self._versions[path] = _version_in(body)
        if not is_watch:
            return
        if op == codes.OP_EXISTS and err == errors.NO_NODE:
            self._exists[path] = None
        elif not err:
            is_data = op in (codes.OP_GET_DATA, codes.OP_EXISTS)
            (self._data if is_data else self._children)[path] = None


def _version_in(body: bytes) -> int:
    return int.from_bytes(body[_VERSION_AT : _VERSION_AT + 4], "big", signed=True)


def _create(path: bytes, data: bytes, flags: int) -> bytes:
    return _bytes_of(CreateRequest(path, data, _OPEN, flags))


def _bytes_of(
    record: AddWatchRequest
    | CheckVersionRequest
    | CreateRequest
    | DeleteRequest
    | GetDataRequest
    | SetDataRequest
    | SetWatches2
    | SyncRequest,
) -> bytes:
    w = Writer()
    record.write(w)
    return w.getvalue()


def _framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


_ACTIONS: Final[dict[str, Callable[[Walker], None]]] = {
    "create": Walker._create,
    "ephemeral": Walker._create_ephemeral,
    "sequence": Walker._create_sequence,
    "set": Walker._set,
    "cas": Walker._cas,
    "delete": Walker._delete,
    "multi": Walker._multi,
    "get": Walker._get,
    "exists": Walker._ask_exists,
    "children": Walker._get_children,
    "sync": Walker._sync,
    "watch": Walker._add_watch,
    "ping": Walker.ping,
    "close": Walker.close,
}
