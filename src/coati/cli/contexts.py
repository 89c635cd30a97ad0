"""`coati context`: named sets of connection flags, in a file that only its owner can read.

Knows the file's shape; what a context means is `online`'s business.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from coati.cli.command import Call
from coati.cli.exits import CONFLICT, MISSING, USAGE, CommandError
from coati.cli.online import KEYS, OnlineCall, OnlineCommand, target_of
from coati.cli.places import contexts_path

_NAME: Final = re.compile("[A-Za-z0-9_-]+")


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("ls", "add", "use", "rm"), help="add keeps the flags of this call")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--replace", action="store_true", help="add: also where there is one of this name")
    parser.add_argument("--use", action="store_true", help="add: and use it from now on")


async def _context(call: OnlineCall) -> None:
    action, name = call.options.action, call.options.name
    if action == "ls":
        _list(call)
        return
    if name is None or _NAME.fullmatch(name) is None:
        raise CommandError(f"{action} needs a name, of letters, digits, - and _", USAGE)
    path = Path(contexts_path(call.environ))
    kept = _read(path)
    contexts: dict[str, Any] = kept.setdefault("context", {})
    if action == "add":
        if name in contexts and not call.options.replace:
            raise CommandError(f"there is a context {name!r} already; --replace replaces it", CONFLICT)
        contexts[name] = _told(call)
        if call.options.use:
            kept["current"] = name
    elif name not in contexts:
        raise CommandError(f"there is no context {name!r}; there are: {', '.join(contexts) or 'none'}", MISSING)
    elif action == "use":
        kept["current"] = name
    else:
        del contexts[name]
        if kept.get("current") == name:
            del kept["current"]
            call.note("it was the current one; now there is none")
    _write(path, kept)


def _list(call: Call) -> None:
    kept = _read(Path(contexts_path(call.environ)))
    with call.out.table("name", "current", "hosts", "auth", "tls", "timeout") as table:
        for name, one in sorted(kept.get("context", {}).items()):
            # Who, never the password.
            who = ":".join(str(one.get("auth", "")).split(":")[:2])
            has_tls = "tls_ca" in one or "tls_cert" in one
            table.row(name, kept.get("current") == name, one.get("hosts"), who, has_tls, one.get("timeout"))


def _told(call: OnlineCall) -> dict[str, str]:
    """The flags of this call as a context; variables and other contexts do not count."""
    options = call.options
    if options.server is None:
        raise CommandError("add needs the servers: -s HOSTS", USAGE)
    target = target_of(options, {"COATI_CONFIG": os.devnull}, call.streams)
    if len(target.auth) > 1:
        raise CommandError("a context holds one identity", USAGE)
    auth = next((f"{one.scheme}:{one.credentials.decode()}" for one in target.auth), None)
    given = {
        "hosts": target.hosts, "auth": auth, "timeout": options.timeout,
        "tls_ca": _file(options.tls_ca), "tls_cert": _file(options.tls_cert), "tls_key": _file(options.tls_key),
    }  # fmt: skip
    return {key: str(given[key]) for key in KEYS if given[key] is not None}


def _file(given: str | None) -> str | None:
    """Found from everywhere."""
    return given if given in (None, "system") else str(Path(given).resolve())


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}", USAGE) from None


def _write(path: Path, kept: Mapping[str, Any]) -> None:
    """All at once or not at all; it may hold passwords."""
    lines = ["# Written by `coati context`; comments do not stay.\n"]
    lines += [f"current = {_text(kept['current'])}\n"] if "current" in kept else []
    for name, one in kept["context"].items():
        lines.append(f"\n[context.{name}]\n")
        lines += (f"{key} = {_text(str(value))}\n" for key, value in one.items())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path.parent)  # only its owner may read it
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.replace(scratch, path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", USAGE) from None


def _text(value: str) -> str:
    """A basic string of TOML: JSON's, but that DEL is escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


CONTEXT = OnlineCommand(
    "context", _flags, _context,
    "  coati context add prod -s zk1,zk2,zk3/app --auth digest:alice --use\n  coati context ls\n"
    "  coati context use prod\n  coati --context prod ls /\n  coati context rm prod",
)  # fmt: skip
