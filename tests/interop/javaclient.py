"""Java programs as clients of either server: the ZooKeeper shell, and classes of ours.

Knows how they are started quietly and how their output is made comparable: what two correct servers may differ in
(addresses, session ids, times) is replaced, zxids become distances from the first one seen.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.interop import peers
from tools.javapeer import classpath, java_command

SHELL = "org.apache.zookeeper.ZooKeeperMain"
TIMEOUT_S = 90
# Starting is most of what these programs do: no second compiler, and one collector thread, make that cheaper.
JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx128m")
QUIET = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-Dorg.apache.logging.log4j.level=OFF")
ZXID = re.compile(r"(?<=Zxid = 0x)[0-9a-f]+|(?<=zxid: )-?\d+")
TIME = re.compile(r"(?<=time = )\w{3} \w{3} .*")
OWNER = re.compile(r"(?<=ephemeralOwner = 0x)[0-9a-f]{10,}")


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a program."""

    exit_code: int
    output: str


def java(
    version: str, main: Sequence[str], stdin: str = "", extra_classpath: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start a Java program with the client jars of `version`; stdout and stderr are one stream, in order."""
    jars = os.pathsep.join([*extra_classpath, *classpath(version)])
    process = subprocess.Popen(
        [java_command(), *JVM, *QUIET, "-cp", jars, *main],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    )
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    process.stdin = None
    return process


def finish(process: subprocess.Popen[str]) -> Ran:
    """Wait for the end. A program that hangs is killed and fails the test."""
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"still running after {TIMEOUT_S} s:\n{output}") from None
    return Ran(process.returncode, output)


def shell(
    version: str, server: peers.Server, chroot: str = "", command: Sequence[str] = (), script: str = ""
) -> subprocess.Popen[str]:
    """Start zkCli on `server`: one command, or a script as if typed."""
    return java(
        version,
        [SHELL, "-server", server.address + chroot, "-timeout", "20000", "-waitforconnection", *command],
        script,
    )


def comparable(output: str, server: peers.Server) -> str:
    """`output` without what is this run's own."""
    base: list[int] = []

    def distance(match: re.Match[str]) -> str:
        value = int(match[0], 16 if match.string[match.start() - 2 : match.start()] == "0x" else 10)
        if value <= 0:
            # No txn: an event of the connection, or what was there from the beginning.
            return str(value)
        base.append(value)
        return f"first{value - base[0]:+d}"

    text = output.replace(server.address, "SERVER")
    text = OWNER.sub("SESSION", TIME.sub("TIME", text))
    return ZXID.sub(distance, text)
