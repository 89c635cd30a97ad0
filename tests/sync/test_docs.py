"""The examples of docs/sync.md run as they stand, each against a tree of its own."""

from __future__ import annotations

import re
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import coati
from coati import sync

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "sync.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(match[1], id=f"line{TEXT[: match.start()].count(chr(10)) + 2}") for match in BLOCK.finditer(TEXT)
]


def test_there_are_examples() -> None:
    assert len(BLOCKS) > 4


@pytest.mark.parametrize("block", BLOCKS)
def test_example_runs(zk: sync.Client, block: str) -> None:
    names: dict[str, Callable[[sync.Client], None]] = {}
    source = "def main(zk):\n" + textwrap.indent(block, "    ")
    exec(compile(source, "docs/sync.md", "exec"), {"coati": coati, "sync": sync, "threading": threading}, names)
    names["main"](zk)
