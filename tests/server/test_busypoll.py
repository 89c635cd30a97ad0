"""Busy polling: it turns while a quick disk syncs, no longer than allowed, and not behind a slow disk."""

from __future__ import annotations

from collections.abc import Callable

from coati.server.busypoll import BusyPoll

LIMIT_US = 300


class Bench:
    """A loop and a clock by hand: each turn of the loop takes 10 us."""

    def __init__(self, *, outlasts: bool = False) -> None:
        self.now_us = 0
        self.ways_given = 0
        self.posted: list[Callable[[], None]] = []
        self.poll = BusyPoll(self.posted.append, lambda: self.now_us, self.give_way, LIMIT_US, outlasts=outlasts)

    def give_way(self) -> None:
        self.ways_given += 1

    def turn(self) -> int:
        """Runs what is posted; how many callables that was."""
        posted = self.posted[:]
        self.posted.clear()
        for callback in posted:
            callback()
        self.now_us += 10
        return len(posted)


def test_it_turns_until_the_sync_ends_and_gives_way_each_time() -> None:
    bench = Bench()
    bench.poll.begin()
    assert [bench.turn() for _ in range(5)] == [1] * 5
    assert bench.ways_given == 5
    bench.poll.end(0.05)
    assert [bench.turn() for _ in range(3)] == [1, 0, 0]


def test_it_turns_no_longer_than_the_limit() -> None:
    bench = Bench()
    bench.poll.begin()
    turns = sum(bench.turn() for _ in range(1000))
    assert LIMIT_US / 10 <= turns <= LIMIT_US / 10 + 1


def test_behind_a_slow_sync_it_sleeps_until_one_was_quick_again() -> None:
    bench = Bench()
    bench.poll.begin()
    bench.poll.end(0.4)
    bench.turn()
    bench.poll.begin()
    assert bench.turn() == 0
    bench.poll.end(0.1)
    bench.poll.begin()
    assert bench.turn() == 1


def test_syncs_one_behind_the_other_turn_once_each_time() -> None:
    bench = Bench()
    for _ in range(10):
        bench.poll.begin()
        assert bench.turn() == 1
        bench.poll.end(0.1)
    bench.poll.begin()
    assert bench.turn() == 1


def test_where_others_are_waited_for_it_turns_on_behind_the_sync_within_the_limit() -> None:
    bench = Bench(outlasts=True)
    bench.poll.begin()
    bench.turn()
    bench.poll.end(0.1)
    turns = 1 + sum(bench.turn() for _ in range(1000))
    assert LIMIT_US / 10 <= turns <= LIMIT_US / 10 + 1
    bench.poll.begin()
    bench.poll.end(0.4)
    assert [bench.turn() for _ in range(2)] == [1, 0]
