"""Apache Curator's recipes with two clients (java/CuratorCheck.java), on coati, on a follower and on Java alike."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop import peers, raw
from tests.interop.javaclient import finish, java
from tests.interop.peers import Server
from tools.javapeer import classpath, why_missing

SOURCE = Path(__file__).parent / "java" / "CuratorCheck.java"
VERSION = "3.9.3"  # its jars come with Curator 5.7.1
PARTS = [
    "verbs", "transactions", "mutex", "readWriteLock", "semaphore", "leaderLatch", "cache", "watches", "queue",
    "counters",
    "doubleBarrier", "ttlNode",
]  # fmt: skip


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory with the compiled program."""
    reason = why_missing(VERSION)
    javac = shutil.which("javac")
    if reason is None and javac is None:
        reason = "no javac on PATH"
    if reason is None and not any("curator-recipes" in jar for jar in classpath(VERSION)):
        reason = "no Curator jars beside those of ZooKeeper 3.9.3"
    if reason is not None or javac is None:
        peers.missing(str(reason))
        raise AssertionError
    target = tmp_path_factory.mktemp("curator")
    jars = os.pathsep.join(classpath(VERSION))
    done = subprocess.run(
        [javac, "-nowarn", "-proc:none", "-cp", jars, "-d", str(target), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return str(target)


@pytest.mark.parametrize("server", peers.KINDS, indirect=True)
def test_curator_recipes_work(classes: str, server: Server) -> None:
    with peers.session(server) as session:
        assert session.call(raw.CREATE, raw.create("/curator"))[0] == 0
        session.close()
    ran = finish(java(VERSION, ["CuratorCheck", f"{server.address}/curator"], extra_classpath=[classes]))
    worked = [line.removeprefix("OK ") for line in ran.output.splitlines() if line.startswith("OK ")]
    assert (worked, ran.exit_code) == (PARTS, 0), ran.output
