"""Broadcast: what the roles of a server have in common for those who write through them.

Knows zxids; tokens and payloads are opaque. A server has exactly one role at a time: Solo, Leader or Learner.
Invariant: delivered_zxid <= proposed_zxid.
"""

from __future__ import annotations

from coati.wire.records import Id
from coati.wire.zxid import COUNTER_MAX


class Limits:
    """Times of the protocol: `init_ticks` to join (initLimit), `sync_ticks` of silence (syncLimit), a tick in ms.

    A learner tries to connect to the leader for `connect_ticks`, at most `redial_ms` apart. The zxid with the counter
    `last_counter` is never given out; anything less than all that fits is of use for tests only.
    """

    __slots__ = ("connect_ticks", "init_ticks", "last_counter", "redial_ms", "sync_ticks", "tick_ms")

    def __init__(
        self,
        tick_ms: int = 2000,
        init_ticks: int = 10,
        sync_ticks: int = 5,
        *,
        connect_ticks: int = 0,
        redial_ms: int = 100,
        last_counter: int = COUNTER_MAX,
    ) -> None:
        self.tick_ms = tick_ms
        self.init_ticks = init_ticks
        self.sync_ticks = sync_ticks
        # connectToLearnerMasterLimit, whose default is initLimit; leaderConnectDelayDuringRetryMs.
        self.connect_ticks = connect_ticks or init_ticks
        self.redial_ms = redial_ms
        self.last_counter = last_counter


class Broadcast:
    """A role. `leads`: writes are prepared and proposed here; otherwise they are sent to the leader.

    `proposed_zxid` is the last one put into the log-to-be, `delivered_zxid` the last one handed to the tree.
    """

    __slots__ = ("delivered_zxid", "leads", "proposed_zxid")

    def __init__(self, *, leads: bool, last_zxid: int) -> None:
        self.leads = leads
        self.proposed_zxid = last_zxid
        self.delivered_zxid = last_zxid

    # Of who leads.

    def next_zxid(self) -> int:
        """The zxid that the next proposal must carry."""
        raise AssertionError("only who leads gives zxids")

    def propose(self, zxid: int, payload: bytes) -> None:
        """Sends a txn on its way; it is delivered when a quorum has it."""
        raise AssertionError("only who leads proposes")

    # Of who does not.

    def request(self, session_id: int, cxid: int, op: int, body: bytes, auth: list[Id]) -> None:
        """Sends the write of a client to the leader; it comes back as a delivery."""
        raise AssertionError("only a learner forwards")

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        """Asks the leader whether a session lives, and makes it this server's; answers come in order."""
        raise AssertionError("only a learner asks for sessions")

    # Of all but who is alone.

    def sync(self, token: object) -> None:
        """The token comes back when all that was committed anywhere before is delivered here."""
        raise AssertionError("who is alone has nobody to catch up with")
