"""Lone requests: one connection, one request in flight, every latency taken.

Plain socket calls and nothing between them and the clock, so that what is measured is the server and the kernel.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from struct import Struct
from time import perf_counter_ns
from typing import Final

from coati.bench.ring import LENGTH_BYTES, Ring
from coati.bench.session import BenchFailed, Session
from coati.errors import ProtocolError

BUFFER_BYTES: Final = 2 * 1024 * 1024
SILENCE_LIMIT_S: Final = 30
_HEADER: Final = Struct(">ii8xi")
_TIMEVAL: Final = Struct("ll")


class LoneRun:
    """What a lone client saw: latencies in the order they were taken, the clock at each reply, the lap it came to."""

    __slots__ = ("ended_ns", "errors", "lap", "latencies_ns")

    def __init__(self, lap: int) -> None:
        self.lap = lap
        self.latencies_ns: list[int] = []
        self.ended_ns: list[int] = []
        self.errors: Counter[int] = Counter()


def run_lone(
    session: Session,
    ring: Ring,
    seconds: float,
    *,
    first_lap: int = 0,
    spin: bool = False,
    between: Callable[[], bool] | None = None,
) -> LoneRun:
    """Requests of the ring one by one for `seconds`, or until `between`, called after each of them, says False.

    Raises BenchFailed, ProtocolError.
    """
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    receive = _receiver(session.sock, spin=spin)
    send, clock = session.sock.sendall, perf_counter_ns
    run = LoneRun(first_lap)
    at, position, requests = ring.request_at, 0, ring.lap(first_lap)
    now_ns, end_ns = 0, clock() + int(seconds * 1e9)
    try:
        while now_ns < end_ns:
            request = requests[at[position] : at[position + 1]]
            start_ns = clock()
            send(request)
            got = receive(view)
            now_ns = clock()
            due = ring.reply_at[position + 1] - ring.reply_at[position]
            if got != due or not ring.matches(position, 1, buffer):
                _take_apart(receive, view, got, ring.xid(position), due, run.errors)
                if not run.errors and not ring.fits(position, buffer, 0):
                    raise ProtocolError(f"the reply to xid {ring.xid(position)} has other data than was written")
                now_ns = clock()
            run.latencies_ns.append(now_ns - start_ns)
            run.ended_ns.append(now_ns)
            position += 1
            if position == ring.size:
                position = 0
                run.lap += 1
                requests = ring.lap(run.lap)
            if between is not None and not between():
                break
    except OSError as error:
        raise BenchFailed(f"connection lost: {error}") from error
    return run


def _receiver(sock: socket.socket, *, spin: bool) -> Callable[[memoryview], int]:
    """recv_into, blocking or asking until something is there."""
    recv_into = sock.recv_into
    if not spin:
        # Python's own timeout would cost a poll() before each recv; the kernel's does not.
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(SILENCE_LIMIT_S, 0))
        return recv_into
    sock.setblocking(False)

    def ask(view: memoryview) -> int:
        deadline_ns = perf_counter_ns() + SILENCE_LIMIT_S * 1_000_000_000
        while True:
            try:
                return recv_into(view)
            except BlockingIOError:
                if perf_counter_ns() > deadline_ns:
                    raise

    return ask


def _take_apart(
    receive: Callable[[memoryview], int], view: memoryview, got: int, xid: int, due: int, errors: Counter[int]
) -> None:
    """A reply that came in pieces or is not as expected: complete it, then say what it is."""
    while got < (LENGTH_BYTES + int.from_bytes(view[:LENGTH_BYTES], "big") if got >= LENGTH_BYTES else LENGTH_BYTES):
        more = receive(view[got:]) if got else 0
        if more == 0:
            raise BenchFailed("the server closed the connection")
        got += more
    _, seen, err = _HEADER.unpack_from(view)
    if seen != xid:
        raise ProtocolError(f"reply to xid {seen} where {xid} was due")
    if err:
        errors[err] += 1
    elif got != due:
        raise ProtocolError(f"a reply of {got} bytes where {due} were due")
