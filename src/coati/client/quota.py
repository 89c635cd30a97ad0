"""QuotaView: limits on how many znodes and bytes a subtree may have, as znodes below /zookeeper/quota.

Knows their paths and text, as upstream's tools write them (Quotas, StatsTrack, SetQuotaCommand, DelQuotaCommand), so
that each understands the other. Must not know how servers count.
Hard limits refuse writes where the servers' `enforceQuota` is on, else all limits only warn in their logs.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from coati.client.ops import Create, Delete, MultiError, Op, OpResult
from coati.client.types import ANY, Node, Stat, join_path, parent_path, parents_of
from coati.errors import BadArguments, BadVersion, NoNode, NotEmpty

ROOT: Final = "/zookeeper/quota"
LIMITS: Final = "zookeeper_limits"
STATS: Final = "zookeeper_stats"
# How often a change begins again because somebody else was faster.
ROUNDS: Final = 10

_UNSET: Final = -1
_PAIRS: Final = re.compile("[,;]+")
_NUMBER: Final = re.compile("[+-]?[0-9]+")
_COUNT: Final = "count"
_BYTES: Final = "bytes"
_HARD_COUNT: Final = "countHardLimit"
_HARD_BYTES: Final = "byteHardLimit"


@dataclass(frozen=True, slots=True)
class Quota:
    """What the subtree at `path` may have, itself included; None is no limit. Those called hard refuse, others warn."""

    path: str
    count: int | None = None
    bytes: int | None = None
    hard_count: int | None = None
    hard_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How many znodes the subtree has, itself included, and how many bytes of data, as the server asked counts."""

    path: str
    count: int
    bytes: int


class Verbs(Protocol):
    """What is needed of a client that sees the whole tree."""

    async def get(self, path: str) -> Node: ...

    async def exists(self, path: str) -> Stat | None: ...

    async def ensure(self, path: str) -> bool: ...

    async def set(self, path: str, data: bytes, *, version: int = ANY) -> Stat: ...

    async def delete(self, path: str, *, version: int = ANY, missing_ok: bool = False) -> None: ...

    async def multi(self, ops: Iterable[Op]) -> list[OpResult]: ...

    def walk(self, path: str = "/") -> AsyncIterator[Node]: ...

    def bounded(self, verb: str, path: str) -> Self: ...


