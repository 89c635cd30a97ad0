"""BaseClient: the verbs of ZooKeeper as coroutines. `coati.Client` adds the recipes to it.

Knows verbs, views and chroots; must not know sockets or timers. Each verb may be cancelled at any await: its reply,
when it comes, is dropped. Each has a timeout.
"""

from __future__ import annotations

import asyncio
import copy
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing, suppress
from random import Random
from struct import Struct
from types import TracebackType
from typing import Final, Self, TypeVar

from coati.client import levels, trees, watchtable
from coati.client.cache import TreeCache
from coati.client.codecs import Codec
from coati.client.core import Core, OnExpired, Options, Until
from coati.client.hosts import HostProvider
from coati.client.ops import (
    Create,
    Op,
    OpResult,
    Read,
    ReadResult,
    acl_bytes,
    create_body,
    create_op,
    multi_body,
    multi_read_body,
    multi_read_results,
    multi_results,
    read_acl,
    read_names,
    read_stat,
    reconfig_body,
    stat_at,
)
from coati.client.quota import QuotaView
from coati.client.retry import Retry
from coati.client.session import REPLY_HEADER_BYTES, Call, SessionConfig
from coati.client.streams import Stream
from coati.client.tls import TLS
from coati.client.transaction import Transaction
from coati.client.typed import TypedClient
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
from coati.client.watching import Trigger, Watch
from coati.errors import BadVersion, ConnectionLoss, MarshallingError, NoAuth, NodeExists, NoNode, NotEmpty
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.paths import validate_path
from coati.wire.records import WhoAmIResponse

T = TypeVar("T")

_INT: Final = Struct(">i")
_pack_int: Final = _INT.pack
_unpack_int: Final = _INT.unpack_from
_BODY: Final = REPLY_HEADER_BYTES
CONFIG_PATH: Final = "/zookeeper/config"


