"""The history of committed txns, and what is sent to a learner: proven membership, or a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from coati.errors import StorageCorrupt
from coati.wire.quorum import DIFF, NAMES, SNAP, TRUNC
from coati.wire.zxid import follows
from coati.zab.history import UNKNOWN, History, Plan, plan
from tests.zab.learnerkit import name, payload, z

Reader = Callable[[int], Iterator[tuple[int, bytes]]]


def zxids(*texts: str) -> list[int]:
    """`1:1-3` is three of them."""
    found = []
    for text in texts:
        first, _, last = text.partition("-")
        start = z(first)
        end = start if not last else (start >> 32 << 32) + int(last)
        found += list(range(start, end + 1))
    return found


def history(*texts: str, base: int = UNKNOWN, capacity: int = 500) -> History:
    made = History(capacity, base)
    for zxid in zxids(*texts):
        made.add(zxid, payload(zxid))
    return made


def disk(*texts: str) -> Reader:
    """A log as the store reads it: whole from where it begins, and it says so when that is too late."""

    def read(after_zxid: int) -> Iterator[tuple[int, bytes]]:
        log = [zxid for zxid in zxids(*texts) if zxid > after_zxid]
        if not log or not follows(after_zxid, log[0]):
            raise StorageCorrupt("log", 0, "does not reach back")
        for zxid in log:
            yield zxid, payload(zxid)

    return read


def raw_disk(entries: Sequence[int]) -> Reader:
    """A log that is read as it is, holes and all."""
    return lambda after_zxid: iter([(zxid, payload(zxid)) for zxid in entries if zxid > after_zxid])


def told(way: Plan) -> str:
    """`DIFF 1:5: 1:4 1:5`"""
    for zxid, data in way.entries:
        assert data == payload(zxid)
    entries = "".join([f" {name(zxid)}" for zxid, _ in way.entries])
    return f"{NAMES[way.kind]} {name(way.zxid)}" + (":" + entries if entries else "")


def planned(made: History, peer: str, read: Reader | None = None, limit: int = 0) -> str:
    peer_zxid = -1 if peer == "none" else z(peer)
    return told(plan(made, read or disk(), peer_zxid, limit))


def test_the_newest_are_kept() -> None:
    made = history("1:1-5", base=0, capacity=3)
    assert (made.base_zxid, made.min_zxid, made.max_zxid) == (z("1:2"), z("1:2"), z("1:5"))
    assert made.after(z("1:2")) == [(zxid, payload(zxid)) for zxid in zxids("1:3-5")]
    assert made.after(z("1:5")) == []
    assert made.after(z("1:1")) is None
    assert made.last_before(z("9:9")) == z("1:5")
    assert made.last_before(z("1:3")) == z("1:2")
    assert made.last_before(z("1:2")) == UNKNOWN


def test_nothing_is_known_at_first() -> None:
    made = History()
    assert (made.min_zxid, made.max_zxid) == (UNKNOWN, UNKNOWN)
    assert made.after(UNKNOWN) is None
    assert made.after(0) is None
    assert made.last_before(5) == UNKNOWN
    made.add(z("3:7"), b"")
    assert (made.base_zxid, made.min_zxid, made.max_zxid) == (UNKNOWN, z("3:7"), z("3:7"))
    assert made.after(z("3:6")) is None


def test_a_gap_begins_a_new_history() -> None:
    """ZOOKEEPER-2418, 4352: what is behind a gap must not be sent as if it continued what is before."""
    for later in ("1:5", "2:2"):
        made = history("1:1-3", later, base=0)
        assert made.min_zxid == made.max_zxid == z(later)
        assert made.base_zxid == UNKNOWN
        assert made.after(z("1:3")) is None
    made = history("1:1-3", "4:1", base=0)
    assert [zxid for zxid, _ in made.after(z("1:3")) or []] == [z("4:1")]


def test_a_snapshot_begins_a_new_history() -> None:
    """ZOOKEEPER-4925: an epoch's first txn follows any zxid, so somebody has to say that there is a hole."""
    made = history("1:1-3", base=0)
    made.clear(z("1:8"))
    made.add(z("2:1"), payload(z("2:1")))
    assert planned(made, "1:3") == "SNAP 2:1"
    assert planned(made, "1:8") == "DIFF 2:1: 2:1"


@pytest.mark.parametrize(
    ("peer", "way"),
    [
        ("1:5", "DIFF 1:5"),
        ("1:3", "DIFF 1:5: 1:4 1:5"),
        ("1:2", "DIFF 1:5: 1:3 1:4 1:5"),
        # Before all that is in memory, and there is nothing on disk.
        ("1:1", "SNAP 1:5"),
        ("0:0", "SNAP 1:5"),
        ("none", "SNAP 1:5"),
        # It was ahead, alone.
        ("1:7", "TRUNC 1:5"),
        # Another epoch: what it has of ours is not known.
        ("2:1", "SNAP 1:5"),
        # It has seen the beginning of an epoch that we have not.
        ("2:0", "SNAP 1:5"),
    ],
)
def test_a_learner_gets_what_it_lacks(peer: str, way: str) -> None:
    assert planned(history("1:3-5", base=z("1:2")), peer) == way


def test_membership_decides_and_not_the_range_of_numbers() -> None:
    """ZOOKEEPER-1154: 7:4 was logged by one server alone. By number it lies between 7:3 and 8:1."""
    assert planned(history("7:1-3", "8:1-2", base=0), "7:4") == "TRUNC 7:3: 8:1 8:2"


