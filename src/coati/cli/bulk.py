"""Many znodes at once: cp, mv, mirror, diff, export, import."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext
from typing import Final, Self

from coati.cli import dump, sides
from coati.cli.command import Call
from coati.cli.copying import Change, Writer, compare, delete_all, make_parents
from coati.cli.dump import Entry
from coati.cli.exits import CHECK_FAILED, CONFLICT, DONE, NOT_AUTHORISED, REFUSED, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import Output
from coati.cli.sides import Batches, Side, Source, server_side, side
from coati.cli.walking import Meter
from coati.client.ops import MultiError
from coati.recipes.client import Client

# A preview names so many changes, and counts the others.
PREVIEWED: Final = 15


# --- export ---------------------------------------------------------------------------------------


def _export_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", default="", help="what; default /")
    parser.add_argument("--ephemeral", action="store_true", help="ephemerals, too")
    parser.add_argument("--no-acl", action="store_true", help="without ACLs, which cost a request each")


async def _export(call: OnlineCall) -> int | None:
    options = call.options
    place = server_side(call, options.path)
    async with sides.source(call, place, acl=not options.no_acl, ephemeral=options.ephemeral) as source:
        return await _write_out(call, source, place.path, call.out.write)


async def _write_out(call: Call, source: Source, path: str, write: Callable[[bytes], object]) -> int | None:
    count = hidden = 0
    async with aclosing(source.entries()) as batches:
        async for batch in batches:
            if not count:
                write(dump.header(path, source.zxid))
            write(b"".join(map(dump.line, batch)))
            count += len(batch)
            hidden += sum(1 for entry in batch if entry.acl is not None and dump.hides(entry.acl))
    if count:
        write(dump.end(count))
    if hidden:
        call.note(f"ACLs that hide hashes, as we have no ADMIN permission: {hidden}; import this with --no-acl")
    return source.end()


EXPORT = OnlineCommand(
    "export", _export_flags, _export,
    "  coati export / > all.jsonl\n  coati export /conf --no-acl | gzip > conf.jsonl.gz",
)  # fmt: skip


# --- import and mirror ----------------------------------------------------------------------------


def _import_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="of `coati export`, or - for stdin")
    parser.add_argument("path", help="where to")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--merge", action="store_true", help="set what is there already")
    modes.add_argument("--replace", action="store_true", help="and delete what the file has not")
    parser.add_argument("--no-acl", action="store_true", help="leave the ACLs of the file away")
    _writing_flags(parser)


def _writing_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


async def _import(call: OnlineCall) -> int | None:
    options = call.options
    wanted = Side(options.file, file=options.file.removeprefix("file://"))
    place = server_side(call, options.path)
    async with (
        sides.source(call, wanted, acl=not options.no_acl) as source,
        sides.source(call, place, acl=not options.no_acl) as target,
    ):
        if not (options.merge or options.replace):
            await _nothing_there(target, place)
        return await _equalise(call, source, target, deletes=options.replace)


async def _nothing_there(target: Source, place: Side) -> None:
    zk = target.client
    stat = await zk.exists(place.path)
    if stat is None:
        return
    others = [name for name in await zk.children(place.path) if place.path != "/" or name != "zookeeper"]
    if others or stat.data_length:
        raise CommandError(
            f"{place.path} is there already: --merge sets what is there, --replace makes it equal", CONFLICT
        )


IMPORT = OnlineCommand(
    "import", _import_flags, _import,
    "  coati import all.jsonl /restored\n  zcat conf.jsonl.gz | coati import - /conf --merge --yes\n"
    "  coati import conf.jsonl /conf --replace --dry-run",
)  # fmt: skip


def _mirror_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help=sides.HELP)
    parser.add_argument("target", metavar="DST", help="a path, or zk://HOSTS/PATH")
    parser.add_argument("--delete", action="store_true", help="what SRC has not")
    parser.add_argument("--acl", action="store_true", help="ACLs, too")
    _writing_flags(parser)


async def _mirror(call: OnlineCall) -> int | None:
    options = call.options
    wanted, place = side(call, options.source), server_side(call, options.target)
    _apart(wanted, place)
    async with (
        sides.source(call, wanted, acl=options.acl) as source,
        sides.source(call, place, acl=options.acl) as target,
    ):
        return await _equalise(call, source, target, deletes=options.delete)


MIRROR = OnlineCommand(
    "mirror", _mirror_flags, _mirror,
    "  coati mirror /conf zk://other:2181/conf --dry-run\n  coati mirror /conf /conf-copy --delete --yes\n"
    "  coati mirror conf.jsonl /conf",
)  # fmt: skip


def _apart(one: Side, other: Side) -> None:
    if one.overlaps(other):
        raise CommandError(f"{one.text} and {other.text} are in each other", USAGE)


async def _changes(source: Source, target: Source, *, deletes: bool) -> AsyncGenerator[Change, None]:
    """What makes the target equal; of a subtree that goes only its top."""
    gone = ""
    async with aclosing(compare(target.entries(missing_ok=True), source.entries(), kinds=False)) as changes:
        async for change in changes:
            if change.sign != "-":
                yield change
            elif deletes and not (gone and change.path.startswith(gone)):
                gone = f"{change.path}/"
                yield change


async def _equalise(call: OnlineCall, source: Source, target: Source, *, deletes: bool) -> int | None:
    """Looks first, says what it will do, and does it."""
    place = target.place
    counts = {"+": 0, "-": 0, "~": 0}
    first: list[str] = []
    lines = _Lines(call.out)
    async with aclosing(_changes(source, target, deletes=deletes)) as changes:
        with lines if call.options.dry_run else nullcontext():
            async for change in changes:
                counts[change.sign] += 1
                if call.options.dry_run:
                    lines.add(change, place.below(change.path))
                elif len(first) < PREVIEWED:
                    first.append(str(change._replace(path=place.below(change.path))))
    if target.end() is not None or (source.end() is not None and deletes):
        # What cannot be seen would be deleted, or made a second time.
        raise CommandError("not all of it may be read: nothing was changed", NOT_AUTHORISED)
    code = None if source.walk is None or not source.walk.refused else NOT_AUTHORISED
    summary = f"to make: {counts['+']}, to set: {counts['~']}, subtrees to delete: {counts['-']}"
    if call.options.dry_run or not sum(counts.values()):
        call.note(summary if sum(counts.values()) else "equal already")
        return code
    if counts["~"] or counts["-"]:
        more = sum(counts.values()) - len(first)
        call.confirm([*first, *([f"... and {more} more"] if more else [])], f"Change {place.text} ({summary})?")
    writer = Writer(target.client, place, identity=bool(call.target().auth))
    await make_parents(target.client, place.path)
    await _write(call, writer, _changes(source, target, deletes=deletes))
    call.note(f"made: {counts['+']}, set: {counts['~']}, subtrees deleted: {counts['-']}")
    return code


async def _write(call: Call, writer: Writer, changes: AsyncGenerator[Change, None]) -> None:
    meter = Meter(call)
    try:
        async with aclosing(changes):
            async for change in changes:
                await writer.apply(change)
                meter.add(1)
        await writer.end()
    finally:
        await writer.abandon()
        meter.end()


# --- diff -----------------------------------------------------------------------------------------


def _diff_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help=sides.HELP)
    parser.add_argument("b", metavar="B", help="the same")
    parser.add_argument("--data", action="store_true", help="show how data differ, line by line")
    parser.add_argument("--acl", action="store_true", help="compare ACLs, too")


class _Lines:
    """Changes as lines `+ path`, or as rows for programs."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._table = out.table("change", "path", "what", header=False)

    def __enter__(self) -> Self:
        if self._out.is_structured:
            self._table.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._out.is_structured:
            self._table.__exit__(None, None, None)

    def add(self, change: Change, path: str) -> None:
        """One."""
        if self._out.is_structured:
            self._table.row(change.sign, path, change.what)
        else:
            self._out.text(str(change._replace(path=path)))


