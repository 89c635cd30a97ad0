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
    "recipes": {
        "lock": Entry("coati.cli.held:LOCK", "run a command while a lock is held"),
        "elect": Entry("coati.cli.held:ELECT", "run a command while an office is held"),
        "sem": Entry("coati.cli.held:SEM", "run a command while a place of a semaphore is held"),
        "queue": Entry("coati.cli.queueing:QUEUE", "put items into a queue, take them out, list them"),
        "members": Entry("coati.cli.meeting:MEMBERS", "show who is in a group, or be in it"),
        "counter": Entry("coati.cli.meeting:COUNTER", "read, change or set a number that many change"),
        "barrier": Entry("coati.cli.meeting:BARRIER", "wait until a barrier is open, open or close it"),
    },
    "inspecting": {},
    "ensembles": {
        "ensemble": Entry("coati.cli.ensemble:ENSEMBLE", "run servers on this machine, and break them"),
    },
    "storage": {},
    "server": {
        "serve": Entry("coati.cli.serve:main", "run a server"),
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
