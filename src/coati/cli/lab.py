"""`coati lab`: simulated ensembles that tell how they agree. Knows flags and forms; the stories are coati.lab's."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from coati.cli.command import Call, Command
from coati.cli.exits import CHECK_FAILED, USAGE, CommandError
from coati.cli.output import FORMS
from coati.lab import broadcast, locks, recover, runs
from coati.lab.ballots import GAP_MS, read_ballots
from coati.lab.contest import DELAY_MS, LIMIT_MS
from coati.lab.drawing import draw
from coati.lab.election import compare, elections
from coati.lab.story import Story, text_of

Tell = Callable[[Call], int | None]


def _flags(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    _election_flags(_sub(kinds, "election", "servers elect a leader, vote by vote", _election))
    _broadcast_flags(_sub(kinds, "broadcast", "a write goes through an ensemble", _broadcast))
    _recover_flags(_sub(kinds, "recover", "a leader dies before COMMIT: what becomes of its proposal", _recover))
    _lock_flags(_sub(kinds, "lock", "many clients want one lock: whom a release wakes", _lock))
    _run_flags(_sub(kinds, "run", "an ensemble under faults, of one seed, and what was checked in it", _run))


def _sub(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, tell: Tell
) -> argparse.ArgumentParser:
    parser = kinds.add_parser(name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.")
    parser.set_defaults(tell=tell)
    parser.add_argument("--svg", metavar="FILE", help="write a sequence diagram there, too")
    # The flags of all commands may stand behind WHAT, too; without a default, for then those in front of it would go.
    unset = argparse.SUPPRESS
    parser.add_argument("-o", "--output", choices=FORMS, default=unset, help="form of the output")
    parser.add_argument("-q", "--quiet", action="store_true", default=unset, help="data and errors only")
    parser.add_argument("-v", "--verbose", action="store_true", default=unset, help="errors with their traceback")
    return parser


def _election_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--votes", required=True, metavar="VOTES", help='myid,zxid[,epoch] of each server: "1,0 2,0 3,0"'
    )
    parser.add_argument("--down", default="", metavar="SIDS", help="servers of the ensemble that do not run")
    parser.add_argument(
        "--led-by", type=int, default=0, metavar="SID", help="one of them, whom the others have followed until now"
    )
    parser.add_argument("--start", default="", metavar="SIDS", help='one after the other: "1 2 3", "1 2@1500"')
    parser.add_argument("--gap", type=int, default=GAP_MS, metavar="MS", help="between two starts; %(default)s")
    parser.add_argument("--delay", type=int, default=DELAY_MS, metavar="MS", help="of a message; %(default)s")
    parser.add_argument(
        "--limit", type=int, default=LIMIT_MS, metavar="MS", help="how long after the last start; %(default)s"
    )
    parser.add_argument("--algorithm", choices=("fle", "polling", "both"), default="fle", help="default: %(default)s")


def _election(call: Call) -> None:
    options = call.options
    if options.gap < 0 or options.delay < 1 or options.limit < 1:
        raise CommandError("times are more than nothing", USAGE)
    ballots = read_ballots(options.votes, down=options.down, start=options.start, gap_ms=options.gap)
    stories = elections(
        ballots, options.algorithm, delay_ms=options.delay, limit_ms=options.limit, led_by=options.led_by
    )
    _show(call, stories, compare(stories))


def _broadcast_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--servers", type=int, default=3, metavar="N", help="that vote; %(default)s")
    parser.add_argument("--observers", type=int, default=1, metavar="N", help="that do not; %(default)s")


def _broadcast(call: Call) -> None:
    _show(call, [broadcast.broadcast(call.options.servers, call.options.observers)])


def _recover_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--servers", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--acked", type=int, metavar="N", help="so many followers have logged the proposal; else both, 0 and 1"
    )


def _recover(call: Call) -> None:
    options = call.options
    wanted = (0, 1) if options.acked is None else (options.acked,)
    stories = [recover.recover(options.servers, acked) for acked in wanted]
    _show(call, stories, recover.compare(stories))


def _lock_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", "-n", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--kind", choices=(*locks.KINDS, "both"), default="both",
        help="herd: all watch one znode; sequence: each watches the one before it; default: %(default)s",
    )  # fmt: skip


def _lock(call: Call) -> None:
    options = call.options
    kinds = locks.KINDS if options.kind == "both" else (options.kind,)
    stories = [locks.lock(kind, options.clients) for kind in kinds]
    _show(call, stories, locks.compare(stories, kinds))


def _run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="decides everything; %(default)s")
    parser.add_argument("--servers", type=int, default=3, metavar="N", help="that vote; %(default)s")
    parser.add_argument("--steps", type=int, default=40, metavar="N", help="of clients and faults; %(default)s")


def _run(call: Call) -> None:
    options = call.options
    # What simulated servers log is theirs.
    silent, log = logging.NullHandler(), logging.getLogger("coati")
    log.addHandler(silent)
    try:
        story = runs.life(options.seed, servers=options.servers, steps=options.steps)
    finally:
        log.removeHandler(silent)
    _show(call, [story])


def _show(call: Call, stories: Sequence[Story], after: Sequence[str] = ()) -> None:
    """The stories in the form that is wanted, and the drawing; CommandError if one has failed."""
    if call.options.svg:
        try:
            Path(call.options.svg).write_text(draw(stories), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{call.options.svg} cannot be written: {error.strerror}", USAGE) from None
    if call.out.is_structured:
        with call.out.table("story", "ms", "kind", "who", "with", "sent_ms", "text", "facts") as table:
            for number, story in enumerate(stories, 1):
                for step in story.steps:
                    sent_ms = None if step.sent_ms < 0 else step.sent_ms
                    told = f"[{step.label}] {step.text}" if step.kind == "state" else step.text
                    table.row(number, step.at_ms, step.kind, step.lane, step.peers, sent_ms, told, step.facts)
                end_ms = story.steps[-1].at_ms if story.steps else 0
                table.row(number, end_ms, "outcome", "", (), None, " ".join(story.outcome), story.facts)
    else:
        pages = [text_of(story) for story in stories]
        if after:
            pages.append("\n".join(after) + "\n")
        call.out.text("\n".join(pages))
    failures = [story.failure for story in stories if story.failure]
    if failures:
        raise CommandError("; ".join(dict.fromkeys(failures)), CHECK_FAILED)


def _lab(call: Call) -> int | None:
    tell: Tell = call.options.tell
    return tell(call)


LAB = Command(
    "lab",
    _flags,
    _lab,
    """
  coati lab election --votes "1,0 2,0 3,0"
  coati lab election --votes "1,123 3,122" --down 2 --led-by 2
  coati lab election --votes "1,0 2,0 3,0 4,0 5,0" --start "1 2 3 4 5" --algorithm both
  coati lab broadcast --servers 5 --svg write.svg
  coati lab recover
  coati lab lock --clients 10
  coati lab run --seed 7
""",
)
