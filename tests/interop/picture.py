"""A whole tree as one value: every znode's data, Stat and ACL as the wire shows them; the password of a session id."""

from __future__ import annotations

from dataclasses import dataclass

from tests.interop import raw

READS_IN_FLIGHT = 200


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server shows of one znode."""

    data: bytes | None
    stat: raw.Stat
    acl: tuple[raw.Acl, ...]


def children(session: raw.Session, path: str) -> list[str]:
    """The paths of a znode's children, sorted."""
    error, names = session.call(raw.GET_CHILDREN, raw.path_watch(path))
    assert error == 0, f"getChildren {path}: {error}"
    assert isinstance(names, list)
    return [f"{path.rstrip('/')}/{name}" for name in names]


def walk(session: raw.Session, root: str = "/") -> list[str]:
    """All paths from `root` down, parents first."""
    found = [root]
    for path in found:
        found += children(session, path)
    return found


def take(session: raw.Session, root: str = "/") -> dict[str, Shown]:
    """The picture of everything from `root` down, as the superuser sees it."""
    paths = walk(session, root)
    picture: dict[str, Shown] = {}
    for start in range(0, len(paths), READS_IN_FLIGHT):
        part = paths[start : start + READS_IN_FLIGHT]
        for path in part:
            session.send(raw.GET_DATA, raw.path_watch(path))
            session.send(raw.GET_ACL, raw.ustring(path))
        for path in part:
            shown, (acl, again) = _shown_data(session, path), _shown_acl(session, path)
            assert shown[1] == again, f"{path}: getData and getACL show different Stats"
            picture[path] = Shown(*shown, acl)
    return picture


def _shown_data(session: raw.Session, path: str) -> tuple[bytes | None, raw.Stat]:
    data, stat = _body(session, raw.GET_DATA, path)
    assert data is None or isinstance(data, bytes)
    assert isinstance(stat, raw.Stat)
    return data, stat


def _shown_acl(session: raw.Session, path: str) -> tuple[tuple[raw.Acl, ...], raw.Stat]:
    acl, stat = _body(session, raw.GET_ACL, path)
    assert isinstance(acl, list)
    assert isinstance(stat, raw.Stat)
    return tuple(acl), stat


def _body(session: raw.Session, op: int, path: str) -> tuple[object, object]:
    reply = session.reply()
    assert reply.err == 0, f"op {op} of {path}: {reply.err}"
    body = raw.decode(op, reply.body)
    assert isinstance(body, tuple)
    first, stat = body
    return first, stat


def password(session_id: int) -> bytes:
    """What SessionTrackerImpl gives out for an id: 16 bytes of java.util.Random, seeded with the id and a constant."""
    state = (session_id ^ 0xB3415C00 ^ 0x5DEECE66D) & (1 << 48) - 1
    made = b""
    while len(made) < 16:
        state = (state * 0x5DEECE66D + 0xB) & (1 << 48) - 1
        made += (state >> 16 & 0xFFFFFFFF).to_bytes(4, "little")
    return made
