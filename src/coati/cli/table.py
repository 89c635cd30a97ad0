"""The commands: where each lives, and a line about it. Nothing is imported before it is needed."""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """`home` is "module:NAME" of what is called with the arguments and gives the exit code."""

    home: str
    summary: str


GROUPS: Final[dict[str, dict[str, Entry]]] = {
    "data": {
        "get": Entry("coati.cli.look:GET", "show the data of a znode"),
    },
    "watching": {},
    "access and quotas": {},
    "recipes": {},
    "inspecting": {
        "status": Entry("coati.cli.status:STATUS", "show every server of the ensemble in one table"),
        "top": Entry("coati.cli.top:TOP", "show what servers do, again and again"),
        "who": Entry("coati.cli.who:WHO", "show who watches, owns and waits at a znode"),
        "sessions": Entry("coati.cli.who:SESSIONS", "list sessions with their clients and ephemerals"),
        "watches": Entry("coati.cli.who:WATCHES", "list the watches that servers keep"),
        "4lw": Entry("coati.cli.status:WORD", "send a four-letter word"),
        "metrics": Entry("coati.cli.status:METRICS", "list what servers count"),
        "events": Entry("coati.cli.who:EVENTS", "follow changes below a znode, and of the session"),
        "latency": Entry("coati.cli.status:LATENCY", "measure round trips to servers"),
        "doctor": Entry("coati.cli.doctor:DOCTOR", "look for wrong configurations and for trouble"),
    },
    "ensembles": {},
    "storage": {},
    "server": {
        "serve": Entry("coati.cli.serve:main", "run a server"),
        "check-config": Entry("coati.cli.checkconfig:CHECK", "say what a server would say of a zoo.cfg"),
        "probe": Entry("coati.cli.probe:PROBE", "tell an orchestrator whether a server lives or is ready"),
    },
    "tools": {
        "bench": Entry("coati.cli.bench:main", "measure a server"),
    },
}


def commands() -> dict[str, Entry]:
    """All of them by name."""
    return {name: entry for group in GROUPS.values() for name, entry in group.items()}


def summary_of(name: str) -> str:
    """The line about a command."""
    entry = commands().get(name)
    return "" if entry is None else entry.summary
