"""Looking at znodes: ls, tree, get, stat, exists, count, sync."""

from __future__ import annotations

import argparse
import base64
import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NoReturn

from coati.cli.exits import MISSING, NOT_AUTHORISED, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import Cell, printable
from coati.cli.znodes import Walk, missing, owner, preorder, stat_record, stats_of, when
from coati.client.client import BaseClient
from coati.client.types import Stat, join_path

DETAILS: Final = ("version", "children", "bytes", "owner", "mtime")
_HEX_ROW: Final = 16
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def path_flag(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    """The one path of a command; with a default it may be left out."""
    if default is None:
        parser.add_argument("path", metavar="PATH")
    else:
        parser.add_argument("path", metavar="PATH", nargs="?", default=default)


# --- ls and tree ----------------------------------------------------------------------------------


def _ls_flags(parser: argparse.ArgumentParser) -> None:
    path_flag(parser, default=".")
    parser.add_argument("-l", "--long", action="store_true", help=f"with {', '.join(DETAILS)}")
    parser.add_argument("-R", "--recursive", action="store_true", help="the paths of the whole tree")
    parser.add_argument("--limit", type=int, metavar="N", help="so many at most")
    parser.add_argument("--after", metavar="CHILD", help="only children whose names come after this one")


async def _ls(call: OnlineCall) -> int:
    options = call.options
    if options.recursive and options.after is not None:
        raise CommandError("--after goes through the children of one znode, and -R through all of them", USAGE)
    if options.limit is not None and options.limit < 1:
        raise CommandError("--limit is 1 or more", USAGE)
    async with call.connect() as zk:
        if options.recursive:
            return await _ls_tree(call, zk)
        path = call.path(options.path)
        names = await zk.children(path)
        first = 0 if options.after is None else bisect_right(names, options.after)
        names = names[first:][: options.limit]
        if not options.long:
            with call.out.table("name", header=False) as table:
                for name in names:
                    table.row(name)
            return 0
        with call.out.table("name", *DETAILS) as table:
            async for child, stat in stats_of(zk, [join_path(path, name) for name in names]):
                table.row(child.rpartition("/")[2], *_details(stat))
    return 0


async def _ls_tree(call: OnlineCall, zk: BaseClient) -> int:
    options = call.options
    walk = Walk(stats=options.long, is_lenient=True)
    with call.out.table("path", *(DETAILS if options.long else ()), header=options.long) as table:
        async for visit in preorder(zk, call.path(options.path), walk):
            table.row(visit.path, *(_details(visit.stat) if visit.stat is not None else ()))
            if table.count == options.limit:
                break
    return _left_out(call, walk)


def _details(stat: Stat) -> tuple[Cell, ...]:
    return stat.version, stat.num_children, stat.data_length, owner(stat), when(stat.mtime)


def _left_out(call: OnlineCall, walk: Walk) -> int:
    """Says which znodes could not be listed; the exit code."""
    for path in walk.refused:
        call.note(f"{path}: you may not list its children")
    return NOT_AUTHORISED if walk.refused else 0


LS = OnlineCommand(
    "ls", _ls_flags, _ls,
    "  coati ls /services\n  coati ls -l /services\n  coati ls -R / | grep config\n"
    "  coati ls --limit 100 --after job-0000000099 /queue",
)  # fmt: skip


def _tree_flags(parser: argparse.ArgumentParser) -> None:
    path_flag(parser, default=".")
    parser.add_argument("-L", "--levels", type=int, metavar="N", help="so many levels below the first znode")
    parser.add_argument("--sizes", action="store_true", help="with the bytes and the number of children of each")


async def _tree(call: OnlineCall) -> int:
    options = call.options
    if options.levels is not None and options.levels < 1:
        raise CommandError("-L is 1 or more", USAGE)
    walk = Walk(levels=options.levels, stats=options.sizes, is_lenient=True)
    columns = ("path", "bytes", "children") if options.sizes else ("path",)
    async with call.connect() as zk:
        visits = preorder(zk, call.path(options.path), walk)
        if call.out.is_structured:
            with call.out.table(*columns) as table:
                async for visit in visits:
                    table.row(visit.path, *_sizes(visit.stat))
            return _left_out(call, walk)
        async for visit in visits:
            stem = "".join("    " if is_last else "│   " for is_last in visit.lasts[:-1])
            knot = "" if not visit.lasts else "└── " if visit.lasts[-1] else "├── "
            name = printable(visit.name if visit.lasts else visit.path)
            sizes = "".join(f"  {number} {what}" for number, what in zip(_sizes(visit.stat), columns[1:], strict=False))
            call.out.text(f"{stem}{knot}{name}{sizes}")
    return _left_out(call, walk)


def _sizes(stat: Stat | None) -> tuple[int, ...]:
    return () if stat is None else (stat.data_length, stat.num_children)


TREE = OnlineCommand(
    "tree", _tree_flags, _tree, "  coati tree /services\n  coati tree -L 2 /\n  coati tree --sizes /conf"
)


# --- get ------------------------------------------------------------------------------------------


def _get_flags(parser: argparse.ArgumentParser) -> None:
    path_flag(parser)
    parser.add_argument("--stat", action="store_true", help="its Stat too, on stderr unless the form has names")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--hex", action="store_true", help="offsets, hexadecimal and text")
    forms.add_argument("--b64", action="store_true", help="in base64, on one line")
    forms.add_argument("--pretty", action="store_true", help="indented, if it is JSON")


async def _get(call: OnlineCall) -> None:
    options = call.options
    async with call.connect() as zk:
        node = await zk.get(call.path(options.path))
    more: dict[str, Cell] = {"path": node.path, **(stat_record(node.stat) if options.stat else {})}
    if call.out.is_structured and (options.hex or options.b64):
        shown = {"data_hex": node.data.hex()} if options.hex else {"data_base64": base64.b64encode(node.data).decode()}
        call.out.record({**more, **shown})
        return
    if options.hex:
        for line in hex_lines(node.data):
            call.out.text(line)
    elif options.b64:
        call.out.text(base64.b64encode(node.data).decode())
    else:
        call.out.data(pretty(node.data) if options.pretty else node.data, **more)
    if options.stat and not call.out.is_structured:
        call.out.flush()
        for name, value in stat_record(node.stat).items():
            print(f"{name:<8}  {printable(value)}".rstrip(), file=call.streams.stderr)


def hex_lines(data: bytes) -> Iterator[str]:
    """`00000000  68 65 ...  |he|`, sixteen bytes a line."""
    for at in range(0, len(data), _HEX_ROW):
        row = data[at : at + _HEX_ROW]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{at:08x}  {row.hex(' '):<{3 * _HEX_ROW - 1}}  |{text}|"


def pretty(data: bytes) -> bytes:
    """JSON on indented lines; what is none as it is. Numbers, names given twice and escapes stay as they were."""
    try:
        text = data.decode()
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return data
    parts: list[str] = []
    depth = 0
    before = ""
    for token in _TOKENS.findall(text):
        is_end = token in ("]", "}")
        depth -= is_end
        if before not in ("[", "{") if is_end else before in ("[", "{", ","):
            parts.append("\n" + "  " * depth)
        parts.append(f"{token} " if token == ":" else token)
        depth += token in ("[", "{")
        before = token
    return ("".join(parts) + "\n").encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


GET = OnlineCommand(
    "get", _get_flags, _get,
    "  coati get /conf/app\n  coati get --pretty /conf/app\n  coati get --stat /conf/app > app.json\n"
    "  coati -o json get /conf/app | jq .data",
)  # fmt: skip


# --- one fact about a znode -----------------------------------------------------------------------


async def _stat(call: OnlineCall) -> None:
    path = call.path(call.options.path)
    async with call.connect() as zk:
        stat = await zk.exists(path)
    if stat is None:
        raise missing(path)
    call.out.record({"path": path, **stat_record(stat)})


STAT = OnlineCommand("stat", path_flag, _stat, "  coati stat /conf/app\n  coati -o json stat /conf/app | jq .version")


def _exists_flags(parser: argparse.ArgumentParser) -> None:
    path_flag(parser)
    parser.add_argument("--stat", action="store_true", help="show its Stat if it is there")


async def _exists(call: OnlineCall) -> int:
    path = call.path(call.options.path)
    async with call.connect() as zk:
        stat = await zk.exists(path)
    if stat is not None and call.options.stat:
        call.out.record({"path": path, **stat_record(stat)})
    return MISSING if stat is None else 0


EXISTS = OnlineCommand(
    "exists", _exists_flags, _exists, "  coati exists /locks/job || echo free    # 4: it is not there"
)


async def _count(call: OnlineCall) -> None:
    path = call.path(call.options.path)
    async with call.connect() as zk:
        count = await zk.count(path)
    if call.out.is_structured:
        call.out.record({"path": path, "count": count})
    else:
        call.out.text(str(count))


COUNT = OnlineCommand("count", path_flag, _count, "  coati count /    # how many znodes are below it, at any depth")


def _sync_flags(parser: argparse.ArgumentParser) -> None:
    path_flag(parser, default="/")


async def _sync(call: OnlineCall) -> None:
    path = call.path(call.options.path)
    async with call.connect() as zk:
        zxid = await zk.sync(path)
    if call.out.is_structured:
        call.out.record({"path": path, "zxid": f"{zxid:#x}"})
    else:
        call.out.text(f"{zxid:#x}")


SYNC = OnlineCommand("sync", _sync_flags, _sync, "  coati sync    # the server has seen all that was written before")
