"""Who may do what, on both servers: acl, auth."""

from __future__ import annotations

import getpass
import json

import pytest

from coati.cli import exits
from coati.cli.acltext import parsed
from coati.client.types import ACL, AclInfo, Perm
from coati.recipes.client import Client
from tests.cli import kit
from tests.cli.witness import Witness
from tests.interop import raw

# Of "bob:secret", by `printf bob:secret | openssl dgst -sha1 -binary | base64`.
BOB = "bob:fyVmFCwVbTJYrznoSu1koqYEYF0="
ANYONE = (31, "world", "anyone")


# --- acl ------------------------------------------------------------------------------------------


def test_acl_get_in_each_form(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/a/b", acl=((1, "world", "anyone"), (31, "ip", "127.0.0.1")))
    assert cli("acl", "get", "/a") == kit.Done(0, b"world:anyone:r\nip:127.0.0.1:cdrwa\n", "")
    assert json.loads(cli("-o", "json", "acl", "get", "/a").out) == {
        "path": "/a",
        "aversion": 0,
        "acl": [
            {"scheme": "world", "id": "anyone", "perms": "r"},
            {"scheme": "ip", "id": "127.0.0.1", "perms": "cdrwa"},
        ],
    }
    text = "world:anyone:r,ip:127.0.0.1:cdrwa"
    assert cli("acl", "get", "-R", "/a").lines == [f"/a\t{text}", f"/a/b\t{text}"]
    assert cli("acl", "get", "/nowhere").code == exits.MISSING


def test_acl_set_takes_what_get_shows(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/b")
    assert cli("acl", "set", "/a", f"world:anyone:cdrwa, digest:{BOB}:ra") == kit.Done(0, b"", "")
    assert witness.acl("/a") == [ANYONE, (17, "digest", BOB)]
    assert cli("acl", "set", "/b", cli("acl", "get", "/a").text).code == 0
    assert witness.acl("/b") == witness.acl("/a")
    assert cli("acl", "set", "/b", "world:anyone:cdrwa", "--version", "0").code == exits.CONFLICT
    assert "has version 1 now" in cli("acl", "set", "/b", "world:anyone:cdrwa", "--version", "0").err
    assert cli("acl", "set", "/b", "world:anyone:cdrwa", "--version", "1").code == 0
    assert witness.acl("/b") == [ANYONE]
    assert cli("acl", "set", "/nowhere", "world:anyone:r").code == exits.MISSING


def test_acl_of_who_asks(cli: kit.Cli, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auth` stands for the identities of the session."""
    witness.make("/a", "/a/b")
    done = cli("acl", "set", "/a", "auth::cdrwa")
    assert done.code == exits.USAGE
    monkeypatch.setenv("COATI_AUTH", "digest:bob:secret")
    assert cli("acl", "set", "/a", "auth::cdrwa").code == 0
    assert witness.session.call(raw.AUTH, raw.auth("digest", b"bob:secret"), xid=raw.XID_AUTH)[0] == 0
    assert witness.acl("/a") == [(31, "digest", BOB)]
    assert cli("acl", "add", "/a", "world:anyone:r").code == 0
    assert witness.acl("/a") == [(31, "digest", BOB), (1, "world", "anyone")]
    monkeypatch.delenv("COATI_AUTH")
    done = cli("acl", "add", "/a", "world:anyone:a")
    assert done.code == exits.NOT_AUTHORISED
    assert "takes the permission" in done.err


def test_acl_add_and_rm_change_single_permissions(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a")
    assert cli("acl", "add", "/a", "ip:10.0.0.0/8:r").code == 0
    assert cli("acl", "add", "/a", "ip:10.0.0.0/8:w").code == 0
    assert cli("acl", "add", "/a", "ip:10.0.0.0/8:w").code == 0
    assert witness.acl("/a") == [ANYONE, (3, "ip", "10.0.0.0/8")]
    assert cli("acl", "rm", "/a", "ip:10.0.0.0/8:r").code == 0
    assert witness.acl("/a") == [ANYONE, (2, "ip", "10.0.0.0/8")]
    assert cli("acl", "rm", "/a", "ip:10.0.0.0/8").code == 0
    assert witness.acl("/a") == [ANYONE]
    assert witness.stat("/a").aversion == 4
    done = cli("acl", "rm", "/a", "ip:10.0.0.0/8")
    assert (done.code, done.out) == (exits.MISSING, b"")
    assert "no such entry" in done.err
    done = cli("acl", "rm", "/a", "world:anyone")
    assert (done.code, witness.acl("/a")) == (exits.REFUSED, [ANYONE])
    assert "leave nobody" in done.err
    done = cli("acl", "rm", "/a", "world:anyone:a")
    assert (done.code, witness.acl("/a")) == (0, [(15, "world", "anyone")])
    assert "only a superuser" in done.err
    for wrong in ("world", ":anyone", "world:"):
        assert cli("acl", "rm", "/a", wrong).code == exits.USAGE


def test_acl_changes_of_a_tree_are_asked_for(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/a/b", "/a/b/c", "/zookeeper")
    change = ("acl", "add", "-R", "/", "ip:10.0.0.0/8:r")
    done = cli(*change)
    assert (done.code, witness.acl("/a")) == (exits.REFUSED, [ANYONE])
    done = cli(*change, stdin=b"y\n", is_asked=True)
    assert done.code == 0
    assert "/\n/a\n/a/b\n/a/b/c\nChange the ACL of 4 znodes? [y/N] " in done.err
    assert "4 of 4 ACLs changed" in done.err
    assert witness.acl("/a/b/c") == [ANYONE, (1, "ip", "10.0.0.0/8")]
    assert witness.acl("/zookeeper") == [ANYONE]
    assert "0 of 4 ACLs changed" in cli(*change, "--yes").err
    assert cli("acl", "rm", "-R", "/nowhere", "world:anyone", "--yes").code == exits.MISSING


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("", "at least one entry"),
        ("world:anyone", "has the form scheme:id:perms"),
        ("world", "has the form scheme:id:perms"),
        (":anyone:r", "has the form scheme:id:perms"),
        ("world:anyone:r,world:anyone:rx", "ACL entry 'world:anyone:rx': 'x' is no permission; there are c (create)"),
        ("world:anyone:", "permits nothing"),
        ("world:all:r", "the only id of world is anyone"),
        ("digest:bob:secret:r", "digest has user:hash; `coati auth hash USER` prints that"),
        ("digest:bob:r", "digest has user:hash"),
        ("ip:10.0.0.300:r", "'10.0.0.300' is no address"),
    ],
)
def test_an_acl_that_is_none(text: str, tells: str, cli: kit.Cli, witness: Witness) -> None:
    """It is said before anything is sent: nothing listens at that address."""
    done = kit.run("-s", "127.0.0.1:1", "--timeout", "0.2", "acl", "set", "/a", text)
    assert (done.code, done.out) == (exits.USAGE, b"")
    assert tells in done.err


def test_an_acl_in_text() -> None:
    """As AclParser reads it: ids may hold colons."""
    assert parsed("ip:fe80::1:r,x509:CN=a:w,sasl:a@B:c") == (
        ACL(Perm.READ, "ip", "fe80::1"),
        ACL(Perm.WRITE, "x509", "CN=a"),
        ACL(Perm.CREATE, "sasl", "a@B"),
    )


@pytest.mark.parametrize(
    "argv", [["set", "/a"], ["get", "/a", "world:anyone:r"], ["add", "/a", "world:anyone:r", "--version", "1"]]
)
def test_acl_wrong_usage(argv: list[str], cli: kit.Cli) -> None:
    assert cli("acl", *argv).code == exits.USAGE


def test_acl_others_are_faster(cli: kit.Cli, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading and writing, once or always."""
    witness.make("/a")
    times = [1]

    class Changing(Client):
        async def get_acl(self, path: str) -> AclInfo:
            found = await super().get_acl(path)
            if times[0]:
                times[0] -= 1
                witness.call(raw.SET_ACL, raw.set_acl(witness.path(path), (ANYONE,)))
            return found

    monkeypatch.setattr("coati.cli.online.Client", Changing)
    assert cli("acl", "add", "/a", "ip:10.0.0.0/8:r").code == 0
    assert witness.acl("/a") == [ANYONE, (1, "ip", "10.0.0.0/8")]
    times[0] = 99
    assert cli("acl", "add", "/a", "ip:11.0.0.0/8:r").code == exits.CONFLICT


# --- auth -----------------------------------------------------------------------------------------


def test_auth_hash_reads_the_password() -> None:
    """The hash is Java's: the digest of super:test is in upstream's documentation."""
    assert kit.run("auth", "hash", "super", stdin=b"test\n") == kit.Done(0, b"super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n", "")
    assert kit.run("auth", "hash", "bob", stdin=b"secret").text == f"{BOB}\n"
    found = json.loads(kit.run("-o", "json", "auth", "hash", "bob", stdin=b"secret\r\nx").out)
    assert found == {"scheme": "digest", "id": BOB}
    assert kit.run("auth", "hash", "bob", stdin=b"\xff").code == exits.USAGE


def test_auth_hash_asks_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["secret", "secret", "secret", "terces"]
    monkeypatch.setattr(getpass, "getpass", lambda prompt: answers.pop(0))
    assert kit.run("auth", "hash", "bob", is_asked=True).text == f"{BOB}\n"
    done = kit.run("auth", "hash", "bob", is_asked=True)
    assert (done.code, done.out) == (exits.USAGE, b"")


@pytest.mark.parametrize("argv", [["hash"], ["hash", ""], ["hash", "a:b"], ["hash", "a"], ["whoami", "bob"]])
def test_auth_wrong_usage(argv: list[str]) -> None:
    assert kit.run("auth", *argv).code == exits.USAGE


def test_auth_whoami(cli: kit.Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("auth", "whoami").lines == ["ip\t127.0.0.1"]
    monkeypatch.setenv("COATI_AUTH", "digest:bob:secret")
    assert sorted(cli("auth", "whoami").lines) == ["digest\tbob", "ip\t127.0.0.1"]
    assert {"scheme": "digest", "user": "bob"} in json.loads(cli("-o", "json", "auth", "whoami").out)
    assert cli("auth", "whoami", is_terminal=True).lines[0].split() == ["SCHEME", "USER"]
