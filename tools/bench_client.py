"""The client beside kazoo and aiozk, against one Java server on this machine: `python -m tools.bench_client`.

Each contender runs in a process of its own, in turns, round after round; a figure is the median of its rounds, a ratio
the median of the rounds' ratios. Beside what the clock says stands the processor's time a call, which other work on the
machine hardly touches. Writes bench/CLIENT.md. kazoo and aiozk come with `pip install coati[peers]`; one that is not
installed is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import coati
from coati import Client
from tests.interop import raw
from tools.bench_report import machine
from tools.javapeer import JavaServer

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "bench" / "CLIENT.md"
JAVA: Final = "3.9.3"
# The server's selector reads, asks and writes by itself: handing each request over to another thread, as it does by
# default, costs the server more than a client does, and it is the clients that are measured here.
PROPS: Final = {"zookeeper.forceSync": "no", "zookeeper.nio.numWorkerThreads": "0"}
PATH: Final = "/bench"
DATA: Final = bytes(100)
IN_FLIGHT: Final = 100
SESSIONS: Final = 1000
TIMEOUT: Final = 60.0

Figure = tuple[float, float]
"""Calls in a second, and microseconds of this process's processor time (all threads) that each has cost."""


class Stopwatch:
    """Runs for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._cpu = time.process_time()
        self._began = time.perf_counter()
        self._ends = self._began + seconds
        self.count = 0

    def goes_on(self) -> bool:
        return time.perf_counter() < self._ends

    def figure(self) -> Figure:
        return self.count / (time.perf_counter() - self._began), 1e6 * (time.process_time() - self._cpu) / self.count


# --- what is measured, in the contender's process -------------------------------------------------


async def paced(work: Callable[[], Awaitable[object]], seconds: float) -> Figure:
    """One after the other."""
    await work()
    watch = Stopwatch(seconds)
    while watch.goes_on():
        for _ in range(20):
            await work()
        watch.count += 20
    return watch.figure()


async def crowded(work: Callable[[], Awaitable[object]], seconds: float) -> Figure:
    """So many at a time, each caller for itself."""
    watch = Stopwatch(seconds)

    async def caller() -> None:
        while watch.goes_on():
            await work()
            watch.count += 1

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return watch.figure()


def paced_sync(work: Callable[[], object], seconds: float) -> Figure:
    work()
    watch = Stopwatch(seconds)
    while watch.goes_on():
        for _ in range(20):
            work()
        watch.count += 20
    return watch.figure()


async def _with_ours(address: str, measure: Callable[[Client], Awaitable[Figure]]) -> Figure:
    async with Client(address, session_timeout=TIMEOUT) as zk:
        await zk.ensure(PATH, DATA)
        return await measure(zk)


async def _ours_lock(zk: Client, seconds: float) -> Figure:
    async def cycle() -> None:
        async with zk.lock("/bench-lock"):
            pass

    return await paced(cycle, seconds)


def ours(row: str, address: str, seconds: float) -> Figure:
    if row == "sync get":
        sync: Any = importlib.import_module("coati.sync")
        with sync.Client(address, session_timeout=TIMEOUT) as zk:
            zk.ensure(PATH, DATA)
            return paced_sync(lambda: zk.get(PATH), seconds)
    rows: dict[str, Callable[[Client], Awaitable[Figure]]] = {
        "get": lambda zk: paced(lambda: zk.get(PATH), seconds),
        "get, 100 in flight": lambda zk: crowded(lambda: zk.get(PATH), seconds),
        "set": lambda zk: paced(lambda: zk.set(PATH, DATA), seconds),
        "lock and unlock": lambda zk: _ours_lock(zk, seconds),
    }
    return asyncio.run(_with_ours(address, rows[row]))


def bare(row: str, address: str, seconds: float) -> Figure:
    """What the server and the kernel need for it: a socket, and bytes that were made before."""
    host, _, port = address.partition(":")
    session = raw.Session(host, int(port), int(TIMEOUT * 1000))
    session.call(raw.CREATE, raw.create(PATH, DATA))
    request = raw.frame(struct.pack(">ii", 1, raw.GET_DATA) + raw.path_watch(PATH))
    sock = session.wire.sock
    sock.sendall(request)
    reply_bytes = len(sock.recv(1 << 16))
    window = IN_FLIGHT if "in flight" in row else 1
    requests = request * window

    def ask() -> None:
        sock.sendall(requests)
        waiting = window * reply_bytes
        while waiting:
            waiting -= len(sock.recv(waiting))

    calls, cost = paced_sync(ask, seconds)
    session.close()
    return window * calls, cost / window


def with_aiozk(row: str, address: str, seconds: float) -> Figure:
    aiozk: Any = importlib.import_module("aiozk")

    async def run() -> Figure:
        zk = aiozk.ZKClient(address, session_timeout=TIMEOUT)
        await zk.start()
        try:
            await zk.ensure_path(PATH)
            if row == "get":
                return await paced(lambda: zk.get(PATH), seconds)
            if row == "set":
                return await paced(lambda: zk.set(PATH, DATA, -1), seconds)
            return await crowded(lambda: zk.get(PATH), seconds)
        finally:
            await zk.close()

    return asyncio.run(run())


def with_kazoo(row: str, address: str, seconds: float) -> Figure:
    kazoo: Any = importlib.import_module("kazoo.client")
    zk = kazoo.KazooClient(address, timeout=TIMEOUT)
    zk.start()
    try:
        zk.ensure_path(PATH)
        if row == "lock and unlock":
            lock = zk.Lock("/bench-lock-kazoo")

            def cycle() -> None:
                with lock:
                    pass

            return paced_sync(cycle, seconds)
        if row == "get, 100 in flight":
            return _kazoo_window(zk, seconds)
        work = (lambda: zk.set(PATH, DATA)) if row == "set" else (lambda: zk.get(PATH))
        return paced_sync(work, seconds)
    finally:
        zk.stop()


def _kazoo_window(zk: Any, seconds: float) -> Figure:
    watch = Stopwatch(seconds)
    while watch.goes_on():
        for result in [zk.get_async(PATH) for _ in range(IN_FLIGHT)]:
            result.get()
        watch.count += IN_FLIGHT
    return watch.figure()


def rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not tell the RSS")


def ours_sessions(address: str) -> float:
    """By how many MB a process grows with so many clients, each with a session and an ephemeral."""

    async def run() -> float:
        async with Client(address, session_timeout=TIMEOUT) as zk:
            await zk.ensure("/bench-sessions")
            before = rss_mb()
            clients = [Client(address, session_timeout=TIMEOUT) for _ in range(SESSIONS)]
            for at in range(0, SESSIONS, 50):
                await asyncio.gather(*(client.start() for client in clients[at : at + 50]))
            await asyncio.gather(
                *(
                    client.create(f"/bench-sessions/{number}", mode=coati.Mode.EPHEMERAL)
                    for number, client in enumerate(clients)
                )
            )
            grown = rss_mb() - before
            await asyncio.gather(*(client.aclose() for client in clients))
        return grown

    return asyncio.run(run())


CONTENDERS: Final[dict[str, Callable[[str, str, float], Figure]]] = {
    "coati": ours,
    "aiozk": with_aiozk,
    "kazoo": with_kazoo,
    "bare socket": bare,
}
ROWS: Final[dict[str, tuple[str, ...]]] = {
    "get": ("coati", "aiozk", "kazoo", "bare socket"),
    "get, 100 in flight": ("coati", "aiozk", "kazoo", "bare socket"),
    "set": ("coati", "aiozk", "kazoo"),
    "sync get": ("coati", "kazoo"),
    "lock and unlock": ("coati", "kazoo"),
}
# The front door alone loads nothing.
CLIENTS: Final = {
    "coati": "from coati import Client",
    "aiozk": "from aiozk import ZKClient",
    "kazoo": "from kazoo.client import KazooClient",
}
# What is asked for: (row, other, at least so many times as fast).
GOALS: Final = {
    ("get", "aiozk"): 1.5,
    ("get", "kazoo"): 3.0,
    ("get, 100 in flight", "aiozk"): 3.0,
    ("sync get", "kazoo"): 2.0,
    ("lock and unlock", "kazoo"): 2.0,
}
IMPORT_GOAL_MS: Final = 60.0
MEMORY_GOAL_MB: Final = 100.0


# --- rounds ---------------------------------------------------------------------------------------


def child(*words: str) -> list[float]:
    """Figures from a process of its own."""
    code = [sys.executable, "-m", "tools.bench_client", "--child", *words]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr[-2000:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(figures, list)
    return figures


def import_ms(line: str, cache: Path) -> float:
    """The processor's time that importing it adds to a bare interpreter, from compiled files."""

    def took(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [sys.executable, "-X", f"pycache_prefix={cache}", "-c", code]
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        subprocess.run(words, check=True, cwd=ROOT, env=environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    took(line)
    # The least of several: what is above it is other work on the machine.
    return min(took(line) for _ in range(9)) - min(took("pass") for _ in range(9))


def installed(contender: str) -> bool:
    return contender == "bare socket" or importlib.util.find_spec(contender) is not None


Found = dict[str, dict[str, list[list[float]]]]
"""By row and contender, the figures of each round."""


def rounds(address: str, count: int, seconds: float) -> Found:
    found: Found = {}
    with tempfile.TemporaryDirectory() as cache:
        for number in range(count):
            for row, names in ROWS.items():
                for name in filter(installed, names):
                    figures = child(name, row, address, str(seconds))
                    found.setdefault(row, {}).setdefault(name, []).append(figures)
                    print(f"{number + 1}: {row}: {name}: {figures[0]:,.0f}/s, {figures[1]:.1f} us", flush=True)
            for name in filter(installed, CLIENTS):
                took = import_ms(CLIENTS[name], Path(cache))
                found.setdefault("import", {}).setdefault(name, []).append([took])
    return found


def middle(figures: list[list[float]], which: int) -> float:
    return median(figure[which] for figure in figures)


def ratios(row: dict[str, list[list[float]]], other: str) -> str:
    """How many times as fast ours is, by the clock and by the processor."""
    if other not in row:
        return ""
    pairs = list(zip(row["coati"], row[other], strict=True))
    clock = median(ours[0] / theirs[0] for ours, theirs in pairs)
    return f"{clock:.2f} ({median(theirs[1] / ours[1] for ours, theirs in pairs):.2f})"


def report(found: Found, memory_mb: float, options: argparse.Namespace) -> str:
    lines = [
        "# The client, measured",
        "",
        f"`{command(options)}`, {datetime.now(UTC):%Y-%m-%d}, against one Java {JAVA} server over loopback with",
        f"{', '.join(f'`{name}={value}`' for name, value in PROPS.items())}.",
        "Each client runs in a process of its own, in turns; a figure is the median of",
        f"{options.rounds} rounds of {options.seconds:g} s, a ratio the median of the rounds' ratios. In parentheses:",
        "by the processor's time of the client's process, which other work on the machine hardly touches and in which",
        "no wait for the server is counted.",
        "",
        "| calls a second (us of processor) | coati | aiozk | kazoo | bare socket | times aiozk | times kazoo | goal |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in ROWS:
        cells = [
            f"{middle(found[row][name], 0):,.0f} ({middle(found[row][name], 1):.1f})" if name in found[row] else ""
            for name in CONTENDERS
        ]
        cells += [ratios(found[row], name) for name in ("aiozk", "kazoo")]
        goals = [f"{GOALS[row, name]:g} times {name}" for name in ("aiozk", "kazoo") if (row, name) in GOALS]
        lines.append(f"| {row} | {' | '.join(cells)} | {', '.join(goals)} |")
    imports = found["import"]
    cells = [f"{min(took for (took,) in imports[name]):.0f}" if name in imports else "" for name in CLIENTS]
    lines += [
        "",
        "| | coati | aiozk | kazoo | goal |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| import of the client, ms of processor over a bare interpreter | {' | '.join(cells)} | {IMPORT_GOAL_MS:g} |",
        f"| growth of a process with {SESSIONS:,} clients, MB | {memory_mb:.1f} | | | {MEMORY_GOAL_MB:g} |",
        "",
        "A bare socket sends bytes that were made before and counts those that come back: what this server can do.",
        "kazoo's `get` is its blocking one, which `sync get` stands against too; with 100 in flight it is `get_async`.",
        "",
        *(f"- {name}: {value}" for name, value in machine(Path(tempfile.gettempdir())).items()),
        *(f"- {name}: {version}" for name, version in versions().items()),
        "",
    ]
    return "\n".join(lines)


def versions() -> dict[str, str]:
    metadata = importlib.import_module("importlib.metadata")
    return {"coati": coati.__version__} | {
        name: metadata.version(name) for name in ("aiozk", "kazoo") if installed(name)
    }


def command(options: argparse.Namespace) -> str:
    return f"python -m tools.bench_client --rounds {options.rounds} --seconds {options.seconds:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, row, *rest = options.child
        if name == "sessions":
            print(json.dumps([ours_sessions(row)]))
        else:
            print(json.dumps(CONTENDERS[name](row, rest[0], float(rest[1]))))
        return
    with JavaServer(JAVA, props=PROPS, cfg={"maxClientCnxns": "0", "maxSessionTimeout": "60000"}) as server:
        # Java is fast once it has compiled itself.
        child("coati", "get, 100 in flight", server.address, "5")
        found = rounds(server.address, options.rounds, options.seconds)
        (memory_mb,) = child("sessions", server.address)
    OUT.write_text(report(found, memory_mb, options), encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