class QuotaView:
    """`zk.quota`: in a view with a chroot, the paths are those of the view."""

    def __init__(self, client: Verbs, chroot: str) -> None:
        self._client = client
        self._chroot = chroot

    async def get(self, path: str) -> Quota | None:
        """The limits of a subtree; None if it has no quota of its own."""
        try:
            node = await self._client.get(f"{self._where(path)}/{LIMITS}")
        except NoNode:
            return None
        return _quota(path, parse(node.data))

    async def set(self, path: str, *, count: int | None = None, bytes: int | None = None, hard: bool = False) -> Quota:
        """Sets one limit or both, soft or hard ones; the others stay. The limits that are valid now.

        Raises NoNode, ValueError for a `count` below 1 or `bytes` below 0, BadArguments where a subtree above or below
        has a quota: they do not nest.
        """
        if (count is None and bytes is None) or (count is not None and count < 1) or (bytes is not None and bytes < 0):
            raise ValueError("a quota limits `count` to 1 or more, `bytes` to 0 or more, or both")
        wanted = {} if count is None else {_HARD_COUNT if hard else _COUNT: count}
        if bytes is not None:
            wanted[_HARD_BYTES if hard else _BYTES] = bytes
        return await self._bounded("quota.set", path)._set(path, wanted)

    async def _set(self, path: str, wanted: dict[str, int]) -> Quota:
        where = self._where(path)
        full = self._chroot + path if path != "/" else self._chroot
        if await self._client.exists(full) is None:
            raise NoNode(path)
        await self._refuse_nesting(path, full)
        for _ in range(ROUNDS):
            changed = await self._change(where, wanted)
            if changed is None:
                changed = await self._make(where, wanted)
            if changed is not None:
                return _quota(path, changed)
        raise BadVersion(path)

    async def unset(self, path: str, *, count: bool = False, bytes: bool = False, hard: bool = False) -> Quota:
        """Lifts one limit or both, soft or hard ones. The limits that are left. Raises NoNode if there is no quota."""
        wanted = {_HARD_COUNT if hard else _COUNT: _UNSET} if count else {}
        if bytes:
            wanted[_HARD_BYTES if hard else _BYTES] = _UNSET
        return await self._bounded("quota.unset", path)._unset(path, wanted)

    async def _unset(self, path: str, wanted: dict[str, int]) -> Quota:
        where = self._where(path)
        for _ in range(ROUNDS):
            changed = await self._change(where, wanted)
            if changed is None:
                if await self.get(path) is None:
                    raise NoNode(path)
                continue
            return _quota(path, changed)
        raise BadVersion(path)

    async def remove(self, path: str) -> bool:
        """Lifts all limits of a subtree; whether there were any."""
        return await self._bounded("quota.remove", path)._remove(path)

    async def _remove(self, path: str) -> bool:
        where = self._where(path)
        try:
            await self._client.multi([Delete(f"{where}/{LIMITS}"), Delete(f"{where}/{STATS}")])
        except MultiError as error:
            if not isinstance(error.results[error.index], NoNode):
                raise
            # Half of it, left by a tool that was interrupted, goes too.
            await self._client.delete(f"{where}/{STATS}", missing_ok=True)
            if await self.get(path) is None:
                return False
            await self._client.delete(f"{where}/{LIMITS}", missing_ok=True)
        while where != ROOT:
            try:
                await self._client.delete(where, missing_ok=True)
            except NotEmpty:
                break
            where = parent_path(where)
        return True

    async def usage(self, path: str) -> Usage:
        """What a subtree with a quota has now. Raises NoNode if it has none."""
        values = parse((await self._client.get(f"{self._where(path)}/{STATS}")).data)
        return Usage(path, values.get(_COUNT, _UNSET), values.get(_BYTES, _UNSET))

    async def list(self) -> list[Quota]:
        """All of them, sorted by path; in a view with a chroot, those below it."""
        top = ROOT + self._chroot
        found = [
            _quota(parent_path(node.path)[len(top) :] or "/", parse(node.data))
            async for node in self._client.bounded("quota.list", "/").walk(top)
            if node.name == LIMITS
        ]
        return sorted(found, key=lambda quota: quota.path)

    def _bounded(self, verb: str, path: str) -> QuotaView:
        return QuotaView(self._client.bounded(verb, path), self._chroot)

    def _where(self, path: str) -> str:
        full = self._chroot + path if path != "/" else self._chroot
        if full in ("", "/") or full == ROOT or full.startswith(ROOT + "/"):
            error = BadArguments(path)
            error.hint = f"neither the root nor {ROOT} can have a quota"
            raise error
        return ROOT + full

    async def _refuse_nesting(self, path: str, full: str) -> None:
        for above in parents_of(full):
            if await self._client.exists(f"{ROOT}{above}/{LIMITS}") is not None:
                raise _nested(path, above)
        own = f"{ROOT}{full}/{LIMITS}"
        async for node in self._client.walk(ROOT + full):
            if node.name == LIMITS and node.path != own:
                raise _nested(path, parent_path(node.path)[len(ROOT) :])

    async def _change(self, where: str, wanted: dict[str, int]) -> dict[str, int] | None:
        """The limits after it; None if there are none, or somebody else was faster."""
        try:
            node = await self._client.get(join_path(where, LIMITS))
            values = parse(node.data) | wanted
            await self._client.set(node.path, text(values), version=node.version)
        except (NoNode, BadVersion):
            return None
        return values

    async def _make(self, where: str, wanted: dict[str, int]) -> dict[str, int] | None:
        values = {_COUNT: _UNSET, _BYTES: _UNSET, _HARD_COUNT: _UNSET, _HARD_BYTES: _UNSET} | wanted
        await self._client.ensure(where)
        # The servers begin to count when they see the second one.
        pair = [Create(f"{where}/{LIMITS}", text(values)), Create(f"{where}/{STATS}", text({_COUNT: 0, _BYTES: 0}))]
        try:
            await self._client.multi(pair)
        except MultiError:
            if await self._client.exists(pair[0].path) is None:
                # Half of it, left by a tool that was interrupted, is in the way; or all of it went just now.
                await self._client.delete(pair[1].path, missing_ok=True)
            return None
        return values


def parse(data: bytes) -> dict[str, int]:
    """The numbers of limits or statistics (StatsTrack); what is no number is left out."""
    values: dict[str, int] = {}
    for pair in _PAIRS.split(data.decode("utf-8", "replace")):
        parts = pair.split("=")
        if len(parts) > 1 and _NUMBER.fullmatch(parts[1]) is not None:
            values[parts[0]] = int(parts[1])
    return values


def text(values: dict[str, int]) -> bytes:
    """`count=4,bytes=5`, and for hard limits `=;byteHardLimit=..;countHardLimit=..` (StatsTrack.toString).

    In this order, and with the odd `=`, it can be read by all versions since 3.4.
    """
    told = f"{_COUNT}={values.get(_COUNT, _UNSET)},{_BYTES}={values.get(_BYTES, _UNSET)}"
    others = sorted(key for key in values if key not in (_COUNT, _BYTES))
    if others:
        told += "=" + "".join(f";{key}={values[key]}" for key in others)
    return told.encode()


def _quota(path: str, values: dict[str, int]) -> Quota:
    count, size, hard_count, hard_size = (
        None if (value := values.get(key, _UNSET)) < 0 else value for key in (_COUNT, _BYTES, _HARD_COUNT, _HARD_BYTES)
    )
    return Quota(path, count, size, hard_count, hard_size)


def _nested(path: str, other: str) -> BadArguments:
    error = BadArguments(path)
    error.hint = f"{other} has a quota, and quotas do not nest"
    return error
