"""Doubts: sessions of which a leader cannot tell at once that they are over, and who waits for the answer.

Knows sessions and the numbers of links. Must not know clients, packets or why somebody asks.
    is closing     its end may yet be lost with this leader: asked again when more has been delivered
    is not known   a later leader may have opened it, if there is one: a quorum has to show that there is none, as for a
                   sync (ZOOKEEPER-1675; Java answers at once, also when it was stopped and others have gone on)
Invariant: nobody is told that a session is over before it is (S1).
"""

from __future__ import annotations

from collections.abc import Callable

from coati.server.handshake import Doubt, Question
from coati.server.replica import Replica


class Doubts:
    """Of the learners of one leader. `answer` tells one of them what is known now."""

    __slots__ = ("_answer", "_closing")

    def __init__(self, answer: Callable[[Replica, Question], None]) -> None:
        self._answer = answer
        self._closing: list[Question] = []

    def ask(self, replica: Replica, questions: list[Question]) -> None:
        """Answers these, and those that waited, or lets them wait."""
        waiting, self._closing = [*self._closing, *questions], []
        sessions = replica.sessions
        for question in waiting:
            session_id = question[1]
            if sessions.is_closing(session_id):
                self._closing.append(question)
            elif session_id in sessions.sessions:
                self._answer(replica, question)
            else:
                replica.broadcast.sync(Doubt(question))

    def clear(self) -> None:
        """Nobody is answered any more."""
        self._closing = []
