"""One run from a plan to a report: sessions, keys, warm-up, the measured window, cleaning up.

Must not know what the server is. Invariants: the measured window starts and ends under full load; every reply due is
taken and checked before the report exists.
"""

from __future__ import annotations

import gc
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from time import perf_counter, process_time
from typing import Final

from coati.bench.fill import remove_tree
from coati.bench.load import Lane, Load
from coati.bench.lone import run_lone
from coati.bench.plan import Plan
from coati.bench.report import Report
from coati.bench.ring import LAP_MARK, Ring, create_ring, data_ring, key_path
from coati.bench.session import Session
from coati.errors import ZKError

PAYLOAD: Final = b"coati measures! "


def payload(size: int) -> bytes:
    """`size` bytes of data."""
    return (PAYLOAD * (size // len(PAYLOAD) + 1))[:size]


def _nothing() -> None:
    """Nobody looks."""


def run(plan: Plan, at_edge: Callable[[], None] = _nothing) -> Report:
    """Measure. Works below a fresh znode `<root>-<random>` and removes it unless the plan says `keep`.

    `at_edge` is called where the measured window begins and where it ends, to look at what else is of interest.
    Raises BenchFailed, ProtocolError, KeeperError (while setting up).
    """
    plan = replace(plan, root=plan.root + b"-" + secrets.token_hex(4).encode())
    with Session(plan.hosts[0]) as session:
        session.create(plan.root)
        if plan.mix != "create":
            keys = [key_path(plan.root, key) for key in range(plan.keys)]
            session.create(*keys, data=payload(plan.data_bytes))
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle would be a latency of ours, not of the server
    try:
        report = _lone(plan, at_edge) if plan.is_lone else _pipelined(plan, at_edge)
    except BaseException:
        with suppress(ZKError):  # what failed first is what counts
            _clean(plan)
        raise
    finally:
        if collecting:
            gc.enable()
    _clean(plan)
    return report


def _clean(plan: Plan) -> None:
    if not plan.keep:
        with Session(plan.hosts[0]) as session:
            remove_tree(session, plan.root)


def _lone(plan: Plan, at_edge: Callable[[], None]) -> Report:
    with Session(plan.hosts[0]) as session:
        (ring,) = _rings(plan, session)
        warmup = run_lone(session, ring, plan.warmup_seconds, spin=plan.spin)
        at_edge()
        start_s = perf_counter()
        measured = run_lone(session, ring, plan.seconds, first_lap=warmup.lap + 1, spin=plan.spin)
        seconds = perf_counter() - start_s
        at_edge()
    errors = warmup.errors + measured.errors
    report = _report(plan, seconds, [len(measured.latencies_ns)], errors)
    report.latencies_ns = sorted(measured.latencies_ns)
    return report


def _pipelined(plan: Plan, at_edge: Callable[[], None]) -> Report:
    sessions: list[Session] = []
    try:
        for i in range(plan.connections):
            sessions.append(Session(plan.hosts[i % len(plan.hosts)]))
        rings = _rings(plan, sessions[0])
        lanes = [
            # Different starts: otherwise all lanes would send their writes of a mix at the same time.
            Lane(session.sock, rings[i % len(rings)], start=0 if plan.mix == "create" else i * 37)
            for i, session in enumerate(sessions)
        ]
        load = Load(lanes)
        load.start(plan.in_flight)
        start_s, start_cpu_s = load.run_until(perf_counter() + plan.warmup_seconds), process_time()
        at_edge()
        before = [lane.done for lane in lanes]
        for lane in lanes:
            lane.latencies_ns.clear()
        end_s, end_cpu_s = load.run_until(start_s + plan.seconds), process_time()
        at_edge()
        ops = [lane.done - done for lane, done in zip(lanes, before, strict=True)]
        latencies = sorted(latency for lane in lanes for latency in lane.latencies_ns)
        load.stop()
        for session in sessions:
            session.close()
    finally:
        for session in sessions:
            session.abort()
    report = _report(plan, end_s - start_s, ops, sum((lane.errors for lane in lanes), Counter()))
    report.latencies_ns = latencies
    report.generator_cpu = (end_cpu_s - start_cpu_s) / report.seconds
    return report


def _rings(plan: Plan, session: Session) -> list[Ring]:
    """One ring for all lanes, or for creates one each, below a parent of its own."""
    data = payload(plan.data_bytes)
    if plan.mix != "create":
        return [data_ring(plan, data)]
    rings: list[Ring] = []
    for i in range(plan.connections):
        parent = b"%s/lane%05d" % (plan.root, i)
        session.create(parent)
        rings.append(create_ring(parent + b"/n" + LAP_MARK, data, window=plan.in_flight))
    return rings


def _report(plan: Plan, seconds: float, ops: list[int], errors: Counter[int]) -> Report:
    return Report(
        mix=plan.mix,
        connections=plan.connections,
        in_flight=plan.in_flight,
        data_bytes=plan.data_bytes,
        seconds=seconds,
        ops=sum(ops),
        errors=dict(errors),
        ops_by_connection=ops,
    )
