"""Runs for the checkers: a simulated server with walking clients, and histories written by hand."""

from __future__ import annotations

from random import Random

from coati.core.tree import TreeConfig
from coati.server.replica import ReplicaConfig
from coati.storage.store import StoreConfig
from coati.testing.check_sessions import SessionRules
from coati.testing.checkers import Rules, check
from coati.testing.clock import SimClock
from coati.testing.disk import SimDisk
from coati.testing.history import LOGGED, RECOVERED, WATCHES, History, Trace, Violation
from coati.testing.server import (
    DATA_DIR,
    Parts,
    SimConfig,
    SimLink,
    SimServer,
    create_body,
    request_frame,
)
from coati.testing.workload import Walker
from coati.wire import codes
from coati.wire.jute import FrameBuffer, Reader
from coati.wire.records import ReplyHeader

TICK_MS = 200
TIMEOUT_MS = 600
STEP_MS = 5
LATE_XID = 1_000_000


class Run:
    """One server, some walkers, crashes and restarts; `check` says what is wrong with what came of it."""

    def __init__(
        self,
        seed: int,
        *,
        clients: int = 4,
        parts: Parts | None = None,
        snap_count: int = 40,
        mix: dict[str, float] | None = None,
    ) -> None:
        self.dice = Random(seed)
        self.clock = SimClock()
        self.history = History(lambda: self.clock.now_ms)
        self.log: list[tuple[int, bytes]] = []
        self.traces: list[Trace] = []
        self.starts: list[int] = []
        parts = parts or Parts()
        base = parts.store
        run = self

        class Recorder(base):  # type: ignore[misc, valid-type]  # whatever store the test has planted
            def __init__(self, disk: SimDisk, config: StoreConfig) -> None:
                super().__init__(disk, config)

            def append(self, zxid: int, payload: bytes) -> None:
                run.logged(zxid, payload)
                super().append(zxid, payload)

            def append_all(self, first_zxid: int, payloads: list[bytes]) -> None:
                known = len(run.log)
                super().append_all(first_zxid, payloads)
                if len(run.log) == known:
                    for number, payload in enumerate(payloads):
                        run.logged(first_zxid + number, payload)

        self.parts = Parts(**{name: getattr(parts, name) for name in Parts.__slots__})
        self.parts.store = Recorder
        config = SimConfig(
            replica=ReplicaConfig(
                tick_ms=TICK_MS, min_session_timeout_ms=400, max_session_timeout_ms=4000, snap_count=snap_count
            ),
            store=StoreConfig(DATA_DIR, prealloc_bytes=2048),
            tree=TreeConfig(),
            disk_ms=(0, 4),
        )
        self.server = SimServer(self.clock, dice=self.dice, config=config, parts=self.parts)
        self.walkers = [Walker(self.history, self.dice, timeout_ms=TIMEOUT_MS, mix=mix) for _ in range(clients)]
        self.links: dict[int, SimLink] = {}
        # Until when a client does nothing, with or without a connection.
        self.silent: dict[int, int] = {}

    def logged(self, zxid: int, payload: bytes) -> None:
        self.log.append((zxid, payload))
        self.traces.append(Trace(self.clock.now_ms, 1, LOGGED, zxid, payload=payload))

    def start(self) -> None:
        self.server.start()
        self.starts.append(self.clock.now_ms)
        last = self.server.loaded.tree.last_zxid
        while self.log and self.log[-1][0] > last:
            self.log.pop()
        self.traces.append(Trace(self.clock.now_ms, 1, RECOVERED, last))

    def go(self, steps: int) -> Run:
        """Random steps; in the end all clients come to rest."""
        self.start()
        for _ in range(steps):
            self.step()
        for _ in range(40):
            self.connect_all()
            for walker in self.walkers:
                walker.ping()
            self.server.run(STEP_MS * 4)
        for index in list(self.links):
            self.lose(index)
        self.server.run()
        conns = tuple(range(len(self.server.links)))
        watches = self.server.replica.watches.size()
        self.traces.append(Trace(self.clock.now_ms, 1, WATCHES, count=watches, acks=conns))
        return self

    def step(self) -> None:
        dice = self.dice
        chance = dice.random()
        if chance < 0.004:
            if dice.random() < 0.5:
                self.server.kill()
            else:
                self.server.crash(dice)
            for index in list(self.links):
                self.lose(index)
            self.clock.advance(dice.randint(0, 300))
            self.start()
        elif chance < 0.02 and self.links:
            self.lose(dice.choice(list(self.links)))
        elif chance < 0.023:
            # Until it expires.
            index = dice.randrange(len(self.walkers))
            self.lose(index)
            self.silent[index] = self.clock.now_ms + dice.choice((TIMEOUT_MS // 2, TIMEOUT_MS * 2))
        elif chance < 0.026:
            self.silent[dice.randrange(len(self.walkers))] = self.clock.now_ms + TIMEOUT_MS * 2
        elif chance < 0.03 and self.links:
            self.move(dice.choice(list(self.links)))
        self.connect_all()
        index = dice.randrange(len(self.walkers))
        if self.silent.get(index, 0) <= self.clock.now_ms:
            self.walkers[index].act()
        if dice.random() < 0.5:
            self.server.run(dice.choice((0, 1, STEP_MS, 20)))
        for index, walker in enumerate(self.walkers):
            if dice.random() < 0.02 and self.silent.get(index, 0) <= self.clock.now_ms:
                walker.ping()

    def connect_all(self) -> None:
        for index, walker in enumerate(self.walkers):
            link = self.links.get(index)
            if link is not None and (walker.is_over or not link.is_open):
                self.server.run(STEP_MS * 4)
                if walker.is_over or not link.is_open:
                    self.lose(index)
            if index in self.links or self.silent.get(index, 0) > self.clock.now_ms:
                continue
            link = self.links[index] = self.server.link()
            link.on_data = walker.received
            walker.connect(1, link.feed)

    def move(self, index: int) -> None:
        """Its session comes back on another connection, and something still arrives on the old one."""
        link, walker = self.links[index], self.walkers[index]
        session_id, conn = walker.session_id, walker.conn
        if not walker.is_connected or walker.is_over:
            return
        frames = FrameBuffer()

        def on_data(data: bytes) -> None:
            for frame in frames.feed(data):
                r = Reader(frame)
                header = ReplyHeader.read(r)
                if header.xid == xid:
                    self.history.returned(conn, session_id, (xid, header.zxid, header.err), frame[r.pos :])

        self.server.run()
        link.on_data = on_data
        other = self.links[index] = self.server.link()
        other.on_data = walker.received
        walker.connect(1, other.feed)
        self.server.run()
        xid = LATE_XID + len(self.history.lines)
        body = create_body(b"/late", flags=codes.FLAG_PERSISTENT_SEQUENTIAL)
        self.history.called(conn, session_id, xid, codes.OP_CREATE2, body)
        link.feed(request_frame(xid, codes.OP_CREATE2, body))
        self.server.run()
        link.drop()

    def lose(self, index: int) -> None:
        link = self.links.pop(index, None)
        if link is not None:
            link.drop()
            link.on_data = None
            self.walkers[index].lost()

    def check(self) -> list[Violation]:
        sessions = SessionRules(
            skew_ms=self.clock.skew_ms, tick_ms=TICK_MS, starts_ms=self.starts, sids=[1], grace_ms=300
        )
        return check(self.history, self.log, traces=self.traces, rules=Rules(sessions=sessions))


def ids_of(found: list[Violation]) -> list[str]:
    return sorted({violation.id: None for violation in found})
