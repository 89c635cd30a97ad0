"""The files of `export`: a header, one JSON object for each znode in the order of their paths, and a last line.

Knows lines; must not know servers. Paths are relative: "/" is the znode that was exported. What clients cannot see is
not in an export (containers and TTLs), but is made by an import: "mode": "container", "ttl": seconds.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final, NamedTuple

from coati.cli.exits import USAGE, CommandError
from coati.client.types import ACL, OPEN, Mode, acl

FORMAT: Final = 1
HEADER: Final = "coati_export"
END: Final = "coati_export_end"
_MODES: Final = {"persistent": Mode.PERSISTENT, "ephemeral": Mode.PERSISTENT, "container": Mode.CONTAINER}
_UNSIGNED: Final = (1 << 64) - 1


class Entry(NamedTuple):
    """One znode, on its way. `owner`: the session of an ephemeral; `acl` None: whatever is usual there."""

    path: str
    data: bytes
    acl: tuple[ACL, ...] | None = None
    owner: int = 0
    version: int = 0
    mtime: int = 0
    mode: Mode = Mode.PERSISTENT
    ttl: float | None = None


def order(path: str) -> str:
    """By this paths are sorted: a parent, then all below it, then its next sibling."""
    return path.replace("/", "\0")


def header(path: str, zxid: int) -> bytes:
    """The first line."""
    return _line({HEADER: FORMAT, "path": path, "zxid": zxid})


def end(count: int) -> bytes:
    """The last line: a file without it was cut short."""
    return _line({END: FORMAT, "znodes": count})


def line(entry: Entry) -> bytes:
    """One znode."""
    record: dict[str, object] = {"path": entry.path}
    try:
        record["data"] = entry.data.decode()
    except UnicodeDecodeError:
        record["data_base64"] = base64.b64encode(entry.data).decode()
    if entry.acl is not None:
        record["acl"] = _acl_texts(entry.acl)
    record["mode"] = "ephemeral" if entry.owner else "persistent"
    if entry.owner:
        record["owner"] = f"{entry.owner & _UNSIGNED:#x}"
    record["version"] = entry.version
    record["mtime"] = entry.mtime
    return _line(record)


def _line(record: dict[str, object]) -> bytes:
    return _encode(record).encode() + b"\n"


_encode: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


@functools.lru_cache(maxsize=1024)
def _acl_texts(lines: tuple[ACL, ...]) -> list[str]:
    return [str(one) for one in lines]


@functools.lru_cache(maxsize=1024)
def _acl_of(texts: tuple[str, ...]) -> tuple[ACL, ...]:
    lines = tuple(one for text in texts for one in acl(text))
    return OPEN if lines == OPEN else lines


def hides(lines: Iterable[ACL]) -> bool:
    """The server has not told the hashes of its passwords: nobody could ever be let in by this ACL."""
    return any(one.scheme == "digest" and one.id.endswith(":x") for one in lines)


def read(file: IO[bytes], name: str, *, acl: bool) -> Iterator[Entry]:
    """The znodes of a file. Raises CommandError, with the number of the line, for what is no export."""
    number = 0
    last: dict[str, Any] = {}
    before = None
    above: list[str] = []
    for number, text in enumerate(file, 1):
        try:
            record = json.loads(text)
            if not isinstance(record, dict):
                raise ValueError("not an object")
            if number == 1:
                if record.get(HEADER) != FORMAT:
                    raise ValueError(f"an export of format {FORMAT} begins with {{{HEADER!r}: {FORMAT}}}")
                continue
            if END in last:
                raise ValueError("this is behind the end")
            last = record
            if END in record:
                continue
            entry = _entry(record, acl=acl)
            where = order(entry.path) if entry.path != "/" else ""
            if before is not None and where <= before:
                raise ValueError(f"{entry.path} is not in order: parents first, then names as `sort` has them")
            while above and not where.startswith(above[-1]):
                above.pop()
            if (before is None) != (entry.path == "/") or (above and "\0" in where[len(above[-1]) :]):
                raise ValueError(f"the parent of {entry.path} is missing")
            above.append(f"{where}\0")
            before = where
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise CommandError(f"{name}, line {number}: {_reason(error)}", USAGE) from None
        yield entry
    if END not in last:
        raise CommandError(f"{name} was cut short: its last line, {number}, is not the end of an export", USAGE)


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _entry(record: dict[str, Any], *, acl: bool) -> Entry:
    path = record["path"]
    if not isinstance(path, str) or not path.startswith("/") or "//" in path or (path != "/" and path.endswith("/")):
        raise ValueError(f"{path!r} is no path")
    if "data_base64" in record:
        data = base64.b64decode(record["data_base64"], validate=True)
    else:
        data = record.get("data", "").encode()
    mode = record.get("mode", "persistent")
    if mode not in _MODES:
        raise ValueError(f"a mode is one of {', '.join(_MODES)}, not {mode!r}")
    ttl = record.get("ttl")
    lines = _acl_of(tuple(record["acl"])) if acl and "acl" in record else None
    if lines is not None and hides(lines):
        raise ValueError(
            f"the hashes in the ACL of {path} are hidden, as whoever exported it had no ADMIN permission; --no-acl "
            "leaves ACLs away"
        )
    owner = int(record.get("owner", "0x1"), 16) if mode == "ephemeral" else 0
    return Entry(
        path, data, lines, owner, int(record.get("version", 0)), int(record.get("mtime", 0)), _MODES[mode],
        None if ttl is None else float(ttl),
    )  # fmt: skip
