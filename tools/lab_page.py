"""Writes what `coati lab` says into docs/lab.md, behind the command that says it, and the drawings beside it.

A block is a comment with a command, and a text: `<!-- coati lab ... -->`, or `<!-- last 3 lines of: coati lab ... -->`
for the end of a long one. With `--svg` the drawing is made, too, in docs/. `python tools/lab_page.py` brings the page
up to date; the tests say when it is not.
"""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path
from typing import Final

from coati.cli.command import Streams
from coati.cli.lab import LAB

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
PAGE: Final = DOCS / "lab.md"
BLOCK: Final = re.compile(
    r"(<!-- (?:last (\d+) lines of: )?coati lab ([^\n]*) -->\n\n?```text\n)(.*?)(```\n)", re.DOTALL
)


def said(arguments: str, folder: Path) -> str:
    """What `coati lab ARGUMENTS` writes; a drawing goes to `folder`."""
    argv = shlex.split(arguments)
    if "--svg" in argv:
        at = argv.index("--svg") + 1
        argv[at] = str(folder / Path(argv[at]).name)
    out = io.BytesIO()
    LAB.run(argv, Streams(io.BytesIO(), out, io.StringIO()))
    return out.getvalue().decode()


def page(text: str, folder: Path) -> str:
    """The page with its blocks made anew."""

    def made(block: re.Match[str]) -> str:
        head, last, arguments, _, end = block.groups()
        lines = said(arguments, folder).splitlines(keepends=True)
        shown = lines[-int(last) :] if last else lines
        return f"{head}{''.join(shown)}{end}"

    return BLOCK.sub(made, text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), DOCS), encoding="utf-8")
