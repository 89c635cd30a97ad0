"""The judge of the storm over the real process: a sound history passes, and each mistake of a server is told."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from tests.interop import raw
from tools.storm_history import Answer, History, Logged, Shown, Znode, log_files, read_log, told_of
from tools.storm_reads import WATCHED, Look, Watch
from tools.tree_model import NODE_EXISTS, Outcome, Write

ALICE, BOB = 0x100, 0x200
TIME_MS = 1_700_000_000_000


class Story:
    """A server that does everything right, told step by step; the tests change what it writes, says or shows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.history = History()
        self.entries: list[bytes] = []
        self.answers: list[tuple[int, int, Answer]] = []
        self.shadow = History()
        self._xids = {ALICE: 0, BOB: 0}
        for session_id in (ALICE, BOB):
            self.history.opening += 1
            self.history.opened(session_id)
            self.log(session_id, 0, raw.CREATE_SESSION, 30_000)
            self.shadow.tree.apply(self._entry(session_id, 0), Write("open", number=30_000))

    @property
    def zxid(self) -> int:
        return len(self.entries)

    def log(self, session_id: int, xid: int, op: int, number: int = 0) -> None:
        zxid = self.zxid + 1
        self.entries.append(struct.pack(">qiqqii", session_id, xid, zxid, TIME_MS + zxid, op, number))

    def _entry(self, session_id: int, xid: int) -> Logged:
        return Logged(session_id, xid, self.zxid, TIME_MS + self.zxid, 0, 0, "", 0)

    def write(self, session_id: int, write: Write) -> Outcome:
        """Sent, logged and answered."""
        self._xids[session_id] += 1
        xid = self._xids[session_id]
        self.history.sent(session_id, xid, write)
        self.log(session_id, xid, raw.CREATE)
        outcome = self.shadow.tree.apply(self._entry(session_id, xid), write)
        if outcome.err:
            self.entries.pop()
            self.log(session_id, xid, raw.ERROR, outcome.err)
        err, body = told_of(write, outcome)
        self.answers.append((session_id, xid, Answer(self.zxid, err, body)))
        return outcome

    def shown(self) -> Shown:
        """What a client reads of a server that does everything right."""
        return {path: (node.data, node.stat()) for path, node in self.shadow.tree.nodes.items()}

    def store(self, *, tail: bytes = bytes(100), name: str = "log.1") -> None:
        """The log as a file."""
        data = struct.pack(">4siq", b"ZKLG", 2, 0)
        for txn in self.entries:
            data += struct.pack(">qi", zlib.adler32(txn), len(txn)) + txn + b"B"
        (self.directory / name).write_bytes(data + tail)

    def judge(self, shown: Shown | None = None) -> list[str]:
        """The faults, once the server is dead and read again."""
        self.store()
        for session_id, xid, answer in self.answers:
            self.history.answered(session_id, xid, answer)
        self.answers = []
        self.history.consume(self.directory, is_over=True)
        self.history.compare(self.shown() if shown is None else shown)
        return self.history.faults


@pytest.fixture
def story(tmp_path: Path) -> Story:
    made = Story(tmp_path)
    made.write(ALICE, Write("create", b"/q", b"top"))
    made.write(BOB, Write("create", b"/q/s-", b"one", sequential=True))
    made.write(ALICE, Write("create", b"/q/s-", b"two", owner="ephemeral", sequential=True))
    made.write(BOB, Write("create", b"/q", b"again"))
    made.write(ALICE, Write("set", b"/q", b"new", version=0))
    made.write(BOB, PAIR)
    made.write(ALICE, Write("multi", parts=(Write("create", b"/c"), Write("check", b"/none"))))
    made.write(BOB, Write("delete", b"/q/s-0000000000"))
    return made


PAIR = Write("multi", parts=(Write("create", b"/a", b"a"), Write("create", b"/b", b"b"), Write("check", b"/q")))


def test_a_sound_history_passes(story: Story) -> None:
    outcome = story.write(BOB, Write("create", b"/q"))
    assert outcome.err == NODE_EXISTS
    assert story.judge() == []
    assert story.history.counts["acknowledged"] == 9
    assert sorted(story.history.tree.nodes)[1:4] == [b"/a", b"/b", b"/q"]


