"""Walking a tree that changes meanwhile."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from coati.cli.znodes import Walk, owner, preorder, stats_of, when
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


def test_times_and_owners_that_are_unusual_are_shown() -> None:
    """A clock may have been wrong, and the sessions of servers from 128 on are negative numbers."""
    assert when(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert when(1 << 62) == str(1 << 62)
    assert owner(A_STAT._replace(ephemeral_owner=-1)) == "0xffffffffffffffff"
    assert owner(A_STAT) is None
