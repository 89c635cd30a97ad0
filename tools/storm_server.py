"""Storms over the whole server: random clients, power lost at every call of the disk, and a model that knows better.

One seed is one run: sessions come, move, fall silent and expire, write and read in pipelines, watch; meanwhile
snapshots are taken and the log rolls. Before each call that the disk gets it is copied, the copy loses power in some
way, and a new server starts from it. What is there must be, to the last field of every Stat, what `tree_model.py` says
of one of the txns between the last acknowledged and the last appended one. In the run itself every reply and every
event is compared as well. The tests run samples of the same functions.

Command line: `python tools/storm_server.py --seeds 20` prints what it covered and adds a line to docs/ledger.md.
"""

from __future__ import annotations

import argparse
import datetime
import errno
import logging
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from coati.core.tree import TreeConfig
from coati.errors import StorageCorrupt
from coati.server.replica import ReplicaConfig
from coati.storage.store import Store, StoreConfig
from coati.testing.clock import SimClock
from coati.testing.disk import SimDisk
from coati.testing.server import (
    DATA_DIR,
    Event,
    Parts,
    Reply,
    SimClient,
    SimConfig,
    SimServer,
    create_body,
    encode,
    multi_body,
)
from coati.wire import codes
from coati.wire.jute import Reader, Writer
from coati.wire.records import (
    ACL,
    CheckVersionRequest,
    CreateTTLRequest,
    DeleteRequest,
    Id,
    MultiHeader,
    SetACLRequest,
    SetDataRequest,
)
from coati.wire.records import Stat as StatRecord

# As a script it finds what is beside it only.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import tree_model
from tools.tree_model import Model, Nodes, Outcome, State, Write

LEDGER: Final = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"
MODES: Final = ("lose", "keep", "random", "sectors", "kill")
TICK_MS: Final = 200
CLIENTS: Final = 5
# Error, type and digest in the log's own words, read without the code under test.
_HEADER: Final = struct.Struct(">qiqqi")
_INT: Final = struct.Struct(">i")
_DIGEST: Final = struct.Struct(">iQ")
_CREATE_FLAGS: Final = {"": 0, "ephemeral": 1, "container": 4, "ttl": 5}


class Recorder(Store):
    """The store, which remembers all that was appended, in order and each once."""

    def __init__(self, disk: SimDisk, config: StoreConfig) -> None:
        super().__init__(disk, config)
        self.appended: list[bytes] = []

    def append(self, zxid: int, payload: bytes) -> None:
        self.appended.append(payload)
        super().append(zxid, payload)

    def append_all(self, first_zxid: int, payloads: list[bytes]) -> None:
        known = len(self.appended)
        super().append_all(first_zxid, payloads)
        self.appended[known:] = payloads


def storm_config(dice: Random) -> SimConfig:
    """Small numbers, so that all of it happens often."""
    replica = ReplicaConfig(
        tick_ms=TICK_MS,
        min_session_timeout_ms=400,
        max_session_timeout_ms=4000,
        snap_count=dice.choice((10, 40, 100)),
        outstanding_limit=dice.choice((3, 1000)),
        container_interval_ms=500,
    )
    limit = dice.choice((-1, 3000))
    store = StoreConfig(DATA_DIR, prealloc_bytes=2048, log_size_limit_bytes=limit)
    tree = TreeConfig(extended_types=True)
    return SimConfig(replica=replica, store=store, tree=tree, disk_ms=dice.choice(((0, 0), (1, 4), (0, 30))))


@dataclass(slots=True)
class Tally:
    """What a storm covered."""

    seeds: int = 0
    txns: int = 0
    replies: int = 0
    events: int = 0
    points: int = 0
    states: int = 0
    faults: int = 0
    refused: int = 0
    restarts: int = 0
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.txns += other.txns
        self.replies += other.replies
        self.events += other.events
        self.points += other.points
        self.states += other.states
        self.faults += other.faults
        self.refused += other.refused
        self.restarts += other.restarts
        for kind, count in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count

    def __str__(self) -> str:
        calls = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items()))
        return (
            f"{self.seeds} seeds: {self.txns} txns, {self.replies} replies and {self.events} events compared, "
            f"{self.restarts} restarts, {self.faults} of them by a failing disk; {self.points} crash points ({calls}), "
            f"{self.states} states recovered, {self.refused} refused"
        )


