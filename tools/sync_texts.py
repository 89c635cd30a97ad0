"""What tools/gen_sync.py cannot take from the async classes: methods written by hand, and docstrings of their own."""

from __future__ import annotations

from typing import Final

CLIENT_DOC: Final = """\
    \"\"\"A ZooKeeper session for threads, any number of them: `with coati.sync.Client("h1,h2/app") as zk:`.

    All arguments are those of coati.Client, and so are the verbs: each waits. Interrupted, by KeyboardInterrupt say, it
    is cancelled first. Functions that are given to the client run on the thread that calls, but for `on_loss`.
    \"\"\"
"""
CLIENT_WRITTEN: Final = """\
    @overload
    def value(self, path: str) -> Value[bytes]: ...

    @overload
    def value(self, path: str, codec: ValueCodec[T]) -> Value[T]: ...

    def value(self, path: str, codec: ValueCodec[T] | None = None) -> Value[T] | Value[bytes]:
        \"\"\"A value that is changed by comparing, and watched; bytes without a codec.\"\"\"
        if codec is None:
            return Value(self._it.value(path), self._on)
        return Value(self._it.value(path, codec), self._on)
"""
LOST_WRITTEN: Final = """\
    @property
    def lost(self) -> Steps[str]:
        \"\"\"Tells, each time, why the znode had to be made again; asked for anew, from then on.\"\"\"
        return Steps(aiter(self._it.lost), self._on)
"""
ONCE_WRITTEN: Final = """\
    def run(self, key: str, job: Callable[[], None]) -> bool:
        \"\"\"Runs the job, here, if the key is free; whether it did. If the job raises, the key has failed.\"\"\"
        return self._serve(self._it.run(key, lambda: self._called(job)))
"""
SCHEDULER_WRITTEN: Final = """\
    def every(self, interval: float, name: str, job: Callable[[Term], None]) -> None:
        \"\"\"A job for every so many seconds. It is given the term, whose `guard()` belongs into its writes.\"\"\"
        self._it.every(interval, name, lambda term: self._called(lambda: job(Term(term, self._on))))

    def run(self) -> None:
        \"\"\"Stands for the office and runs the jobs, here, whenever it has it; until interrupted.\"\"\"
        self._serve(self._it.run())
"""
JOIN_WRITTEN: Final = """\
    def join(self) -> Block[Member]:
        \"\"\"A member while the block lasts. It may become the master: ask `is_master`, guard what you write.\"\"\"
        return Block(showing(self._it.join(), lambda member: Member(member, self._on)), self._on)
"""
CONFIG_DOC: Final = """\
    \"\"\"The value of one znode, decoded: `with Config(zk, path, from_json(Settings)) as config`.

    `default` holds while the znode is missing; without one, that is an error. `decode` raises ValueError or TypeError
    for what it does not take; it runs on the thread of the loop, so it must not wait.
    \"\"\"
"""
CLAIM_DOC: Final = """\
    \"\"\"Something to hold: `with claim as held:`. The object may be used again, and by several threads.

    `timeout` in seconds bounds the wait: LockTimeout; None waits as long as it takes, over connections and sessions.
    Nothing ends a block that has lost what it relies on: `held.check()` raises LockLost, `held.guard()` makes the
    server refuse what comes too late, and `on_loss` is called, with the LockLost, on a thread of its own while the
    block goes on. `reentrant`: a thread that holds it gets it again at once; otherwise that is a RuntimeError.
    \"\"\"
"""
