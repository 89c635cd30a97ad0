"""Runs kazoo's own tests, as its wheel ships them, against an ensemble of three coati or three Java servers.

    python -m tools.kazoo_suite                          everything, against coati
    python -m tools.kazoo_suite --server java            the judge: what fails there too is not ours
    python -m tools.kazoo_suite --modules test_lock      some of it

kazoo's harness writes a zoo.cfg, starts `java` from PATH and kills it again. So a directory with a `java` of ours goes
in front of PATH, and nothing of kazoo is changed. Knows that harness (kazoo/testing/common.py). Must not import kazoo.
The clients on gevent and eventlet, and the tests that count objects, run where these are installed: `pip install
'.[suites]'`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from tools.javapeer import HOST, classpath, java_command

JAVA_VERSION: Final = "3.9.3"
SERVERS: Final = ("coati", "java")
TEST_TIMEOUT_S: Final = 120
MODULE_TIMEOUT_S: Final = 900
# Three servers of five ports each, ten apart; below the ports that systems give to clients.
PORTS: Final = 30
FIRST_PORT: Final = 21_000
LAST_PORT: Final = 31_000
SHOWN_REASON_CHARS: Final = 160
LOG_TAIL_CHARS: Final = 2000
PYTEST_RAN: Final = (0, 1, 5)  # all well, tests failed, none selected
# What coati cannot do yet. When it can, the line here has become wrong, and that is an error like a failure.
KNOWN: Final[Mapping[str, str]] = {
    "test_client.TestSSLClient.test_create": "TLS",
}
COATI_FLAGS: Final = ("--log-level", "warning")

# kazoo's `java -cp PATH -Dname=value... QuorumPeerMain zoo.cfg` becomes `coati serve`, in the same process, since kazoo
# will signal it. The log goes where kazoo looks for it when a test fails.
COATI_LAUNCHER: Final = """#!{python}
import os, sys
arguments = sys.argv[1:]
config = arguments[-1]
options = [argument for argument in arguments if argument.startswith("-D")]
log = os.open(os.path.join(os.path.dirname(config), "zookeeper.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
command = [sys.executable, "-m", "coati", "serve", *{flags!r}, *options, config]
os.execv(sys.executable, command)
"""
# The jars come without Jetty, and without a word on logging they say everything.
JAVA_LAUNCHER: Final = """#!/bin/sh
exec {java} -Xmx256m -Dzookeeper.admin.enableServer=false -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
-Dlog4j2.level=warn "$@"
"""
# kazoo makes certificates before it starts servers, and only the tests of TLS read them. pyjks needs a compiler, and
# pyOpenSSL must be older than 24.3, so these do where they are not installed: pytest puts what is installed first.
STAND_INS: Final = {
    "OpenSSL.py": "from unittest.mock import MagicMock\n\ncrypto = MagicMock()\n",
    "jks.py": "from unittest.mock import MagicMock\n\n"
    "KeyStore = MagicMock()\nPrivateKeyEntry = MagicMock()\nTrustedCertEntry = MagicMock()\n",
}


class Result(NamedTuple):
    """One test: `name` is module.class.test, `outcome` passed, failed or skipped."""

    name: str
    outcome: str
    reason: str
    seconds: float


class Suite:
    """A directory with a launcher, and the environment in which kazoo's harness finds it."""

    def __init__(self, server: str, scratch: Path) -> None:
        """Raises JavaUnavailable when the server is Java and is not there."""
        self._scratch = scratch
        self._known = KNOWN if server == "coati" else {}
        bin_dir, stand_ins = scratch / "bin", scratch / "lib"
        for directory in (bin_dir, stand_ins):
            directory.mkdir()
        for name, text in STAND_INS.items():
            (stand_ins / name).write_text(text)
        # An own file, so that no other pytest settings are found.
        (scratch / "pytest.ini").write_text("[pytest]\n")
        launcher = bin_dir / "java"
        jars = str(scratch)
        if server == "coati":
            launcher.write_text(COATI_LAUNCHER.format(python=sys.executable, flags=COATI_FLAGS))
        else:
            launcher.write_text(JAVA_LAUNCHER.format(java=shlex.quote(java_command())))
            jars = os.pathsep.join(classpath(JAVA_VERSION))
        launcher.chmod(0o755)
        self._environment = {name: value for name, value in os.environ.items() if name != "CI"} | {
            "PATH": f"{bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": f"{stand_ins}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep),
            "ZOOKEEPER_CLASSPATH": jars,
            "ZOOKEEPER_VERSION": JAVA_VERSION,
            # kazoo's harness leaves its directories behind when it is killed.
            "TMPDIR": str(scratch),
        }

    def run(
        self,
        module: str,
        tests: str = "",
        *,
        timeout_s: float = MODULE_TIMEOUT_S,
        test_timeout_s: float = TEST_TIMEOUT_S,
    ) -> list[Result]:
        """The results of one module, or of those of its `tests` that a pytest expression selects."""
        report, log = self._scratch / f"{module}.xml", self._scratch / f"{module}.log"
        report.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "pytest", "-c", str(self._scratch / "pytest.ini"), "-q", "-p", "no:cacheprovider"),
            *("--pyargs", f"kazoo.tests.{module}", f"--junitxml={report}", f"--timeout={test_timeout_s:g}"),
            *(("-k", tests) if tests else ()),
        ]
        environment = self._environment | {"ZOOKEEPER_PORT_OFFSET": str(free_ports())}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._scratch,
                env=environment,
                start_new_session=True,
            )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return [Result(module, "failed", f"not over within {timeout_s:g} s", timeout_s)]
        finally:
            _end_group(process)
        if process.returncode not in PYTEST_RAN or not report.exists():
            reason = f"pytest exited with {process.returncode}:\n{self.log(module)[-LOG_TAIL_CHARS:]}"
            return [Result(module, "failed", reason, 0.0)]
        return read_report(module, report)

    def log(self, module: str) -> str:
        """What pytest printed for a module."""
        return (self._scratch / f"{module}.log").read_text(errors="replace")

    def surprises(self, results: Sequence[Result]) -> list[str]:
        """What is not as it should be: failures without a known reason, and known ones that have gone."""
        found = []
        for result in results:
            known = self._known.get(result.name)
            if result.outcome == "failed" and known is None:
                found.append(f"{result.name} failed: {result.reason}")
            elif result.outcome == "passed" and known is not None:
                found.append(f"{result.name} passed, but is known to fail for want of {known}")
        return found


