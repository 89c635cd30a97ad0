"""An ensemble without sockets: whole servers on one simulated clock, a simulated network and simulated disks.

One seed is one execution: all dice come from the caller, and everything that happens is an event of the clock.
A member is what a process would be: hub, driver, store and the ports of its links. It starts, is killed, loses its
power and starts again on the same disk; clients connect to it as to `testing.server.SimServer`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from coati.core.acl import Access, AccessConfig
from coati.core.answer import Answers
from coati.core.export import Export
from coati.core.prepare import PrepareConfig, Preparer
from coati.core.sessions import SessionTable
from coati.core.tree import Tree, TreeConfig
from coati.core.watches import Watches
from coati.errors import ProtocolError
from coati.server.driver import Driver
from coati.server.hub import Hub, HubParts
from coati.server.readonly import GivenIds, ReadOnly, Retreat
from coati.server.recovery import Loaded, load
from coati.server.replica import Replica, ReplicaConfig
from coati.server.stats import ServerStats
from coati.storage.store import Store, StoreConfig
from coati.testing.clock import SimClock
from coati.testing.disk import SimDisk
from coati.testing.gate import DUE, ENDED, HEARD, SOON, Gate
from coati.testing.net import Pipe, SimNet, SimNetLink
from coati.testing.server import DATA_DIR, SETTLE_MS, SimClient, SimLink
from coati.wire.quorum import (
    FOLLOWING,
    LEADING,
    Notification,
    Packet,
    PacketReader,
    decode_notification,
    encode_notification,
)
from coati.wire.zxid import COUNTER_MAX
from coati.zab.broadcast import Broadcast, Limits
from coati.zab.peer import STATE_NAMES, PeerConfig
from coati.zab.quorum import Server, View

MAX_DATA_BYTES: Final = 2 << 20
DIFF_LIMIT_BYTES: Final = 16 << 20


class ClusterConfig:
    """What all members have in common. `disk_ms`: the shortest and the longest time that a job of a disk takes.

    `last_counter`: how many txns an epoch may have, and one more. `first_zxid`: that of the data that all begin with.
    `reads_alone`: read-only mode.
    """

    __slots__ = (
        "commit_log_count",
        "disk_ms",
        "first_zxid",
        "forces_snapshot",
        "init_ticks",
        "last_counter",
        "leader_serves",
        "linearizable_sync",
        "min_session_timeout_ms",
        "observers",
        "prealloc_bytes",
        "purges",
        "reads_alone",
        "snap_count",
        "sync_ticks",
        "tick_ms",
        "voters",
    )

    def __init__(
        self,
        voters: int = 3,
        *,
        observers: int = 0,
        tick_ms: int = 200,
        init_ticks: int = 10,
        sync_ticks: int = 5,
        disk_ms: tuple[int, int] = (1, 1),
        snap_count: int = 100_000,
        commit_log_count: int = 500,
        linearizable_sync: bool = True,
        leader_serves: bool = True,
        forces_snapshot: bool = False,
        prealloc_bytes: int = 4096,
        min_session_timeout_ms: int = 4000,
        purges: bool = False,
        reads_alone: bool = False,
        last_counter: int = COUNTER_MAX,
        first_zxid: int = 0,
    ) -> None:
        self.voters = voters
        self.observers = observers
        self.tick_ms = tick_ms
        self.init_ticks = init_ticks
        self.sync_ticks = sync_ticks
        self.disk_ms = disk_ms
        self.snap_count = snap_count
        self.commit_log_count = commit_log_count
        self.linearizable_sync = linearizable_sync
        self.leader_serves = leader_serves
        self.forces_snapshot = forces_snapshot
        self.prealloc_bytes = prealloc_bytes
        self.min_session_timeout_ms = min_session_timeout_ms
        self.purges = purges
        self.reads_alone = reads_alone
        self.last_counter = last_counter
        self.first_zxid = first_zxid


class SimPorts:
    """The two ports of a member, coati.server.hub.Network on the simulated network."""

    def __init__(self, member: SimMember) -> None:
        self._member = member
        self._net = member.cluster.net
        self._next = 1
        self._ends: dict[int, _End] = {}
        self._dialling: dict[int, None] = {}
        self._leads = False
        self._is_open = True

    def open(self) -> None:
        """The member's process listens."""
        sid = self._member.sid
        self._net.listeners[sid] = self._accept
        self._net.voters[sid] = self._on_vote
        self._net.refused[sid] = lambda target: self._member.hub.on_refused(target)

    def shut(self) -> None:
        """The process is gone, with all its links."""
        self._is_open = False
        self._net.listeners.pop(self._member.sid, None)
        self._net.voters.pop(self._member.sid, None)
        self._net.refused.pop(self._member.sid, None)
        self._net.close_all(self._member.sid)

    # coati.server.hub.Network

    def send_vote(self, sid: int, n: Notification) -> None:
        self._net.send_vote(self._member.sid, sid, encode_notification(n))

    def has_delivered(self) -> bool:
        """A vote that is lost is sent again, so none is missed for long."""
        return True

    def reconnect(self) -> None:
        """Votes are sent again anyway, and nothing else is needed here."""

    def dial(self, sid: int) -> int:
        number = self._take_number()
        gate = self._member.gate

        def done(link: SimNetLink | None) -> None:
            is_wanted = self._dialling.pop(number, 0) is None and self._is_open
            if link is None or not link.is_open:
                if is_wanted:
                    self._member.hub.on_dial_failed(sid)
            elif is_wanted:
                self._stand(number, link, link.forward, link.back)
                self._member.hub.on_link(number)
            else:
                self._net.close(link, by=self._member.sid)

        self._dialling[number] = None
        self._net.dial(self._member.sid, sid, lambda link: gate.enter(HEARD, ("link", number), lambda: done(link)))
        return number

    def send(self, link: int, data: bytes) -> None:
        end = self._ends.get(link)
        if end is not None:
            end.out.send(data)

    def close(self, link: int) -> None:
        self._dialling.pop(link, None)
        end = self._ends.pop(link, None)
        if end is not None:
            self._net.close(end.link, by=self._member.sid)

    def set_leading(self, leads: bool) -> None:
        self._leads = leads

    def buffered_bytes(self, link: int) -> int:
        end = self._ends.get(link)
        return 0 if end is None else end.out.waiting_bytes

    def pause(self, link: int) -> None:
        end = self._ends.get(link)
        if end is not None:
            end.is_paused = True

    def resume(self, link: int) -> None:
        end = self._ends.get(link)
        if end is not None:
            end.is_paused = False
            self._member.post(lambda: self._read(link, b""))

    def end_raw(self, link: int, rest: bytes) -> None:
        end = self._ends.get(link)
        if end is not None:
            # In a turn of its own: the caller is in the middle of something.
            self._member.post(lambda: self._end_raw(link, rest))

    # What the network brings.

    def _take_number(self) -> int:
        number, self._next = self._next, self._next + 1
        return number

    def _accept(self, link: SimNetLink) -> bool:
        if not self._leads:
            return False
        # Connected by the kernel, even if the process does not run.
        number = self._take_number()
        self._stand(number, link, link.back, link.forward)
        self._member.gate.enter(HEARD, ("link", number), lambda: self._member.hub.on_link(number))
        return True

    def _stand(self, number: int, link: SimNetLink, out: Pipe, into: Pipe) -> None:
        gate, source = self._member.gate, ("link", number)
        self._ends[number] = _End(link, out)
        into.on_data = lambda data: gate.enter(HEARD, source, lambda: self._read(number, data))
        into.on_lost = lambda: gate.enter(ENDED, source, lambda: self._lost(number))

    def _on_vote(self, sender: int, message: bytes) -> None:
        def read() -> None:
            self._member.hub.on_vote(sender, decode_notification(message))

        self._member.gate.enter(HEARD, ("votes", sender), read)

    def _read(self, number: int, data: bytes) -> None:
        end = self._ends.get(number)
        if end is None:
            return
        if end.is_paused:
            end.held.append(data)
            return
        if end.held:
            data = b"".join([*end.held, data])
            end.held.clear()
        if data:
            self._cut(number, end, data)

    def _cut(self, number: int, end: _End, data: bytes) -> None:
        hub, reader = self._member.hub, end.reader
        if reader.is_raw:
            hub.on_raw(number, data)
            return
        try:
            packets = reader.feed(data)
        except ProtocolError:
            self.close(number)
            hub.on_link_lost(number)
            return
        self._hand_on(number, end, packets)

    def _hand_on(self, number: int, end: _End, packets: list[Packet]) -> None:
        hub, reader = self._member.hub, end.reader
        if packets:
            hub.on_packets(number, packets)
        if reader.is_raw:
            rest = reader.take_rest()
            if rest:
                hub.on_raw(number, rest)

    def _end_raw(self, number: int, rest: bytes) -> None:
        end = self._ends.get(number)
        if end is not None:
            self._hand_on(number, end, end.reader.end_raw(rest))

    def _lost(self, number: int) -> None:
        if self._ends.pop(number, None) is not None:
            self._member.hub.on_link_lost(number)


