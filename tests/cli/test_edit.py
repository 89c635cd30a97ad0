"""Editing a znode with a program of the user's, on both servers."""

from __future__ import annotations

import shlex
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from coati.cli import exits
from tests.cli import kit
from tests.cli.witness import Witness


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files are that editors get."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    return tmp_path


def editor(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A shell script; the file is $1."""
    monkeypatch.setenv("EDITOR", f"sh -c {shlex.quote(script)} sh")


def test_edit_writes_back_and_shows_what_changed(
    cli: kit.Cli, witness: Witness, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.make("/a", data=b"one\ntwo\nthree")
    editor(monkeypatch, f'ls -l "$1" > {place}/seen; sed -i s/two/2/ "$1"; echo >> "$1"')
    done = cli("edit", "/a")
    assert (done.code, done.out) == (0, b"")
    assert witness.data("/a") == b"one\n2\nthree"
    assert done.err.splitlines() == [
        "--- /a version 0", "+++ /a edited", "@@ -1,3 +1,3 @@", " one", "-two", "+2", " three",
        "coati edit: /a has version 1",
    ]  # fmt: skip
    assert (place / "seen").read_text().startswith("-rw------- ")
    assert [path.name for path in place.glob("coati-*")] == []


def test_edit_keeps_a_last_line_feed(cli: kit.Cli, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    witness.make("/a", data=b'{"x":1}\n')
    editor(monkeypatch, 'case "$1" in *.json) echo "{}" > "$1";; esac')
    assert cli("edit", "/a").code == 0
    assert witness.data("/a") == b"{}\n"


def test_edit_of_bytes(cli: kit.Cli, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    witness.make("/a", data=b"\xff\xfe")
    editor(monkeypatch, 'printf abc > "$1"')
    assert "2 bytes become 3" in cli("edit", "/a").err
    assert witness.data("/a") == b"abc"
    editor(monkeypatch, "printf 'abc\\r\\n' > \"$1\"")
    assert "only line ends differ" in cli("edit", "/a").err
    assert witness.data("/a") == b"abc\r"


def test_edit_that_changes_nothing(
    cli: kit.Cli, witness: Witness, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.make("/a", data=b"x")
    editor(monkeypatch, 'echo x > "$1"')
    done = cli("edit", "/a")
    assert (done.code, witness.stat("/a").version) == (0, 0)
    assert "/a is as it was" in done.err
    editor(monkeypatch, "exit 3")
    done = cli("edit", "/a")
    assert done.code == exits.CHECK_FAILED
    assert "sh ended with 3; /a is as it was" in done.err
    editor(monkeypatch, 'rm "$1"; exit 3')
    assert cli("edit", "/a").code == exits.CHECK_FAILED
    assert list(place.glob("coati-*")) == []
    assert cli("edit", "/nowhere").code == exits.MISSING


def test_edit_does_not_overwrite_others_and_loses_nothing(
    cli: kit.Cli, hosts: str, witness: Witness, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.make("/a", data=b"x")
    script = place / "editor"
    script.write_text(f'#!/bin/sh\nprintf mine > "$1"\nexec {sys.executable} -m coati -q -s {hosts} set /a theirs\n')
    script.chmod(stat.S_IRWXU)
    monkeypatch.setenv("VISUAL", str(script))
    done = cli("edit", "/a")
    assert (done.code, witness.data("/a")) == (exits.CONFLICT, b"theirs")
    assert "somebody has changed it meanwhile" in done.err
    (kept,) = place.glob("coati-*")
    assert f"your text is kept in {kept}" in done.err
    assert kept.read_bytes() == b"mine"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("editor", "tells"),
    [
        (None, "EDITOR says which program"),
        ("a 'b", "No closing quotation"),
        ("/nowhere/editor", "cannot be run: No such"),
    ],
)
def test_an_editor_that_is_none(
    editor: str | None, tells: str, cli: kit.Cli, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.make("/a")
    if editor is not None:
        monkeypatch.setenv("EDITOR", editor)
    done = cli("edit", "/a")
    assert done.code == exits.USAGE
    assert tells in done.err


def test_the_editor_of_a_person_is_vi(
    cli: kit.Cli, witness: Witness, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.make("/a")
    vi = place / "vi"
    vi.write_text('#!/bin/sh\nprintf edited > "$1"\n')
    vi.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(place), prepend=":")
    assert cli("edit", "/a", is_asked=True).code == 0
    assert witness.data("/a") == b"edited"
