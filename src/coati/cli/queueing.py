"""queue: putting items in, taking them out, looking at them."""

from __future__ import annotations

import argparse
import tempfile
from typing import Final, get_args

from coati.cli.exits import CHECK_FAILED, USAGE, CommandError
from coati.cli.held import (
    DEFAULT_SESSION_S,
    Child,
    SessionTimes,
    Signals,
    Times,
    hearing,
    seconds,
)
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.znodes import when
from coati.client.types import join_path
from coati.errors import NoNode
from coati.recipes.client import Client
from coati.recipes.queue import Item
from coati.recipes.queuelayout import PRIORITY, SHAPES, QueueLayout


class _NotDone(Exception):
    """The command did not do the item's work: it goes back. `code` is what it ended with."""

    def __init__(self, code: int) -> None:
        self.code = code


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", choices=("put", "take", "ls"))
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("data", metavar="DATA", nargs="*", help="put: each an item; - is stdin, @FILE a file")
    parser.add_argument("--layout", choices=get_args(QueueLayout), default="native", help="whose queue it is")
    parser.add_argument("--lock-path", metavar="PATH", help="of a Curator queue, if its consumers have one")
    parser.add_argument("--lines", action="store_true", help="put: each line of stdin is an item")
    parser.add_argument("--priority", type=int, default=PRIORITY, metavar="N", help="put: less goes first; %(default)d")
    parser.add_argument("--delay", type=seconds, metavar="S", help="put: nobody gets it before")
    parser.add_argument("--id", metavar="TEXT", help="put: of an item of Curator's id queue")
    parser.add_argument("-n", "--count", type=int, default=1, metavar="N", help="take: so many; 0 is all that come")
    parser.add_argument("--wait", type=seconds, metavar="S", help="take: so long for each; then exit code 9")
    parser.add_argument("--grace", type=seconds, metavar="S", help="take: between SIGTERM and SIGKILL of the command")
    parser.add_argument("--session", type=seconds, default=DEFAULT_SESSION_S, metavar="S", help="take: session timeout")
    parser.add_argument("-l", "--long", action="store_true", help="ls: with size, priority, and who is taken")
    parser.set_defaults(child=[])


async def _queue(call: OnlineCall) -> int | None:
    options = call.options
    if options.data and options.verb != "put":
        raise CommandError(f"{options.verb} takes no data: a command stands after --", USAGE)
    if options.verb == "put":
        await _put(call)
    elif options.verb == "take":
        return await hearing(lambda signals: _take(call, signals))
    else:
        await _ls(call)
    return None


async def _put(call: OnlineCall) -> None:
    options = call.options
    items = [call.given(text) for text in options.data]
    if options.lines:
        items += call.streams.stdin.read().splitlines()
    elif not items:
        items.append(call.given("-"))
    async with call.connect() as zk:
        try:
            queue = zk.queue(call.path(options.path), layout=options.layout)
            with call.out.table("name", header=False) as table:
                for data in items:
                    name = await queue.put(data, priority=options.priority, delay=options.delay, id=options.id)
                    table.row(name)
        except ValueError as error:
            # What the layout does not have.
            raise CommandError(str(error), USAGE) from None


async def _take(call: OnlineCall, signals: Signals) -> int | None:
    options = call.options
    code: int | None = None
    async with call.connect(session_timeout=options.session, on_expired="renew") as zk:
        queue = zk.queue(
            call.path(options.path), layout=options.layout,
            lock_path=options.lock_path and call.path(options.lock_path),
        )  # fmt: skip
        taken = 0
        while not options.count or taken < options.count:
            try:
                item = await queue.get(options.wait)
            except TimeoutError:
                raise CommandError(f"no item within {options.wait:g} s", CHECK_FAILED) from None
            taken += 1
            if options.child:
                code = await _work(call, zk, item, signals)
                if code:
                    return code
            else:
                async with item:
                    # Who has printed it has done it: only then it is deleted.
                    _print(call, item)
                    call.out.flush()
    return code


def _print(call: OnlineCall, item: Item) -> None:
    out = call.out
    if out.is_structured and call.options.count != 1:
        out.stream({"name": item.name, "attempts": item.attempts, "data": item.data})
        return
    out.data(item.data, name=item.name, attempts=item.attempts)
    if call.options.count != 1 and not out.is_terminal:
        out.write(b"\n")


async def _work(call: OnlineCall, zk: Client, item: Item, signals: Signals) -> int:
    """Runs the command on one item; what it did not end well with goes back. Raises LockLost."""
    holds = item.is_held
    times = SessionTimes(zk, call.options.grace) if holds else Times()
    environ = {**call.environ, "ZK_ITEM": item.name, "ZK_ATTEMPTS": str(item.attempts)}
    try:
        with tempfile.TemporaryFile() as file:
            file.write(item.data)
            file.seek(0)
            # A loss cancels the block, and so the child.
            async with item:
                code = await Child(None, times, file).run(call.options.child, environ, signals)
                if code:
                    raise _NotDone(code)
    except _NotDone as error:
        call.note(f"{item.name} goes back: the command ended with {error.code}")
        return error.code
    return 0


async def _ls(call: OnlineCall) -> None:
    options = call.options
    shape = SHAPES[options.layout]
    root = call.path(options.path)
    entries = root + shape.entries
    taken_in = call.path(options.lock_path) if options.lock_path else root + shape.taken if shape.taken else None
    async with call.connect() as zk:
        names = shape.in_order(await _names(zk, entries))
        if not options.long:
            with call.out.table("name", header=False) as table:
                for name, _ in names:
                    table.row(name)
            return
        taken = set(await _names(zk, taken_in)) if taken_in else set()
        with call.out.table("name", "taken", "priority", "bytes", "attempts", "created") as table:
            for name, ticket in names:
                stat = await zk.exists(join_path(entries, name))
                if stat is not None:
                    created = when(stat.ctime)
                    table.row(name, name in taken, ticket.priority, stat.data_length, stat.version, created)


async def _names(zk: Client, path: str) -> list[str]:
    try:
        return await zk.children(path)
    except NoNode:
        # Nobody has put anything there yet.
        return []


QUEUE: Final = OnlineCommand(
    "queue", _flags, _queue,
    "  coati queue put /jobs 'resize 17.png'\n"
    "  coati queue put /jobs --lines --priority 50 < jobs.txt\n"
    "  coati queue take /jobs --wait 10                 # printed, and gone\n"
    "  coati queue take /jobs -n 0 -- ./work            # on stdin; exit code 0 deletes it, else it goes back\n"
    "  coati queue ls -l /jobs",
)  # fmt: skip
