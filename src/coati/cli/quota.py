"""quota ls, set, rm: how many znodes and bytes a subtree may have."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Final

from coati.cli.exits import MISSING, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.znodes import missing
from coati.client.client import BaseClient
from coati.client.quota import Quota, Usage
from coati.errors import NoNode

NO_LIMIT: Final = -1
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
COLUMNS: Final = (
    "path", "znodes", "count", "hard_count", "bytes_used", "bytes", "hard_bytes", "used_percent",
)  # fmt: skip


def _limit(text: str) -> int:
    """A number, with k, m or g for units of 1024; NO_LIMIT for none."""
    if text == "none":
        return NO_LIMIT
    digits = text.rstrip("kKmMgG")
    unit = text[len(digits) :].lower()
    if not digits.isascii() or not digits.isdigit() or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number, as 1000 or 64k, nor `none`")
    return int(digits) * _UNITS[unit]


def _quota_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("ls", "set", "rm"), help="show, limit, lift all limits")
    parser.add_argument("path", metavar="PATH", nargs="?", help="ls: only this one")
    parser.add_argument("--count", type=_limit, metavar="N", help="set: so many znodes, with the first one; or `none`")
    parser.add_argument("--bytes", type=_limit, metavar="N", help="set: so many bytes of data, as 64k; or `none`")
    parser.add_argument(
        "--hard", action="store_true", help="set, rm: limits that refuse writes, where servers enforce them"
    )
    parser.add_argument("--top", action="store_true", help="ls: the fullest first")


async def _quota(call: OnlineCall) -> None:
    options = call.options
    if options.action != "ls" and options.path is None:
        raise CommandError(f"quota {options.action} has a PATH", USAGE)
    if (options.action == "set") != (options.count is not None or options.bytes is not None):
        raise CommandError("--count N, --bytes N or both say what quota set limits; no other action has them", USAGE)
    if (options.top and options.action != "ls") or (options.hard and options.action == "ls"):
        raise CommandError("--top is for quota ls; --hard for the others", USAGE)
    path = None if options.path is None else call.path(options.path)
    async with call.connect() as zk:
        if path is None or options.action == "ls":
            await _ls(call, zk, path)
        elif options.action == "set":
            await _set(call, zk, path)
        else:
            await _rm(call, zk, path)


@dataclass(frozen=True, slots=True)
class Used:
    """A quota and what is used of it."""

    quota: Quota
    usage: Usage

    @property
    def share(self) -> float | None:
        """Of the limit that is nearest, 1 is all; None where there is none."""
        quota, usage = self.quota, self.usage
        pairs = (
            (usage.count, quota.count), (usage.count, quota.hard_count),
            (usage.bytes, quota.bytes), (usage.bytes, quota.hard_bytes),
        )  # fmt: skip
        # A limit of no bytes is full as soon as there is one.
        return max(
            (used / limit if limit else float(used > 0) for used, limit in pairs if limit is not None), default=None
        )

    def row(self) -> tuple[Any, ...]:
        quota, usage, share = self.quota, self.usage, self.share
        percent = None if share is None else round(100 * share)
        limits = quota.count, quota.hard_count, usage.bytes, quota.bytes, quota.hard_bytes
        return quota.path, usage.count, *limits, percent


async def _ls(call: OnlineCall, zk: BaseClient, path: str | None) -> None:
    if path is None:
        quotas = await zk.quota.list()
    else:
        one = await zk.quota.get(path)
        if one is None:
            raise no_quota(path)
        quotas = [one]
    rows: list[Used] = []
    for quota in quotas:
        try:
            rows.append(Used(quota, await zk.quota.usage(quota.path)))
        except NoNode:
            # It went just now.
            continue
    if call.options.top:
        rows.sort(key=lambda used: -(used.share or 0))
    with call.out.table(*COLUMNS) as table:
        for used in rows:
            table.row(*used.row())


def no_quota(path: str) -> CommandError:
    return CommandError(f"{path} has no quota of its own", MISSING)


async def _set(call: OnlineCall, zk: BaseClient, path: str) -> None:
    options = call.options
    wanted = {"count": options.count, "bytes": options.bytes}
    lifted = {name: True for name, limit in wanted.items() if limit == NO_LIMIT}
    limits = {name: limit for name, limit in wanted.items() if limit not in (None, NO_LIMIT)}
    if await zk.exists(path) is None:
        raise missing(path)
    try:
        if limits:
            await zk.quota.set(path, hard=options.hard, **limits)
        if lifted:
            await zk.quota.unset(path, hard=options.hard, **lifted)
    except NoNode:
        raise no_quota(path) from None
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    if options.hard and limits:
        call.note("hard limits refuse writes where the servers have enforceQuota=true, and only warn elsewhere")


async def _rm(call: OnlineCall, zk: BaseClient, path: str) -> None:
    """All limits, or with --hard the hard ones, and the quota with its last limit."""
    if call.options.hard:
        try:
            left = await zk.quota.unset(path, count=True, bytes=True, hard=True)
        except NoNode:
            raise no_quota(path) from None
        if left != Quota(path):
            return
    if not await zk.quota.remove(path):
        raise no_quota(path)


QUOTA = OnlineCommand(
    "quota", _quota_flags, _quota,
    "  coati quota ls --top\n  coati quota set /apps/a --count 1000 --bytes 64k\n"
    "  coati quota set /apps/a --hard --bytes 1m\n  coati quota set /apps/a --count none\n"
    "  coati quota rm /apps/a",
)  # fmt: skip
