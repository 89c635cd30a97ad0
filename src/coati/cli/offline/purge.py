"""`coati purge`: old snapshots and logs go, as with Java's PurgeTxnLog."""

from __future__ import annotations

import argparse

from coati.cli.command import Call, Command
from coati.cli.exits import USAGE, CommandError
from coati.offline.places import find
from coati.offline.purge import MIN_KEEP, PurgePlan


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("where", metavar="DIR", help="a dataDir or its version-2")
    parser.add_argument("--log-dir", metavar="DIR", help="the dataLogDir, where that is another one")
    parser.add_argument("--keep", type=int, default=MIN_KEEP, help=f"so many snapshots stay, {MIN_KEEP} or more")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("-y", "--yes", action="store_true", help="do it without asking")


def _body(call: Call) -> None:
    given = call.options
    if given.keep < MIN_KEEP:
        raise CommandError(f"--keep is {MIN_KEEP} or more: one snapshot may be damaged, and the next one, too", USAGE)
    plan = PurgePlan(find(given.where, given.log_dir), given.keep)
    if not plan.doomed:
        call.note(f"nothing to remove: {plan.valid_count} valid snapshots, {given.keep} are kept")
        return
    if not given.dry_run:
        size = sum(size for _, size in plan.doomed)
        call.confirm([path for path, _ in plan.doomed], f"Remove {len(plan.doomed)} files, {size} bytes?")
        plan.carry_out()
    with call.out.table("file", "bytes") as table:
        for path, size in plan.doomed:
            table.row(path, size)


PURGE = Command(
    "purge", _flags, _body,
    "  coati purge /var/lib/zookeeper --keep 3 --dry-run\n  coati purge /data --log-dir /logs --keep 5 --yes",
)  # fmt: skip