class _End:
    """One end of a link."""

    __slots__ = ("held", "is_paused", "link", "out", "reader")

    def __init__(self, link: SimNetLink, out: Pipe) -> None:
        self.link = link
        self.out = out
        self.reader = PacketReader(MAX_DATA_BYTES)
        self.is_paused = False
        self.held: list[bytes] = []


def _never(reason: str) -> None:
    """Simulated ports are free."""
    raise AssertionError(reason)


class SimMember:
    """One server of the ensemble. `disk` outlives its processes. What it is made of may be replaced by `make_*`."""

    hub_type: type[Hub] = Hub
    driver_type: type[Driver] = Driver
    access_config: AccessConfig = AccessConfig()

    def __init__(self, cluster: SimCluster, sid: int) -> None:
        self.cluster = cluster
        self.sid = sid
        self.clock = cluster.clock
        self.disk = SimDisk(self._schedule_job)
        self.is_up = False
        self.gate = Gate()
        self.fatal: list[BaseException] = []
        self.links: list[SimLink] = []
        self._life = 0
        self.store: Store
        self.hub: Hub
        self.driver: Driver
        self._ports: SimPorts

    def _schedule_job(self, run_job: Callable[[], None]) -> None:
        shortest, longest = self.cluster.config.disk_ms
        due_ms = self.clock.now_ms + self.cluster.dice.randint(shortest, longest)
        self.clock.call_at(due_ms, lambda: self.gate.enter(HEARD, "disk", run_job))

    @property
    def tree(self) -> Tree:
        return self.hub.tree

    @property
    def state(self) -> int:
        """As on the wire: LOOKING, FOLLOWING, LEADING, OBSERVING."""
        return self.hub.peer.state

    @property
    def is_serving(self) -> bool:
        """Whether clients are served by an ensemble."""
        return self.is_up and self.driver.replica is not None and not self.driver.is_read_only

    # Its life.

    def start(self) -> None:
        """A process begins on the disk as it is. Raises StorageCorrupt, StorageFailed."""
        assert not self.is_up, "it runs already"
        config = self.cluster.config
        tree_config = TreeConfig()
        store_config = StoreConfig(DATA_DIR, prealloc_bytes=config.prealloc_bytes)
        self.store = self.make_store(store_config)
        loaded = load(self.store, tree_config, is_alone=False)
        self._ports = self.make_ports()
        self.hub = self.make_hub(self.make_peer_config(), loaded, self._make_parts(tree_config))
        self.driver = self.driver_type(
            None,
            self.store,
            self.clock,
            stats=ServerStats(),
            post=self.post,
            on_fatal=self._on_fatal,
            purge_after_snapshot=config.purges,
            hub=self.hub,
        )
        self._on_made()
        self.is_up = True
        self._ports.open()
        self.hub.start(self.driver, self._ports)
        self._tick()

    def _on_made(self) -> None:
        """The process is whole, and nothing of it has run yet."""

    def make_peer_config(self) -> PeerConfig:
        """As the cluster is configured."""
        config = self.cluster.config
        return PeerConfig(
            self.sid,
            self.cluster.view,
            limits=Limits(config.tick_ms, config.init_ticks, config.sync_ticks, last_counter=config.last_counter),
            commit_log_count=config.commit_log_count,
            linearizable_sync=config.linearizable_sync,
            forces_snapshot=config.forces_snapshot,
        )

    def make_hub(self, peer_config: PeerConfig, loaded: Loaded, parts: HubParts) -> Hub:
        """Of a new process."""
        return self.hub_type(peer_config, loaded, self.store, self.clock, parts)

    def _make_parts(self, tree_config: TreeConfig) -> HubParts:
        return HubParts(
            tree_config=tree_config,
            make_replica=self._make_replica,
            call_at=self._call_at,
            diff_limit_bytes=lambda: DIFF_LIMIT_BYTES,
            on_bind_failed=_never,
            leader_serves=self.cluster.config.leader_serves,
            retreat=self._make_retreat() if self.cluster.config.reads_alone else None,
        )

    def make_preparer(self, tree: Tree, sessions: SessionTable, access: Access, broadcast: Broadcast) -> Preparer:
        """Of a new role."""
        return Preparer(tree, sessions, access, PrepareConfig())

    def make_store(self, config: StoreConfig) -> Store:
        """On its disk."""
        return Store(self.disk, config)

    def make_ports(self) -> SimPorts:
        """The ports of a new process."""
        return SimPorts(self)

    def _make_retreat(self) -> Retreat:
        given = GivenIds()
        return Retreat(
            lambda tree, timeouts: self._make_read_only(tree, timeouts, given), tick_ms=self.cluster.config.tick_ms
        )

    def _make_read_only(self, tree: Tree, timeouts: dict[int, int], given: GivenIds) -> ReadOnly:
        return ReadOnly(
            tree=tree,
            sessions=self._make_sessions(timeouts),
            access=Access(self.access_config),
            stats=self.driver.stats,
            config=self._replica_config(),
            given=given,
        )

    def _make_sessions(self, timeouts: dict[int, int]) -> SessionTable:
        sessions = SessionTable(self.cluster.config.tick_ms, self.sid, self.clock.wall_ms())
        sessions.restore(timeouts, self.clock.monotonic_ms())
        return sessions

    def _replica_config(self) -> ReplicaConfig:
        config = self.cluster.config
        return ReplicaConfig(
            tick_ms=config.tick_ms, snap_count=config.snap_count, min_session_timeout_ms=config.min_session_timeout_ms
        )

    def _make_replica(self, broadcast: Broadcast, tree: Tree, timeouts: dict[int, int]) -> Replica:
        sessions = self._make_sessions(timeouts)
        access = Access(self.access_config)
        watches = Watches()
        return Replica(
            tree=tree,
            sessions=sessions,
            watches=watches,
            preparer=self.make_preparer(tree, sessions, access, broadcast),
            answers=Answers(tree, watches, access),
            access=access,
            broadcast=broadcast,
            stats=self.driver.stats,
            entropy=self.cluster.dice,
            config=self._replica_config(),
        )

    def post(self, call: Callable[[], None]) -> None:
        """Soon, in this process only."""
        self.clock.post(self._inside(SOON, call))

    def _call_at(self, when_ms: int, call: Callable[[], None]) -> None:
        self.clock.call_at(when_ms, self._inside(DUE, call))

    def _inside(self, kind: int, call: Callable[[], None]) -> Callable[[], None]:
        """It runs in this process, or not at all."""
        life, gate = self._life, self.gate
        return lambda: gate.enter(kind, None, call) if life == self._life else None

    def hear(self, source: object, call: Callable[[], None], *, is_end: bool = False) -> None:
        """Something comes from outside."""
        self.gate.enter(ENDED if is_end else HEARD, source, call)

    def _tick(self) -> None:
        self.driver.tick()
        self._call_at(self.clock.now_ms + self.cluster.config.tick_ms // 2, self._tick)

    # Stopped, and going on.

    @property
    def is_paused(self) -> bool:
        """Whether its process is stopped. Its connections stand all the same."""
        return self.gate.is_shut

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.is_up, "a process that is none cannot be stopped"
        self.gate.shut()
        self.cluster.net.freeze(self.sid)

    def go_on(self) -> None:
        """SIGCONT: everything that waited happens, in the order of an event loop."""
        calls, ends = self.gate.open(self.cluster.dice)
        self.cluster.net.thaw(self.sid)
        life = self._life
        for call in calls:
            if life == self._life:
                call()
        for call in ends:
            self.post(call)

    def _on_fatal(self, error: BaseException) -> None:
        self.fatal.append(error)
        self.post(self.kill)

    def lay_down(self, zxid: int) -> None:
        """Before the first start: the data of a server whose ensemble had come that far, and kept nothing."""
        store = self.make_store(StoreConfig(DATA_DIR, prealloc_bytes=self.cluster.config.prealloc_bytes))
        tree = load(store, TreeConfig(), is_alone=False).tree
        tree.last_zxid = zxid
        export = Export(tree, {})
        store.write_snapshot(zxid, export.sessions, export.acls, iter([export.next_slice(100)]), export.digest)
        store.close()

    def stop(self) -> None:
        """An orderly end."""
        self.store.close()
        self._end()

    def kill(self) -> None:
        """The process dies; what it had written stays."""
        if self.is_up:
            self._end()
            self.disk.kill()

    def crash(self, mode: str = "random") -> None:
        """The power fails; of what was not synced something may be lost."""
        self._end()
        self.disk.crash(self.cluster.dice, mode)

    def _end(self) -> None:
        self.is_up = False
        self._life += 1
        self.gate.abandon()
        self.cluster.net.thaw(self.sid)
        self._ports.shut()
        links, self.links = self.links, []
        for link in links:
            link.abandon()

    # Its clients.

    def client(self, *, timeout_ms: int = 10_000) -> SimClient:
        """A client with a session, once time has passed."""
        client = SimClient(SimLink(self, ("127.0.0.1", 40000)))
        client.open_session(timeout_ms=timeout_ms)
        return client


class SimCluster:
    """Members 1 to n, the last ones observers, and the network between them."""

    member_type: type[SimMember] = SimMember

    def __init__(self, config: ClusterConfig | None = None, *, dice: Random | None = None) -> None:
        self.config = config or ClusterConfig()
        self.clock = SimClock()
        self.dice = dice or Random(0)
        self.net = SimNet(self.clock, self.dice)
        count = self.config.voters + self.config.observers
        servers = {
            sid: Server(sid, "127.0.0.1", 2888, 3888, is_observer=sid > self.config.voters)
            for sid in range(1, count + 1)
        }
        self.view = View.build(servers.values(), {}, {})
        self.members = {sid: self.member_type(self, sid) for sid in servers}

    def start(self) -> SimCluster:
        """All members begin."""
        for member in self.members.values():
            if self.config.first_zxid:
                member.lay_down(self.config.first_zxid)
            member.start()
        return self

    def run(self, duration_ms: int = SETTLE_MS) -> None:
        """Lets time pass."""
        self.clock.advance(duration_ms)

    def run_until(self, holds: Callable[[], bool], limit_ms: int = 60_000, step_ms: int = 10) -> int:
        """Lets time pass until it holds; how long that took in ms. An AssertionError if it takes too long."""
        began_ms = self.clock.now_ms
        while not holds():
            assert self.clock.now_ms - began_ms < limit_ms, f"not within {limit_ms} ms: {self}"
            self.run(step_ms)
        return self.clock.now_ms - began_ms

    def leader(self) -> SimMember | None:
        """Who leads and serves, the one of the highest epoch."""
        leaders = [m for m in self.members.values() if m.is_serving and m.state == LEADING]
        return max(leaders, key=lambda m: m.store.current_epoch, default=None)

    def followers(self) -> list[SimMember]:
        """Who follows and serves."""
        return [m for m in self.members.values() if m.is_serving and m.state == FOLLOWING]

    def all_serve(self) -> bool:
        """Whether every member that is up serves, and one of them leads."""
        return self.leader() is not None and all(m.is_serving for m in self.members.values() if m.is_up)

    def __repr__(self) -> str:
        shown = [
            f"{m.sid}:{STATE_NAMES[m.state]}{'+' if m.is_serving else ''}@{m.tree.last_zxid:#x}"
            for m in self.members.values()
            if m.is_up
        ]
        return f"SimCluster({' '.join(shown)})"
