"""Client: the async client's verbs, recipes and streams for threads, each of which waits.

Written by tools/gen_sync.py: do not edit.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from random import Random
from types import TracebackType
from typing import Self

from coati.client.client import SessionView as AsyncSessionView
from coati.client.core import OnExpired
from coati.client.hosts import HostProvider
from coati.client.ops import Check, Op, OpResult, Read, ReadResult
from coati.client.retry import Retry
from coati.client.tls import TLS
from coati.client.transaction import Transaction as AsyncTransaction
from coati.client.types import (
    ANY,
    KEEP,
    OPEN,
    USE_SESSION,
    AclInfo,
    ACLs,
    Auth,
    ClientInfo,
    EnsembleConfig,
    Event,
    Keep,
    Mode,
    Node,
    SessionToken,
    Stat,
    State,
    StateChange,
    Timeout,
    WatchMode,
)
from coati.client.watching import Trigger as AsyncTrigger
from coati.client.watching import Watch as AsyncWatch
from coati.recipes.client import Client as AsyncClient
from coati.recipes.held import Held as AsyncHeld
from coati.sync.bridge import Bridge, Holding, Mirror, Opened, PolledMirror, Steps, asking, original


class Trigger(Mirror[AsyncTrigger]):
    """Waits for one change: give it to `get`, `exists` or `children` as `watch=`, then `trigger.wait()`.

    A lost connection does not fire it: the next server is asked what happened meanwhile. The end of the session, if no
    new one follows, fires it with a RESYNC. A trigger belongs to one request at a time; then it can be given again.
    """

    def __init__(self) -> None:
        super().__init__(AsyncTrigger(), Bridge())

    @property
    def event(self) -> Event | None:
        """What has happened, or None so far."""
        return self._it.event

    @property
    def has_fired(self) -> bool:
        """The change has happened."""
        return self._it.has_fired

    def wait(self, timeout: float | None = None) -> Event:
        """The event; raises TimeoutError after so many seconds. Can be asked again."""
        return self._on.call(self._it.wait(timeout))

    def close(self) -> None:
        """Waits no more; the server is told if nobody else waits for it."""
        self._on.do(lambda: self._it.close())

    def __enter__(self) -> Self:
        self._on.call(self._it.__aenter__(), lambda: self._it.__aexit__(None, None, None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.call(self._it.__aexit__(kind, error, trace))


class Watch(PolledMirror[AsyncWatch, Event]):
    """Events of a path, and of all below it if it is recursive: `with client.watch(path) as events`, `for`.

    It is armed when the block is entered. A RESYNC event stands where some may be missing: after each reconnect, since
    servers do not report what happened meanwhile, and where more than `buffer` events waited unread (the oldest are
    dropped). Read again what you depend on, then go on. The end of the session ends it, after a RESYNC.
    """

    async def _advance(self) -> Event:
        return await self._it.__anext__()

    def close(self) -> None:
        """No more events; the server is told if nobody else waits for them. Whoever iterates comes to the end."""
        self._on.do(lambda: self._it.close())

    def __enter__(self) -> Self:
        self._on.call(self._it.__aenter__(), lambda: self._it.__aexit__(None, None, None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.call(self._it.__aexit__(kind, error, trace))


class Transaction(Mirror[AsyncTransaction]):
    """`with client.transaction() as t: t.create(...); t.set(...)`. The end of the block sends it, once.

    `results` then has one entry for each operation. A block that raises sends nothing. Raises MultiError.
    """

    @property
    def ops(self) -> list[Op]:
        """What has been gathered."""
        return self._it.ops

    @property
    def results(self) -> list[OpResult] | None:
        """One for each operation, once the block has ended."""
        return self._it.results

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        mode: Mode = Mode.PERSISTENT,
        ttl: float | None = None,
        acl: ACLs | None = None,
    ) -> None:
        """Its result is a Node."""
        self._it.create(path, data, mode=mode, ttl=ttl, acl=acl)

    def set(self, path: str, data: bytes, *, version: int = ANY) -> None:
        """Its result is a Stat."""
        self._it.set(path, data, version=version)

    def delete(self, path: str, *, version: int = ANY) -> None:
        """Its result is None."""
        self._it.delete(path, version=version)

    def check(self, path: str, *, version: int = ANY) -> None:
        """Nothing happens unless the znode is there and has this version."""
        self._it.check(path, version=version)

    def add(self, op: Op) -> None:
        """An operation made elsewhere, as the guard of a lock."""
        self._it.add(op)

    def __enter__(self) -> Self:
        self._on.call(self._it.__aenter__(), lambda: self._it.__aexit__(None, None, None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on.call(self._it.__aexit__(kind, error, trace))


class SessionView(Mirror[AsyncSessionView]):
    """What the client knows of its session."""

    @property
    def id(self) -> int:
        """As the server knows it; 0 before the first connection."""
        return self._it.id

    @property
    def timeout(self) -> float:
        """Seconds, as negotiated; before that, as asked for."""
        return self._it.timeout

    @property
    def state(self) -> State:
        """Now; `Client.states` tells the changes."""
        return self._it.state

    @property
    def server(self) -> str:
        """ "host:port" of the current or last server, or empty."""
        return self._it.server

    @property
    def read_only(self) -> bool:
        """The server has no quorum and takes no writes."""
        return self._it.read_only

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock in seconds, no server can have expired the session; 0 if nobody knows."""
        return self._it.deadline

    @property
    def last_zxid(self) -> int:
        """The newest transaction that the client has heard of."""
        return self._it.last_zxid

    @property
    def token(self) -> SessionToken:
        """What `resume=` of another client takes, once this one is gone without closing."""
        return self._on.do(lambda: self._it.token)


