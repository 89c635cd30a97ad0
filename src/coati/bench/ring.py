"""A ring: requests made beforehand, and what their replies must look like.

The load generator must outrun the server, so it makes no request and parses no reply while it measures: it sends
slices of `requests` and compares whole batches of replies. For that every position of the ring knows where its request
starts, how long its reply is, and which xid and error code it must carry.
Must not know sockets. Invariants: position i and i + size are the same request but for the lap number; the xid of
position i is i % size + 1; a lap number has LAP_DIGITS digits, so all laps are equally long.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from struct import Struct
from typing import Final

from coati.bench.plan import Plan, parse_mix, write_pattern
from coati.bench.session import OPEN_ACL, Record, request_frame
from coati.wire.codes import OP_CREATE, OP_GET_DATA, OP_SET_DATA
from coati.wire.records import CreateRequest, GetDataRequest, SetDataRequest

RING_SIZE: Final = 1000
LAP_DIGITS: Final = 6
LAP_MARK: Final = b"@" * LAP_DIGITS
STAT_BYTES: Final = 68
REPLY_HEADER_BYTES: Final = 16
LENGTH_BYTES: Final = 4
# Of a reply: length and xid as one long, the zxid skipped, the error code; the body is skipped too.
CHECKED_BYTES: Final = LENGTH_BYTES + REPLY_HEADER_BYTES


class Item:
    """One request of a ring without its xid, the length of its reply's body and what that must start with."""

    __slots__ = ("body_bytes", "op", "prefix", "record")

    def __init__(self, op: int, record: Record, body_bytes: int, prefix: bytes = b"") -> None:
        self.op = op
        self.record = record
        self.body_bytes = body_bytes
        self.prefix = prefix


class Ring:
    """`window` is the most requests that are ever in flight on one connection; `period` the length after which the
    sizes of requests and replies repeat."""

    __slots__ = (
        "_expected",
        "_has_laps",
        "_prefixes",
        "_structs",
        "period",
        "reply_at",
        "request_at",
        "requests",
        "size",
        "window",
    )

    def __init__(self, items: list[Item], *, period: int, window: int) -> None:
        assert len(items) % period == 0, "the pattern must close at the end of the ring"
        assert len(items) >= window, "an xid may be in flight once"
        self.size = len(items)
        self.period = period
        self.window = window
        frames = [request_frame(i + 1, item.op, item.record) for i, item in enumerate(items)]
        self.requests = b"".join(frames)
        self.request_at = list(accumulate(map(len, frames), initial=0))
        # Replies are looked up from any position, up to a window ahead: the tables run past the end by that much.
        lengths = [REPLY_HEADER_BYTES + items[i % self.size].body_bytes for i in range(self.size + window)]
        self.reply_at = list(accumulate((LENGTH_BYTES + length for length in lengths), initial=0))
        flat: list[int] = []
        for position, length in enumerate(lengths):
            flat += (length << 32 | self.xid(position), 0)
        self._expected = tuple(flat)
        self._prefixes = [items[i % self.size].prefix for i in range(self.size + window)]
        self._has_laps = LAP_MARK in self.requests
        self._structs: dict[int, Struct] = {}

    def xid(self, position: int) -> int:
        """The xid of the request at `position`."""
        return position % self.size + 1

    def lap(self, number: int) -> bytes:
        """The requests of the `number`th time round."""
        return self.requests.replace(LAP_MARK, b"%0*d" % (LAP_DIGITS, number)) if self._has_laps else self.requests

    def whole_replies(self, position: int, available: int, in_flight: int) -> int:
        """How many of the replies due from `position` on are whole in `available` bytes, if all are as expected."""
        at = self.reply_at
        return bisect_right(at, at[position] + available, position, position + in_flight + 1) - 1 - position

    def matches(self, position: int, count: int, data: bytearray) -> bool:
        """Whether `data` starts with `count` replies of the right length, xid and error code 0, in order.

        The last one of a get must also have the right data: looking into each would cost more than all the rest.
        """
        key = position % self.period * (self.window + 1) + count
        struct = self._structs.get(key)
        if struct is None:
            struct = self._structs[key] = self._struct(position, count)
        if struct.unpack_from(data) != self._expected[2 * position : 2 * (position + count)]:
            return False
        last = position + count - 1
        return data.startswith(self._prefixes[last], self.reply_at[last] - self.reply_at[position] + CHECKED_BYTES)

    def fits(self, position: int, data: bytearray, at: int) -> bool:
        """Whether the body of the reply at `at` starts as that to the request at `position` must."""
        return data.startswith(self._prefixes[position], at + CHECKED_BYTES)

    def _struct(self, position: int, count: int) -> Struct:
        sizes = (self.reply_at[i + 1] - self.reply_at[i] for i in range(position, position + count))
        return Struct(">" + "".join(f"q8xi{size - CHECKED_BYTES}x" for size in sizes))


def ring_size(window: int) -> int:
    """A size that every pattern of whole percents closes in and that holds two windows."""
    return RING_SIZE * (1 + 2 * window // RING_SIZE)


def create_ring(path: bytes, data: bytes, *, window: int, size: int = 0) -> Ring:
    """Creates of `path` + a number of the ring; LAP_MARK in `path` becomes the lap's number."""
    size = size or ring_size(window)
    items: list[Item] = []
    for i in range(size):
        name = b"%s%06d" % (path, i)
        items.append(Item(OP_CREATE, CreateRequest(name, data, [OPEN_ACL], 0), LENGTH_BYTES + len(name)))
    return Ring(items, period=1, window=window)


def key_path(root: bytes, key: int) -> bytes:
    """The znode that gets and sets go to."""
    return b"%s/key%05d" % (root, key)


def data_ring(plan: Plan, data: bytes) -> Ring:
    """Gets and sets over the plan's keys, in the plan's mix."""
    paths = [key_path(plan.root, key) for key in range(plan.keys)]
    return access_ring(paths, data, percent=parse_mix(plan.mix)[1], window=plan.in_flight)


def access_ring(paths: Sequence[bytes], data: bytes, *, percent: int, window: int) -> Ring:
    """Gets and `percent` sets, over `paths` in turn; each of those znodes has to hold as many bytes as `data`."""
    pattern = write_pattern(percent)
    buffer = len(data).to_bytes(LENGTH_BYTES, "big") + data
    items: list[Item] = []
    for i in range(ring_size(window)):
        path = paths[i % len(paths)]
        if pattern[i % len(pattern)]:
            items.append(Item(OP_SET_DATA, SetDataRequest(path, data, -1), STAT_BYTES))
        else:
            items.append(Item(OP_GET_DATA, GetDataRequest(path, False), len(buffer) + STAT_BYTES, buffer))
    return Ring(items, period=len(pattern), window=window)
