"""`coati lab`: its forms, its files and how it ends. What the stories say is tests/lab's."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from coati.cli import exits
from tests.cli import kit

THREE = ("election", "--votes", "1,0 2,0 3,0")


def test_a_story_is_text_for_people_and_pipes_alike() -> None:
    done = kit.run("lab", *THREE)
    assert (done.code, done.err) == (exits.DONE, "")
    assert done.lines[0] == "Election among 3 servers by fast leader election; more than half of them is 2."
    assert "Server 3 leads, elected at 20 ms; its followers: 1, 2." in done.lines
    assert kit.run("lab", *THREE, is_terminal=True).out == done.out


def test_both_algorithms_are_compared() -> None:
    done = kit.run("lab", *THREE, "--algorithm", "both")
    assert done.lines[-3:] == [
        "algorithm             leader  elected at  rounds  messages  refused",
        "fast leader election  3       20 ms       1       13        0",
        "polling               3       40 ms       2       24        0",
    ]


@pytest.mark.parametrize("flags", [("-o", "json", "lab", *THREE), ("lab", *THREE, "-o", "json")])
def test_steps_are_objects(flags: tuple[str, ...]) -> None:
    steps = json.loads(kit.run(*flags).out)
    assert steps[0] == {
        "story": 1, "ms": 0, "kind": "state", "who": "1", "with": [], "sent_ms": None,
        "text": "[LOOKING] begins round 1 with a vote for itself, (1, 0, 0)",
        "facts": {"vote": {"myid": 1, "zxid": 0, "epoch": 0}, "round": 1},
    }  # fmt: skip
    heard = next(step for step in steps if step["kind"] == "hear")
    assert (heard["who"], heard["with"], heard["sent_ms"], heard["ms"]) == ("2", ["1"], 0, 10)
    assert heard["facts"]["compared"] == [["epoch", 0, 0], ["zxid", 0, 0], ["myid", 1, 2]]
    assert heard["facts"]["is_better"] is False
    assert steps[-1]["kind"] == "outcome"
    assert steps[-1]["facts"]["leader"] == 3


def test_lines_of_json() -> None:
    lines = kit.run("lab", *THREE, "-o", "jsonl").lines
    assert [json.loads(line)["story"] for line in lines] == [1] * len(lines)


def test_a_drawing(tmp_path: Path) -> None:
    file = tmp_path / "election.svg"
    assert kit.run("lab", *THREE, "--svg", str(file)).code == exits.DONE
    root = ElementTree.parse(file).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("LEADING") == 1
    assert texts.count("FOLLOWING 3") == 2


def test_a_drawing_that_cannot_be_written(tmp_path: Path) -> None:
    done = kit.run("lab", *THREE, "--svg", str(tmp_path / "no" / "file.svg"))
    assert done.code == exits.USAGE
    assert "cannot be written" in done.err


def test_an_election_without_an_end() -> None:
    done = kit.run("lab", "election", "--votes", "1,0", "--down", "2")
    assert done.code == exits.CHECK_FAILED
    assert done.err == "coati lab: no leader: 1 of 2 servers run, and more than half is 2\n"
    assert done.lines[-1] == "No leader: 1 of 2 servers run, and more than half is 2."


@pytest.mark.parametrize(
    "flags",
    [
        ("election", "--votes", "x"),
        ("election", "--votes", "1,0 1,0"),
        ("election", "--votes", "1,0 2,0", "--down", "9"),
        ("election", "--votes", "1,0 2,0", "--delay", "0"),
        ("election",),
        ("nothing",),
        (),
    ],
)
def test_what_is_given_wrongly(flags: tuple[str, ...]) -> None:
    done = kit.run("lab", *flags)
    assert (done.code, done.out) == (exits.USAGE, b"")
    assert done.err


def test_help_has_examples() -> None:
    done = kit.run("lab", "--help")
    assert done.code == exits.DONE
    assert 'coati lab election --votes "1,0 2,0 3,0"' in done.text
    assert "--votes" in kit.run("lab", "election", "--help").text