class Held(Holding[AsyncHeld]):
    """What is held. `path` is the znode that stands for it, `token` its czxid: later holders have larger ones."""

    @property
    def path(self) -> str:
        """The znode that stands for it."""
        return self._it.path

    @property
    def token(self) -> int:
        """Its czxid: later holders have larger ones."""
        return self._it.token

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock, it is certainly ours; later as the server goes on answering. 0 once lost."""
        return self._on.do(lambda: self._it.deadline)

    @property
    def is_held(self) -> bool:
        """It is certainly ours now."""
        return self._on.do(lambda: self._it.is_held)

    def check(self) -> None:
        """Raises LockLost (LeadershipLost of an office) unless it is certainly ours."""
        self._on.do(lambda: self._it.check())

    def guard(self) -> Check:
        """For `multi`: the server itself refuses the transaction, with NoNode, if this is not held any more."""
        return self._it.guard()


class Client(Opened[AsyncClient]):
    """A ZooKeeper session for threads, any number of them: `with coati.sync.Client("h1,h2/app") as zk:`.

    All arguments are those of coati.Client, and so are the verbs: each waits. Interrupted, by KeyboardInterrupt say, it
    is cancelled first. Functions that are given to the client run on the thread that calls, but for `on_loss`.
    """

    def __init__(
        self,
        hosts: str | Sequence[str] | HostProvider = "127.0.0.1:2181",
        *,
        session_timeout: float = 10.0,
        timeout: Timeout = USE_SESSION,
        retry: Retry = Retry.DEFAULT,
        auth: Sequence[Auth] = (),
        tls: TLS | ssl.SSLContext | None = None,
        read_only: bool = False,
        resume: SessionToken | None = None,
        on_expired: OnExpired = "renew",
        default_acl: ACLs = OPEN,
        max_inflight: int = 1024,
        max_frame: int = 1048575,
        name: str | None = None,
        entropy: Random | None = None,
    ) -> None:
        it = AsyncClient(
            hosts,
            session_timeout=session_timeout,
            timeout=timeout,
            retry=retry,
            auth=auth,
            tls=tls,
            read_only=read_only,
            resume=resume,
            on_expired=on_expired,
            default_acl=default_acl,
            max_inflight=max_inflight,
            max_frame=max_frame,
            name=name,
            entropy=entropy,
        )
        super().__init__(it, Bridge(it))

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._it.name

    @property
    def session(self) -> SessionView:
        """What the client knows of its session."""
        return SessionView(self._it.session, self._on)

    def states(self) -> Steps[StateChange]:
        """The state now, then each change; ends with the client."""
        return Steps(self._it.states(), self._on)

    @property
    def is_closed(self) -> bool:
        """It takes no more calls: closed, refused, or expired for good."""
        return self._it.is_closed

    def wait_for(self, *states: State, timeout: float | None = None) -> State:
        """Until the session is in one of these states; raises TimeoutError after so many seconds."""
        return self._on.call(self._it.wait_for(*states, timeout=timeout))

    def authenticate(self, auth: Auth) -> None:
        """Adds an identity, also for later connections. Raises AuthFailed, which ends the client, as servers do."""
        self._on.call(self._it.authenticate(auth))

    def set_hosts(self, hosts: str | Sequence[str]) -> None:
        """The servers are these now. The client moves if that keeps the load of the servers even."""
        self._on.do(lambda: self._it.set_hosts(hosts))

    def chroot(self, prefix: str) -> Self:
        """A view in which `prefix` is the root; the same session. The znode is not created."""
        return self._view(self._it.chroot(prefix))

    def with_options(
        self, *, timeout: Timeout | Keep = KEEP, retry: Retry | None = None, default_acl: ACLs | None = None
    ) -> Self:
        """A view with other defaults; the same session."""
        return self._view(self._it.with_options(timeout=timeout, retry=retry, default_acl=default_acl))

    def get(self, path: str, *, watch: Trigger | None = None) -> Node:
        """A znode. `watch` fires when its data changes or it goes. Raises NoNode, NoAuth."""
        return self._on.ask(self._it.get(path, watch=None if watch is None else original(watch)))

    def exists(self, path: str, *, watch: Trigger | None = None) -> Stat | None:
        """Its Stat, or None. `watch` fires when it is created, changes or goes. Raises NoAuth."""
        return self._on.ask(self._it.exists(path, watch=None if watch is None else original(watch)))

    def children(self, path: str, *, watch: Trigger | None = None) -> list[str]:
        """The names of its children, sorted. `watch` fires when one comes or goes, or the znode goes. Raises NoNode."""
        return self._on.ask(self._it.children(path, watch=None if watch is None else original(watch)))

    def get_acl(self, path: str) -> AclInfo:
        """Its ACL; without ADMIN, hashes of passwords are hidden. Raises NoNode, NoAuth."""
        return self._on.ask(self._it.get_acl(path))

    def sync(self, path: str = "/") -> int:
        """The server has caught up with the leader: later reads see all writes done before. The zxid of now."""
        return self._on.ask(self._it.sync(path))

    def count(self, path: str) -> int:
        """How many znodes are below it. Raises NoNode."""
        return self._on.ask(self._it.count(path))

    def ephemerals(self, prefix: str = "/") -> list[str]:
        """The paths of this session's ephemerals that begin with `prefix`, sorted."""
        return self._on.call(self._it.ephemerals(prefix))

    def whoami(self) -> list[ClientInfo]:
        """The identities the server knows this connection by."""
        return self._on.call(self._it.whoami())

    def config(self) -> EnsembleConfig:
        """The ensemble's servers, as `/zookeeper/config` tells them."""
        return self._on.call(self._it.config())

    def chroot_free(self) -> Self:
        """A view of the whole tree."""
        return self._view(self._it.chroot_free())

    def walk(self, path: str = "/", *, concurrency: int = 64) -> Steps[Node]:
        """The znode and all below it, parents first, so many requests at a time. What goes meanwhile is left out."""
        return Steps(self._it.walk(path, concurrency=concurrency), self._on)

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        mode: Mode = Mode.PERSISTENT,
        ttl: float | None = None,
        acl: ACLs | None = None,
        parents: bool = False,
    ) -> Node:
        """Makes a znode; `ttl` in seconds. The Node has the real path: a sequential one has ten digits more.

        Raises NodeExists, NoNode (no parent, unless `parents`), NoChildrenForEphemerals, InvalidACL, NoAuth; and
        ConnectionLoss with `maybe_applied` where it cannot be found out whether it was made.
        """
        return self._on.ask(self._it.create(path, data, mode=mode, ttl=ttl, acl=acl, parents=parents))

    def ensure(self, path: str, data: bytes = b"", *, acl: ACLs | None = None) -> bool:
        """Makes a persistent znode, and its parents, unless it is there; whether it was made."""
        return self._on.call(self._it.ensure(path, data, acl=acl))

    def set(self, path: str, data: bytes, *, version: int = ANY) -> Stat:
        """Sets the data. Raises NoNode, BadVersion, NoAuth."""
        return self._on.ask(self._it.set(path, data, version=version))

    def put(self, path: str, data: bytes, *, parents: bool = True) -> Stat:
        """Sets the data of a znode, and makes it if it is not there."""
        return self._on.call(self._it.put(path, data, parents=parents))

    def update(self, path: str, fn: Callable[[bytes], bytes]) -> Node:
        """Replaces the data by `fn` of it, and again if somebody else was faster. Raises NoNode, NoAuth."""
        return asking(self._on, fn, lambda asked: self._it.update(path, asked))

    def delete(self, path: str, *, version: int = ANY, missing_ok: bool = False) -> None:
        """Deletes a znode without children. Raises NoNode (unless `missing_ok`), NotEmpty, BadVersion, NoAuth."""
        self._on.ask(self._it.delete(path, version=version, missing_ok=missing_ok))

    def delete_tree(self, path: str, *, keep_root: bool = False, batch: int = 200) -> int:
        """Deletes a znode and all below it, so many in one multi; how many there were. None is no error."""
        return self._on.call(self._it.delete_tree(path, keep_root=keep_root, batch=batch))

    def set_acl(self, path: str, acl: ACLs, *, version: int = ANY) -> Stat:
        """Sets the ACL; `version` is `stat.aversion`. Raises NoNode, BadVersion, InvalidACL, NoAuth."""
        return self._on.ask(self._it.set_acl(path, acl, version=version))

    def multi(self, ops: Iterable[Op]) -> list[OpResult]:
        """All of them or none, in one transaction. Raises MultiError, whose `index` and `results` tell what failed."""
        return self._on.ask(self._it.multi(list(ops)))

    def transaction(self) -> Transaction:
        """`with client.transaction() as t:` gathers operations; the end of the block sends them as one multi."""
        return Transaction(self._it.transaction(), self._on)

    def multi_read(self, ops: Iterable[Read]) -> list[ReadResult]:
        """Several reads in one request, of one state of the tree; an error takes the place of what failed."""
        return self._on.ask(self._it.multi_read(list(ops)))

    def reconfig(
        self,
        *,
        join: Sequence[str] = (),
        leave: Sequence[int | str] = (),
        members: Sequence[str] | None = None,
        from_version: int = -1,
    ) -> EnsembleConfig:
        """Changes the ensemble: server lines to `join`, sids to `leave`, or all `members`, if `from_version` is now's.

        Raises ReconfigDisabled, ReconfigInProgress, NewConfigNoQuorum, BadVersion, BadArguments, NoAuth.
        """
        return self._on.call(self._it.reconfig(join=join, leave=leave, members=members, from_version=from_version))

    def watch(
        self, path: str, *, recursive: bool = False, mode: WatchMode = WatchMode.PERSISTENT, buffer: int = 1024
    ) -> Watch:
        """Events of a path, or with `recursive` of all below it too; see Watch. Needs a server of 3.6 or newer."""
        return Watch(self._it.watch(path, recursive=recursive, mode=mode, buffer=buffer), self._on)
