"""The commands: where each lives, and a line about it. Nothing is imported before it is needed."""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """`home` is "module:NAME" of what is called with the arguments and gives the exit code."""

    home: str
    summary: str


GROUPS: Final[dict[str, dict[str, Entry]]] = {
    "data": {
        "ls": Entry("coati.cli.look:LS", "list the children of a znode"),
        "tree": Entry("coati.cli.look:TREE", "draw a znode and all below it"),
        "get": Entry("coati.cli.look:GET", "show the data of a znode"),
        "set": Entry("coati.cli.change:SET", "set the data of a znode"),
        "create": Entry("coati.cli.change:CREATE", "make a znode"),
        "rm": Entry("coati.cli.change:RM", "delete znodes"),
        "stat": Entry("coati.cli.look:STAT", "show what a server knows of a znode besides its data"),
        "exists": Entry("coati.cli.look:EXISTS", "whether a znode is there, as an exit code"),
        "edit": Entry("coati.cli.edit:EDIT", "change the data of a znode in an editor"),
        "cp": Entry("coati.cli.bulk:CP", "copy a znode or a tree, also to another server or a file"),
        "mv": Entry("coati.cli.bulk:MV", "copy a tree, then delete it where it was"),
        "mirror": Entry("coati.cli.bulk:MIRROR", "make a tree like another one"),
        "diff": Entry("coati.cli.bulk:DIFF", "compare two trees"),
        "find": Entry("coati.cli.search:FIND", "find znodes by name, age, size or owner"),
        "grep": Entry("coati.cli.search:GREP", "find lines in the data of znodes"),
        "export": Entry("coati.cli.bulk:EXPORT", "write a tree to a file of JSON lines"),
        "import": Entry("coati.cli.bulk:IMPORT", "read a file of `coati export` into a tree"),
        "txn": Entry("coati.cli.txn:TXN", "do several changes in one transaction"),
        "sync": Entry("coati.cli.look:SYNC", "wait until the server has caught up with its leader"),
        "count": Entry("coati.cli.look:COUNT", "how many znodes are below one"),
        "du": Entry("coati.cli.search:DU", "count znodes and bytes of subtrees"),
    },
    "watching": {
        "watch": Entry("coati.cli.watching:WATCH", "show the events of a znode or a tree, or run a command on each"),
        "wait": Entry("coati.cli.watching:WAIT", "wait until a znode is there, is gone, or is as it should be"),
    },
    "access and quotas": {
        "acl": Entry("coati.cli.acl:ACL_COMMAND", "show and change who may do what with a znode"),
        "auth": Entry("coati.cli.acl:AUTH", "hash a password for ACLs, or show as whom a server knows us"),
        "quota": Entry("coati.cli.quota:QUOTA", "limit how much a subtree may hold"),
    },
    "recipes": {
        "lock": Entry("coati.cli.held:LOCK", "run a command while a lock is held"),
        "elect": Entry("coati.cli.held:ELECT", "run a command while an office is held"),
        "sem": Entry("coati.cli.held:SEM", "run a command while a place of a semaphore is held"),
        "queue": Entry("coati.cli.queueing:QUEUE", "put items into a queue, take them out, list them"),
        "members": Entry("coati.cli.meeting:MEMBERS", "show who is in a group, or be in it"),
        "counter": Entry("coati.cli.meeting:COUNTER", "read, change or set a number that many change"),
        "barrier": Entry("coati.cli.meeting:BARRIER", "wait until a barrier is open, open or close it"),
    },
    "inspecting": {
        "status": Entry("coati.cli.status:STATUS", "show every server of the ensemble in one table"),
        "top": Entry("coati.cli.top:TOP", "show what servers do, again and again"),
        "who": Entry("coati.cli.who:WHO", "show who watches, owns and waits at a znode"),
        "sessions": Entry("coati.cli.who:SESSIONS", "list sessions with their clients and ephemerals"),
        "watches": Entry("coati.cli.who:WATCHES", "list the watches that servers keep"),
        "events": Entry("coati.cli.who:EVENTS", "follow changes below a znode, and of the session"),
        "latency": Entry("coati.cli.status:LATENCY", "measure round trips to servers"),
        "4lw": Entry("coati.cli.status:WORD", "send a four-letter word"),
        "metrics": Entry("coati.cli.status:METRICS", "list what servers count"),
        "doctor": Entry("coati.cli.doctor:DOCTOR", "look for wrong configurations and for trouble"),
    },
    "ensembles": {
        "config": Entry("coati.cli.config:CONFIG", "show and change who is in the ensemble"),
        "ensemble": Entry("coati.cli.ensemble:ENSEMBLE", "run servers on this machine, and break them"),
    },
    "storage": {
        "snap": Entry("coati.cli.offline.snaps:SNAP", "look at snapshots on disk: ls, dump, diff, top, verify"),
        "log": Entry("coati.cli.offline.logs:LOG", "look at logs: ls, dump, history, verify, repair, replay"),
        "purge": Entry("coati.cli.offline.purge:PURGE", "remove old snapshots and logs"),
        "undelete": Entry("coati.cli.undelete:UNDELETE", "bring back a znode out of snapshots and logs"),
    },
    "server": {
        "serve": Entry("coati.cli.serve:main", "run a server"),
        "init": Entry("coati.cli.init:INIT", "make a data directory for a member of an ensemble"),
        "check-config": Entry("coati.cli.checkconfig:CHECK", "say what a server would say of a zoo.cfg"),
        "probe": Entry("coati.cli.probe:PROBE", "tell an orchestrator whether a server lives or is ready"),
    },
    "tools": {
        "sh": Entry("coati.cli.sh:SH", "the interactive shell; it knows the Java shell's commands too"),
        "lab": Entry("coati.cli.lab:LAB", "watch simulated servers elect, agree and recover"),
        "smoke": Entry("coati.cli.smoke:SMOKE", "try with every server what clients need"),
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
