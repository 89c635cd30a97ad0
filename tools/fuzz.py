"""Fuzzes all that reads bytes from outside: `python tools/fuzz.py [--target NAME] [--seconds 60] [--jobs 2]`.

Knows how to run a target of tools/fuzz_targets.py within limits: no exception may escape it, it may take a second of
CPU time at most and memory of a few frames. With atheris (`pip install atheris`) the search is led by the coverage of
coati; without, inputs are mutated blindly. Must not know what a target reads.
Exit code 1 means that an input broke a limit; it is written to --crashes, and --replay FILE looks at it again.
New inputs stay in --work; `--keep` puts the few that reach most into the corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import random
import resource
import shutil
import subprocess
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeAlias, cast

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
WORK = ROOT / "build" / "fuzz"
SOURCES = str(ROOT / "src" / "coati")

MAX_CPU_S = 1.0
# A jump of the process's peak by this much is worth a second run that counts every allocation.
SUSPECT_BYTES = 2 << 20
MAX_INPUT_BYTES = 4096
# libFuzzer ends a run that does not come back.
HANG_S = 20
KEPT_BYTES = 6000
KEPT_FILES = 24
EDGES = tuple(
    value.to_bytes(4, "big", signed=True)
    for value in (0, 1, 4, -1, -2, -5, -(1 << 31), (1 << 31) - 1, 0xFFFFF, 0x100000)
)


class Target(Protocol):
    """One parser and what must hold for any input: `run` raises only if something is broken."""

    name: str
    max_allocated_bytes: int

    def seeds(self) -> Iterable[bytes]: ...

    def run(self, data: bytes) -> None: ...


class TooSlow(Exception):
    """An input cost more CPU time than any may."""


class TooMuchMemory(Exception):
    """An input made coati allocate far more than it holds."""


def load_targets() -> dict[str, Target]:
    """The targets by name. A room that is not there is not tested."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    module = importlib.import_module("tools.fuzz_targets")
    return {target.name: target for target in cast(Sequence[Target], module.TARGETS)}


def check(target: Target, data: bytes) -> None:
    """Runs one input within the limits. Raises whatever escapes the target, TooSlow or TooMuchMemory."""
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    target.run(data)
    took = time.process_time() - began
    if took > MAX_CPU_S:
        raise TooSlow(f"{took:.2f} s of CPU time for {len(data)} bytes")
    if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before) * 1024 > SUSPECT_BYTES:
        check_memory(target, data)


