"""Nothing outgrows its limit, and the check sees what does."""

from __future__ import annotations

import pytest

from tests.tidy.shape import check_docstring, check_sizes
from tests.tidy.source import modules, sample

EVERYWHERE = ("src", "tests", "tools", "bench")


def test_nothing_is_too_long() -> None:
    assert [line for module in modules(*EVERYWHERE) for line in check_sizes(module)] == []


def test_every_module_has_a_docstring() -> None:
    assert [line for module in modules(*EVERYWHERE) if module.text for line in check_docstring(module)] == []


def function(lines: int, head: str = "def f() -> None:") -> str:
    return "\n".join([head, *["    pass"] * (lines - 1)]) + "\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1\n" * 1001, "coati.core.x:1: 1001 lines, a module has at most 1000"),
        (function(501, "class C:"), "coati.core.x:1: class C has 501 lines, at most 500"),
        ("\n" + function(71), "coati.core.x:2: function f has 71 lines, at most 70"),
        (function(71, "async def f() -> None:"), "coati.core.x:1: function f has 71 lines, at most 70"),
    ],
)
def test_what_is_too_long_is_seen(text: str, complaint: str) -> None:
    assert check_sizes(sample("coati.core.x", text)) == [complaint]


@pytest.mark.parametrize("text", ["x = 1\n" * 1000, function(500, "class C:"), function(70)])
def test_what_just_fits_is_left_alone(text: str) -> None:
    assert check_sizes(sample("coati.core.x", text)) == []


def test_generated_records_may_be_long() -> None:
    assert check_sizes(sample("coati.wire.records", "x = 1\n" * 5000)) == []


def test_a_missing_docstring_is_seen() -> None:
    assert check_docstring(sample("coati.core.x", "x = 1")) == ["coati.core.x:1: no module docstring"]
    assert check_docstring(sample("coati.core.x", '"""Knows x."""\nx = 1')) == []
