"""The committed records are what the generator writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.tidy.source import ROOT

GENERATOR = Path("tools/gen_records.py")
RECORDS = Path("src/coati/wire/records.py")


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / GENERATOR), "--check"], capture_output=True, text=True, check=False
    )


def test_the_records_are_up_to_date() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_record_edited_by_hand_is_seen(tmp_path: Path) -> None:
    for path in (GENERATOR, RECORDS, Path("pyproject.toml")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    assert check(tmp_path).returncode == 0
    with (tmp_path / RECORDS).open("a") as records:
        records.write("\nEDITED = True\n")
    assert check(tmp_path).returncode != 0
