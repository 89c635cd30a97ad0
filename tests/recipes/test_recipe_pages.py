"""The examples of docs/recipes and docs/patterns.md run: each block is the body of `async def main(zk)`."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path

import pytest

import coati
from tests.interop.peers import Server
from tests.recipes.livekit import run

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [*sorted((DOCS / "recipes").glob("*.md")), DOCS / "patterns.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(found.group(1), id=f"{page.stem}-{number}")
    for page in PAGES
    for number, found in enumerate(BLOCK.finditer(page.read_text()))
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(server: Server, path: str, example: str) -> None:
    names: dict[str, object] = {"coati": coati, "asyncio": asyncio, "print": lambda *_: None}
    exec("async def main(zk):\n" + textwrap.indent(example, "    "), names)
    main = names["main"]
    assert callable(main)

    async def with_client() -> None:
        async with coati.Client(server.address, session_timeout=20.0) as zk:
            await zk.ensure(path)
            await main(zk.chroot(path))

    run(with_client())


def test_every_page_has_examples() -> None:
    assert len(EXAMPLES) > 12
