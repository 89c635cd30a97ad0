"""The same cases on the real Disk and the simulated one; then what only one of them has."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from random import Random

import pytest

from coati.seams import Disk
from coati.storage.disk import RealDisk
from coati.testing.disk import PowerCut, SimDisk


class Bench:
    """A disk, a directory on it, and how to let its jobs come to an end."""

    def __init__(self, disk: Disk, directory: str, settle: Callable[[], None]) -> None:
        self.disk = disk
        self.directory = directory
        self.settle = settle

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"


def real_bench(directory: str) -> tuple[Bench, RealDisk]:
    posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
    disk = RealDisk(posted.put)

    def settle() -> None:
        disk.drain()
        while not posted.empty():
            posted.get()()

    return Bench(disk, directory, settle), disk


@pytest.fixture(params=["real", "simulated"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "real":
        bench, disk = real_bench(str(tmp_path / "d"))
        bench.disk.make_dirs(bench.directory)
        yield bench
        disk.close()
    else:
        simulated = SimDisk()
        simulated.make_dirs("/data/d")
        yield Bench(simulated, "/data/d", simulated.run)


def read_all(disk: Disk, path: str) -> bytes:
    file = disk.open_read(path)
    data = b""
    while chunk := file.read(1000):
        assert len(chunk) <= 1000
        data += chunk
    file.close()
    file.close()
    return data


def test_what_is_written_is_read(bench: Bench) -> None:
    file = bench.disk.create(bench.path("a"))
    file.append(b"x" * 1500)
    file.append(b"y" * 10)
    file.write_at(1000, b"middle")
    assert file.size() == 1510
    assert file.sync() >= 0
    file.close()
    expected = b"x" * 1000 + b"middle" + b"x" * 494 + b"y" * 10
    assert read_all(bench.disk, bench.path("a")) == expected
    assert bench.disk.size(bench.path("a")) == 1510


def test_a_file_is_created_once(bench: Bench) -> None:
    bench.disk.create(bench.path("a")).close()
    with pytest.raises(FileExistsError):
        bench.disk.create(bench.path("a"))


def test_appending_goes_on_at_the_end(bench: Bench) -> None:
    file = bench.disk.create(bench.path("a"))
    file.append(b"one")
    file.close()
    file = bench.disk.open_append(bench.path("a"))
    assert file.size() == 3
    file.append(b"two")
    file.close()
    assert read_all(bench.disk, bench.path("a")) == b"onetwo"


def test_allocated_space_reads_as_zeros_and_is_written_over(bench: Bench) -> None:
    file = bench.disk.create(bench.path("a"))
    file.append(b"head")
    file.allocate(5000)
    file.allocate(100)  # never shrinks
    assert file.size() == 5000
    file.write_at(4, b"next")
    file.sync()
    file.close()
    assert read_all(bench.disk, bench.path("a")) == b"headnext" + bytes(4992)


def test_truncating_cuts_for_good(bench: Bench) -> None:
    file = bench.disk.create(bench.path("a"))
    file.append(b"x" * 100)
    file.truncate(10)
    file.allocate(20)
    file.append(b"y")
    file.close()
    assert read_all(bench.disk, bench.path("a")) == b"x" * 10 + bytes(10) + b"y"


def test_a_write_behind_the_end_leaves_zeros(bench: Bench) -> None:
    file = bench.disk.create(bench.path("a"))
    file.write_at(10, b"x")
    file.close()
    assert read_all(bench.disk, bench.path("a")) == bytes(10) + b"x"


def test_names_are_listed_in_order(bench: Bench) -> None:
    for name in ("b", "a", "c"):
        bench.disk.create(bench.path(name)).close()
    assert bench.disk.list(bench.directory) == ["a", "b", "c"]
    bench.disk.remove(bench.path("b"))
    bench.disk.sync_dir(bench.directory)
    assert bench.disk.list(bench.directory) == ["a", "c"]
    assert bench.disk.exists(bench.path("a"))
    assert not bench.disk.exists(bench.path("b"))
    assert bench.disk.is_file(bench.path("a"))


def test_renaming_replaces(bench: Bench) -> None:
    for name in ("old", "new"):
        file = bench.disk.create(bench.path(name))
        file.append(name.encode())
        file.close()
    bench.disk.rename(bench.path("new"), bench.path("old"))
    assert bench.disk.list(bench.directory) == ["old"]
    assert read_all(bench.disk, bench.path("old")) == b"new"


def test_a_removed_file_can_be_read_to_its_end(bench: Bench) -> None:
    file = bench.disk.create(bench.path("a"))
    file.append(b"data")
    file.close()
    reader = bench.disk.open_read(bench.path("a"))
    bench.disk.remove(bench.path("a"))
    assert reader.read(10) == b"data"
    assert reader.read(10) == b""
    reader.close()


def test_what_is_missing_is_reported(bench: Bench) -> None:
    missing = bench.path("missing")
    calls: list[Callable[[], object]] = [
        lambda: bench.disk.open_read(missing),
        lambda: bench.disk.open_append(missing),
        lambda: bench.disk.remove(missing),
        lambda: bench.disk.rename(missing, bench.path("b")),
        lambda: bench.disk.size(missing),
        lambda: bench.disk.is_file(missing),
        lambda: bench.disk.list(missing),
        lambda: bench.disk.sync_dir(missing),
        lambda: bench.disk.create(missing + "/below"),
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError):
            call()


def test_directories_are_made_with_their_parents(bench: Bench) -> None:
    bench.disk.make_dirs(bench.path("x/y/z"))
    bench.disk.make_dirs(bench.path("x/y/z"))
    assert bench.disk.exists(bench.path("x/y"))
    bench.disk.create(bench.path("x/y/z/file")).close()
    assert bench.disk.list(bench.path("x/y/z")) == ["file"]


def test_a_closed_file_is_not_written(bench: Bench) -> None:
    file = bench.disk.create(bench.path("a"))
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.append(b"x")


def test_a_lock_is_held_by_one(bench: Bench) -> None:
    lock = bench.disk.lock(bench.path("lock"))
    with pytest.raises(BlockingIOError):
        bench.disk.lock(bench.path("lock"))
    lock.release()
    lock.release()
    bench.disk.lock(bench.path("lock")).release()


def test_jobs_run_in_order_and_tell_their_ends(bench: Bench) -> None:
    seen: list[object] = []
    for number in range(3):
        bench.disk.submit(partial(seen.append, number), lambda error: seen.append(error))
    bench.settle()
    assert [item for item in seen if item is not None] == [0, 1, 2]
    assert seen.count(None) == 3


def test_a_job_that_fails_tells_why(bench: Bench) -> None:
    errors: list[BaseException | None] = []

    def work() -> None:
        raise OSError(errno.EIO, "broken")

    bench.disk.submit(work, errors.append)
    bench.disk.submit(lambda: None, errors.append)
    bench.settle()
    assert isinstance(errors[0], OSError)
    assert errors[1:] == [None]


def test_draining_waits_for_the_work(bench: Bench) -> None:
    seen: list[int] = []
    bench.disk.submit(lambda: seen.append(1), lambda error: seen.append(2))
    bench.disk.drain()
    assert seen[:1] == [1]
    bench.settle()
    assert seen == [1, 2]


# The real one


def test_the_real_disk_works_on_one_other_thread(tmp_path: Path) -> None:
    bench, disk = real_bench(str(tmp_path))
    bench.settle()  # nothing to wait for yet
    threads: list[str] = []
    for _ in range(2):
        disk.submit(lambda: threads.append(threading.current_thread().name), lambda error: None)
    disk.close()
    assert threads == ["coati-disk"] * 2
    disk.close()


def test_the_real_disk_goes_on_when_nobody_listens_any_more(tmp_path: Path) -> None:
    def post(callback: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    disk = RealDisk(post)
    seen: list[int] = []
    disk.submit(lambda: seen.append(1), lambda error: None)
    disk.submit(lambda: seen.append(2), lambda error: None)
    disk.close()
    assert seen == [1, 2]


def test_symbolic_links_and_directories_are_no_files(tmp_path: Path) -> None:
    bench, disk = real_bench(str(tmp_path))
    (tmp_path / "target").write_bytes(b"x")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "dir").mkdir()
    assert [disk.is_file(bench.path(name)) for name in ("target", "link", "dangling", "dir")] == [
        True,
        False,
        False,
        False,
    ]
    assert disk.exists(bench.path("dangling"))
    for call in (disk.open_read, disk.open_append):
        with pytest.raises(OSError, match="symbolic link"):
            call(bench.path("link"))


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A write across it is short, and the next one fails: what a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_short_write_ends_in_the_reason(tmp_path: Path) -> None:
    _, disk = real_bench(str(tmp_path))
    file = disk.create(str(tmp_path / "a"))
    with file_size_limit(1000):
        with pytest.raises(OSError, match="File too large") as caught:
            file.append(b"x" * 1500)
        assert caught.value.errno == errno.EFBIG
        with pytest.raises(OSError, match="File too large"):
            file.allocate(2000)
    file.close()
    assert (tmp_path / "a").stat().st_size == 1000


def test_a_write_that_goes_on_after_a_short_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, disk = real_bench(str(tmp_path))
    file = disk.create(str(tmp_path / "a"))
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:7], offset))
    data = Random(1).randbytes(100)
    file.append(data)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 0)
    with pytest.raises(OSError, match="wrote 0 of 5 bytes"):
        file.append(b"12345")
    assert (tmp_path / "a").read_bytes() == data


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EINVAL])
def test_without_fallocate_the_space_is_a_hole_as_in_java(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(fd: int, offset: int, size: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    _, disk = real_bench(str(tmp_path))
    file = disk.create(str(tmp_path / "a"))
    file.allocate(5000)
    assert (tmp_path / "a").read_bytes() == bytes(5000)
    monkeypatch.setattr("coati.storage.disk._HAS_FALLOCATE", False)
    file.allocate(6000)
    assert (tmp_path / "a").read_bytes() == bytes(6000)


# The simulated one


def test_what_was_not_synced_may_be_lost() -> None:
    disk = SimDisk()
    disk.make_dirs("/d")
    file = disk.create("/d/a")
    file.append(b"durable")
    file.sync()
    disk.sync_dir("/d")
    file.append(b"volatile")
    disk.create("/d/b")
    kept, lost = disk.clone(), disk.clone()
    kept.crash(Random(1), "keep")
    lost.crash(Random(1), "lose")
    assert kept.get("/d/a") == b"durablevolatile"
    assert kept.list("/d") == ["a", "b"]
    assert lost.get("/d/a") == b"durable"
    assert lost.list("/d") == ["a"]
    assert disk.get("/d/a") == b"durablevolatile"


def test_a_synced_file_in_a_directory_that_was_not_may_be_lost() -> None:
    disk = SimDisk()
    disk.make_dirs("/d")
    file = disk.create("/d/a")
    file.append(b"x")
    file.sync()
    disk.crash(Random(1), "lose")
    assert disk.list("/d") == []


def test_renames_and_removals_that_were_not_synced_may_be_undone() -> None:
    disk = SimDisk()
    for name in ("a", "b"):
        disk.put(f"/d/{name}", name.encode())
    disk.rename("/d/a", "/d/c")
    disk.remove("/d/b")
    disk.crash(Random(1), "lose")
    assert disk.list("/d") == ["a", "b"]
    disk.rename("/d/a", "/d/c")
    disk.sync_dir("/d")
    disk.crash(Random(1), "lose")
    assert disk.list("/d") == ["b", "c"]


def test_crashes_keep_lose_and_tear_in_every_combination() -> None:
    contents: dict[bytes, None] = {}
    for seed in range(300):
        disk = SimDisk()
        disk.put("/d/a", b"")
        file = disk.open_append("/d/a")
        file.append(b"12")
        file.append(b"34")
        disk.crash(Random(seed))
        contents[disk.get("/d/a")] = None
    assert {b"", b"1", b"12", b"123", b"1234", b"\x00\x0034", b"\x00\x003", b"1\x0034"} <= contents.keys()


def test_sectors_survive_by_themselves() -> None:
    found: dict[bytes, None] = {}
    for seed in range(50):
        disk = SimDisk()
        disk.put("/d/a", bytes(2048))
        file = disk.open_append("/d/a")
        file.write_at(500, b"x" * 1000)
        file.truncate(1600)
        disk.crash(Random(seed), "sectors")
        data = disk.get("/d/a")
        assert len(data) in (1600, 2048)
        found[data[500:1500].replace(b"x" * 512, b"S").replace(bytes(512), b"-")] = None
    assert len(found) == 8


def test_a_failed_sync_does_not_become_durable_later() -> None:
    disk = SimDisk()
    disk.put("/d/a", b"")
    file = disk.open_append("/d/a")
    file.append(b"lost")
    disk.fail("sync", 1, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    file.sync()
    assert disk.get("/d/a") == b"lost"
    disk.crash(Random(1), "lose")
    assert disk.get("/d/a") == b""


def test_errors_come_at_the_call_they_were_asked_for() -> None:
    disk = SimDisk()
    disk.put("/d/a", b"")
    disk.put("/d/b", b"")
    disk.fail("write", 2, errno.ENOSPC, where="a", written_bytes=2)
    a, b = disk.open_append("/d/a"), disk.open_append("/d/b")
    a.append(b"12")
    b.append(b"12")
    with pytest.raises(OSError, match="No space left"):
        a.append(b"3456")
    assert disk.get("/d/a") == b"1234"
    a.append(b"56")
    assert disk.get("/d/a") == b"123456"
    calls: dict[str, Callable[[], None]] = {"allocate": lambda: a.allocate(100), "truncate": lambda: a.truncate(1)}
    for kind, call in calls.items():
        disk.fail(kind, 1, errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            call()
    disk.fail("read", 1, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        disk.open_read("/d/a").read(1)


def test_power_is_cut_before_the_call_that_was_named() -> None:
    disk = SimDisk()
    disk.put("/d/a", b"")
    disk.crash_at = 2
    file = disk.open_append("/d/a")
    file.append(b"1")
    with pytest.raises(PowerCut):
        file.append(b"2")
    for call in (lambda: file.append(b"3"), file.sync, lambda: disk.remove("/d/a")):
        with pytest.raises(PowerCut):
            call()
    disk.crash(Random(1), "keep")
    assert disk.get("/d/a") == b"1"
    with pytest.raises(OSError, match="Bad file"):
        file.append(b"of an earlier life")


def test_a_killed_process_loses_its_jobs_and_locks_but_no_data() -> None:
    disk = SimDisk()
    disk.put("/d/a", b"")
    disk.lock("/d/lock")
    disk.open_append("/d/a").append(b"written")
    disk.submit(lambda: disk.remove("/d/a"), lambda error: None)
    disk.kill()
    disk.run()
    disk.lock("/d/lock")
    assert disk.get("/d/a") == b"written"


def test_a_simulation_runs_the_jobs_when_it_likes() -> None:
    agenda: list[Callable[[], None]] = []
    disk = SimDisk(agenda.append)
    seen: list[str] = []
    disk.submit(lambda: seen.append("work"), lambda error: seen.append("done"))
    assert seen == []
    disk.drain()
    assert seen == ["work"]
    for job in agenda:
        job()
    assert seen == ["work", "done"]
    agenda[0]()
    assert seen == ["work", "done"]


def test_directories_and_links_can_be_put_there() -> None:
    disk = SimDisk()
    disk.put("/d/log.5", b"", kind="dir")
    assert not disk.is_file("/d/log.5")
    disk.put("/d/log.6", b"")
    assert disk.is_file("/d/log.6")
