"""What the commands about znodes share: walking a tree, showing a Stat, and errors with a way out.

Knows the client's verbs; must not know flags.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from coati.cli.output import Cell
from coati.client.client import BaseClient
from coati.client.types import Stat, join_path
from coati.errors import NoAuth, NoNode, ZKError

ASKED_AT_A_TIME: Final = 64
SERVERS_OWN: Final = "/zookeeper"
_UNSIGNED: Final = (1 << 64) - 1
# Servers take requests of 1 MiB unless they are told otherwise.
LARGE_BYTES: Final = 1_000_000


@dataclass(slots=True)
class Visit:
    """A znode on a walk. `lasts`: for each step down to it, whether it was the last of its siblings.

    `stat` only where it was asked for; `names` of its children, None while nobody has looked.
    """

    path: str
    lasts: tuple[bool, ...] = ()
    stat: Stat | None = None
    names: list[str] | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(slots=True)
class Walk:
    """How to go through a tree: so many `levels` below its root (None: all), with `stats`, without what `spares` says.

    A znode that may not be listed ends the walk, or with `is_lenient` is noted in `refused`.
    """

    levels: int | None = None
    stats: bool = False
    spares: str = ""
    is_lenient: bool = False
    refused: list[str] = field(default_factory=list)


async def preorder(zk: BaseClient, path: str, walk: Walk) -> AsyncIterator[Visit]:
    """The znode and all below it, parents before their children, siblings by name. What goes meanwhile is left out.

    The next so many are asked for at a time, whatever their level. Raises NoNode if the first one is missing, NoAuth.
    """
    waiting = [Visit(path)]
    while waiting:
        if waiting[-1].names is None:
            next_ones = [visit for visit in waiting[-ASKED_AT_A_TIME:] if visit.names is None]
            gone = await asyncio.gather(*(_look(zk, visit, walk) for visit in next_ones))
            lost = {id(visit) for visit, is_gone in zip(next_ones, gone, strict=True) if is_gone}
            if lost:
                if not waiting[-1].lasts and id(waiting[-1]) in lost:
                    raise missing(path)
                waiting = [visit for visit in waiting if id(visit) not in lost]
                continue
        visit = waiting.pop()
        yield visit
        names = [name for name in visit.names or () if join_path(visit.path, name) != walk.spares]
        for name in reversed(names):
            waiting.append(Visit(join_path(visit.path, name), (*visit.lasts, name == names[-1])))


async def _look(zk: BaseClient, visit: Visit, walk: Walk) -> bool:
    """Fills in what is missing of a visit; whether the znode has gone."""
    is_deeper = walk.levels is None or len(visit.lasts) < walk.levels
    if walk.stats:
        visit.stat = await zk.exists(visit.path)
        if visit.stat is None:
            return True
        is_deeper = is_deeper and visit.stat.num_children > 0
    try:
        visit.names = await zk.children(visit.path) if is_deeper else []
    except NoNode:
        return True
    except NoAuth:
        if not walk.is_lenient:
            raise
        walk.refused.append(visit.path)
        visit.names = []
    return False


def missing(path: str) -> NoNode:
    """What is said of a znode that was looked for."""
    error = NoNode(path)
    error.hint = "it is not there"
    return error


async def stats_of(zk: BaseClient, paths: list[str]) -> AsyncIterator[tuple[str, Stat]]:
    """The Stat of each that is there, in order, many at a time."""
    for at in range(0, len(paths), ASKED_AT_A_TIME):
        some = paths[at : at + ASKED_AT_A_TIME]
        for path, stat in zip(some, await asyncio.gather(*map(zk.exists, some)), strict=True):
            if stat is not None:
                yield path, stat


@contextmanager
def hint(kind: type[ZKError], text: str) -> Iterator[None]:
    """Errors of this kind say what to do about them, if there is a text."""
    try:
        yield
    except kind as error:
        error.hint = text or error.hint
        raise


def too_large(data: bytes) -> str:
    """Why a connection may have been lost: servers say nothing to a request that is too large, and hang up."""
    return f"{len(data)} bytes may be more than the servers take: jute.maxbuffer" if len(data) > LARGE_BYTES else ""


def when(milliseconds: int) -> str:
    """A server's time in ISO 8601; the number where it is none of this world."""
    try:
        moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return str(milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def owner(stat: Stat) -> str | None:
    """The session that an ephemeral belongs to. Text, as JSON's readers have no integers of 64 bits.

    Unsigned: ids that servers from 128 on give are negative as numbers.
    """
    return f"{stat.ephemeral_owner & _UNSIGNED:#x}" if stat.ephemeral_owner else None


def stat_record(stat: Stat) -> dict[str, Cell]:
    """All of a Stat for people and programs; zxids in hexadecimal, as upstream's tools show them."""
    return {
        "version": stat.version,
        "cversion": stat.cversion,
        "aversion": stat.aversion,
        "bytes": stat.data_length,
        "children": stat.num_children,
        "owner": owner(stat),
        "ctime": when(stat.ctime),
        "mtime": when(stat.mtime),
        "czxid": f"{stat.czxid:#x}",
        "mzxid": f"{stat.mzxid:#x}",
        "pzxid": f"{stat.pzxid:#x}",
    }
