"""What holds for all tests: interop tests are marked and leave no traces in coverage, and the coverage gates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import coverage_gate

TESTS = Path(__file__).parent
# A worker that begins one of these last keeps all others waiting: a few tests of many seconds each.
LONGEST = (
    "interop/test_mixed_ensembles.py",
    "server/test_real_ensemble.py",
    "server/test_storm_network.py",
    "interop/test_kazoo_suite.py",
    "storage/test_crash.py",
    "storage/test_install.py",
    "testing/test_sim.py",
    "testing/test_sim_mutants.py",
    "server/test_single_server_crash.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--coverage-gate",
        metavar="JSON",
        default=None,
        help="check the coverage gates against this report of pytest-cov",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Interop tests come last: they are slow, and a fault in a unit explains their failures.
    for item in items:
        if item.path.is_relative_to(TESTS / "interop"):
            item.add_marker(pytest.mark.interop)
            # A line that runs only against a Java server has no test that says what it should do.
            item.add_marker(pytest.mark.no_cover)
        elif item.path.is_relative_to(TESTS / "tidy"):
            # They read sources.
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[int, int]:
    name = item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else ""
    if name in LONGEST:
        return 0, LONGEST.index(name)
    return (1, 0) if item.get_closest_marker("interop") is None else (2, 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    path = config.getoption("--coverage-gate")
    if path is None or not Path(path).exists():
        return
    terminalreporter.section("coverage gates")
    for passes, line in coverage_gate.verdicts(coverage_gate.load(Path(path))):
        terminalreporter.write_line(line, red=not passes)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--coverage-gate")
    if path is None or hasattr(session.config, "workerinput") or session.exitstatus != pytest.ExitCode.OK:
        return
    lines = coverage_gate.verdicts(coverage_gate.load(Path(path)))
    if not all(passes for passes, _ in lines):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
