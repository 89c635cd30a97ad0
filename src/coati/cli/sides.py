"""Where bulk commands read and write: a subtree of a server, of another server, or a file of `export`.

Knows how each is named and read in the order of its paths; must not know what is done with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Final

from coati.cli import dump
from coati.cli.command import Call
from coati.cli.dump import Entry
from coati.cli.exits import CONFLICT, USAGE, CommandError
from coati.cli.online import OnlineCall
from coati.cli.walking import Walk, Znode, walked
from coati.errors import NoNode
from coati.recipes.client import Client

LINES: Final = 500
HELP: Final = "a path, zk://HOSTS/PATH of another server, or a file of `coati export`: NAME.jsonl, file://NAME"

Batches = AsyncGenerator[list[Entry], None]


@dataclass(frozen=True, slots=True)
class Side:
    """One end: `file`, or a path on the server of -s or of `hosts`."""

    text: str
    path: str = "/"
    hosts: str | None = None
    file: str | None = None

    def below(self, path: str) -> str:
        """The whole path of a relative one."""
        if path == "/":
            return self.path
        return path if self.path == "/" else self.path + path

    def overlaps(self, other: Side) -> bool:
        """One is in the other, as far as names tell."""
        if self.file is not None or other.file is not None or self.hosts != other.hosts:
            return False
        mine, its = f"{self.path.rstrip('/')}/", f"{other.path.rstrip('/')}/"
        return mine.startswith(its) or its.startswith(mine)


def side(call: Call, text: str) -> Side:
    """What a word of the command line names. Raises CommandError."""
    if text.startswith("zk://"):
        hosts, _, path = text.removeprefix("zk://").partition("/")
        if not hosts:
            raise CommandError(f"{text} names no server", USAGE)
        return Side(text, call.path(f"/{path}"), hosts=hosts)
    if text.startswith("file://"):
        return Side(text, file=text.removeprefix("file://"))
    if text == "-" or (text.endswith(".jsonl") and not text.startswith("/")):
        return Side(text, file=text)
    return Side(text, call.path(text))


def server_side(call: Call, text: str) -> Side:
    """As `side`, where a file will not do."""
    found = side(call, text)
    if found.file is not None:
        raise CommandError(f"{text} is a file; a znode is wanted here", USAGE)
    return found


class Source:
    """All znodes of one side, as often as they are asked for. What was left out is counted."""

    def __init__(
        self, call: Call, place: Side, zk: Client | None, file: IO[bytes] | None, *, acl: bool, ephemeral: bool
    ) -> None:
        self._call = call
        self.place = place
        self._zk = zk
        self._file = file
        self._has_acl = acl
        self._has_ephemerals = ephemeral
        self.ephemerals = 0
        self.walk: Walk | None = None

    @property
    def client(self) -> Client:
        """Of a side that is on a server."""
        assert self._zk is not None
        return self._zk

    @property
    def zxid(self) -> int:
        """The newest transaction that was heard of."""
        return self.client.session.last_zxid

    async def first(self) -> Batches:
        """The znode at the path alone, be it an ephemeral or not. Raises NoNode."""
        if self._zk is None:
            async for batch in self.entries():
                yield batch[:1]
                return
        node = await self.client.get(self.place.path)
        acl = (await self.client.get_acl(self.place.path)).acl if self._has_acl else None
        yield [_entry(Znode(node.path, node.data, node.stat, acl), len(self.place.path.rstrip("/")))]

    async def entries(self, *, missing_ok: bool = False) -> Batches:
        """In the order of their paths. Raises NoNode, CommandError."""
        self.ephemerals = 0
        batches = self._of_file(self._file) if self._zk is None else self._of_server(self._zk)
        try:
            async for batch in batches:
                kept = batch if self._has_ephemerals else [entry for entry in batch if not entry.owner]
                self.ephemerals += len(batch) - len(kept)
                yield kept
        except NoNode:
            if not missing_ok:
                raise
        finally:
            await batches.aclose()

    async def _of_file(self, file: IO[bytes] | None) -> Batches:
        assert file is not None
        file.seek(0)
        entries = dump.read(file, self.place.text, acl=self._has_acl)
        while batch := list(islice(entries, LINES)):
            yield batch

    async def _of_server(self, zk: Client) -> Batches:
        self.walk = Walk(zk.joining(), self.place.path, acl=self._has_acl, spares=True)
        cut = len(self.place.path.rstrip("/"))
        batches = walked(self._call, self.walk)
        try:
            async for batch in batches:
                yield [_entry(znode, cut) for znode in batch]
        finally:
            await batches.aclose()

    def end(self) -> int | None:
        """Says what was left out; the exit code of that."""
        if self.ephemerals:
            self._call.note(f"ephemerals of {self.place.text}, left out: {self.ephemerals}")
        return self.walk.end(self._call) if self.walk is not None else None


def _entry(znode: Znode, cut: int) -> Entry:
    stat = znode.stat
    return Entry(znode.path[cut:] or "/", znode.data, znode.acl, stat.ephemeral_owner, stat.version, stat.mtime)


@asynccontextmanager
async def source(call: OnlineCall, place: Side, *, acl: bool, ephemeral: bool = False) -> AsyncIterator[Source]:
    """Opens a side for reading. Raises CommandError."""
    if place.file is None:
        async with call.connect(place.hosts) as zk:
            yield Source(call, place, zk, None, acl=acl, ephemeral=ephemeral)
        return
    with _opened(call, place.file) as file:
        yield Source(call, place, None, file, acl=acl, ephemeral=ephemeral)


def _opened(call: Call, name: str) -> IO[bytes]:
    if name == "-":
        # It is read twice: first to see whether it is whole.
        spool = tempfile.TemporaryFile()  # noqa: SIM115  # whoever opens a side closes it
        shutil.copyfileobj(call.streams.stdin, spool)
        return spool
    try:
        return open(name, "rb")
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}", USAGE) from None


@contextmanager
def new_file(name: str) -> Iterator[IO[bytes]]:
    """A file that is there with all that is written to it, or not at all. Raises CommandError."""
    partial = f"{name}.partial"
    if os.path.lexists(name):
        raise CommandError(f"{name} is there already", CONFLICT)
    try:
        file = open(partial, "xb")  # noqa: SIM115  # errors of opening are not those of the block
    except FileExistsError:
        raise CommandError(f"{partial} is there already", CONFLICT) from None
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror}", USAGE) from None
    try:
        with file:
            yield file
        os.rename(partial, name)
    except BaseException:
        os.unlink(partial)
        raise