async def _diff(call: OnlineCall) -> int | None:
    options = call.options
    count = 0
    lines = _Lines(call.out)
    async with (
        sides.source(call, side(call, options.a), acl=options.acl, ephemeral=True) as a,
        sides.source(call, side(call, options.b), acl=options.acl, ephemeral=True) as b,
        aclosing(compare(a.entries(), b.entries())) as changes,
    ):
        with lines:
            async for change in changes:
                count += 1
                lines.add(change, change.path)
                if options.data and change.before is not None and change.entry is not None:
                    _show_data(call.out, change.before, change.entry)
    return a.end() or b.end() or (CHECK_FAILED if count else DONE)


def _show_data(out: Output, before: Entry, after: Entry) -> None:
    if out.is_structured or before.data == after.data:
        return
    try:
        old, new = before.data.decode().splitlines(), after.data.decode().splitlines()
    except UnicodeDecodeError:
        out.text(f"    {len(before.data)} bytes -> {len(after.data)} bytes, binary")
        return
    for line in list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]:
        out.text(f"    {line}")


DIFF = OnlineCommand(
    "diff", _diff_flags, _diff,
    "  coati diff /conf zk://other:2181/conf\n  coati diff yesterday.jsonl / --acl\n  coati diff --data /a /b",
)  # fmt: skip


