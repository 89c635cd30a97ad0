"""The load loop: many non-blocking connections over one epoll, each with exactly its requests in flight.

Knows sockets and clocks; what is sent and what must come back is the ring's. The rare case, a batch that is not as
expected, is taken apart frame by frame: an error reply is counted, a foreign xid ends the run.
Invariants: a lane sends as many requests as it took replies; nothing is sent after `stop`; a run ends with none due.
"""

from __future__ import annotations

import select
import socket
from collections import Counter
from collections.abc import Sequence
from struct import Struct
from time import perf_counter, perf_counter_ns
from typing import Final

from coati.bench.ring import LENGTH_BYTES, Ring
from coati.bench.session import BenchFailed
from coati.errors import ProtocolError
from coati.wire.codes import XID_NOTIFICATION, XID_PING

SCRATCH_BYTES: Final = 2 * 1024 * 1024
UNLIMITED: Final = 1 << 62
POLL_S: Final = 0.5
SILENCE_LIMIT_S: Final = 30.0
EPOLLIN: Final = 1
EPOLLOUT: Final = 4
MIN_REPLY_BYTES: Final = 16
MAX_REPLY_BYTES: Final = SCRATCH_BYTES // 2
_HEADER: Final = Struct(">ii8xi")


class Lane:
    """One connection under load. `first_lap` and `lap_step` keep the names that lanes create apart."""

    __slots__ = (
        "_requests",
        "_tail",
        "backlog",
        "budget",
        "done",
        "done_at",
        "errors",
        "in_flight",
        "lap",
        "lap_step",
        "latencies_ns",
        "mark",
        "mark_ns",
        "ring",
        "sent_at",
        "sock",
    )

    def __init__(
        self,
        sock: socket.socket,
        ring: Ring,
        *,
        first_lap: int = 0,
        lap_step: int = 1,
        start: int = 0,
        budget: int = UNLIMITED,
    ) -> None:
        self.sock = sock
        sock.setblocking(False)
        self.ring = ring
        self.lap = first_lap
        self.lap_step = lap_step
        self.sent_at = self.done_at = start % ring.size
        self.budget = budget
        self.in_flight = 0
        self.done = 0
        self.errors: Counter[int] = Counter()
        self.backlog = b""
        self.mark = 0
        self.mark_ns = 0
        self.latencies_ns: list[int] = []
        self._requests = ring.lap(first_lap)
        self._tail = b""

    def on_readable(self, scratch: bytearray, view: memoryview) -> int:
        """Take what has come; returns how many replies that were."""
        kept = len(self._tail)
        if kept:
            scratch[:kept] = self._tail
        end = kept + self._receive(view[kept:])
        ring, position = self.ring, self.done_at
        count = ring.whole_replies(position, end, self.in_flight)
        if count and ring.matches(position, count, scratch):
            used = ring.reply_at[position + count] - ring.reply_at[position]
        else:
            count, used = self._hop(scratch, end)
        self._tail = bytes(view[used:end]) if used < end else b""
        self.done_at = (position + count) % ring.size
        self.in_flight -= count
        self.done += count
        if self.mark and self.done >= self.mark:
            self.latencies_ns.append(perf_counter_ns() - self.mark_ns)
            self.mark = 0
        return count

    def send(self, count: int) -> None:
        """Put `count` more requests in flight, or what the budget still allows."""
        count = min(count, self.budget)
        if count == 0:
            return
        if not self.mark:
            self.mark = self.done + self.in_flight + count
            self.mark_ns = perf_counter_ns()
        ring, start = self.ring, self.sent_at
        end = start + count
        if end < ring.size:
            chunk = self._requests[ring.request_at[start] : ring.request_at[end]]
            self.sent_at = end
        else:
            chunk = self._requests[ring.request_at[start] :]
            self.lap += self.lap_step
            self._requests = ring.lap(self.lap)
            self.sent_at = end - ring.size
            chunk += self._requests[: ring.request_at[self.sent_at]]
        self.budget -= count
        self.in_flight += count
        self.backlog += chunk
        self.flush()

    def flush(self) -> None:
        """Write what the socket takes; the rest stays in `backlog`."""
        try:
            sent = self.sock.send(self.backlog)
        except BlockingIOError:
            return
        except OSError as error:
            raise BenchFailed(f"connection lost: {error}") from error
        self.backlog = self.backlog[sent:]

    def _receive(self, into: memoryview) -> int:
        try:
            got = self.sock.recv_into(into)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise BenchFailed(f"connection lost: {error}") from error
        if got == 0:
            raise BenchFailed(f"the server closed a connection with {self.in_flight} requests in flight")
        return got

    def _hop(self, scratch: bytearray, end: int) -> tuple[int, int]:
        """Frame by frame: replies taken and bytes used. Raises ProtocolError for a reply that was not due."""
        count = used = 0
        while end - used >= LENGTH_BYTES + MIN_REPLY_BYTES:
            length, xid, err = _HEADER.unpack_from(scratch, used)
            if not MIN_REPLY_BYTES <= length <= MAX_REPLY_BYTES:
                raise ProtocolError(f"a reply of {length} bytes")
            if used + LENGTH_BYTES + length > end:
                break
            used += LENGTH_BYTES + length
            if xid in (XID_NOTIFICATION, XID_PING):
                continue
            expected = self.ring.xid(self.done_at + count)
            if count == self.in_flight or xid != expected:
                raise ProtocolError(f"reply to xid {xid} where {expected} was due, {self.in_flight - count} in flight")
            position = (self.done_at + count) % self.ring.size
            due = self.ring.reply_at[position + 1] - self.ring.reply_at[position] - LENGTH_BYTES
            if err:
                self.errors[err] += 1
            elif length != due:
                raise ProtocolError(f"a reply of {length} bytes where {due} were due")
            elif not self.ring.fits(position, scratch, used - LENGTH_BYTES - length):
                raise ProtocolError(f"the reply to xid {xid} has other data than was written")
            count += 1
        return count, used


