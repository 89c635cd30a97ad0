"""The load of the storm over a real server: clients that write and read in pipelines, and the reading of a whole tree.

Knows the client protocol through `tests.interop.raw` and tells a History all that is sent and received. Must not import
coati's server, start servers or judge what they say.
Invariant: a write is known to the History before its first byte leaves, a reply as soon as it has come.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from tests.interop import raw
from tools.storm_history import Answer, History, Shown, encode
from tools.storm_reads import NODE_DATA_CHANGED, WATCHED, Look, Watch, as_tuple, shown_of
from tools.storm_registers import Registers
from tools.tree_model import NO_NODE, OK, Stat, Write

TIMEOUT_MS: Final = 30_000
# A session that is left alone on purpose is to expire while the storm is still there to see it.
SHORT_TIMEOUT_MS: Final = 600
# A client keeps this many znodes of a kind before it deletes some.
MAX_MINE: Final = 120
MAX_EPHEMERALS: Final = 20
SHARED: Final = len(WATCHED)
# Of the writes, how many have a read behind them, and of the reads, how many a sync before them or a watch.
LOOKING: Final = 0.15
SYNCING: Final = 0.3
WATCHING: Final = 0.5
REGISTER_SHARE: Final = 0.1
READS_IN_FLIGHT: Final = 400
REPLY_DEADLINE_S: Final = 30.0
KINDS: Final = {
    "create": 6, "again": 1, "ephemeral": 2, "sequence": 5, "set": 6, "shared": 3, "stale": 1, "delete": 3, "multi": 4,
}  # fmt: skip


class Client:
    """One client, its session over all its connections, and what it has in flight."""

    def __init__(self, history: History, name: str, dice: Random, timeout_ms: int = TIMEOUT_MS) -> None:
        self.history = history
        self.name = name
        self.dice = dice
        self.timeout_ms = timeout_ms
        self.session_id = 0
        self.in_flight: deque[tuple[int, Write]] = deque()
        self.deadline_s = REPLY_DEADLINE_S
        # Of the last reply on this connection; and when the session was last heard of.
        self.last_zxid = 0
        self.heard_s = time.monotonic()
        # Znodes that all clients read and write, if there are such.
        self.registers: Registers | None = None
        self._session: raw.Session | None = None
        self._password = raw.NO_PASSWORD
        self._is_closing = False
        self._xid = 0
        self._serial = 0
        self._mine: list[bytes] = []
        self._ephemerals: list[bytes] = []
        self._sequence: list[bytes] = []
        # Of a read in flight, what it has to have seen and whether it sets a watch. The watches of this connection, and
        # the zxid of the reply that set each.
        self._looks: dict[int, tuple[int, bool]] = {}
        self._watching: dict[bytes, int] = {}

    @property
    def is_connected(self) -> bool:
        """Whether it has a connection, as far as it knows."""
        return self._session is not None

    def connect(self, host: str, port: int) -> bool:
        """A new session, or the old one again; False if the server has died meanwhile."""
        self.in_flight.clear()
        self.last_zxid = 0
        if not self.session_id:
            self.history.opening += 1
        try:
            session = raw.Session(
                host,
                port,
                self.timeout_ms,
                session_id=self.session_id,
                password=self._password,
                last_zxid=self.history.reads.floor(self.session_id),
                deadline_s=self.deadline_s,
            )
        except raw.Expired:
            if not self.history.is_abandoned(self.session_id):
                self.history.fault(f"session {self.session_id:#x} has expired, and had a client all the time")
            self._forget()
            return False
        except (raw.Closed, OSError):
            return False
        self._session = session
        if not self.session_id:
            self.history.opened(session.session_id)
        elif (session.session_id, session.password) != (self.session_id, self._password):
            self.history.fault(f"session {self.session_id:#x} came back as {session.session_id:#x}, or with a new key")
        else:
            self.history.counts["resumed"] += 1
        self.session_id = session.session_id
        self._password = session.password
        self.heard_s = time.monotonic()
        return True

    def drop(self) -> None:
        """The connection only; the session is still this client's."""
        if self._session is not None:
            self._session.wire.close()
        self._session = None
        for path, begin in self._watching.items():
            self.history.reads.watched(Watch(path, self.session_id, begin, self.last_zxid, False))
        self._watching = {}
        self._looks = {}

    def send(self, write: Write) -> None:
        """One write, without waiting for what comes of it."""
        assert self._session is not None
        self._xid += 1
        self.history.sent(self.session_id, self._xid, write)
        self.in_flight.append((self._xid, write))
        op, body = encode(write)
        self._session.send(op, body, self._xid)

    def read(self, left: int = 0) -> None:
        """Reads replies until only so many are to come. Raises raw.Closed, raw.Silent."""
        assert self._session is not None
        while len(self.in_flight) > left:
            reply = self._session.receive()
            if isinstance(reply, raw.Event):
                self._on_event(reply)
                continue
            xid, write = self.in_flight.popleft()
            self.last_zxid = reply.zxid
            self.heard_s = time.monotonic()
            self.history.reads.at(self.session_id, reply.zxid)
            if reply.xid != xid:
                self.history.fault(f"session {self.session_id:#x}: reply to {reply.xid} instead of {xid}")
            if write.kind == "look":
                self._looked(xid, write, reply)
                continue
            if write.kind in ("get", "sync"):
                self._on_look(xid, write, reply)
                continue
            if self.registers is not None:
                self.registers.returned(self.session_id, xid, reply.err)
            try:
                body = raw.decode(encode(write)[0], reply.body)
            except raw.Malformed as error:
                self.history.fault(f"session {self.session_id:#x}: malformed reply to {write}: {error}")
                continue
            self.history.answered(self.session_id, xid, Answer(reply.zxid, reply.err, body))
            self._remember(write, body)

    def look(self, write: Write) -> None:
        """A read behind a sync, without waiting for what comes of it."""
        assert self._session is not None
        assert self.registers is not None
        self._xid += 2
        self.registers.called(self.session_id, self._xid, write)
        self.in_flight += [(self._xid - 1, Write("sync", write.path)), (self._xid, write)]
        self._session.send(raw.SYNC, raw.ustring(write.path), self._xid - 1)
        self._session.send(raw.GET_DATA, raw.path_watch(write.path), self._xid)

    def _looked(self, xid: int, write: Write, reply: raw.Reply) -> None:
        assert self.registers is not None
        shown: tuple[bytes, Stat] | None = None
        if not reply.err:
            reader = raw.Reader(reply.body)
            shown = (reader.buffer() or b"", as_tuple(reader.stat()))
        self.registers.returned(self.session_id, xid, reply.err, shown)
        self.history.counts["reads behind a sync"] += 1

    def drain(self, left: int = 0) -> None:
        """Reads replies while they come; then there is no connection any more."""
        if self._session is not None:
            with contextlib.suppress(raw.Closed):
                self.read(left)
        self.drop()

    def close(self) -> None:
        """Closes the session and waits for the answer. Raises raw.Closed."""
        self._is_closing = True
        self.send(Write("close"))
        self.read()
        self.drop()
        self._forget()

    def settle(self) -> None:
        """After a death, when the History knows whether a session that was being closed is there."""
        if self._is_closing and self.session_id not in self.history.tree.sessions:
            self._forget()
        self._is_closing = False

    def _forget(self) -> None:
        self.session_id = 0
        self._is_closing = False
        self._ephemerals = []

    def _remember(self, write: Write, body: object) -> None:
        if write.sequential and isinstance(body, tuple):
            self._sequence.append(str(body[0]).encode())

    # What it writes.

    def burst(self, count: int) -> None:
        """Sends so many writes of all kinds."""
        for _ in range(count):
            if self.registers is not None and self.dice.random() < REGISTER_SHARE:
                self._use_register(self.registers)
            else:
                self.send(self._write())
            if self.dice.random() < LOOKING:
                self._look()

    def _use_register(self, registers: Registers) -> None:
        write = registers.draw(self.dice, self._data())
        if write.kind == "look":
            self.look(write)
        else:
            registers.called(self.session_id, self._xid + 1, write)
            self.send(write)

    def _look(self) -> None:
        """A read, now and then of all that anybody was told, and to be told of the next change."""
        path = self.dice.choice(self._mine or WATCHED) if self.dice.random() < 0.5 else self.dice.choice(WATCHED)
        least_zxid = 0
        if self.dice.random() < SYNCING:
            least_zxid = self.history.highest_acked
            self._ask(Write("sync", b"/"), raw.SYNC, raw.ustring("/"))
        watches = path in WATCHED and self.dice.random() < WATCHING
        self._ask(Write("get", path), raw.GET_DATA, raw.path_watch(path, watches))
        self._looks[self._xid] = (least_zxid, watches)

    def _ask(self, what: Write, op: int, body: bytes) -> None:
        """What leaves nothing in the log."""
        assert self._session is not None
        self._xid += 1
        self.in_flight.append((self._xid, what))
        self._session.send(op, body, self._xid)

    def _on_look(self, xid: int, what: Write, reply: raw.Reply) -> None:
        if reply.err != OK and (what.kind == "sync" or reply.err != NO_NODE):
            self.history.fault(f"session {self.session_id:#x}: {what} was answered {reply.err}")
            return
        if what.kind == "sync":
            return
        least_zxid, watches = self._looks.pop(xid)
        shown = shown_of(raw.decode(raw.GET_DATA, reply.body))
        self.history.reads.looked(Look(reply.zxid, self.session_id, xid, what.path, shown), least_zxid)
        if watches and shown is not None:
            self._watching.setdefault(what.path, reply.zxid)

    def _on_event(self, event: raw.Event) -> None:
        """It comes before all that shows what caused it (E1)."""
        path = (event.path or "").encode()
        begin = self._watching.pop(path, None)
        if begin is None or event.type != NODE_DATA_CHANGED:
            self.history.fault(f"session {self.session_id:#x}: nobody waits for {event}")
            return
        if event.zxid <= self.last_zxid:
            self.history.fault(f"session {self.session_id:#x}: {event} comes behind a reply at {self.last_zxid:#x}")
        self.history.reads.at(self.session_id, event.zxid)
        self.history.reads.watched(Watch(path, self.session_id, begin, event.zxid, True))

    def _write(self) -> Write:
        dice = self.dice
        kind = dice.choices(*zip(*KINDS.items(), strict=True))[0]
        if kind == "multi":
            return self._multi()
        if kind == "set" and self._mine:
            return Write("set", dice.choice(self._mine), self._data())
        if kind == "shared":
            return Write("set", b"/s/%d" % dice.randrange(SHARED), self._data())
        if kind == "stale" and self._mine:
            return Write("set", dice.choice(self._mine), self._data(), dice.randrange(3))
        if kind == "again" and self._mine:
            return Write("create", dice.choice(self._mine), self._data())
        if kind == "ephemeral":
            return self._ephemeral()
        if kind == "sequence":
            owner = "ephemeral" if dice.random() < 0.2 else ""
            return Write("create", b"/q/s-", self._data(), owner=owner, sequential=True)
        if kind == "delete" or len(self._mine) > MAX_MINE or len(self._sequence) > MAX_MINE:
            return self._delete()
        return self._create()

    def _create(self) -> Write:
        path = self._fresh(b"n")
        self._mine.append(path)
        return Write("create", path, self._data())

    def _ephemeral(self) -> Write:
        if len(self._ephemerals) >= MAX_EPHEMERALS:
            return Write("delete", self._ephemerals.pop(0))
        path = self._fresh(b"e")
        self._ephemerals.append(path)
        return Write("create", path, self._data(), owner="ephemeral")

    def _delete(self) -> Write:
        for names in (self._sequence, self._mine):
            if len(names) > MAX_MINE // 2:
                return Write("delete", names.pop(self.dice.randrange(len(names))))
        return self._create()

    def _multi(self) -> Write:
        """Two or more creates that must come and go together; some must fail, at one place or another."""
        dice = self.dice
        last = self._fresh(b"m")
        parts = [
            Write("check", b"/s/0"),
            self._create(),
            Write("create", b"/q/m-", self._data(), sequential=True),
            Write("set", b"/s/%d" % dice.randrange(SHARED), self._data()),
            Write("create", last, self._data()),
        ]
        if self._mine and dice.random() < 0.3:
            parts.append(Write("delete", self._mine.pop(0)))
        if dice.random() < 0.2:
            parts.insert(dice.randrange(len(parts) + 1), Write("check", b"/s/1", version=1 << 30))
        self._mine.append(last)
        return Write("multi", parts=tuple(parts))

    def _fresh(self, letter: bytes) -> bytes:
        self._serial += 1
        return b"/w/%s/%s%d" % (self.name.encode(), letter, self._serial)

    def _data(self) -> bytes:
        """No two are the same."""
        self._serial += 1
        tail = self.dice.randbytes(self.dice.choice((0, 10, 100, 600)))
        return b"%s-%d-" % (self.name.encode(), self._serial) + tail

    # What it reads.

    def ping(self) -> int:
        """The server's last zxid. Raises raw.Closed, raw.Silent."""
        assert self._session is not None
        zxid = self._session.ping()
        self.heard_s = time.monotonic()
        for event in self._session.events:
            self._on_event(event)
        self._session.events.clear()
        return zxid

    def read_tree(self) -> Shown | None:
        """Data and Stat of everything; None if a znode vanished meanwhile. Raises raw.Closed."""
        shown: Shown = {}
        paths = [b"/"]
        while paths:
            found: list[bytes] = []
            for start in range(0, len(paths), READS_IN_FLIGHT):
                if not self._read_some(paths[start : start + READS_IN_FLIGHT], shown, found):
                    return None
            paths = found
        return shown

    def _read_some(self, paths: list[bytes], shown: Shown, found: list[bytes]) -> bool:
        session = self._session
        assert session is not None
        for path in paths:
            for op in (raw.GET_DATA, raw.GET_CHILDREN):
                self._xid += 1
                session.send(op, raw.path_watch(path), self._xid)
        replies = [session.reply() for _ in range(2 * len(paths))]
        if any(reply.err for reply in replies):
            return False
        for path, data, children in zip(paths, replies[::2], replies[1::2], strict=True):
            reader = raw.Reader(data.body)
            shown[path] = (reader.buffer() or b"", as_tuple(reader.stat()))
            names = raw.decode(raw.GET_CHILDREN, children.body)
            assert isinstance(names, list)
            found += [path.rstrip(b"/") + b"/" + name.encode() for name in names]
        return True


