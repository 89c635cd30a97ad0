"""members, counter, barrier: who is there, a number that many add to, and waiting for each other."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping
from typing import Final, get_args

from coati.cli.exits import CHECK_FAILED, CONFLICT, USAGE, CommandError
from coati.cli.held import Child, Signals, Times, hearing, seconds
from coati.cli.online import OnlineCall, OnlineCommand
from coati.errors import MarshallingError
from coati.recipes.client import Client
from coati.recipes.counter import CounterLayout
from coati.recipes.group import GroupLayout

# --- members --------------------------------------------------------------------------------------


def _members_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--join", metavar="NAME", help="be one, while the command after -- runs, or until interrupted")
    parser.add_argument("--data", default="", metavar="DATA", help="what others read of the one who joins; - is stdin")
    parser.add_argument("--follow", action="store_true", help="say who comes and goes, until interrupted")
    parser.add_argument("--layout", choices=get_args(GroupLayout), default="native", help="whose group it is")
    parser.set_defaults(child=[])


async def _members(call: OnlineCall) -> int | None:
    options = call.options
    if options.child and options.join is None:
        raise CommandError("a command runs while a member is there: see --join", USAGE)
    if options.join is not None:
        return await hearing(lambda signals: _join(call, signals))
    async with call.connect(on_expired="renew") as zk:
        group = zk.group(call.path(options.path), layout=options.layout)
        if options.follow:
            before: dict[str, bytes] = {}
            async for now in group.members():
                _tell_changes(call, before, now)
                before = now
        with call.out.table("name", "data") as table:
            for name, data in sorted((await group.current()).items()):
                table.row(name, data)
    return None


def _tell_changes(call: OnlineCall, before: Mapping[str, bytes], now: Mapping[str, bytes]) -> None:
    for name in sorted(before.keys() - now.keys()):
        call.out.stream({"event": "left", "name": name, "data": before[name]})
    for name in sorted(now):
        if before.get(name) != now[name]:
            event = "changed" if name in before else "joined"
            call.out.stream({"event": event, "name": name, "data": now[name]})


async def _join(call: OnlineCall, signals: Signals) -> int:
    options = call.options
    data = call.given(options.data)
    async with call.connect(on_expired="renew") as zk:
        group = zk.group(call.path(options.path), layout=options.layout)
        async with group.join(data, options.join) as membership:
            call.note(f"{membership.path} is there")
            if options.child:
                environ = {**call.environ, "ZK_MEMBER": membership.path}
                # The member comes back in a new session, so there is nothing to lose that would end the child.
                return await Child(None, Times()).run(options.child, environ, signals)
            asked = asyncio.Event()
            signals.pass_on = lambda number: asked.set()
            # That it is asked to go is how this ends.
            await asked.wait()
    return 0


# --- counter --------------------------------------------------------------------------------------


def _counter_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("change", metavar="+N|-N|=N", nargs="?", help="add, subtract or set; without it only read")
    parser.add_argument("--layout", choices=get_args(CounterLayout), default="native", help="whose counter it is")


async def _counter(call: OnlineCall) -> None:
    options = call.options
    change = options.change or ""
    sign, digits = change[:1], change[1:]
    if change and (sign not in "+-=" or not digits.removeprefix("-" if sign == "=" else "").isdecimal()):
        raise CommandError(f"a change is +N, -N or =N, not {change!r}", USAGE)
    async with call.connect() as zk:
        counter = zk.counter(call.path(options.path), layout=options.layout)
        try:
            if not change:
                value = await counter.get()
            elif sign == "=":
                value = int(digits)
                await counter.set(value)
            else:
                value = await counter.add(int(change))
        except OverflowError as error:
            raise CommandError(str(error), CONFLICT) from None
        except (MarshallingError, ValueError) as error:
            raise CommandError(f"{call.path(options.path)} is no counter: {error}", CONFLICT) from None
    if call.out.is_structured:
        call.out.record({"path": call.path(options.path), "value": value})
    else:
        call.out.text(str(value))


# --- barrier --------------------------------------------------------------------------------------


def _barrier_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", choices=("wait", "open", "close"))
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--wait", type=seconds, metavar="S", help="wait: so long; then exit code 9")
    parser.add_argument("--count", type=int, metavar="N", help="wait: until so many wait; they also leave together")
    parser.add_argument("--id", default="", metavar="TEXT", help="what others see of who waits with --count")
    parser.set_defaults(child=[])


async def _barrier(call: OnlineCall) -> int | None:
    options = call.options
    if options.verb != "wait" and (options.count is not None or options.child):
        raise CommandError("only who waits is counted, or has a command", USAGE)
    if options.count is not None and options.count < 1:
        raise CommandError("a barrier waits for one at least", USAGE)
    if options.verb == "wait":
        return await hearing(lambda signals: _wait(call, signals))
    async with call.connect() as zk:
        barrier = zk.barrier(call.path(options.path))
        is_open = options.verb == "open"
        if not await (barrier.remove() if is_open else barrier.create()):
            call.note("it was open already" if is_open else "it was closed already")
    return None


async def _wait(call: OnlineCall, signals: Signals) -> int | None:
    options = call.options
    async with call.connect(on_expired="renew") as zk:
        try:
            if options.count is not None:
                return await _meet(call, zk, signals)
            await zk.barrier(call.path(options.path)).wait(options.wait)
        except TimeoutError:
            raise CommandError(f"not within {options.wait:g} s", CHECK_FAILED) from None
        return await _run(call, signals)


async def _meet(call: OnlineCall, zk: Client, signals: Signals) -> int | None:
    options = call.options
    double = zk.double_barrier(call.path(options.path), options.count, id=os.fsencode(options.id))
    await double.enter(options.wait)
    try:
        return await _run(call, signals)
    finally:
        await double.leave()


async def _run(call: OnlineCall, signals: Signals) -> int | None:
    if not call.options.child:
        return None
    return await Child(None, Times()).run(call.options.child, call.environ, signals)


MEMBERS: Final = OnlineCommand(
    "members", _members_flags, _members,
    "  coati members /web\n"
    "  coati members /web --join $(hostname) --data 10.0.0.7:80 -- ./server\n"
    "  coati -o jsonl members /web --follow",
)  # fmt: skip
COUNTER: Final = OnlineCommand(
    "counter",
    _counter_flags,
    _counter,
    "  coati counter /visits\n  coati counter /visits +1\n  coati counter /left =100",
)
BARRIER: Final = OnlineCommand(
    "barrier", _barrier_flags, _barrier,
    "  coati barrier close /maintenance; ./migrate; coati barrier open /maintenance\n"
    "  coati barrier wait /maintenance -- ./job\n"
    "  coati barrier wait /start --count 3 -- ./phase-one     # three of these begin together, and end together",
)  # fmt: skip
