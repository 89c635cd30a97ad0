"""`coati context`: named connections, and the file they are in."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from coati.cli import exits
from tests.cli import kit


def listed() -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in map(json.loads, kit.run("-o", "jsonl", "context", "ls").lines)}


def test_life_of_a_context(hosts: str, tmp_path: Path) -> None:
    assert listed() == {}
    assert kit.run("context", "add", "near", "-s", hosts, "--use").code == exits.DONE
    assert kit.run("-s", "127.0.0.1:1", "--timeout", "0.2", "context", "add", "far").code == exits.DONE
    assert kit.run("get", "/").code == exits.DONE
    assert kit.run("--context", "far", "get", "/").code == exits.NO_CONNECTION
    assert kit.run("context", "use", "far").code == exits.DONE
    assert kit.run("get", "/").code == exits.NO_CONNECTION
    shown = listed()
    assert (shown["near"]["current"], shown["far"]["current"]) == (False, True)
    assert (shown["near"]["hosts"], shown["far"]["timeout"]) == (hosts, "0.2")
    done = kit.run("context", "rm", "far")
    assert done.code == exits.DONE
    assert "now there is none" in done.err
    assert kit.run("context", "rm", "near").err == ""
    assert listed() == {}


def test_the_password_is_in_the_file_and_nowhere_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('alice:pa"ss\\ü\x7f\n')
    flags = ["--auth", f"digest:@{secret}", "--tls-ca", "ca.pem", "--tls-cert", "/c.pem", "--timeout", "3"]
    done = kit.run("context", "add", "prod", "-s", "zk1,zk2/app", *flags)
    assert (done.code, done.out, done.err) == (exits.DONE, b"", "")
    file = tmp_path / "config.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert tomllib.loads(file.read_text())["context"]["prod"] == {
        "hosts": "zk1,zk2/app", "auth": 'digest:alice:pa"ss\\ü\x7f', "timeout": "3.0",
        "tls_ca": str(Path("ca.pem").resolve()), "tls_cert": "/c.pem",
    }  # fmt: skip
    row = listed()["prod"]
    assert (row["auth"], row["tls"]) == ("digest:alice", True)
    assert "pa" not in kit.run("context", "ls").text.replace("path", "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["add"], exits.USAGE),
        (["add", "a b", "-s", "h"], exits.USAGE),
        (["add", "new"], exits.USAGE),
        (["add", "new", "-s", "h", "--auth", "ip:1", "--auth", "ip:2"], exits.USAGE),
        (["add", "old", "-s", "h"], exits.CONFLICT),
        (["add", "old", "-s", "h", "--replace"], exits.DONE),
        (["use", "nowhere"], exits.MISSING),
        (["rm", "nowhere"], exits.MISSING),
        (["grow"], exits.USAGE),
    ],
)
def test_codes(arguments: list[str], code: int) -> None:
    assert kit.run("context", "add", "old", "-s", "h").code == exits.DONE
    assert kit.run("context", *arguments).code == code


def test_a_file_that_cannot_be_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("no toml")
    assert kit.run("context", "ls").code == exits.USAGE
    monkeypatch.setenv("COATI_CONFIG", f"{tmp_path}/config.toml/below/config.toml")
    assert kit.run("context", "add", "a", "-s", "h").code == exits.USAGE
    monkeypatch.setenv("COATI_CONFIG", "/proc/none/config.toml")
    done = kit.run("context", "add", "a", "-s", "h")
    assert (done.code, "cannot be written" in done.err) == (exits.USAGE, True)
