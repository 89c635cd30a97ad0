"""How commands say what they found: a table for people, bytes and lines for programs, or json, jsonl and yaml.

Knows forms and streams; must not know znodes. Data goes to stdout and nothing else does. Rows are written as they come,
so that a million of them need no more memory than a few.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Final, Self

FORMS: Final = ("auto", "table", "json", "jsonl", "yaml", "raw")

Cell = None | bool | int | float | str | bytes | Sequence["Cell"] | Mapping[str, "Cell"]
"""What stands in a column. Bytes are shown as text where they are UTF-8; else json and yaml have `NAME_base64`."""

# So many rows decide how wide the columns of a table are.
MEASURED_ROWS: Final = 500


class Output:
    """One stream in one form. `auto` is a table on a terminal, else raw: bytes for data, tabs and lines for rows."""

    def __init__(self, stream: BinaryIO, form: str = "auto", *, is_terminal: bool = False) -> None:
        self._stream = stream
        self.is_terminal = is_terminal
        self.form = form if form != "auto" else "table" if is_terminal else "raw"

    @property
    def is_structured(self) -> bool:
        """json, jsonl or yaml: a program that knows names reads it."""
        return self.form in ("json", "jsonl", "yaml")

    def data(self, data: bytes, **more: Cell) -> None:
        """The data of one znode, exactly. A terminal gets a line feed behind it; json has it as "data", and `more`."""
        if self.is_structured:
            self.record({**more, "data": data})
            return
        self.write(data)
        if self.is_terminal and not data.endswith(b"\n"):
            self.write(b"\n")

    def text(self, text: str) -> None:
        """A page for people in every form: what has no columns."""
        line = text if text.endswith("\n") else f"{text}\n"
        self.write(line.encode("utf-8", "backslashreplace"))

    def record(self, record: Mapping[str, Cell]) -> None:
        """One thing with properties: an object, or a line for each property."""
        if self.form in ("json", "jsonl"):
            self.text(_json(record))
        elif self.form == "yaml":
            self.write("".join(f"{key}: {_flow(value)}\n" for key, value in _plain(record).items()).encode())
        elif self.form == "table":
            width = max((len(name) for name in record), default=0)
            self.write("".join(f"{name:<{width}}  {printable(value)}\n" for name, value in record.items()).encode())
        else:
            self.write("".join(f"{name}\t{_one_line(value)}\n" for name, value in record.items()).encode())

    def table(self, *columns: str, header: bool = True) -> Table:
        """Rows, one after the other: `with out.table("path", "bytes") as table: table.row("/a", 3)`.

        Raw rows are separated by tabs and have no header; of one column each line is the value itself.
        """
        return Table(self, columns, header=header)

    def stream(self, record: Mapping[str, Cell], line: str | None = None) -> None:
        """One event of many, at once: an object on a line in json, jsonl and yaml, else `line` or its values."""
        if self.is_structured:
            self.text(_json(record))
        else:
            self.text(line if line is not None else "\t".join(_one_line(value) for value in record.values()))
        self.flush()

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()


class Table:
    """Rows under columns; it ends with its `with` block."""

    def __init__(self, out: Output, columns: Sequence[str], *, header: bool) -> None:
        self._out = out
        self._columns = columns
        self._has_header = header
        self._widths: list[int] = []
        self._waiting: list[list[str]] = []
        self.count = 0

    def __enter__(self) -> Self:
        if self._out.form == "json":
            self._out.write(b"[")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._measure()
        if self._out.form == "json":
            self._out.write(b"\n]\n" if self.count else b"]\n")
        elif self._out.form == "yaml" and not self.count:
            self._out.write(b"[]\n")

    def row(self, *cells: Cell) -> None:
        """One row, a cell for each column."""
        form = self._out.form
        if form == "raw":
            self._out.write(("\t".join(_one_line(cell) for cell in cells) + "\n").encode())
        elif form == "table":
            self._waiting.append([printable(cell) for cell in cells])
            if self._widths or len(self._waiting) >= MEASURED_ROWS:
                self._measure()
        else:
            self._object(dict(zip(self._columns, cells, strict=True)))
        self.count += 1

    def _object(self, record: Mapping[str, Cell]) -> None:
        if self._out.form == "yaml":
            lines = [f"{key}: {_flow(value)}" for key, value in _plain(record).items()]
            self._out.text("- " + "\n  ".join(lines))
        elif self._out.form == "json":
            self._out.write((",\n" if self.count else "\n").encode() + _json(record).encode())
        else:
            self._out.text(_json(record))

    def _measure(self) -> None:
        """Writes what waits; the first time it sets the widths."""
        if not self._widths and self._out.form == "table" and (self._waiting or self._has_header):
            first = [list(self._columns), *self._waiting] if self._has_header else self._waiting
            self._widths = [max(map(len, column)) for column in zip(*first, strict=True)]
            if self._has_header:
                self._waiting.insert(0, [column.upper() for column in self._columns])
        for row in self._waiting:
            padded = (f"{cell:<{width}}" for cell, width in zip(row, self._widths, strict=True))
            self._out.write("  ".join(padded).rstrip().encode() + b"\n")
        self._waiting.clear()


def printable(value: Cell) -> str:
    """On one line and without control characters; a terminal is safe from it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in _told(value))


def _one_line(value: Cell) -> str:
    text = _told(value)
    return (
        text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n") if "\t" in text or "\n" in text else text
    )


def _told(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_told(inner)}" for name, inner in value.items())
    return ",".join(map(_told, value))


def _plain(record: Mapping[str, Cell]) -> dict[str, Cell]:
    """Without bytes: text, or base64 under a name that says so."""
    plain: dict[str, Cell] = {}
    for name, value in record.items():
        if not isinstance(value, bytes):
            plain[name] = _inside(value)
            continue
        try:
            plain[name] = value.decode()
        except UnicodeDecodeError:
            plain[f"{name}_base64"] = binascii.b2a_base64(value, newline=False).decode()
    return plain


def _inside(value: Cell) -> Cell:
    # Nearly all are these, and asking the abstract classes takes ten times as long.
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return _plain(value)
    assert not isinstance(value, bytes), "bytes are under a name, or in a list"
    return [_plain({"data": one}) if isinstance(one, bytes) else _inside(one) for one in value]


# json.dumps would make an encoder for each row.
_encode: Final = json.JSONEncoder(ensure_ascii=False).encode


def _json(record: Mapping[str, Cell]) -> str:
    return _encode(_plain(record))


def _flow(value: Cell) -> str:
    """YAML's flow style, which JSON is; in ASCII, as YAML forbids characters that JSON allows."""
    return json.dumps(value)
