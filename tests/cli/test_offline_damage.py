"""Whatever stands in a data directory: every command ends with one of its exit codes, says where, and is no bug."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from coati.cli import exits
from tests.cli import kit
from tests.storage.kit import golden

COMMANDS = (
    ("snap", "ls"),
    ("snap", "verify"),
    ("log", "ls"),
    ("log", "dump"),
    ("log", "verify"),
    ("log", "replay", "--until", "0x204"),
    ("log", "replay", "--until", "1795226846000"),
    ("purge", "--dry-run"),
)
EXPECTED = (exits.DONE, exits.CHECK_FAILED)


def damage(directory: Path, dice: Random) -> str:
    """Does something bad to one of the files; what."""
    path = dice.choice(sorted(path for path in directory.iterdir() if path.suffix != ".gz" or dice.random() < 0.5))
    data = path.read_bytes()
    at = dice.randrange(len(data) + 1)
    kind = dice.choice(("flip", "cut", "zeros", "noise", "gone", "empty", "twice", "name", "lengths"))
    if kind == "flip" and at < len(data):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :])
    elif kind == "cut":
        path.write_bytes(data[:at])
    elif kind in ("zeros", "noise"):
        size = dice.randrange(200)
        path.write_bytes(data[:at] + (bytes(size) if kind == "zeros" else dice.randbytes(size)) + data[at + size :])
    elif kind == "gone":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "twice":
        path.write_bytes(data + data)
    elif kind == "name":
        path.rename(directory / f"{path.name.partition('.')[0]}.{dice.randrange(0x300):x}")
    elif kind == "lengths":
        at = min(at, 400) & ~3
        path.write_bytes(data[:at] + dice.choice((b"\x7f\xff\xff\xff", b"\xff" * 4, b"\x80\0\0\0")) + data[at + 4 :])
    return f"{kind} of {path.name} at {at}"


@pytest.mark.parametrize("seed", range(6))
def test_no_damage_ends_in_a_traceback(seed: int, tmp_path: Path) -> None:
    dice = Random(seed)
    shutil.copytree(dice.choice(golden()) / "version-2", tmp_path / "version-2")
    done_so_far = []
    for _ in range(3):
        done_so_far.append(damage(tmp_path / "version-2", dice))
        for group, name, *rest in COMMANDS:
            words = (group, name, str(tmp_path), *rest) if group != "purge" else (group, str(tmp_path), name)
            done = kit.run(*words)
            told = f"seed {seed}, {done_so_far}: {words} ended with {done.code}: {done.err[-300:]}"
            assert done.code in EXPECTED, told
            assert "Traceback" not in done.err, told
            if done.code == exits.CHECK_FAILED:
                assert str(tmp_path) in done.err, told
    for path in (tmp_path / "version-2").glob("log.*"):
        assert kit.run("log", "repair", str(path), "--yes").code in EXPECTED
