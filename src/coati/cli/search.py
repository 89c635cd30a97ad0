"""Looking for znodes: find, grep, du."""

from __future__ import annotations

import argparse
import fnmatch
import heapq
import re
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Final

from coati.cli.arguments import duration, session_id, size
from coati.cli.command import Call
from coati.cli.exits import CHECK_FAILED, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import Cell
from coati.cli.walking import Walk, Znode, walked
from coati.cli.znodes import owner, when
from coati.recipes.wallclock import wall_clock

_WILD: Final = re.compile(r"[*?\[]")
_PATTERN_HELP: Final = "a name with * ? [a-z], or with a slash in it a path"

Test = Callable[[Znode], bool]


def _find_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="[PATH] GLOB", help=f"where, and what: {_PATTERN_HELP}")
    parser.add_argument("--regex", metavar="R", help="paths in which this is found, instead of a GLOB")
    parser.add_argument("--owner", type=session_id, metavar="0x..", help="ephemerals of this session")
    parser.add_argument("--ephemeral", action="store_true", help="ephemerals of any session")
    parser.add_argument("--older", type=duration, metavar="S", help="data not set for so long: seconds, or 5m, 2h, 7d")
    parser.add_argument("--newer", type=duration, metavar="S", help="data set since then")
    parser.add_argument("--bigger", type=size, metavar="BYTES", help="more data than this: bytes, or 10k, 1M")
    parser.add_argument("--children", type=int, metavar="N", help="so many children or more")
    parser.add_argument(
        "-l", "--long", action="store_true", help="with bytes, children, version, time and the session of an ephemeral"
    )


async def _find(call: OnlineCall) -> int | None:
    root, tests = _question(call)
    columns = ("path", "bytes", "children", "version", "modified", "owner") if call.options.long else ("path",)
    async with call.connect() as zk:
        walk = Walk(zk, root, data=False)
        with call.out.table(*columns) as table:
            async with aclosing(walked(call, walk)) as batches:
                async for batch in batches:
                    for znode in batch:
                        if all(test(znode) for test in tests):
                            table.row(*(_long(znode) if call.options.long else znode[:1]))
    return walk.end(call)


def _long(znode: Znode) -> tuple[Cell, ...]:
    stat = znode.stat
    return znode.path, stat.data_length, stat.num_children, stat.version, when(stat.mtime), owner(stat)


def _question(call: Call) -> tuple[str, list[Test]]:
    """Where to look, and what for. Raises CommandError."""
    options = call.options
    words: list[str] = options.words
    if len(words) > 2 or (len(words) == 2 and options.regex is not None):
        raise CommandError("one PATH and one GLOB or --regex, please; a GLOB may need quotes", USAGE)
    glob = None
    if len(words) == 2 or (words and options.regex is None and (_WILD.search(words[0]) or words[0][0] not in "/.")):
        glob = words[-1]
        words = words[:-1]
    root = call.path(words[0] if words else "")
    tests: list[Test] = []
    if glob is not None and "/" not in glob:
        name_fits = re.compile(fnmatch.translate(glob)).match
        tests.append(lambda znode: name_fits(znode.path.rpartition("/")[2]) is not None)
    elif glob is not None:
        whole = glob if glob.startswith("/") else f"{root.rstrip('/')}/{glob}"
        path_fits = re.compile(fnmatch.translate(whole)).match
        tests.append(lambda znode: path_fits(znode.path) is not None)
        if not words:
            # All that fits is below what has no wildcard.
            root = call.path(_WILD.split(whole, maxsplit=1)[0].rpartition("/")[0] or "/")
    if options.regex is not None:
        in_path = _compiled(options.regex).search
        tests.append(lambda znode: in_path(znode.path) is not None)
    return root, tests + list(_stat_tests(options))


def _stat_tests(options: argparse.Namespace) -> Iterator[Test]:
    now_ms = wall_clock() * 1000
    if options.owner is not None:
        yield lambda znode: znode.stat.ephemeral_owner == options.owner
    if options.ephemeral:
        yield lambda znode: znode.stat.ephemeral_owner != 0
    if options.older is not None:
        yield lambda znode: znode.stat.mtime < now_ms - options.older * 1000
    if options.newer is not None:
        yield lambda znode: znode.stat.mtime >= now_ms - options.newer * 1000
    if options.bigger is not None:
        yield lambda znode: znode.stat.data_length > options.bigger
    if options.children is not None:
        yield lambda znode: znode.stat.num_children >= options.children


def _compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise CommandError(f"{pattern!r} is no regular expression: {error}", USAGE) from None


