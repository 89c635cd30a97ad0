"""edit: the data of a znode in an editor, written back if nobody else has changed it meanwhile."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import os
import shlex
import tempfile
from contextlib import suppress

from coati.cli.exits import CHECK_FAILED, USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.output import printable
from coati.cli.znodes import hint
from coati.client.client import BaseClient
from coati.client.types import Node
from coati.errors import BadVersion


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH")


class Draft:
    """A file of what is edited, which nobody else may read."""

    def __init__(self, data: bytes) -> None:
        self.before = data
        # Editors show JSON better where the name says what it is.
        handle, self.name = tempfile.mkstemp(prefix="coati-", suffix=".json" if data[:1] in (b"{", b"[") else "")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)

    def read(self) -> bytes:
        """Without the line feed that editors put behind the last line, where the data had none."""
        with open(self.name, "rb") as stream:
            edited = stream.read()
        return edited[:-1] if edited.endswith(b"\n") and not self.before.endswith(b"\n") else edited

    def is_worth_keeping(self) -> bool:
        try:
            return self.read() != self.before
        except OSError:
            return False

    def remove(self) -> None:
        with suppress(OSError):
            os.unlink(self.name)


async def _edit(call: OnlineCall) -> None:
    editor = editor_of(call)
    async with call.connect() as zk:
        node = await zk.get(call.path(call.options.path))
        draft = Draft(node.data)
        try:
            await _write_back(call, zk, node, draft, editor)
        except BaseException:
            if draft.is_worth_keeping():
                print(f"coati edit: your text is kept in {draft.name}", file=call.streams.stderr)
            else:
                draft.remove()
            raise
        draft.remove()


async def _write_back(call: OnlineCall, zk: BaseClient, node: Node, draft: Draft, editor: list[str]) -> None:
    code = await run_editor([*editor, draft.name])
    if code:
        raise CommandError(f"{editor[0]} ended with {code}; {node.path} is as it was", CHECK_FAILED)
    edited = draft.read()
    if edited == node.data:
        call.note(f"{node.path} is as it was")
        return
    show_difference(call, node, edited)
    with hint(BadVersion, "somebody has changed it meanwhile"):
        stat = await zk.set(node.path, edited, version=node.version)
    call.note(f"{node.path} has version {stat.version}")


def editor_of(call: OnlineCall) -> list[str]:
    """VISUAL, EDITOR, or vi where a person is. Raises CommandError."""
    chosen = call.environ.get("VISUAL") or call.environ.get("EDITOR") or ("vi" if call.streams.is_asked else "")
    try:
        words = shlex.split(chosen)
    except ValueError as error:
        raise CommandError(f"EDITOR is {chosen!r}: {error}", USAGE) from None
    if not words:
        raise CommandError("EDITOR says which program edits a file; it is not set", USAGE)
    return words


async def run_editor(argv: list[str]) -> int:
    """Its exit code. Our session lives on meanwhile. Raises CommandError."""
    try:
        process = await asyncio.create_subprocess_exec(*argv)
    except OSError as error:
        raise CommandError(f"{argv[0]} cannot be run: {error.strerror}", USAGE) from None
    return await process.wait()


def show_difference(call: OnlineCall, node: Node, edited: bytes) -> None:
    """Line by line, on stderr; bytes that are no text by their number."""
    try:
        old, new = node.data.decode().splitlines(), edited.decode().splitlines()
    except UnicodeDecodeError:
        call.note(f"{len(node.data)} bytes become {len(edited)}")
        return
    names = f"{node.path} version {node.version}", f"{node.path} edited"
    lines = [printable(line) for line in difflib.unified_diff(old, new, *names, lineterm="")]
    print("\n".join(lines) or "only line ends differ", file=call.streams.stderr)


EDIT = OnlineCommand(
    "edit", _flags, _edit, "  EDITOR=nano coati edit /conf/app\n  EDITOR='sed -i s/a/b/' coati edit /conf/app"
)
