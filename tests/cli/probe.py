"""Commands for tests: one of a process of its own, and some for the shell."""

from __future__ import annotations

import argparse
import asyncio

from coati.cli.command import Call, Command
from coati.cli.online import OnlineCall, OnlineCommand


def main(argv: list[str]) -> int:
    return 42 if argv == ["1", "two"] else 1


def _path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", default=".")
    parser.add_argument("--once", action="store_true")


async def _events(call: OnlineCall) -> None:
    async with call.connect() as zk, zk.watch(call.path(call.options.path)) as events:
        call.note("watching")
        async for event in events:
            call.out.stream({"type": event.type.name, "path": event.path})
            if call.options.once:
                return


async def _fails(call: OnlineCall) -> None:
    raise ZeroDivisionError("of ours")


async def _hangs(call: OnlineCall) -> None:
    call.out.text("hanging")
    call.out.flush()
    await asyncio.Event().wait()


def _plain(call: Call) -> int:
    async def own_loop() -> int:
        return 7

    call.out.text(f"{call.cwd} plain")
    return asyncio.run(own_loop())


def _is_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", default="/")
    parser.add_argument("--timeout", type=float, default=3.5)


async def _lists(call: OnlineCall) -> None:
    async with call.connect() as zk:
        names = await zk.children(call.path(call.options.path))
    call.out.text(f"{' '.join(names)} {call.options.timeout} {call.target().timeout}")


EVENTS = OnlineCommand("events", _path, _events)
FAILS = OnlineCommand("fails", lambda parser: None, _fails)
HANGS = OnlineCommand("hangs", lambda parser: None, _hangs)
PLAIN = Command("plain", lambda parser: None, _plain)
LIST = OnlineCommand("ls", _is_list, _lists)
