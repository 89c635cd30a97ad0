"""Waiting for changes: watch, wait."""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

from coati.cli.arguments import duration
from coati.cli.command import Call
from coati.cli.exits import CHECK_FAILED, DONE, LOST, SIGNAL, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import Cell
from coati.client.streams import Stream
from coati.client.types import Event, EventType, Node
from coati.errors import NoNode
from coati.recipes.client import Client

_HAS_DATA: Final = (EventType.CREATED, EventType.CHANGED)


def _watch_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="a znode, there or not")
    parser.add_argument("-R", "--recursive", action="store_true", help="and all below it")
    parser.add_argument("--data", action="store_true", help="show the data, as they are when the event is read")
    parser.add_argument("--once", action="store_true", help="end after the first event")
    parser.add_argument(
        "--for", dest="seconds", type=duration, metavar="S", help="end after so many seconds, or 5m, 2h"
    )
    parser.set_defaults(child=[])


async def _watch(call: OnlineCall) -> int | None:
    options = call.options
    path = call.path(options.path)
    async with call.connect() as zk, zk.watch(path, recursive=options.recursive) as events:
        call.note(f"watching {path}")
        limit = asyncio.timeout(options.seconds)
        try:
            async with limit:
                return await _follow(call, zk, events)
        except TimeoutError:
            if not limit.expired():
                # Of a request.
                raise
            return CHECK_FAILED if options.once else DONE


async def _follow(call: OnlineCall, zk: Client, events: AsyncIterator[Event]) -> int:
    options = call.options
    async for event in events:
        if zk.is_closed:
            break
        data = await _data_of(zk, event) if options.data else None
        if options.child:
            code = await _run(call, options.child, event, data)
            if code or options.once:
                return code
        else:
            _show(call, event, data)
        if options.once:
            return DONE
    raise CommandError("the session is over, and events may be missing", LOST)


async def _data_of(zk: Client, event: Event) -> bytes | None:
    """None where there is nothing to read."""
    if event.type not in _HAS_DATA:
        return None
    try:
        return (await zk.get(event.path)).data
    except NoNode:
        return None


def _name(event: Event) -> str:
    return event.type.name.lower()


def _show(call: Call, event: Event, data: bytes | None) -> None:
    record: dict[str, Cell] = {"event": _name(event), "path": event.path}
    if call.out.is_structured:
        record["zxid"] = event.zxid
    if data is not None:
        record["data"] = data
    call.out.stream(record)


async def _run(call: OnlineCall, child: Sequence[str], event: Event, data: bytes | None) -> int:
    """Runs a command on an event, to its end; its exit code. Raises CommandError."""
    environ = call.environ | {"ZK_EVENT": _name(event), "ZK_PATH": event.path, "ZK_ZXID": str(event.zxid)}
    call.out.flush()
    try:
        stdout = call.streams.stdout.fileno()
    except io.UnsupportedOperation:
        # In the shell, or in a test.
        stdout = subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *child, env=environ, stdout=stdout, stdin=subprocess.DEVNULL if data is None else subprocess.PIPE
        )
    except OSError as error:
        raise CommandError(f"{child[0]} cannot be run: {error.strerror}", USAGE) from None
    try:
        said, _ = await process.communicate(data)
    except BaseException:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        raise
    if said:
        call.out.write(said)
    assert process.returncode is not None
    return process.returncode if process.returncode >= 0 else SIGNAL - process.returncode


WATCH = OnlineCommand(
    "watch", _watch_flags, _watch,
    "  coati watch /conf -R\n  coati -o jsonl watch /conf/app --data\n  coati watch /flag --once --for 30s\n"
    "  coati watch /conf -R --data -- sh -c 'echo $ZK_EVENT $ZK_PATH; cat'",
)  # fmt: skip


def _wait_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="a znode, there or not")
    until = parser.add_mutually_exclusive_group(required=True)
    until.add_argument("--exists", action="store_true", help="until it is there")
    until.add_argument("--gone", action="store_true", help="until it is not there")
    until.add_argument("--value", metavar="V", help="until its data are this: text, - for stdin, @file")
    until.add_argument("--children", type=int, metavar="N", help="until it has N children or more; 0: none at all")
    parser.add_argument("--for", dest="seconds", type=duration, metavar="S", help="at most S seconds, or 5m, 2h")


async def _wait(call: OnlineCall) -> int | None:
    options = call.options
    path = call.path(options.path)
    value = call.given(options.value) if options.value is not None else b""

    def holds(node: Node | None) -> bool:
        if options.value is not None:
            return node is not None and node.data == value
        return (node is None) is bool(options.gone)

    def are_enough(names: frozenset[str]) -> bool:
        wanted: int = options.children
        return len(names) >= wanted if wanted else not names

    async with call.connect() as zk:
        limit = asyncio.timeout(options.seconds)
        try:
            async with limit:
                if options.children is not None:
                    return await _until(zk.members(path), are_enough)
                return await _until(zk.values(path), holds)
        except TimeoutError:
            if not limit.expired():
                raise
            call.note(f"{path} is not yet what is waited for")
            return CHECK_FAILED


T = TypeVar("T")


async def _until(stream: Stream[T], test: Callable[[T], bool]) -> int:
    """Until what is now is what is waited for. A level and not an edge: nothing is missed in between."""
    async with stream:
        async for now in stream:
            if test(now):
                return DONE
    raise CommandError("the session is over", LOST)


WAIT = OnlineCommand(
    "wait", _wait_flags, _wait,
    "  coati wait /app/ready --exists --for 30s\n  coati wait /lock --gone\n  coati wait /state --value running\n"
    "  coati wait /workers --children 3 && echo enough",
)  # fmt: skip
