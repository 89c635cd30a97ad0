"""How long commands take as processes of their own: `python -m tools.bench_starts`. Writes bench/CLI.md.

Each runs against a coati server, from compiled files, as often as asked for and once before; a figure is the median by
the clock, the memory the most that one had.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from tests.interop.peers import CoatiServer
from tools.bench_report import machine

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "bench" / "CLI.md"
# Arguments of the interpreter, and what is asked for in milliseconds and MB.
ROWS: Final[dict[str, tuple[list[str], str, str]]] = {
    "python -c pass": (["-c", "pass"], "", ""),
    'python -c "import coati"': (["-c", "import coati"], "60 above a bare interpreter", ""),
    "coati get /": (["-m", "coati", "get", "/"], "150", "40"),
    "coati probe ready": (["-m", "coati", "probe", "ready"], "60", ""),
    'completion of "coati get /zoo"': (["-m", "coati", "_complete", "coati get /zoo"], "100", ""),
}


# A small process that starts the commands: what the kernel counts as a child's memory begins with its parent's.
STARTER: Final = """
import os, sys, time
began = time.perf_counter()
null = os.open(os.devnull, os.O_WRONLY)
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
_, status, usage = os.wait4(pid, 0)
print(1000 * (time.perf_counter() - began), usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
"""


def run(words: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Milliseconds from its start to its end, and the most memory it had in MB. Raises if it does not succeed."""
    command = [sys.executable, "-I", "-S", "-c", STARTER, sys.executable, *words]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    took, memory, code = done.stdout.split()
    if code != "0":
        raise RuntimeError(f"{words}: exit code {code}: {done.stderr}")
    return float(took), float(memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    lines = [
        "# Commands, measured",
        "",
        f"`python -m tools.bench_starts --runs {runs}`, {datetime.now(UTC):%Y-%m-%d}: each as a process of its own",
        f"against a coati server, the median of {runs} by the clock, and the most memory of any.",
        "",
        "| command | ms | goal | MB | goal |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    with CoatiServer() as server, tempfile.TemporaryDirectory() as cache:
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environ |= {"COATI_HOSTS": server.address, "PYTHONPYCACHEPREFIX": cache, "PYTHONPATH": str(ROOT / "src")}
        for name, (words, goal_ms, goal_mb) in ROWS.items():
            run(words, environ)
            found = [run(words, environ) for _ in range(runs)]
            took, memory = median(ms for ms, _ in found), max(mb for _, mb in found)
            lines.append(f"| `{name}` | {took:.0f} | {goal_ms} | {memory:.0f} | {goal_mb} |")
    lines += ["", *(f"- {name}: {value}" for name, value in machine(Path(tempfile.gettempdir())).items()), ""]
    OUT.write_text("\n".join(lines), encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