def test_writes_that_nobody_acknowledged_may_survive_or_not(story: Story) -> None:
    story.write(ALICE, Write("create", b"/kept"))
    story.answers.pop()
    story.history.sent(BOB, 50, Write("create", b"/never"))
    assert story.judge() == []
    assert story.history.counts["never logged"] == 1


def test_a_lost_acknowledgement_is_seen(story: Story) -> None:
    shown = story.shown()
    story.write(BOB, Write("create", b"/lost"))
    story.entries.pop()
    assert story.judge(shown) == ["session 0x200, xid 5: acknowledged at zxid 0xb, and lost"]


def test_a_torn_multi_is_seen(story: Story) -> None:
    shown = story.shown()
    del shown[b"/b"]
    faults = story.judge(shown)
    assert faults[0] == "the multi of zxid 0x8 is torn: of [b'/a', b'/b'] the server lacks [b'/b']"


def test_a_reused_sequence_number_is_seen(story: Story) -> None:
    story.write(BOB, Write("create", b"/q/s-", b"three", sequential=True))
    session_id, xid, answer = story.answers[-1]
    assert isinstance(answer.body, tuple)
    assert answer.body[0] == "/q/s-0000000002"
    story.answers[-1] = (session_id, xid, answer._replace(body=("/q/s-0000000000", answer.body[1])))
    assert "a sequence number reused" in story.judge()[0]


def test_a_reused_sequence_number_in_a_multi_is_seen(story: Story) -> None:
    story.write(BOB, Write("multi", parts=(Write("create", b"/q/s-", sequential=True),)))
    session_id, xid, answer = story.answers[-1]
    assert isinstance(answer.body, list)
    op, err, (_, stat) = answer.body[0]
    changed = [(op, err, ("/q/s-0000000001", stat)), *answer.body[1:]]
    story.answers[-1] = (session_id, xid, answer._replace(body=changed))
    assert "a sequence number reused" in story.judge()[0]


def test_a_write_that_nobody_sent_is_seen(story: Story) -> None:
    story.log(ALICE, 99, raw.CREATE)
    assert story.judge() == ["zxid 0xb, op 1, session 0x100: nobody sent 99"]


def test_a_write_that_comes_late_is_seen(story: Story) -> None:
    """What was not in the log of a dead server must not come up later."""
    story.history.sent(ALICE, 50, Write("create", b"/never"))
    assert story.judge() == []
    story.log(ALICE, 50, raw.CREATE)
    assert story.judge() == ["zxid 0xb, op 1, session 0x100: nobody sent 50"]


def test_writes_of_a_session_in_another_order_are_seen(story: Story) -> None:
    story.history.sent(ALICE, 50, Write("create", b"/first"))
    story.history.sent(ALICE, 51, Write("create", b"/second"))
    story.log(ALICE, 51, raw.CREATE)
    assert story.judge() == ["zxid 0xb, op 1, session 0x100: nobody sent 51"]


def test_a_gap_of_zxids_is_seen(story: Story) -> None:
    shown = story.shown()
    del story.entries[-2]
    faults = story.judge(shown)
    assert "zxid 0xa follows 0x8 in log.1" in faults
    assert "session 0x100, xid 4: acknowledged at zxid 0x9, and lost" in faults


def test_replies_in_another_order_are_seen(story: Story) -> None:
    story.answers[0], story.answers[2] = story.answers[2], story.answers[0]
    assert story.judge() == ["session 0x100: reply 1 at zxid 0x3 behind 2 at 0x5"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (Answer(3, -110, None), "was answered -110 None instead of (0, ('/q', Stat("),
        (Answer(4, 0, None), "acknowledged at zxid 0x4, logged at 0x3"),
        (Answer(3, 0, ("/q", None)), "was answered 0 ('/q', None) instead of"),
    ],
)
def test_a_wrong_answer_is_seen(story: Story, change: Answer, fault: str) -> None:
    story.answers[0] = (*story.answers[0][:2], change)
    assert fault in story.judge()[0]


def test_a_wrong_error_in_the_log_is_seen(story: Story) -> None:
    story.history.sent(ALICE, 50, Write("create", b"/q"))
    story.log(ALICE, 50, raw.ERROR, -101)
    story.history.sent(BOB, 50, Write("delete", b"/none"))
    story.log(BOB, 50, raw.DELETE)
    faults = story.judge()
    assert "is logged as -101 instead of Outcome(err=-110" in faults[0]
    assert "is logged as done instead of Outcome(err=-101" in faults[1]


