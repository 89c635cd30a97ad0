"""A server's half of the conversation, written down by hand: what the machine's tests feed it and read from it."""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from coati.client.hosts import Host, HostList
from coati.client.retry import Retry
from coati.client.session import FOREVER_MS, Call, Outbox, Session, SessionConfig
from coati.client.types import EventType, State
from coati.client.watchtable import Fired
from coati.wire import codes

A: Final = Host("a", 1)
B: Final = Host("b", 2)
C: Final = Host("c", 3)
START_MS: Final = 1_000_000
TIMEOUT_MS: Final = 9_000
ID: Final = 0x1234
PASSWORD: Final = b"0123456789abcdef"


class Dice(Random):
    """Always the same number."""

    def __init__(self, value: float = 0.5) -> None:
        super().__init__(1)
        self.value = value

    def random(self) -> float:
        return self.value


class Listener:
    """A watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[EventType, bytes, int]] = []

    def on_event(self, type: EventType, path: bytes, zxid: int) -> None:
        self.told.append((type, path, zxid))


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


def text(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


def hello(timeout_ms: int = TIMEOUT_MS, session_id: int = ID, *, reads_only: bool = False, old: bool = False) -> bytes:
    """A ConnectResponse; `old`: of a server that does not know read-only mode."""
    payload = struct.pack(">iiq", 0, timeout_ms, session_id) + text(PASSWORD)
    return frame(payload if old else payload + struct.pack("?", reads_only))


def reply(xid: int, zxid: int = 1, err: int = 0, body: bytes = b"") -> bytes:
    return frame(struct.pack(">iqi", xid, zxid, err) + body)


def event(type: int, path: bytes, zxid: int = 7) -> bytes:
    return reply(codes.XID_NOTIFICATION, zxid, 0, struct.pack(">ii", type, 3) + text(path))


def sent(data: bytes) -> tuple[int, int, bytes]:
    """The xid, the opcode and the body of one request."""
    length, xid, op = struct.unpack_from(">iii", data)
    assert length == len(data) - 4
    return xid, op, data[12:]


def asked(data: bytes) -> tuple[int, int, int, bytes, bool]:
    """Of a ConnectRequest: last zxid, timeout, session id, password, read-only."""
    zxid, timeout_ms, session_id = struct.unpack_from(">qiq", data, 8)
    return zxid, timeout_ms, session_id, data[32:48], data[48] == 1


class Nobody:
    """Waits for a call, and only has to be there: the driver looks at the call itself."""

    def done(self) -> bool:
        return True

    def set_result(self, result: None, /) -> None:
        raise AssertionError("the driver resolves nothing")


class Driver:
    """A machine and its clock. What falls out is done, or kept for the test to look at."""

    def __init__(
        self,
        *hosts: Host,
        dice: Random | None = None,
        renews: bool = True,
        read_only: bool = False,
        max_inflight: int = 1024,
        retry: Retry = Retry.DEFAULT,
        max_frame: int = 1 << 20,
    ) -> None:
        config = SessionConfig(
            timeout_ms=TIMEOUT_MS,
            renews=renews,
            read_only=read_only,
            max_inflight=max_inflight,
            retry=retry,
            max_frame=max_frame,
        )
        dice = dice or Dice()
        self.machine = Session(config, HostList(hosts or (A,), dice), dice)
        self.now_ms = START_MS
        self.states: list[State] = []
        self.reasons: list[str] = []
        self.told: list[Call | Fired] = []
        self.sends: list[bytes] = []
        self.dials: list[Host] = []
        self.probes: list[Host] = []
        self.hang_ups = 0

    def take(self) -> Outbox:
        out = self.machine.take_outbox()
        self.states += [change.state for change in out.changes]
        self.reasons += [change.reason for change in out.changes]
        for told in out.told:
            self.told.append(told)
            if isinstance(told, Fired):
                told.watcher.on_event(told.type, told.path, told.zxid)
        self.sends += out.sends
        self.hang_ups += out.hang_up
        if out.dial is not None:
            self.dials.append(out.dial)
        if out.probe is not None:
            self.probes.append(out.probe)
        return out

    def start(self) -> None:
        self.machine.start(self.now_ms)
        self.take()

    def connect(
        self, timeout_ms: int = TIMEOUT_MS, session_id: int = ID, *, reads_only: bool = False, old: bool = False
    ) -> bytes:
        """The dial comes through and the server accepts; what was asked for."""
        self.machine.on_connected(self.now_ms)
        self.take()
        asked_for = self.sends.pop()
        self.feed(hello(timeout_ms, session_id, reads_only=reads_only, old=old))
        return asked_for

    def feed(self, *data: bytes) -> None:
        self.machine.on_data(b"".join(data), self.now_ms)
        self.take()

    def lose(self) -> None:
        self.machine.on_closed("gone", self.now_ms)
        self.take()

    def tick(self, at_ms: int) -> None:
        """The clock goes there, with a tick at each deadline on the way."""
        stuck = 0
        while (due := self.machine.next_deadline_ms()) <= at_ms:
            stuck = stuck + 1 if due <= self.now_ms else 0
            assert stuck < 5, "a deadline that has passed and stays"
            self.now_ms = max(due, self.now_ms)
            self.machine.on_tick(self.now_ms)
            self.take()
        self.now_ms = at_ms

    def redial(self) -> None:
        """Waits until the next dial."""
        count = len(self.dials)
        while len(self.dials) == count:
            due = self.machine.next_deadline_ms()
            assert due < FOREVER_MS
            self.now_ms = max(due, self.now_ms)
            self.machine.on_tick(self.now_ms)
            self.take()

    def call(self, op: int = codes.OP_GET_DATA, *, deadline_ms: int = FOREVER_MS, is_write: bool = False) -> Call:
        call = Call(op, b"body", is_write=is_write, deadline_ms=deadline_ms, waiter=Nobody())
        self.machine.submit(call, self.now_ms)
        self.take()
        return call

    def watch(self, path: bytes, listener: Listener, kind: int, missing_kind: int = -1) -> Call:
        call = Call(codes.OP_EXISTS, text(path), is_write=False, deadline_ms=FOREVER_MS, waiter=Nobody())
        call.watch(path, listener, kind=kind, missing_kind=missing_kind)
        self.machine.submit(call, self.now_ms)
        self.take()
        return call

    def requests(self) -> list[tuple[int, int, bytes]]:
        """What was sent since the last time."""
        found = [sent(data) for data in self.sends]
        self.sends.clear()
        return found


def connected(*hosts: Host, **options: object) -> Driver:
    driver = Driver(*hosts, **options)  # type: ignore[arg-type]  # the options of Driver
    driver.start()
    driver.connect()
    driver.sends.clear()
    return driver
