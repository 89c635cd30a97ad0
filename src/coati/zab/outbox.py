"""The outbox: what the machines of a server want done, for the driver to do.

Knows nothing but lists; a machine appends, the driver takes. What promises durability is never here before it is
durable: machines wait for `on_synced` and `on_epochs` themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coati.wire.quorum import Notification
from coati.wire.records import Id

NOTHING: Final = -1


class RemoteRequest:
    """A REQUEST of a learner: one write of a client of its. `auth` are the client's identities, as the learner says."""

    __slots__ = ("auth", "body", "cxid", "link", "op", "session_id")

    def __init__(self, link: int, session_id: int, cxid: int, op: int, body: bytes, auth: list[Id]) -> None:
        self.link = link
        self.session_id = session_id
        self.cxid = cxid
        self.op = op
        self.body = body
        self.auth = auth


class Outbox:
    """Links between servers are numbers that the shell gives; servers are sids.

    For the network: `votes` by receiver, of which only the newest counts; `sends` in order by link; `closes` of links;
    `dials` of servers whose quorum port is to be connected to; `reconnect`: no vote can be delivered to anybody.
    For the disk: `log` (zxid, payload) in order, then the epochs, or `truncate_to`.
    For the replica: `deliveries` (zxid, payload), committed and durable here; `requests`; `revalidations` (link,
    session, timeout in ms); `touched` (link, sessions and timeouts); `synced` tokens; `revalidated` (session, whether
    it lives).
    `snapshots`: links on which the tree is to be sent.
    For the log: `refusals` (link, sid or -1, why) of learners whose links are closed.
    For whoever checks a leader: `witness` hears of what is committed, and by voter up to where acks were counted.
    """

    __slots__ = (
        "accepted_epoch",
        "closes",
        "current_epoch",
        "deliveries",
        "dials",
        "log",
        "reconnect",
        "refusals",
        "requests",
        "revalidated",
        "revalidations",
        "sends",
        "snapshots",
        "synced",
        "touched",
        "truncate_to",
        "votes",
        "witness",
    )

    def __init__(self) -> None:
        self.witness: Callable[[list[tuple[int, bytes]], dict[int, int]], None] | None = None
        self.votes: list[tuple[int, Notification]] = []
        self.sends: list[tuple[int, bytes]] = []
        self.closes: list[int] = []
        self.dials: list[int] = []
        self.refusals: list[tuple[int, int, str]] = []
        self.reconnect = False
        self.log: list[tuple[int, bytes]] = []
        self.accepted_epoch = NOTHING
        self.current_epoch = NOTHING
        self.truncate_to = NOTHING
        self.deliveries: list[tuple[int, bytes]] = []
        self.requests: list[RemoteRequest] = []
        self.revalidations: list[tuple[int, int, int]] = []
        self.touched: list[tuple[int, list[tuple[int, int]]]] = []
        self.snapshots: list[int] = []
        self.synced: list[object] = []
        self.revalidated: list[tuple[int, bool]] = []
