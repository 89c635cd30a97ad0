"""The records of tools/gen_records.py seen as a schema: their classes, and values for them.

Knows the table; the tests use it to cover every record without naming each. Must not know the generated code beyond the
names of its classes.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from coati.wire import records
from coati.wire.jute import Reader, Writer
from tests.wire.wirepeer import FIXTURES
from tools import gen_records

Record = Any
Strategy = st.SearchStrategy[Any]

TABLE: dict[str, list[tuple[str, str]]] = dict(gen_records.parse(gen_records.TABLE))
NAMES = list(TABLE)
INT = st.integers(-(1 << 31), (1 << 31) - 1)
LONG = st.integers(-(1 << 63), (1 << 63) - 1)
# A lone surrogate is no text: Java's decoder never yields one.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS: dict[str, Strategy] = {
    "int": INT,
    "long": LONG,
    "bool": st.booleans(),
    "buffer": st.none() | st.binary(max_size=24),
    "string": TEXT,
    "path": TEXT.map(str.encode),
}


def record_class(name: str) -> Any:
    """The generated class."""
    return getattr(records, name)


def values(kind: str) -> Strategy:
    """Values of a field type of the table."""
    if kind.startswith("["):
        inner = kind[1:-1]
        several = st.lists(values(inner), max_size=3)
        return several if inner in SCALARS else st.none() | several
    return SCALARS[kind] if kind in SCALARS else instances(kind)


def instances(name: str) -> Strategy:
    """Records of one class."""
    return st.builds(record_class(name), *(values(kind) for _, kind in TABLE[name]))


def encoded(record: Record) -> bytes:
    """The record's bytes."""
    w = Writer()
    record.write(w)
    return w.getvalue()


def decoded(name: str, data: bytes) -> Record:
    """The record that the bytes are, to their very end."""
    r = Reader(data)
    record = record_class(name).read(r)
    assert r.left() == 0, f"{name} leaves {r.left()} bytes"
    return record


def java_samples() -> dict[str, dict[str, Any]]:
    """java_records.json: for each record its `fields`, and `samples` of (values, hex)."""
    samples: dict[str, dict[str, Any]] = json.loads((FIXTURES / "java_records.json").read_text())
    return samples


def has_null(kind: str, value: object) -> bool:
    """Whether the value holds a null where ours has none: in a string, a path, or a vector of them."""
    if kind.startswith("["):
        inner = kind[1:-1]
        if value is None:
            return inner in SCALARS
        assert isinstance(value, list)
        return any(has_null(inner, item) for item in value)
    if kind in SCALARS:
        return value is None and kind in ("string", "path")
    assert isinstance(value, list)
    return any(has_null(inner, item) for (_, inner), item in zip(TABLE[kind], value, strict=True))


def from_java(kind: str, value: Any) -> Any:
    """Our value for one of the fixture; null strings become empty, as they do when we read them."""
    if kind.startswith("["):
        return None if value is None else [from_java(kind[1:-1], item) for item in value]
    if kind == "buffer":
        return None if value is None else bytes.fromhex(value["hex"])
    if kind == "path":
        return value.encode()
    if kind == "string":
        return value or ""
    if kind in SCALARS:
        return value
    return build(kind, value)


def build(name: str, values_: list[Any]) -> Record:
    """Our record for the values of a sample."""
    return record_class(name)(*(from_java(kind, value) for (_, kind), value in zip(TABLE[name], values_, strict=True)))
