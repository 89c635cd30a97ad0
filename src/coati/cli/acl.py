"""Who may do what: acl get, set, add, rm; auth hash, whoami."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from coati.cli.acltext import id_and_perms, parsed
from coati.cli.exits import MISSING, REFUSED, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import Cell
from coati.cli.znodes import SERVERS_OWN, Walk, hint, preorder
from coati.client.client import BaseClient
from coati.client.types import ACL, ANY, Perm, digest_id
from coati.errors import BadVersion, NoAuth, NoNode

# How often a change begins again because somebody else was faster.
ROUNDS: Final = 10
Change = Callable[[tuple[ACL, ...]], tuple[ACL, ...]]


# --- acl ------------------------------------------------------------------------------------------


def _acl_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("get", "set", "add", "rm"), help="show, replace, permit more, permit less")
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("acl", metavar="ACL", nargs="?", help="scheme:id:perms,... as world:anyone:r,auth::cdrwa")
    parser.add_argument("-R", "--recursive", action="store_true", help="all that is below too; a change asks first")
    parser.add_argument(
        "--version", type=int, default=ANY, metavar="N", help="set: if the ACL has this version (aversion)"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


async def _acl(call: OnlineCall) -> None:
    options = call.options
    if (options.acl is None) != (options.action == "get"):
        raise CommandError("acl get PATH shows; acl set, add and rm have an ACL behind the PATH", USAGE)
    if options.version != ANY and (options.action != "set" or options.recursive):
        raise CommandError("--version goes with acl set, of one znode", USAGE)
    change = None if options.acl is None else _change(options.action, options.acl)
    path = call.path(options.path)
    with hint(NoAuth, "reading an ACL takes the permission r or a, changing it a"):
        async with call.connect() as zk:
            if change is None:
                await _show(call, zk, path)
            elif options.recursive:
                await _change_tree(call, zk, path, change)
            else:
                new = await _apply(zk, path, change, version=options.version)
                if new is None and options.action == "rm":
                    raise CommandError(f"{path} has no such entry", MISSING)
                if new is not None and not any(entry.perms & Perm.ADMIN for entry in new):
                    call.note(f"nobody has the permission a: only a superuser can change the ACL of {path} now")


def _change(action: str, text: str) -> Change:
    """What becomes of an ACL. Raises CommandError for a text that is none."""
    if action == "rm":
        lost = [id_and_perms(part) for part in text.split(",")]

        def without(acl: tuple[ACL, ...]) -> tuple[ACL, ...]:
            kept = list(acl)
            for scheme, identity, perms in lost:
                kept = [
                    entry._replace(perms=entry.perms & ~perms)
                    if (entry.scheme, entry.id) == (scheme, identity)
                    else entry
                    for entry in kept
                ]
            return tuple(entry for entry in kept if entry.perms)

        return without
    entries = parsed(text)
    return (lambda acl: entries) if action == "set" else (lambda acl: _joined(acl, entries))


def _joined(acl: tuple[ACL, ...], more: tuple[ACL, ...]) -> tuple[ACL, ...]:
    """Each identity once, with what either permits."""
    perms: dict[tuple[str, str], Perm] = {}
    for entry in (*acl, *more):
        who = (entry.scheme, entry.id)
        perms[who] = perms.get(who, Perm(0)) | entry.perms
    return tuple(ACL(permitted, scheme, identity) for (scheme, identity), permitted in perms.items())


async def _apply(zk: BaseClient, path: str, change: Change, *, version: int = ANY) -> tuple[ACL, ...] | None:
    """The ACL after it; None if it is as it was. Nothing that others change meanwhile is lost."""
    for _ in range(ROUNDS):
        acl, stat = await zk.get_acl(path)
        new = change(acl)
        if not new:
            raise CommandError(f"{path}: that would leave nobody who may do anything", REFUSED)
        if version == ANY and new == acl:
            return None
        try:
            await zk.set_acl(path, new, version=stat.aversion if version == ANY else version)
        except BadVersion as error:
            if version != ANY:
                error.hint = f"its ACL has version {stat.aversion} now"
                raise
        else:
            return new
    raise BadVersion(path)


async def _change_tree(call: OnlineCall, zk: BaseClient, path: str, change: Change) -> None:
    """All or as many as there are: what goes meanwhile is left out. The servers' own znodes stay as they are."""
    paths = [visit.path async for visit in preorder(zk, path, Walk(spares=SERVERS_OWN))]
    call.confirm(paths, f"Change the ACL of {len(paths)} znodes?")
    changed = 0
    for at, one in enumerate(paths):
        call.progress(f"{at} of {len(paths)}")
        with suppress(NoNode):
            changed += await _apply(zk, one, change) is not None
    call.progress_ends()
    call.note(f"{changed} of {len(paths)} ACLs changed")


