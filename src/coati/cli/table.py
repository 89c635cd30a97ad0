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
        "sh": Entry("coati.cli.sh:SH", "the interactive shell; it knows the Java shell's commands too"),
        "bench": Entry("coati.cli.bench:main", "measure a server"),
        "context": Entry("coati.cli.contexts:CONTEXT", "named connections: list, add, use, remove"),
        "completion": Entry("coati.cli.completion:COMPLETION", "print a completion script for bash, zsh or fish"),
        "cheat": Entry("coati.cli.cheat:CHEAT", "examples by topic"),
        "errors": Entry("coati.cli.errorhelp:ERRORS", "what an error means and what to do about it"),
    },
}

HIDDEN: Final = {"_complete": Entry("coati.cli.completing:complete", "words for a shell's completion")}
"""For scripts of ours; not in the help."""


def commands() -> dict[str, Entry]:
    """All of them by name."""
    return {name: entry for group in GROUPS.values() for name, entry in group.items()}


def summary_of(name: str) -> str:
    """The line about a command."""
    entry = commands().get(name)
    return "" if entry is None else entry.summary
