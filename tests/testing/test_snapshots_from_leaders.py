"""Snapshots of leaders whom nobody followed: what they hold was never committed, or by a later leader only."""

from __future__ import annotations

from coati.testing import history
from coati.testing.check_zab import Quorum, check_traces, committed_log
from coati.testing.history import Trace

QUORUM = Quorum((1, 2, 3))
FIRST, LAST, CUT, SNAPSHOT = 0x1_0000_0001, 0x5_0000_0002, 0x5_0000_0003, 0x5_0000_0016


def cut_off(*more: Trace) -> list[str]:
    """A server has one txn, and gets a snapshot far above it."""
    traces = [
        Trace(0, 1, history.RECOVERED),
        Trace(1, 1, history.LOGGED, FIRST, payload=b"a"),
        Trace(2, 1, history.SYNCED, FIRST),
        Trace(3, 1, history.INSTALLED, SNAPSHOT),
        *more,
    ]
    return [violation.id for violation in check_traces(traces, QUORUM)]


def test_a_server_whose_snapshot_is_cut_off_votes_with_what_was_below_it() -> None:
    """The next leader lacks the end of that history; the vote is what a fresh load gives (Z10)."""
    votes = Trace(5, 1, history.LOOKING, FIRST)
    follows = Trace(6, 1, history.LOGGED, FIRST + 1, payload=b"b")
    assert cut_off(Trace(4, 1, history.TRUNCATED, CUT), votes, follows) == []
    assert cut_off(votes) == ["Z10"]
    hole = Trace(6, 1, history.LOGGED, FIRST + 2, payload=b"b")
    assert cut_off(Trace(4, 1, history.TRUNCATED, CUT), votes, hole) == ["Z9"]


def test_what_a_leader_got_by_a_snapshot_is_committed_when_it_serves() -> None:
    """Its sender had logged that, and delivered it for itself alone."""
    traces = [
        Trace(0, 1, history.RECOVERED),
        Trace(0, 2, history.RECOVERED),
        Trace(1, 1, history.LOGGED, FIRST, payload=b"a"),
        Trace(1, 1, history.LOGGED, LAST - 1, payload=b"b"),
        Trace(1, 1, history.LOGGED, LAST, payload=b"c"),
        Trace(2, 2, history.INSTALLED, LAST - 1),
        Trace(3, 2, history.SERVING, epoch=6, is_leader=True),
    ]
    assert committed_log(traces, {}) == [(FIRST, b"a"), (LAST - 1, b"b")]
