"""Makes a chapter of CHANGELOG.md from the fragments in changelog.d/ (see the README there).

`python tools/changelog.py` prints what there is; with a version it writes the chapter on top of CHANGELOG.md and
removes the fragments. The date is the day it runs on, in UTC.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FRAGMENTS: Final = ROOT / "changelog.d"
CHANGELOG: Final = ROOT / "CHANGELOG.md"
HEADING: Final = "# Changelog\n"
KINDS: Final = ("added", "changed", "fixed", "removed", "security")
NAME: Final = re.compile(rf"[a-z0-9]+(?:-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md")


def fragments(directory: Path) -> list[Path]:
    """All fragments, in order of name. Raises ValueError on a file that is none, or says nothing."""
    found = [path for path in sorted(directory.iterdir()) if path.name != "README.md"]
    for path in found:
        if NAME.fullmatch(path.name) is None:
            raise ValueError(f"{path.name}: not <topic>.<kind>.md with a kind of {', '.join(KINDS)}")
        if not path.read_text(encoding="utf-8").strip():
            raise ValueError(f"{path.name}: says nothing")
    return found


def chapter(title: str, found: list[Path]) -> str:
    """The fragments as one chapter, kind by kind."""
    lines = [f"## {title}"]
    for kind in KINDS:
        of_kind = [path for path in found if path.name.endswith(f".{kind}.md")]
        if of_kind:
            lines += ["", f"### {kind.capitalize()}", ""]
        for path in of_kind:
            first, *rest = path.read_text(encoding="utf-8").strip().splitlines()
            lines += [f"- {first}", *(f"  {line}".rstrip() for line in rest)]
    return "\n".join(lines) + "\n"


def release(title: str, directory: Path, changelog: Path) -> None:
    """Puts the chapter under the heading of the changelog, and takes the fragments away."""
    found = fragments(directory)
    old = changelog.read_text(encoding="utf-8").removeprefix(HEADING) if changelog.exists() else ""
    changelog.write_text(f"{HEADING}\n{chapter(title, found)}{old}", encoding="utf-8")
    for path in found:
        path.unlink()


def main(arguments: list[str]) -> int:
    if arguments:
        release(f"{arguments[0]} ({datetime.now(UTC):%Y-%m-%d})", FRAGMENTS, CHANGELOG)
    else:
        print(chapter("Not released yet", fragments(FRAGMENTS)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
