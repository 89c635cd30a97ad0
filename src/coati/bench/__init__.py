"""A load generator for any ZooKeeper: the raw client protocol, many connections, pipelining; and what it measured.

Knows the wire, sockets and clocks. Must not know a server's inside: it is as good for a Java server as for coati.
"""

from coati.bench.fill import fill, remove_tree
from coati.bench.lone import run_lone
from coati.bench.plan import Plan, parse_hosts, parse_mix
from coati.bench.report import Report, percentile
from coati.bench.run import run
from coati.bench.session import BenchFailed, Session

__all__ = [
    "BenchFailed",
    "Plan",
    "Report",
    "Session",
    "fill",
    "parse_hosts",
    "parse_mix",
    "percentile",
    "remove_tree",
    "run",
    "run_lone",
]
