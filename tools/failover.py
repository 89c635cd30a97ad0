"""How long an ensemble cannot be written to after its leader was killed: coati and Java, started the same way.

A client writes to the survivors, one after the other, until one says yes; then the dead server is started again.
Command line: `python -m tools.failover --trials 30` prints median and worst of each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.interop import raw
from tests.interop.peers import HOST
from tools import javapeer
from tools.ensemble import Ensemble

# What servers come with when nobody says otherwise.
CFG: Final = {"tickTime": "2000", "initLimit": "10", "syncLimit": "5", "minSessionTimeout": "4000"}
ATTEMPT_S: Final = 5.0
LONGEST_S: Final = 60.0


def writes(port: int) -> bool:
    """Whether a new client gets a write done."""
    try:
        with raw.Session(HOST, port, deadline_s=ATTEMPT_S) as session:
            return session.call(raw.SET_DATA, raw.set_data("/", b"x"))[0] == 0
    except (raw.Closed, raw.Silent, raw.Expired, OSError):
        return False


def failover(ensemble: Ensemble) -> float:
    """Kills the leader; seconds until a write is acknowledged. The leader is there again afterwards."""
    leader = ensemble.leader
    ports = [ensemble.ports[sid][0] for sid in ensemble.followers]
    ensemble.wait(lambda: all(writes(port) for port in ports) or None, "writes")
    started = time.monotonic()
    ensemble.members[leader].kill9()
    ensemble.wait(lambda: any(writes(port) for port in ports) or None, "a write after the kill", LONGEST_S)
    took = time.monotonic() - started
    ensemble.launch(leader)
    ensemble.wait_all()
    return took


def main(argv: Sequence[str] | None = None) -> int:
    """Measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--kinds", nargs="*", default=["coati", "3.9.3"])
    options = parser.parse_args(argv)
    for kind in options.kinds:
        missing = None if kind == "coati" else javapeer.why_missing(kind)
        if missing is not None:
            print(f"{kind}: {missing}")
            continue
        with (
            tempfile.TemporaryDirectory(prefix="failover-") as scratch,
            Ensemble(Path(scratch), kind, cfg=CFG, log_level="warning") as ensemble,
        ):
            times = [failover(ensemble) for _ in range(options.trials)]
        median, worst = statistics.median(times) * 1000, max(times) * 1000
        print(f"{kind}: {len(times)} kills of the leader, median {median:.0f} ms, worst {worst:.0f} ms", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