async def _show(call: OnlineCall, zk: BaseClient, path: str) -> None:
    if call.options.recursive:
        with call.out.table("path", "acl") as table:
            async for visit in preorder(zk, path, Walk()):
                with suppress(NoNode):
                    acl, _ = await zk.get_acl(visit.path)
                    table.row(visit.path, ",".join(map(str, acl)))
        return
    acl, stat = await zk.get_acl(path)
    if call.out.is_structured:
        entries: list[Cell] = [
            {"scheme": entry.scheme, "id": entry.id, "perms": str(entry).rpartition(":")[2]} for entry in acl
        ]
        call.out.record({"path": path, "aversion": stat.aversion, "acl": entries})
        return
    with call.out.table("acl", header=False) as table:
        for entry in acl:
            table.row(str(entry))


ACL_COMMAND = OnlineCommand(
    "acl", _acl_flags, _acl,
    "  coati acl get /conf\n  coati acl set /conf world:anyone:r,auth::cdrwa\n"
    "  coati acl add -R /conf ip:10.0.0.0/8:r\n  coati acl rm /conf world:anyone:cdwa    # leaves it r\n"
    "  coati acl rm /conf world:anyone         # the whole entry",
)  # fmt: skip


# --- auth -----------------------------------------------------------------------------------------


def _auth_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("hash", "whoami"), help="an id for ACLs; or as whom the server knows us")
    parser.add_argument("user", metavar="USER", nargs="?", help="hash: whose password is asked, or read from stdin")


async def _auth(call: OnlineCall) -> None:
    options = call.options
    if (options.user is None) != (options.action == "whoami"):
        raise CommandError("auth hash USER, or auth whoami", USAGE)
    if options.action == "hash":
        _hash(call, options.user)
        return
    async with call.connect() as zk:
        found = await zk.whoami()
    with call.out.table("scheme", "user") as table:
        for info in found:
            table.row(info.scheme, info.user)


def _hash(call: OnlineCall, user: str) -> None:
    if not user or ":" in user:
        raise CommandError("a user's name is not empty and has no colon; the password is asked, or read", USAGE)
    if call.streams.is_asked:
        password = getpass.getpass(f"password of {user}: ")
        if getpass.getpass("again: ") != password:
            raise CommandError("these are two passwords", USAGE)
    else:
        try:
            password = call.streams.stdin.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise CommandError("the password is no text in UTF-8", USAGE) from None
    if not password:
        raise CommandError("a password is not empty", USAGE)
    identity = digest_id(user, password)
    if call.out.is_structured:
        call.out.record({"scheme": "digest", "id": identity})
    else:
        call.out.text(identity)


AUTH = OnlineCommand(
    "auth", _auth_flags, _auth,
    "  coati auth hash bob                 # asks, and prints bob:HASH for digest:bob:HASH:cdrwa\n"
    "  coati auth hash bob < secret.txt\n  coati --auth digest:bob auth whoami",
)  # fmt: skip
