"""Servers with one planted mistake each under walking clients: the checkers tell it by its id within a few seeds.

Only for the plain build: compiled classes cannot be replaced by interpreted ones.
"""

from __future__ import annotations

import pytest

from coati.server import replica as replica_module

if not (replica_module.__file__ or "").endswith(".py"):
    pytest.skip("compiled classes have no interpreted subclasses", allow_module_level=True)

from collections.abc import Callable

from coati.core.sessions import Session, SessionTable
from coati.errors import SessionMoved
from coati.server.handshake import Handshake
from coati.server.pipeline import Conn
from coati.server.replica import Replica
from coati.testing.server import Parts
from tests.server import test_mutants as planted
from tests.testing.kit import Run, ids_of

SEEDS = range(1, 9)


class NeverExpires(SessionTable):
    def expired(self, now_ms: int) -> list[Session]:
        return []


class KnowsNoOwner(SessionTable):
    """A session writes from wherever it likes (2886)."""

    def check(self, session_id: int, owner: object) -> None:
        try:
            super().check(session_id, owner)
        except SessionMoved:
            return


class OpensAgain(Handshake):
    __slots__ = ()

    def _resume(self, conn: Conn, session_id: int, now_ms: int) -> None:
        self._open(conn, now_ms)


class GivesNewSessions(Replica):
    """Whoever comes back gets a new session (an open issue of ClickHouse Keeper)."""

    def begin_turn(self, now_ms: int, wall_ms: int) -> None:
        self._handshake.__class__ = OpensAgain
        super().begin_turn(now_ms, wall_ms)


CASES: list[tuple[str, Callable[[], Parts], int]] = [
    ("W1", lambda: Parts(driver=planted.AnswersBeforeSync), 100_000),
    ("W4", lambda: Parts(replica=planted.ReadsAtOnce), 40),
    ("W9", lambda: Parts(load=planted.load_counting_children), 40),
    ("E1", lambda: Parts(replica=planted.TellsTooLate), 40),
    ("E2", lambda: Parts(watches=planted.FiresTwice), 40),
    ("E7", lambda: Parts(watches=planted.KeepsWatches), 40),
    ("S2", lambda: Parts(sessions=planted.ExpiresEarly), 40),
    ("S3", lambda: Parts(sessions=NeverExpires), 40),
    ("S4", lambda: Parts(replica=planted.ForgetsTheOldHome, sessions=KnowsNoOwner), 40),
    ("S6", lambda: Parts(replica=GivesNewSessions), 40),
    ("Z11", lambda: Parts(store=planted.ForgetsSessions), 40),
]


@pytest.mark.parametrize(("id_", "parts", "snap_count"), CASES, ids=[case[0] for case in CASES])
def test_a_planted_mistake_is_told_by_its_id(id_: str, parts: Callable[[], Parts], snap_count: int) -> None:
    found: list[str] = []
    for seed in SEEDS:
        found = ids_of(Run(seed, parts=parts(), snap_count=snap_count).go(800).check())
        if id_ in found:
            return
    pytest.fail(f"found {found} only")
