"""`coati lab`: its forms, its files and how it ends. What the stories say is tests/lab's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
        ("broadcast", "--servers", "0"),
        ("recover", "--acked", "3"),
        ("lock", "--clients", "0"),
        ("run", "--steps", "0"),
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


@pytest.mark.parametrize(
    ("flags", "stories", "last"),
    [
        (("broadcast",), 1, "Packets between servers: 1 REQUEST, 2 PROPOSAL, 2 ACK, 2 COMMIT, 1 INFORM."),
        (("recover",), 2, "1          1           survives      DIFF"),
        (
            ("recover", "--acked", "2", "--servers", "5"),
            1,
            "Server 5 came back as a follower and was brought up to date by DIFF.",
        ),
        (("lock", "-n", "3"), 2, "sequence  2         1                     5       19"),
        (("lock", "-n", "3", "--kind", "herd"), 1, None),
        (("run", "--seed", "5", "--steps", "5"), 1, "All of it holds."),
    ],
)
def test_every_story_in_every_form(flags: tuple[str, ...], stories: int, last: str | None, tmp_path: Path) -> None:
    file = tmp_path / "story.svg"
    text = kit.run("lab", *flags, "--svg", str(file))
    assert (text.code, text.err) == (exits.DONE, "")
    assert last in (None, text.lines[-1])
    steps = json.loads(kit.run("-o", "json", "lab", *flags).out)
    assert len([step for step in steps if step["kind"] == "outcome"]) == stories
    root = ElementTree.parse(file).getroot()
    assert len(list(root.iter("{http://www.w3.org/2000/svg}g"))) == stories


def test_the_same_seed_is_the_same_text_in_another_process() -> None:
    here = kit.run("lab", "run", "--seed", "11", "--steps", "8")
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    argv = [sys.executable, "-m", "coati", "lab", "run", "--seed", "11", "--steps", "8"]
    there = subprocess.run(argv, capture_output=True, env=env, check=True, timeout=60)
    assert (there.stdout, there.stderr) == (here.out, b"")
