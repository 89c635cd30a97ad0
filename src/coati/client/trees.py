"""What is done by several requests: to a znode and all below it, most of them at a time, or until nobody interferes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from coati.client.ops import Delete, MultiError, Op, OpResult
from coati.client.types import ANY, Node, Stat, join_path
from coati.errors import BadVersion, ConnectionLoss, NodeExists, NoNode, NotEmpty

# How often it begins again when somebody else was faster, or a tree grows while it is deleted.
ROUNDS: Final = 10
LISTED_AT_A_TIME: Final = 64


T = TypeVar("T")


class Verbs(Protocol):
    """What is needed of a client."""

    async def get(self, path: str) -> Node: ...

    async def children(self, path: str) -> list[str]: ...

    async def delete(self, path: str, *, version: int = ANY, missing_ok: bool = False) -> None: ...

    async def multi(self, ops: Iterable[Op]) -> list[OpResult]: ...


class Writes(Protocol):
    """What is needed of a client to write one znode."""

    async def get(self, path: str) -> Node: ...

    async def create(self, path: str, data: bytes = b"", *, parents: bool = False) -> Node: ...

    async def set(self, path: str, data: bytes, *, version: int = ANY) -> Stat: ...


async def put(client: Writes, path: str, data: bytes, *, parents: bool) -> Stat | None:
    """None if the znode has come and gone all the time."""
    for _ in range(ROUNDS):
        try:
            return await client.set(path, data)
        except NoNode:
            pass
        try:
            return (await client.create(path, data, parents=parents)).stat
        except NodeExists:
            pass
    return None


async def update(client: Writes, path: str, fn: Callable[[bytes], bytes]) -> Node:
    """Until nobody writes between reading and writing."""
    while True:
        node = await client.get(path)
        data = fn(node.data)
        try:
            return Node(path, data, await client.set(path, data, version=node.version))
        except BadVersion as error:
            if error.maybe_applied:
                raise


async def walk(client: Verbs, path: str, *, concurrency: int) -> AsyncGenerator[Node, None]:
    """Level by level, each in the order of its paths."""
    level = [path]
    while level:
        below: list[str] = []
        for at in range(0, len(level), concurrency):
            some = level[at : at + concurrency]
            for found in await _all(_visit(client, one) for one in some):
                if found is not None:
                    node, names = found
                    below += (join_path(node.path, name) for name in names)
                    yield node
        level = below


async def _all(works: Iterable[Coroutine[object, object, T]]) -> list[T]:
    """The results in order. If one raises, the others are cancelled, and over, before it goes on."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _visit(client: Verbs, path: str) -> tuple[Node, list[str]] | None:
    try:
        node = await client.get(path)
        return node, await client.children(path) if node.stat.num_children else []
    except NoNode:
        return None


async def delete_tree(client: Verbs, path: str, *, keep_root: bool, batch: int, is_all: bool) -> int | None:
    """How many znodes were deleted; None if the tree has grown faster than it could be deleted.

    `batch` of them go in one multi. `is_all`: the path is the root of everything, which stays, as /zookeeper does.
    """
    deleted = 0
    for _ in range(ROUNDS):
        paths = await _paths(client, path, "/zookeeper" if is_all else "")
        if (keep_root or is_all) and paths:
            del paths[0]
        if not paths:
            return deleted
        # The deepest first.
        paths.reverse()
        left = 0
        for at in range(0, len(paths), batch):
            some = paths[at : at + batch]
            gone = await _delete_some(client, some)
            deleted += gone
            left += len(some) - gone
        if not left:
            return deleted
    return None


async def _paths(client: Verbs, path: str, spares: str) -> list[str]:
    found: list[str] = []
    level = [path]
    while level:
        below: list[str] = []
        for at in range(0, len(level), LISTED_AT_A_TIME):
            some = level[at : at + LISTED_AT_A_TIME]
            listed = await _all(_names(client, one) for one in some)
            for parent, names in zip(some, listed, strict=True):
                if names is not None:
                    found.append(parent)
                    below += (below_it for name in names if (below_it := join_path(parent, name)) != spares)
        level = below
    return found


async def _names(client: Verbs, path: str) -> list[str] | None:
    try:
        return await client.children(path)
    except NoNode:
        return None


async def _delete_some(client: Verbs, paths: Sequence[str]) -> int:
    try:
        await client.multi(Delete(path) for path in paths)
    except (MultiError, ConnectionLoss):
        # Some have gone or got children meanwhile: one by one.
        gone = 0
        for path in paths:
            try:
                await client.delete(path, missing_ok=True)
                gone += 1
            except NotEmpty:
                continue
        return gone
    return len(paths)
