"""How long things may be, and what each module has to say on top."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from tests.tidy.source import Module

MAX_MODULE_LINES: Final = 1000
MAX_CLASS_LINES: Final = 500
MAX_FUNCTION_LINES: Final = 70
GENERATED: Final = ("coati.sync.client", "coati.sync.recipes", "coati.sync.views", "coati.wire.records")

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def check_sizes(module: Module) -> list[str]:
    """Modules, classes and functions beyond their limit. A docstring counts; a decorator does not."""
    if module.name in GENERATED:
        return []
    found = []
    lines = module.text.count("\n")
    if lines > MAX_MODULE_LINES:
        found.append(f"{module.name}:1: {lines} lines, a module has at most {MAX_MODULE_LINES}")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            found += _too_long(module, node, "class", MAX_CLASS_LINES)
        elif isinstance(node, FUNCTIONS):
            found += _too_long(module, node, "function", MAX_FUNCTION_LINES)
    return found


def _too_long(
    module: Module, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, what: str, limit: int
) -> Iterator[str]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > limit:
        yield module.complaint(node, f"{what} {node.name} has {lines} lines, at most {limit}")


def check_docstring(module: Module) -> list[str]:
    """Every module says what it knows."""
    if ast.get_docstring(module.tree):
        return []
    return [f"{module.name}:1: no module docstring"]
