"""Who is behind a znode: who, sessions, watches, events.

Watches and connections are each server's own, so all members are asked; sessions and ephemerals are the same on all.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from coati.admin.ask import why
from coati.admin.words import Connection, Dump, SessionInfo, WordRefused, parse_cons, parse_dump, parse_wchc, parse_wchp
from coati.cli.exits import NO_CONNECTION, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import Cell
from coati.cli.reach import Reach, from_all, members_of, must_answer, reach_of, session_text
from coati.cli.znodes import when
from coati.client.hosts import Host
from coati.client.types import Event, EventType, Node, State, StateChange, join_path
from coati.errors import NoAuth, NoNode
from coati.recipes.client import Client

# A contender's name ends in the number that the server gave it.
_NUMBERED: Final = re.compile(r"\d{10}$")


def _who_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path")


async def _who(call: OnlineCall) -> None:
    reach = reach_of(call)
    path = call.path(call.options.path)
    async with call.connect() as zk:
        node = await zk.get(path)
        contenders, unread = await _contenders(zk, path)
    if unread:
        call.note(f"left out, as they may not be read: {', '.join(unread)}")
    hosts = await members_of(call, reach)
    connections, unheard = await _connections(hosts, reach)
    watches, silent = await _watches(hosts, reach, "wchp")
    _note_refusals(call, [*silent, *unheard], "watchers and addresses may be missing")
    with call.out.table("what", "session", "address", "server", "path", "since", "data") as table:
        if owner := node.stat.ephemeral_owner:
            table.row("owner", *_session_cells(owner, connections), path, _since(node), node.data)
        for place, one in enumerate(contenders):
            what = "holder" if not place else f"waits {place}"
            cells = _session_cells(one.stat.ephemeral_owner, connections)
            table.row(what, *cells, one.path, _since(one), one.data)
        for host, watched in watches:
            for session in watched.get(reach.absolute(path), []):
                address = connections.get(session, (None, None))[0]
                at = None if address is None else address.address
                table.row("watcher", session_text(session), at, str(host), path, None, None)
    if not table.count:
        call.note("nobody watches it, owns it, or waits at it")


def _since(node: Node) -> str:
    return when(node.stat.ctime)


async def _contenders(zk: Client, path: str) -> tuple[list[Node], list[str]]:
    """The ephemerals with a number below a znode, the oldest first: locks, elections, queues for anything.

    They are numbered as they are created, and zxids never begin again, as numbers do. And the names of those of which
    not even that can be read.
    """
    names = [name for name in await zk.children(path) if _NUMBERED.search(name)]
    nodes = await asyncio.gather(*(_read(zk, join_path(path, name)) for name in names))
    present = [node for node in nodes if isinstance(node, Node) and node.stat.ephemeral_owner]
    unread = [name for name, node in zip(names, nodes, strict=True) if isinstance(node, NoAuth)]
    return sorted(present, key=lambda node: node.stat.czxid), sorted(unread)


async def _read(zk: Client, path: str) -> Node | NoAuth | None:
    """None if it is gone; without its data if that may not be read. Newer servers do not show its Stat either."""
    try:
        return await zk.get(path)
    except NoNode:
        return None
    except NoAuth:
        try:
            stat = await zk.exists(path)
        except NoAuth as error:
            return error
        return None if stat is None else Node(path, b"", stat)


Connections = Mapping[int, tuple[Connection, Host]]


def _session_cells(session: int, connections: Mapping[int, tuple[Connection | None, Host | None]]) -> tuple[Cell, ...]:
    """Its id, its client's address and the server it is at."""
    connection, host = connections.get(session, (None, None))
    return (
        session_text(session),
        None if connection is None else connection.address,
        None if host is None else str(host),
    )


async def _connections(hosts: Sequence[Host], reach: Reach) -> tuple[Any, list[tuple[Host, Exception]]]:
    """The connection of each session, and the server that has it."""
    good, bad = await from_all(hosts, "cons", parse_cons, reach)
    return {one.session_id: (one, host) for host, said in good for one in said if one.session_id}, bad


