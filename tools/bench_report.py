"""Results of the benchmark as JSON, as a table and as a plot.

Knows how a measured value stands to its bar. Must not know how it was measured. Invariant: what was not measured is not
met.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tools.bench_observers import KEY as OBSERVERS
from tools.bench_observers import with_a_core_each
from tools.bench_rows import HEAP, LARGE_HEAP, Measured, Row, rounded, short
from tools.bench_servers import COMPILED, JAVA, JAVA_VERSION, PURE
from tools.javapeer import java_command

NAMES: Final = {JAVA: f"Java {JAVA_VERSION}", PURE: "coati pure", COMPILED: "coati compiled"}
COLOURS: Final = {JAVA: "#8a8f98", PURE: "#3b7dd8", COMPILED: "#d9722b"}
BAR_COLOUR: Final = "#b3261e"
FAILOVER: Final = "trio-failover"
SYNC_PROBES: Final = 200
SYNC_BYTES: Final = 4096
ABOUT: Final = """\
- Server on one core, load on another. Data directories are fresh, fdatasync is on, no round had an error reply.
- Java {java} has its default collector (on one core: Serial) and -Xmx{heap} ({large} for {znodes:,} znodes), and logs
  errors only.
- The load to be measured first warms Java up for {java_warmup_s:g} s, coati for {warmup_s:g} s.
- Medians of {rounds} rounds of {seconds:g} s ({starts} starts for the empty directory), the servers taking turns; those
  not being measured are stopped by signal meanwhile.
- A lone client spins on its socket, so that the time to wake it is not counted; the notes say what a sleeping one sees.
- The first answer is an open session. At a cold start the files are in the page cache: it is the process that is cold.
- MB are 1,000,000 bytes of resident memory."""
ABOUT_TRIO: Final = """\
Three of a kind, clients spread over them. Each round has a new ensemble, and no other one runs. For throughput all
three are on one core; for what takes its time alone (a lone write, starts, elections) they have the whole machine, and
the client sleeps until its reply comes. A leader that was killed is back before the next one is killed."""
ABOUT_OBSERVERS: Final = """\
Three voters, and observers that join one by one. Reads go to all servers, writes to the voters. All servers share one
core here, so that more of them do not answer more: what an observer brings is in the processor time that a read takes,
from which the reads/s with a core for each server are computed, not measured. An observer has no vote, and nobody waits
for it. What it costs is in the processor time of a write: the leader tells one more server, and the observer logs it.
A lone write has the whole machine: two cores and one disk for all servers."""


@dataclass(frozen=True)
class Verdict:
    """One value of coati against its bar. `held` is what the bar is compared with: a ratio to Java's or the value."""

    value: float
    held: float | None
    bar: float
    met: bool


def verdict(row: Row, medians: Mapping[str, float], name: str) -> Verdict | None:
    """How contender `name` did, or None when it was not measured."""
    value = medians.get(name)
    if value is None:
        return None
    bar = row.bars[name]
    if row.compare == "max":
        return Verdict(value, value, bar, value <= bar)
    java = medians.get(JAVA)
    if not java:
        return Verdict(value, None, bar, met=False)
    ratio = value / java
    return Verdict(value, ratio, bar, ratio >= bar if row.compare == ">=" else ratio <= bar)


def result_of(row: Row, measured: Measured) -> dict[str, Any]:
    """The row's entry of results.json."""
    medians = {name: statistics.median(values) for name, values in measured.values.items() if values}
    entry: dict[str, Any] = {
        "title": row.title,
        "unit": row.unit,
        "compare": row.compare,
        "values": {name: [short(value) for value in values] for name, values in measured.values.items()},
        "medians": {name: short(value) for name, value in medians.items()},
        "notes": measured.notes,
        "verdicts": {},
    }
    for name in row.bars:
        found = verdict(row, medians, name)
        if found is not None:
            held = None if found.held is None else short(found.held)
            entry["verdicts"][name] = {"held": held, "bar": found.bar, "met": found.met}
    return entry


