"""`coati errors`: every error has its page, and the pages agree with the errors themselves."""

from __future__ import annotations

import json

import pytest

from coati import errors
from coati.cli import exits
from coati.cli.errorhelp import BY_CODE, BY_NAME, exit_code, found, help_of
from coati.cli.exits import CommandError
from tests.cli import kit

CODES = {name: value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
CLASSES = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.ZKError)
}


@pytest.mark.parametrize("name", CODES)
def test_every_code_has_a_page(name: str) -> None:
    page = BY_CODE[CODES[name]]
    assert all(page), "nothing is left empty"
    assert found(str(CODES[name])) == found(name) or name in ("MARSHALLING_ERROR", "THROTTLED_OP")


def test_every_class_has_a_page_of_its_name() -> None:
    # MarshallingError is the client's, and its number's name is taken by what servers say.
    roots = {"ZKError", "KeeperError"}
    assert [name for name in CLASSES if name not in roots and found(name) is None] == []
    for name, kind in CLASSES.items():
        if name not in roots and issubclass(kind, errors.KeeperError):
            assert found(name) == (kind.class_code, BY_CODE[kind.class_code])
    assert all(BY_NAME.values())


@pytest.mark.parametrize("spelling", ["-101", "101", "NoNode", "NONODE", "no_node", "NoNodeException"])
def test_an_error_is_found_however_it_is_spelt(spelling: str) -> None:
    answer = found(spelling)
    assert answer is not None
    assert answer[1].name == "NoNode"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("NoNode", 4), ("NodeExists", 5), ("BadVersion", 5), ("NotEmpty", 5), ("NoAuth", 6), ("AuthFailed", 6),
        ("NotReadOnly", 7), ("QuotaExceeded", 7), ("SessionExpired", 8), ("LockLost", 8), ("LockTimeout", 9),
        ("ConnectionLoss", 3), ("OperationTimeout", 3), ("OK", 0),
    ],
)  # fmt: skip
def test_exit_codes_are_those_of_the_contract(name: str, code: int) -> None:
    answer = found(name)
    assert answer is not None
    assert exit_code(name, answer[0]) == code


def test_one_in_each_form() -> None:
    done = kit.run("errors", "--", "-103")
    assert (done.code, done.err) == (0, "")
    assert dict(line.split("\t") for line in done.lines)["name"] == "BadVersion"
    told = json.loads(kit.run("-o", "json", "errors", "bad-version").out)
    assert (told["code"], told["name"], told["exit"]) == (-103, "BadVersion", 5)
    assert "read again" in told["repeat"]
    assert kit.run("-o", "table", "errors", "BadVersion").lines[1].split() == ["name", "BadVersion"]
    assert 'name: "BadVersion"' in kit.run("-o", "yaml", "errors", "BadVersion").lines


def test_all_of_them() -> None:
    rows = [json.loads(line) for line in kit.run("-o", "jsonl", "errors").lines]
    assert {row["code"] for row in rows} == {*CODES.values(), None}
    assert {"ClientClosed", "LockLost"} <= {row["name"] for row in rows}


def test_none_of_that_name() -> None:
    assert kit.run("errors", "999").code == exits.USAGE
    done = kit.run("errors", "NoNod")
    assert (done.code, done.out) == (exits.USAGE, b"")
    assert "is it NoNode you mean?" in done.err


def test_what_was_raised_has_a_page_or_none() -> None:
    assert help_of(errors.NoNode("/a")) == found("NoNode")
    assert help_of(errors.LeadershipLost()) == found("LeadershipLost")
    assert help_of(errors.KeeperError("/a", -999)) is None
    assert help_of(CommandError("x", 2)) is None
