"""How long the storage commands take and how much memory: a snapshot of a million znodes, logs of a gigabyte.

Writes both into a temporary directory, runs the commands on them one after the other as processes, prints a line for
each, and removes the directory. The logs are read once before, so that the disk is not what is measured.
Command line: `python tools/measure_offline.py [--znodes 1000000] [--log-mb 1000] [--data-bytes 128]`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from struct import pack
from typing import Final

from coati.storage import format
from coati.storage.disk import RealDisk
from coati.storage.snapshot import SnapshotFile
from coati.wire.codes import OP_SET_DATA
from coati.wire.txns import SetDataTxn, TxnHeader, encode_txn

FANOUT: Final = 1000
LOG_BYTES: Final = 64 << 20
SESSION: Final = 0x1000020FEE00000
NOW_MS: Final = 1_700_000_000_000
SLICE: Final = 10_000
MB: Final = 1_000_000


def write_snapshot(directory: Path, znodes: int, data_bytes: int, compression: str) -> Path:
    """Inner znodes of a thousand children each, below the root."""
    file = SnapshotFile(RealDisk(lambda callback: None), str(directory), 0, compression)
    file.write([format.encode_snapshot_head({SESSION: 30_000}, {})])
    dice = Random(1)
    stat = pack(">qqqqiiiqq", 0, 0, NOW_MS, NOW_MS, 0, 0, 0, 0, 0)
    parts = [pack(">iiq", 0, 0, -1) + stat]
    count = 1
    while count < znodes:
        inner = b"/services-%d" % (count // FANOUT)
        paths = [inner, *(inner + b"/instance-%010d" % at for at in range(min(FANOUT, znodes - count - 1)))]
        for path in paths:
            data = dice.randbytes(data_bytes // 2).hex().encode()
            parts += (pack(">i", len(path)), path, pack(">i", len(data)), data, pack(">q", -1), stat)
        count += len(paths)
        if len(parts) > SLICE:
            file.write([b"".join(parts)])
            parts = []
    file.write([b"".join(parts)])
    file.finish(None, None)
    return directory / file.name


def write_logs(directory: Path, total_bytes: int, data_bytes: int) -> int:
    """setData of one znode after the other; the number of txns."""
    zxid = written = 0
    data = Random(2).randbytes(data_bytes)
    while written < total_bytes:
        with (directory / format.log_name(zxid + 1)).open("wb") as file:
            file.write(format.encode_log_header())
            size = 0
            while size < LOG_BYTES:
                payloads = []
                for _ in range(1000):
                    zxid += 1
                    header = TxnHeader(SESSION, zxid & 0xFFFF, zxid, NOW_MS + zxid, OP_SET_DATA)
                    path = b"/services-%d/instance-%010d" % (zxid % 997, zxid % 9973)
                    payloads.append(encode_txn(header, SetDataTxn(path, data, zxid), None))
                chunk = format.encode_entries(payloads)
                size += len(chunk)
                file.write(chunk)
            written += size
    return zxid


def measure(*argv: str) -> tuple[float, float, float]:
    """Seconds, those of the processor, and MB of memory at most, of a command as a process."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "coati", *argv], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 9):
        raise SystemExit(f"coati {' '.join(argv)} ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def show(what: str, bytes_read: int, *argv: str) -> None:
    """Runs and prints one."""
    seconds, cpu, memory_mb = measure(*argv)
    speed = f"{bytes_read / MB / seconds:6.0f} MB/s"
    print(f"{what:<28} {seconds:7.2f} s {speed} {cpu:7.2f} s of processor {memory_mb:6.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--log-mb", type=int, default=1000)
    parser.add_argument("--data-bytes", type=int, default=128)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="coati-offline-"))
    try:
        for compression in ("", "gz"):
            path = str(write_snapshot(directory, options.znodes, options.data_bytes, compression))
            size = os.path.getsize(path)
            print(f"{path.rpartition('/')[2]}: {options.znodes} znodes, {size / MB:.0f} MB")
            show("snap ls", size, "snap", "ls", path)
            show("snap verify", size, "snap", "verify", path)
            show("snap dump", size, "snap", "dump", path)
            show("snap dump -o jsonl --data", size, "-o", "jsonl", "snap", "dump", path, "--data")
            for by in ("bytes", "children", "subtree"):
                show(f"snap top --by {by}", size, "snap", "top", path, "--by", by)
            show("snap diff (with itself)", 2 * size, "snap", "diff", path, path)
        txns = write_logs(directory, options.log_mb * MB, options.data_bytes)
        size = sum(path.stat().st_size for path in directory.glob("log.*"))
        print(f"logs: {txns} txns, {size / MB:.0f} MB")
        where = str(directory)
        rare = "/services-3/instance-0000000003"
        show("log ls", size, "log", "ls", where)
        show("log history", size, "log", "history", rare, where)
        show("log verify", size, "log", "verify", where)
        show("log dump --session (none)", size, "log", "dump", where, "--session", "0x5")
        show("log dump (all)", size, "log", "dump", where)
        show("log replay (all)", size, "log", "replay", where, "--until", hex(txns))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
