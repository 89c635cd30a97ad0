"""Habits are kept in every file, and the checks see a bad one."""

from __future__ import annotations

import pytest

from tests.tidy.habits import FOREIGN, check_excepts, check_waivers, check_words
from tests.tidy.source import modules, sample, texts

EVERYWHERE = ("src", "tests", "tools", "bench")


def test_no_except_catches_what_it_does_not_name() -> None:
    assert [line for module in modules(*EVERYWHERE) for line in check_excepts(module)] == []


def test_every_waived_check_says_which_and_why() -> None:
    assert [line for module in modules(*EVERYWHERE) if module.name != __name__ for line in check_waivers(module)] == []


def test_no_file_holds_words_that_do_not_belong() -> None:
    assert [line for name, text in texts() for line in check_words(name, text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    f()\nexcept:\n    raise",
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept (ValueError, BaseException):\n    pass",
    ],
)
def test_a_greedy_except_is_seen(text: str) -> None:
    assert check_excepts(sample("coati.core.x", text))


def test_an_except_that_names_its_errors_is_left_alone() -> None:
    assert check_excepts(sample("coati.core.x", "try:\n    f()\nexcept OSError:\n    pass")) == []
    assert check_excepts(sample("coati.core.x", "try:\n    f()\nexcept Exception as e:\n    log(e)")) == []


@pytest.mark.parametrize(
    "text",
    [
        "x = 1  # type: ignore",
        "x = 1  # type: ignore  # no code",
        "x = 1  # type: ignore[assignment]",
        "x = 1  # noqa: E501",
        "x = 1  # pragma: no cover",
    ],
)
def test_a_waiver_without_code_or_reason_is_seen(text: str) -> None:
    assert check_waivers(sample("coati.core.x", text))


@pytest.mark.parametrize(
    "text",
    [
        "x = 1  # type: ignore[assignment]  # the stub is wrong: it is an int",
        "x = 1  # noqa: E501  # one address, not to be broken",
        "x = 1  # pragma: no cover  # only on Windows",
        "x = 1  # a type to ignore",
    ],
)
def test_a_waiver_with_its_reason_is_left_alone(text: str) -> None:
    assert check_waivers(sample("coati.core.x", text)) == []


@pytest.mark.parametrize("word", ["".join(halves) for halves in (("TO", "DO"), ("FIX", "ME"))])
def test_unfinished_business_is_seen(word: str) -> None:
    assert check_words("src/coati/core/x.py", f"# {word}: later") == [f"src/coati/core/x.py:1: {word}"]
    assert check_words("src/coati/core/x.py", f"# MAS{word}N") == []


@pytest.mark.parametrize("word", FOREIGN)
def test_foreign_words_are_seen_in_any_file(word: str) -> None:
    assert check_words("docs/x.md", f"fine\nsee {word}x") == [f"docs/x.md:2: {word}"]
