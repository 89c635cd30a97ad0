"""What several files of these tests need: waiting for a condition, and an interrupt at the right moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

LONG_S = 20.0
POLL_S = 0.001


def until(condition: Callable[[], bool]) -> None:
    """Returns when it holds; fails after LONG_S."""
    pause = threading.Event()
    deadline = monotonic() + LONG_S
    while not condition():
        assert monotonic() < deadline, "it never came to that"
        pause.wait(POLL_S)


@contextmanager
def interrupted_when(condition: Callable[[], bool]) -> Iterator[None]:
    """In the block, KeyboardInterrupt comes to the main thread once the condition holds."""

    def interrupt() -> None:
        until(condition)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    try:
        yield
    finally:
        helper.join()
