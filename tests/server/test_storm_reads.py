"""The judge of what clients of a storm read: sound reads pass, and each lie is told."""

from __future__ import annotations

from collections import Counter

import pytest

from tools.storm_reads import WATCHED, Look, Reads, Shown, Watch

ALICE, BOB = 0x100, 0x200
PATH = WATCHED[0]


def shown(data: bytes) -> Shown:
    return data, (1, 1, 0, 0, 0, 0, 0, 0, len(data), 0, 1)


class Story:
    """A znode whose data are other ones at each of some zxids."""

    def __init__(self, *changes: int) -> None:
        self.changes = changes
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.reads = Reads(self.faults.append, self.counts)

    def look(self, zxid: int, data: bytes | None, *, least: int = 0) -> None:
        """Alice reads."""
        self.reads.looked(Look(zxid, ALICE, 7, PATH, None if data is None else shown(data)), least)

    def judge(self, begin: int = 1, end: int = 20) -> list[str]:
        """Goes along the history."""
        nodes: dict[bytes, Shown] = {}
        for zxid in range(begin, end + 1):
            if zxid in self.changes:
                nodes[PATH] = shown(b"%d" % zxid)
                self.reads.changed(PATH, zxid)
            self.reads.judge_looks(nodes.get, zxid, zxid)
        self.reads.judge_watches(end)
        return self.faults


def test_reads_of_what_was_there_pass() -> None:
    story = Story(3, 6)
    story.look(2, None)
    story.look(9, b"6")
    story.look(5, b"3", least=5)
    story.look(3, b"3")
    assert story.judge() == []
    assert story.counts["reads"] == 4


@pytest.mark.parametrize(("zxid", "data"), [(6, b"3"), (5, b"6"), (4, None), (2, b"3")])
def test_a_read_of_another_state_is_seen(zxid: int, data: bytes | None) -> None:
    story = Story(3, 6)
    story.look(zxid, data)
    assert "instead of" in story.judge()[0]


def test_a_stale_read_behind_a_sync_is_seen() -> None:
    story = Story(3, 6)
    story.look(5, b"3", least=6)
    assert "0x6 was answered before the sync" in story.judge()[0]


def test_reads_wait_for_their_part_of_the_history_and_are_counted_if_it_is_over() -> None:
    story = Story(3, 6)
    story.look(9, b"3")
    assert story.judge(end=8) == []
    story.look(4, b"what nobody knows any more")
    story.reads.judge_looks(lambda path: shown(b"6"), 8, 9)
    assert "instead of" in story.faults[0]
    assert story.counts["reads not judged"] == 1


def test_a_session_that_goes_back_in_time_is_seen() -> None:
    story = Story()
    for session_id, zxid in ((ALICE, 5), (BOB, 4), (ALICE, 5), (ALICE, 4)):
        story.reads.at(session_id, zxid)
    assert story.faults == ["session 0x100 goes back in time: a reply at 0x4, it has seen 0x5"]
    assert story.reads.floor(ALICE) == 5


@pytest.mark.parametrize(
    ("begin", "end", "has_fired"), [(1, 3, True), (3, 6, True), (4, 6, True), (3, 5, False), (6, 20, False)]
)
def test_watches_that_fire_by_the_first_change_pass(begin: int, end: int, has_fired: bool) -> None:
    story = Story(3, 6)
    story.reads.watched(Watch(PATH, ALICE, begin, end, has_fired))
    assert story.judge() == []


@pytest.mark.parametrize(
    ("begin", "end", "has_fired", "fault"),
    [
        (1, 6, True, "fired at 0x6, the first change was at 0x3"),
        (3, 5, True, "fired at 0x5, the first change was at 0x6"),
        (7, 9, True, "fired at 0x9, the first change was at 0x15"),
        (1, 3, False, "did not fire at 0x3, and a reply at 0x3 came"),
        (4, 9, False, "did not fire at 0x6, and a reply at 0x9 came"),
    ],
)
def test_watches_that_fire_late_or_never_or_for_nothing_are_seen(
    begin: int, end: int, has_fired: bool, fault: str
) -> None:
    story = Story(3, 6)
    story.reads.watched(Watch(PATH, ALICE, begin, end, has_fired))
    assert fault in story.judge()[0]


def test_watches_wait_for_their_part_of_the_history() -> None:
    story = Story(3, 6)
    story.reads.watched(Watch(PATH, ALICE, 4, 6, True))
    assert story.judge(end=5) == []
    assert story.judge(begin=6) == []
    assert story.counts["events"] == 1
