"""`coati cheat`: its examples are commands that parse."""

from __future__ import annotations

import json
import shlex

import pytest

from coati.cli import exits
from coati.cli.cheat import PAGES, page
from coati.cli.command import Command
from coati.cli.main import find, split
from coati.cli.table import commands
from tests.cli import kit


@pytest.mark.parametrize("topic", PAGES)
def test_examples_can_be_typed(topic: str) -> None:
    done = kit.run("cheat", topic)
    assert (done.code, done.err) == (0, "")
    assert done.text == page(topic)
    for line in done.lines[1:]:
        words = shlex.split(line.split("|")[0].split("||")[0].split(";")[0].partition("<")[0], comments=True)
        if not words or words[0] != "coati":
            continue
        leading, (name, *rest) = split(words[1:])
        if ">" in rest:
            rest = rest[: rest.index(">")]
        # Those of the contract that are not there yet have nothing to be parsed by.
        command = find(name) if name in commands() else None
        if isinstance(command, Command):
            command.parser().parse_args([*leading, *rest])


def test_topics() -> None:
    assert [line.split("\t")[0] for line in kit.run("cheat").lines] == list(PAGES)
    assert json.loads(kit.run("-o", "json", "cheat", "watch").out)["topic"] == "watch"


def test_no_such_topic() -> None:
    done = kit.run("cheat", "wach")
    assert (done.code, done.out) == (exits.USAGE, b"")
    assert "is it watch you mean?" in done.err
    assert "there are: connect" in kit.run("cheat", "zzz").err
