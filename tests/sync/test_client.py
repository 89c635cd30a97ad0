"""A blocking client among threads, forks, interrupts and exits."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from coati import ClientClosed, ConnectionLoss, Mode, OperationTimeout, State, sync
from tests.interop.peers import CoatiServer
from tests.sync.kit import LONG_S, interrupted_when, until
from tools.javapeer import free_port


@contextmanager
def paused(server: CoatiServer) -> Iterator[None]:
    """It does not answer while the block runs."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def inflight(client: sync.Client) -> int:
    return client._it._core.machine.inflight


def run(script: str, *args: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", script, *args],
        capture_output=True,
        text=True,
        timeout=LONG_S * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_one_client_for_many_threads(zk: sync.Client) -> None:
    failures: list[str] = []

    def work(number: int) -> None:
        mine = f"/{number}"
        zk.create(mine)
        for at in range(40):
            stat = zk.set(mine, f"{number}:{at}".encode())
            node = zk.get(mine)
            if (node.data, node.version) != (f"{number}:{at}".encode(), stat.version):
                failures.append(f"{node} instead of {number}:{at}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(zk.children("/")) == 8


def test_clients_share_the_loop_thread(server: CoatiServer) -> None:
    with sync.Client(server.address) as one, sync.Client(server.address) as other:
        assert one.session.id != other.session.id
        assert one._on.loop is other._on.loop


def test_one_iterator_for_several_threads(zk: sync.Client) -> None:
    got: list[str] = []
    with zk.watch("/", recursive=True) as events:

        def take() -> None:
            for event in events:
                got.append(event.path)
                if len(got) == 20:
                    events.close()

        threads = [threading.Thread(target=take) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(20):
            zk.create(f"/{number}")
        for thread in threads:
            thread.join()
    assert sorted(got) == sorted(f"/{number}" for number in range(20))


def test_poll_gives_up_while_another_thread_waits(zk: sync.Client) -> None:
    with zk.watch("/", recursive=True) as events:
        thread = threading.Thread(target=lambda: next(events))
        thread.start()
        until(lambda: events._turn.locked())
        with pytest.raises(TimeoutError):
            events.poll(0.01)
        zk.create("/a")
        thread.join()


def test_an_interrupt_cancels_a_verb_and_the_client_goes_on(server: CoatiServer, zk: sync.Client) -> None:
    zk.create("/a", b"1")
    with paused(server), interrupted_when(lambda: inflight(zk) > 0), pytest.raises(KeyboardInterrupt):
        zk.get("/a")
    assert zk.get("/a").data == b"1"
    assert zk.session.state is State.CONNECTED


def test_an_interrupted_start_leaves_nothing(server: CoatiServer) -> None:
    with paused(server):
        client = sync.Client(server.address)
        with interrupted_when(lambda: inflight(client) > 0), pytest.raises(KeyboardInterrupt):
            client.start()
        assert client.is_closed
        assert client._it not in client._on.loop.open


def test_an_interrupted_iteration_loses_no_event(zk: sync.Client) -> None:
    with zk.watch("/", recursive=True) as events:
        with interrupted_when(lambda: events._job is not None), pytest.raises(KeyboardInterrupt):
            next(events)
        zk.create("/a")
        assert next(events).path == "/a"


def test_an_interrupted_watch_is_not_armed(server: CoatiServer, zk: sync.Client) -> None:
    watch = zk.watch("/", recursive=True)
    with paused(server), interrupted_when(lambda: inflight(zk) > 0), pytest.raises(KeyboardInterrupt):
        watch.__enter__()
    with pytest.raises(RuntimeError, match="inside"):
        watch.poll(0)


def test_a_call_has_its_time(server: CoatiServer, zk: sync.Client) -> None:
    quick = zk.with_options(timeout=0.05)
    with paused(server), pytest.raises(OperationTimeout):
        quick.get("/")


def test_start_has_its_time() -> None:
    with pytest.raises((OperationTimeout, ConnectionLoss)):
        sync.Client(f"127.0.0.1:{free_port()}").start(timeout=0.05)


def test_close_ends_what_others_wait_for(server: CoatiServer) -> None:
    client = sync.Client(server.address).start()
    client.ensure("/close")
    ended: list[str] = []
    watch = client.watch("/close").__enter__()
    trigger = sync.Trigger()
    client.get("/close", watch=trigger)

    def iterate() -> None:
        ended.extend(f"event {event.type.name}" for event in watch)

    def wait() -> None:
        ended.append(f"trigger {trigger.wait().type.name}")

    def call() -> None:
        try:
            client.with_options(timeout=None).get("/close")
        except ClientClosed as error:
            ended.append(type(error).__name__)

    threads = [threading.Thread(target=target) for target in (iterate, wait)]
    for thread in threads:
        thread.start()
    until(lambda: watch._job is not None)
    client.close()
    for thread in threads:
        thread.join()
    call()
    assert sorted(ended) == ["ClientClosed", "event RESYNC", "trigger RESYNC"]


def test_a_provider_of_hosts_must_not_use_the_client(server: CoatiServer) -> None:
    refused: list[str] = []

    class Provider:
        def hosts(self) -> Sequence[str]:
            if len(asked) > 1:
                try:
                    client.get("/")
                except RuntimeError as error:
                    refused.append(str(error))
            asked.append(1)
            return [f"127.0.0.1:{free_port()}" if len(asked) == 1 else server.address]

    asked: list[int] = []
    client = sync.Client(Provider())
    with client:
        client.exists("/")
    if len(asked) > 1:
        assert all("wait for itself" in line for line in refused)


def test_an_unclosed_client_warns_and_is_closed(server: CoatiServer, zk: sync.Client) -> None:
    client = sync.Client(server.address).start()
    view = client.chroot("/")
    session = client.session
    view.ensure("/gone")
    path = view.create("/gone/e", mode=Mode.EPHEMERAL).path
    kept = [client, view, session]
    del client, view, session
    with pytest.warns(ResourceWarning, match="unclosed"):
        kept.clear()
    until(lambda: zk.chroot_free().exists(path) is None)


def test_a_client_that_was_closed_or_never_started_does_not_warn(server: CoatiServer) -> None:
    client = sync.Client(server.address).start()
    client.close()
    del client
    sync.Client(server.address)
    gc.collect()


EXITS = """
import sys
from coati import Mode, sync
client = sync.Client(sys.argv[1]).start()
client.create(sys.argv[2], mode=Mode.EPHEMERAL)
print("made")
"""


def test_at_exit_open_sessions_are_closed(server: CoatiServer, zk: sync.Client) -> None:
    assert run(EXITS, server.address, "/at-exit") == "made\n"
    assert zk.chroot_free().exists("/at-exit") is None


FORKS = """
import os, sys
from coati import ForkedClient, sync
address = sys.argv[1]
client = sync.Client(address).start()
unused = sync.Client(address)
events = client.watch("/", recursive=True).__enter__()
child = os.fork()
if child == 0:
    for call in (lambda: client.get("/"), lambda: client.ensure("/"), lambda: events.poll(0), client.states().poll):
        try:
            call()
        except ForkedClient as error:
            print("refused", "parent" in str(error))
    client.close()
    with sync.Client(address) as mine, unused:
        print("works", mine.exists("/") is not None, unused.exists("/") is not None)
        print("sessions", len({mine.session.id, unused.session.id, client.session.id}))
    sys.exit()
print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print("parent", client.exists("/") is not None)
client.close()
"""


def test_a_fork_has_a_loop_of_its_own(server: CoatiServer) -> None:
    assert run(FORKS, server.address).splitlines() == [
        *["refused True"] * 4,
        "works True True",
        "sessions 3",
        "ended 0",
        "parent True",
    ]
