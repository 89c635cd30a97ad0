"""What users meet is typed: no Any, nothing without a type, nothing that a strict checker cannot follow."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import coati
import coati.sync
from tests.tidy.source import ROOT

DOORS = [coati.Client, coati.sync.Client]
# What a dunder of everybody's is typed like is Python's matter.
OWN = ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__iter__", "__next__", "__aiter__", "__anext__")

# Fetching it included, which a machine without a registry tries in vain.
PYRIGHT_S = 240


def functions(cls: type) -> Iterator[Callable[..., object]]:
    """The public methods and properties of a class of ours, its bases' included, as the functions they are."""
    for base in cls.__mro__:
        if not base.__module__.startswith("coati."):
            continue
        for name, found in vars(base).items():
            if name.startswith("_") and name not in OWN:
                continue
            if isinstance(found, property):
                assert found.fget is not None
                found = found.fget
            elif isinstance(found, staticmethod | classmethod):
                found = found.__func__
            # What Protocol makes is its own matter.
            if inspect.isfunction(found) and found.__module__ != "typing":
                yield inspect.unwrap(found)


def parts(kind: object) -> Iterator[object]:
    """A type, and those it is made of."""
    yield kind
    if isinstance(kind, list | tuple):
        for one in kind:
            yield from parts(one)
    for one in typing.get_args(kind):
        yield from parts(one)
    origin = typing.get_origin(kind)
    if origin is not None:
        yield origin


def complaints(cls: type, found: dict[type, None]) -> Iterator[str]:
    """What is untyped in a class; the classes of ours that it leads to are added to `found`."""
    for function in functions(cls):
        where = f"{function.__module__}.{function.__qualname__}"
        hints = typing.get_type_hints(function)
        signature = inspect.signature(function)
        missing = [one for at, one in enumerate(signature.parameters) if one not in hints and at > 0]
        if "return" not in hints:
            missing.append("return")
        yield from (f"{where}: {one} has no type" for one in missing)
        for of, hint in hints.items():
            for part in parts(hint):
                if part is typing.Any:
                    yield f"{where}: {of} is Any"
                if isinstance(part, type) and part.__module__.startswith("coati."):
                    found.setdefault(part)


@pytest.mark.parametrize("door", DOORS, ids=["coati", "coati.sync"])
def test_nothing_that_users_meet_is_untyped(door: type) -> None:
    found: dict[type, None] = {door: None}
    told: list[str] = []
    done = 0
    while done < len(found):
        told += complaints(list(found)[done], found)
        done += 1
    assert told == []
    # It has gone round: what the client gives, and what that gives.
    assert {"Watch", "Transaction", "Held"} <= {cls.__name__ for cls in found}


class _Untyped:
    def a(self, x: list[typing.Any]) -> None: ...

    def b(self, x):  # type: ignore[no-untyped-def]  # that is what must be seen
        ...


def test_what_is_untyped_is_seen() -> None:
    _Untyped.__module__ = "coati.x"
    told = list(complaints(_Untyped, {}))
    assert [line.partition(": ")[2] for line in told] == ["x is Any", "x has no type", "return has no type"]


@pytest.mark.timeout(PYRIGHT_S + 60)
def test_pyright_in_strict_mode_has_no_complaint() -> None:
    beside = Path(sys.executable).parent / "pyright"
    if not beside.exists() or shutil.which("node") is None:
        pytest.skip("pyright, of the extra `dev`, and node are needed")
    try:
        done = subprocess.run(
            [str(beside), "--pythonpath", sys.executable, "-p", str(ROOT)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PYRIGHT_S,
            env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        )
    except subprocess.TimeoutExpired:
        pytest.skip("pyright could not be fetched from npm in time")
    if re.search(r"^\d+ errors?, ", done.stdout, re.MULTILINE) is None:
        pytest.skip("pyright could not be fetched from npm")
    assert done.returncode == 0, done.stdout
