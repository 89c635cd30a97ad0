"""Quotas: their text, which one a path falls under, limits soft and hard, and statistics kept without txns."""

from __future__ import annotations

import pytest

from coati.core.quota import Quotas, StatsTrack, check_quota, limit_path, stat_path
from coati.errors import OK, QUOTA_EXCEEDED
from coati.wire import codes
from tests.core.kit import NOBODY, Client, Core, create_body, jbuf, jint

LIMITS = b"/zookeeper/quota/app/zookeeper_limits"
STATS = b"/zookeeper/quota/app/zookeeper_stats"


@pytest.mark.parametrize(
    ("text", "count", "size", "hard_count", "hard_size"),
    [
        (b"count=4,bytes=5", 4, 5, -1, -1),
        (b"count=4,bytes=5=;byteHardLimit=6;countHardLimit=7", 4, 5, 7, 6),
        (b"count=4;bytes=5,,;countHardLimit=7", 4, 5, 7, -1),
        (b"bytes=-1", -1, -1, -1, -1),
        (b"", -1, -1, -1, -1),
        (None, -1, -1, -1, -1),
        # What follows Java dies of (NumberFormatException, ArrayIndexOutOfBounds); here it is unset.
        (b"count=,bytes", -1, -1, -1, -1),
        (b"count=x,bytes=1e3", -1, -1, -1, -1),
        (b"\xff\xfe", -1, -1, -1, -1),
    ],
)
def test_text_is_read(text: bytes | None, count: int, size: int, hard_count: int, hard_size: int) -> None:
    track = StatsTrack(text)
    found = (track.get("count"), track.get("bytes"), track.get("countHardLimit"), track.get("byteHardLimit"))
    assert found == (count, size, hard_count, hard_size)


@pytest.mark.parametrize(
    "text", [b"count=4,bytes=5", b"count=4,bytes=5=;byteHardLimit=6;countHardLimit=7", b"count=-1,bytes=-1"]
)
def test_text_survives_reading(text: bytes) -> None:
    """StatsTrack.toString, with the odd `=` that 3.4 needs."""
    assert StatsTrack(text).text() == text


def test_text_of_nothing() -> None:
    assert StatsTrack().text() == b"count=-1,bytes=-1"


def test_deepest_quota_counts() -> None:
    quotas = Quotas({})
    quotas.add(b"/a")
    quotas.add(b"/a/b/c")
    quotas.add(b"")
    assert quotas.find(b"/a") == b"/a"
    assert quotas.find(b"/a/b") == b"/a"
    assert quotas.find(b"/a/b/c/d") == b"/a/b/c"
    assert quotas.find(b"/ab") is None
    assert quotas.find(b"/") is None
    quotas.on_deleted(limit_path(b"/a/b/c"), b"/zookeeper/quota/a/b/c")
    quotas.on_deleted(limit_path(b"/never"), b"/zookeeper/quota/never")
    quotas.on_deleted(b"/a/zookeeper_limits", b"/a")
    assert quotas.find(b"/a/b/c/d") == b"/a"


def test_paths_of_a_quota() -> None:
    assert limit_path(b"/app") == LIMITS
    assert stat_path(b"/app") == STATS


@pytest.mark.parametrize(
    ("limits", "stats", "count", "size", "messages"),
    [
        (b"count=2,bytes=10", b"count=1,bytes=5", 1, 5, []),
        (b"count=2,bytes=10", b"count=2,bytes=5", 1, 5, ["current count=3, softCountLimit=2"]),
        (b"count=9,bytes=10", b"count=2,bytes=5", 1, 6, ["current bytes=11, softByteLimit=10"]),
        (b"count=0,bytes=0", b"count=2,bytes=5", 0, 1, ["current bytes=6, softByteLimit=0"]),
        (b"count=0,bytes=0", b"count=2,bytes=5", 1, 0, ["current count=3, softCountLimit=0"]),
        (b"count=0,bytes=0", b"count=2,bytes=5", 1, 1, ["count=3, softCountLimit=0", "bytes=6, softByteLimit=0"]),
        # The hard limit takes the place of the soft one.
        (b"count=1,bytes=-1=;countHardLimit=5", b"count=2,bytes=5", 1, 1, []),
        (b"count=9,bytes=0=;countHardLimit=2", b"count=2,bytes=5", 1, 1, ["current count=3, hardCountLimit=2"]),
        (b"count=-1,bytes=-1=;byteHardLimit=5", b"count=2,bytes=5", 1, 1, ["current bytes=6, hardByteLimit=5"]),
        (b"count=-1,bytes=-1", b"count=2,bytes=5", 1, 1, []),
    ],
)
def test_limits(limits: bytes, stats: bytes, count: int, size: int, messages: list[str]) -> None:
    breaches = check_quota(b"/app", limits, stats, count=count, size_bytes=size)
    assert len(breaches) == len(messages)
    for breach, message in zip(breaches, messages, strict=True):
        assert message in breach.message()
        assert breach.message().startswith("Quota exceeded: /app [")
        assert breach.is_hard == ("hard" in message)


# In the tree.


def with_quota(limits: bytes, *, enforce: bool = True) -> tuple[Core, Client]:
    core = Core(enforce_quota=enforce)
    client = core.connect(1)
    core.create(client, b"/app", b"12345")
    core.create(client, b"/app/x", b"123")
    core.create(client, b"/zookeeper/quota/app")
    core.create(client, LIMITS, limits)
    core.create(client, STATS, b"")
    return core, client


