"""Which build is under test: plain modules in a checkout, compiled ones in `make test-compiled`, never a mixture."""

from __future__ import annotations

import importlib
import os
import runpy

import pytest

from tests.tidy.source import ROOT

COMPILED_SUFFIXES = (".so", ".pyd")


def group() -> list[str]:
    """The modules that setup.py hands to mypyc."""
    files: list[str] = runpy.run_path(str(ROOT / "setup.py"))["compiled_files"](ROOT)
    return [file.removeprefix("src/").removesuffix(".py").replace("/", ".") for file in files]


def test_the_group_holds_the_hot_rooms() -> None:
    assert {"coati.wire.jute", "coati.wire.records", "coati.core.tree", "coati.zab.solo"} <= set(group())
    assert {"coati.storage.format", "coati.server.pipeline", "coati.server.replica"} <= set(group())


@pytest.mark.parametrize("name", group())
def test_each_hot_module_is_of_the_build_under_test(name: str) -> None:
    path = importlib.import_module(name).__file__
    assert path is not None
    if os.environ.get("COATI_REQUIRE_COMPILED") == "1":
        assert path.endswith(COMPILED_SUFFIXES)
    else:
        assert path.endswith(".py")
