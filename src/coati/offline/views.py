"""What the commands that read show of a tree in memory: names, data, Stat, paths, sizes, exports.

Knows a tree; must not know files or forms of output.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from coati.core.tree import ROOT, Tree
from coati.core.znode import Znode
from coati.errors import NO_NODE, keeper_error
from coati.offline.txns import letters, owner_text
from coati.wire.jute import Reader
from coati.wire.records import ACL, Stat

EXPORT_FORMAT: Final = 1
_TTL_MASK: Final = (1 << 40) - 1


class Visit(NamedTuple):
    """One znode on the way through a tree. `lasts`: for each level, whether it is the last of its siblings."""

    path: bytes
    node: Znode
    lasts: tuple[bool, ...]


def node_of(tree: Tree, path: bytes) -> Znode:
    """Raises NoNode."""
    node = tree.nodes.get(path)
    if node is None:
        raise keeper_error(NO_NODE, path)
    return node


def stat_of(node: Znode) -> Stat:
    """What clients see."""
    return Stat.read(Reader(node.stat()))


def data_of(node: Znode) -> bytes:
    """Null data is no data to a client."""
    return node.data() or b""


def children_of(node: Znode) -> list[bytes]:
    """Their paths, in order of their names."""
    return [] if node.children is None else sorted(node.children.paths)


def walk(tree: Tree, path: bytes, levels: int | None = None) -> Iterator[Visit]:
    """The znode and all below it, so many levels deep: each before its children. Raises NoNode."""
    waiting = [Visit(path, node_of(tree, path), ())]
    while waiting:
        visit = waiting.pop()
        yield visit
        if levels is not None and len(visit.lasts) >= levels:
            continue
        below = children_of(visit.node)
        waiting += [
            Visit(child, tree.nodes[child], (*visit.lasts, child is below[-1])) for child in reversed(below)
        ]  # fmt: skip


def name_of(path: bytes) -> bytes:
    """The last part."""
    return path[path.rfind(b"/") + 1 :]


def find(tree: Tree, path: bytes, glob: str) -> Iterator[Visit]:
    """Those at or below `path` whose name fits; with a slash in the glob, whose path does."""
    is_path = "/" in glob
    whole = glob if not is_path or glob.startswith("/") else f"{path.decode('utf-8', 'replace').rstrip('/')}/{glob}"
    fits = re.compile(glob_pattern(whole), re.DOTALL).fullmatch
    for visit in walk(tree, path):
        subject = visit.path if is_path else name_of(visit.path)
        if fits(subject.decode("utf-8", "replace")):
            yield visit


def glob_pattern(glob: str) -> str:
    """`*` any characters, `?` one, `[a-z]` one of these: a regular expression."""
    parts: list[str] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        end = glob.find("]", at + 2) if char == "[" else -1
        if char == "*":
            parts.append(".*")
        elif char == "?":
            parts.append(".")
        elif end > 0:
            inside = re.sub(r"([\\\[\]&~|])", r"\\\1", glob[at + 1 : end])
            parts.append(f"[{'^' + inside[1:] if inside.startswith('!') else inside}]")
            at = end
        else:
            parts.append(re.escape(char))
        at += 1
    return "".join(parts)


class Size(NamedTuple):
    """A subtree: bytes of data and paths, and znodes."""

    path: bytes
    bytes: int
    znodes: int


def sizes(tree: Tree, path: bytes) -> list[Size]:
    """Of each child's subtree, the largest first, and at last of the whole. Raises NoNode."""
    found = [_subtree(tree, child) for child in children_of(node_of(tree, path))]
    found.sort(key=lambda size: -size.bytes)
    own = len(path) + len(data_of(tree.nodes[path]))
    total = own + sum(size.bytes for size in found)
    return [*found, Size(path, total, 1 + sum(size.znodes for size in found))]


def _subtree(tree: Tree, path: bytes) -> Size:
    size = count = 0
    waiting = [path]
    while waiting:
        at = waiting.pop()
        node = tree.nodes[at]
        size += len(at) + len(data_of(node))
        count += 1
        if node.children is not None:
            waiting += node.children.paths
    return Size(path, size, count)


# Exporting: the lines that `coati import` reads.


def export(tree: Tree, path: bytes, zxid: int) -> Iterator[bytes]:
    """A header, one object for each znode in the order of the paths, and a last line. Raises NoNode."""
    node_of(tree, path)
    yield _line({"coati_export": EXPORT_FORMAT, "path": _text(path), "zxid": zxid})
    count = 0
    for visit in walk(tree, path):
        relative = visit.path if path == ROOT else visit.path[len(path) :] or ROOT
        yield _line(_record(relative, visit.node))
        count += 1
    yield _line({"coati_export_end": EXPORT_FORMAT, "znodes": count})


def _record(path: bytes, node: Znode) -> dict[str, object]:
    record: dict[str, object] = {"path": _text(path)}
    data = data_of(node)
    try:
        record["data"] = data.decode()
    except UnicodeDecodeError:
        record["data_base64"] = base64.b64encode(data).decode()
    record["acl"] = acl_texts(tuple((one.perms, one.id.scheme, one.id.id) for one in entries_of(node)))
    kind, owner = owner_text(node.owner)
    record["mode"] = kind if kind != "ttl" else "persistent"
    if kind == "ttl":
        record["ttl"] = ttl_seconds(node)
    elif kind == "ephemeral":
        record["owner"] = owner
    stat = stat_of(node)
    record["version"] = stat.version
    record["ctime"] = stat.ctime
    record["mtime"] = stat.mtime
    return record


def entries_of(node: Znode) -> list[ACL]:
    """The ACL."""
    return node.acl.entries


def ttl_seconds(node: Znode) -> float:
    """The time to live of a znode that has one."""
    return (node.owner & _TTL_MASK) / 1000


@functools.lru_cache(maxsize=1024)
def acl_texts(entries: tuple[tuple[int, str, str], ...]) -> list[str]:
    """`scheme:id:perms` of each entry."""
    return [f"{scheme}:{id}:{letters(perms)}" for perms, scheme, id in entries]


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _line(record: dict[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
