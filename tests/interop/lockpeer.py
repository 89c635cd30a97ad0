"""Curator's locks in a Java process, one order at a time (java/LockPeer.java)."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop import peers
from tests.interop.javaclient import JVM, QUIET
from tools.javapeer import classpath, java_command, why_missing

SOURCE = Path(__file__).parent / "java" / "LockPeer.java"
VERSION = "3.9.3"  # its jars come with Curator 5.7.1
PATIENCE_MS = 20_000


class LockPeer:
    """Orders are words: kind, verb, path, milliseconds, permits. An answer is yes or no."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, *words: object) -> bool:
        """Waits for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer in ("yes", "no"), answer
        return answer == "yes"

    async def asked(self, *words: object) -> bool:
        """The same beside the loop. One order at a time."""
        return await asyncio.to_thread(self.ask, *words)


def compiled(target: Path, source: Path = SOURCE) -> str:
    """The directory with the compiled program; skips or fails where that cannot be."""
    reason = why_missing(VERSION)
    javac = shutil.which("javac")
    if reason is None and javac is None:
        reason = "no javac on PATH"
    if reason is None and not any("curator-recipes" in jar for jar in classpath(VERSION)):
        reason = "no Curator jars beside those of ZooKeeper 3.9.3"
    if reason is not None or javac is None:
        peers.missing(str(reason))
        raise AssertionError
    done = subprocess.run(
        [javac, "-nowarn", "-proc:none", "-cp", os.pathsep.join(classpath(VERSION)), "-d", str(target), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return str(target)


def command(classes: str, main: str, *arguments: str) -> list[str]:
    """What starts one of these programs."""
    jars = os.pathsep.join([classes, *classpath(VERSION)])
    return [java_command(), *JVM, *QUIET, "-cp", jars, main, *arguments]


@contextmanager
def running(classes: str, address: str) -> Iterator[LockPeer]:
    """A peer of this server while the block runs."""
    process = subprocess.Popen(
        command(classes, "LockPeer", address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield LockPeer(process)
    finally:
        process.kill()
        process.communicate()
