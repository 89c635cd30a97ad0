"""cp, mv, mirror, diff, export and import: trees arrive as they were, and what is refused leaves all as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import coati
from coati.cli import copying, exits, walking
from coati.sync import Client
from tests.cli import kit

MINE = coati.acl(f"digest:{coati.digest_id('me', 'secret')}:cdrwa")
READABLE = coati.acl("world:anyone:r")


@pytest.fixture
def zk(hosts: str) -> Iterator[Client]:
    with Client(hosts) as client:
        yield client


@pytest.fixture
def tree(zk: Client) -> Client:
    """/a with text, /a/bin with bytes, /a/x.y beside /a/x/deep, and an ephemeral."""
    zk.create("/a", b"text \xc3\xa4")
    zk.create("/a/bin", b"\xff\x00")
    zk.create("/a/x/deep", b"1\n2\n", parents=True)
    zk.create("/a/x.y", b"", acl=READABLE)
    zk.create("/a/here", b"now", mode=coati.Mode.EPHEMERAL)
    return zk


def shape(zk: Client, path: str) -> dict[str, bytes]:
    """What is below a path, by relative path."""
    return {node.path[len(path) :]: node.data for node in zk.walk(path)}


KEPT = {"": b"text \xc3\xa4", "/bin": b"\xff\x00", "/x": b"", "/x/deep": b"1\n2\n", "/x.y": b""}


def records(done: kit.Done) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.out.splitlines()]


# --- export and import ----------------------------------------------------------------------------


def test_an_export_is_a_line_for_each_znode_in_order(cli: kit.Cli, tree: Client) -> None:
    done = cli("export", "/a")
    assert done.code == exits.DONE
    assert "ephemerals of /a, left out: 1" in done.err
    first, *znodes, last = records(done)
    assert (first["coati_export"], first["path"]) == (1, "/a")
    assert last == {"coati_export_end": 1, "znodes": 5}
    open_acl = ["world:anyone:cdrwa"]
    mtime = tree.get("/a").stat.mtime
    assert znodes[0] == {
        "path": "/", "data": "text ä", "acl": open_acl, "mode": "persistent", "version": 0, "mtime": mtime,
    }  # fmt: skip
    assert [(one["path"], one.get("data"), one.get("data_base64")) for one in znodes[1:]] == [
        ("/bin", None, "/wA="), ("/x", "", None), ("/x/deep", "1\n2\n", None), ("/x.y", "", None),
    ]  # fmt: skip
    assert znodes[-1]["acl"] == ["world:anyone:r"]
    assert all("acl" not in one for one in records(cli("export", "/a", "--no-acl")))


def test_an_export_has_ephemerals_where_they_are_wanted(cli: kit.Cli, tree: Client) -> None:
    [here] = [one for one in records(cli("export", "/a", "--ephemeral")) if one.get("path") == "/here"]
    assert (here["mode"], here["owner"], here["data"]) == ("ephemeral", hex(tree.session.id), "now")


def test_what_was_exported_can_be_imported(cli: kit.Cli, tree: Client, tmp_path: Path) -> None:
    file = tmp_path / "dump.jsonl"
    file.write_bytes(cli("export", "/a").out)
    done = cli("import", f"file://{file}", "/new/b")
    assert (done.code, done.out) == (exits.DONE, b"")
    assert "made: 5, set: 0, subtrees deleted: 0" in done.err
    assert shape(tree, "/new/b") == KEPT
    assert tree.get_acl("/new/b/x.y").acl == READABLE
    assert cli("diff", f"file://{file}", "/new/b", "--acl").code == exits.DONE

    done = cli("import", str(file), "/new/b")
    assert done.code == exits.CONFLICT
    assert "--merge" in done.err
    assert cli("import", "-", "/c", stdin=cli("export", "/a/x").out).code == exits.DONE
    assert shape(tree, "/c") == {"": b"", "/deep": b"1\n2\n"}


def test_an_import_merges_or_replaces(cli: kit.Cli, tree: Client, tmp_path: Path) -> None:
    file = tmp_path / "dump.jsonl"
    file.write_bytes(cli("export", "/a/x").out)
    tree.create("/b/more/below", b"mine", parents=True)
    tree.create("/b/deep", b"old")
    lines = ["~ /b/deep data", "- /b/more"]
    done = cli("import", str(file), "/b", "--replace", "--dry-run")
    assert (done.code, done.lines) == (exits.DONE, lines)
    assert "to make: 0, to set: 1, subtrees to delete: 1" in done.err
    rows = [{"change": "~", "path": "/b/deep", "what": ["data"]}, {"change": "-", "path": "/b/more", "what": []}]
    assert json.loads(cli("-o", "json", "import", str(file), "/b", "--replace", "--dry-run").out) == rows

    done = cli("import", str(file), "/b", "--replace")
    assert done.code == exits.REFUSED
    assert all(line in done.err for line in lines)
    assert tree.get("/b/deep").data == b"old"
    assert cli("import", str(file), "/b", "--merge", is_asked=True, stdin=b"y\n").code == exits.DONE
    assert shape(tree, "/b") == {"": b"", "/deep": b"1\n2\n", "/more": b"", "/more/below": b"mine"}
    assert cli("import", str(file), "/b", "--replace", "--yes").code == exits.DONE
    assert shape(tree, "/b") == {"": b"", "/deep": b"1\n2\n"}
    done = cli("import", str(file), "/b", "--replace")
    assert done.code == exits.DONE
    assert "equal already" in done.err


HEAD = '{"coati_export": 1}\n'
TOP = '{"path": "/"}\n'
END = '{"coati_export_end": 1}\n'


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("", "cut short"),
        (HEAD + TOP, "cut short"),
        ('{"path": "/"}\n', "line 1: an export of format 1 begins"),
        ('{"coati_export": 2}\n', "line 1: an export of format 1 begins"),
        (HEAD + "[]\n", "line 2: not an object"),
        (HEAD + '{"path": "/", "da', "line 2: "),
        (HEAD + "{}\n", "line 2: 'path' is missing"),
        (HEAD + '{"path": "a"}\n', "line 2: 'a' is no path"),
        (HEAD + '{"path": "/a"}\n', "line 2: the parent of /a is missing"),
        (HEAD + TOP + TOP, "line 3: / is not in order"),
        (HEAD + TOP + '{"path": "/b"}\n{"path": "/a"}\n', "line 4: /a is not in order"),
        (HEAD + TOP + '{"path": "/a/b"}\n', "line 3: the parent of /a/b is missing"),
        (HEAD + '{"path": "/", "data_base64": "%"}\n', "line 2: "),
        (HEAD + '{"path": "/", "mode": "odd"}\n', "line 2: a mode is one of"),
        (HEAD + '{"path": "/", "acl": ["world"]}\n', "line 2: 'world' is not scheme:id:perms"),
        (HEAD + '{"path": "/", "acl": ["digest:me:x:r"]}\n', "line 2: the hashes in the ACL of / are hidden"),
        (HEAD + TOP + END + '{"path": "/z"}\n', "line 4: this is behind the end"),
    ],
)
def test_what_is_no_export_is_refused_before_anything_is_written(
    text: str, tells: str, cli: kit.Cli, zk: Client, tmp_path: Path
) -> None:
    file = tmp_path / "dump.jsonl"
    file.write_text(text)
    done = cli("import", str(file), "/b")
    assert done.code == exits.USAGE
    assert tells in done.err
    assert zk.exists("/b") is None


def test_containers_and_ttls_are_made_by_hand(cli: kit.Cli, zk: Client) -> None:
    text = f'{HEAD}{TOP}{{"path": "/c", "mode": "container"}}\n{{"path": "/t", "ttl": 0.05}}\n{END}'
    assert cli("import", "-", "/b", stdin=text.encode()).code == exits.DONE
    # A server that has TTLs takes it away; one znode remains of three.
    zk.create("/b/c/x")
    zk.delete("/b/c/x")
    with zk.members("/b") as members:
        while members.poll(timeout=20):
            pass


def test_no_file(cli: kit.Cli) -> None:
    done = cli("import", "/nowhere.jsonl", "/b")
    assert done.code == exits.USAGE
    assert "cannot be read: No such file" in done.err
    assert cli("export", "x.jsonl").code == exits.USAGE
    assert cli("export", "/nowhere").code == exits.MISSING


def test_parents_that_let_nobody_in_get_their_children_all_the_same(cli: kit.Cli, zk: Client, hosts: str) -> None:
    zk.create("/a/b/c", b"x", parents=True)
    zk.create("/a/b/d", b"x")
    zk.create("/a/e", b"x")
    with Client(hosts, auth=[coati.Digest("me", "secret")]) as me:
        for path in ("/a/b/c", "/a/b", "/a"):
            me.set_acl(path, [*MINE, *READABLE])
        dump = cli("export", "/a").out
        done = cli("import", "-", "/new", stdin=dump)
        # The hashes are hidden from who is not me.
        assert done.code == exits.USAGE
        assert "--no-acl" in done.err
        for auth in ("digest:me:secret", "digest:you:else"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("COATI_AUTH", auth)
                if auth == "digest:me:secret":
                    dump = cli("export", "/a").out
                assert cli("import", "-", f"/{auth[7:9]}", stdin=dump).code == exits.DONE
        assert cli("import", "-", "/nobody", stdin=dump).code == exits.DONE
        for copy in ("/me", "/yo", "/nobody"):
            for path in ("", "/b", "/b/c"):
                assert me.get_acl(copy + path).acl == (*MINE, *READABLE), (copy, path)
            assert me.get_acl(f"{copy}/e").acl == me.get_acl(f"{copy}/b/d").acl == coati.OPEN
        done = cli("export", "/a")
        assert "no ADMIN permission: 3" in done.err


# --- cp -------------------------------------------------------------------------------------------


def test_one_znode_is_copied(cli: kit.Cli, tree: Client) -> None:
    done = cli("cp", "/a", "/new/b")
    assert (done.code, done.out) == (exits.DONE, b"")
    assert shape(tree, "/new/b") == {"": b"text \xc3\xa4"}
    done = cli("cp", "/a", "/new/b")
    assert done.code == exits.CONFLICT
    assert "/new/b is there already" in done.err
    assert cli("cp", "/nowhere", "/c").code == exits.MISSING


def test_a_tree_is_copied_to_another_server_by_name(cli: kit.Cli, tree: Client, hosts: str) -> None:
    done = cli("cp", "-r", "--acl", "/a", f"zk://{hosts}/b")
    assert done.code == exits.DONE
    assert "copied: 5" in done.err
    assert shape(tree, "/b") == KEPT
    assert tree.get_acl("/b/x.y").acl == READABLE
    assert cli("cp", "-r", f"zk://{hosts}/a", "/c").code == exits.DONE
    assert tree.get_acl("/c/x.y").acl == coati.OPEN


def test_a_tree_is_copied_to_a_file_and_back(
    cli: kit.Cli, tree: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("cp", "/a", "a.jsonl").code == exits.USAGE
    assert cli("cp", "-r", "/a", "a.jsonl").code == exits.DONE
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert cli("cp", "-r", "/a", "a.jsonl").code == exits.CONFLICT
    assert cli("cp", "-r", "/a", "file://no/where").code == exits.USAGE
    assert cli("cp", "-r", "a.jsonl", "/b").code == exits.DONE
    assert shape(tree, "/b") == KEPT
    assert cli("cp", "a.jsonl", "/top").code == exits.DONE
    assert shape(tree, "/top") == {"": KEPT[""]}
    assert cli("cp", "-r", "/nowhere", "b.jsonl").code == exits.MISSING
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    (tmp_path / "c.jsonl.partial").touch()
    assert cli("cp", "-r", "/a", "c.jsonl").code == exits.CONFLICT
    assert cli("cp", "-r", "/a", "-").out.startswith(b'{"coati_export"')


@pytest.mark.parametrize(
    "argv",
    [["cp", "-r", "/a", "/a/b"], ["mv", "/a/b", "/a"], ["mirror", "/a", "/a"], ["cp", "-r", "/", "/x"],
     ["mv", "/", "zk://else:1/x"], ["mv", "x.jsonl", "/y"], ["cp", "/a", "zk:///b"]],
)  # fmt: skip
def test_what_cannot_be_meant(argv: list[str]) -> None:
    assert kit.run(*argv).code == exits.USAGE


# --- mv -------------------------------------------------------------------------------------------


def test_a_tree_is_moved(cli: kit.Cli, tree: Client) -> None:
    done = cli("mv", "/a", "/b")
    assert done.code == exits.REFUSED
    assert "/a/here is ephemeral" in done.err
    tree.delete("/a/here")
    assert tree.exists("/b") is None
    done = cli("mv", "/a", "/b")
    assert (done.code, done.out) == (exits.DONE, b"")
    assert "not atomic" in done.err
    assert shape(tree, "/b") == KEPT
    assert tree.get_acl("/b/x.y").acl == READABLE
    assert tree.exists("/a") is None


def test_what_others_change_meanwhile_is_not_lost(cli: kit.Cli, zk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    zk.create("/a/b", b"1", parents=True)
    usual = copying.make_parents

    async def somebody(client: coati.Client, path: str) -> None:
        await client.set("/a/b", b"2")
        await usual(client, path)

    monkeypatch.setattr("coati.cli.bulk.make_parents", somebody)
    done = cli("mv", "/a", "/b")
    assert done.code == exits.CONFLICT
    assert "/a/b has changed since" in done.err
    assert zk.get("/a/b").data == b"2"


def test_what_may_not_be_read_is_not_moved(cli: kit.Cli, zk: Client) -> None:
    zk.create("/a")
    zk.create("/a/b", acl=MINE)
    done = cli("mv", "/a", "/b")
    assert done.code == exits.REFUSED
    assert zk.exists("/b") is None
    zk.create("/hides", acl=[*MINE, *READABLE])
    done = cli("mv", "/hides", "/b")
    assert done.code == exits.REFUSED
    assert "the ACL of /hides hides its hashes" in done.err


# --- mirror and diff ------------------------------------------------------------------------------


def test_a_mirror_is_made_equal(cli: kit.Cli, tree: Client) -> None:
    assert cli("mirror", "/a", "/m").code == exits.DONE
    assert shape(tree, "/m") == KEPT
    tree.set("/m/x/deep", b"else")
    tree.create("/m/old/below", parents=True)
    tree.delete("/m/bin")
    done = cli("mirror", "/a", "/m", "--dry-run")
    assert done.lines == ["+ /m/bin", "~ /m/x/deep data"]
    assert cli("mirror", "/a", "/m").code == exits.REFUSED
    assert cli("mirror", "/a", "/m", "-y").code == exits.DONE
    assert shape(tree, "/m") == {**KEPT, "/old": b"", "/old/below": b""}
    assert cli("mirror", "/a", "/m", "--delete", "--dry-run").lines == ["- /m/old"]
    assert cli("mirror", "/a", "/m", "--delete", "-y").code == exits.DONE
    assert shape(tree, "/m") == KEPT
    assert cli("mirror", "/a", "/m", "--acl", "-y").code == exits.DONE
    assert tree.get_acl("/m/x.y").acl == READABLE


def test_what_may_not_be_read_is_not_taken_for_missing(cli: kit.Cli, zk: Client) -> None:
    for path in ("/a/x/y", "/b/x/y"):
        zk.create(path, b"mine", parents=True)
    zk.create("/a/new")
    zk.set_acl("/a/x", MINE)
    done = cli("mirror", "/a", "/b", "--delete", "--yes")
    assert done.code == exits.NOT_AUTHORISED
    assert "nothing was changed" in done.err
    assert shape(zk, "/b") == {"": b"", "/x": b"", "/x/y": b"mine"}
    assert cli("mirror", "/a", "/b").code == exits.NOT_AUTHORISED
    assert shape(zk, "/b") == {"": b"", "/x": b"", "/x/y": b"mine", "/new": b""}
    zk.set("/b/new", b"else")
    assert cli("mirror", "/b", "/a", "--yes").code == exits.NOT_AUTHORISED
    assert zk.get("/a/new").data == b""


def test_a_long_preview_is_cut(cli: kit.Cli, zk: Client) -> None:
    zk.create("/a")
    for number in range(20):
        zk.create(f"/m/{number:02}", parents=True)
    done = cli("mirror", "/a", "/m", "--delete")
    assert done.code == exits.REFUSED
    assert "- /m/14\n... and 5 more\nChange" not in done.err
    assert "- /m/14\n... and 5 more\n" in done.err


def test_differences_have_a_line_each(cli: kit.Cli, tree: Client) -> None:
    assert cli("cp", "-r", "/a", "/b").code == exits.DONE
    tree.delete("/a/here")
    done = cli("diff", "/a", "/b")
    assert (done.code, done.out, done.err) == (exits.DONE, b"", "")
    tree.set("/b/x/deep", b"1\n3\n")
    tree.set("/b/bin", b"\xfe")
    tree.create("/b/x.z")
    tree.delete("/b/x.y")
    tree.create("/b/x.y", mode=coati.Mode.EPHEMERAL)
    tree.create("/a/only/here", parents=True)
    done = cli("diff", "/a", "/b")
    lines = ["~ /bin data", "- /only", "- /only/here", "~ /x/deep data", "~ /x.y ephemeral", "+ /x.z"]
    assert (done.code, done.lines) == (exits.CHECK_FAILED, lines)
    assert cli("diff", "/a", "/b", "--acl").lines[4] == "~ /x.y acl, ephemeral"
    assert cli("diff", "/b", "/a").lines[4] == "~ /x.y not ephemeral"
    shown = cli("diff", "/a", "/b", "--data").lines
    assert shown[1] == "    2 bytes -> 1 bytes, binary"
    assert shown[5:9] == ["    @@ -1,2 +1,2 @@", "     1", "    -2", "    +3"]
    rows = json.loads(cli("-o", "json", "diff", "--data", "/a", "/b").out)
    assert rows[0] == {"change": "~", "path": "/bin", "what": ["data"]}
    assert cli("diff", "/a", "/nowhere").code == exits.MISSING


# --- limits ---------------------------------------------------------------------------------------


def test_many_and_large_znodes(cli: kit.Cli, zk: Client) -> None:
    """More than one multi, more than one answer, one znode that is a request of its own."""
    zk.create("/a")
    for some in range(3):
        with zk.transaction() as t:
            for number in range(400):
                t.create(f"/a/{some * 400 + number:04}", b"x" * number)
    for number in range(2):
        zk.create(f"/a/large-{number}", bytes([number]) * 900_000)
    assert cli("cp", "-r", "/a", "/b").code == exits.DONE
    assert shape(zk, "/b") == shape(zk, "/a")
    assert cli("diff", "/a", "/b").code == exits.DONE
    assert cli("find", "/b", "--bigger", "800k").lines == [f"/b/large-{number}" for number in range(2)]
    assert cli("mv", "/b", "/c").code == exits.DONE
    assert cli("mirror", "/a", "/c").err.endswith("equal already\n")


def test_answers_that_are_too_long_are_asked_for_in_parts(
    cli: kit.Cli, zk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    zk.create("/a")
    for number in range(8):
        zk.create(f"/a/{number}", bytes([number]) * 300_000)
    monkeypatch.setattr("coati.cli.online.MAX_FRAME", 700_000)
    done = cli("du", "/a")
    assert (done.code, done.lines[-1]) == (exits.DONE, "2400000\t9\t/a")


def test_narrow_windows_change_nothing(cli: kit.Cli, tree: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cli("find", "/").lines
    for name in ("WINDOW", "BATCH", "FIRST_BATCH", "HELD_BYTES", "HELD_NAMES", "ANSWER_NAMES", "ANSWER_BYTES"):
        monkeypatch.setattr(walking, name, 1)
    assert cli("find", "/").lines == paths
    assert tree.exists("/a") is not None


def test_progress_is_for_people(cli: kit.Cli, tree: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking.Meter, "EVERY", 2)
    assert "\r" not in cli("cp", "-r", "/a", "/b").err
    assert "5 znodes\r\x1b[K" in cli("find", "/b", is_asked=True).err
    assert tree.exists("/b") is not None


@pytest.mark.parametrize("command", ["cp", "mv", "mirror", "diff", "export", "import"])
def test_help_shows_examples(command: str) -> None:
    done = kit.run(command, "--help")
    assert done.code == exits.DONE
    assert f"examples:\n  coati {command} " in done.text
