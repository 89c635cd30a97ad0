"""Plots of the benchmark beside that of the rows: the failovers, and the observers.

Knows entries of results.json. Must not know how they were measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tools.bench_observers import with_a_core_each
from tools.bench_report import BAR_COLOUR, COLOURS, NAMES
from tools.bench_rows import rounded
from tools.bench_servers import JAVA

# Successive multiples of this, modulo 1, lie far from each other: dots that would hide one another do not.
SPREAD: Final = 0.618034
BAND: Final = 0.6


def render_failover(values: Mapping[str, Sequence[float]], limit_ms: float, path: Path) -> None:
    """A dot for each trial, in ms; lines for Java's median, which the medians are held to, and for the limit of all."""
    figure, axes = _figure(1, (10, 3.2))
    names = [name for name in NAMES if values.get(name)]
    labels: list[str] = []
    for place, name in enumerate(names):
        found = values[name]
        heights = [place + BAND * ((number * SPREAD) % 1 - 0.5) for number in range(len(found))]
        axes[0].plot(found, heights, "o", color=COLOURS[name], alpha=0.75, markersize=5, markeredgewidth=0)
        median = statistics.median(found)
        axes[0].plot([median, median], [place - BAND / 2 - 0.08, place + BAND / 2 + 0.08], color="black", linewidth=2)
        labels.append(f"{NAMES[name]}\nmedian {rounded(median)} ms\nworst {rounded(max(found))} ms")
    handles: list[Artist] = [Line2D([], [], color="black", linewidth=2, label="median")]
    if JAVA in names:
        java = statistics.median(values[JAVA])
        axes[0].axvline(java, color=COLOURS[JAVA], linestyle="--", linewidth=1, zorder=0)
        handles.append(Line2D([], [], color=COLOURS[JAVA], linestyle="--", label="bar of the medians: Java's"))
    axes[0].axvline(limit_ms, color=BAR_COLOUR, linewidth=2)
    handles.append(Line2D([], [], color=BAR_COLOUR, linewidth=2, label=f"bar of the worst: {limit_ms:g} ms"))
    axes[0].set_yticks(range(len(names)), labels)
    axes[0].invert_yaxis()
    axes[0].set_xlim(0, 1.05 * max(limit_ms, *(max(values[name]) for name in names)))
    axes[0].set_xlabel("ms from kill -9 of the leader until a write is acknowledged; a dot is a trial")
    _save(figure, handles, path)


def render_observers(stages: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Reads, lone writes, and the processor time of a write, each against the number of observers."""
    figure, (reads, lone, cost) = _figure(3, (13, 4.4))
    for name in NAMES:
        found = stages.get(name, [])
        counts = [stage["observers"] for stage in found]
        style: dict[str, Any] = {"color": COLOURS[name], "marker": "o", "markersize": 4}
        reads.plot(counts, [stage["reads_per_s"] for stage in found], **style)
        reads.plot(counts, [with_a_core_each(stage) for stage in found], linestyle="--", **style)
        lone.plot(counts, [stage["lone_set_us"] for stage in found], **style)
        for key, line in (("leader_us", "-"), ("follower_us", "--"), ("observer_us", ":")):
            known = [stage for stage in found if stage[key] is not None]
            cost.plot([stage["observers"] for stage in known], [stage[key] for stage in known], linestyle=line, **style)
    reads.set_title("reads/s: measured, all on one core (-), and\ncomputed, with a core for each server (- -)")
    reads.set_yscale("log")
    reads.yaxis.set_major_formatter("{x:,.0f}")
    lone.set_title("a lone write, p50 in us\n(two cores for all servers)")
    cost.set_title("processor time of a write in us:\nleader (-), a follower (- -), an observer (...)")
    for axes in (reads, lone, cost):
        axes.set_xlabel("observers beside three voters")
        axes.set_xticks(sorted({stage["observers"] for found in stages.values() for stage in found}))
    for axes in (lone, cost):
        axes.set_ylim(bottom=0)
    handles: list[Artist] = [Patch(color=COLOURS[name], label=NAMES[name]) for name in NAMES if name in stages]
    _save(figure, handles, path)


def _figure(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    mpl.rcParams.update({"svg.hashsalt": "coati", "font.size": 9})
    figure, found = plt.subplots(1, count, figsize=size, layout="constrained", squeeze=False)
    for axes in found[0]:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(found[0])


def _save(figure: Figure, handles: list[Artist], path: Path) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)
