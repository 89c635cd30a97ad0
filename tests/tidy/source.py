"""What the tidy checks look at: modules with their syntax trees, and the text files of the project.

A check is a function from a Module (or a text) to a list of complaints, one line each, so that a test can hand it a bad
sample as easily as the real tree.
"""

from __future__ import annotations

import ast
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SOURCE: Final = ROOT / "src"
# Not ours, or made from what is ours.
SKIPPED_DIRECTORIES: Final = frozenset(
    (
        *(".git", ".venv", ".venv-compiled", ".interop", "build", "dist", "coati-data"),
        *(".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__"),
    )
)
SKIPPED_SUFFIXES: Final = (".pyc", ".so", ".pyd", ".egg-info")


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file: its dotted name (`coati.wire.jute`, `tests.wire.test_jute`), text and tree."""

    name: str
    text: str
    tree: ast.Module

    def complaint(self, node: ast.AST, message: str) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 1)}: {message}"

    def is_in(self, *rooms: str) -> bool:
        """Whether the module is one of these, or inside one of them."""
        return any(self.name == room or self.name.startswith(room + ".") for room in rooms)


def sample(name: str, text: str) -> Module:
    """A module that exists only here."""
    return Module(name, text, ast.parse(text))


def files() -> Iterator[Path]:
    """All files of the project that a clone would have, in order."""
    for directory, names, leaves in os.walk(ROOT):
        names[:] = sorted(n for n in names if n not in SKIPPED_DIRECTORIES and not n.endswith(SKIPPED_SUFFIXES))
        for leaf in sorted(leaves):
            path = Path(directory, leaf)
            if not leaf.startswith(".coverage") and not leaf.endswith(SKIPPED_SUFFIXES):
                yield path


def modules(*tops: str) -> tuple[Module, ...]:
    """The modules below these directories of the project (`src`, `tests`, `tools`, ...).

    To be called by tests, not while they are collected: it takes seconds.
    """
    found = tuple(_module(path) for path in files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in tops)
    # Millions of objects that stay: the collector would go through them in every test from now on.
    gc.freeze()
    return found


@cache
def _module(path: Path) -> Module:
    base = SOURCE if path.is_relative_to(SOURCE) else ROOT
    dotted = ".".join(path.relative_to(base).with_suffix("").parts)
    text = path.read_text(encoding="utf-8")
    return Module(dotted.removesuffix(".__init__"), text, ast.parse(text, str(path)))


def texts() -> Iterator[tuple[str, str]]:
    """Name and content of every text file."""
    for path in files():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # recorded bytes of the wire or a disk
