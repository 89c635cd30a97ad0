"""Walking a tree that changes meanwhile."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from coati.cli.znodes import Walk, preorder, stats_of
from coati.client.client import BaseClient
from coati.client.types import Stat
from coati.errors import NoNode

A_STAT = Stat(1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1)


class Vanishing:
    """A tree of /a, /a/b and /a/c, whose /a/b goes between being seen and being asked for."""

    async def children(self, path: str) -> list[str]:
        if path == "/a/b":
            raise NoNode(path)
        return ["b", "c"] if path == "/a" else []

    async def exists(self, path: str) -> Stat | None:
        return None if path == "/gone" else A_STAT


ZK = cast("BaseClient", Vanishing())


@pytest.mark.parametrize("stats", [False, True])
def test_what_goes_meanwhile_is_left_out(stats: bool) -> None:
    async def walked(path: str) -> list[str]:
        return [visit.path async for visit in preorder(ZK, path, Walk(stats=stats))]

    assert asyncio.run(walked("/a")) == ["/a", "/a/c"]
    with pytest.raises(NoNode):
        asyncio.run(walked("/a/b"))


def test_stats_of_what_is_there() -> None:
    async def found() -> list[tuple[str, Stat]]:
        return [pair async for pair in stats_of(ZK, ["/a", "/gone", "/b"])]

    assert asyncio.run(found()) == [("/a", A_STAT), ("/b", A_STAT)]
