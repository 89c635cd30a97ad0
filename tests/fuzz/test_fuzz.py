"""The fuzzer finds what it is there to find: an escaping exception, a hang, a blow-up of memory."""

from __future__ import annotations

import random
import resource
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from tools import fuzz


class Planted:
    """A target that breaks in the way its input asks for."""

    name = "planted"
    max_allocated_bytes = 1 << 20

    def __init__(self) -> None:
        self.runs = 0
        self.kept = b""

    def seeds(self) -> Iterable[bytes]:
        return (b"seed",)

    def run(self, data: bytes) -> None:
        self.runs += 1
        if data == b"raise":
            raise ValueError("it escaped")
        if data == b"allocate":
            self.kept = bytes(16 << 20)
            self.kept = b""


def test_escaping_exception_is_found() -> None:
    fuzz.check(Planted(), b"fine")
    with pytest.raises(ValueError, match="it escaped"):
        fuzz.check(Planted(), b"raise")


def test_slow_input_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((0.0, fuzz.MAX_CPU_S + 0.1, 0.0, fuzz.MAX_CPU_S - 0.1))
    monkeypatch.setattr(time, "process_time", lambda: next(ticks))
    with pytest.raises(fuzz.TooSlow, match=r"1\.10 s of CPU time for 4 bytes"):
        fuzz.check(Planted(), b"fine")
    fuzz.check(Planted(), b"fine")


def test_allocation_is_counted() -> None:
    with pytest.raises(fuzz.TooMuchMemory):
        fuzz.check_memory(Planted(), b"allocate")
    assert not tracemalloc.is_tracing()
    fuzz.check_memory(Planted(), b"fine")


def test_grown_process_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        ru_maxrss = 0

    def grow(_: int) -> Usage:
        usage = Usage()
        Usage.ru_maxrss += fuzz.SUSPECT_BYTES // 1024 + 1
        usage.ru_maxrss = Usage.ru_maxrss
        return usage

    monkeypatch.setattr(resource, "getrusage", grow)
    target = Planted()
    fuzz.check(target, b"fine")
    assert target.runs == 2
    with pytest.raises(fuzz.TooMuchMemory):
        fuzz.check(target, b"allocate")


def test_offender_is_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.passes(Planted(), b"fine", tmp_path)
    assert not fuzz.passes(Planted(), b"raise", tmp_path)
    (crash,) = tmp_path.iterdir()
    assert crash.read_bytes() == b"raise"
    assert crash.name in capsys.readouterr().err


def test_mutation_changes_and_is_repeatable() -> None:
    known = b"0123456789abcdef"
    first = [fuzz.mutate(random.Random(seed), known, b"other") for seed in range(300)]
    assert first == [fuzz.mutate(random.Random(seed), known, b"other") for seed in range(300)]
    assert len(set(first)) > 250
    assert min(map(len, first)) < len(known) < max(map(len, first))
    assert fuzz.mutate(random.Random(1), b"", b"") is not None


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(fuzz.load_targets())
    assert fuzz.main(["--target", "nothing"]) == 2
    with pytest.raises(SystemExit):
        fuzz.main(["--corpus", "somewhere"])


def test_replay_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"\x00/a//b")
    assert fuzz.main(["--target", "paths", "--replay", str(path), "--crashes", str(tmp_path / "crashes")]) == 0


@pytest.mark.slow
def test_search_without_atheris(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = fuzz.parse(["--target", "frames", "--seconds", "1", "--seed", "1", "--crashes", str(tmp_path)])
    assert fuzz.search_blindly(options, tmp_path / "corpus", tmp_path / "work") == 0
    assert "runs" in capsys.readouterr().out
