"""The search for an order that explains what clients were told, without zxids."""

from __future__ import annotations

from random import Random

import pytest

from coati import errors
from coati.testing.history import Return, Story
from coati.testing.linear import MAX_OPERATIONS, Register, Step, check_registers, is_linear
from coati.wire import codes
from coati.wire.records import CheckVersionRequest, CreateRequest, DeleteRequest, MultiHeader, SetDataRequest
from tests.testing.kit import ids_of
from tests.testing.script import OPEN, Script, packed

NEVER = 1 << 62


def step(kind: str, call: int, end: int, data: bytes = b"", *, err: int | None = 0, version: int = -1) -> Step:
    """Of a write, or of a read that shows data in version 0; a read of nothing has the error."""
    one = Step(kind, call, end, err)
    one.data, one.version = data, version
    if kind == "read" and err == 0:
        one.shown = (data, max(version, 0))
    return one


CASES: list[tuple[str, bool, list[Step], Register]] = [
    ("in a row", True, [step("create", 0, 1, b"a"), step("read", 2, 3, b"a")], None),
    ("stale", False, [step("create", 0, 1, b"a"), step("read", 2, 3, err=errors.NO_NODE)], None),
    ("at once", True, [step("create", 0, 5, b"a"), step("read", 2, 3, err=errors.NO_NODE)], None),
    ("both of one version", False, [step("set", 0, 9, b"a", version=0), step("set", 1, 8, b"b", version=0)],
     (b"", 0)),
    ("one of one version", True,
     [step("set", 0, 9, b"a", version=0), step("set", 1, 8, b"b", version=0, err=errors.BAD_VERSION)], (b"", 0)),
    ("unknown, and done", True, [step("create", 0, NEVER, b"a", err=None), step("read", 5, 6, b"a")], None),
    ("unknown, and not", True, [step("create", 0, NEVER, b"a", err=None), step("read", 5, 6, err=-101)], None),
    ("back and forth", False,
     [step("set", 0, 9, b"b"), step("read", 1, 2, b"b", version=1), step("read", 3, 4, b"a")], (b"a", 0)),
    ("deleted", True, [step("delete", 0, 1), step("delete", 2, 3, err=errors.NO_NODE)], (b"", 0)),
    ("deleted twice", False, [step("delete", 0, 1), step("delete", 2, 3)], (b"", 0)),
    ("created twice", False, [step("create", 0, 1), step("create", 2, 3)], None),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "steps", "start"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_small_histories(expected: bool, steps: list[Step], start: Register) -> None:
    assert is_linear(steps, start) is expected


def test_it_gives_up() -> None:
    steps = [step("set", 0, 99, b"%d" % number) for number in range(14)]
    assert is_linear([*steps, step("read", 100, 101, b"never", version=14)], (b"", 0), max_steps=500) is None


def walk() -> Script:
    """Two clients and a register; each reads what the other wrote."""
    script = Script()
    one, two = script.client(), script.client()
    one.create(b"/r", b"0")
    for number in range(5):
        one.set(b"/r", b"%d" % number)
        two.sync()
        two.get(b"/r")
        two.get(b"/r", zxid=script.zxid - 1)
    two.delete(b"/r")
    one.sync()
    one.get(b"/r")
    one.create(b"/e", flags=1)
    return script


def found(script: Script) -> list[str]:
    return ids_of(check_registers(Story(script.history.lines), Random(1)))


def test_a_good_history_passes() -> None:
    script = walk()
    assert found(script) == []
    one = script.client()
    # Cut in the middle of what is in flight, and unknown outcomes.
    one.create(b"/long")
    for _ in range(MAX_OPERATIONS):
        one.set(b"/long", b"x")
    one.call(codes.OP_DELETE, packed(DeleteRequest(b"/long", -1)))
    one.call(codes.OP_DELETE, b"?")
    assert found(script) == []


def test_a_server_that_lies_about_its_zxids_is_found() -> None:
    """R4: the headers are as they should be, the data is an old one."""
    script = walk()
    replies = [
        line for line in script.history.lines if isinstance(line, Return) and line.body.startswith(b"\0\0\0\x01")
    ]
    old, new = [line for line in replies if len(line.body) == 73][0:3:2]
    new.body = old.body
    assert found(script) == ["R4"]


def test_writes_that_exclude_each_other_are_found() -> None:
    """W3: two setData of one version."""
    script = Script()
    one = script.client()
    one.create(b"/r")
    for _ in range(2):
        xid = one.call(codes.OP_SET_DATA, packed(SetDataRequest(b"/r", b"x", 0)))
        one.answer(xid, 9, 0)
    assert found(script) == ["W3"]


def test_a_stale_read_behind_a_sync_is_found() -> None:
    """R4: another client was told of the set before the sync was called; the zxids are told as they are."""
    script = Script()
    one, two = script.client(), script.client()
    one.create(b"/r", b"old")
    before = script.zxid
    one.set(b"/r", b"new")
    two.get(b"/r", zxid=before)
    assert found(script) == [], "without a sync it may be stale"
    two.sync(before)
    two.get(b"/r", zxid=before)
    assert found(script) == ["R4"]


def test_a_sync_promises_what_was_there_when_it_was_called() -> None:
    """The set comes between sync and read: both answers are right."""
    for is_new in (False, True):
        script = Script()
        one, two = script.client(), script.client()
        one.create(b"/r", b"old")
        before = script.zxid
        two.sync()
        one.set(b"/r", b"new")
        two.get(b"/r", zxid=script.zxid if is_new else before)
        assert found(script) == []


def multi_of(script: Script, *parts: tuple[int, bytes], err: int | None = 0) -> None:
    """Called, and answered by something; with an error as the first result, or not at all."""
    client = script.client()
    body = b"".join(packed(MultiHeader(op, False, -1)) + part for op, part in parts)
    xid = client.call(codes.OP_MULTI, body + packed(MultiHeader(-1, True, -1)))
    if err is not None:
        client.answer(xid, 1, 0, packed(MultiHeader(codes.OP_ERROR if err else parts[0][0], False, err)))


def test_the_parts_of_a_multi_are_one_step() -> None:
    gone = (codes.OP_DELETE, packed(DeleteRequest(b"/r", -1)))
    back = (codes.OP_CREATE, packed(CreateRequest(b"/r", b"1", OPEN, 0)))
    seen = (codes.OP_CHECK, packed(CheckVersionRequest(b"/r", 0)))
    wrong = (codes.OP_CHECK, packed(CheckVersionRequest(b"/r", 7)))
    cases: list[tuple[list[tuple[int, bytes]], int | None, list[str]]] = [
        ([seen, gone, back], 0, []),
        ([gone], 0, ["R4"]),
        ([gone, gone], 0, ["W3"]),
        ([back], 0, ["W3"]),
        ([wrong], 0, ["W3"]),
        ([gone], errors.NO_NODE, []),
        ([gone, gone], None, []),
        ([gone], None, []),
    ]
    for parts, err, ids in cases:
        script = Script()
        one, two = script.client(), script.client()
        one.create(b"/r", b"1")
        multi_of(script, *parts, err=err)
        two.sync()
        two.get(b"/r")
        assert found(script) == ids, (parts, err)


def test_a_refusal_by_something_else_changes_nothing() -> None:
    script = Script()
    one = script.client()
    one.create(b"/r", b"1")
    for err in (errors.NOT_EMPTY, errors.SESSION_EXPIRED, errors.NO_AUTH):
        one.answer(one.call(codes.OP_DELETE, packed(DeleteRequest(b"/r", -1))), 9, err)
    one.sync()
    one.get(b"/r")
    assert found(script) == []
    # What goes without a request is no register.
    one.answer(one.call(codes.OP_CREATE_CONTAINER, packed(CreateRequest(b"/r", b"", OPEN, 4))), 9, 0)
    assert found(script) == []


def test_what_cannot_be_read_is_left_alone() -> None:
    script = walk()
    one = script.client()
    one.call(codes.OP_MULTI, b"?")
    one.set(b"/e", b"x")
    script.last.err = errors.NO_AUTH
    one.answer(one.call(codes.OP_GET_DATA, b""), 1, 0)
    assert found(script) == []
