"""`coati top`: what servers do, again and again: requests, latency, what waits, and the busiest connections."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from coati.admin.ensemble import Report, survey
from coati.cli.exits import CHECK_FAILED, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import Cell, Output
from coati.cli.reach import members_of, reach_of

SERVER_COLUMNS: Final = (
    "server", "role", "requests_s", "writes_s", "latency_avg", "latency_max", "outstanding", "connections", "note",
)  # fmt: skip
CONNECTION_COLUMNS: Final = ("address", "server", "session", "requests_s", "queued", "latency_avg", "last_op")
# Home, and clear to the end of the screen.
REDRAW: Final = b"\x1b[H\x1b[J"


@dataclass(slots=True)
class Sample:
    """What all servers said at one time."""

    at: float
    reports: list[Report]


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--interval", type=float, default=2.0, metavar="S", help="default %(default)s seconds")
    parser.add_argument("-n", type=int, default=0, metavar="N", help="end after so many; default: ^C does")
    parser.add_argument("--connections", type=int, default=10, metavar="N", help="so many of the busiest, default 10")


async def _top(call: OnlineCall) -> int:
    options = call.options
    if options.interval <= 0 or options.n < 0 or options.connections < 0:
        raise CommandError("-i is more than nothing; -n and --connections are not negative", USAGE)
    reach = reach_of(call)
    hosts = await members_of(call, reach)
    words = ("cons",) if options.connections else ()

    async def sample() -> Sample:
        return Sample(monotonic(), await survey(hosts, timeout_s=reach.timeout_s, tls=reach.tls, more=words))

    before = await sample()
    if options.connections and any("cons" in report.refused for report in before.reports):
        call.note("connections are not shown by servers whose zoo.cfg has no 4lw.commands.whitelist=cons")
    turns = 0
    while True:
        await asyncio.sleep(options.interval)
        after = await sample()
        show(call.out, before, after, options.connections)
        turns += 1
        if turns == options.n:
            return 0 if any(report.info for report in after.reports) else CHECK_FAILED
        before = after


def show(out: Output, before: Sample, after: Sample, connections: int) -> None:
    """One block: servers, then the busiest connections; for programs an object for each."""
    servers = server_rows(before, after)
    busiest = connection_rows(before, after)[:connections]
    if out.is_structured:
        for row in servers:
            out.stream(dict(zip(SERVER_COLUMNS, row, strict=True)))
        for row in busiest:
            out.stream(dict(zip(CONNECTION_COLUMNS, row, strict=True)))
        return
    if out.is_terminal:
        out.write(REDRAW)
    for columns, rows in ((SERVER_COLUMNS, servers), (CONNECTION_COLUMNS, busiest)):
        if rows:
            with out.table(*columns) as table:
                for row in rows:
                    table.row(*row)
            out.write(b"\n")
    out.flush()


def server_rows(before: Sample, after: Sample) -> list[tuple[Cell, ...]]:
    """A row for each server, with what it did between two samples. Its own answers to us are part of it."""
    old = {report.host: report for report in before.reports}
    seconds = max(after.at - before.at, 1e-6)
    rows: list[tuple[Cell, ...]] = []
    for report in after.reports:
        info = report.info
        if info is None:
            rows.append((str(report.host), "down", *(None,) * 6, report.error))
            continue
        was = old[report.host].info
        # Figures that went back were reset, or the server is another one now.
        requests = None if was is None else _rate(info.received - was.received, seconds)
        is_same_epoch = was is not None and was.epoch == info.epoch
        writes = _rate(info.zxid - was.zxid, seconds) if was is not None and is_same_epoch else None
        rows.append((
            str(report.host), info.mode, requests, writes, info.latency_avg_ms, info.latency_max_ms, info.outstanding,
            info.connections, report.error,
        ))  # fmt: skip
    return rows


def connection_rows(before: Sample, after: Sample) -> list[tuple[Cell, ...]]:
    """The connections with a session, the busiest first."""
    seconds = max(after.at - before.at, 1e-6)
    old = _received(before.reports)
    rows: list[tuple[float, tuple[Cell, ...]]] = []
    for report in after.reports:
        for one in report.connections:
            if one.session_id:
                # What was not there before did all it did since.
                rate = _rate(one.received - old.get((str(report.host), one.address), 0), seconds) or 0.0
                rows.append((rate, (
                    one.address, str(report.host), f"0x{one.session_id:x}", rate, one.queued, one.avg_latency_ms,
                    one.last_op,
                )))  # fmt: skip
    rows.sort(key=lambda row: -row[0])
    return [row for _, row in rows]


def _received(reports: Sequence[Report]) -> Mapping[tuple[str, str], int]:
    return {(str(report.host), one.address): one.received for report in reports for one in report.connections}


def _rate(count: int, seconds: float) -> float | None:
    return None if count < 0 else round(count / seconds, 1)


TOP: Final = OnlineCommand(
    "top", _flags, _top, "  coati top -s h1,h2,h3\n  coati top -o jsonl -i 10 -n 6 > minute.jsonl"
)