def test_a_tree_that_differs_is_seen(story: Story) -> None:
    shown = story.shown()
    data, stat = shown[b"/q"]
    shown[b"/q"] = (data, (*stat[:4], stat[4] + 1, *stat[5:]))
    del shown[b"/q/s-0000000001"]
    shown[b"/ghost"] = (b"", Znode(b"", 1, 1, 1, 1, 1).stat())
    faults = story.judge(shown)
    assert [fault.split(" ", 2)[0] for fault in faults] == ["b'/q'", "b'/q/s-0000000001'", "b'/ghost'"]
    assert "missing" in faults[1]
    assert "never written" in faults[2]


def test_ephemerals_go_with_a_session_that_was_left_alone(story: Story) -> None:
    story.history.abandoned(ALICE)
    assert story.history.waiting_to_expire(30_000) == []
    shown = story.shown()
    assert story.judge(shown) == []
    assert story.history.waiting_to_expire(30_000) == [ALICE]
    assert story.history.waiting_to_expire(29_999) == []
    story.log(ALICE, 0, raw.CLOSE_SESSION)
    assert "b'/q/s-0000000001' is there and was never written" in story.judge(shown)[-1]
    assert story.history.waiting_to_expire(30_000) == []


def test_a_session_that_expires_though_it_has_a_client_is_seen(story: Story) -> None:
    story.log(BOB, 0, raw.CLOSE_SESSION)
    assert story.judge() == ["zxid 0xb: session 0x200 expired, but had a client"]


def test_a_session_that_nobody_opened_is_seen(story: Story) -> None:
    story.log(0x300, 0, raw.CREATE_SESSION, 30_000)
    assert story.judge() == ["zxid 0xb, op -10, session 0x300: nobody sent 0"]


def test_a_session_that_is_given_out_twice_is_seen(story: Story) -> None:
    story.history.opened(ALICE)
    assert story.judge() == ["session 0x100 was given out twice"]


def test_reads_are_compared_with_the_state_at_their_zxid(tmp_path: Path) -> None:
    story = Story(tmp_path)
    states = {}
    for write in (Write("create", b"/q", b"old"), Write("set", b"/q", b"new"), Write("delete", b"/q")):
        story.write(ALICE, write)
        states[story.zxid] = story.shown().get(b"/q")
    reads = story.history.reads
    for zxid, shown in states.items():
        reads.looked(Look(zxid, BOB, 50, b"/q", shown), 0)
    reads.looked(Look(story.zxid, BOB, 51, b"/q", states[4]), 0)
    faults = story.judge()
    assert [fault[:28] for fault in faults] == ["session 0x200, xid 51: b'/q'"]


def test_watches_are_compared_with_what_changed_and_not_with_what_failed(tmp_path: Path) -> None:
    story = Story(tmp_path)
    path = WATCHED[0]
    for write in (Write("create", b"/s"), Write("create", path)):
        story.write(ALICE, write)
    failing = Write("multi", parts=(Write("set", path, b"1"), Write("check", b"/none")))
    fitting = Write("multi", parts=(Write("set", path, b"2"), Write("check", path)))
    for write in (failing, Write("check", path, version=7), fitting, Write("set", path, b"3", version=9)):
        story.write(BOB, write)
    assert story.zxid == 8
    for session_id, end in ((ALICE, 7), (BOB, 5), (BOB, 8)):
        story.history.reads.watched(Watch(path, session_id, 4, end, has_fired=True))
    faults = story.judge()
    assert [fault.rpartition(" fired ")[2] for fault in faults] == [
        "at 0x5, the first change was at 0x7",
        "at 0x8, the first change was at 0x7",
    ]


@pytest.mark.parametrize("tail", [b"", bytes(5000), b"\x00\x00\x00\x00\x12\x34\x56\x78\x00\x00\x00\x30torn"])
def test_a_log_ends_where_it_is_sound_no_more(story: Story, tail: bytes) -> None:
    story.store(tail=tail)
    assert [entry.zxid for entry in read_log(story.directory, 7)] == [8, 9, 10]
    last = list(read_log(story.directory, 0))[-1]
    assert last.end == (story.directory / "log.1").stat().st_size - len(tail)
    (story.directory / "log.b").write_bytes(bytes(50))
    assert [zxid for zxid, _ in log_files(story.directory)] == [1, 11]
    assert list(read_log(story.directory, 10)) == []
