"""Bad input in great numbers, against coati alone: tools/storm_input.py with a dose that a test can carry.

What is asserted of the server and of everybody else is in `storm_input.attack`: it lives, others are served, memory,
descriptors, watches and znodes are as before, and the log has a few lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.peers import CoatiServer
from tools import storm_input


@pytest.fixture(scope="module")
def server() -> Iterator[CoatiServer]:
    with storm_input.many_files(2500), CoatiServer(cfg=storm_input.CFG, props=storm_input.PROPS) as running:
        yield running


@pytest.mark.slow
def test_connections_that_never_get_to_a_session(server: CoatiServer) -> None:
    storm_input.stall(server, 1000, 1000)


def test_flood_of_connections_from_one_address(server: CoatiServer) -> None:
    storm_input.flood(server, 10_000)


def test_super_user_s_password_is_not_found_by_trying(server: CoatiServer) -> None:
    storm_input.guess(server, 300)


def test_more_identities_than_anybody_has(server: CoatiServer) -> None:
    storm_input.identify(server, 10_000)


def test_as_many_watches_as_a_request_holds(server: CoatiServer) -> None:
    storm_input.watch_much(server, 100_000)


def test_everybody_watches_everything(server: CoatiServer) -> None:
    storm_input.watch_all(server, 1000, 30)


def test_long_events_that_nobody_reads(server: CoatiServer) -> None:
    storm_input.be_deaf(server, 60)


def test_pipeline_of_reads_without_a_look_at_the_answers(server: CoatiServer) -> None:
    storm_input.pipeline(server, 1000, 300_000)


def test_reads_of_a_wide_znode_hold_nobody_up() -> None:
    with CoatiServer(cfg=storm_input.CFG, props=storm_input.PROPS) as server:
        storm_input.widen(server, 100_000)


def test_the_storm_notes_down_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = tmp_path / "ledger.md"
    assert storm_input.main(["--only", "flood", "--scale", "0.01", "--ledger", str(ledger)]) == 0
    (line,) = ledger.read_text().splitlines()
    assert line.count("|") == 6
    assert line.endswith("| nothing |")
    assert "1000 connections at " in line
    assert "1000 connections at " in capsys.readouterr().out