def foundations(names: list[str], ballast: int, dice: Random) -> Iterator[Write]:
    """The first writes: where the others go, and so many znodes that snapshots are not over in a moment."""
    for path in (b"/w", b"/q", b"/s", b"/b"):
        yield Write("create", path)
    for name in names:
        yield Write("create", b"/w/%s" % name.encode())
    for number in range(SHARED):
        yield Write("create", b"/s/%d" % number)
    for start in range(0, ballast, 50):
        parts = [Write("create", b"/b/%d" % number, dice.randbytes(1000)) for number in range(start, start + 50)]
        yield Write("multi", parts=tuple(parts))


def observe(history: History, host: str, port: int, log_dir: Path) -> None:
    """Compares what a client reads with what must be there. Notes faults. Raises raw.Closed."""
    reader = Client(history, "reader", Random(0))
    if not reader.connect(host, port):
        raise raw.Closed("while the reader came")
    zxid = 0
    for _ in range(50):
        # A session that expires meanwhile changes the tree; then it is read again.
        zxid = reader.ping()
        shown = reader.read_tree()
        if shown is None or reader.ping() != zxid:
            continue
        history.consume(log_dir, is_over=False)
        if history.tree.zxid <= zxid:
            if history.tree.zxid < zxid:
                history.fault(f"the server is at zxid {zxid:#x}, its log ends at {history.tree.zxid:#x}")
            history.compare(shown)
            break
        # The log may be ahead for a moment, by what is not delivered yet.
    else:
        history.fault(f"the server stays at zxid {zxid:#x}, {history.tree.zxid:#x} was there before")
    history.counts["trees compared"] += 1
    reader.close()
    history.consume(log_dir, is_over=False)
