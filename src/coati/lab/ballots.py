"""Ballots: who takes part in an election, with which history, and when; read from the texts of a command line.

Knows texts and numbers. `ConfigError` says what is wrong with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coati.errors import ConfigError
from coati.wire.zxid import epoch_of

MAX_SERVERS: Final = 15
MAX_SID: Final = 255
_MAX_ZXID: Final = 2**63 - 1
_MAX_EPOCH: Final = 2**31 - 1
GAP_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a server brings: its last zxid and its epoch. One that does not run brings nothing."""

    sid: int
    zxid: int = 0
    epoch: int = 0
    start_ms: int = 0
    is_down: bool = False


def zxid_text(zxid: int) -> str:
    """Plain where there is no epoch in it, else in hexadecimal, as logs show it."""
    return str(zxid) if zxid < 1 << 32 else f"{zxid:#x}"


def vote_text(sid: int, zxid: int, epoch: int) -> str:
    """(myid, zxid, epoch), as the books write it."""
    return f"({sid}, {zxid_text(zxid)}, {epoch})"


def read_ballots(votes: str, *, down: str = "", start: str = "", gap_ms: int = GAP_MS) -> list[Ballot]:
    """From "1,0 2,0 3,0": myid, zxid and, where it is not the zxid's own, the epoch. Raises ConfigError.

    `down` names servers of the ensemble that do not run; `start` the others in the order in which they start, each
    `gap_ms` after the one before or at a time of its own, as in "1 2@500 3".
    """
    ballots: dict[int, Ballot] = {}
    for text in votes.split():
        ballot = _ballot(text)
        if ballot.sid in ballots:
            raise ConfigError(f"server {ballot.sid} has two votes")
        ballots[ballot.sid] = ballot
    if not ballots:
        raise ConfigError("there is no vote: give some as myid,zxid")
    _take_down(
        ballots, [_number(text, "the number of a server", 1, MAX_SID) for text in down.replace(",", " ").split()]
    )
    if all(one.is_down for one in ballots.values()):
        raise ConfigError("none of the servers runs")
    if len(ballots) > MAX_SERVERS:
        raise ConfigError(f"there are {len(ballots)} servers; the lab has room for {MAX_SERVERS}")
    times = _times(start, [sid for sid, one in ballots.items() if not one.is_down], gap_ms)
    return [
        Ballot(one.sid, one.zxid, one.epoch, times.get(sid, 0), one.is_down) for sid, one in sorted(ballots.items())
    ]


def _take_down(ballots: dict[int, Ballot], down: Sequence[int]) -> None:
    """One that does not run is one more server; a number that nobody would expect is a slip of the pen."""
    sids = sorted({*ballots, *down})
    missing = [sid for sid in range(sids[0], sids[-1]) if sid not in sids]
    for sid in down:
        if sid not in ballots and missing:
            raise ConfigError(f"server {sid} is down and has no vote, and nothing is said of server {missing[0]}")
    for sid in down:
        ballots[sid] = Ballot(sid, is_down=True)


def _ballot(text: str) -> Ballot:
    fields = text.split(",")
    if not 2 <= len(fields) <= 3:
        raise ConfigError(f"a vote is myid,zxid or myid,zxid,epoch, not {text!r}")
    sid = _number(fields[0], "the number of a server", 1, MAX_SID)
    zxid = _number(fields[1], "a zxid", 0, _MAX_ZXID)
    epoch = _number(fields[2], "an epoch", 0, _MAX_EPOCH) if len(fields) == 3 else epoch_of(zxid)
    if epoch < epoch_of(zxid):
        raise ConfigError(f"server {sid} has logged {zxid_text(zxid)}, so its epoch is {epoch_of(zxid)} at least")
    return Ballot(sid, zxid, epoch)


def _times(start: str, sids: Sequence[int], gap_ms: int) -> dict[int, int]:
    """When each of them starts: all at once, if nothing is said."""
    times: dict[int, int] = {}
    at_ms = 0
    for index, text in enumerate(start.replace(",", " ").split()):
        name, at, time = text.partition("@")
        sid = _number(name, "the number of a server", 1, MAX_SID)
        if sid not in sids:
            raise ConfigError(f"server {sid} is to start, and there is no such server with a vote")
        if sid in times:
            raise ConfigError(f"server {sid} is to start twice")
        at_ms = _number(time, "a time in ms", 0, 10**6) if at else at_ms + (gap_ms if index else 0)
        times[sid] = at_ms
    left = [str(sid) for sid in sids if sid not in times]
    if times and left:
        raise ConfigError(f"it is not said when server {left[0]} starts; one that does not run is named as down")
    return times


def _number(text: str, what: str, low: int, high: int) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        raise ConfigError(f"{what} is a number, not {text!r}") from None
    if not low <= number <= high:
        raise ConfigError(f"{what} is {low} to {high}, not {text}")
    return number