class Watcher:
    """A client with what it asked, so that what it is told can be judged. A new one for each connection."""

    def __init__(self, client: SimClient, requests: dict[int, Write]) -> None:
        self.client = client
        # By xid: shared by all connections of a session.
        self.requests = requests
        self.reads: dict[int, tuple[str, bytes, bool]] = {}
        self.checked = 0
        self.last_xid = 0
        self.zxid = 0
        self.data: dict[bytes, None] = {}
        self.children: dict[bytes, None] = {}
        self.due: list[tuple[int, int, bytes]] = []


class Storm:
    """One run. `crash_every` says at which calls of the disk the power is lost on a copy; 0 stands for none."""

    def __init__(self, seed: int, *, crash_every: int = 1, variants: int = 1, parts: Parts | None = None) -> None:
        self.seed = seed
        self.dice = Random(seed)
        self.crash_dice = Random(seed + 1_000_003)
        self.tally = Tally(seeds=1)
        self.crash_every = crash_every
        self.variants = variants
        self.model = Model()
        self.floor = 0
        self.failures: list[BaseException] = []
        self.watchers: list[Watcher] = []
        # By session id, then xid.
        self.requests: dict[int, dict[int, Write]] = {}
        self.passwords: dict[int, bytes] = {}
        self.config = storm_config(self.dice)
        self.parts = parts or Parts()
        self.parts.store = Recorder
        self.server = SimServer(dice=self.dice, config=self.config, parts=self.parts)
        self.base = 0
        self._is_checking = False
        self._calls = 0

    # The run.

    def go(self, steps: int) -> Tally:
        """All of it. Raises AssertionError at the first thing that is not right."""
        self._start()
        for _ in range(steps):
            self._step()
            self._raise()
        self.server.run(5000)
        return self._finish()

    def go_scripted(self) -> Tally:
        """The same with a script: every kind of write, snapshots while writes go on, a purge, an expiry, a restart."""
        self._start()
        self.server.run(20)
        owner, other, silent = (watcher for watcher in self.watchers[:3])
        for number in range(3):
            for watcher, write in script(number, owner, other, silent):
                watcher.requests[watcher.client.send(*encode_write(write))] = write
                self.server.run(self.dice.choice((0, 1, 8)))
            self.server.replica.snapshot_is_due = True
            self.server.run(40)
            self.server.driver.purge()
            self._check_run()
            self._raise()
        silent.client.link.drop()
        self.server.run(5000)
        return self._finish()

    def _raise(self) -> None:
        if self.failures:
            raise AssertionError(f"seed {self.seed}: {self.failures[0]}") from self.failures[0]

    def _finish(self) -> Tally:
        self.server.disk.on_call = None
        self.server.stop()
        self._check_run()
        self._raise()
        self._compare(self.server, self.model.zxid, self.model.zxid, "stopped")
        return self.tally

    def _start(self) -> None:
        self.server.disk.on_call = self._on_call
        self.server.start()
        self.server.disk.on_call = self._on_call
        self.base = self.model.zxid
        self.watchers = []
        for _ in range(CLIENTS):
            self._join()

    def _step(self) -> None:
        dice = self.dice
        chance = dice.random()
        if chance < 0.004:
            self._restart()
        elif chance < 0.02 or not self.watchers:
            self._join()
        elif chance < 0.05:
            self._leave(dice.choice(self.watchers))
        else:
            watcher = dice.choice(self.watchers)
            for _ in range(dice.choice((1, 1, 2, 6))):
                self._ask(watcher)
        if dice.random() < 0.6:
            self.server.run(dice.choice((0, 0, 1, 3, 10, 60)))
        self._check_run()

    def _join(self) -> None:
        client = SimClient(self.server.link())
        client.open_session(timeout_ms=self.dice.choice((400, 1000, 4000)))
        self.watchers.append(Watcher(client, {}))

    def _leave(self, watcher: Watcher) -> None:
        """It closes its session, or its connection breaks and it comes back at once, later or never."""
        client = watcher.client
        way = self.dice.randrange(4)
        if way == 0 and client.session_id:
            watcher.requests[client.close_session()] = Write("close")
            return
        if way < 3:
            client.link.drop()
        if way == 2:
            return
        if client.session_id:
            self.server.run(self.dice.choice((0, 2, 300)))
            back = SimClient(self.server.link())
            back.resume_from(client, timeout_ms=self.dice.choice((400, 1000, 4000)))
            self.watchers.append(Watcher(back, watcher.requests))

    def _restart(self) -> None:
        """A real crash, in the middle of the run, or a disk that fails before it; it goes on from what was left."""
        if self.dice.random() < 0.4 and self.watchers:
            self._break_disk()
        self._check_run()
        self._end_watchers(self.watchers)
        self.tally.restarts += 1
        mode = self.dice.choice(("lose", "keep", "random", "kill"))
        self.server.disk.on_call = None
        if mode == "kill":
            self.server.kill()
        else:
            self.server.crash(self.dice, mode)
        last = self.model.zxid
        zxid = self._compare(self.server, self.floor, last, f"restart after {mode}", goes_on=True)
        self.model.cut(zxid)
        self.server.disk.on_call = self._on_call
        self.base = zxid
        self.floor = max(self.floor, zxid)
        self.watchers = []

    def _break_disk(self) -> None:
        """A call for the log fails; whatever is said afterwards must be true all the same."""
        kind = self.dice.choice(("sync", "write"))
        self.server.disk.fail(kind, 1, errno.EIO, where="/log.", written_bytes=self.dice.randrange(200))
        self.tally.faults += 1
        for _ in range(20):
            self._ask(self.dice.choice(self.watchers))
            self.server.run(self.dice.choice((0, 3)))

    # What clients ask.

    def _ask(self, watcher: Watcher) -> None:
        client, dice = watcher.client, self.dice
        if not client.is_open or client.connected is None or not client.session_id:
            return
        if dice.random() < 0.35:
            kind, path, watch = dice.choice(("get", "exists", "children")), self._path(), dice.random() < 0.7
            ask = {"get": client.get, "exists": client.exists, "children": client.children}[kind]
            watcher.reads[ask(path, watch=watch)] = (kind, path, watch)
            return
        write = self._multi() if dice.random() < 0.15 else self._write()
        watcher.requests[client.send(*encode_write(write))] = write

    def _path(self) -> bytes:
        dice = self.dice
        top = dice.choice((b"/q", b"/d", b"/e", b"/t", b"/x%d" % dice.randrange(4)))
        return top if dice.random() < 0.5 else top + b"/%d" % dice.randrange(4)

    def _multi(self) -> Write:
        return Write("multi", parts=tuple(self._write("check") for _ in range(self.dice.randrange(4))))

    def _write(self, last_kind: str = "acl") -> Write:
        dice = self.dice
        path = self._path()
        version = dice.choice((-1, -1, -1, 0, 1))
        kind = dice.choice(("create", "create", "create", "sequence", "set", "set", "delete", last_kind))
        if kind == "sequence":
            parent = dice.choice((b"/q", b"/d", b"/d/1", b""))
            owner = dice.choice(("", "", "ephemeral"))
            return Write("create", parent + b"/s-", dice.randbytes(5), owner=owner, sequential=True)
        if kind == "create":
            owner = dice.choice(("", "", "", "ephemeral", "container", "ttl"))
            data = b"" if dice.random() < 0.3 else dice.randbytes(dice.choice((1, 20, 700)))
            return Write("create", path, data, owner=owner, number=dice.choice((300, 5000)))
        if kind == "set":
            return Write("set", path, dice.randbytes(dice.choice((0, 8, 300))), version)
        if kind == "acl":
            return Write("acl", path, version=version, perms=tree_model.ALL - dice.choice((0, 0, 2, 4, 8)))
        return Write(kind, path, version=version)

    # What comes of it.

    def _check_run(self) -> None:
        """Brings the model up to what was appended, and judges everything that was sent since the last time."""
        self._catch_up()
        for watcher in self.watchers:
            self._judge(watcher)
        gone = [watcher for watcher in self.watchers if not watcher.client.is_open]
        if gone:
            self._end_watchers(gone)
            self.watchers = [watcher for watcher in self.watchers if watcher.client.is_open]

    def _catch_up(self) -> None:
        # A session's first request may be appended in the turn that tells it its id, so this comes before each look.
        for watcher in self.watchers:
            if watcher.client.session_id:
                self.requests.setdefault(watcher.client.session_id, watcher.requests)
                self.passwords[watcher.client.session_id] = watcher.client.password
        store = self.server.store
        assert isinstance(store, Recorder), "it was made by this storm"
        for payload in store.appended[self.model.zxid - self.base :]:
            self._learn(payload)

    def _learn(self, payload: bytes) -> None:
        session_id, cxid, zxid, time_ms, op = _HEADER.unpack_from(payload)
        body = payload[_HEADER.size :]
        if op == codes.OP_CREATE_SESSION:
            write = Write("open", number=_INT.unpack_from(body)[0])
        elif op == codes.OP_CLOSE_SESSION:
            write = Write("close")
        elif op == codes.OP_DELETE_CONTAINER:
            write = Write("reap", path=Reader(body).path())
        elif cxid == 0:
            # The server's own, refused: a container that was not empty any more.
            write = Write("reap", path=b"/none")
        else:
            write = self.requests[session_id][cxid]
        outcome = self.model.apply(zxid, time_ms, session_id, write)
        self.tally.txns += 1
        if op == codes.OP_ERROR:
            err = _INT.unpack_from(body)[0]
            assert write.kind == "reap" or outcome.err == err, f"zxid {zxid}: {write} is logged as {err}: {outcome}"
            return
        assert outcome.err == 0, f"zxid {zxid}: {write} is logged as done: {outcome}"
        digest = _DIGEST.unpack_from(payload, len(payload) - _DIGEST.size)[1]
        expected = tree_model.digest_of(self.model.states[zxid].nodes)
        assert digest == expected, f"zxid {zxid}: {write} with another digest"

    def _judge(self, watcher: Watcher) -> None:
        log = watcher.client.log
        connected = watcher.client.connected
        if watcher.zxid == 0 and connected is not None and connected.session_id:
            # A watch cannot be older than the connection.
            watcher.zxid = self._opened_at(connected.session_id)
            self.floor = max(self.floor, watcher.zxid)
        while watcher.checked < len(log):
            entry = log[watcher.checked]
            watcher.checked += 1
            if isinstance(entry, Reply) and entry.xid < 0:
                continue
            assert entry.zxid >= watcher.zxid, f"zxid {entry.zxid} behind {watcher.zxid}"
            assert entry.zxid <= self.model.zxid, "a zxid that was never proposed"
            self.floor = max(self.floor, entry.zxid)
            self._fall_due(watcher, entry.zxid)
            if isinstance(entry, Event):
                self.tally.events += 1
                event = (entry.zxid, entry.type, entry.path)
                assert event in watcher.due, f"an event out of place: {entry}, due were {watcher.due}"
                first = [due for due in watcher.due if due[0] < entry.zxid]
                assert not first, f"events that should have come before {entry}: {first}"
                watcher.due.remove(event)
            else:
                self.tally.replies += 1
                assert entry.xid > watcher.last_xid, f"reply {entry.xid} behind {watcher.last_xid} (W4)"
                watcher.last_xid = entry.xid
                assert not watcher.due, f"reply {entry.xid} before the events {watcher.due} that it reveals (E1)"
                self._judge_reply(watcher, entry)

    def _opened_at(self, session_id: int) -> int:
        return next(zxid for zxid, state in enumerate(self.model.states) if session_id in state.sessions)

    def _fall_due(self, watcher: Watcher, zxid: int) -> None:
        """The events of all txns up to this one that the watches of the connection are for."""
        for at in range(watcher.zxid + 1, zxid + 1):
            for kind, path in self.model.states[at].triggers:
                table = watcher.children if kind == tree_model.CHILDREN_CHANGED else watcher.data
                hit = path in table
                table.pop(path, None)
                if kind == tree_model.DELETED:
                    hit = path in watcher.children or hit
                    watcher.children.pop(path, None)
                if hit:
                    watcher.due.append((at, kind, path))
        watcher.zxid = zxid

    def _end_watchers(self, watchers: list[Watcher]) -> None:
        for watcher in watchers:
            self._judge(watcher)

    def _judge_reply(self, watcher: Watcher, reply: Reply) -> None:
        if reply.xid in watcher.reads:
            self._judge_read(watcher, reply, *watcher.reads[reply.xid])
            return
        write = watcher.requests[reply.xid]
        outcome = self.model.states[reply.zxid].outcome
        assert reply.err == outcome.err, f"{write}: {reply} instead of {outcome}"
        if write.kind == "multi" and not outcome.err:
            judge_multi(reply, write, outcome)
        elif not outcome.err and write.kind == "create":
            r = Reader(reply.body)
            assert r.path() == outcome.path, f"{write}: {reply} instead of {outcome}"
            assert read_stat(r) == outcome.stat, f"{write}: {reply} instead of {outcome}"
        elif not outcome.err and write.kind in ("set", "acl"):
            assert read_stat(Reader(reply.body)) == outcome.stat, f"{write}: {reply} instead of {outcome}"

    def _judge_read(self, watcher: Watcher, reply: Reply, kind: str, path: bytes, watch: bool) -> None:
        nodes = self.model.states[reply.zxid].nodes
        node = nodes.get(path)
        what = f"{kind} {path!r} at zxid {reply.zxid}: {reply}"
        assert reply.err == (tree_model.OK if node is not None else tree_model.NO_NODE), what
        if node is not None:
            r = Reader(reply.body)
            if kind == "get":
                assert (r.buffer() or b"") == node.data, what
            elif kind == "children":
                assert sorted(read_paths(r)) == names(nodes, path), what
            assert read_stat(r) == tree_model.stat_of(nodes, path), what
        if watch and kind == "children" and node is not None:
            watcher.children[path] = None
        elif watch and (kind == "exists" or (kind == "get" and node is not None)):
            watcher.data[path] = None

    # Crashes.

    def _on_call(self, kind: str, path: str) -> None:
        self._calls += 1
        self.tally.kinds[kind] = self.tally.kinds.get(kind, 0) + 1
        if self._is_checking or self.failures or not self.crash_every or self._calls % self.crash_every:
            return
        self._is_checking = True
        self.tally.points += 1
        try:
            if self.server.is_up:
                self._check_run()
            for _ in range(self.variants):
                mode = self.crash_dice.choice(MODES)
                self._crash_copy(mode, f"{mode} before {kind} of {path}")
        except AssertionError as failure:
            # Not out of here: the disk would take it for an error of its own.
            self.failures.append(failure)
        self._is_checking = False

    def _crash_copy(self, mode: str, what: str) -> None:
        clock = SimClock(wall_ms=self.server.clock.wall_ms() + 1000)
        copy = SimServer(clock, dice=Random(self.crash_dice.random()), config=self.config, parts=self.parts)
        copy.disk = self.server.disk.clone(copy.schedule_job)
        if mode == "kill":
            copy.disk.kill()
        else:
            copy.disk.crash(self.crash_dice, mode)
        try:
            self._compare(copy, self.floor, self.model.zxid, what)
        except StorageCorrupt as error:
            # Sectors lost in the middle of what was not synced cannot be told from damage; nothing else is refused.
            if mode != "sectors":
                raise AssertionError(f"{what}: {error}") from error
            self.tally.refused += 1
        else:
            self.tally.states += 1

    def _compare(self, server: SimServer, floor: int, last: int, what: str, *, goes_on: bool = False) -> int:
        """Starts the server and compares all it has with the model; the zxid it came back with."""
        server.start()
        zxid = server.tree.last_zxid
        assert floor <= zxid <= last, f"{what}: zxid {zxid} came back, {floor} was acknowledged, {last} appended (W1)"
        state = self.model.states[zxid]
        assert server.tree.digest_mismatches == 0, f"{what}: digests in the log do not fit"
        assert server.tree.digest == tree_model.digest_of(state.nodes), f"{what}: another digest at zxid {zxid} (Z11)"
        assert server.replica.sessions.timeouts == state.sessions, f"{what}: other sessions at zxid {zxid}"
        if goes_on:
            return zxid
        reader = server.client(timeout_ms=4000)
        server.run(40)
        compare_trees(server, reader, state, f"{what}, at zxid {zxid}")
        self._probe(server, reader, state, what)
        return zxid

    def _probe(self, server: SimServer, client: SimClient, state: State, what: str) -> None:
        """Sequence numbers go on where they were (W9), and a session comes back to its ephemerals (S1)."""
        parent = b"/q" if b"/q" in state.nodes else b"/"
        node = state.nodes[parent]
        if node.perms & tree_model.CREATE and node.owner in (0, tree_model.CONTAINER):
            xid = client.create((b"" if parent == b"/" else parent) + b"/s-", flags=codes.FLAG_PERSISTENT_SEQUENTIAL)
            server.run(40)
            path = Reader(client.reply(xid).body).path()
            assert path.endswith(b"/s-%010d" % node.creates), f"{what}: {path!r} after {node.creates} creates (W9)"
        known = [session_id for session_id in state.sessions if session_id in self.passwords]
        if not known:
            return
        session_id = self.crash_dice.choice(known)
        back = SimClient(server.link())
        back.open_session(timeout_ms=4000, session_id=session_id, password=self.passwords[session_id])
        w = Writer()
        w.path(b"/")
        server.run(1)
        assert back.session_id == session_id, f"{what}: session {session_id:#x} is lost (S6)"
        xid = back.send(codes.OP_GET_EPHEMERALS, w.getvalue())
        server.run(1)
        mine = [path for path, node in state.nodes.items() if node.owner == session_id]
        assert sorted(read_paths(Reader(back.reply(xid).body))) == sorted(mine), f"{what}: other ephemerals"