async def _watches(
    hosts: Sequence[Host], reach: Reach, first: str
) -> tuple[list[tuple[Host, dict[str, list[int]]]], list[tuple[Host, Exception]]]:
    """The sessions that watch each path, by server; wchp and wchc say the same, and either will do."""
    found: list[tuple[Host, dict[str, list[int]]]] = []
    silent: list[tuple[Host, Exception]] = []
    left = list(hosts)
    for word in (first, "wchc" if first == "wchp" else "wchp"):
        if word == "wchp":
            good, bad = await from_all(left, word, parse_wchp, reach)
        else:
            grouped, bad = await from_all(left, word, parse_wchc, reach)
            good = [(host, _by_path(said)) for host, said in grouped]
        found += good
        refused = [host for host, error in bad if isinstance(error, WordRefused)]
        # Of two refusals the first is told: that word is the one to allow.
        silent = [(host, error) for host, error in silent if host not in dict(good)]
        silent += [(host, error) for host, error in bad if host not in dict(silent)]
        left = refused
    return found, silent


def _by_path(watched: Mapping[int, Sequence[str]]) -> dict[str, list[int]]:
    turned: dict[str, list[int]] = {}
    for session, paths in watched.items():
        for path in paths:
            turned.setdefault(path, []).append(session)
    return turned


def _note_refusals(call: OnlineCall, bad: Sequence[tuple[Host, Exception]], what: str) -> None:
    for host, error in bad:
        call.note(f"{host}: {why(error)}; {what}")


WHO: Final = OnlineCommand("who", _who_flags, _who, "  coati who /locks/nightly\n  coati who -o json /services/a")


def _sessions_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--path", metavar="P", help="those with ephemerals at or below P; shows which")


async def _sessions(call: OnlineCall) -> None:
    reach = reach_of(call)
    hosts = await members_of(call, reach)
    connections, unheard = await _connections(hosts, reach)
    good, bad = await from_all(hosts, "dump", parse_dump, reach)
    if call.options.path is not None or not connections:
        must_answer(call, good, bad)
    else:
        _note_refusals(call, bad, "sessions without a connection and ephemerals may be missing")
    _note_refusals(call, unheard, "addresses may be missing")
    dump = _merged([said for _, said in good])
    if call.options.path is not None:
        _rows_below(call, reach, dump, connections)
        return
    known = {**{session: SessionInfo(session) for session in connections}, **dump.sessions}
    with call.out.table("session", "timeout_ms", "address", "server", "ephemerals", "expires") as table:
        for session, info in sorted(known.items()):
            name, address, server = _session_cells(session, connections)
            count = len(dump.ephemerals.get(session, ())) if good else None
            table.row(name, _timeout_ms(info, connections), address, server, count, info.expires or None)


def _rows_below(call: OnlineCall, reach: Reach, dump: Dump, connections: Any) -> None:
    top = reach.absolute(call.path(call.options.path))
    below = "/" if top == "/" else f"{top}/"
    with call.out.table("session", "timeout_ms", "address", "server", "path") as table:
        for session, paths in sorted(dump.ephemerals.items()):
            for path in sorted(paths):
                if path == top or path.startswith(below):
                    name, address, server = _session_cells(session, connections)
                    info = dump.sessions.get(session, SessionInfo(session))
                    table.row(name, _timeout_ms(info, connections), address, server, reach.shown(path))


def _timeout_ms(info: SessionInfo, connections: Any) -> int | None:
    if info.id in connections:
        return int(connections[info.id][0].timeout_ms)
    return info.timeout_ms or None


def _merged(dumps: Sequence[Dump]) -> Dump:
    """One dump of several: a leader knows when a session expires, the others how long its timeout is."""
    merged = Dump()
    for dump in dumps:
        merged.ephemerals.update(dump.ephemerals)
        for session, info in dump.sessions.items():
            known = merged.sessions.setdefault(session, SessionInfo(session))
            known.timeout_ms = known.timeout_ms or info.timeout_ms
            known.expires = known.expires or info.expires
    return merged