def test_a_truncation_cuts_no_more_than_what_is_not_ours() -> None:
    """ZOOKEEPER-1156: Java cut back to the oldest txn it remembered."""
    assert planned(history("7:1-9", "8:1", base=0), "7:12") == "TRUNC 7:9: 8:1"
    assert planned(history("7:4-9", base=z("7:3")), "7:12") == "TRUNC 7:9"


def test_no_truncation_crosses_an_epoch_or_ends_where_no_record_is() -> None:
    # 6:1 was logged alone by a leader of which we never heard; 5:3 may be ours and 5:4 not.
    assert planned(history("5:1-3", "7:1", base=0), "6:1") == "SNAP 7:1"
    # A snapshot of a Java leader stood at the beginning of its epoch.
    assert planned(history("7:1", base=z("7:0")), "6:4") == "SNAP 7:1"
    assert planned(history(base=z("7:0")), "7:2") == "SNAP 7:0"


@pytest.mark.parametrize(
    ("texts", "base", "way"),
    [
        # All from before the epoch, then what it has of it.
        (("4:8-9", "5:1-2"), UNKNOWN, "DIFF 5:2: 5:1 5:2"),
        (("5:1-2",), UNKNOWN, "DIFF 5:2: 5:1 5:2"),
        (("5:1-2",), z("4:9"), "DIFF 5:2: 5:1 5:2"),
        # The epoch had no txn.
        (("6:1",), z("4:9"), "DIFF 6:1: 6:1"),
        # It may have had some.
        (("6:1",), UNKNOWN, "SNAP 6:1"),
        (("5:2-3",), UNKNOWN, "SNAP 5:3"),
        (("5:2-3",), z("5:1"), "SNAP 5:3"),
    ],
)
def test_a_learner_at_the_beginning_of_an_epoch(texts: tuple[str, ...], base: int, way: str) -> None:
    """A Java server that leads, or had a snapshot from one that does, names a zxid that no txn has."""
    assert planned(history(*texts, base=base), "5:0") == way


def test_the_log_on_disk_helps() -> None:
    made = history("1:4-5", base=z("1:3"))
    assert planned(made, "1:1", disk("1:1-5")) == "DIFF 1:5: 1:2 1:3 1:4 1:5"
    # It reaches further than what is committed.
    assert planned(made, "1:1", disk("1:1-9")) == "DIFF 1:5: 1:2 1:3 1:4 1:5"
    # Over an epoch, and to a history whose base is not known.
    assert planned(history("2:2"), "1:1", disk("1:1-2", "2:1-2")) == "DIFF 2:2: 1:2 2:1 2:2"
    # At the beginning of an epoch, and of time.
    assert planned(history("2:2"), "2:0", disk("2:1-2")) == "DIFF 2:2: 2:1 2:2"
    assert planned(history("0:2"), "0:0", disk("0:1-2")) == "DIFF 0:2: 0:1 0:2"
    # Where the history is only its base.
    assert planned(history(base=z("1:3")), "1:1", disk("1:1-3")) == "DIFF 1:3: 1:2 1:3"


def test_the_log_on_disk_has_a_limit() -> None:
    made = history("1:4-5", base=z("1:3"))
    size = len(payload(z("1:2"))) + len(payload(z("1:3")))
    assert planned(made, "1:1", disk("1:1-5"), limit=size).startswith("DIFF")
    assert planned(made, "1:1", disk("1:1-5"), limit=size - 1) == "SNAP 1:5"
    assert planned(made, "1:1", disk("1:1-5"), limit=-1) == "SNAP 1:5"


def test_a_log_that_does_not_reach_the_history_is_not_sent() -> None:
    """ZOOKEEPER-2418: the log on disk ends, or begins again, before the history in memory begins."""
    made = history("1:6-7", base=z("1:5"))
    assert planned(made, "1:1", disk("1:1-3")) == "SNAP 1:7"
    assert planned(made, "1:1", raw_disk(zxids("1:1-3", "1:6-7"))) == "SNAP 1:7"
    assert planned(made, "1:1", raw_disk(zxids("1:1-3", "2:1"))) == "SNAP 1:7"


def test_a_log_with_a_hole_is_not_sent() -> None:
    """ZOOKEEPER-2846, 4925: a snapshot of another leader filled the hole, and only in the tree."""
    made = history("1:6-7", base=z("1:5"))
    assert planned(made, "1:1", raw_disk(zxids("1:1-2", "1:4-7"))) == "SNAP 1:7"
    assert planned(made, "1:1", raw_disk(zxids("1:3-7"))) == "SNAP 1:7"


def test_the_txn_of_the_learner_has_to_be_in_the_log() -> None:
    """ZOOKEEPER-1154, on disk: 1:4 of the learner is another server's than what we have behind 1:3."""
    made = history("2:2-3", base=z("2:1"))
    assert planned(made, "1:4", raw_disk(zxids("1:1-3", "2:1-3"))) == "SNAP 2:3"
    assert planned(made, "1:4", disk("1:1-3", "2:1-3")) == "SNAP 2:3"
    # An empty server: the log may have been purged below 1:1, or an older ensemble lie below it (ZOOKEEPER-4352).
    assert planned(made, "0:0", raw_disk(zxids("1:1-3", "2:1-3"))) == "SNAP 2:3"


def test_kinds_are_those_of_the_wire() -> None:
    assert (DIFF, TRUNC, SNAP) == (13, 14, 15)
