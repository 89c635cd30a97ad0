"""`make bench`: coati, pure and compiled, against Java ZooKeeper 3.9.3 on this machine, row by row.

The servers run on one processor and the load, which is this process, on another. Writes RESULTS.md, results.json and
the plots into bench/. With `--only`, the other rows of bench/results.json stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

# Called as a script: the tools import one another by the checkout's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from coati.errors import ZKError
from tools import bench_observers
from tools.bench_plots import render_failover, render_observers
from tools.bench_report import FAILOVER, machine, render_markdown, render_plot, result_of, save_json
from tools.bench_rows import QUICK, ROWS, Bench, Row, Settings
from tools.bench_servers import COMPILED, JAVA, JAVA_VERSION, PURE, Contender, ServerFailed
from tools.bench_trio import FAILOVER_LIMIT_MS, TRIO_ROWS
from tools.javapeer import why_missing

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "bench"
COMPILED_PYTHON: Final = ROOT / ".venv-compiled" / "bin" / "python"
SERVER_CPU: Final = 0
LOAD_CPU: Final = 1
SERVERS: Final = f"{JAVA},{PURE},{COMPILED}"


@dataclass(frozen=True)
class Part:
    """What can be asked for with `--only`. `take` gives its entry of results.json."""

    key: str
    title: str
    take: Callable[[Bench], dict[str, Any]]


def _take_row(row: Row, bench: Bench) -> dict[str, Any]:
    return result_of(row, row.measure(bench))


PARTS: Final = (
    *(Part(row.key, row.title, partial(_take_row, row)) for row in (*ROWS, *TRIO_ROWS)),
    Part(bench_observers.KEY, bench_observers.TITLE, bench_observers.measure),
)


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 when everything was measured, whether or not the bars were met; 1 when something failed."""
    options = _parser().parse_args(argv)
    try:
        parts = _chosen(options.only)
        contenders = _contenders(options)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    settings = QUICK
    if not options.quick:
        settings = Settings(rounds=options.rounds, seconds=options.seconds, trials=options.trials)
    if contenders[0].cpu is not None:
        os.sched_setaffinity(0, {LOAD_CPU})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="coati-bench-", dir=options.data_root) as scratch:
        bench = Bench(contenders, settings, Path(scratch), print)
        results = _head(options, settings, Path(scratch))
        out = options.out or (None if options.quick else OUT)
        failed = _measure(bench, parts, results, out)
    print(render_markdown(ROWS, results, TRIO_ROWS))
    return 1 if failed else 0


def _measure(bench: Bench, parts: list[Part], results: dict[str, Any], out: Path | None) -> bool:
    """Part by part; what is there is written after each, so that a late failure does not cost the early ones."""
    failed = False
    for part in parts:
        print(f"{part.title}", flush=True)
        start_s = time.perf_counter()
        try:
            results["rows"][part.key] = part.take(bench)
        except (ZKError, ServerFailed, OSError) as error:
            print(f"  FAILED: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"  ({time.perf_counter() - start_s:.0f} s)", flush=True)
        if out is not None:
            save(results, out)
    return failed


def save(results: dict[str, Any], out: Path) -> None:
    """All files of what was measured so far."""
    out.mkdir(parents=True, exist_ok=True)
    rows = results["rows"]
    save_json(results, out / "results.json")
    (out / "RESULTS.md").write_text(render_markdown(ROWS, results, TRIO_ROWS))
    render_plot(ROWS, results, out / "results.svg")
    if any(row.key in rows for row in TRIO_ROWS):
        render_plot(TRIO_ROWS, results, out / "trio.svg")
    if FAILOVER in rows:
        render_failover(rows[FAILOVER]["values"], FAILOVER_LIMIT_MS, out / "failover.svg")
    if bench_observers.KEY in rows:
        render_observers(rows[bench_observers.KEY]["stages"], out / "observers.svg")


def _head(options: argparse.Namespace, settings: Settings, scratch: Path) -> dict[str, Any]:
    """results.json without rows, or with the rows of an earlier run that this one does not measure again."""
    rows: dict[str, Any] = {}
    earlier = (options.out or OUT) / "results.json"
    if options.only and not options.quick and earlier.exists():
        rows = json.loads(earlier.read_text())["rows"]
    return {
        "date": options.date,
        "command": _command(options),
        "machine": machine(scratch),
        "settings": {
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "java_warmup_s": settings.java_warmup_s,
            "warmup_s": settings.warmup_s,
            "starts": settings.starts,
            "znodes": settings.znodes,
            "trials": settings.trials,
            "quick": options.quick,
        },
        "rows": rows,
    }


def _command(options: argparse.Namespace) -> str:
    """What was asked for, without this machine's directories."""
    words = ["python", "tools/bench.py"]
    default = _parser().parse_args([])
    for name in ("only", "servers", "rounds", "seconds", "trials"):
        value = getattr(options, name)
        if value != getattr(default, name):
            words += [f"--{name}", str(value)]
    return shlex.join([*words, "--quick"] if options.quick else words)


def _chosen(only: str | None) -> list[Part]:
    if only is None:
        return list(PARTS)
    by_key = {part.key: part for part in PARTS}
    unknown = [key for key in only.split(",") if key not in by_key]
    if unknown:
        raise ValueError(f"unknown rows {', '.join(unknown)}; there are {', '.join(by_key)}")
    return [by_key[key] for key in only.split(",")]


def _contenders(options: argparse.Namespace) -> list[Contender]:
    """Those asked for, in the order they take turns; the compiled build only where there is one."""
    names = options.servers.split(",")
    pythons = {PURE: options.pure, COMPILED: options.compiled}
    cpu = SERVER_CPU if {SERVER_CPU, LOAD_CPU} <= os.sched_getaffinity(0) else None
    if cpu is None:
        print("bench: server and load share the processors; figures will vary", file=sys.stderr)
    contenders: list[Contender] = []
    for name in names:
        if name == JAVA:
            missing = why_missing(JAVA_VERSION)
            if missing:
                raise ValueError(missing)
            contenders.append(Contender(JAVA, None, cpu))
        elif name not in pythons:
            raise ValueError(f"unknown server {name!r}; there are {JAVA}, {PURE}, {COMPILED}")
        elif pythons[name].exists():
            contenders.append(Contender(name, pythons[name].absolute(), cpu))
        else:
            print(f"bench: no {pythons[name]}, so nothing {name} is measured", file=sys.stderr)
    if not contenders:
        raise ValueError("nothing to measure")
    return contenders


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="coati against Java ZooKeeper on this machine.", allow_abbrev=False)
    parser.add_argument("--only", metavar="ROW[,..]", help=f"of {', '.join(part.key for part in PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a smoke test: prints, writes only where --out says")
    parser.add_argument("--servers", default=SERVERS, metavar="NAME[,..]", help="default: %(default)s")
    parser.add_argument("--pure", type=Path, default=Path(sys.executable), metavar="PYTHON", help="that has coati")
    parser.add_argument(
        "--compiled", type=Path, default=COMPILED_PYTHON, metavar="PYTHON", help="that has a compiled coati"
    )
    default = Settings()
    parser.add_argument("--rounds", type=int, default=default.rounds, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=default.seconds, metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--trials", type=int, default=default.trials, metavar="N", help="leaders to kill; default: %(default)s"
    )
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="where servers keep their data; default: $TMPDIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: bench/")
    parser.add_argument("--date", default=datetime.now(tz=UTC).date().isoformat(), help="to print; default: today")
    return parser


if __name__ == "__main__":
    sys.exit(main())
