"""Rounds of PINGs, and the syncs that wait for what they prove: a quorum still followed when the round began.

Knows which round each voter has answered, and the links.
Invariant: a sync is done behind all that was outstanding when it came, as in Java, and in the order of arrival.
Sources: Leader.processSync; the rounds are ours, for ZOOKEEPER-1675: with Java's rule a deposed leader answers too.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from coati.wire.quorum import PING, SYNC, encode_packet
from coati.zab.attendance import Attendance
from coati.zab.outbox import Outbox
from coati.zab.quorum import View

NO_LINK: Final = -1


class PendingSync:
    """Waits for the commit of `zxid` and the answers to `round`. It came on `link`, or of a client here, as `token`."""

    __slots__ = ("link", "round", "token", "zxid")

    def __init__(self, zxid: int, round: int, link: int, token: object) -> None:
        self.zxid = zxid
        self.round = round
        self.link = link
        self.token = token


class Rounds:
    """The rounds of the leader `sid`. Without `is_linearizable` syncs wait for commits alone, as in Java."""

    __slots__ = ("_attendance", "_confirmed", "_is_linearizable", "_outbox", "_pending", "_sid", "_view", "begun")

    def __init__(self, view: View, sid: int, outbox: Outbox, attendance: Attendance, *, is_linearizable: bool) -> None:
        self._view = view
        self._sid = sid
        self._outbox = outbox
        self._attendance = attendance
        self._is_linearizable = is_linearizable
        self._confirmed: dict[int, int] = {}
        self._pending: deque[PendingSync] = deque()
        self.begun = 0

    def set_view(self, view: View) -> None:
        """A quorum is another one from now on."""
        self._view = view

    def begin(self, proposed_zxid: int) -> None:
        """A PING to all who follow. Whoever answers had not left for a later leader when it was sent."""
        self.begun += 1
        self._confirmed[self._sid] = self.begun
        self._attendance.send(self._attendance.following, encode_packet(PING, proposed_zxid))

    def confirm(self, sid: int, round: int) -> None:
        """A voter has answered the round."""
        self._confirmed[sid] = round

    def forget(self, sid: int) -> None:
        """It follows no more."""
        self._confirmed.pop(sid, None)

    def clear(self) -> None:
        """Nobody is answered any more."""
        self._pending.clear()

    def pending_count(self) -> int:
        """How many syncs wait."""
        return len(self._pending)

    def add(self, zxid: int, link: int, token: object) -> None:
        """A sync has come. Its round is one that begins from now on."""
        self._pending.append(PendingSync(zxid, self.begun + 1 if self._is_linearizable else 0, link, token))

    def answer(self, delivered_zxid: int, proposed_zxid: int) -> None:
        """Answers the syncs that are safe, and begins a round for the others: one at a time, which they share."""
        pending = self._pending
        if not pending:
            return
        confirmed = self._view.quorum_zxid(self._confirmed)
        if confirmed >= self.begun and pending[-1].round > self.begun:
            self.begin(proposed_zxid)
            confirmed = self._view.quorum_zxid(self._confirmed)
        while pending and pending[0].zxid <= delivered_zxid and pending[0].round <= confirmed:
            done = pending.popleft()
            if done.link == NO_LINK:
                self._outbox.synced.append(done.token)
            elif done.link in self._attendance.by_link:
                self._outbox.sends.append((done.link, encode_packet(SYNC, 0)))