def free_ports() -> int:
    """The first of PORTS consecutive ports of which none was taken a moment ago."""
    # Different runs at the same time begin at different places.
    first = FIRST_PORT + os.getpid() * 97 % (LAST_PORT - FIRST_PORT)
    for port in chain(range(first, LAST_PORT, PORTS), range(FIRST_PORT, first, PORTS)):
        if all(map(_is_free, range(port, port + PORTS))):
            return port
    raise RuntimeError(f"no {PORTS} free ports in a row between {FIRST_PORT} and {LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """The servers that a test started live in the group of its process."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def read_report(module: str, path: Path) -> list[Result]:
    """The tests of a module, from the JUnit file that pytest writes."""
    results = []
    for case in ET.parse(path).getroot().iter("testcase"):
        in_class = (case.get("classname") or "").rpartition(".")[2]
        outcome, reason = "passed", ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome = "failed"
            elif child.tag == "skipped" and outcome == "passed":
                outcome = "skipped"
            else:
                continue
            reason = (child.get("message") or "").partition("\n")[0][:SHOWN_REASON_CHARS]
        results.append(Result(f"{module}.{in_class}.{case.get('name')}", outcome, reason, float(case.get("time") or 0)))
    return results


def modules() -> list[str]:
    """The names of kazoo's test modules."""
    package = find_spec("kazoo")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("kazoo is not installed")
    return sorted(path.stem for path in Path(package.submodule_search_locations[0], "tests").glob("test_*.py"))


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="kazoo's own tests against an ensemble of three servers")
    parser.add_argument("--server", choices=SERVERS, default="coati")
    parser.add_argument("--modules", nargs="+", metavar="NAME", help="such as test_lock; default: all")
    parser.add_argument("--tests", default="", metavar="EXPRESSION", help="which tests, as for pytest -k")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new directory for logs and reports, which stays")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kazoosuite-") as temporary:
        if options.keep is not None:
            options.keep.mkdir(parents=True)
        suite = Suite(options.server, (options.keep or Path(temporary)).resolve())
        results: list[Result] = []
        surprises: list[str] = []
        for module in options.modules or modules():
            found = suite.run(module, options.tests)
            results += found
            surprises += suite.surprises(found)
            print(f"{module}: {summary(found)}", flush=True)
            for result in found:
                if result.outcome != "passed":
                    print(f"  {result.outcome}: {result.name}: {result.reason}", flush=True)
    print(f"{options.server}: {summary(results)}; {time.monotonic() - started:.0f} s in all")
    for surprise in surprises:
        print(f"UNEXPECTED: {surprise}")
    return 1 if surprises else 0


def summary(results: Sequence[Result]) -> str:
    """How many passed, failed and were skipped, and their time."""
    counts = {
        outcome: sum(result.outcome == outcome for result in results) for outcome in ("passed", "failed", "skipped")
    }
    seconds = sum(result.seconds for result in results)
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f", {seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
