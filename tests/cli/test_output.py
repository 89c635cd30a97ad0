"""The forms of output, judged by readers that are not ours."""

from __future__ import annotations

import io
import json

import pytest

from coati.cli.output import MEASURED_ROWS, Cell, Output


def written(form: str, *, is_terminal: bool = False) -> tuple[Output, io.BytesIO]:
    stream = io.BytesIO()
    return Output(stream, form, is_terminal=is_terminal), stream


ROWS: list[tuple[Cell, ...]] = [("/a", 1, b"x"), ("/b\n", None, b"\xff"), ("/c", True, b"")]


def rows_in(form: str, *, is_terminal: bool = False) -> bytes:
    out, stream = written(form, is_terminal=is_terminal)
    with out.table("path", "n", "data") as table:
        for row in ROWS:
            table.row(*row)
    return stream.getvalue()


OBJECTS = [
    {"path": "/a", "n": 1, "data": "x"},
    {"path": "/b\n", "n": None, "data_base64": "/w=="},
    {"path": "/c", "n": True, "data": ""},
]


def test_rows_as_objects() -> None:
    assert json.loads(rows_in("json")) == OBJECTS
    assert [json.loads(line) for line in rows_in("jsonl").splitlines()] == OBJECTS


def test_rows_as_yaml_say_the_same() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML, which reads what we write, is not installed")
    assert yaml.safe_load(rows_in("yaml")) == OBJECTS


def test_rows_for_people_and_for_pipes() -> None:
    assert rows_in("auto", is_terminal=True).decode().splitlines() == [
        "PATH  N    DATA",
        "/a    1    x",
        "/b\\n       \\xff",
        "/c    yes",
    ]
    assert rows_in("auto") == b"/a\t1\tx\n/b\\n\t\t\\xff\n/c\tyes\t\n"


@pytest.mark.parametrize(("form", "text"), [("json", b"[]\n"), ("jsonl", b""), ("yaml", b"[]\n"), ("raw", b"")])
def test_no_rows(form: str, text: bytes) -> None:
    out, stream = written(form)
    with out.table("path"):
        pass
    assert stream.getvalue() == text


def test_a_table_does_not_wait_for_its_end() -> None:
    out, stream = written("table")
    with out.table("n") as table:
        for number in range(MEASURED_ROWS):
            table.row(number)
        assert stream.getvalue().count(b"\n") == MEASURED_ROWS + 1


def test_data_on_a_terminal_ends_its_line() -> None:
    out, stream = written("auto", is_terminal=True)
    out.data(b"x")
    out.data(b"y\n")
    assert stream.getvalue() == b"x\ny\n"
    out, stream = written("raw", is_terminal=False)
    out.data(b"x")
    assert stream.getvalue() == b"x"


def test_records_and_events() -> None:
    record: dict[str, Cell] = {"path": "/a", "acl": [{"id": "me", "perms": "r"}], "data": b"\xff"}
    shown = {"path": "/a", "acl": [{"id": "me", "perms": "r"}], "data_base64": "/w=="}
    for form in ("json", "jsonl"):
        out, stream = written(form)
        out.record(record)
        out.stream(record)
        assert [json.loads(line) for line in stream.getvalue().splitlines()] == [shown, shown]
    out, stream = written("raw")
    out.record(record)
    out.stream({"path": "/a\tb", "n": 1})
    out.stream({}, line="said so")
    assert stream.getvalue() == b"path\t/a\nacl\tid=me perms=r\ndata\t\\xff\n/a\\tb\t1\nsaid so\n"
    out, stream = written("table")
    out.record({"path": "/a\x1b[2J", "n": 1})
    assert stream.getvalue() == b"path  /a\\x1b[2J\nn     1\n"
