"""config show, add, remove, set: who is in the ensemble, and reconfig.

What would change is shown first, and the version it was read with is sent along: nobody else's change is undone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from coati.cli.exits import MISSING, REFUSED, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.client.client import BaseClient
from coati.client.types import EnsembleConfig
from coati.errors import NewConfigNoQuorum, NoAuth, NoNode, ReconfigDisabled, Unimplemented

ROLES: Final = ("participant", "observer")


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("show", "add", "remove", "set"), help="set takes the whole list from a file")
    parser.add_argument(
        "what", metavar="WHAT", nargs="*", help="add: server.4=host:2888:3888;2181; remove: 4; set: FILE or -"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


async def _config(call: OnlineCall) -> None:
    options = call.options
    if (options.action == "show") != (not options.what) or (options.action == "set" and len(options.what) != 1):
        raise CommandError("config show has no more words; add, remove and set say what", USAGE)
    async with call.connect() as zk:
        try:
            now = await zk.config()
        except NoNode:
            raise CommandError("this server has no /zookeeper/config: it is older than 3.5", MISSING) from None
        if options.action == "show":
            _show(call, now)
        else:
            await _change(call, zk, now)


def _show(call: OnlineCall, config: EnsembleConfig) -> None:
    with call.out.table("sid", "role", "servers", "client", "version") as table:
        for sid, text in config.servers:
            servers, role, client = parts_of(text)
            table.row(sid, role, servers, client, f"{config.version:x}")
    if not config.servers:
        call.note("a server alone, or one whose members are only in its zoo.cfg")


def parts_of(text: str) -> tuple[str, str, str]:
    """Of `h:2888:3888:observer;h:2181` the addresses between servers, the role, and the address for clients."""
    servers, _, client = text.partition(";")
    for role in ROLES:
        if servers.endswith(f":{role}"):
            return servers.removesuffix(f":{role}"), role, client
    return servers, ROLES[0], client


async def _change(call: OnlineCall, zk: BaseClient, now: EnsembleConfig) -> None:
    options = call.options
    join: Sequence[str] = ()
    leave: Sequence[str] = ()
    members: Sequence[str] | None = None
    if options.action == "add":
        join = [_line(text) for text in options.what]
    elif options.action == "remove":
        leave = [_present(text, now) for text in options.what]
    else:
        name = options.what[0]
        given = call.given(name if name == "-" else f"@{name}").decode("utf-8", "replace").splitlines()
        members = [_line(line) for line in map(str.strip, given) if line and not line.startswith(("#", "version="))]
        if not members:
            raise CommandError(f"{name} has no line server.N=...", USAGE)
    call.confirm(_preview(now, join, leave, members), "Change the ensemble so?")
    try:
        done = await zk.reconfig(join=join, leave=leave, members=members, from_version=now.version)
    except (ReconfigDisabled, Unimplemented, NoAuth, NewConfigNoQuorum) as error:
        raise CommandError(f"{error}: {_ADVICE[type(error)]}", REFUSED) from None
    _show(call, done)


_ADVICE: Final = {
    ReconfigDisabled: "all servers need reconfigEnabled=true in zoo.cfg",
    Unimplemented: "a server alone has no members to change",
    NoAuth: "log in as the super user, or as whom the ACL of /zookeeper/config names, by --auth",
    NewConfigNoQuorum: "more than half of the new voters must run and follow before; start new ones as observers first",
}


def _line(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not equals or not key.startswith("server.") or not key[7:].isdigit():
        raise CommandError(f"{text!r} is no line as server.4=host:2888:3888:participant;2181", USAGE)
    return text


def _present(text: str, now: EnsembleConfig) -> str:
    if not text.isdigit() or int(text) not in dict(now.servers):
        there = ", ".join(str(sid) for sid, _ in now.servers) or "none"
        raise CommandError(f"there is no server {text!r}; there are {there}", USAGE)
    return text


def _preview(
    now: EnsembleConfig, join: Sequence[str], leave: Sequence[str], members: Sequence[str] | None
) -> list[str]:
    """Lines that go and come, as a diff."""
    before = {f"server.{sid}": text for sid, text in now.servers}
    lines = dict(line.partition("=")[::2] for line in (members if members is not None else join))
    after = lines if members is not None else {**before, **lines}
    for sid in leave:
        after.pop(f"server.{sid}", None)
    shown = []
    for key in sorted({*before, *after}, key=lambda key: int(key[7:])):
        old, new = before.get(key), after.get(key)
        if old != new:
            shown += [f"- {key}={old}"] if old is not None else []
            shown += [f"+ {key}={new}"] if new is not None else []
    return shown


CONFIG = OnlineCommand(
    "config", _flags, _config,
    "  coati config show\n  coati config add 'server.4=zk4:2888:3888:observer;2181'\n  coati config remove 3 --yes\n"
    "  coati config set members.txt",
)  # fmt: skip
