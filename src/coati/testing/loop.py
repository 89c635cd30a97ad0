"""An asyncio event loop on virtual time: ordinary asyncio code runs on a SimClock, and nothing ever waits.

Where a real loop would wait for its sockets, this one lets the next event of the clock happen: a server's, the
network's, or the loop's own next timer, whichever is first. So loop and simulation share one time. Connections are made
by a `Dialler`; threads, signals, processes and real sockets are refused. Must not know servers.
Deterministic: tasks and futures hash by their numbers, for asyncio keeps them in sets (TaskGroup cancels its children
in the order of one, `wait` and `all_tasks` return them). Not cured: other objects in sets, coroutines handed to
`as_completed` (hand it tasks), and several asynchronous generators that nobody has closed.
Used of asyncio's inside: BaseEventLoop asks `_selector.select(timeout)`, and hands the answer to `_process_events`.
"""

from __future__ import annotations

import asyncio
import gc
import io
import math
import socket
import ssl as tls
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Final, NoReturn, Protocol, TypeVar, TypeVarTuple

from coati.testing.clock import SimClock

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)

# Virtual seconds in which nothing of the loop's runs, though it has no timer of its own: nobody will wake it any more.
IDLE_S: Final = 300.0
# So many turns at one moment, and a millisecond is over: who polls with sleep(0) waits for others.
SPIN_TURNS: Final = 1000
# After so many turns garbage is collected, if Python does not do it by itself: it is part of the run.
COLLECT_TURNS: Final = 20_000
# A timer that is due within this time is due: what floats lose, and far below a millisecond.
_RESOLUTION_S: Final = 1e-6
_FEW_TIMERS: Final = 100


class Deadlock(AssertionError):
    """Nothing can happen any more, or nothing comes to an end; the text has the stacks of all tasks."""