def script(number: int, owner: Watcher, other: Watcher, silent: Watcher) -> Iterator[tuple[Watcher, Write]]:
    """Who writes what, in the `number`-th round."""
    top = b"/r%d" % number
    yield owner, Write("create", top, b"x" * 3000)
    yield silent, Write("create", top + b"/e", owner="ephemeral")
    for index in range(12):
        yield owner, Write("create", top + b"/s-", b"%d" % index, sequential=True)
        yield other, Write("set", top, b"y" * (index * 300), index if index % 3 else 7)
    yield other, Write("create", top + b"/e-", owner="ephemeral", sequential=True)
    yield owner, Write("delete", top + b"/s-%010d" % 3)
    yield owner, Write("create", top + b"/c", owner="container")
    yield owner, Write("create", top + b"/c/x")
    yield owner, Write("delete", top + b"/c/x")
    yield owner, Write("create", top + b"/t", owner="ttl", number=500)
    yield owner, Write("acl", top + b"/c", perms=tree_model.ALL - tree_model.CREATE)
    parts = (Write("check", top), Write("create", top + b"/m-", sequential=True), Write("set", top, b"m"))
    yield other, Write("multi", parts=parts)
    yield other, Write("multi", parts=(*parts, Write("delete", top), Write("create", top + b"/never")))
    yield other, Write("multi")
    yield owner, Write("delete", top)
    yield owner, Write("create", top + b"/s-", sequential=True)


