"""Looking at znodes, on both servers: ls, tree, get, stat, exists, count, sync."""

from __future__ import annotations

import json

import pytest

from coati.cli import exits
from coati.cli.look import pretty
from coati.cli.znodes import ASKED_AT_A_TIME, when
from tests.cli import kit
from tests.cli.witness import Witness, iso
from tests.interop import raw

READ_ONLY_OTHERS = ((31 & ~1, "world", "anyone"),)


# --- ls -------------------------------------------------------------------------------------------


def test_ls_is_one_name_per_line(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/b", "/a", "/a/x", "/ä")
    assert cli("ls") == kit.Done(0, "a\nb\nä\n".encode(), "")
    assert cli("ls", "/", is_terminal=True).text == "a\nb\nä\n"
    assert cli("ls", "/b").out == b""
    assert json.loads(cli("-o", "json", "ls").out) == [{"name": "a"}, {"name": "b"}, {"name": "ä"}]
    assert [json.loads(line) for line in cli("-o", "jsonl", "ls", "/a").lines] == [{"name": "x"}]
    assert cli("ls", "/nowhere").code == exits.MISSING


def test_ls_goes_on_after_a_child(cli: kit.Cli, witness: Witness) -> None:
    witness.make(*(f"/{name}" for name in "acegi"))
    assert cli("ls", "--limit", "2").lines == ["a", "c"]
    assert cli("ls", "--limit", "2", "--after", "c").lines == ["e", "g"]
    assert cli("ls", "--after", "d", "/").lines == ["e", "g", "i"]
    assert cli("ls", "--after", "i").out == b""
    assert cli("ls", "-R", "--limit", "3").lines == ["/", "/a", "/c"]
    assert cli("ls", "-R", "--after", "c").code == exits.USAGE
    assert cli("ls", "--limit", "0").code == exits.USAGE


def test_ls_long_tells_what_the_server_knows(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", data=b"four")
    witness.make("/a/x")
    witness.make("/e", flags=1)
    witness.call(raw.SET_DATA, raw.set_data(witness.path("/a"), b"fivee"))
    a, e = iso(witness.stat("/a").mtime), iso(witness.stat("/e").mtime)
    owner = hex(witness.session.session_id)
    assert cli("ls", "-l").lines == [f"a\t1\t1\t5\t\t{a}", f"e\t0\t0\t0\t{owner}\t{e}"]
    head, first, *_ = cli("ls", "-l", is_terminal=True).lines
    assert head.split() == ["NAME", "VERSION", "CHILDREN", "BYTES", "OWNER", "MTIME"]
    assert first.split() == ["a", "1", "1", "5", a]
    assert json.loads(cli("-o", "json", "ls", "-l").out) == [
        {"name": "a", "version": 1, "children": 1, "bytes": 5, "owner": None, "mtime": a},
        {"name": "e", "version": 0, "children": 0, "bytes": 0, "owner": owner, "mtime": e},
    ]
    assert cli("ls", "-lR", "/a").lines == [
        f"/a\t1\t1\t5\t\t{a}",
        f"/a/x\t0\t0\t0\t\t{iso(witness.stat('/a/x').mtime)}",
    ]


def test_ls_of_a_tree_is_in_order_however_many_there_are(cli: kit.Cli, witness: Witness) -> None:
    """More siblings, and more levels, than are asked for at a time."""
    wide = [f"/w{number:03d}" for number in range(ASKED_AT_A_TIME + 7)]
    deep = ["/d" * depth for depth in range(1, ASKED_AT_A_TIME + 7)]
    witness.make(*wide, *deep, *(f"{path}/x" for path in wide))
    made = [*wide, *deep, *(f"{path}/x" for path in wide)]
    assert cli("ls", "-R").lines == ["/", *sorted(made, key=lambda path: path.split("/"))]
    assert cli("ls", "-R", "/nowhere").code == exits.MISSING
    assert cli("ls", "-R", "-l", "/nowhere").code == exits.MISSING


def test_ls_leaves_out_what_it_may_not_list_and_says_so(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/z", "/a/hidden")
    witness.call(raw.SET_ACL, raw.set_acl(witness.path("/a"), READ_ONLY_OTHERS))
    done = cli("ls", "-R")
    assert (done.code, done.lines) == (exits.NOT_AUTHORISED, ["/", "/a", "/z"])
    assert "/a: you may not list its children" in done.err
    assert cli("ls", "/a").code == exits.NOT_AUTHORISED
    assert cli("tree").code == exits.NOT_AUTHORISED
    assert cli("rm", "-r", "/a", "--dry-run").code == exits.NOT_AUTHORISED


# --- tree -----------------------------------------------------------------------------------------


def test_tree_is_drawn(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/a/b", "/a/b/c", "/a/d", "/e")
    witness.make("/e/f", data=b"123")
    drawn = ["/", "├── a", "│   ├── b", "│   │   └── c", "│   └── d", "└── e", "    └── f"]
    assert cli("tree").lines == drawn
    assert cli("tree", "-L", "1").lines == ["/", "├── a", "└── e"]
    assert cli("tree", "-L", "1", "/a").lines == ["/a", "├── b", "└── d"]
    assert cli("tree", "--sizes", "/e").lines == ["/e  0 bytes  1 children", "└── f  3 bytes  0 children"]
    assert json.loads(cli("-o", "json", "tree", "/e").out) == [{"path": "/e"}, {"path": "/e/f"}]
    assert json.loads(cli("-o", "json", "tree", "--sizes", "-L", "1", "/e").out) == [
        {"path": "/e", "bytes": 0, "children": 1},
        {"path": "/e/f", "bytes": 3, "children": 0},
    ]
    assert cli("tree", "/nowhere").code == exits.MISSING
    assert cli("tree", "-L", "0").code == exits.USAGE


# --- get ------------------------------------------------------------------------------------------


def test_get_shows_bytes_in_many_ways(cli: kit.Cli, witness: Witness) -> None:
    data = bytes(range(20)) + b"text\xff"
    witness.make("/a", data=data)
    assert cli("get", "/a").out == data
    assert cli("get", "--b64", "/a").text == "AAECAwQFBgcICQoLDA0ODxAREhN0ZXh0/w==\n"
    assert cli("get", "--hex", "/a").lines == [
        "00000000  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f  |................|",
        "00000010  10 11 12 13 74 65 78 74 ff                       |....text.|",
    ]
    assert json.loads(cli("-o", "json", "get", "/a").out)["data_base64"] == "AAECAwQFBgcICQoLDA0ODxAREhN0ZXh0/w=="
    assert json.loads(cli("-o", "json", "get", "--hex", "/a").out) == {"path": "/a", "data_hex": data.hex()}
    assert cli("get", "--hex", "--b64", "/a").code == exits.USAGE


def test_get_indents_json_and_nothing_else(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", data=b'{"a":[1,{}],"b":{"c":null}}')
    assert cli("get", "--pretty", "/a").text == ('{\n  "a": [\n    1,\n    {}\n  ],\n  "b": {\n    "c": null\n  }\n}\n')
    witness.make("/b", data=b"{no json}")
    assert cli("get", "--pretty", "/b").out == b"{no json}"


@pytest.mark.parametrize("data", [b"", b"NaN", b"\xff", b"{", b"[1 2]", b"[" * 100_000, b'"open'])
def test_what_is_no_json_stays(data: bytes) -> None:
    assert pretty(data) == data


@pytest.mark.parametrize(
    "text",
    [
        *("1", '"a,b:[{\\"x"', "[]", "{}", "[[],[[]]]"),
        *('{ "x" : [ 1.10, -2E+3 , true ] }', '{"a":1,"a":12345678901234567890}'),
    ],
)
def test_pretty_changes_spaces_only(text: str) -> None:
    def squeezed(text: str) -> str:
        return "".join(text.split())

    shown = pretty(text.encode()).decode()
    assert squeezed(shown) == squeezed(text)
    assert shown == json.dumps(json.loads(text), indent=2) + "\n" or "1.10" in text or "1234" in text


STAT = ("version", "cversion", "aversion", "bytes", "children", "owner", "ctime", "mtime", "czxid", "mzxid", "pzxid")


def stat_of(witness: Witness, path: str) -> dict[str, object]:
    stat = witness.stat(path)
    numbers = (stat.version, stat.cversion, stat.aversion, stat.data_length, stat.num_children)
    zxids = (hex(stat.czxid), hex(stat.mzxid), hex(stat.pzxid))
    owner = hex(stat.ephemeral_owner) if stat.ephemeral_owner else None
    return dict(zip(STAT, (*numbers, owner, iso(stat.ctime), iso(stat.mtime), *zxids), strict=True))


def test_get_with_stat_keeps_stdout_for_the_data(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", data=b"x")
    done = cli("get", "--stat", "/a")
    assert done.out == b"x"
    facts = stat_of(witness, "/a")
    assert done.err.splitlines() == [
        f"{name:<8}  {'' if fact is None else fact}".rstrip() for name, fact in facts.items()
    ]
    assert json.loads(cli("-o", "json", "get", "--stat", "/a").out) == {
        "path": "/a",
        **facts,
        "data": "x",
    }


# --- one fact -------------------------------------------------------------------------------------


def test_stat_in_each_form(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", data=b"x", flags=1)
    facts = {"path": "/a", **stat_of(witness, "/a")}
    assert json.loads(cli("-o", "json", "stat", "/a").out) == facts
    assert cli("stat", "/a").lines == [f"{name}\t{value}" for name, value in facts.items()]
    assert cli("stat", "/a", is_terminal=True).lines == [f"{name:<8}  {value}" for name, value in facts.items()]
    done = cli("stat", "/nowhere")
    assert (done.code, done.out) == (exits.MISSING, b"")
    assert "/nowhere: NoNode (-101) (it is not there)" in done.err


def test_a_time_of_another_world_is_a_number() -> None:
    assert when(0) == "1970-01-01T00:00:00.000Z"
    assert when(1 << 62) == str(1 << 62)


def test_exists_is_an_exit_code(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a")
    assert cli("exists", "/a") == kit.Done(0, b"", "")
    assert cli("exists", "/b") == kit.Done(exits.MISSING, b"", "")
    assert cli("exists", "--stat", "/b") == kit.Done(exits.MISSING, b"", "")
    assert json.loads(cli("-o", "json", "exists", "--stat", "/a").out) == {"path": "/a", **stat_of(witness, "/a")}


def test_count_is_of_the_whole_tree(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/a/b", "/a/b/c", "/d")
    assert cli("count", "/").out == b"4\n"
    assert json.loads(cli("-o", "json", "count", "/a").out) == {"path": "/a", "count": 2}
    assert cli("count", "/nowhere").code == exits.MISSING


def test_sync_tells_how_far_the_server_is(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a")
    made = witness.stat("/a").czxid
    assert int(cli("sync").text, 16) >= made
    found = json.loads(cli("-o", "json", "sync", "/a").out)
    assert (found["path"], int(found["zxid"], 16) >= made) == ("/a", True)


def test_help_has_examples(cli: kit.Cli) -> None:
    for name in ("ls", "tree", "get", "stat", "exists", "count", "sync", "set", "create", "rm"):
        done = cli(name, "--help")
        assert (done.code, f"  coati {name} " in done.text) == (0, True)