class Dialler(Protocol):
    """The network that a loop's connections belong to."""

    async def resolve(self, host: str) -> list[str]:
        """The addresses of a name. Raises socket.gaierror."""

    async def dial(
        self, loop: SimLoop, factory: Callable[[], _ProtocolT], host: str, port: int
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """A connection that stands. Raises OSError."""


class SimFuture(asyncio.Future[_T]):
    """Hashes by `serial`, its number in the run."""

    def __init__(self, serial: int, loop: SimLoop) -> None:
        self.serial = serial
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.serial


class SimTask(asyncio.Task[_T]):
    """Hashes by `serial`, its number in the run."""

    def __init__(
        self,
        serial: int,
        coro: Coroutine[object, object, _T] | Generator[object, None, _T],
        loop: asyncio.AbstractEventLoop,
        name: str,
        context: Context | None,
    ) -> None:
        # Before the task is entered into the set of all tasks.
        self.serial = serial
        super().__init__(coro, loop=loop, name=name, context=context)  # type: ignore[arg-type]  # as tasks come

    def __hash__(self) -> int:
        return self.serial


class _Selector:
    """What the loop asks when it has nothing to do for `timeout` seconds: time passes."""

    def __init__(self, loop: SimLoop, clock: SimClock) -> None:
        self._loop = loop
        self._clock = clock
        self._turns = 0
        self._moved_ms = clock.now_ms
        self._spins = 0
        # When the loop has done something last.
        self.busy_ms = clock.now_ms

    def select(self, timeout: float | None) -> list[object]:
        """Lets what is due now happen, or the one thing that is next. There are never sockets to tell of."""
        clock = self._clock
        self._turns += 1
        if self._turns % COLLECT_TURNS == 0 and not gc.isenabled():
            gc.collect()
        due_ms = clock.next_ms()
        if timeout is None:
            self._check_idle(due_ms)
            if due_ms is not None:
                clock.step(due_ms)
        elif timeout <= 0:
            self._poll()
        else:
            until_ms = clock.now_ms + max(1, math.ceil((timeout - _RESOLUTION_S) * 1000))
            clock.step(until_ms if due_ms is None else min(due_ms, until_ms))
        if timeout is not None:
            self.busy_ms = clock.now_ms
        self._loop.check_limit()
        return []

    def _poll(self) -> None:
        clock = self._clock
        if clock.now_ms != self._moved_ms:
            self._moved_ms = clock.now_ms
            self._spins = 0
        self._spins += 1
        if self._spins > SPIN_TURNS:
            clock.step(clock.now_ms + 1)
            return
        for _ in range(SPIN_TURNS):
            if not clock.step(clock.now_ms):
                return

    def _check_idle(self, due_ms: int | None) -> None:
        if due_ms is None:
            raise Deadlock(f"nothing is scheduled, and nobody can wake these:\n{self._loop.stacks()}")
        if self._clock.now_ms - self.busy_ms > IDLE_S * 1000:
            raise Deadlock(f"nothing has happened for {IDLE_S:g} virtual seconds:\n{self._loop.stacks()}")


class SimLoop(asyncio.BaseEventLoop):
    """The loop. `dialler` makes its connections, and `transports` are those that stand, oldest first.

    `errors`: what nobody has handled, as asyncio reports it.

    A Deadlock is raised out of `run_until_complete` when nothing can wake the loop any more.
    """

    def __init__(self, clock: SimClock, dialler: Dialler | None = None) -> None:
        super().__init__()
        self.clock = clock
        self.dialler = dialler
        self.errors: list[dict[str, object]] = []
        self.transports: dict[asyncio.Transport, None] = {}
        self._limit_ms = self._limit_s = math.inf
        self._serial = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._timers_looked_at = _FEW_TIMERS
        self._thread = threading.get_ident()
        self._selector = _Selector(self, clock)
        self._clock_resolution = _RESOLUTION_S
        super().set_task_factory(self._make_task)
        self.set_exception_handler(_note_error)

    # Time.

    def time(self) -> float:
        """The clock's, in seconds."""
        return self.clock.now_ms / 1000

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As ever. Times between two milliseconds are rounded up."""
        timer = super().call_at(when, callback, *args, context=context)
        self._timers.append(timer)
        if len(self._timers) > self._timers_looked_at:
            self._timers = self.live_timers()
            self._timers_looked_at = 2 * len(self._timers) + _FEW_TIMERS
        return timer

    def live_timers(self) -> list[asyncio.TimerHandle]:
        """Those that are still to come, in the order in which they were set."""
        now = self.time()
        return [timer for timer in self._timers if not timer.cancelled() and timer.when() > now]

    def set_limit(self, limit_s: float) -> None:
        """After so many virtual seconds from now a Deadlock is raised too."""
        self._limit_s = limit_s
        self._limit_ms = self.clock.now_ms + limit_s * 1000

    def check_limit(self) -> None:
        """Raises Deadlock if the run has taken too long."""
        if self.clock.now_ms > self._limit_ms:
            # Once: what is cleaned up behind it takes its time too.
            self._limit_ms = math.inf
            raise Deadlock(f"not over after {self._limit_s:g} virtual seconds:\n{self.stacks()}")

    # Tasks and futures.

    def next_serial(self) -> int:
        """The number of a new task or future."""
        self._serial += 1
        return self._serial

    def create_future(self) -> asyncio.Future[_T]:
        """One that hashes by its number."""
        return SimFuture(self.next_serial(), self)

    def create_task(
        self,
        coro: Coroutine[object, object, _T] | Generator[object, None, _T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: bool | None,
    ) -> asyncio.Task[_T]:
        """One that hashes by its number, and is named by it if it has no name: Python counts over all its loops."""
        if any(options.values()):
            refuse("a task that starts at once")
        return super().create_task(coro, name=f"Task-{self._serial + 1}" if name is None else name, context=context)

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[object, object, _T] | Generator[object, None, _T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        return SimTask(self.next_serial(), coro, loop, str(name), context)

    def set_task_factory(self, factory: object) -> NoReturn:
        """Refused: the order of tasks in sets is this one's business."""
        refuse("another task factory")

    def all_tasks(self) -> list[asyncio.Task[object]]:
        """What is not done, oldest first."""
        tasks = asyncio.all_tasks(self)
        return sorted(tasks, key=hash)

    def stacks(self) -> str:
        """Where every task stands, and what asyncio has complained of."""
        return "\n".join([*map(show_task, self.all_tasks()), *map(show_error, self.errors)]) or "no task"

    # Connections.

    async def getaddrinfo(  # type: ignore[override]  # there are no addresses of IPv6
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
        """The dialler's addresses, IPv4 and TCP. Raises socket.gaierror."""
        name = host.decode("ascii") if isinstance(host, bytes) else host or ""
        addresses = await self._network().resolve(name)
        number = int(port or 0)
        if family == socket.AF_INET6:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, number)) for address in addresses]

    async def create_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: tls.SSLContext | bool | None = None,
        sock: socket.socket | None = None,
        **_hints: object,
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """One made by the dialler; addresses are tried one after the other. There is no TLS. Raises OSError."""
        if ssl:
            refuse("TLS")
        if sock is not None or host is None or port is None:
            refuse("a real socket")
        network = self._network()
        errors: list[OSError] = []
        for address in await network.resolve(host):
            try:
                return await network.dial(self, protocol_factory, address, port)
            except OSError as error:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        raise OSError(f"Multiple exceptions: {', '.join(map(str, errors))}")

    def _network(self) -> Dialler:
        if self.dialler is None:
            refuse("a network")
        return self.dialler

    # What BaseEventLoop leaves to others.

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""
        if threading.get_ident() != self._thread:
            refuse("a call from another thread")

    # What would leave the simulation.

    def run_in_executor(self, executor: object, func: object, *args: object) -> NoReturn:
        refuse("an executor: a thread runs when it likes")

    def set_default_executor(self, executor: object) -> NoReturn:
        refuse("an executor: a thread runs when it likes")

    def add_signal_handler(self, *args: object) -> NoReturn:
        refuse("a signal handler")

    def remove_signal_handler(self, *args: object) -> NoReturn:
        refuse("a signal handler")

    def subprocess_shell(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a subprocess")

    def subprocess_exec(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a subprocess")

    def add_reader(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def remove_reader(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def add_writer(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def remove_writer(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def create_server(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a listening socket")

    def create_unix_connection(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a real socket")

    def create_unix_server(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a listening socket")

    def create_datagram_endpoint(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a real socket")

    def connect_accepted_socket(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a real socket")

    def connect_read_pipe(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a pipe")

    def connect_write_pipe(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a pipe")

    def start_tls(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("TLS")

    def sendfile(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a file")

    def getnameinfo(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("names of addresses")

    def sock_recv(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def sock_recv_into(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def sock_recvfrom(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def sock_recvfrom_into(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def sock_sendto(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def sock_sendall(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def sock_sendfile(self, *args: object, **kwargs: object) -> NoReturn:
        refuse("a real socket")

    def sock_connect(self, *args: object) -> NoReturn:
        refuse("a real socket")

    def sock_accept(self, *args: object) -> NoReturn:
        refuse("a real socket")


async def pass_time(seconds: float) -> None:
    """Lets virtual time pass: a sleep that a test may take, for nobody waits. AssertionError on any other loop."""
    assert isinstance(asyncio.get_running_loop(), SimLoop), "that would take real time"
    await asyncio.sleep(seconds)


def refuse(what: str) -> NoReturn:
    """Raises NotImplementedError: the simulation has none of it."""
    raise NotImplementedError(f"{what}: there is none in a simulation")


def show_task(task: asyncio.Task[object]) -> str:
    """Its name, and where it stands."""
    text = io.StringIO()
    task.print_stack(file=text)
    return f"task {task.get_name()}: {text.getvalue().rstrip()}"


def show_error(context: dict[str, object]) -> str:
    """What a loop's exception handler was told, in a line."""
    error = context.get("exception")
    task = context.get("task") or context.get("future")
    name = f" of {task.get_name()}" if isinstance(task, asyncio.Task) else ""
    return f"{context.get('message')}{name}" + (f": {error!r}" if error is not None else "")


def _note_error(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Not logged: the run fails of it."""
    assert isinstance(loop, SimLoop), "it is set for such a loop only"
    loop.errors.append(context)
