"""`coati log replay`: the commands that read, on the tree as it was."""

from __future__ import annotations

import argparse

from coati.cli.command import Call
from coati.cli.offline.group import Sub, add_sub
from coati.cli.output import Cell, printable
from coati.offline import views
from coati.offline.moments import parse_moment, time_text, zxid_text
from coati.offline.past import Past, past_at
from coati.offline.places import find
from coati.offline.txns import acl_text, owner_text
from coati.offline.views import Visit

EXAMPLES = """  coati log replay /var/lib/zookeeper --until 0x1200000005
  coati log replay /var/lib/zookeeper --until 2026-11-21T22:15:00Z ls -R /app
  coati log replay /data --log-dir /logs --until 0x1200000005 get /app/config
  coati log replay /data --until 0x1200000005 export /app > app.jsonl"""

LONG = ("version", "children", "bytes", "owner", "modified")


def flags(parser: argparse.ArgumentParser) -> None:
    """Where, when, and what to look at."""
    parser.add_argument("where", metavar="DIR", help="a dataDir or its version-2")
    parser.add_argument("--log-dir", metavar="DIR", help="the dataLogDir, where that is another one")
    parser.add_argument(
        "--until", required=True, metavar="ZXID|TIME",
        help="0x1200000005, or the last txn not later than 2026-11-21T22:15:00Z (UTC) or 1795299300000 (ms)",
    )  # fmt: skip
    inner = parser.add_subparsers(metavar="READ-COMMAND", dest="read", title="what to show (else a summary)")
    for sub in READS:
        add_sub(inner, sub, f"coati log replay DIR --until ZXID|TIME {sub.name}")


def body(call: Call) -> int | None:
    """The summary; an inner command has a body of its own."""
    past = past_of(call)
    tree = past.tree
    call.out.record(
        {
            "zxid": zxid_text(past.zxid), "time": None if past.time_ms is None else time_text(past.time_ms),
            "snapshot": past.base or None, "znodes": len(tree.nodes), "ephemerals": tree.ephemerals_count(),
            "sessions": len(past.sessions), "bytes": tree.data_bytes, "digest": zxid_text(tree.digest),
        }
    )  # fmt: skip
    return None


def past_of(call: Call) -> Past:
    """The tree that is asked for; what there is to know about it is said."""
    given = call.options
    past = past_at(find(given.where, given.log_dir), parse_moment(given.until))
    for note in past.notes:
        call.note(note)
    return past


def encoded(call: Call) -> bytes:
    """The path that is asked for, as the tree has it."""
    return call.path(call.options.path).encode("utf-8", "surrogateescape")


def _path_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", nargs="?", default="/")


def _ls_flags(parser: argparse.ArgumentParser) -> None:
    _path_flag(parser)
    parser.add_argument("-l", "--long", action="store_true", help=f"with {', '.join(LONG)}")
    parser.add_argument("-R", "--recursive", action="store_true", help="the paths of the whole tree")


def _ls(call: Call) -> None:
    given = call.options
    visits = views.walk(past_of(call).tree, encoded(call), None if given.recursive else 1)
    columns = ("path" if given.recursive else "name", *(LONG if given.long else ()))
    with call.out.table(*columns, header=given.long) as table:
        for visit in visits:
            if given.recursive or visit.lasts:
                name = visit.path if given.recursive else views.name_of(visit.path)
                table.row(name, *(_long(visit) if given.long else ()))


def _long(visit: Visit) -> tuple[Cell, ...]:
    stat = views.stat_of(visit.node)
    kind, owner = owner_text(visit.node.owner)
    return (
        stat.version, stat.num_children, stat.data_length, owner if kind == "ephemeral" else None,
        time_text(stat.mtime),
    )  # fmt: skip


def _get(call: Call) -> None:
    path = encoded(call)
    call.out.data(views.data_of(views.node_of(past_of(call).tree, path)), path=path)


def _stat(call: Call) -> None:
    path = encoded(call)
    node = views.node_of(past_of(call).tree, path)
    stat = views.stat_of(node)
    kind, owner = owner_text(node.owner)
    call.out.record(
        {
            "path": path, "czxid": zxid_text(stat.czxid), "mzxid": zxid_text(stat.mzxid),
            "pzxid": zxid_text(stat.pzxid), "ctime": time_text(stat.ctime), "mtime": time_text(stat.mtime),
            "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
            "ephemeral_owner": zxid_text(stat.ephemeral_owner), "data_length": stat.data_length,
            "num_children": stat.num_children, "kind": kind, "ttl": owner if kind == "ttl" else None,
            "acl": acl_text(node.acl.entries),
        }
    )  # fmt: skip


def _tree_flags(parser: argparse.ArgumentParser) -> None:
    _path_flag(parser)
    parser.add_argument("-L", "--levels", type=int, metavar="N", help="so many levels below the first znode")


def _tree(call: Call) -> None:
    visits = views.walk(past_of(call).tree, encoded(call), call.options.levels)
    if call.out.is_structured:
        with call.out.table("path") as table:
            for visit in visits:
                table.row(visit.path)
        return
    for visit in visits:
        stem = "".join("    " if is_last else "│   " for is_last in visit.lasts[:-1])
        knot = "" if not visit.lasts else "└── " if visit.lasts[-1] else "├── "
        call.out.text(stem + knot + printable(views.name_of(visit.path) if visit.lasts else visit.path))


def _find_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="[PATH] GLOB", nargs="+", help="a name with * ? [a-z], or with a slash a path")


def _find(call: Call) -> None:
    *above, glob = call.options.words
    path = call.path(above[0] if above else "/").encode("utf-8", "surrogateescape")
    with call.out.table("path", header=False) as table:
        for visit in views.find(past_of(call).tree, path, glob):
            table.row(visit.path)


def _export(call: Call) -> None:
    past = past_of(call)
    for line in views.export(past.tree, encoded(call), past.zxid):
        call.out.write(line)


def _du(call: Call) -> None:
    found = views.sizes(past_of(call).tree, encoded(call))
    with call.out.table("bytes", "znodes", "path") as table:
        for size in found:
            table.row(size.bytes, size.znodes, size.path)


READS = (
    Sub("ls", "list children", _ls_flags, _ls),
    Sub("get", "show data", _path_flag, _get),
    Sub("stat", "show the Stat and the ACL", _path_flag, _stat),
    Sub("tree", "draw the tree", _tree_flags, _tree),
    Sub("find", "look for names or paths", _find_flags, _find),
    Sub("export", "write what `coati import` reads", _path_flag, _export),
    Sub("du", "bytes of data and paths, by child", _path_flag, _du),
)
