"""What the tidy checks look at: modules with their syntax trees, and the text files of the project.

A check is a function from a Module (or a text) to a list of complaints, one line each, so that a test can hand it a bad
sample as easily as the real tree.
"""

from __future__ import annotations

import ast
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


@cache
def modules(*tops: str) -> tuple[Module, ...]:
    """The modules below these directories of the project (`src`, `tests`, `tools`, ...)."""
    found = []
    for path in files():
        relative = path.relative_to(ROOT)
        if path.suffix == ".py" and relative.parts[0] in tops:
            base = SOURCE if relative.parts[0] == "src" else ROOT
            dotted = ".".join(path.relative_to(base).with_suffix("").parts)
            text = path.read_text(encoding="utf-8")
            found.append(Module(dotted.removesuffix(".__init__"), text, ast.parse(text, str(path))))
    return tuple(found)


def texts() -> Iterator[tuple[str, str]]:
    """Name and content of every text file."""
    for path in files():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # recorded bytes of the wire or a disk
