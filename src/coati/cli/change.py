"""Changing znodes: set, create, rm."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Final

from coati.cli.acltext import parsed
from coati.cli.exits import LOST, REFUSED, SIGNAL, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import printable
from coati.cli.znodes import SERVERS_OWN, Walk, hint, missing, preorder, too_large
from coati.client.client import BaseClient
from coati.client.ops import Create
from coati.client.types import ANY, ACLs, Mode, Stat, State
from coati.errors import BadVersion, ConnectionLoss, NodeExists, NoNode, NotEmpty, Unimplemented

DATA_HELP: Final = "itself, @FILE, or - for stdin"
# What ends a command that only waits. Those that our parent has us ignore (nohup, &) stay ignored.
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def version_flag(parser: argparse.ArgumentParser) -> None:
    """Compare and set."""
    parser.add_argument("--version", type=int, default=ANY, metavar="N", help="only if the znode has this version now")


def given(call: OnlineCall, text: str) -> bytes:
    """Data of the command line; who has to type it is told how it ends."""
    if text == "-" and call.streams.is_asked:
        call.note("reading the data from here, up to ctrl-D")
    return call.given(text)


# --- set ------------------------------------------------------------------------------------------


def _set_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("data", metavar="DATA", nargs="?", default="-", help=f"{DATA_HELP}, which is the default")
    version_flag(parser)
    parser.add_argument("--create", action="store_true", help="make it, and its parents, if it is not there")


async def _set(call: OnlineCall) -> None:
    options = call.options
    if options.create and options.version != ANY:
        raise CommandError("what has a version is there: --create or --version, not both", USAGE)
    path, data = call.path(options.path), given(call, options.data)
    async with call.connect() as zk:
        with hint(NoNode, "--create makes it"), hint(ConnectionLoss, too_large(data)):
            try:
                stat = await (zk.put(path, data) if options.create else zk.set(path, data, version=options.version))
            except BadVersion as error:
                error.hint = await version_now(zk, path)
                raise
    if call.out.is_structured:
        call.out.record({"path": path, "version": stat.version, "zxid": f"{stat.mzxid:#x}"})
    else:
        call.note(f"{path} has version {stat.version}")


async def version_now(zk: BaseClient, path: str) -> str:
    """For those who expected another one."""
    stat = await zk.exists(path)
    return "it is not there" if stat is None else f"it has version {stat.version} now"


SET = OnlineCommand(
    "set", _set_flags, _set,
    "  coati set /conf/app hello\n  coati set /conf/app @app.json\n  jq . app.json | coati set /conf/app\n"
    "  coati set --version 3 /conf/app hello    # 5: somebody was faster\n  coati set /n -- -1",
)  # fmt: skip


# --- create ---------------------------------------------------------------------------------------


def create_flags(parser: argparse.ArgumentParser) -> None:
    """Those of one create, in a transaction too."""
    parser.add_argument("-e", "--ephemeral", action="store_true", help="goes with the session: when this command ends")
    parser.add_argument("-s", "--sequential", action="store_true", help="the server appends ten digits to the name")
    parser.add_argument("-c", "--container", action="store_true", help="goes some time after its last child has")
    parser.add_argument("--ttl", type=float, metavar="S", help="goes when it has had no change and no child for S s")
    parser.add_argument("--acl", metavar="ACL", help="scheme:id:perms,...; default world:anyone:cdrwa")
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("data", metavar="DATA", nargs="?", default="", help=f"{DATA_HELP}; default: none")


def _create_flags(parser: argparse.ArgumentParser) -> None:
    create_flags(parser)
    parser.add_argument("-p", "--parents", action="store_true", help="make missing parents too, with the same ACL")


def create_op(options: argparse.Namespace, path: str, data: bytes) -> Create:
    """The operation that the flags describe. Raises CommandError where they contradict each other."""
    kinds = [flag for flag in ("ephemeral", "container") if getattr(options, flag)]
    if options.ttl is not None:
        kinds.append("ttl")
    if options.container and options.sequential:
        kinds.append("sequential")
    if len(kinds) > 1:
        raise CommandError(f"a znode is not both: --{kinds[0]} and --{kinds[1]}", USAGE)
    if options.ephemeral:
        mode = Mode.EPHEMERAL_SEQUENTIAL if options.sequential else Mode.EPHEMERAL
    elif options.container:
        mode = Mode.CONTAINER
    else:
        mode = Mode.SEQUENTIAL if options.sequential else Mode.PERSISTENT
        if options.sequential and options.path.endswith("/") and path != "/":
            # A name that is digits alone.
            path += "/"
    acl: ACLs | None = None if options.acl is None else parsed(options.acl)
    return Create(path, data, mode, options.ttl, acl)


async def _create(call: OnlineCall) -> int:
    options = call.options
    op = create_op(options, call.path(options.path), given(call, options.data))
    return await in_session(call, lambda zk: _make(call, zk, op), is_held=op.mode.is_ephemeral)


async def _make(call: OnlineCall, zk: BaseClient, op: Create) -> None:
    try:
        with (
            hint(NoNode, "its parent is not there; -p makes it"),
            hint(NodeExists, "coati set changes its data"),
            hint(ConnectionLoss, too_large(op.data)),
            hint(Unimplemented, "the servers need extendedTypesEnabled=true for a TTL" if op.ttl else ""),
        ):
            node = await zk.create(op.path, op.data, mode=op.mode, ttl=op.ttl, acl=op.acl, parents=call.options.parents)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    if call.out.is_structured:
        call.out.record({"path": node.path})
    else:
        call.out.text(printable(node.path))
    call.out.flush()


async def in_session(
    call: OnlineCall, work: Callable[[BaseClient], Coroutine[object, object, None]], *, is_held: bool
) -> int:
    """Does `work`; the exit code. If it is held, our session, and what is ephemeral with it, stays until a signal.

    The shell has a session that stays anyway, and signals of its own.
    """
    if call.client is not None or not is_held:
        async with call.connect() as zk:
            await work(zk)
        return 0
    with ended_by_signals() as ended:
        try:
            async with call.connect() as zk:
                await work(zk)
                await hold(call, zk)
        except asyncio.CancelledError:
            if not ended:
                raise
    return SIGNAL + ended[0]


async def hold(call: OnlineCall, zk: BaseClient) -> None:
    """Waits as long as the session lasts, and says how it fares. Raises CommandError."""
    call.note("what is ephemeral stays until this command ends: ctrl-C")
    async for change in zk.states():
        if change.state is State.SUSPENDED:
            call.note(f"the connection is lost, looking for a server: {change.reason}")
        elif change.was is State.SUSPENDED and change.state is State.CONNECTED:
            call.note(f"connected to {change.server}")
        elif change.state is State.EXPIRED:
            break
    raise CommandError("the session has ended, and what was ephemeral is gone", LOST)


@contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """A signal ends the block as a cancelled task, so that its session is closed; the list has its number then."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    ended: list[int] = []

    def end(number: int) -> None:
        ended.append(number)
        task.cancel()

    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, end, number)
    try:
        yield ended
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