class Load:
    """All lanes of a run."""

    __slots__ = ("_epoll", "_heard_s", "_lanes", "_scratch", "_silence_limit_s", "_view", "_waiting", "lanes")

    def __init__(self, lanes: Sequence[Lane], *, silence_limit_s: float = SILENCE_LIMIT_S) -> None:
        self.lanes = lanes
        self._lanes = {lane.sock.fileno(): lane for lane in lanes}
        self._epoll = select.epoll()
        for number in self._lanes:
            self._epoll.register(number, EPOLLIN)
        self._waiting: dict[int, Lane] = {}
        self._silence_limit_s = silence_limit_s
        self._heard_s = perf_counter()
        # One buffer for all lanes stays in the processor's cache.
        self._scratch = bytearray(SCRATCH_BYTES)
        self._view = memoryview(self._scratch)

    def start(self, in_flight: int) -> None:
        """Put the first requests of every lane in flight."""
        for number, lane in self._lanes.items():
            lane.send(in_flight)
            self._watch(number, lane)

    def run_until(self, end_s: float) -> float:
        """Keep the lanes full until the clock `perf_counter` shows `end_s`; returns what it shows then.

        Raises BenchFailed, ProtocolError.
        """
        while (now_s := perf_counter()) < end_s:
            self._turn(now_s, min(POLL_S, end_s - now_s))
        return now_s

    def run_out(self) -> None:
        """Keep on until every lane has used its budget and has its replies. Raises BenchFailed, ProtocolError."""
        while any(lane.in_flight for lane in self.lanes):
            self._turn(perf_counter(), min(POLL_S, self._silence_limit_s))

    def stop(self) -> None:
        """Send nothing new, take all replies that are due, give the descriptors back."""
        for lane in self.lanes:
            lane.budget = 0
        self.run_out()
        self._epoll.close()

    def _turn(self, now_s: float, wait_s: float) -> None:
        """All sockets that have something, once."""
        scratch, view, lanes = self._scratch, self._view, self._lanes
        events = self._epoll.poll(wait_s)
        if not events:
            self._check_silence(now_s)
            return
        self._heard_s = now_s
        for number, event in events:
            lane = lanes[number]
            if event & ~EPOLLOUT:
                lane.send(lane.on_readable(scratch, view))
            else:
                lane.flush()
            if lane.backlog or self._waiting:
                self._watch(number, lane)

    def _watch(self, number: int, lane: Lane) -> None:
        """Ask to hear of a socket that takes bytes again, exactly while some wait for it."""
        if lane.backlog and number not in self._waiting:
            self._waiting[number] = lane
            self._epoll.modify(number, EPOLLIN | EPOLLOUT)
        elif not lane.backlog and self._waiting.pop(number, None) is not None:
            self._epoll.modify(number, EPOLLIN)

    def _check_silence(self, now_s: float) -> None:
        due = sum(lane.in_flight for lane in self.lanes)
        if due and now_s - self._heard_s > self._silence_limit_s:
            raise BenchFailed(f"no reply for {self._silence_limit_s:g} s with {due} requests in flight")
