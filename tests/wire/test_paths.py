"""Paths: Java's verdicts on thousands of them, and how a path splits."""

from __future__ import annotations

import tracemalloc

import pytest

from coati.errors import BAD_ARGUMENTS, BadArguments
from coati.wire.paths import ROOT, parent_of, validate_path
from tests.wire import wirepeer

LINES = (wirepeer.FIXTURES / "java_paths.txt").read_text().splitlines()


def is_valid(path: bytes, sequential: bool) -> bool:
    try:
        validate_path(path, sequential)
    except BadArguments:
        return False
    return True


def test_verdicts_are_those_of_java() -> None:
    assert len(LINES) >= wirepeer.PATHS
    for line in LINES:
        verdicts, _, text = line.partition(" ")
        path = bytes.fromhex(text)
        assert (is_valid(path, False), is_valid(path, True)) == (verdicts[0] == "1", verdicts[1] == "1"), path


def test_verdicts_are_of_both_kinds_and_of_all_pieces() -> None:
    verdicts = [line.partition(" ")[0] for line in LINES]
    assert min(verdicts.count("11"), verdicts.count("00")) > 500
    # A trailing slash or dot is cured by the digit of a sequential znode, nothing is spoilt by it.
    assert verdicts.count("01") > 10
    assert set(verdicts) == {"00", "01", "11"}
    assert {line.partition(" ")[2] for line in LINES} == {path.hex() for path in wirepeer.generate_paths()}


def test_plain_is_the_default() -> None:
    validate_path(b"/a")
    with pytest.raises(BadArguments) as refused:
        validate_path(b"/a/")
    assert (refused.value.code, refused.value.path) == (BAD_ARGUMENTS, "/a/")
    validate_path(b"/a/", True)


@pytest.mark.parametrize(
    ("path", "valid"),
    [
        (b"/a" * 500_000, True),
        (b"/" + b"a" * 1_000_000, True),
        ("/é".encode() * 300_000, True),
        (b"/a" * 500_000 + b"/", False),
        (b"/." * 500_000 + b"a", False),
        (b"/" * 1_000_000, False),
    ],
    ids=["levels", "long", "levels beyond ASCII", "slash at the end", "dots", "slashes"],
)
def test_long_path_costs_a_few_copies_of_it(path: bytes, valid: bool) -> None:
    tracemalloc.start()
    try:
        assert is_valid(path, False) is valid
        assert tracemalloc.get_traced_memory()[1] < 5 * len(path)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("path", "parent"), [(b"/a", ROOT), (b"/a/b", b"/a"), (b"/a/b/c.1", b"/a/b"), (b"/", ROOT)])
def test_parent(path: bytes, parent: bytes) -> None:
    assert parent_of(path) == parent
