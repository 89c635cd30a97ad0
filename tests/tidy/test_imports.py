"""The import table is kept, and the check sees what breaks it."""

from __future__ import annotations

import pytest

from tests.tidy.imports import LAZY, check_imports, cycles, graph_of
from tests.tidy.source import modules, sample


def ours() -> frozenset[str]:
    """The names of all modules of coati."""
    return frozenset(module.name for module in modules("src"))


def test_every_module_keeps_to_its_rooms_imports() -> None:
    known = ours()
    assert [line for module in modules("src") for line in check_imports(module, known)] == []


def test_no_import_cycles() -> None:
    assert cycles(graph_of(modules("src"))) == []


def test_the_list_of_lazy_imports_has_no_entry_too_many() -> None:
    names = {module.name for module in modules("src")}
    assert [module for module, _ in sorted(LAZY) if module not in names] == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("coati.wire.jute", "import asyncio", "coati.wire.jute:1: may not import asyncio"),
        ("coati.wire.jute", "import coati.core.tree", "may not import coati.core.tree"),
        ("coati.wire.jute", "from coati.core import tree", "may not import coati.core"),
        ("coati.wire.jute", "from coati import seams", "may not import coati.seams"),
        ("coati.core.tree", "import coati.zab.solo", "may not import coati.zab.solo"),
        ("coati.core.tree", "from time import time", "may not import time"),
        ("coati.zab.solo", "from coati.core.tree import Tree", "may not import coati.core.tree"),
        ("coati.zab.solo", "import random", "may not import random"),
        ("coati.storage.txnlog", "import os", "may not import os"),
        ("coati.storage.format", "import logging", "may not import logging"),
        ("coati.storage.store", "from coati.core.tree import Znode", "may not import coati.core.tree"),
        ("coati.server.replica", "import asyncio", "may not import asyncio"),
        ("coati.server.driver", "import asyncio", "may not import asyncio"),
        ("coati.server.main", "import coati.client.client", "may not import coati.client.client"),
        ("coati.server.main", "import click", "may not import click"),
        ("coati.server.main", "from coati.testing.disk import SimDisk", "may not import coati.testing.disk"),
        ("coati.server.main", "import pickle", "may not import pickle"),
        ("coati.cli.ls", "from coati.core.tree import Tree", "may not import coati.core.tree"),
        ("coati.cli.ls", "import coati.server.main", "may not import coati.server.main"),
        ("coati", "from coati.wire import codes", "may not import coati.wire"),
        ("coati.newroom.x", "import os", "coati.newroom.x:1: no rule says what this room may import"),
        ("coati.server.main", "def f() -> None:\n    import ssl", "coati.server.main:2: imports ssl inside a function"),
        ("coati.wire.jute", "from . import codes", "imports by a relative name"),
    ],
)
def test_a_forbidden_import_is_seen(name: str, text: str, complaint: str) -> None:
    known = ours() | {"coati.seams"}
    assert any(complaint in line for line in check_imports(sample(name, text), known))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("coati.wire.records", "from coati.wire.jute import Reader\nfrom coati.errors import MarshallingError"),
        ("coati.storage.disk", "import os, threading"),
        ("coati.server.main", "import asyncio, ssl, uvloop\nfrom coati.core.tree import Tree"),
        ("coati.cli.serve", "from coati.server.main import serve"),
        ("coati.cli.ls", "from coati import __version__"),
    ],
)
def test_a_permitted_import_is_left_alone(name: str, text: str) -> None:
    assert check_imports(sample(name, text), ours()) == []


def test_a_cycle_is_seen() -> None:
    a = sample("coati.wire.a", "import coati.wire.b")
    b = sample("coati.wire.b", "from coati.wire import c")
    c = sample("coati.wire.c", "from coati.wire.a import x")
    assert cycles(graph_of((a, b, c))) == ["coati.wire.a -> coati.wire.b -> coati.wire.c -> coati.wire.a"]
    assert cycles(graph_of((a, b))) == []
