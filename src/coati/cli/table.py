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
    "inspecting": {},
    "ensembles": {},
    "storage": {},
    "server": {
        "serve": Entry("coati.cli.serve:main", "run a server"),
    },
    "tools": {
        "lab": Entry("coati.cli.lab:LAB", "watch simulated servers elect, agree and recover"),
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
