"""`coati undelete`: what a znode was, out of snapshots and logs, and back into the tree."""

from __future__ import annotations

import argparse
from typing import Final

from coati.cli.exits import REFUSED, USAGE, CommandError, code_of
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import printable
from coati.client.ops import Create, MultiError, multi_body
from coati.client.types import ACL, OPEN, Mode, Perm
from coati.errors import NoNode
from coati.offline.moments import parse_moment, zxid_text
from coati.offline.past import past_at
from coati.offline.places import find
from coati.offline.undelete import Plan, Revival, plan

# jute.maxbuffer, as servers have it unless they are told otherwise, without the head of a request.
MAX_BYTES: Final = 0xFFFFF - 8


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="as the server has it: without a chroot")
    parser.add_argument(
        "--at", required=True, metavar="ZXID|TIME", help="when it was there: right after this txn, or at this time"
    )
    parser.add_argument("--data-dir", required=True, metavar="DIR", help="a dataDir or its version-2")
    parser.add_argument("--log-dir", metavar="DIR", help="the dataLogDir, where that is another one")
    parser.add_argument("-r", "--recursive", action="store_true", help="and all that was below it")
    parser.add_argument("-y", "--yes", action="store_true", help="do it, in one transaction; else it is only shown")


async def _undelete(call: OnlineCall) -> None:
    given = call.options
    path = call.path(given.path)
    past = past_at(find(given.data_dir, given.log_dir), parse_moment(given.at))
    for note in past.notes:
        call.note(note)
    try:
        found = plan(past, path.encode("utf-8", "surrogateescape"), recursive=given.recursive)
    except NoNode as error:
        error.hint = f"it was not there at zxid {zxid_text(past.zxid)}; `coati log history` tells when it was"
        raise
    _check(found, path)
    ops = [_op(revival) for revival in found.revivals]
    size = len(multi_body(ops, _encoded, OPEN))
    if size > MAX_BYTES:
        raise CommandError(
            f"{len(ops)} znodes need {size} bytes, and a transaction has at most {MAX_BYTES}: take parts of the "
            "subtree, or `coati log replay DIR --until ... export PATH` and `coati import`",
            REFUSED,
        )
    _show(call, found)
    if not given.yes:
        call.note("nothing was done; --yes does it")
        return
    await _apply(call, ops)


def _encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _check(found: Plan, path: str) -> None:
    """Refuses what cannot be brought back."""
    if path == "/":
        raise CommandError("the root is always there; name what is missing below it", USAGE)
    if not found.revivals:
        raise CommandError(f"{path} was ephemeral: only the client whose it was can make it again", REFUSED)


def _op(revival: Revival) -> Create:
    acl = OPEN if revival.acl is None else tuple(ACL(Perm(perms), scheme, id) for perms, scheme, id in revival.acl)
    mode = Mode.CONTAINER if revival.kind == "container" else Mode.PERSISTENT
    return Create(revival.path, revival.data, mode, revival.ttl, acl)


def _show(call: OnlineCall, found: Plan) -> None:
    for path in found.ephemerals:
        call.note(f"left out, as it was ephemeral: {printable(path)}")
    if call.out.is_structured:
        with call.out.table("op", "path", "data", "mode", "ttl", "acl") as table:
            for op in map(_op, found.revivals):
                table.row("create", op.path, op.data, op.mode.name.lower(), op.ttl, [str(one) for one in op.acl or ()])
        return
    for revival in found.revivals:
        if revival.is_beyond_words:
            acl = ",".join(map(str, _op(revival).acl or ()))
            call.out.text(
                f"# the ACL of the next line cannot be written in it, and is set with --yes: {printable(acl)}"
            )
        line = revival.line()
        call.out.text(printable(line) if call.out.is_terminal else line)


async def _apply(call: OnlineCall, ops: list[Create]) -> None:
    async with call.connect() as zk:
        try:
            # The files know nothing of a chroot.
            await zk.chroot_free().multi(ops)
        except MultiError as error:
            fault, path = error.results[error.index], ops[error.index].path
            reason = fault.what() if fault else str(error)
            hint = "; bring back its parent first" if isinstance(fault, NoNode) else ""
            raise CommandError(f"{path}: {reason}; nothing was done{hint}", code_of(error)) from None
    call.note(f"{len(ops)} znodes are back; versions begin at 0 again")


UNDELETE = OnlineCommand(
    "undelete", _flags, _undelete,
    "  coati undelete /app/config --at 0x1200000005 --data-dir /var/lib/zookeeper\n"
    "  coati undelete /app -r --at 2026-11-21T22:15:00Z --data-dir /data --log-dir /logs -s host:2181 --yes",
)  # fmt: skip
