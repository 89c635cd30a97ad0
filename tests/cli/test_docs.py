"""The pages about the command line name every command, and the exit codes that there are."""

from __future__ import annotations

import re
from pathlib import Path

from coati.cli import exits
from coati.cli.command import Command
from coati.cli.main import find
from coati.cli.table import commands

DOCS = Path(__file__).resolve().parents[2] / "docs"
# Described in README.md.
ELSEWHERE = {"serve", "bench"}


def test_every_command_has_a_place_in_the_pages() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in [*(DOCS / "cli").glob("*.md"), DOCS / "lab.md"])
    named = [name for name in commands() if re.search(rf"(coati |`){name}\b", pages)]
    assert sorted(set(commands()) - set(named) - ELSEWHERE) == []
    overview = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert [name for name in commands() if not re.search(rf"[` ]{name}[` ]", overview)] == []


def test_every_command_gives_examples() -> None:
    made = {name: find(name) for name in commands()}
    assert [
        name for name, one in made.items() if isinstance(one, Command) and f"coati {name}" not in one.examples
    ] == []


def test_exit_codes_of_the_page_are_those_of_the_commands() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    meant = {value for name, value in vars(exits).items() if name.isupper() and not name.startswith("_")}
    assert told == {value for value in meant if value < exits.SIGNAL}
