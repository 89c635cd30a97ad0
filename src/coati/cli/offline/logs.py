"""`coati log`: transaction logs of any server, looked at without one; and the tree as it was."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from coati.cli.command import Call
from coati.cli.exits import CHECK_FAILED, CommandError
from coati.cli.offline import replay
from coati.cli.offline.group import Group, Sub
from coati.cli.output import Cell
from coati.offline import logs, places, repair
from coati.offline.logs import Logged, Wanted
from coati.offline.moments import parse_session, parse_zxid, time_text, zxid_text
from coati.offline.places import real_disk
from coati.offline.scan import LogScan

COLUMNS = ("zxid", "time", "session", "cxid", "part", "type", "path", "version", "size", "detail")


def _where_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("where", metavar="DIR|FILE", help="a dataLogDir (or dataDir), its version-2, or a log")


def paths_of(where: str) -> list[str]:
    """The logs of a directory, oldest first; or the file itself."""
    if not places.is_directory(where):
        return logs.log_paths(where)
    found = logs.log_paths(places.find(where))
    if not found:
        raise CommandError(f"{where}: there is no log in it", CHECK_FAILED)
    return found


def _ls(call: Call) -> int | None:
    damaged = 0
    columns = ("file", "first", "last", "txns", "bytes", "used", "first_time", "last_time", "end")
    with call.out.table(*columns) as table:
        for path in paths_of(call.options.where):
            scan = LogScan(real_disk(), path).run()
            table.row(*_scan_row(scan))
            if scan.damage is not None:
                damaged += 1
                print(f"coati log: {scan.damage}", file=call.streams.stderr)
    return CHECK_FAILED if damaged else None


def _scan_row(scan: LogScan) -> tuple[Cell, ...]:
    end = "torn" if scan.is_torn else "" if scan.damage is None else f"damaged at {scan.position}"
    name = scan.path.rpartition("/")[2]
    if not scan.count:
        return name, None, None, 0, scan.size, scan.position, None, None, end
    return (
        name, zxid_text(scan.first_zxid), zxid_text(scan.last_zxid), scan.count, scan.size, scan.position,
        time_text(scan.first_ms), time_text(scan.last_ms), end,
    )  # fmt: skip


def _dump_flags(parser: argparse.ArgumentParser) -> None:
    _where_flags(parser)
    parser.add_argument("--from", dest="first", metavar="ZXID", help="this one and later ones")
    parser.add_argument("--to", dest="last", metavar="ZXID", help="this one and earlier ones")
    parser.add_argument("--session", metavar="S", help="of this session: 0x100002e4a0d0001")
    parser.add_argument("--path", metavar="P", help="on this znode or below it")
    parser.add_argument("--data", action="store_true", help="the data, too")


def _dump(call: Call) -> None:
    given = call.options
    wanted = Wanted(
        from_zxid=parse_zxid(given.first) if given.first else 0,
        to_zxid=parse_zxid(given.last) if given.last else logs.MAX_ZXID,
        session_id=parse_session(given.session) if given.session else None,
        path=encoded(call, given.path) if given.path else None,
    )
    show(call, logs.dump(paths_of(given.where), wanted), has_data=given.data)


def encoded(call: Call, path: str) -> bytes:
    """A znode's path as the files have it."""
    return call.path(path).encode("utf-8", "surrogateescape")


def show(call: Call, lines: Iterable[Logged], *, has_data: bool) -> int:
    """A row for each operation; how many there were."""
    with call.out.table(*COLUMNS, *(("data",) if has_data else ())) as table:
        for line in lines:
            row = _row(line)
            table.row(*row, line.step.data) if has_data else table.row(*row)
        return table.count


def _row(line: Logged) -> tuple[Cell, ...]:
    step = line.step
    size = None if step.data is None else len(step.data)
    return (
        zxid_text(line.zxid), time_text(line.time_ms), zxid_text(line.session_id), line.cxid, line.part or None,
        step.type, step.path or None, step.version, size, step.detail or None,
    )  # fmt: skip


def _history_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("where", metavar="DIR|FILE", help="a dataLogDir (or dataDir), its version-2, or a log")
    parser.add_argument("--data", action="store_true", help="the data, too")


def _history(call: Call) -> None:
    path = encoded(call, call.options.path)
    paths = paths_of(call.options.where)
    if not show(call, logs.history(paths, path), has_data=call.options.data):
        call.note(f"no txn in {len(paths)} logs touched {path.decode('utf-8', 'backslashreplace')}")


def _verify_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("where", metavar="DIR", help="a dataDir or its version-2")
    parser.add_argument("--log-dir", metavar="DIR", help="the dataLogDir, where that is another one")


def _verify(call: Call) -> int | None:
    wrong = 0
    directory = places.find(call.options.where, call.options.log_dir)
    with call.out.table("file", "state", "txns", "first", "last", "offset", "reason") as table:
        for found in logs.verify(directory):
            zxids = (zxid_text(found.first_zxid), zxid_text(found.last_zxid)) if found.txns else (None, None)
            table.row(found.path, found.state, found.txns or None, *zxids, found.offset, found.reason or None)
            if found.is_wrong:
                wrong += 1
                where = "" if found.offset is None else f" at byte {found.offset}"
                print(f"coati log: {found.path}{where}: {found.reason}", file=call.streams.stderr)
        if not table.count:
            raise CommandError(f"{call.options.where}: there is no log in it", CHECK_FAILED)
    if wrong:
        call.note(
            "a server of an ensemble can copy its state from the leader: move its version-2 away and start it again; "
            "otherwise restore a backup, or see what `coati log repair FILE` would keep"
        )
    return CHECK_FAILED if wrong else None


def _repair_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("-y", "--yes", action="store_true", help="do it without asking")


def _repair(call: Call) -> None:
    found = repair.plan(call.options.file)
    if found is None:
        call.note(f"{call.options.file} needs none: a server takes it as it is")
        return
    call.confirm(found.preview(), f"Copy {found.scan.path} aside and cut it?")
    backup = repair.carry_out(found)
    call.out.record({"file": found.scan.path, "txns": found.scan.count, "bytes": found.scan.position, "copy": backup})


LOG = Group(
    "log",
    (
        Sub("ls", "list logs: zxids, times, and how each ends", _where_flags, _ls, "  coati log ls /var/lib/zookeeper"),
        Sub("dump", "show the txns of logs, a row for each operation", _dump_flags, _dump,
            "  coati log dump /var/lib/zookeeper --from 0x1200000005 --path /app --data\n"
            "  coati -o jsonl log dump log.1200000001 --session 0x100002e4a0d0001"),
        Sub("history", "show what happened to one znode", _history_flags, _history,
            "  coati log history /app/config /var/lib/zookeeper --data"),
        Sub("verify", "check logs: checksums, the order of zxids, gaps", _verify_flags, _verify,
            "  coati log verify /var/lib/zookeeper\n  coati log verify /data --log-dir /logs"),
        Sub("repair", "cut a damaged log back to what is sound; a copy is kept", _repair_flags, _repair,
            "  coati log repair /var/lib/zookeeper/version-2/log.1200000001"),
        Sub("replay", "show the tree as it was", replay.flags, replay.body, replay.EXAMPLES),
    ),
).command("  coati log history /app/config /var/lib/zookeeper\n  coati log COMMAND --help")  # fmt: skip
