"""`coati snap`: snapshots of any server, looked at without one."""

from __future__ import annotations

import argparse

from coati.cli.command import Call
from coati.cli.exits import CHECK_FAILED, MISSING, CommandError
from coati.cli.offline.group import Group, Sub
from coati.cli.output import Cell
from coati.errors import StorageCorrupt
from coati.offline import places, snapshots
from coati.offline.moments import time_text, zxid_text
from coati.offline.snapshots import Difference, Facts, Stored
from coati.offline.txns import owner_text

STAT_COLUMNS = (
    *("kind", "owner", "bytes", "version", "cversion", "aversion", "czxid", "mzxid", "pzxid", "ctime", "mtime", "acl"),
)


def _where_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("where", metavar="DIR|FILE", help="a dataDir, its version-2, or a snapshot")


def files_of(where: str) -> list[str]:
    """The snapshots of a directory, oldest first; or the file itself."""
    if not places.is_directory(where):
        return [places.real_file(where)]
    found = [path for _, path in places.find(where).snapshots()]
    if not found:
        raise CommandError(f"{where}: there is no snapshot in it", CHECK_FAILED)
    return found[::-1]


def _ls(call: Call) -> int | None:
    damaged = 0
    with call.out.table("file", "zxid", "bytes", "znodes", "sessions", "digest", "fuzzy_to", "valid") as table:
        for path in files_of(call.options.where):
            facts = snapshots.facts_of(path)
            table.row(*_facts_row(facts))
            damaged += _told(call, facts.problem)
    return CHECK_FAILED if damaged else None


def _facts_row(facts: Facts) -> tuple[Cell, ...]:
    name = facts.path.rpartition("/")[2]
    zxid = zxid_text(facts.zxid) if facts.zxid >= 0 else None
    if facts.problem is not None:
        return name, zxid, facts.file_bytes, None, None, None, None, False
    fuzzy = zxid_text(facts.content_zxid) if facts.content_zxid is not None and facts.is_fuzzy else None
    digest = None if facts.digest is None else zxid_text(facts.digest)
    return name, zxid, facts.file_bytes, facts.znodes, facts.sessions, digest, fuzzy, True


def _told(call: Call, problem: StorageCorrupt | None) -> int:
    """Says what is wrong with one of several files; how many were wrong."""
    if problem is None:
        return 0
    print(f"coati {call.name}: {problem}", file=call.streams.stderr)
    return 1


def _dump_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("path", metavar="PATH", nargs="?", default="/", help="this znode and all below it")
    parser.add_argument("--data", action="store_true", help="their data, too")


def _dump(call: Call) -> None:
    path = call.path(call.options.path).encode("utf-8", "surrogateescape")
    below = path.rstrip(b"/") + b"/"
    has_data = call.options.data
    columns = ("path", *STAT_COLUMNS, *(("data",) if has_data else ()))
    with snapshots.opened(call.options.file) as reader, call.out.table(*columns) as table:
        for znode in snapshots.znodes_of(reader):
            if path == b"/" or znode.path == path or znode.path.startswith(below):
                row = _stat_row(znode)
                table.row(znode.path, *row, znode.data) if has_data else table.row(znode.path, *row)
        if not table.count:
            raise CommandError(f"{call.options.file}: there is no znode {path.decode()!r} in it", MISSING)


def _stat_row(znode: Stored) -> tuple[Cell, ...]:
    kind, owner = owner_text(znode.owner)
    size = None if znode.data is None else len(znode.data)
    return (
        kind, owner, size, znode.version, znode.cversion, znode.aversion, zxid_text(znode.czxid),
        zxid_text(znode.mzxid), zxid_text(znode.pzxid), time_text(znode.ctime), time_text(znode.mtime), znode.acl,
    )  # fmt: skip


def _diff_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="A")
    parser.add_argument("new", metavar="B")


def _diff(call: Call) -> int | None:
    columns = ("change", "path", "bytes_before", "bytes_after", "version_before", "version_after", "mzxid_after")
    with call.out.table(*columns) as table:
        for found in snapshots.differences(call.options.old, call.options.new):
            table.row(*_difference_row(found))
    return CHECK_FAILED if table.count else None


def _difference_row(found: Difference) -> tuple[Cell, ...]:
    before, after = found.before, found.after
    return (
        found.change, found.path,
        None if before is None else len(before.data or b""), None if after is None else len(after.data or b""),
        None if before is None else before.version, None if after is None else after.version,
        None if after is None else zxid_text(after.mzxid),
    )  # fmt: skip


def _top_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--by", choices=("bytes", "children", "subtree"), default="bytes", help="default: bytes")
    parser.add_argument("-n", "--count", type=int, default=20, help="how many, 20")


def _top(call: Call) -> None:
    by = call.options.by
    with call.out.table("path", "children" if by == "children" else "bytes") as table:
        for path, size in snapshots.top(call.options.file, by, call.options.count):
            table.row(path, size)


def _verify_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE|DIR", nargs="+")


def _verify(call: Call) -> int | None:
    damaged = 0
    with call.out.table("file", "valid", "znodes", "offset", "reason") as table:
        for where in call.options.files:
            for path in files_of(where):
                facts = snapshots.verify(path)
                problem = facts.problem
                if problem is None:
                    table.row(path, True, facts.znodes, None, None)
                else:
                    table.row(path, False, None, problem.offset, problem.reason)
                    damaged += _told(call, problem)
    return CHECK_FAILED if damaged else None


SNAP = Group(
    "snap",
    (
        Sub("ls", "list snapshots and whether they are whole", _where_flags, _ls, "  coati snap ls /var/lib/zookeeper"),
        Sub("dump", "show the znodes of a snapshot", _dump_flags, _dump,
            "  coati snap dump snapshot.1200000005 /app\n  coati -o jsonl snap dump snapshot.5.gz --data"),
        Sub("diff", "show what is not the same in two snapshots (exit code 9)", _diff_flags, _diff,
            "  coati snap diff snapshot.5 snapshot.9f"),
        Sub("top", "show the largest znodes of a snapshot", _top_flags, _top,
            "  coati snap top snapshot.9f --by subtree -n 10"),
        Sub("verify", "read snapshots to their end and compare all checksums", _verify_flags, _verify,
            "  coati snap verify /var/lib/zookeeper\n  coati snap verify snapshot.5.gz snapshot.9f.gz"),
    ),
).command("  coati snap ls /var/lib/zookeeper\n  coati snap COMMAND --help")  # fmt: skip
