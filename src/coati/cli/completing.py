"""`coati _complete LINE`: what may stand where the cursor is, for the completion scripts of bash, zsh and fish.

Knows the table of commands, contexts, and of ZooKeeper's protocol as much as a listing needs: a person waits for each
key, and the client alone takes longer to load than a listing to get. Whatever goes wrong, nothing is said.
"""

from __future__ import annotations

import itertools
import os
import shlex
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from coati import __version__
from coati.cli.main import WITH_VALUE, find
from coati.cli.places import contexts_path, listings_path
from coati.cli.table import GROUPS, commands

BUDGET_S: Final = 0.15
"""A listing that is not there by then is none."""
CONNECT_S: Final = 0.05
FRESH_S: Final = 2.0
"""So long a listing may be shown again."""
MOST_NAMES: Final = 1000
MOST_BYTES: Final = 4 << 20

# The groups whose commands are about znodes; elsewhere a path is a file's, which shells complete themselves.
_WITH_PATHS: Final = ("data", "watching", "access and quotas", "recipes", "inspecting")
_NO_SESSION: Final = struct.pack(">iiqiqi16s?", 45, 0, 0, 4000, 0, 16, bytes(16), True)
_GET_CHILDREN: Final = 8
_CLOSE: Final = -11
_AUTH: Final = 100
_XID: Final = 1
_AUTH_XID: Final = -4


class Server(NamedTuple):
    """Where a listing comes from: the connect string without its root, the root, and `scheme:credentials` or ""."""

    hosts: str
    root: str
    auth: str


def complete(argv: Sequence[str]) -> int:
    """Prints what fits the end of the line, one a line. Never fails."""
    try:
        found = candidates(argv[0] if argv else "", os.environ)
        sys.stdout.write("".join(f"{one}\n" for one in found))
    except Exception:
        return 0
    return 0


def candidates(line: str, environ: Mapping[str, str]) -> list[str]:
    """What the last word of the line may become."""
    words = _words(line)
    while words and os.path.basename(words[0]) != "coati":
        del words[0]
    if len(words) < 2:
        return []
    before, word = words[1:-1], words[-1]
    name, previous = _command(before), before[-1] if before else ""
    if name is None:
        return [] if previous in WITH_VALUE else [one for one in commands() if one.startswith(word)]
    if word.startswith("-"):
        return [flag for flag in _kept_flags(name, environ) if flag.startswith(word)]
    if previous in WITH_VALUE or not any(name in GROUPS[group] for group in _WITH_PATHS):
        return []
    return paths(word, server_of(before, environ), environ)


def _kept_flags(name: str, environ: Mapping[str, str]) -> list[str]:
    """Of this version, from a file: to ask a command is to load it, and the client with it."""
    file = os.path.join(os.path.dirname(listings_path(environ)), f"flags-{__version__}", name)
    try:
        return _text(file).splitlines()
    except OSError:
        flags = flags_of(name)
        _write(file, flags)
        return flags


def flags_of(name: str) -> list[str]:
    """The long flags of a command, and the short ones that have no long name."""
    command = find(name)
    parser = getattr(command, "parser", None)
    if parser is None:
        return []
    return [max(action.option_strings, key=len) for action in parser()._actions if action.option_strings]


def paths(word: str, server: Server | None, environ: Mapping[str, str]) -> list[str]:
    """The znodes that begin so: from the cache, or a server."""
    parent, _, start = word.rpartition("/")
    if server is None or (word and not word.startswith("/")):
        return []
    names = _cached(server, parent or "/", listings_path(environ))
    return [f"{parent}/{name}" for name in names if name.startswith(start) and name.isprintable()][:MOST_NAMES]


def server_of(words: Sequence[str], environ: Mapping[str, str]) -> Server | None:
    """Flags, then variables, then the context, as `online` has it. None where a listing would need TLS."""
    flags = dict(itertools.pairwise(words))
    flags |= {flag: value for flag, is_joined, value in (word.partition("=") for word in words) if is_joined}
    context = _context(flags.get("--context") or environ.get("COATI_CONTEXT"), environ)
    if "--tls-ca" in flags or "COATI_TLS_CA" in environ or "tls_ca" in context:
        return None
    given = flags.get("-s") or flags.get("--server") or environ.get("COATI_HOSTS") or context.get("hosts")
    hosts, slash, root = (given or "127.0.0.1:2181").removeprefix("zk://").partition("/")
    return Server(hosts, (slash + root).rstrip("/"), environ.get("COATI_AUTH", context.get("auth", "")))