def test_statistics_start_with_what_is_there() -> None:
    core, _ = with_quota(b"count=10,bytes=100")
    assert core.node(STATS).data() == b"count=2,bytes=8"
    assert core.stat(STATS).data_length == len(b"count=2,bytes=8")


def test_statistics_follow_every_write_without_a_txn() -> None:
    core, client = with_quota(b"count=10,bytes=100")
    before = core.stat(STATS)
    core.create(client, b"/app/y", b"1234")
    assert core.node(STATS).data() == b"count=3,bytes=12"
    core.set(client, b"/app/y", None)
    assert core.node(STATS).data() == b"count=3,bytes=8"
    core.set(client, b"/app/y", b"1")
    core.delete(client, b"/app/x")
    assert core.node(STATS).data() == b"count=2,bytes=6"
    core.create(client, b"/elsewhere", b"123456")
    assert core.node(STATS).data() == b"count=2,bytes=6"
    after = core.stat(STATS)
    assert (after.mzxid, after.version, after.mtime) == (before.mzxid, before.version, before.mtime)
    assert after.data_length == len(b"count=2,bytes=6")


def test_statistics_do_not_touch_the_digest() -> None:
    core, client = with_quota(b"count=10,bytes=100")
    plain = Core()
    other = plain.connect(1)
    for path, data in ((b"/app", b"12345"), (b"/app/x", b"123")):
        plain.create(other, path, data)
    for path in (b"/zookeeper/quota/app", LIMITS, STATS):
        plain.write(other, codes.OP_CREATE, create_body(path, b"", NOBODY))
    core.create(client, b"/app/y", b"1234")
    plain.create(other, b"/app/y", b"1234")
    assert core.tree.digest == plain.tree.digest


def test_statistics_stay_when_something_staged_earlier_comes_through() -> None:
    """The stat node gets new statistics while a setACL of it is in flight: Java changes the data in place."""
    core, client = with_quota(b"count=10,bytes=100")
    grow = core.prepare(client, codes.OP_CREATE, create_body(b"/app/y", b"1234"))
    acl = core.prepare(client, codes.OP_SET_ACL, jbuf(STATS) + NOBODY_WIRE + jint(-1))
    child = core.prepare(client, codes.OP_CREATE, create_body(STATS + b"/c"))
    core.deliver(grow)
    core.deliver(acl)
    assert core.node(STATS).data() == b"count=3,bytes=12"
    assert core.stat(STATS).aversion == 1
    core.deliver(child)
    assert core.node(STATS).data() == b"count=3,bytes=12"
    assert core.stat(STATS).num_children == 1


NOBODY_WIRE = jint(1) + jint(31) + jbuf(b"world") + jbuf(b"anyone")


def test_quota_is_over_with_its_limits() -> None:
    core, client = with_quota(b"count=2,bytes=100")
    core.delete(client, LIMITS)
    assert core.tree.quotas.find(b"/app") is None
    core.create(client, b"/app/y", b"1234")
    assert core.node(STATS).data() == b"count=2,bytes=8"


def test_quota_without_statistics_counts_nothing() -> None:
    core, client = with_quota(b"count=-1,bytes=-1=;countHardLimit=2")
    core.delete(client, STATS)
    assert core.create(client, b"/app/y", b"1234").err == OK


def test_node_that_only_looks_like_a_limit_is_none() -> None:
    core, client = with_quota(b"count=2,bytes=100")
    core.create(client, b"/zookeeper/quota/zookeeper_limits", b"count=0,bytes=0")
    core.create(client, b"/zookeeper_limits", b"count=0,bytes=0")
    assert core.tree.quotas.prefixes == {b"/app": None}
    core.delete(client, b"/zookeeper_limits")
    assert core.tree.quotas.prefixes == {b"/app": None}


def test_statistics_node_without_a_znode_to_count() -> None:
    core = Core()
    client = core.connect(1)
    core.create(client, b"/zookeeper/quota/app")
    core.create(client, STATS, b"x")
    assert core.node(STATS).data() == b"count=0,bytes=0"


def test_soft_limits_only_warn() -> None:
    core, client = with_quota(b"count=2,bytes=9")
    assert core.create(client, b"/app/y", b"12").err == OK
    assert [breach.message() for breach in core.preparer.breaches] == [
        "Quota exceeded: /app [current count=3, softCountLimit=2]",
        "Quota exceeded: /app [current bytes=10, softByteLimit=9]",
    ]


def test_hard_limits_refuse() -> None:
    core, client = with_quota(b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3")
    assert core.set(client, b"/app/x", b"123456").err == QUOTA_EXCEEDED
    assert core.set(client, b"/app/x", b"12345").err == OK
    assert core.create(client, b"/app/y", b"").err == OK
    assert core.create(client, b"/app/z", b"").err == QUOTA_EXCEEDED
    assert core.create(client, b"/elsewhere", b"123456789012").err == OK
    assert core.node(STATS).data() == b"count=3,bytes=10"


def test_hard_limits_are_only_limits_when_enforced() -> None:
    core, client = with_quota(b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=2", enforce=False)
    assert core.create(client, b"/app/y", b"123456").err == OK
    assert core.preparer.breaches == []


def test_breaches_do_not_pile_up() -> None:
    core, client = with_quota(b"count=0,bytes=-1")
    for n in range(150):
        core.create(client, b"/app/n%d" % n)
    assert len(core.preparer.breaches) == 100