# --- cp and mv ------------------------------------------------------------------------------------


def _cp_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help=sides.HELP)
    parser.add_argument("target", metavar="DST", help="what must not be there yet; parents are made")
    parser.add_argument("-r", "--recursive", action="store_true", help="with all below it")
    parser.add_argument("--acl", action="store_true", help="ACLs, too")


async def _cp(call: OnlineCall) -> int | None:
    options = call.options
    wanted, place = side(call, options.source), side(call, options.target)
    if options.recursive:
        _apart(wanted, place)
    async with sides.source(call, wanted, acl=options.acl) as source:
        if place.file is not None:
            return await _copy_to_file(call, source, wanted.path, place.file)
        async with call.connect(place.hosts) as zk:
            return await _copy(call, source, zk, place)


async def _copy(call: OnlineCall, source: Source, zk: Client, place: Side) -> int | None:
    """All of a source, or its first znode, to where nothing is."""
    if await zk.exists(place.path) is not None:
        raise CommandError(f"{place.text} is there already; `coati mirror` makes it equal", CONFLICT)
    writer = Writer(zk, place, identity=bool(call.target().auth))
    await make_parents(zk, place.path)
    entries = source.entries() if getattr(call.options, "recursive", True) else source.first()
    await _write(call, writer, _all_new(entries))
    call.note(f"copied: {writer.count}")
    return source.end()


async def _all_new(entries: Batches) -> AsyncGenerator[Change, None]:
    async with aclosing(entries):
        async for batch in entries:
            for entry in batch:
                yield Change("+", entry.path, (), entry)


async def _copy_to_file(call: OnlineCall, source: Source, path: str, name: str) -> int | None:
    if not call.options.recursive:
        raise CommandError("a file holds a tree: say -r", USAGE)
    if name == "-":
        return await _write_out(call, source, path, call.out.write)
    with sides.new_file(name) as file:
        return await _write_out(call, source, path, file.write)


CP = OnlineCommand(
    "cp", _cp_flags, _cp,
    "  coati cp /conf/app /conf/app2\n  coati cp -r --acl /conf zk://other:2181/conf\n  coati cp -r /conf conf.jsonl",
)  # fmt: skip


def _mv_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="a path, or zk://HOSTS/PATH")
    parser.add_argument("target", metavar="DST", help="the same; nothing may be there yet")


async def _mv(call: OnlineCall) -> int | None:
    wanted, place = server_side(call, call.options.source), server_side(call, call.options.target)
    _apart(wanted, place)
    if wanted.path == "/":
        raise CommandError("a root cannot be moved", USAGE)
    async with sides.source(call, wanted, acl=True, ephemeral=True) as source:
        versions: list[tuple[str, int]] = []
        async with aclosing(source.entries()) as batches:
            async for batch in batches:
                for entry in batch:
                    if entry.owner:
                        path = wanted.below(entry.path)
                        raise CommandError(f"{path} is ephemeral and belongs to a session: nothing was moved", REFUSED)
                    if entry.acl is not None and dump.hides(entry.acl):
                        path = wanted.below(entry.path)
                        raise CommandError(f"the ACL of {path} hides its hashes from us: nothing was moved", REFUSED)
                    versions.append((wanted.below(entry.path), entry.version))
        if source.end():
            raise CommandError("what may not be read cannot be moved: nothing was moved", REFUSED)
        call.note("this copies and then deletes, which is not atomic: others may see both")
        async with call.connect(place.hosts) as zk:
            await _copy(call, source, zk, place)
        try:
            await delete_all(source.client, versions)
        except MultiError as error:
            raise CommandError(
                f"copied, but {error.path} has changed since ({error.results[error.index]}): what is left of "
                f"{wanted.text} stays, compare it with {place.text}",
                CONFLICT,
            ) from None
    return None


MV = OnlineCommand("mv", _mv_flags, _mv, "  coati mv /conf/old /conf/new\n  coati mv /a zk://other:2181/a")