def names(nodes: Nodes, path: bytes) -> list[bytes]:
    return [child[child.rindex(b"/") + 1 :] for child in tree_model.child_paths(nodes, path)]


def read_paths(r: Reader) -> list[bytes]:
    return [r.path() for _ in range(r.count())]


def read_stat(r: Reader) -> tuple[int, ...]:
    stat = StatRecord.read(r)
    head = (stat.czxid, stat.mzxid, stat.ctime, stat.mtime, stat.version, stat.cversion, stat.aversion)
    return (*head, stat.ephemeral_owner, stat.data_length, stat.num_children, stat.pzxid)


def judge_multi(reply: Reply, write: Write, outcome: Outcome) -> None:
    """Each part's own result (MultiResponse)."""
    r = Reader(reply.body)
    what = f"{write}: {reply} instead of {outcome}"
    for part, expected in zip(write.parts, outcome.parts, strict=True):
        header = MultiHeader.read(r)
        assert not header.done, what
        if outcome.path == b"failed":
            assert (header.type, r.int32()) == (codes.OP_ERROR, expected.err), what
        elif part.kind == "create":
            assert r.path() == expected.path, what
            if header.type != codes.OP_CREATE:
                assert read_stat(r) == expected.stat, what
        elif part.kind in ("set", "acl"):
            assert read_stat(r) == expected.stat, what
    assert MultiHeader.read(r).done, what


