"""The committed blocking classes are what the generator writes."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.source import ROOT
from tools.gen_sync import MIRRORS, VIEWS, CannotMirror, Member, Mirror, Page, origin, target

GENERATOR = Path("tools/gen_sync.py")
TEXTS = Path("tools/sync_texts.py")


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / GENERATOR), "--check"], capture_output=True, text=True, check=False
    )


def test_the_blocking_classes_are_up_to_date() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_blocking_class_edited_by_hand_is_seen(tmp_path: Path) -> None:
    for name in (GENERATOR, TEXTS, Path("pyproject.toml")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__", "server"))
    assert check(tmp_path).returncode == 0
    with (tmp_path / target(MIRRORS[0].into).relative_to(ROOT)).open("a") as page:
        page.write("\nEDITED = True\n")
    assert check(tmp_path).returncode != 0


def method(text: str) -> str:
    fn = ast.parse(text).body[0]
    assert isinstance(fn, ast.FunctionDef | ast.AsyncFunctionDef)
    mirror = Mirror("coati.client.client:BaseClient", VIEWS)
    return Page(VIEWS).method(mirror, Member(fn, origin("coati.client.client")))


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("async def a(self, x: int) -> int: ...", "return self._on.call(self._it.a(x))"),
        ("async def a(self) -> None: ...", "\n        self._on.call(self._it.a())"),
        ("async def a(self, *, w: Trigger) -> int: ...", "call(self._it.a(w=Mirror.original(w)))"),
        ("def a(self) -> int: ...", "do(lambda: self._it.a())"),
        ("def a(self) -> Watch: ...", "return Watch(self._on.do(lambda: self._it.a()), self._on)"),
        ("async def a(self) -> Watch | None: ...", "None if (got := self._on.call(self._it.a())) is None else Watch("),
        ("async def a(self) -> list[Watch]: ...", "[Watch(one, self._on) for one in self._on.call(self._it.a())]"),
        ("async def a(self) -> AsyncIterator[int]:\n    yield 1", "-> Steps[int]:\n        return Steps(self._it.a()"),
        ("def a(self) -> AsyncIterator[Watch]: ...", "mapped(self._on.do(lambda: self._it.a()), lambda one: Watch("),
        ("@property\ndef a(self) -> int: ...", "@property\n    def a(self) -> int:\n        return self._on.do("),
        ("async def a(self) -> tuple[Watch, ...]: ...", "tuple(Watch(one, self._on) for one in self._on.call("),
        ("async def aclose(self) -> None: ...", "def close(self) -> None:\n        self._on.call(self._it.aclose())"),
        ("def a(self, ops: Iterable[Op]) -> int: ...", "self._it.a(list(ops))"),
        (
            "async def a(self, fn: Callable[[int], int]) -> int: ...",
            "asking(self._on, fn, lambda asked: self._it.a(asked))",
        ),
        ("def __len__(self) -> int: ...", "return self._on.do(lambda: len(self._it))"),
    ],
)
def test_a_signature_is_mirrored(text: str, call: str) -> None:
    assert call in method(text)


@pytest.mark.parametrize(
    "text",
    [
        "def a(self) -> Awaitable[int]: ...",
        "def a(self, **kw: int) -> int: ...",
        "def a(self, fn: Callable[[int], int]) -> int: ...",
        "async def a(self, work: Callable[[], Awaitable[int]]) -> int: ...",
        "def a(self) -> Coroutine[object, object, int]: ...",
        "async def a(self) -> TypedClient[int] | BaseClient: ...",
    ],
)
def test_what_cannot_be_mirrored_stops_the_generator(text: str) -> None:
    with pytest.raises(CannotMirror):
        method(text)
