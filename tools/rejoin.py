"""How long a server with a million znodes is away that gets them all as a snapshot of its leader (SNAP).

    python -m tools.rejoin                                     coati from coati
    python -m tools.rejoin --leader 3.9.3                      coati from Java
    python -m tools.rejoin --follower 3.9.3 --old              Java from coati, with a tree of its own that is old

Three members, tickTime 2000, initLimit 10 and syncLimit 5, as ZooKeeper's sample configuration has them. Two have the
tree and lead; the third joins. Meanwhile the leader is written to, and all that a follower must go on doing is asked
for every 20 ms: four-letter words. Prints a line, and the slowest answers.
"""

from __future__ import annotations

import argparse
import re
import shutil
import struct
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final

from coati.core.export import Export
from coati.core.tree import TreeConfig, pristine
from coati.server.recovery import load
from coati.storage.disk import RealDisk
from coati.storage.store import Store, StoreConfig
from tests.interop import raw
from tests.interop.ensembles import COATI, Ensemble, Member
from tests.interop.peers import HOST, eventually
from tools.javapeer import four_letter

CFG: Final = {"tickTime": "2000", "initLimit": "10", "syncLimit": "5"}
JVM: Final = ("-Xmx3g", "-XX:+UseSerialGC", "-Xshare:auto")
DATA_BYTES: Final = 100
PER_PARENT: Final = 1000
SLICE: Final = 5000
PAUSE_S: Final = 0.02
LIMIT_S: Final = 300.0
EPOCH: Final = 1 << 32
_SNAPSHOT: Final = re.compile(r"snapshot of the leader installed|Getting a snapshot from leader")
_STAT: Final = struct.Struct(">qqqqiiiqq")


def fill(directory: Path, znodes: int, zxid: int) -> None:
    """A data directory with one snapshot at `zxid`."""
    store = Store(RealDisk(lambda callback: callback()), StoreConfig(str(directory)))
    config = TreeConfig()
    load(store, config, is_alone=False)
    export = Export(pristine(config), {})
    head = b"".join(iter(lambda: export.next_slice(SLICE), b""))
    store.write_snapshot(zxid, export.sessions, export.acls, [head, *slices(znodes)], None)
    store.close()
    (directory / "version-2" / "snapshot.0").unlink()


def slices(znodes: int) -> Iterator[bytes]:
    """Serialised znodes: parents with `PER_PARENT` children each."""
    data = struct.pack(">i", DATA_BYTES) + bytes(DATA_BYTES) + struct.pack(">q", -1)
    parts: list[bytes] = []
    for number in range(znodes):
        parent = b"/p%06d" % (number // PER_PARENT)
        name = parent if number % PER_PARENT == 0 else b"%s/n%09d" % (parent, number)
        children = min(PER_PARENT, znodes - number) - 1 if name is parent else 0
        stat = _STAT.pack(number + 1, number + 1, 0, 0, 0, children, 0, 0, number + 1 + children)
        parts += (struct.pack(">i", len(name)), name, data, stat)
        if len(parts) >= SLICE:
            yield b"".join(parts)
            parts.clear()
    yield b"".join(parts)


class Asking(threading.Thread, ABC):
    """Asks for something again and again; `slowest_ms` is the worst answer, `failed` what was not answered."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.slowest_ms = 0.0
        self.count = 0
        self.failed = 0
        self._ends = threading.Event()

    @abstractmethod
    def ask(self) -> None:
        """Once; what is not answered raises OSError, Closed or Silent."""

    def run(self) -> None:
        while not self._ends.wait(PAUSE_S):
            began = perf_counter()
            try:
                self.ask()
            except (OSError, raw.Closed, raw.Silent):
                self.failed += 1
                continue
            self.count += 1
            self.slowest_ms = max(self.slowest_ms, (perf_counter() - began) * 1000)

    def end(self) -> str:
        self._ends.set()
        self.join()
        return f"{self.name}: {self.count} answers, slowest {self.slowest_ms:.0f} ms, {self.failed} failed"


class Words(Asking):
    """Four-letter words of a member."""

    def __init__(self, member: Member) -> None:
        super().__init__(f"words of {member.sid}")
        self._member = member

    def ask(self) -> None:
        four_letter(HOST, self._member.port, "ruok", timeout_s=60.0)


class Writes(Asking):
    """Writes of one session."""

    def __init__(self, session: raw.Session) -> None:
        super().__init__("writes")
        self._session = session

    def ask(self) -> None:
        error, _ = self._session.call(raw.CREATE, raw.create(f"/w{self.count}", b"x"))
        assert error == 0, error


def peak_mb(pid: int) -> int:
    """The most memory that a process ever had."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) // 1024


def rejoin(base: Path, follower: str, leader: str, znodes: int, *, has_old: bool) -> str:
    """One join; what was measured."""
    with Ensemble(base, (follower, leader, leader), cfg=CFG, jvm=JVM) as ensemble:
        fill(base / "2", znodes, EPOCH + znodes)
        shutil.copytree(base / "2", base / "3")
        if has_old:
            fill(base / "1", znodes, EPOCH + znodes - 5)
        ensemble.start(2, 3)
        late = ensemble[1]
        session = ensemble.session(3)
        asking: list[Asking] = [Writes(session)]
        began = monotonic()
        late.launch()
        eventually(lambda: answers(late), "it answers", LIMIT_S)
        up_s = monotonic() - began
        asking.append(Words(late))
        for one in asking:
            one.start()
        eventually(lambda: late.mode() is not None or not late.is_running, "it serves", LIMIT_S)
        assert late.is_running, late.log()
        took_s = monotonic() - began
        said = [one.end() for one in asking]
        assert _SNAPSHOT.search(late.log()), "it should have got a snapshot"
        session.close()
        joins = sum(line.count("role state=") or line.count("LOOKING") for line in late.log().splitlines())
        return (
            f"{follower} from {leader}{' over an old tree' if has_old else ''}, {znodes} znodes: serves after "
            f"{took_s:.1f} s, of which {up_s:.1f} s until it answered; peak {peak_mb(late.server.pid)} MB, leader "
            f"{peak_mb(ensemble[3].server.pid)} MB; {'; '.join(said)}; {joins} lines on roles"
        )


def answers(member: Member) -> bool:
    try:
        return bool(four_letter(HOST, member.port, "ruok"))
    except OSError:
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--follower", default=COATI)
    parser.add_argument("--leader", default=COATI)
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--old", action="store_true", help="the follower has an old tree of the same size")
    parser.add_argument(
        "--dir", type=Path, default=None, help="where the data goes; a temporary directory if not given"
    )
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="rejoin-", dir=options.dir) as scratch:
        print(rejoin(Path(scratch), options.follower, options.leader, options.znodes, has_old=options.old))
    return 0


if __name__ == "__main__":
    sys.exit(main())
