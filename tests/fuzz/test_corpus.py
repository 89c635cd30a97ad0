"""Every input that a search has kept goes through its target again, and so do the seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import fuzz

TARGETS = fuzz.load_targets()
CORPORA = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_breaks_nothing(name: str) -> None:
    target = TARGETS[name]
    inputs = fuzz.read_inputs(CORPORA / name)
    assert inputs, f"no corpus: python tools/fuzz.py --target {name} --keep"
    for data in inputs:
        fuzz.check(target, data)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_break_nothing(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert seeds
    for data in seeds:
        target = TARGETS[name]
        target.run(data)
        assert len(data) <= fuzz.MAX_INPUT_BYTES


@pytest.mark.parametrize("name", TARGETS)
def test_empty_input_breaks_nothing(name: str) -> None:
    fuzz.check(TARGETS[name], b"")


def test_corpus_is_small_and_of_targets_that_exist() -> None:
    directories = sorted(path for path in CORPORA.iterdir() if path.is_dir())
    assert [path.name for path in directories] == sorted(TARGETS)
    for path in directories:
        assert sum(map(len, fuzz.read_inputs(path))) <= fuzz.KEPT_BYTES
        assert all(fuzz.file_name(file.read_bytes()) == file.name for file in path.iterdir())
