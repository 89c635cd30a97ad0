"""No room opens a door beside the seams, no set decides an order, no test sleeps; and the checks see one that does."""

from __future__ import annotations

import pytest

from tests.tidy.calls import check_calls, check_test_sleeps
from tests.tidy.sets import check_sets
from tests.tidy.source import modules, sample


def test_no_module_calls_what_is_banned() -> None:
    assert [line for module in modules("src") for line in check_calls(module)] == []


def test_nothing_iterates_a_set() -> None:
    assert [line for module in modules("src") for line in check_sets(module)] == []


def test_no_test_sleeps() -> None:
    assert [line for module in modules("tests") for line in check_test_sleeps(module)] == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("coati.core.sessions", "import time\nnow = time.time()", "coati.core.sessions:2: uses time.time"),
        ("coati.core.sessions", "from time import time as now\nx = now()", "uses time.time"),
        ("coati.core.sessions", "import time as t\nclock = t.monotonic", "uses time.monotonic"),
        ("coati.server.main", "import time\ntime.sleep(1)", "uses time.sleep"),
        ("coati.cli.ls", "import time\ntime.sleep(1)", "uses time.sleep"),
        (
            "coati.server.main",
            "import asyncio\nasync def f() -> None:\n    await asyncio.sleep(1)",
            "uses asyncio.sleep",
        ),
        ("coati.server.main", "import random\nx = random.randrange(3)", "uses random.randrange"),
        ("coati.server.main", "from random import choice\nx = choice([1])", "uses random.choice"),
        ("coati.core.sessions", "import os\nx = os.urandom(8)", "uses os.urandom"),
        ("coati.server.main", "import os\nx = os.environ['A']", "uses os.environ"),
        ("coati.server.main", "print('hello')", "uses print"),
        ("coati.server.main", "import sys\nsys.stdout.write('hello')", "uses sys.stdout"),
        ("coati.storage.txnlog", "f = open('log')", "uses open"),
        ("coati.server.main", "from pathlib import Path\nx = Path('a').read_text()", "uses read_text"),
        ("coati.server.main", "import os\nos._exit(1)", "uses os._exit"),
        ("coati.core.tree", "x = eval('1')", "uses eval"),
        ("coati.core.tree", "setattr(x, 'y', 1)", "uses setattr"),
        ("coati.cli.ls", "import importlib\nimportlib.import_module('coati.core')", "uses importlib.import_module"),
        ("coati.server.main", "import threading\nx = threading.Thread()", "uses threading.Thread"),
    ],
)
def test_a_banned_call_is_seen(name: str, text: str, complaint: str) -> None:
    assert any(complaint in line for line in check_calls(sample(name, text)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("coati.server.clock", "import time\nx = time.time_ns()"),
        ("coati.server.main", "import random\nx = random.Random(7)\ny = x.randrange(3)"),
        ("coati.cli.ls", "print('hello')"),
        ("coati.storage.disk", "import os\nf = os.open('log', 0)"),
        ("coati.server.config", "import os\nx = os.environ"),
        ("coati.wire.txns", "def time() -> int:\n    return 1\nx = self.time()"),
        ("coati.storage.store", "x = self.disk.open('log')"),
    ],
)
def test_a_permitted_call_is_left_alone(name: str, text: str) -> None:
    assert check_calls(sample(name, text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "for x in {1, 2}: pass",
        "for x in set(y): pass",
        "z = [x for x in frozenset(y)]",
        "z = {x: 1 for x in {1, 2}}",
        "z = list({1, 2})",
        "z = ','.join({x for x in y})",
        "z = [*{1, 2}]",
        "s: set[bytes] = make()\nfor x in s: pass",
        "class C:\n    def __init__(self):\n        self.s = set()\n    def f(self):\n        for x in self.s: pass",
        "class C:\n    s: ClassVar[frozenset[int]] = make()\n    def f(self) -> list[int]:\n        return list(s)",
        "def f(s: set[int]) -> None:\n    for x in s: pass",
        "a = {1}\nfor x in a | b: pass",
        "a = {1}\nfor x in a.union(b): pass",
        "a = {1}\nx = a.pop()",
        "a = {1}\nx = next(iter(a))",
        "def f() -> Iterator[int]:\n    yield from {1, 2}",
    ],
)
def test_an_iterated_set_is_seen(text: str) -> None:
    assert check_sets(sample("coati.core.x", text))


@pytest.mark.parametrize(
    "text",
    [
        "for x in sorted({1, 2}): pass",
        "a = {1}\nok = 1 in a and len(a) == 1",
        "a = {1: 2}\nfor x in a: pass",
        "a = {1: 2}\nx = a.pop(1)",
        "a = [1]\nx = a.pop()",
        "a = {x for x in [1]}",
        "a = b - c\nfor x in range(a): pass",
    ],
)
def test_a_set_that_is_only_asked_is_left_alone(text: str) -> None:
    assert check_sets(sample("coati.core.x", text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(0.1)",
        "from time import sleep\nsleep(1)",
        "import asyncio\nasync def f() -> None:\n    await asyncio.sleep(0.01)",
        "import time\ntime.sleep(delay)",
    ],
)
def test_a_sleeping_test_is_seen(text: str) -> None:
    assert check_test_sleeps(sample("tests.core.test_x", text))


def test_giving_way_to_others_is_no_sleep() -> None:
    text = "import asyncio\nasync def f() -> None:\n    await asyncio.sleep(0)"
    assert check_test_sleeps(sample("tests.core.test_x", text)) == []
