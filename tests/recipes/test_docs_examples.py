"""Every ```python block of docs/recipes/*.md runs: each is the body of an `async def main(zk)`."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from pathlib import Path

import pytest

import coati
from tests.interop.peers import Server
from tests.recipes.livekit import fresh_path, run

DOCS = Path(__file__).resolve().parents[2] / "docs" / "recipes"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> list[object]:
    """All blocks, by page and line."""
    found: list[object] = []
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text()
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 2
            found.append(pytest.param(page, line, block[1], id=f"{page.stem}:{line}"))
    return found


@pytest.mark.parametrize(("page", "line", "block"), examples())
def test_example_runs(server: Server, page: Path, line: int, block: str) -> None:
    # So that a failure names the line of the page.
    source = "\n" * (line - 2) + "async def main(zk):\n" + textwrap.indent(block, "    ")
    names: dict[str, object] = {}
    exec(compile(source, str(page), "exec"), names)
    main = names["main"]
    assert callable(main)

    async def in_its_own_tree() -> None:
        async with coati.Client(server.address) as zk:
            root = fresh_path()
            await zk.ensure(root)
            await main(zk.chroot(root))

    with contextlib.redirect_stdout(io.StringIO()):
        run(in_its_own_tree())