def compare_trees(server: SimServer, client: SimClient, state: State, what: str) -> None:
    """By reads of a client: every znode's data, children, Stat and ACL, and that there are no others."""
    nodes = state.nodes
    asked: list[tuple[bytes, int, int, int]] = []
    for path in nodes:
        w = Writer()
        w.path(path)
        asked.append((path, client.get(path), client.children(path), client.send(codes.OP_GET_ACL, w.getvalue())))
    server.run(1)
    replies = {reply.xid: reply for reply in client.replies}
    for path, get, children, acl in asked:
        r = Reader(replies[get].body)
        assert replies[get].err == 0, f"{what}: {path!r} cannot be read"
        assert (r.buffer() or b"") == nodes[path].data, f"{what}: other data at {path!r}"
        found, expected = read_stat(r), tree_model.stat_of(nodes, path)
        assert found == expected, f"{what}: Stat of {path!r} is {found} instead of {expected} (W8)"
        there = sorted(read_paths(Reader(replies[children].body)))
        assert there == names(nodes, path), f"{what}: other children at {path!r}"
        r = Reader(replies[acl].body)
        entries = [ACL.read(r) for _ in range(r.count())]
        assert entries == [ACL(nodes[path].perms, Id("world", "anyone"))], f"{what}: another ACL at {path!r}"


