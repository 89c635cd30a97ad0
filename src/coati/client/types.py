"""The values a user of the client meets: znodes and their Stat, modes, ACLs, states, events, credentials.

Knows how each travels on the wire as numbers and text; must not know connections or time. Paths are text, as seen from
the view that is used (chroot taken off).
"""

from __future__ import annotations

import binascii
import datetime
import enum
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from coati.wire import codes

ANY: Final = -1
"""Any version will do (ZooDefs: -1)."""

TTL_MAX_S: Final = codes.TTL_MAX_MS / 1000


class UseSession(enum.Enum):
    """The default for a call's timeout: the session timeout that was negotiated."""

    TIMEOUT = "session timeout"


USE_SESSION: Final = UseSession.TIMEOUT


class Keep(enum.Enum):
    """A view's default for an option: as it was."""

    AS_IT_WAS = "as it was"


KEEP: Final = Keep.AS_IT_WAS

Timeout = float | None | UseSession
"""Seconds; None waits for ever; USE_SESSION is the negotiated session timeout."""


class Stat(NamedTuple):
    """What the server knows of a znode besides its data; the fields are ZooKeeper's, times in ms since 1970."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int

    @property
    def created(self) -> datetime.datetime:
        """When the znode was created, by the clock of the leader of then."""
        return datetime.datetime.fromtimestamp(self.ctime / 1000, datetime.UTC)

    @property
    def modified(self) -> datetime.datetime:
        """When its data was last set, by the clock of the leader of then."""
        return datetime.datetime.fromtimestamp(self.mtime / 1000, datetime.UTC)


class Node(NamedTuple):
    """A znode as it was read or written: `data` is empty where the server has null."""

    path: str
    data: bytes
    stat: Stat

    @property
    def name(self) -> str:
        """The last element of the path."""
        return self.path.rpartition("/")[2]

    @property
    def version(self) -> int:
        """Of the data; give it to `set` or `delete`, and a change in between is refused."""
        return self.stat.version

    @property
    def zxid(self) -> int:
        """Of the last change of the data."""
        return self.stat.mzxid


class Mode(enum.IntEnum):
    """What kind of znode to create (CreateMode). A `ttl` goes with PERSISTENT and SEQUENTIAL."""

    PERSISTENT = codes.FLAG_PERSISTENT
    EPHEMERAL = codes.FLAG_EPHEMERAL
    SEQUENTIAL = codes.FLAG_PERSISTENT_SEQUENTIAL
    EPHEMERAL_SEQUENTIAL = codes.FLAG_EPHEMERAL_SEQUENTIAL
    CONTAINER = codes.FLAG_CONTAINER

    @property
    def is_sequential(self) -> bool:
        """The server appends ten digits to the name."""
        return self in (Mode.SEQUENTIAL, Mode.EPHEMERAL_SEQUENTIAL)

    @property
    def is_ephemeral(self) -> bool:
        """It ends with its session."""
        return self in (Mode.EPHEMERAL, Mode.EPHEMERAL_SEQUENTIAL)


class Perm(enum.IntFlag):
    """What an ACL permits (ZooDefs.Perms)."""

    READ = codes.PERM_READ
    WRITE = codes.PERM_WRITE
    CREATE = codes.PERM_CREATE
    DELETE = codes.PERM_DELETE
    ADMIN = codes.PERM_ADMIN
    ALL = codes.PERM_ALL


_LETTERS: Final = {"c": Perm.CREATE, "d": Perm.DELETE, "r": Perm.READ, "w": Perm.WRITE, "a": Perm.ADMIN}


class ACL(NamedTuple):
    """One line of an ACL: `scheme` is world, auth, digest, ip, x509 or sasl."""

    perms: Perm
    scheme: str
    id: str

    def __str__(self) -> str:
        letters = "".join(letter for letter, perm in _LETTERS.items() if self.perms & perm)
        return f"{self.scheme}:{self.id}:{letters}"


ACLs = Sequence[ACL]

OPEN: Final[tuple[ACL, ...]] = (ACL(Perm.ALL, "world", "anyone"),)
READ_ONLY: Final[tuple[ACL, ...]] = (ACL(Perm.READ, "world", "anyone"),)
CREATOR: Final[tuple[ACL, ...]] = (ACL(Perm.ALL, "auth", ""),)


def acl(text: str) -> tuple[ACL, ...]:
    """`scheme:id:perms`, comma-separated, as `digest:user:hash:cdrwa,world:anyone:r`. Raises ValueError."""
    return tuple(_acl_line(part.strip()) for part in text.split(","))


def _acl_line(line: str) -> ACL:
    scheme, _, rest = line.partition(":")
    # An id may hold colons itself (digest, IPv6): the letters are what follows the last one (AclParser).
    identity, colon, letters = rest.rpartition(":")
    if not scheme or not colon or not letters or set(letters) - set(_LETTERS):
        raise ValueError(f"{line!r} is not scheme:id:perms with perms of the letters cdrwa")
    perms = Perm(0)
    for letter in letters:
        perms |= _LETTERS[letter]
    return ACL(perms, scheme, identity)


class AclInfo(NamedTuple):
    """A znode's ACL, and its Stat: `stat.aversion` is the version that `set_acl` compares."""

    acl: tuple[ACL, ...]
    stat: Stat