class SessionView:
    """What the client knows of its session."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def id(self) -> int:
        """As the server knows it; 0 before the first connection."""
        return self._core.machine.session_id

    @property
    def timeout(self) -> float:
        """Seconds, as negotiated; before that, as asked for."""
        return self._core.machine.timeout_ms / 1000

    @property
    def state(self) -> State:
        """Now; `Client.states` tells the changes."""
        return self._core.machine.state

    @property
    def server(self) -> str:
        """ "host:port" of the current or last server, or empty."""
        return str(self._core.machine.host or "")

    @property
    def read_only(self) -> bool:
        """The server has no quorum and takes no writes."""
        return self.state is State.READ_ONLY

    @property
    def deadline(self) -> float:
        """Until then, on the loop's clock in seconds, this server cannot have given it up; 0 if nobody knows."""
        return self._core.machine.alive_until_ms / 1000

    @property
    def vouched_until(self) -> float:
        """Until then, on the loop's clock in seconds, the leader cannot have expired it; 0 if nobody knows.

        The server we talk to may have lost its leader. Writes, syncs and new connections move it on, and it moves on by
        itself while `vouch` is asked for.
        """
        return self._core.machine.vouch.until_ms / 1000

    def vouch(self) -> Callable[[], None]:
        """For recipes: the leader is asked now and then, so that `vouched_until` moves on; returns what stops that."""
        self._core.pump.vouch(1)

        def stop() -> None:
            self._core.pump.vouch(-1)

        return stop

    @property
    def last_zxid(self) -> int:
        """The newest transaction that the client has heard of."""
        return self._core.machine.last_zxid

    @property
    def token(self) -> SessionToken:
        """What `resume=` of another client takes, once this one is gone without closing."""
        machine = self._core.machine
        return SessionToken(machine.session_id, machine.password, machine.timeout_ms / 1000, machine.last_zxid)

    def on_end(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """For recipes: calls back once each time that a session is over, with the reason; returns what stops that."""
        mourners = self._core.pump.mourners
        mourners[callback] = None

        def stop() -> None:
            mourners.pop(callback, None)

        return stop


class BaseClient:
    """A ZooKeeper session: `async with` opens it, and what belongs to it ends with the block.

    `hosts`: "h1,h2:2182/chroot", "dns-srv://name/chroot", a list of "host:port", or a HostProvider. Times in seconds.
    `timeout` bounds each call, with reconnects and repeats: USE_SESSION is the negotiated session timeout, None must be
    asked for. `resume` takes a session over. `on_expired`: "renew" goes on with a new session, "raise" ends the client.
    `entropy` is where the order of hosts and all jitter come from.
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
        max_frame: int = codes.MAX_BUFFER_BYTES,
        name: str | None = None,
        entropy: Random | None = None,
    ) -> None:
        config = SessionConfig(
            timeout_ms=int(session_timeout * 1000),
            renews=on_expired == "renew",
            read_only=read_only,
            max_inflight=max_inflight,
            retry=retry,
            max_frame=max_frame,
        )
        self._core = Core(hosts, config=config, auth=auth, tls=tls, resume=resume, entropy=entropy)
        self._options = Options(timeout, retry)
        self._default_acl = default_acl
        self.name = name or "coati"
        self.session = SessionView(self._core)
        self._chroot = ""
        self._root = b""
        if self._core.chroot:
            self._set_chroot(self._core.chroot)

    def __repr__(self) -> str:
        session = self.session
        where = f"{session.server}{self._chroot}"
        return f"<{type(self).__name__} {self.name} {session.state.value} {where} {session.id:#x}>"

    # --- life -------------------------------------------------------------------------------------

    async def start(self, *, timeout: Timeout = USE_SESSION) -> Self:
        """Connects. Raises OperationTimeout if no server takes the session in time, AuthFailed, SessionExpired."""
        core = self._core
        core.pump.start()
        try:
            # A server answers anything only after the session is there; this is answered by every version.
            await self.with_options(timeout=timeout).exists("/")
        except NoAuth:
            pass
        except BaseException:
            await core.pump.close()
            raise
        return self

    async def aclose(self) -> None:
        """Ends the session: its ephemerals go, watches end, waiting calls fail with ClientClosed. Can be repeated."""
        await self._core.pump.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """For recipes: a task that is cancelled, at the latest, when the client is closed."""
        return self._core.pump.spawn(work)

    def unique(self) -> str:
        """For recipes: 32 hexadecimal digits that nobody else has."""
        return f"{self._core.dice.getrandbits(128):032x}"

    def states(self) -> AsyncIterator[StateChange]:
        """The state now, then each change; ends with the client."""
        return self._core.pump.changes()

    @property
    def entropy(self) -> Random:
        """For recipes: the dice of this client, for pauses and for names that nobody else gives."""
        return self._core.dice

    @property
    def is_closed(self) -> bool:
        """It takes no more calls: closed, refused, or expired for good."""
        return self._core.pump.is_over

    async def wait_for(self, *states: State, timeout: float | None = None) -> State:
        """Until the session is in one of these states; raises TimeoutError after so many seconds."""
        async with asyncio.timeout(timeout):
            return await self._core.pump.reach(*states)

    async def authenticate(self, auth: Auth) -> None:
        """Adds an identity, also for later connections. Raises AuthFailed, which ends the client, as servers do."""
        core = self._core
        core.pump.loop()
        core.machine.authenticate(auth.scheme, auth.credentials, core.pump.now_ms())
        # Requests are answered in order: after this answer, whatever it is, the server has judged.
        with suppress(NoAuth):
            await self.exists("/")

    def set_hosts(self, hosts: str | Sequence[str]) -> None:
        """The servers are these now. The client moves if that keeps the load of the servers even."""
        self._core.set_hosts(hosts)

    # --- views ------------------------------------------------------------------------------------

    def chroot(self, prefix: str) -> Self:
        """A view in which `prefix` is the root; the same session. The znode is not created."""
        validate_path(prefix.encode())
        view = copy.copy(self)
        view._set_chroot((self._chroot + prefix).rstrip("/") or "/")
        return view

    def typed(self, codec: Codec[T]) -> TypedClient[T]:
        """A view whose data are values of a type: `coati.TEXT`, `coati.json_codec()` or any other codec says how."""
        return TypedClient(self, codec, streams=self.with_options(timeout=USE_SESSION))

    @property
    def quota(self) -> QuotaView:
        """The quotas of subtrees."""
        return QuotaView(self.chroot_free(), self._chroot)

    def with_options(
        self,
        *,
        timeout: Timeout | Keep = KEEP,
        retry: Retry | None = None,
        default_acl: ACLs | None = None,
    ) -> Self:
        """A view with other defaults; the same session."""
        view = copy.copy(self)
        kept = self._options
        kept_timeout = kept.timeout if isinstance(timeout, Keep) else timeout
        view._options = Options(kept_timeout, retry or kept.retry, kept.joins)
        if default_acl is not None:
            view._default_acl = default_acl
        return view

    def joining(self) -> Self:
        """For recipes: see `joined`."""
        view = copy.copy(self)
        view._options = Options(self._options.timeout, self._options.retry, joins=True)
        return view

    def bounded(self, verb: str, path: str) -> Self:
        """For verbs made of several requests: a view whose requests share the time that one has which begins now."""
        return self._until(self._core.deadline_ms(self._options.timeout), verb, path)

    def _until(self, deadline_ms: int, verb: str, path: str) -> Self:
        kept = self._options
        if isinstance(kept.timeout, Until):
            return self
        view = copy.copy(self)
        view._options = Options(Until(deadline_ms, verb, path), kept.retry, kept.joins)
        return view

    def _set_chroot(self, prefix: str) -> None:
        root = prefix.encode()
        validate_path(root)
        self._chroot, self._root = ("", b"") if prefix == "/" else (prefix, root)

    def _absolute(self, path: str) -> bytes:
        where = path.encode("utf-8", "surrogateescape")
        validate_path(where)
        if self._root:
            return self._root + where if where != b"/" else self._root
        return where

    def _shown(self, path: bytes) -> str:
        root = self._root
        if root and (path == root or path.startswith(root + b"/")):
            # What is not below the chroot is shown as it is: /zookeeper/config, say.
            path = path[len(root) :] or b"/"
        return path.decode("utf-8", "replace")

    # --- reads ------------------------------------------------------------------------------------

    async def get(self, path: str, *, watch: Trigger | None = None) -> Node:
        """A znode. `watch` fires when its data changes or it goes. Raises NoNode, NoAuth."""
        where = self._absolute(path)
        call = self._read(codes.OP_GET_DATA, _watched(where, watch))
        self._arm(call, where, watch, watchtable.DATA)
        payload = (await self._ask(call, "get", path)).payload
        if len(payload) < _BODY + 4:
            raise MarshallingError("data are cut short")
        size: int = _unpack_int(payload, _BODY)[0]
        end = _BODY + 4 + max(size, 0)
        return Node(path, payload[_BODY + 4 : end], stat_at(payload, end))

    async def exists(self, path: str, *, watch: Trigger | None = None) -> Stat | None:
        """Its Stat, or None. `watch` fires when it is created, changes or goes. Raises NoAuth."""
        where = self._absolute(path)
        call = self._read(codes.OP_EXISTS, _watched(where, watch))
        self._arm(call, where, watch, watchtable.DATA, watchtable.EXIST)
        try:
            call = await self._ask(call, "exists", path)
        except NoNode:
            return None
        return None if call.err else stat_at(call.payload, _BODY)

    async def children(self, path: str, *, watch: Trigger | None = None) -> list[str]:
        """The names of its children, sorted. `watch` fires when one comes or goes, or the znode goes. Raises NoNode."""
        where = self._absolute(path)
        call = self._read(codes.OP_GET_CHILDREN, _watched(where, watch))
        self._arm(call, where, watch, watchtable.CHILD)
        call = await self._ask(call, "children", path)
        return read_names(Reader(call.payload, _BODY))

    async def get_acl(self, path: str) -> AclInfo:
        """Its ACL; without ADMIN, hashes of passwords are hidden. Raises NoNode, NoAuth."""
        call = await self._ask(self._read(codes.OP_GET_ACL, _sized(self._absolute(path))), "get_acl", path)
        r = Reader(call.payload, _BODY)
        acl = read_acl(r)
        return AclInfo(acl, read_stat(r))

    async def sync(self, path: str = "/") -> int:
        """The server has caught up with the leader: later reads see all writes done before. The zxid of now."""
        call = await self._ask(self._read(codes.OP_SYNC, _sized(self._absolute(path))), "sync", path)
        return call.zxid

    async def count(self, path: str) -> int:
        """How many znodes are below it. Raises NoNode."""
        op = codes.OP_GET_ALL_CHILDREN_NUMBER
        call = await self._ask(self._read(op, _sized(self._absolute(path))), "count", path)
        return Reader(call.payload, _BODY).int32()

    async def ephemerals(self, prefix: str = "/") -> list[str]:
        """The paths of this session's ephemerals that begin with `prefix`, sorted."""
        op = codes.OP_GET_EPHEMERALS
        call = await self._ask(self._read(op, _sized(self._absolute(prefix))), "ephemerals", prefix)
        r = Reader(call.payload, _BODY)
        return sorted(self._shown(r.path()) for _ in range(max(r.count(), 0)))

    async def whoami(self) -> list[ClientInfo]:
        """The identities the server knows this connection by."""
        call = await self._ask(self._read(codes.OP_WHO_AM_I, b""), "whoami", "")
        infos = WhoAmIResponse.read(Reader(call.payload, _BODY)).client_info or []
        return [ClientInfo(info.auth_scheme or "", info.user or "") for info in infos]

    async def config(self) -> EnsembleConfig:
        """The ensemble's servers, as `/zookeeper/config` tells them."""
        node = await self.chroot_free().get(CONFIG_PATH)
        return parse_config(node.data)

    def chroot_free(self) -> Self:
        """A view of the whole tree."""
        view = copy.copy(self)
        view._set_chroot("/")
        return view

    async def walk(self, path: str = "/", *, concurrency: int = 64) -> AsyncIterator[Node]:
        """The znode and all below it, parents first, so many requests at a time. What goes meanwhile is left out."""
        async with aclosing(trees.walk(self, path, concurrency=concurrency)) as nodes:
            async for node in nodes:
                yield node

    # --- writes -----------------------------------------------------------------------------------

    async def create(
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
        op = Create(path, data, mode, ttl, acl)
        body = create_body(self._absolute_new(path, mode), op, self._default_acl)
        before = self._core.machine.last_zxid
        call = self._write(create_op(op), body)
        try:
            return await self._create(op, call)
        except NoNode:
            if not parents:
                raise
        except ConnectionLoss as loss:
            if mode is not Mode.EPHEMERAL or not loss.maybe_applied:
                raise
            view = self._until(call.deadline_ms, "create", path)
            made = await trees.find_own(
                view,
                path,
                is_own=lambda stat: stat.ephemeral_owner == self.session.id and stat.czxid > before,
                make=lambda: view._create(op, view._write(create_op(op), body)),
            )
            if made is None:
                raise self._core.explained(NodeExists(path), "create", path) from None
            return made._replace(data=data)
        view = self._until(call.deadline_ms, "create", path)
        await trees.make_parents(view.chroot_free(), self._chroot + (path + "0" if mode.is_sequential else path), acl)
        return await view.create(path, data, mode=mode, ttl=ttl, acl=acl)

    async def _create(self, op: Create, call: Call) -> Node:
        r = Reader((await self._ask(call, "create", op.path)).payload, _BODY)
        made = self._shown(r.path())
        return Node(made, op.data, read_stat(r))

    async def ensure(self, path: str, data: bytes = b"", *, acl: ACLs | None = None) -> bool:
        """Makes a persistent znode, and its parents, unless it is there; whether it was made."""
        body = create_body(self._absolute(path), Create(path, data, acl=acl), self._default_acl)
        call = self._write(codes.OP_CREATE2, body)
        for _ in range(trees.ROUNDS):
            try:
                await self._ask(call, "ensure", path, repeats=True)
            except NodeExists:
                return False
            except NoNode:
                view = self._until(call.deadline_ms, "ensure", path)
                await trees.make_parents(view.chroot_free(), self._chroot + path, acl)
                call = view._write(codes.OP_CREATE2, body)
            else:
                return True
        raise self._core.explained(NoNode(path), "ensure", path)

    async def set(self, path: str, data: bytes, *, version: int = ANY) -> Stat:
        """Sets the data. Raises NoNode, BadVersion, NoAuth.

        With a version it is repeated after a lost connection; BadVersion then has `maybe_applied` if it may be our own
        doing that the version is another one.
        """
        body = _sized(self._absolute(path)) + _sized(data) + _pack_int(version)
        call = self._write(codes.OP_SET_DATA, body)
        try:
            return stat_at((await self._ask(call, "set", path, repeats=version != ANY)).payload, _BODY)
        except BadVersion as error:
            if error.maybe_applied:
                view = self._until(call.deadline_ms, "set", path)
                error.maybe_applied = await trees.may_be_ours(view, path, data, version)
            raise

    async def put(self, path: str, data: bytes, *, parents: bool = True) -> Stat:
        """Sets the data of a znode, and makes it if it is not there."""
        stat = await trees.put(self.bounded("put", path), path, data, parents=parents)
        if stat is None:
            raise self._core.explained(NodeExists(path), "put", path)
        return stat

    async def update(self, path: str, fn: Callable[[bytes], bytes]) -> Node:
        """Replaces the data by `fn` of it, and again if somebody else was faster. Raises NoNode, NoAuth."""
        return await trees.update(self.bounded("update", path), path, fn)

    async def delete(self, path: str, *, version: int = ANY, missing_ok: bool = False) -> None:
        """Deletes a znode without children. Raises NoNode (unless `missing_ok`), NotEmpty, BadVersion, NoAuth.

        With a version it is repeated after a lost connection; NoNode then has `maybe_applied`: we may have deleted it.
        """
        body = _sized(self._absolute(path)) + _pack_int(version)
        repeats = version != ANY or missing_ok
        try:
            await self._ask(self._write(codes.OP_DELETE, body), "delete", path, repeats=repeats)
        except NoNode:
            # Sent twice, it may be our own doing, or somebody else's: whoever asks not, says `missing_ok`.
            if not missing_ok:
                raise

    async def delete_tree(self, path: str, *, keep_root: bool = False, batch: int = 200) -> int:
        """Deletes a znode and all below it but what is the servers' own; how many there were. None is no error.

        A tree may need a longer `timeout` than other calls. OperationTimeout has `maybe_applied` if some of it is gone.
        """
        is_all = path == "/" and not self._chroot
        view = self.bounded("delete_tree", path)
        deleted = await trees.delete_tree(view, path, keep_root=keep_root, batch=batch, is_all=is_all)
        if deleted is None:
            raise self._core.explained(NotEmpty(path), "delete_tree", path)
        return deleted

    async def set_acl(self, path: str, acl: ACLs, *, version: int = ANY) -> Stat:
        """Sets the ACL; `version` is `stat.aversion`. Raises NoNode, BadVersion, InvalidACL, NoAuth."""
        body = _sized(self._absolute(path)) + acl_bytes(acl) + _pack_int(version)
        return stat_at((await self._ask(self._write(codes.OP_SET_ACL, body), "set_acl", path)).payload, _BODY)

    async def multi(self, ops: Iterable[Op]) -> list[OpResult]:
        """All of them or none, in one transaction. Raises MultiError, whose `index` and `results` tell what failed."""
        listed = list(ops)
        body = multi_body(listed, self._absolute, self._default_acl)
        call = await self._ask(self._write(codes.OP_MULTI, body), "multi", "")
        return multi_results(listed, Reader(call.payload, _BODY), self._shown)

    def transaction(self) -> Transaction:
        """`async with client.transaction() as t:` gathers operations; the end of the block sends them as one multi."""
        return Transaction(self.multi)

    async def multi_read(self, ops: Iterable[Read]) -> list[ReadResult]:
        """Several reads in one request, of one state of the tree; an error takes the place of what failed."""
        listed = list(ops)
        call = await self._ask(
            self._read(codes.OP_MULTI_READ, multi_read_body(listed, self._absolute)), "multi_read", ""
        )
        return multi_read_results(listed, Reader(call.payload, _BODY))

    async def reconfig(
        self,
        *,
        join: Sequence[str] = (),
        leave: Sequence[int | str] = (),
        members: Sequence[str] | None = None,
        from_version: int = -1,
    ) -> EnsembleConfig:
        """Changes the ensemble: server lines to `join`, sids to `leave`, or all `members`, if `from_version` is now's.

        Raises ReconfigDisabled, ReconfigInProgress, NewConfigNoQuorum, BadVersion, BadArguments, NoAuth, Unimplemented.
        """
        body = reconfig_body(join, leave, members, from_version)
        call = await self._ask(self._write(codes.OP_RECONFIG, body), "reconfig", CONFIG_PATH)
        return parse_config(Reader(call.payload, _BODY).buffer() or b"")

    # --- watches ----------------------------------------------------------------------------------

    def watch(
        self, path: str, *, recursive: bool = False, mode: WatchMode = WatchMode.PERSISTENT, buffer: int = 1024
    ) -> Watch:
        """Events of a path, or with `recursive` of all below it too; see Watch. Needs a server of 3.6 or newer."""
        where = self._absolute(path)
        chosen = WatchMode.RECURSIVE if recursive else mode
        kind = watchtable.RECURSIVE if chosen is WatchMode.RECURSIVE else watchtable.PERSISTENT

        async def arm(watch: Watch) -> None:
            call = self._read(codes.OP_ADD_WATCH, _sized(where) + _pack_int(chosen.value))
            call.watch(where, watch, kind=kind)
            await self._ask(call, "watch", path)
            self._core.pump.open_watches[watch] = None

        def release(watch: Watch) -> None:
            self._core.pump.open_watches.pop(watch, None)
            self._unwatch(kind, where, watch)

        return Watch(arm, path=path, show=self._shown, release=release, buffer=buffer)

    def values(self, path: str) -> Stream[Node | None]:
        """The znode now, then every newer one, None while it is missing; bursts come as one. Needs no block to start.

        It goes on over lost connections and new sessions, and ends with the client. Raises NoAuth.
        """
        return levels.values(self.with_options(timeout=USE_SESSION), path)

    def members(self, path: str) -> Stream[frozenset[str]]:
        """The names of the children now, then every newer set; empty while the znode is missing. Else as `values`."""
        return levels.members(self.with_options(timeout=USE_SESSION), path)

    def cache(self, path: str, *, recursive: bool = True, depth: int | None = None, data: bool = True) -> TreeCache:
        """A copy of a tree, or of so many levels of it below `path`, or of one znode, that follows the servers."""
        return TreeCache(self.with_options(timeout=USE_SESSION), path, depth=depth if recursive else 0, data=data)

    def _arm(self, call: Call, where: bytes, trigger: Trigger | None, kind: int, missing_kind: int = -1) -> None:
        if trigger is None:
            return
        call.watch(where, trigger, kind=kind, missing_kind=missing_kind)

        def release() -> None:
            self._unwatch(kind, where, trigger)
            if missing_kind >= 0:
                self._unwatch(missing_kind, where, trigger)

        trigger.arm(self._shown, release)

    def _unwatch(self, kind: int, where: bytes, watcher: Trigger | Watch) -> None:
        pump = self._core.pump
        if not pump.is_over:
            self._core.machine.unwatch(kind, where, watcher, pump.now_ms())
            pump.flush_soon()

    # --- requests ---------------------------------------------------------------------------------

    def _read(self, op: int, body: bytes) -> Call:
        return Call(op, body, is_write=False, deadline_ms=self._core.deadline_ms(self._options.timeout), waiter=None)

    def _write(self, op: int, body: bytes) -> Call:
        return Call(op, body, is_write=True, deadline_ms=self._core.deadline_ms(self._options.timeout), waiter=None)

    async def _ask(self, call: Call, verb: str, path: str, *, repeats: bool = False) -> Call:
        return await self._core.ask(call, self._options, verb=verb, path=path, repeats=repeats or not call.is_write)

    def _absolute_new(self, path: str, mode: Mode) -> bytes:
        if mode.is_sequential and path.endswith("/"):
            # A sequential znode may have digits for a name.
            return self._absolute(path + "0")[:-1]
        return self._absolute(path)


AnyClient = TypeVar("AnyClient", bound=BaseClient)


def joined(client: AnyClient) -> AnyClient:
    """For recipes: a view whose requests share a packet with what else is asked for in the same turn of the loop."""
    return client.joining()


def parse_config(data: bytes) -> EnsembleConfig:
    """The text of `/zookeeper/config`: server lines and a version in hexadecimal."""
    text = data.decode("utf-8", "replace")
    servers: list[tuple[int, str]] = []
    version = 0
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.startswith("server.") and key[7:].isdigit():
            servers.append((int(key[7:]), value))
        elif key == "version":
            version = int(value, 16)
    return EnsembleConfig(tuple(servers), version, text)


def _sized(value: bytes) -> bytes:
    return _pack_int(len(value)) + value


def _watched(where: bytes, watch: Trigger | None) -> bytes:
    return _pack_int(len(where)) + where + (b"\0" if watch is None else b"\1")
