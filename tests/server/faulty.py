"""`python faulty.py MISTAKE serve ...`: a server process with one planted mistake, for the storm to find.

Only the disk and the log are replaced, which are plain Python on every build.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

from coati.cli.main import main
from coati.storage.disk import RealDisk, RealFile
from coati.storage.txnlog import Entry, LogReader

_submit = RealDisk.submit
_batches = LogReader.batches


def submit_and_say_done(self: RealDisk, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
    """What the worker is given counts as done, and the worker is slow."""
    never = threading.Event()

    def slow() -> None:
        never.wait(0.05)
        work()

    _submit(self, slow, lambda error: None)
    self._post(partial(done, None))


def batches_but_the_last(self: LogReader) -> Iterator[list[Entry]]:
    """Recovery forgets the newest txn."""
    previous: list[Entry] = []
    for batch in _batches(self):
        if previous:
            yield previous
        previous = batch
    if len(previous) > 1:
        yield previous[:-1]


def no_sync(self: RealFile) -> float:
    """What is written is left to the kernel."""
    return 0.0


if __name__ == "__main__":
    mistake = sys.argv.pop(1)
    if mistake == "answers-first":
        RealDisk.submit = submit_and_say_done  # type: ignore[method-assign]  # the mistake
    elif mistake == "forgets-the-last":
        LogReader.batches = batches_but_the_last  # type: ignore[method-assign]  # the mistake
    elif mistake == "never-syncs":
        RealFile.sync = no_sync  # type: ignore[method-assign]  # the mistake
    sys.exit(main())