def check_memory(target: Target, data: bytes) -> None:
    """Runs one input and counts what it allocates. Raises TooMuchMemory."""
    tracemalloc.start()
    try:
        target.run(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > target.max_allocated_bytes:
        raise TooMuchMemory(f"{peak} bytes allocated for {len(data)}")


def file_name(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()[:12]


def read_inputs(directory: Path) -> list[bytes]:
    """The files of a corpus, in the order of their names."""
    return [path.read_bytes() for path in sorted(directory.iterdir())] if directory.is_dir() else []


def write_inputs(directory: Path, inputs: Iterable[bytes]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (directory / file_name(data)).write_bytes(data)


# The search of one target, in a process of its own.


def search_with_atheris(options: argparse.Namespace, corpus: Path, work: Path) -> None:
    """libFuzzer takes over and ends the process; a broken limit is an uncaught exception to it."""
    import atheris

    with atheris.instrument_imports(include=["coati"]):
        target = load_targets()[options.target]
    write_inputs(work, target.seeds())
    target.run(b"")  # warm up: what is imported and cached on first use is no input's fault
    arguments = [
        f"-max_total_time={options.seconds}",
        f"-timeout={HANG_S}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-artifact_prefix={options.crashes}/{target.name}-",
        "-rss_limit_mb=4096",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    if options.seed is not None:
        arguments.append(f"-seed={options.seed}")
    atheris.Setup([sys.argv[0], *arguments, str(work), str(corpus)], lambda data: check(target, data))
    atheris.Fuzz()


def search_blindly(options: argparse.Namespace, corpus: Path, work: Path) -> int:
    """Mutates what is known until the time is up; an input is kept if it is the first of its length and outcome."""
    target = load_targets()[options.target]
    target.run(b"")
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"{target.name}: without atheris, seed {seed}")
    dice = random.Random(seed)
    pool = [*target.seeds(), *read_inputs(corpus), *read_inputs(work), b""]
    ends = time.monotonic() + options.seconds
    runs = 0
    for data in pool:
        if not passes(target, data, Path(options.crashes)):
            return 1
    while time.monotonic() < ends:
        data = mutate(dice, dice.choice(pool), dice.choice(pool))[:MAX_INPUT_BYTES]
        if not passes(target, data, Path(options.crashes)):
            return 1
        if len(pool) < 10_000:
            pool.append(data)
        runs += 1
    print(f"{target.name}: {runs} runs")
    return 0


def passes(target: Target, data: bytes, crashes: Path) -> bool:
    """Whether the input stays within the limits; one that does not is written down."""
    try:
        check(target, data)
    except Exception:
        traceback.print_exc()
        path = crashes / f"{target.name}-crash-{file_name(data)}"
        path.write_bytes(data)
        print(f"{target.name}: {len(data)} bytes break it, see {path}", file=sys.stderr)
        return False
    return True


def mutate(dice: random.Random, data: bytes, other: bytes) -> bytes:
    """One to four of: cut, drop, repeat, change a bit or some bytes, put an edge of an int or a part of another in."""
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(data) + 1)
        size = dice.randrange(1, 9)
        part = other[(start := dice.randrange(len(other) + 1)) : start + dice.randrange(64)]
        kind = dice.randrange(8)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + data[at + size :]
        elif kind == 2:
            data = data[:at] + data[at : at + size] * 2 + data[at + size :]
        elif kind == 3:
            data = data[:at] + bytes(byte ^ (1 << dice.randrange(8)) for byte in data[at : at + 1]) + data[at + 1 :]
        elif kind == 4:
            data = data[:at] + dice.randbytes(size) + data[at + size :]
        elif kind == 5:
            data = data[:at] + dice.choice(EDGES) + data[at + 4 :]
        elif kind == 6:
            data = data[:at] + part + data[at:]
        else:
            data = data[:at] + part
    return data


def search(options: argparse.Namespace) -> int:
    """One target in this process."""
    corpus, work = Path(options.corpus), Path(options.work) / options.target
    for directory in (corpus, work, Path(options.crashes)):
        directory.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris") is None:
        return search_blindly(options, corpus, work)
    search_with_atheris(options, corpus, work)
    return 0


# All targets, each in its process.


def child(options: argparse.Namespace, name: str, *more: str) -> int:
    """Runs this program for one target; its exit code, 0 or 1."""
    command = [sys.executable, __file__, "--in-process", "--target", name, "--seconds", str(options.seconds)]
    command += ["--corpus", str(corpus_of(options, name)), "--work", options.work, "--crashes", options.crashes]
    if options.seed is not None:
        command += ["--seed", str(options.seed)]
    # coati comes from this checkout, whatever is installed.
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONFAULTHANDLER": "1"}
    return 0 if subprocess.run([*command, *more], env=environment, check=False).returncode == 0 else 1


def corpus_of(options: argparse.Namespace, name: str) -> Path:
    return Path(options.corpus) if options.corpus else CORPUS / name


Arc: TypeAlias = tuple[str, int, int]
TraceFunction: TypeAlias = Callable[[FrameType, str, Any], Any]


def reached(target: Target, data: bytes) -> set[Arc]:
    """Which steps from line to line of coati's own code an input takes."""
    arcs: set[Arc] = set()
    last: dict[FrameType, int] = {}

    def on_line(frame: FrameType, event: str, _: object) -> TraceFunction | None:
        if event == "line":
            arcs.add((frame.f_code.co_filename, last.get(frame, 0), frame.f_lineno))
            last[frame] = frame.f_lineno
        return on_line

    def on_call(frame: FrameType, _: str, __: object) -> TraceFunction | None:
        return on_line if frame.f_code.co_filename.startswith(SOURCES) else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        target.run(data)
    finally:
        sys.settrace(before)
    return arcs


def telling(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """The inputs that reach most: each the one that adds most to those before, the shortest of equals."""
    arcs = {data: reached(target, data) for data in sorted(inputs, key=lambda data: (len(data), data)) if data}
    kept: list[bytes] = []
    room = KEPT_BYTES
    while arcs and len(kept) < KEPT_FILES:
        best = max(arcs, key=lambda data: len(arcs[data]))
        gained = arcs.pop(best)
        kept.append(best)
        room -= len(best)
        arcs = {data: left for data, seen in arcs.items() if len(data) <= room and (left := seen - gained)}
    return kept


def keep(target: Target, corpus: Path, work: Path) -> None:
    """Replaces the target's corpus by the few of all known inputs that reach most."""
    found = [*target.seeds(), *read_inputs(corpus), *read_inputs(work)]
    kept = telling(target, found)
    shutil.rmtree(corpus, ignore_errors=True)
    write_inputs(corpus, kept)
    print(f"{target.name}: {len(kept)} of {len(found)} inputs kept, {sum(map(len, kept))} bytes")


def replay(targets: dict[str, Target], options: argparse.Namespace) -> int:
    """Runs the given files through one target, with tracebacks."""
    target = targets[options.target]
    Path(options.crashes).mkdir(parents=True, exist_ok=True)
    broken = [path for path in options.replay if not passes(target, Path(path).read_bytes(), Path(options.crashes))]
    return 1 if broken else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz everything that reads bytes from outside")
    parser.add_argument("--target", help="one of --list; all of them unless given")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (1)")
    parser.add_argument("--corpus", help="directory of known inputs (tests/fuzz/corpus/TARGET)")
    parser.add_argument("--work", default=str(WORK / "work"), help="where new inputs stay (build/fuzz/work)")
    parser.add_argument("--crashes", default=str(WORK / "crashes"), help="where offenders go (build/fuzz/crashes)")
    parser.add_argument("--seed", type=int, help="of the search")
    parser.add_argument("--keep", action="store_true", help="renew the corpus from what was found")
    parser.add_argument("--replay", nargs="+", metavar="FILE", help="run these inputs only")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if (options.replay or options.corpus) and not options.target:
        parser.error("--replay and --corpus need --target")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.in_process:
        return search(options)
    targets = load_targets()
    if options.list:
        print("\n".join(targets))
        return 0
    if options.target and options.target not in targets:
        print(f"no target {options.target}: one of {', '.join(targets)}", file=sys.stderr)
        return 2
    if options.replay:
        return replay(targets, options)
    names = [options.target] if options.target else list(targets)
    with ThreadPoolExecutor(options.jobs) as pool:
        codes = list(pool.map(partial(child, options), names))
    failed = [name for name, code in zip(names, codes, strict=True) if code != 0]
    if options.keep and not failed:
        for name in names:
            keep(targets[name], corpus_of(options, name), Path(options.work) / name)
    print(
        f"{len(names) - len(failed)} of {len(names)} targets passed" + (f", not {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
