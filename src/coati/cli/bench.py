"""`coati bench`: load on any ZooKeeper, and what it did with it.

Knows the flags; what is measured and how is `coati.bench`'s.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from coati.bench import Plan, parse_hosts, run
from coati.bench.plan import MIXES
from coati.errors import ZKError

FAILED: Final = 1
INVALID_INVOCATION: Final = 2

EPILOG: Final = """
The load goes to a fresh znode below the root of the tree, which is removed afterwards. Any error reply and any foreign
or missing reply makes the run fail. One connection with one request in flight measures latency. Examples:
  coati bench --hosts zk1:2181,zk2:2181 --mix mix:10 --connections 64 --in-flight 16
  coati bench --mix get --connections 1 --in-flight 1 --json
"""


def main(argv: list[str]) -> int:
    """The exit code: 0 after a clean run, 1 when it failed or met an error reply, 2 for wrong flags."""
    options = _parser().parse_args(argv)
    try:
        plan = _plan(options)
    except ValueError as error:
        print(f"coati bench: {error}", file=sys.stderr)
        return INVALID_INVOCATION
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    try:
        report = run(plan)
    except ZKError as error:
        print(f"coati bench: {error}", file=sys.stderr)
        return FAILED
    print(report.as_json() if options.json else report)
    return 0 if report.ok else FAILED


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        hosts=tuple(parse_hosts(options.hosts)),
        mix=options.mix,
        connections=options.connections,
        in_flight=options.in_flight,
        seconds=options.seconds,
        warmup_seconds=options.warmup,
        data_bytes=options.size,
        keys=options.keys,
        keep=options.keep,
        spin=options.spin,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coati bench",
        description="Put load on a ZooKeeper and measure it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = Plan(hosts=(("127.0.0.1", 2181),))
    parser.add_argument("--hosts", default="127.0.0.1:2181", metavar="H:P[,..]", help="default: %(default)s")
    parser.add_argument("--mix", default=default.mix, help=f"{', '.join(MIXES)} (of writes); default: %(default)s")
    parser.add_argument(
        "--connections", type=int, default=default.connections, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--in-flight", type=int, default=default.in_flight, metavar="N", help="on each; default: %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=default.seconds, metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--warmup", type=float, default=default.warmup_seconds, metavar="S", help="load before it; default: %(default)s"
    )
    parser.add_argument(
        "--size", type=int, default=default.data_bytes, metavar="BYTES", help="data of a znode; default: %(default)s"
    )
    parser.add_argument("--keys", type=int, default=default.keys, metavar="N", help="znodes; default: %(default)s")
    parser.add_argument("--cpu", type=int, metavar="N", help="run on this processor only")
    parser.add_argument("--spin", action="store_true", help="a lone client polls its socket instead of sleeping")
    parser.add_argument("--keep", action="store_true", help="leave the znodes there")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    return parser