def render_markdown(rows: Sequence[Row], results: Mapping[str, Any], trio_rows: Sequence[Row] = ()) -> str:
    """RESULTS.md of the entries of results.json; `trio_rows` have a table of their own once one is measured."""
    lines = [
        "# Benchmark",
        "",
        f"Last measured on {results['date']} with `{results['command']}`.",
        "A run with `--only` keeps the other rows as an earlier run left them.",
        "",
        *_about(results),
        "",
    ]
    lines += _table(rows, results)
    lines += ["", "![results](results.svg)", *_notes(rows, results)]
    if any(row.key in results["rows"] for row in trio_rows):
        lines += ["", "## Three servers", "", ABOUT_TRIO, "", *_table(trio_rows, results)]
        lines += ["", "![three servers](trio.svg)", *_notes(trio_rows, results)]
        if FAILOVER in results["rows"]:
            lines += ["", "![failovers](failover.svg)"]
    if OBSERVERS in results["rows"]:
        lines += ["", "## Observers", "", ABOUT_OBSERVERS, ""]
        lines += [*_observers(results["rows"][OBSERVERS]["stages"]), "", "![observers](observers.svg)"]
    return "\n".join(lines) + "\n"


def _notes(rows: Sequence[Row], results: Mapping[str, Any]) -> list[str]:
    lines = ["", "Beside the medians of the table:", ""]
    for row in rows:
        for note in results["rows"].get(row.key, {}).get("notes", []):
            lines.append(f"- {row.title}: {note}.")
    return lines


def _observers(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    columns = [
        *("servers", "observers", "reads/s, all on one core", "us a read", "reads/s with a core each, computed"),
        *("writes/s, all on one core", "us a write: leader", "a follower", "an observer"),
        *("lone set, p50", "lone set, p99"),
    ]
    lines = [f"| {' | '.join(columns)} |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    for name in NAMES:
        for stage in stages.get(name, []):
            observer_us = stage["observer_us"]
            figures = [
                *(stage["reads_per_s"], stage["read_us"], with_a_core_each(stage), stage["writes_per_s"]),
                *(stage["leader_us"], stage["follower_us"]),
            ]
            cells = [NAMES[name], str(stage["observers"]), *map(rounded, figures)]
            cells.append("-" if observer_us is None else rounded(observer_us))
            cells += [_quantity(stage["lone_set_us"], "us"), _quantity(stage["lone_set_p99_us"], "us")]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _table(rows: Sequence[Row], results: Mapping[str, Any]) -> list[str]:
    lines = [
        f"| work | {NAMES[JAVA]} | {NAMES[PURE]} | against the bar | met | {NAMES[COMPILED]} | against the bar | met |",
        "|---|--:|--:|--:|:-:|--:|--:|:-:|",
    ]
    for row in rows:
        entry = results["rows"].get(row.key)
        if entry is None:
            lines.append(f"| {row.title} | not measured |" + " |" * 6)
            continue
        medians = entry["medians"]
        cells = [row.title, _quantity(medians.get(JAVA), row.unit)]
        for name in (PURE, COMPILED):
            cells += [_quantity(medians.get(name), row.unit), *_against(row, medians, name)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def render_plot(rows: Sequence[Row], results: Mapping[str, Any], path: Path) -> None:
    """Throughput over Java's on the left, the rows with an upper limit on the right; red ticks are the bars."""
    measured = [row for row in rows if row.key in results["rows"]]
    faster = [row for row in measured if row.compare == ">="]
    limited = [row for row in measured if row.compare != ">="]
    mpl.rcParams.update({"svg.hashsalt": "coati", "font.size": 9})
    tall = max(len(faster), len(limited), 2)
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 1.2 + 0.62 * tall), layout="constrained")
    _panel(left, faster, results, lambda row, name, medians: _over_java(medians, name))
    left.set_title("throughput over Java's (more is better)")
    left.axvline(1, color=COLOURS[JAVA], linewidth=1)
    _panel(right, limited, results, _share_of_limit)
    right.set_title("share of the limit used (less is better)")
    right.axvline(1, color=BAR_COLOUR, linewidth=1)
    handles: list[Artist] = [Patch(color=COLOURS[name], label=label) for name, label in NAMES.items()]
    handles.append(Line2D([], [], color=BAR_COLOUR, linewidth=2, label="bar"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)


def machine(data_root: Path) -> dict[str, str]:
    """What the figures depend on."""
    cpu = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    java = subprocess.run([java_command(), "-version"], capture_output=True, text=True, check=True).stderr
    filesystem = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(data_root)], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "java": java.splitlines()[0].replace('"', ""),
        "disk": f"{filesystem}, fdatasync of {SYNC_BYTES} bytes appended takes {sync_us(data_root):.0f} us (median)",
    }