def _context(name: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    try:
        text = _text(contexts_path(environ))
    except OSError:
        return {}
    import tomllib  # takes longer than a listing, and most have no such file

    kept = tomllib.loads(text)
    chosen: dict[str, str] = kept.get("context", {}).get(name or kept.get("current"), {})
    return chosen


def _words(line: str) -> list[str]:
    """As a shell splits them; the last one may be unfinished, and is there even if it is empty."""
    for end in ("", "'", '"'):
        try:
            words = shlex.split(line + end)
        except ValueError:
            continue
        return [*words, ""] if not end and line[-1:].isspace() else words
    return []


def _command(words: Sequence[str]) -> str | None:
    """The first word that is neither a flag nor a flag's value."""
    previous = ""
    for word in words:
        if not word.startswith("-") and previous not in WITH_VALUE:
            return word if word in commands() else ""
        previous = word
    return None


# --- listings -------------------------------------------------------------------------------------


def _cached(server: Server, path: str, directory: str) -> list[str]:
    # Of the credentials only who: the file needs no password.
    who = ":".join(server.auth.split(":")[:2])
    key = f"{server.hosts} {server.root}{path} {who}"
    file = os.path.join(directory, f"{zlib.crc32(key.encode()):08x}")
    try:
        if time.time() - os.stat(file).st_mtime < FRESH_S:
            first, *names = _text(file).splitlines()
            if first == key:
                return names
    except (OSError, ValueError):
        pass
    names = _in_time(server, path)
    if names:
        _keep(file, [key, *names])
    return names


def _keep(file: str, lines: Sequence[str]) -> None:
    """And the stale ones go."""
    try:
        for other in os.scandir(os.path.dirname(file)):
            if time.time() - other.stat().st_mtime > FRESH_S:
                os.unlink(other)
    except OSError:
        pass
    _write(file, lines)


def _write(file: str, lines: Sequence[str]) -> None:
    """All at once or not at all."""
    scratch = f"{file}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.writelines(f"{line}\n" for line in lines)
        os.replace(scratch, file)
    except OSError:
        pass


def _text(file: str) -> str:
    with open(file) as kept:
        return kept.read()


def _in_time(server: Server, path: str) -> list[str]:
    """The listing, or nothing if it takes too long, in the resolver too, which no timeout reaches."""
    found: list[str] = []
    asking = threading.Thread(target=_ask, args=(server, path, found), daemon=True)
    asking.start()
    asking.join(BUDGET_S)
    return sorted(found)


def _ask(server: Server, path: str, found: list[str]) -> None:
    for host in server.hosts.split(","):
        try:
            found += _children(host, (server.root + path).rstrip("/") or "/", server.auth)
        except (OSError, ValueError, struct.error):
            continue
        return


def _children(host: str, path: str, auth: str) -> list[str]:
    name, colon, port = host.strip().rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host.strip(), "2181"
    scheme, _, credentials = auth.partition(":")
    with socket.create_connection((name.strip("[]"), int(port)), CONNECT_S) as sock:
        sock.settimeout(BUDGET_S)
        sock.sendall(_NO_SESSION)
        _frame(sock)
        if scheme:
            body = struct.pack(">i", 0) + _sized(scheme) + _sized(credentials)
            sock.sendall(_request(_AUTH_XID, _AUTH, body))
        sock.sendall(_request(_XID, _GET_CHILDREN, _sized(path) + b"\0") + _request(_XID + 1, _CLOSE, b""))
        while True:
            reply = _frame(sock)
            xid, _, err = struct.unpack_from(">iqi", reply)
            if err:
                raise ValueError(err)
            if xid == _XID:
                return _names(reply, 16)


def _names(reply: bytes, at: int) -> list[str]:
    (count,) = struct.unpack_from(">i", reply, at)
    at += 4
    names: list[str] = []
    for _ in range(count):
        (size,) = struct.unpack_from(">i", reply, at)
        names.append(reply[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return names


def _request(xid: int, op: int, body: bytes) -> bytes:
    return struct.pack(">iii", 8 + len(body), xid, op) + body


def _sized(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">i", len(data)) + data


def _frame(sock: socket.socket) -> bytes:
    (size,) = struct.unpack(">i", _exactly(sock, 4))
    if not 0 <= size <= MOST_BYTES:
        raise ValueError(size)
    return _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ValueError("cut short")
        data += more
    return data
