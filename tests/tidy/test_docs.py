"""What the documents point at is there: files, commands, tests; and what tests call intended is a divergence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.interop.lockstep import INTENDED
from tests.tidy.source import ROOT, texts

ROW = re.compile(r" [0-9]+[ab]? ")
TEST = re.compile(r"`(tests/[a-z_/]+\.py)::(test_\w+)`")
# Of the project's table of bad input those that one server without TLS and SASL can meet.
BAD_INPUT_ROWS = [*range(1, 13), *range(14, 27), *range(29, 36), *range(37, 47), 49, *range(55, 61), *range(62, 71)]
# Of its table of regressions those that servers without TLS and local sessions can repeat.
REGRESSION_ROWS = [
    *map(str, range(1, 43)), "44", "45", "48", "49", "50", "52", "53", "54a", "54b", "54",
    *map(str, range(55, 71)),
]  # fmt: skip
# Of its table of features those of an ensemble, without what only a client library has.
ENSEMBLE_ROWS = [*map(str, range(12, 42)), *map(str, range(49, 83))]
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)\)")
# Written by `make bench` and by a release, so they may not be there yet.
MADE_LATER = ("bench/RESULTS.md",)


def broken_links(name: str, text: str) -> list[str]:
    """Links of a document to files that are not there."""
    found = []
    for target in LINK.findall(text):
        path = (ROOT / name).parent / target
        if "://" not in target and not path.exists() and target not in MADE_LATER:
            found.append(f"{name}: {target}")
    return found


def rows(text: str) -> set[str]:
    """`Section: first cell` of every row of the tables of divergences."""
    found = set()
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| "):
            found.add(f"{section}: {line.split('|')[1].strip()}")
    return found


def make_targets(text: str) -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))


def test_links_lead_somewhere() -> None:
    documents = [(name, text) for name, text in texts() if name.endswith(".md")]
    assert len(documents) > 5
    assert [line for name, text in documents for line in broken_links(name, text)] == []


def test_a_link_into_the_blue_is_seen() -> None:
    assert broken_links("docs/x.md", "[a](nowhere.md) [b](../README.md) [c](https://example.org/x)") == [
        "docs/x.md: nowhere.md"
    ]


@pytest.mark.parametrize("reference", [known.reference for known in INTENDED])
def test_what_is_left_out_of_comparisons_is_a_divergence(reference: str) -> None:
    assert reference in rows((ROOT / "docs" / "divergences.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_commands_in_the_documents_exist(document: str) -> None:
    targets = make_targets((ROOT / "Makefile").read_text(encoding="utf-8"))
    text = Path(ROOT, document).read_text(encoding="utf-8")
    used = set(re.findall(r"^(?: {4}|twice |say \")?make ([a-z-]+)", text, re.MULTILINE)) | set(
        re.findall(r"`make ([a-z-]+)`", text)
    )
    assert used
    assert used <= targets


def missing_tests(text: str) -> list[str]:
    """Tests that a document names and that are not there."""
    found = []
    for name, test in TEST.findall(text):
        path = ROOT / name
        if not path.exists() or f"def {test}(" not in path.read_text(encoding="utf-8"):
            found.append(f"{name}::{test}")
    return found


def rows_with_tests(text: str) -> list[str]:
    """The numbers of the rows that name a test."""
    lines = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    return [cells[1].strip() for cells in lines if ROW.fullmatch(cells[1]) and TEST.search(cells[3])]


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ("bad-input.md", list(map(str, BAD_INPUT_ROWS))),
        ("regressions.md", REGRESSION_ROWS),
        ("ensemble.md", ENSEMBLE_ROWS),
    ],
)
def test_every_row_names_its_tests_and_they_exist(document: str, rows: list[str]) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    assert rows_with_tests(text) == rows
    assert text.count("::test_") == len(TEST.findall(text)), "a name that is not read here"
    assert missing_tests(text) == []


def test_a_row_without_its_test_is_seen() -> None:
    here = "`tests/tidy/test_docs.py::test_a_row_without_its_test_is_seen`"
    text = f"| 1 | x | {here} |\n| 2 | x | |\n| 3 | x | `tests/tidy/test_docs.py::test_no` `tests/no.py::test_a` |\n"
    assert rows_with_tests(text) == ["1", "3"]
    assert missing_tests(text) == ["tests/tidy/test_docs.py::test_no", "tests/no.py::test_a"]