def sync_us(directory: Path) -> float:
    """The median of an fdatasync after a small append, in microseconds."""
    took: list[float] = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(SYNC_PROBES):
            file.write(bytes(SYNC_BYTES))
            file.flush()
            start_s = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - start_s) * 1e6)
    return statistics.median(took)


def save_json(results: Mapping[str, Any], path: Path) -> None:
    """results.json, stable in its order."""
    path.write_text(json.dumps(results, indent=1) + "\n")


def _about(results: Mapping[str, Any]) -> list[str]:
    settings = results["settings"]
    about = [f"- {name}: {text}" for name, text in results["machine"].items()]
    about.append(ABOUT.format(java=JAVA_VERSION, heap=HEAP, large=LARGE_HEAP, **settings))
    if settings["quick"]:
        about.append("- **A quick run: too short to be quoted.**")
    return about


def _against(row: Row, medians: Mapping[str, float], name: str) -> tuple[str, str]:
    found = verdict(row, medians, name)
    sign = "≥" if row.compare == ">=" else "≤"
    unit = f" {row.unit}" if row.compare == "max" else "x"
    bar = f"{sign} {row.bars[name]:g}{unit}"
    if found is None:
        return f"{bar}", "-"
    held = "" if row.compare == "max" or found.held is None else f"{found.held:.2f}x, "
    return f"{held}{bar}", "yes" if found.met else "no"


def _quantity(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{rounded(value)} {unit}"


def _over_java(medians: Mapping[str, float], name: str) -> float | None:
    value, java = medians.get(name), medians.get(JAVA)
    return value / java if value is not None and java else None


def _share_of_limit(row: Row, name: str, medians: Mapping[str, float]) -> float | None:
    """Of contender `name`; Java is held against the bar of pure coati."""
    bar = row.bars.get(name, row.bars[PURE])
    value = medians.get(name) if row.compare == "max" else _over_java(medians, name)
    return None if value is None else value / bar


def _panel(axes: Axes, rows: Sequence[Row], results: Mapping[str, Any], length_of: Any) -> None:
    height = 0.8 / len(NAMES)
    for place, name in enumerate(NAMES):
        for number, row in enumerate(rows):
            medians = results["rows"][row.key]["medians"]
            length = length_of(row, name, medians)
            if length is None:
                continue
            y = number + (place - 1) * height
            axes.barh(y, length, height * 0.92, color=COLOURS[name])
            bar = row.bars.get(name, 0.0) if row.compare == ">=" else 1.0
            if row.compare == ">=" and bar:
                axes.plot([bar, bar], [y - height / 2, y + height / 2], color=BAR_COLOUR, linewidth=2)
            text = f" {_quantity(medians[name], row.unit)}"
            # Beside a bar that was just missed, not across it.
            beyond = max(length, bar) if length > 0.55 * bar else length
            axes.text(beyond, y, text, va="center", fontsize=7.5)
    axes.set_yticks(range(len(rows)), [_wrapped(row.title) for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)


def _wrapped(title: str, width: int = 30) -> str:
    lines = [""]
    for word in title.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