class ClientInfo(NamedTuple):
    """One identity the server knows this session by."""

    scheme: str
    user: str


@dataclass(frozen=True, slots=True)
class EnsembleConfig:
    """`/zookeeper/config`: the server lines by sid, and the version they became valid with (a zxid)."""

    servers: tuple[tuple[int, str], ...]
    version: int
    text: str


class State(enum.Enum):
    """Of the session as the client sees it. SUSPENDED: it had a connection and looks for another one."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    READ_ONLY = "read-only"
    SUSPENDED = "suspended"
    EXPIRED = "expired"
    AUTH_FAILED = "auth failed"
    CLOSED = "closed"


class StateChange(NamedTuple):
    """`state` now, `was` before; `server` is "host:port" or empty; `reason` in words."""

    state: State
    was: State
    server: str
    reason: str


class SessionToken(NamedTuple):
    """All that another process needs to take a session over (`resume=`): keep it as secret as a password."""

    id: int
    password: bytes
    timeout: float
    last_zxid: int


class EventType(enum.IntEnum):
    """What happened (Watcher.Event.EventType)."""

    CREATED = codes.EVENT_CREATED
    DELETED = codes.EVENT_DELETED
    CHANGED = codes.EVENT_DATA_CHANGED
    CHILDREN = codes.EVENT_CHILDREN_CHANGED
    # No change of a znode: what was watched may have changed unseen, because the connection or the buffer had a gap.
    RESYNC = codes.EVENT_NONE


class Event(NamedTuple):
    """One change. `zxid` is the txn's, -1 from a server before 3.9, of a RESYNC the last one seen before the gap."""

    type: EventType
    path: str
    zxid: int


class WatchMode(enum.Enum):
    """PERSISTENT: data and children of one path. RECURSIVE: all below too, but no CHILDREN events (AddWatchMode)."""

    PERSISTENT = codes.WATCH_MODE_PERSISTENT
    RECURSIVE = codes.WATCH_MODE_PERSISTENT_RECURSIVE


class Kind(enum.Enum):
    """What a one-shot Trigger waits for (Watcher.WatcherType)."""

    DATA = codes.WATCHER_DATA
    CHILDREN = codes.WATCHER_CHILDREN


@dataclass(frozen=True, slots=True)
class Auth:
    """Credentials of a scheme, sent on each connection. Raises nothing: the server judges them."""

    scheme: str
    credentials: bytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}(scheme={self.scheme!r})"


def Digest(user: str, password: str) -> Auth:
    """User and password of the digest scheme."""
    return Auth("digest", f"{user}:{password}".encode())


def digest_id(user: str, password: str) -> str:
    """What an ACL of the digest scheme names: user and hash (DigestAuthenticationProvider.generateDigest)."""
    secret = hashlib.sha1(f"{user}:{password}".encode(), usedforsecurity=False).digest()
    return f"{user}:{binascii.b2a_base64(secret, newline=False).decode('ascii')}"


def join_path(parent: str, name: str) -> str:
    """The path of a child."""
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def parent_path(path: str) -> str:
    """The path of the parent; `/` for a child of the root."""
    return path.rpartition("/")[0] or "/"


def parents_of(path: str) -> Iterable[str]:
    """Each ancestor below the root, from the top."""
    at = path.find("/", 1)
    while at > 0:
        yield path[:at]
        at = path.find("/", at + 1)
