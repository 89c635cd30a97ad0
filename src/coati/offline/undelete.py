"""What would bring back a znode that was there once: creates, in words and for a client.

Knows the tree as it was; must not know clients. Ephemerals are left out: what they stood for is gone.
"""

from __future__ import annotations

import base64
import shlex
from typing import Final, NamedTuple

from coati.core.znode import Znode
from coati.offline import views
from coati.offline.past import Past
from coati.offline.txns import owner_text

# Between the entries of an ACL in text; an id that has one itself can only be given to a client.
_SEPARATOR: Final = ","
# What a line of `coati txn` takes for something else than data: a file, a flag.
_TAKEN: Final = ("@", "-")


class Revival(NamedTuple):
    """One znode to create. `kind` is persistent, container or ttl (`ttl` in seconds); an open ACL is None."""

    path: str
    data: bytes
    kind: str
    ttl: float | None
    acl: tuple[tuple[int, str, str], ...] | None

    def line(self) -> str:
        """In the grammar of `coati txn`."""
        words = ["create"]
        if self.kind == "container":
            words.append("-c")
        if self.ttl is not None:
            words += ["--ttl", f"{self.ttl:g}"]
        if self.acl is not None and not self.is_beyond_words:
            words += ["--acl", _SEPARATOR.join(views.acl_texts(self.acl))]
        text = _plain_text(self.data)
        if text is None:
            words.append("--b64")
            text = base64.b64encode(self.data).decode()
        return shlex.join([*words, self.path, text])

    @property
    def is_beyond_words(self) -> bool:
        """Its ACL cannot be written on a line."""
        return any(_SEPARATOR in id for _, _, id in self.acl or ())


def _plain_text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and not text.startswith(_TAKEN) else None


class Plan(NamedTuple):
    """All znodes, parents first, and the paths of those that nobody but their session could make."""

    revivals: list[Revival]
    ephemerals: list[str]


def plan(past: Past, path: bytes, *, recursive: bool) -> Plan:
    """What brings back a znode, or a subtree. Raises NoNode when it was not there."""
    found = Plan([], [])
    for visit in views.walk(past.tree, path, None if recursive else 0):
        kind, _ = owner_text(visit.node.owner)
        text = visit.path.decode("utf-8", "surrogateescape")
        if kind == "ephemeral":
            found.ephemerals.append(text)
        else:
            found.revivals.append(_revival(text, kind, visit.node))
    return found


def _revival(path: str, kind: str, node: Znode) -> Revival:
    acl = None
    if not node.acl.is_open:
        acl = tuple((one.perms, one.id.scheme, one.id.id) for one in node.acl.entries)
    return Revival(path, views.data_of(node), kind, views.ttl_seconds(node) if kind == "ttl" else None, acl)