FIND = OnlineCommand(
    "find", _find_flags, _find,
    "  coati find /conf '*.json'\n  coati find '/app/*/lock-*' --older 1h\n  coati find --regex 'lease-[0-9]+$' -l\n"
    "  coati find / --ephemeral --owner 0x10000a2b3c4d0000\n  coati find --bigger 100k -l",
)  # fmt: skip


def _grep_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", help="a regular expression")
    parser.add_argument("path", nargs="?", default="", help="where; default /")
    parser.add_argument("-i", "--ignore-case", action="store_true", help="capitals or not")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("-l", "--paths", action="store_true", help="the paths only")
    forms.add_argument("-c", "--count", action="store_true", help="the paths, and how many lines of each")


async def _grep(call: OnlineCall) -> int | None:
    options = call.options
    pattern = _compiled(options.pattern, re.IGNORECASE if options.ignore_case else 0)
    columns = ("path",) if options.paths else ("path", "lines") if options.count else ("path", "line", "text")
    async with call.connect() as zk:
        walk = Walk(zk, call.path(options.path))
        with call.out.table(*columns) as table:
            async with aclosing(walked(call, walk)) as batches:
                async for batch in batches:
                    for znode in batch:
                        lines = _lines(znode.data, pattern)
                        if options.count and lines:
                            table.row(znode.path, len(lines))
                        elif options.paths and lines:
                            table.row(znode.path)
                        elif not options.count and not options.paths:
                            for number, line in lines:
                                table.row(znode.path, number, line)
    if not table.count:
        call.note("nothing found")
    return walk.end(call) or (None if table.count else CHECK_FAILED)


def _lines(data: bytes, pattern: re.Pattern[str]) -> list[tuple[int, str]]:
    """The lines in which it is found, with their numbers; what is no text is one line that says so."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return [(1, "(binary data)")] if pattern.search(data.decode("utf-8", "surrogateescape")) else []
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if pattern.search(line)]


GREP = OnlineCommand(
    "grep", _grep_flags, _grep,
    "  coati grep 'db[0-9]+' /conf\n  coati grep -l -i error /jobs\n  coati -o json grep timeout | jq .[].path",
)  # fmt: skip


def _du_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", default="", help="where; default /")
    parser.add_argument("-d", "--depth", type=int, metavar="N", help="subtrees down to this level; 1")
    parser.add_argument("--top", type=int, metavar="N", help="the N largest subtrees of all levels, or down to -d")


class _Sums:
    """Adds up subtrees: each is whole when a path comes that is not below it."""

    def __init__(self, root: str) -> None:
        self._root_level = _level(root)
        # Of each znode on the way: path, what a path below it begins with, bytes, znodes.
        self._open: list[tuple[str, str, list[int]]] = []

    def add(self, znode: Znode) -> Iterator[tuple[int, str, int, int]]:
        """One more; yields the subtrees that are whole: level below the root, path, bytes, znodes."""
        yield from self.close(znode.path)
        self._open.append((znode.path, f"{znode.path.rstrip('/')}/", [znode.stat.data_length, 1]))

    def close(self, path: str) -> Iterator[tuple[int, str, int, int]]:
        """As `add`, before this path comes; all of them for an empty one."""
        while self._open and not path.startswith(self._open[-1][1]):
            whole, _, (total, count) = self._open.pop()
            if self._open:
                above = self._open[-1][2]
                above[0] += total
                above[1] += count
            yield _level(whole) - self._root_level, whole, total, count


def _level(path: str) -> int:
    return path.rstrip("/").count("/")


async def _du(call: OnlineCall) -> int | None:
    options = call.options
    depth: int | None = 1 if options.depth is None and options.top is None else options.depth
    root = call.path(options.path)
    sums = _Sums(root)
    largest: list[tuple[int, str, int]] = []

    async with call.connect() as zk:
        walk = Walk(zk, root, data=False)
        with call.out.table("bytes", "znodes", "path") as table:

            def tell(subtrees: Iterator[tuple[int, str, int, int]]) -> None:
                for level, path, total, count in subtrees:
                    if depth is not None and level > depth:
                        continue
                    if options.top is None:
                        table.row(total, count, path)
                    elif len(largest) < options.top:
                        heapq.heappush(largest, (total, path, count))
                    elif options.top:
                        heapq.heappushpop(largest, (total, path, count))

            async with aclosing(walked(call, walk)) as batches:
                async for batch in batches:
                    for znode in batch:
                        tell(sums.add(znode))
            tell(sums.close(""))
            for total, path, count in sorted(largest, reverse=True):
                table.row(total, count, path)
    return walk.end(call)


DU = OnlineCommand("du", _du_flags, _du, "  coati du /\n  coati du -d 2 /app\n  coati du --top 10")
