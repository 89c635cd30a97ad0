"""`coati snap` on what Java wrote, on damaged copies of it, and on what is no snapshot at all."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from coati.cli import exits
from tests.cli import kit
from tests.storage.kit import GOLDEN_NAMES, golden

# Everything that Java wrote was written by the same clients; expected.json is what Java itself showed at the end.


@pytest.fixture(params=range(len(GOLDEN_NAMES)), ids=GOLDEN_NAMES)
def directory(request: pytest.FixtureRequest) -> Path:
    found: Path = golden()[request.param]
    return found / "version-2"


def newest(directory: Path) -> Path:
    return max(directory.glob("snapshot.*"), key=lambda path: int(path.name.split(".")[1], 16))


def rows(done: kit.Done) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.lines]


def plain(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def test_every_snapshot_of_java_is_listed_and_sound(directory: Path) -> None:
    for where in (directory, directory.parent):
        done = kit.run("-o", "jsonl", "snap", "ls", str(where))
        assert (done.code, done.err) == (exits.DONE, "")
        found = rows(done)
        assert {row["file"] for row in found} == {path.name for path in directory.glob("snapshot.*")}
        assert all(row["valid"] and row["digest"] for row in found)
        assert [int(str(row["zxid"]), 16) for row in found] == sorted(int(str(row["zxid"]), 16) for row in found)
    done = kit.run("snap", "verify", str(directory))
    assert (done.code, done.err) == (exits.DONE, "")
    assert all("\tyes\t" in line for line in done.lines)


def test_a_dump_is_what_java_showed(directory: Path) -> None:
    expected = json.loads((directory.parent / "expected.json").read_text())["tree"]
    path = newest(directory)
    zxid = int(path.name.split(".")[1], 16)
    done = kit.run("-o", "jsonl", "snap", "dump", str(path), "--data")
    assert (done.code, done.err) == (exits.DONE, "")
    compared = 0
    for row in rows(done):
        stat = expected.get(row["path"], {}).get("stat")
        if stat is None or max(stat["mzxid"], stat["pzxid"]) > zxid:
            continue
        compared += 1
        assert [row["version"], row["bytes"] or 0] == [stat["version"], stat["dataLength"]]
        assert [int(str(row[name]), 16) for name in ("czxid", "mzxid", "pzxid")] == [
            stat[name] for name in ("czxid", "mzxid", "pzxid")
        ]
        assert (row["kind"] == "ephemeral") == (stat["ephemeralOwner"] != 0)
        if stat["ephemeralOwner"]:
            assert int(str(row["owner"]), 16) == stat["ephemeralOwner"]
    assert compared > 100


def test_a_dump_of_a_subtree_and_of_nothing(directory: Path) -> None:
    path = str(newest(directory))
    done = kit.run("snap", "dump", path, "/zookeeper")
    assert [line.split("\t")[0] for line in done.lines] == ["/zookeeper", "/zookeeper/config", "/zookeeper/quota"]
    assert done.lines[0].split("\t")[1:4] == ["persistent", "", "0"]
    assert kit.run("snap", "dump", path, "/zookeeper", "-o", "table").lines[0].split()[:3] == ["PATH", "KIND", "OWNER"]
    done = kit.run("snap", "dump", path, "/no/where")
    assert (done.code, done.out) == (exits.MISSING, b"")


def test_the_difference_of_two(directory: Path) -> None:
    files = sorted(directory.glob("snapshot.*"), key=lambda path: int(path.name.split(".")[1], 16))
    dumps = [
        {row["path"]: row for row in rows(kit.run("-o", "jsonl", "snap", "dump", str(path), "--data"))}
        for path in files[-2:]
    ]
    done = kit.run("-o", "jsonl", "snap", "diff", str(files[-2]), str(files[-1]))
    assert done.code == exits.CHECK_FAILED
    changes = {row["path"]: row["change"] for row in rows(done)}
    assert {path for path, change in changes.items() if change == "created"} == dumps[1].keys() - dumps[0].keys()
    assert {path for path, change in changes.items() if change == "deleted"} == dumps[0].keys() - dumps[1].keys()
    for path in dumps[0].keys() & dumps[1].keys():
        fields = ("data", "data_base64", "version", "mzxid", "acl", "aversion", "czxid")
        assert (path in changes) == any(dumps[0][path].get(name) != dumps[1][path].get(name) for name in fields)
    done = kit.run("snap", "diff", str(files[-1]), str(files[-1]))
    assert (done.code, done.out) == (exits.DONE, b"")


@pytest.mark.parametrize("by", ["bytes", "children", "subtree"])
def test_the_largest(directory: Path, by: str) -> None:
    path = str(newest(directory))
    sizes = {
        str(row["path"]): int(str(row["bytes"] or 0)) for row in rows(kit.run("-o", "jsonl", "snap", "dump", path))
    }

    def measure(path: str) -> int:
        if by == "bytes":
            return sizes[path]
        below = [one for one in sizes if path == "/" or one.startswith(path + "/") or one == path]
        if by == "children":
            return sum(1 for one in below if one != "/" and (one.rpartition("/")[0] or "/") == path)
        return sum(sizes[one] + len(one.encode()) for one in below)

    done = kit.run("-o", "jsonl", "snap", "top", path, "--by", by, "-n", "5")
    column = "children" if by == "children" else "bytes"
    found = [(str(row["path"]), row[column]) for row in rows(done)]
    assert all(measure(path) == size for path, size in found)
    assert [size for _, size in found] == sorted(map(measure, sizes), reverse=True)[:5]


def test_each_cut_and_each_flipped_bit_is_seen(directory: Path, tmp_path: Path) -> None:
    """Whole files of a few hundred bytes: snapshot.0. A name that says gzip and content that is not is damage, too."""
    source = next(path for path in directory.glob("snapshot.0*"))
    data = source.read_bytes()
    target = tmp_path / source.name
    cuts = [data[:size] for size in range(0, len(data), 7)]
    flips = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(0, len(data), 7)]
    for number, damaged in enumerate([*cuts, *flips, b"", b"hello", plain(source) + b"x"]):
        target.write_bytes(damaged)
        if damaged[:10] != data[:10] and source.suffix == ".gz" and len(damaged) == len(data):
            continue  # some bits of gzip's own header mean nothing
        done = kit.run("snap", "verify", str(target))
        if done.code == exits.DONE:
            # The dbid, which Java does not look at, and Adler32 sees it all the same; so no bit is free.
            assert source.suffix == ".gz", number
            assert plain(target) == plain(source)
            continue
        assert done.code == exits.CHECK_FAILED
        assert done.lines[0].split("\t")[1] == "no"
        assert f"{target} at byte " in done.err
        assert "Traceback" not in done.err
        assert kit.run("snap", "ls", str(target)).code == exits.CHECK_FAILED


@pytest.mark.parametrize("command", [("ls",), ("verify",)])
def test_what_is_no_snapshot(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "empty" / "version-2").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "file").write_bytes(b"hello")
    os.mkfifo(tmp_path / "fifo")
    for where, tells in (
        ("empty", "there is no snapshot in it"),
        ("other", "no data directory"),
        ("nowhere", "No such file"),
        ("file", "at byte 5: the file ends"),
        ("fifo", "no plain file"),
    ):
        done = kit.run("snap", *command, str(tmp_path / where))
        assert (done.code, tells in done.err) == (exits.CHECK_FAILED, True), done.err
        assert "Traceback" not in done.err


def test_a_damaged_one_ends_a_dump_behind_its_rows(directory: Path, tmp_path: Path) -> None:
    source = newest(directory)
    damaged = bytearray(plain(source))
    damaged[-20] ^= 1
    target = tmp_path / "copy"
    target.write_bytes(damaged)
    for command in (("dump", str(target)), ("top", str(target)), ("diff", str(source), str(target))):
        done = kit.run("snap", *command)
        assert done.code == exits.CHECK_FAILED
        # The last seal of either version covers the trailer before it.
        assert f"{target} at byte " in done.err
        assert "the checksum is wrong" in done.err
