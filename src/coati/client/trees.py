"""What is done by several requests: to a znode and all below it, most of them at a time, or until nobody interferes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from coati.client.ops import Delete, MultiError, Op, OpResult
from coati.client.types import ANY, ACLs, Node, Stat, join_path, parents_of
from coati.errors import BadVersion, ConnectionLoss, NodeExists, NoNode, NotEmpty, ZKError

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


class Ensures(Protocol):
    """What is needed of a client to make the parents of a znode."""

    async def ensure(self, path: str, data: bytes = b"", *, acl: ACLs | None = None) -> bool: ...


async def make_parents(client: Ensures, path: str, acl: ACLs | None) -> None:
    """All of them that are not there, from the top. `client` and `path` are free of a chroot.

    Those of the view's root are among them: whoever asks for parents does not care where the view begins.
    """
    for parent in parents_of(path.rstrip("/")):
        await client.ensure(parent, acl=acl)


class Looks(Protocol):
    """What is needed of a client to look for a znode."""

    async def exists(self, path: str) -> Stat | None: ...


async def find_own(
    client: Looks, path: str, *, is_own: Callable[[Stat], bool], make: Callable[[], Awaitable[Node]]
) -> Node | None:
    """After a create of an ephemeral whose answer was lost: ours, or made again; None if it is somebody else's.

    Nobody else can own one in our session's name. That it is not there proves nothing: what was sent over the lost
    connection may arrive later. The data are not read.
    """
    try:
        for _ in range(ROUNDS):
            stat = await client.exists(path)
            if stat is not None:
                return Node(path, b"", stat) if is_own(stat) else None
            try:
                return await make()
            except NodeExists:
                continue
            except ConnectionLoss as loss:
                if not loss.maybe_applied:
                    raise
    except ZKError as error:
        # Whatever went wrong with looking, the first one may be there.
        error.maybe_applied = True
        raise
    return None


async def may_be_ours(client: Writes, path: str, data: bytes, version: int) -> bool:
    """After a `set` of a version that was sent twice and refused: whether the first one may have changed it.

    Only other data at the next version prove that it was not. The same data prove nothing: others may have written
    them.
    """
    try:
        node = await client.get(path)
    except ZKError:
        return True
    return node.version != version + 1 or node.data == data


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
    gone: list[str] = []
    try:
        for _ in range(ROUNDS):
            paths = await _paths(client, path, "/zookeeper" if is_all else "")
            if (keep_root or is_all) and paths:
                del paths[0]
            if not paths:
                return len(gone)
            # The deepest first.
            paths.reverse()
            before = len(gone)
            for at in range(0, len(paths), batch):
                await _delete_some(client, paths[at : at + batch], gone)
            if len(gone) == before + len(paths):
                return len(gone)
    except ZKError as error:
        error.maybe_applied = error.maybe_applied or bool(gone)
        raise
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


async def _delete_some(client: Verbs, paths: Sequence[str], gone: list[str]) -> None:
    try:
        await client.multi(Delete(path) for path in paths)
    except (MultiError, ConnectionLoss):
        # Some have gone or got children meanwhile: one by one.
        for path in paths:
            try:
                await client.delete(path, missing_ok=True)
                gone.append(path)
            except NotEmpty:
                continue
    else:
        gone += paths