CREATE = OnlineCommand(
    "create", _create_flags, _create,
    "  coati create /test laogong\n  coati create -e /test laogong    # until ctrl-C\n  coati create -s /queue/job-\n"
    "  coati create -e -s /locks/mine-\n  coati create -p /a/b/c @file\n  coati create --ttl 60 /seen\n"
    "  coati create --acl auth::cdrwa,world:anyone:r /mine",
)  # fmt: skip


# --- rm -------------------------------------------------------------------------------------------


def _rm_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+")
    parser.add_argument("-r", "--recursive", action="store_true", help="with all that is below; shows it and asks")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    version_flag(parser)


async def _rm(call: OnlineCall) -> None:
    options = call.options
    paths = list(dict.fromkeys(map(call.path, options.paths)))
    for path in paths:
        refuse_protected(path)
    if options.version != ANY and (options.recursive or len(paths) > 1):
        raise CommandError("--version is of one znode", USAGE)
    async with call.connect() as zk:
        if options.dry_run:
            await _would_go(call, zk, paths)
        elif options.recursive:
            await _rm_trees(call, zk, paths)
        else:
            for path in paths:
                await _rm_one(zk, path, options.version)


def refuse_protected(path: str) -> None:
    """No command deletes everything, or what is the servers' own. Raises CommandError."""
    if path == "/":
        raise CommandError("/ is never deleted; name what is below it", REFUSED)
    if path == SERVERS_OWN or path.startswith(SERVERS_OWN + "/"):
        raise CommandError(f"{path} is the servers' own and never deleted; for quotas there is coati quota rm", REFUSED)


async def _rm_one(zk: BaseClient, path: str, version: int) -> None:
    try:
        await zk.delete(path, version=version)
    except NotEmpty as error:
        raise _not_empty(error, await zk.exists(path)) from None
    except BadVersion as error:
        error.hint = await version_now(zk, path)
        raise


def _not_empty(error: NotEmpty, stat: Stat | None) -> NotEmpty:
    count = 0 if stat is None else stat.num_children
    error.hint = f"it has {count} {'child' if count == 1 else 'children'}; -r deletes all that is below too"
    return error


async def _would_go(call: OnlineCall, zk: BaseClient, paths: list[str]) -> None:
    is_recursive = call.options.recursive
    with call.out.table("path", header=False) as table:
        for path in paths:
            async for visit in preorder(zk, path, Walk(levels=None if is_recursive else 0, stats=True)):
                if visit.stat is not None and visit.stat.num_children and not is_recursive:
                    raise _not_empty(NotEmpty(path), visit.stat)
                table.row(visit.path)


async def _rm_trees(call: OnlineCall, zk: BaseClient, paths: list[str]) -> None:
    options = call.options
    if not options.yes:
        found = [visit.path for path in paths async for visit in preorder(zk, path, Walk())]
        znodes = "1 znode" if len(found) == 1 else f"{len(found)} znodes"
        call.confirm(found, f"Delete {znodes}?")
    deleted = 0
    for path in paths:
        if await zk.exists(path) is None:
            raise missing(path)
        # As long as it takes: --timeout is of one answer, and a session that ends ends this too.
        deleted += await zk.with_options(timeout=None).delete_tree(path)
    call.note(f"{deleted} {'znode' if deleted == 1 else 'znodes'} deleted")


RM = OnlineCommand(
    "rm", _rm_flags, _rm,
    "  coati rm /conf/old\n  coati rm -r /services/old\n  coati rm -r --dry-run /services/old\n"
    "  coati rm -r --yes /tmp/test",
)  # fmt: skip
