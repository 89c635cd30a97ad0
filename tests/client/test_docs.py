"""The examples of docs/client.md run as they stand, each against a tree of its own."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import coati
from tests.client.livekit import client, run
from tests.interop.peers import QUICK_CFG, CoatiServer

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(match[1], id=f"line{TEXT[: match.start()].count(chr(10)) + 2}") for match in BLOCK.finditer(TEXT)
]


@pytest.fixture(scope="module")
def empty_port() -> Iterator[int]:
    """Of a server of their own, since the examples begin at the root."""
    with CoatiServer(cfg=QUICK_CFG) as server:
        yield server.port


def main_of(block: str) -> Callable[[coati.Client], Awaitable[None]]:
    names: dict[str, Callable[[coati.Client], Awaitable[None]]] = {}
    source = "async def main(zk):\n" + textwrap.indent(block, "    ")
    exec(compile(source, "docs/client.md", "exec"), {"asyncio": asyncio, "coati": coati}, names)
    return names["main"]


def test_there_are_examples() -> None:
    assert len(BLOCKS) > 12


@pytest.mark.parametrize("block", BLOCKS)
def test_example_runs(empty_port: int, block: str) -> None:
    async def scene() -> None:
        async with client(empty_port) as zk:
            try:
                await main_of(block)(zk)
            finally:
                for name in await zk.children("/"):
                    if name != "zookeeper":
                        await zk.delete_tree(f"/{name}")

    run(scene)
