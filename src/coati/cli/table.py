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
    "storage": {
        "snap": Entry("coati.cli.offline.snaps:SNAP", "look at snapshots on disk: ls, dump, diff, top, verify"),
        "log": Entry("coati.cli.offline.logs:LOG", "look at logs: ls, dump, history, verify, repair, replay"),
        "purge": Entry("coati.cli.offline.purge:PURGE", "remove old snapshots and logs"),
        "undelete": Entry("coati.cli.undelete:UNDELETE", "bring back a znode out of snapshots and logs"),
    },
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
