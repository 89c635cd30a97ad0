"""What servers say of themselves: status, metrics, 4lw, latency."""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Final

from coati.admin.ask import answer, why
from coati.admin.ensemble import Report, lag_of, leader_of, survey
from coati.admin.words import parse_mntr
from coati.cli.exits import CHECK_FAILED, NO_CONNECTION, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import Cell
from coati.cli.reach import Reach, from_all, members_of, must_answer, reach_of
from coati.client.hosts import Host
from coati.errors import ZKError

STATUS_COLUMNS: Final = (
    "server", "role", "zxid", "lag", "epoch", "connections", "latency_avg", "latency_max", "outstanding", "znodes",
    "version", "note",
)  # fmt: skip
# They wait for eight more bytes, or are no word at all.
NO_WORDS: Final = ("stmk",)


def _no_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only-named", action="store_true", help="do not look for the other members of the ensemble")


async def _status(call: OnlineCall) -> int:
    reach = reach_of(call)
    reports = await survey(reach.hosts, timeout_s=reach.timeout_s, tls=reach.tls)
    # A server alone has no other members, and where nobody serves there is no session to ask for them.
    wants_more = not call.options.only_named and any(_is_member(report) for report in reports)
    hosts = await members_of(call, reach, is_ensemble=wants_more)
    known = {report.host: report for report in reports}
    new = [host for host in hosts if host not in known]
    known |= {report.host: report for report in await survey(new, timeout_s=reach.timeout_s, tls=reach.tls)}
    reports = [known[host] for host in hosts]
    leader = leader_of(reports)
    with call.out.table(*STATUS_COLUMNS) as table:
        for report in reports:
            table.row(*status_row(report, leader))
    down = [str(report.host) for report in reports if not report.is_serving]
    if down:
        call.note(f"not serving: {', '.join(down)}")
    if leader is None:
        call.note("no leader answers: there is no quorum, or its leader is not among the servers asked")
    return CHECK_FAILED if down or leader is None else 0


def _is_member(report: Report) -> bool:
    return report.is_serving and report.info is not None and report.info.mode != "standalone"


def status_row(report: Report, leader: Report | None) -> tuple[Cell, ...]:
    """The cells of a server; one that is silent has a role `down` and a note that says why."""
    info = report.info
    if info is None:
        return (str(report.host), "down", *(None,) * 9, report.error)
    note = "read-only: it has lost its quorum" if info.is_read_only else report.error
    return (
        str(report.host), info.mode, f"0x{info.zxid:x}", lag_of(report, leader), info.epoch, info.connections,
        info.latency_avg_ms, info.latency_max_ms, info.outstanding, info.node_count, info.release, note,
    )  # fmt: skip


STATUS: Final = OnlineCommand(
    "status", _no_flags, _status,
    "  coati status -s h1,h2,h3\n  coati status -o json | jq '.[] | select(.lag > 100)'",
)  # fmt: skip


def _metrics_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grep", metavar="RE", type=_pattern, help="names that the expression is found in")


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


async def _metrics(call: OnlineCall) -> None:
    reach = reach_of(call)
    good, bad = await from_all(reach.hosts, "mntr", parse_mntr, reach)
    must_answer(call, good, bad)
    pattern = call.options.grep
    with call.out.table("server", "metric", "value") as table:
        for host, values in good:
            for name, value in values.items():
                if pattern is None or pattern.search(name):
                    table.row(str(host), name, _number(value))


def _number(text: str) -> Cell:
    """A number where it is one, so that json has numbers."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


METRICS: Final = OnlineCommand(
    "metrics", _metrics_flags, _metrics, "  coati metrics --grep 'latency|outstanding'\n  coati metrics -o json"
)


def _word_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("word", metavar="WORD", help="srvr, stat, mntr, cons, dump, conf, envi, wchs, wchp, wchc, ...")


async def _word(call: OnlineCall) -> None:
    word = call.options.word
    if len(word) != 4 or not word.isascii() or not word.isalnum() or word in NO_WORDS:
        raise CommandError(f"{word!r} is none: a word has four letters or digits, and needs no more", USAGE)
    reach = reach_of(call)
    good, bad = await from_all(reach.hosts, word, str, reach)
    must_answer(call, good, bad)
    for host, text in good:
        if call.out.is_structured:
            call.out.record({"server": str(host), "word": word, "answer": text})
            continue
        if len(reach.hosts) > 1:
            call.note(f"from {host}:")
            call.out.flush()
        call.out.text(text)
        call.out.flush()


WORD: Final = OnlineCommand("4lw", _word_flags, _word, "  coati 4lw srvr\n  coati 4lw -s h1,h2 cons")


def _latency_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=10, metavar="N", help="so many times, default %(default)s")
    parser.add_argument("-i", "--interval", type=float, default=0.1, metavar="S", help="default %(default)s seconds")


async def _latency(call: OnlineCall) -> int:
    count, interval_s = call.options.n, call.options.interval
    if count < 1 or interval_s < 0:
        raise CommandError("-n is at least 1, and -i not negative", USAGE)
    reach = reach_of(call)
    failed = False
    with call.out.table("server", "kind", "n", "min_ms", "p50_ms", "p99_ms", "max_ms", "note") as table:
        for host in reach.hosts:
            async with AsyncExitStack() as stack:
                for kind, once in (("word", _word_trip(host, reach)), ("read", _read_trip(call, host, stack))):
                    times, error = await _timed(once, count, interval_s)
                    failed = failed or bool(error)
                    table.row(str(host), kind, len(times), *_figures(times), error)
    return NO_CONNECTION if failed else 0


def _word_trip(host: Host, reach: Reach) -> Callable[[], Awaitable[object]]:
    """A connection, the word and the answer: a refusal comes as fast as any other."""
    return lambda: answer(host, "ruok", timeout_s=reach.timeout_s, tls=reach.tls)


def _read_trip(call: OnlineCall, host: Host, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    """A request on a session that is there already: exists of the root."""
    opened: list[Callable[[], Awaitable[object]]] = []

    async def once() -> object:
        if not opened:
            zk = await stack.enter_async_context(call.connect(str(host)))
            opened.append(lambda: zk.exists("/"))
        return await opened[0]()

    return once


async def _timed(once: Callable[[], Awaitable[object]], count: int, interval_s: float) -> tuple[list[float], str]:
    """In ms, and what ended it early. The first is for the connection, and is not counted."""
    times: list[float] = []
    try:
        await once()
        for turn in range(count):
            if turn:
                await asyncio.sleep(interval_s)
            began = perf_counter()
            await once()
            times.append((perf_counter() - began) * 1000)
    except (ZKError, OSError) as error:
        return times, why(error)
    return times, ""


def _figures(times: Sequence[float]) -> tuple[Cell, ...]:
    """min, median, 99th percentile and max, in ms."""
    if not times:
        return (None,) * 4
    ordered = sorted(times)
    picked = (ordered[0], ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)])
    return (*(round(time, 3) for time in picked), round(ordered[-1], 3))


LATENCY: Final = OnlineCommand("latency", _latency_flags, _latency, "  coati latency -s h1,h2,h3 -n 100 -i 0.01")
