"""`coati check-config`: what a server would say of a zoo.cfg, and what the doctor sees in it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from coati.admin.doctor import ERROR, INFO, LEVELS, Finding, diagnose
from coati.admin.facts import Facts
from coati.cli.command import Call, Command
from coati.cli.configfacts import Source, config_facts
from coati.cli.exits import CHECK_FAILED, DONE

COLUMNS: Final = ("level", "check", "where", "seen", "fix")


def add_file_flags(parser: argparse.ArgumentParser) -> None:
    """What is said of files, in the doctor too."""
    parser.add_argument("-D", dest="properties", action="append", default=[], metavar="NAME=VALUE",
                        help="a Java system property, as jute.maxbuffer=4194304")  # fmt: skip
    parser.add_argument("--elsewhere", action="store_true", help="the file is for another machine: look at it alone")
    parser.add_argument("--level", choices=LEVELS, default=INFO, help="leave out what is less, default: %(default)s")


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="+", metavar="zoo.cfg", help="of several members they are compared")
    parser.add_argument("--strict", action="store_true", help="fail on warnings too")
    add_file_flags(parser)


def _check(call: Call) -> int:
    options = call.options
    sources = [Source(path, options.properties, options.elsewhere) for path in options.config]
    return report(call, diagnose(Facts([config_facts(source) for source in sources])), strict=options.strict)


def report(call: Call, findings: Sequence[Finding], *, strict: bool = False) -> int:
    """Shows the findings of the level asked for; the exit code."""
    least = LEVELS.index(call.options.level)
    with call.out.table(*COLUMNS) as table:
        for finding in findings:
            if LEVELS.index(finding.level) <= least:
                table.row(finding.level, finding.check, finding.where, finding.seen, finding.fix)
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    call.note(", ".join(f"{level}: {count}" for level, count in counts.items()))
    grave = counts[ERROR] or (strict and counts["warning"])
    return CHECK_FAILED if grave else DONE


CHECK: Final = Command(
    "check-config", _flags, _check,
    "  coati check-config /etc/zookeeper/zoo.cfg\n  coati check-config --elsewhere --strict node*/zoo.cfg",
)  # fmt: skip
