"""Nothing iterates a set: the order of strings and bytes in it changes with the hash seed, and so would the output.

Seen are set expressions, and names and attributes that the module itself declares or fills as sets.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from tests.tidy.calls import dotted
from tests.tidy.source import Module

SET_TYPES: Final = ("set", "frozenset", "AbstractSet", "MutableSet", "collections.abc.Set")
SET_METHODS: Final = ("union", "intersection", "difference", "symmetric_difference", "copy")
SET_OPERATORS: Final = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
# Calls that take the elements in order. `sorted`, `min`, `max`, `len`, `sum`, `any`, `all`, `set` do not care.
ORDERED: Final = (
    "list",
    "tuple",
    "iter",
    "enumerate",
    "zip",
    "map",
    "filter",
    "deque",
    "dict.fromkeys",
    "next",
    "reversed",
)


class Declared:
    """The names and `self.` attributes of one module that hold sets."""

    def __init__(self, tree: ast.Module) -> None:
        self.names: dict[str, None] = {}
        # Twice: a name filled from a name that is only found to be a set further down.
        for _ in range(2):
            for node in ast.walk(tree):
                self._look_at(node)

    def _look_at(self, node: ast.AST) -> None:
        if isinstance(node, ast.AnnAssign) and _is_set_type(node.annotation):
            self._add(node.target)
        elif isinstance(node, ast.arg) and node.annotation is not None and _is_set_type(node.annotation):
            self.names[node.arg] = None
        elif isinstance(node, ast.Assign) and self.is_set(node.value):
            for target in node.targets:
                self._add(target)

    def _add(self, target: ast.expr) -> None:
        name = dotted(target)
        if name is not None:
            self.names[name] = None

    def is_set(self, node: ast.expr) -> bool:
        """Whether the expression is a set, as far as the module shows."""
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.BinOp) and isinstance(node.op, SET_OPERATORS):
            return self.is_set(node.left) or self.is_set(node.right)
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in SET_METHODS:
                return self.is_set(node.func.value)
            return dotted(node.func) in ("set", "frozenset")
        return dotted(node) in self.names


def _is_set_type(annotation: ast.expr) -> bool:
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    name = dotted(base) or ""
    if name.endswith(("Final", "ClassVar", "Annotated")) and isinstance(annotation, ast.Subscript):
        inner = annotation.slice
        return _is_set_type(inner.elts[0] if isinstance(inner, ast.Tuple) else inner)
    return name in SET_TYPES or name.rpartition(".")[2] in SET_TYPES


def iterated(tree: ast.Module) -> Iterator[ast.expr]:
    """Every expression whose elements are taken in order."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor):
            yield node.iter
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
            for generator in node.generators:
                yield generator.iter
        elif isinstance(node, ast.Starred | ast.YieldFrom):
            yield node.value
        elif isinstance(node, ast.Call) and node.args:
            joins = isinstance(node.func, ast.Attribute) and node.func.attr in (
                "join",
                "extend",
                "extendleft",
                "writelines",
            )
            if joins or dotted(node.func) in ORDERED:
                yield from node.args


def check_sets(module: Module) -> list[str]:
    """Sets that are iterated, and `pop()` from a set, which takes any."""
    declared = Declared(module.tree)
    found = [module.complaint(e, "iterates a set") for e in iterated(module.tree) if declared.is_set(e)]
    found += [
        module.complaint(node, "pops any element of a set")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and not node.args and isinstance(node.func, ast.Attribute)
        if node.func.attr == "pop" and declared.is_set(node.func.value)
    ]
    return found
