"""A part of kazoo's own tests, unchanged, against an ensemble of three coati servers; `tools/kazoo_suite.py` runs all.

The verdicts of that tool are tried here too: a suite whose failures nobody sees would pass for ever.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path

import pytest

from tools.javapeer import HOST
from tools.kazoo_suite import KNOWN, Result, Suite, free_ports, read_report

# Modules with which of their tests, as for pytest -k, and how many these are in kazoo 2.10 at least. Left out is one
# that gives a failover five seconds, which a busy machine may not have.
QUICK = [("test_client", "TestClient and not update_host_list", 70), ("test_election", "", 2)]
REPORT = """<testsuites><testsuite name="pytest">
<testcase classname="kazoo.tests.test_lock.KazooLockTests" name="test_good" time="1.5" />
<testcase classname=".KazooLockTests" name="test_bad" time="0.5">
<failure message="AssertionError: no&#10;more">x</failure></testcase>
<testcase classname=".KazooLockTests" name="test_torn" time="0"><error message="down">x</error></testcase>
<testcase classname=".KazooLockTests" name="test_not_here" time="0"><skipped message="why">x</skipped></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite("coati", tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("module", "tests", "at_least"), QUICK, ids=[module for module, *_ in QUICK])
def test_kazoos_own_tests_pass_on_an_ensemble(suite: Suite, module: str, tests: str, at_least: int) -> None:
    results = suite.run(module, tests, timeout_s=240)
    assert not suite.surprises(results), suite.log(module)[-10_000:]
    assert sum(result.outcome == "passed" for result in results) >= at_least, suite.log(module)[-10_000:]


def test_report_is_read(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert read_report("test_lock", report) == [
        Result("test_lock.KazooLockTests.test_good", "passed", "", 1.5),
        Result("test_lock.KazooLockTests.test_bad", "failed", "AssertionError: no", 0.5),
        Result("test_lock.KazooLockTests.test_torn", "failed", "down", 0.0),
        Result("test_lock.KazooLockTests.test_not_here", "skipped", "why", 0.0),
    ]


def test_failures_are_surprises_and_so_are_known_ones_that_are_gone(suite: Suite) -> None:
    known = next(iter(KNOWN))
    assert suite.surprises([Result("test_lock.X.test_a", "passed", "", 0), Result(known, "failed", "no", 0)]) == []
    (failed,) = suite.surprises([Result("test_lock.X.test_a", "failed", "no", 0)])
    assert failed == "test_lock.X.test_a failed: no"
    (gone,) = suite.surprises([Result(known, "passed", "", 0)])
    assert gone.startswith(f"{known} passed")


@pytest.mark.timeout(200)
def test_module_that_hangs_fails_and_leaves_no_process(suite: Suite, tmp_path: Path) -> None:
    # The server never starts, and what stands for it says who it was.
    launcher = tmp_path / "bin" / "java"
    launcher.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec sleep 1000\n")
    for timeout_s in (4, 16, 64):
        results = suite.run("test_counter", timeout_s=timeout_s)
        assert [(result.outcome, result.name) for result in results] == [("failed", "test_counter")]
        if (tmp_path / "pids").exists():
            break
    for pid in (tmp_path / "pids").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(int(pid))
            assert select.select([ended], [], [], 30.0)[0], f"{pid} still runs"
            os.close(ended)


def test_module_that_is_none_fails(suite: Suite) -> None:
    (result,) = suite.run("test_nothing_of_the_kind", timeout_s=60)
    assert result.outcome == "failed"


def test_taken_ports_are_passed_over() -> None:
    first = free_ports()
    with socket.socket() as taken:
        taken.bind((HOST, first + 7))
        taken.listen()
        assert free_ports() != first