SESSIONS: Final = OnlineCommand(
    "sessions", _sessions_flags, _sessions, "  coati sessions\n  coati sessions --path /services"
)


def _watches_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", choices=("path", "session"), default="path", help="order, default: %(default)s")
    parser.add_argument("--path", metavar="P", help="only those at or below P")


async def _list_watches(call: OnlineCall) -> None:
    reach = reach_of(call)
    hosts = await members_of(call, reach)
    by_path = call.options.by == "path"
    good, bad = await _watches(hosts, reach, "wchp" if by_path else "wchc")
    must_answer(call, good, bad)
    top = reach.absolute(call.path(call.options.path or "/"))
    below = top.rstrip("/") + "/"
    rows = [
        (path, session, host)
        for host, watched in good
        for path, sessions in watched.items()
        if path == top or path.startswith(below)
        for session in sessions
    ]
    rows.sort(key=lambda row: (row[0], row[1]) if by_path else (row[1], row[0]))
    columns = ("path", "session", "server") if by_path else ("session", "path", "server")
    with call.out.table(*columns) as table:
        for path, session, host in rows:
            shown, name = reach.shown(path), session_text(session)
            table.row(*((shown, name) if by_path else (name, shown)), str(host))


WATCHES: Final = OnlineCommand(
    "watches", _watches_flags, _list_watches, "  coati watches\n  coati watches --by session --path /conf"
)


def _events_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", default="/")
    parser.add_argument("--follow", action="store_true", help="for scripts that say so; it always does")
    parser.add_argument("-n", type=int, default=0, metavar="N", help="end after N changes of znodes")


async def _events(call: OnlineCall) -> int | None:
    if call.options.n < 0:
        raise CommandError("-n is not negative", USAGE)
    path = call.path(call.options.path)
    left = call.options.n or -1
    async with call.connect() as zk:
        if await zk.exists(path) is None:
            call.note(f"{path} is not there yet; it is watched all the same")
        async with zk.watch(path, recursive=True) as watch, aclosing(_both(watch, zk.states())) as stream:
            async for one in stream:
                if isinstance(one, StateChange):
                    _show_state(call, one)
                    if one.state in (State.EXPIRED, State.AUTH_FAILED, State.CLOSED):
                        return NO_CONNECTION
                    continue
                kind = "resync" if one.type is EventType.RESYNC else one.type.name.lower()
                shown = {"event": kind, "path": one.path, "zxid": one.zxid if one.zxid >= 0 else None}
                call.out.stream(shown, f"{kind:<10} {one.path}")
                left -= kind != "resync"
                if not left:
                    break
    return None


def _show_state(call: OnlineCall, change: StateChange) -> None:
    record: dict[str, Cell] = {
        "event": "session",
        "state": change.state.value,
        "server": change.server or None,
        "reason": change.reason or None,
    }
    call.out.stream(record, f"session    {change.state.value} {change.server} {change.reason}".rstrip())


async def _both(
    watch: AsyncIterator[Event], states: AsyncIterator[StateChange]
) -> AsyncGenerator[Event | StateChange, None]:
    """Changes of the session and of znodes as they come."""
    sources: tuple[AsyncIterator[Any], ...] = (states, watch)
    waiting: dict[asyncio.Future[Any], AsyncIterator[Any]] = {}
    try:
        for source in sources:
            waiting[asyncio.ensure_future(anext(source))] = source
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda one: waiting[one] is watch):
                source = waiting.pop(task)
                if not isinstance(task.exception(), StopAsyncIteration):
                    yield task.result()
                    waiting[asyncio.ensure_future(anext(source))] = source
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


EVENTS: Final = OnlineCommand(
    "events", _events_flags, _events, "  coati events --follow /services\n  coati events -o jsonl /conf | jq -c ."
)
