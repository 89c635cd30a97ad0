"""Solo: the role of a server that is its own ensemble, a broadcast of one.

Knows the last zxid given out and which proposals are not durable yet. Must not know what a payload means, nor files:
`log` is what the driver appends, `on_synced` what it reports back.
Invariant: delivered_zxid <= proposed_zxid; proposals are delivered in zxid order, each once.
"""

from __future__ import annotations

from coati.zab.broadcast import Broadcast


class Solo(Broadcast):
    """Gives zxids, and delivers what its own log holds durably. Source: ZooKeeperServer.getNextZxid."""

    __slots__ = ("log",)

    def __init__(self, last_zxid: int) -> None:
        super().__init__(leads=True, last_zxid=last_zxid)
        self.log: list[bytes] = []

    def next_zxid(self) -> int:
        return self.proposed_zxid + 1

    def propose(self, zxid: int, payload: bytes) -> None:
        assert zxid == self.proposed_zxid + 1, "proposals are numbered without gaps"
        self.proposed_zxid = zxid
        self.log.append(payload)

    def take_log(self) -> list[bytes]:
        """What has been proposed since the last call, for the disk."""
        log = self.log
        self.log = []
        return log

    def on_synced(self, zxid: int) -> None:
        """Everything up to `zxid` is durable, so it is committed: the quorum is this server."""
        assert self.delivered_zxid <= zxid <= self.proposed_zxid, "only what was proposed can be durable"
        self.delivered_zxid = zxid