def encode_write(write: Write) -> tuple[int, bytes]:
    """The request that asks for it."""
    if write.kind == "multi":
        return codes.OP_MULTI, multi_body(*map(encode_write, write.parts))
    acl = [ACL(write.perms, Id("world", "anyone"))]
    w = Writer()
    if write.kind == "create":
        flags = _CREATE_FLAGS[write.owner] + (2 if write.sequential else 0)
        if write.owner == "ttl":
            CreateTTLRequest(write.path, write.data, acl, flags, write.number).write(w)
            return codes.OP_CREATE_TTL, w.getvalue()
        op = codes.OP_CREATE_CONTAINER if write.owner == "container" else codes.OP_CREATE2
        return op, create_body(write.path, write.data, flags, acl)
    if write.kind == "set":
        return codes.OP_SET_DATA, encode(SetDataRequest(write.path, write.data, write.version))
    if write.kind == "delete":
        return codes.OP_DELETE, encode(DeleteRequest(write.path, write.version))
    if write.kind == "check":
        CheckVersionRequest(write.path, write.version).write(w)
        return codes.OP_CHECK, w.getvalue()
    SetACLRequest(write.path, acl, write.version).write(w)
    return codes.OP_SET_ACL, w.getvalue()


def storm(first_seed: int, seeds: int, steps: int, variants: int) -> Iterator[Tally]:
    """The runs of many seeds. Stops at the first finding, by AssertionError, which names the seed."""
    for seed in range(first_seed, first_seed + seeds):
        yield Storm(seed, variants=variants).go(steps)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the storms and notes them down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="runs to crash everywhere")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400, help="of one run")
    parser.add_argument("--variants", type=int, default=2, help="states recovered at each crash point")
    parser.add_argument("--date", default=None, help="of the line in the ledger; today's if it is not given")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args(argv)
    started = time.monotonic()
    total = Tally()
    # Each recovery warns of what the crash has torn.
    logging.disable(logging.WARNING)
    try:
        for tally in storm(options.first_seed, options.seeds, options.steps, options.variants):
            total.add(tally)
            print(f"{time.monotonic() - started:6.0f} s  {total}", flush=True)
    finally:
        logging.disable(logging.NOTSET)
    date = options.date or datetime.datetime.now(datetime.UTC).date().isoformat()
    minutes = (time.monotonic() - started) / 60
    command = f"`python tools/storm_server.py --first-seed {options.first_seed} --seeds {options.seeds}`"
    with options.ledger.open("a") as ledger:
        ledger.write(f"| {date} | server storm | {command} | {minutes:.0f} min: {total} | nothing |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
