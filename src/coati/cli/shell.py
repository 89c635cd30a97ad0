"""`coati sh`: one session for its whole life, in which commands run one after the other.

Knows the session, where it stands in the tree, what failed last and what runs in the background. Must not know
terminals: a Front shows what comes by itself (`terminal` for a person, `sh` for scripts). Commands are those of the
table, then those of the Java shell (`javashell`), then its own. What parses in coati's grammar is coati's; else, where
the Java shell has a command of that name, it is Java's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol, cast

from coati.cli import javashell
from coati.cli.command import Call, Command, Streams, failed
from coati.cli.errorhelp import EXITS, help_of
from coati.cli.exits import (
    BROKEN_PIPE,
    CONFLICT,
    DONE,
    INTERRUPTED,
    MISSING,
    NO_CONNECTION,
    SIGNAL,
    USAGE,
    CommandError,
)
from coati.cli.javashell import JavaCommand, Told
from coati.cli.javawatches import JavaWatches
from coati.cli.journal import Journal, JournalClient
from coati.cli.line import Line, parsed
from coati.cli.main import find, split
from coati.cli.offers import Offers, flags_in
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.sinks import Lines, Pipe, Texts
from coati.cli.table import GROUPS, commands
from coati.client.ops import MultiError
from coati.client.types import State, StateChange
from coati.errors import ZKError

SESSION_TIMEOUT_S: Final = 30.0
"""As the Java shell's: a question to a person takes its time."""
ROLE_S: Final = 1.0
HISTORY_SHOWN: Final = 10
LONGEST_WORD: Final = 1 << 16

# Where the flags are kept that say which server (add_target_flags).
_TARGET: Final = ("server", "context", "timeout", "auth", "tls_ca", "tls_cert", "tls_key", "read_only")
# Their changes are the user's own; those of recipes are theirs.
_UNDOABLE: Final = ("data", "access and quotas")
_SECRET: Final = re.compile(r"\s|(addauth|auth)\s|.*(\s--auth\b|COATI_AUTH)", re.DOTALL)
_MODE: Final = re.compile(r"^Mode: (\S+)", re.MULTILINE)


class Front(Protocol):
    """Who shows what comes by itself, while a line is typed or a command runs."""

    def say(self, line: str) -> None:
        """What was asked for: an event."""

    def note(self, line: str) -> None:
        """What happened besides."""

    def refresh(self) -> None:
        """The prompt has changed."""

    def interrupts(self, cancel: Callable[[], object]) -> AbstractContextManager[object]:
        """In this block Ctrl-C calls it."""


@dataclass(frozen=True, slots=True)
class Own:
    """A command of the shell itself."""

    usage: str
    summary: str
    body: Callable[[OnlineCall, list[str]], Awaitable[int | None]]
    most: int = 0
    least: int = 0


@dataclass(slots=True)
class Job:
    """What runs in the background."""

    number: int
    line: str
    words: list[str]
    task: asyncio.Task[None]


Work = Callable[[], Awaitable[int | None]]


class Shell:
    """What a line means. `run` takes one after the other."""

    def __init__(self, call: OnlineCall, front: Front, *, is_java: bool = False) -> None:
        self.front = front
        self.client: JournalClient | None = None
        self.cwd = "/"
        self.role = ""
        self.is_over = False
        self.error: Exception | None = None
        self.code = DONE
        self.history: list[str] = []
        self.journal = Journal()
        self._call = call
        self._is_java = is_java
        self._jobs: dict[int, Job] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._watches = JavaWatches(front.say, self._spawn)
        self._own = self._own_commands()
        self.offers = Offers(self.names, self.flags, self._where, lambda: self.client)

    # --- life -------------------------------------------------------------------------------------

    async def connect(self, hosts: str | None = None) -> None:
        """A new session, in place of the one there was. Raises what the client says."""
        await self.close()
        if hosts is not None:
            self._call.options.server = hosts
        target = self._call.target()
        client = JournalClient(
            target.hosts, session_timeout=max(target.timeout, SESSION_TIMEOUT_S), timeout=target.timeout,
            auth=target.auth, tls=target.tls, read_only=target.read_only, name="coati-sh",
        )  # fmt: skip
        client.journal = self.journal
        await client.start(timeout=target.timeout)
        self.client = client
        await self._ask_role(client)
        self._spawn(self._follow_states(client))

    async def close(self) -> None:
        """Ends the session, and what runs in the background on it."""
        for job in list(self._jobs.values()):
            job.task.cancel()
        self._watches.close()
        client, self.client, self.role = self.client, None, ""
        if client is not None:
            await client.aclose()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _follow_states(self, client: JournalClient) -> None:
        is_first = True
        async for change in client.states():
            if not is_first and (line := told_change(change)):
                if change.state in (State.CONNECTED, State.READ_ONLY):
                    await self._ask_role(client)
                self.front.note(line)
                self.front.refresh()
            is_first = False

    async def _ask_role(self, client: JournalClient) -> None:
        self.role = "" if self._call.target().tls is not None else await role_of(client.session.server)

    @property
    def prompt(self) -> str:
        """Where commands go, and from where."""
        client = self.client
        if client is None:
            return f"not connected {self.cwd} > "
        state = client.session.state
        role = self.role if state in (State.CONNECTED, State.READ_ONLY) else state.value
        return f"{client.session.server}{f'({role})' if role else ''} {self.cwd} > "

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    # --- lines ------------------------------------------------------------------------------------

    async def run(self, text: str) -> int:
        """One line, to its end; its exit code. Raises nothing."""
        text = text.strip()
        if not text or text.startswith("#"):
            return DONE
        self.history.append(text)
        self.code = await self._foreground(self._line(text))
        return self.code

    async def _foreground(self, work: Coroutine[object, object, int]) -> int:
        """Ctrl-C ends the command, not the shell."""
        task = asyncio.get_running_loop().create_task(work)
        with self.front.interrupts(task.cancel):
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                task.cancel()
                await asyncio.wait({task})
                raise
        return INTERRUPTED if task.cancelled() else task.result()

    async def _line(self, text: str) -> int:
        """Its task's own context is where the journal keeps what this line changes."""
        streams = self._call.streams
        try:
            line = parsed(text)
            if line.is_background:
                self._background(line, text)
                return DONE
            if line.pipe is not None:
                return await self._piped(line, text)
            if line.file is not None:
                return await self._to_file(line, text)
            return await self._command(line.words, streams, text)
        except Exception as error:
            return self._failed(self._plain_call("sh", streams), error)

    async def _to_file(self, line: Line, text: str) -> int:
        assert line.file is not None
        mine = self._call.streams
        with _opened(line.file, "ab" if line.appends else "wb") as file:
            return await self._command(line.words, Streams(mine.stdin, file, mine.stderr, is_asked=mine.is_asked), text)

    async def _piped(self, line: Line, text: str) -> int:
        assert line.pipe is not None
        mine = self._call.streams
        mine.stdout.flush()
        child = await asyncio.create_subprocess_shell(line.pipe, stdin=asyncio.subprocess.PIPE)
        assert child.stdin is not None
        sink = Pipe(child.stdin)
        try:
            code = await self._command(line.words, Streams(mine.stdin, sink, mine.stderr), text)
            sink.finish()
            ended = await child.wait()
        finally:
            if child.returncode is None:
                child.terminate()
                await child.wait()
        if code not in (DONE, BROKEN_PIPE):
            return code
        return ended if ended >= 0 else SIGNAL - ended

    def _background(self, line: Line, text: str) -> None:
        if line.pipe is not None or line.file is not None:
            raise CommandError("what runs in the background goes neither through a pipe nor into a file", USAGE)
        number = max(self._jobs, default=0) + 1
        streams = Streams(io.BytesIO(), Lines(self.front.say), Texts(self.front.note))
        call, work = self._found(line.words, streams)
        if not isinstance(call, OnlineCall) or line.words[0] in self._own:
            raise CommandError(f"{line.words[0]} does not run in the background", USAGE)

        async def run() -> None:
            code = await self._performed(call, work)
            del self._jobs[number]
            self.front.note(f"[{number}] {text} has ended" + (f" with exit code {code}" if code else ""))

        self._jobs[number] = Job(number, text, line.words, self._spawn(run()))
        self.front.note(f"[{number}] in the background; unwatch {number} ends it")

    async def _command(self, words: list[str], streams: Streams, text: str) -> int:
        try:
            call, work = self._found(words, streams)
        except CommandError as error:
            return self._failed(self._plain_call(words[0] if words else "sh", streams), error)
        if self._is_undoable(words):
            self.journal.begin(text)
        try:
            return await self._performed(call, work)
        finally:
            self.journal.end()

    async def _performed(self, call: Call, work: Work) -> int:
        try:
            code = await work()
            call.out.flush()
        except BrokenPipeError:
            return BROKEN_PIPE
        except Told as told:
            self.error = told.error
            return told.code
        except Exception as error:
            return self._failed(call, error)
        return DONE if code is None else code

    def _failed(self, call: Call, error: Exception) -> int:
        self.error = error
        return failed(call, error)

    # --- commands ---------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """All that may begin a line."""
        return sorted(dict.fromkeys((*self._own, *javashell.COMMANDS, *(name for name in commands() if name != "sh"))))

    def flags(self, name: str) -> list[str]:
        """Of a command: coati's and Java's."""
        command, java = table_command(name), javashell.COMMANDS.get(name)
        own = flags_in(plain_parser(command)._option_string_actions) if command is not None else []
        if java is None:
            return own
        return sorted(dict.fromkeys((*own, *(f"-{flag}" for flag in (*java.flags, *java.valued)))))

    def _where(self, given: str) -> str:
        return self._plain_call("sh", self._call.streams).path(given)

    def _is_undoable(self, words: list[str]) -> bool:
        name = split(words)[1][:1]
        return bool(name) and (
            any(name[0] in GROUPS[group] for group in _UNDOABLE)
            or (name[0] in javashell.COMMANDS and name[0] not in commands())
        )

    def _plain_call(self, name: str, streams: Streams) -> OnlineCall:
        """For what has no flags."""
        return self._placed(OnlineCall(name, argparse.Namespace(quiet=False, verbose=False), streams, self.client))

    def _placed(self, call: OnlineCall) -> OnlineCall:
        call.cwd = self.cwd
        call.environ = self._call.environ
        return call

    def _found(self, words: list[str], streams: Streams) -> tuple[Call, Work]:
        """What the words mean. Raises CommandError."""
        leading, rest = split(words)
        if not rest:
            raise CommandError("a command is missing", USAGE)
        name, arguments = rest[0], rest[1:]
        java = javashell.COMMANDS.get(name)
        if name in self._own:
            return self._own_work(name, arguments, streams)
        command = table_command(name)
        if command is None and java is None:
            raise CommandError(f"there is no command {name!r} here; help shows what there is", USAGE)
        if java is not None and (command is None or self._is_java):
            return self._java_work(name, java, java.parsed(arguments), streams)
        assert command is not None
        try:
            return self._table_work(command, [*leading, *arguments], streams)
        except CommandError:
            if java is None:
                raise
            try:
                understood = java.parsed(arguments)
            except CommandError:
                understood = None
            if understood is None:
                raise
            return self._java_work(name, java, understood, streams)

    def _own_work(self, name: str, arguments: list[str], streams: Streams) -> tuple[Call, Work]:
        own = self._own[name]
        if not own.least <= len(arguments) <= own.most:
            raise CommandError(f"usage: {own.usage}", USAGE)
        call = self._plain_call(name, streams)
        return call, lambda: own.body(call, arguments)

    def _java_work(
        self, name: str, java: JavaCommand, understood: tuple[dict[str, str], list[str]], streams: Streams
    ) -> tuple[Call, Work]:
        call = self._plain_call(name, streams)
        return call, lambda: javashell.run(java, call, understood, self._watches)

    def _table_work(self, command: Command, argv: Sequence[str], streams: Streams) -> tuple[Call, Work]:
        options = self._options(command, argv, streams)
        if options is None:
            return self._plain_call(command.name, streams), nothing
        if not isinstance(command, OnlineCommand):
            plain = Call(command.name, options, streams, self._call.environ, self.cwd)
            # It may have a loop of its own, and must not keep the session's waiting.
            return plain, lambda: asyncio.to_thread(command.body, plain)
        call = self._placed(OnlineCall(command.name, options, streams, self.client))

        async def work() -> int | None:
            if self.client is None:
                raise CommandError("not connected; connect HOST:PORT connects", NO_CONNECTION)
            return await command.coroutine(call)

        return call, work

    def _options(self, command: Command, argv: Sequence[str], streams: Streams) -> argparse.Namespace | None:
        """None for --help, which has been shown. Raises CommandError with what argparse says."""
        parser = plain_parser(command)
        dests = [action.dest for action in parser._actions]
        asked = {key: value for key, value in vars(self._call.options).items() if key in _TARGET and key not in dests}
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                options: argparse.Namespace = parser.parse_args(list(argv), argparse.Namespace(**asked))
            except SystemExit as end:
                if end.code:
                    said = err.getvalue().strip().rpartition("error: ")[2]
                    raise CommandError(said, USAGE) from None
                streams.stdout.write(out.getvalue().encode())
                return None
        return options

    # --- its own ----------------------------------------------------------------------------------

    def _own_commands(self) -> dict[str, Own]:
        return {
            "cd": Own("cd [PATH]", "stand at a znode; paths are relative to it", self._cd, 1),
            "pwd": Own("pwd", "where you stand", self._pwd),
            "help": Own("help [COMMAND]", "what there is, or about one command", self._help, 1),
            "explain": Own("explain", "what the last error means", self._explain),
            "undo": Own("undo", "take the last change back", self._undo),
            "jobs": Own("jobs", "what runs in the background", self._list_jobs),
            "unwatch": Own("unwatch [N|PATH]", "end what runs in the background: one job, of a path, or all",
                           self._unwatch, 1),
            "connect": Own("connect [HOSTS]", "a new session, with these servers", self._connect, 1),
            "close": Own("close", "end the session", self._close),
            "history": Own("history", "the last lines, with their numbers", self._history),
            "redo": Own("redo N", "run a line of the history again", self._redo, 1, 1),
            "printwatches": Own("printwatches [on|off]", "whether events of the Java shell's watches are shown",
                                self._print_watches, 1),
            "quit": Own("quit", "leave", self._quit),
            "exit": Own("exit", "leave", self._quit),
        }  # fmt: skip

    async def _cd(self, call: OnlineCall, arguments: list[str]) -> None:
        path = call.path(arguments[0] if arguments else "/")
        if self.client is None:
            raise CommandError("not connected; connect HOST:PORT connects", NO_CONNECTION)
        if await self.client.exists(path) is None:
            raise CommandError(f"{path} is not there", MISSING)
        self.cwd = path

    async def _pwd(self, call: OnlineCall, arguments: list[str]) -> None:
        call.out.text(self.cwd)

    async def _help(self, call: OnlineCall, arguments: list[str]) -> None:
        if arguments:
            call.out.text(self._help_of(arguments[0]))
            return
        here = {name: own.summary for name, own in self._own.items()}
        known = {name: entry.summary for name, entry in commands().items() if name != "sh"}
        java = sorted(name for name in javashell.COMMANDS if name not in known)
        width = max(map(len, (*here, *known)))
        for title, entries in (("in the shell", here), ("of coati", known)):
            call.out.text("\n".join([f"{title}:", *(f"  {name:<{width}}  {entries[name]}" for name in entries), ""]))
        call.out.text(f"of the Java shell:\n  {' '.join(java)}")
        call.out.text("\nCOMMAND | PROGRAM, COMMAND > FILE and COMMAND & do what they do elsewhere.")

    def _help_of(self, name: str) -> str:
        found = []
        if name in self._own:
            found.append(f"{self._own[name].usage}: {self._own[name].summary}")
        command = table_command(name)
        if command is not None:
            found.append(plain_parser(command).format_help())
        if name in javashell.COMMANDS:
            found.append(f"of the Java shell: {javashell.COMMANDS[name].usage}")
        if not found:
            raise CommandError(f"there is no command {name!r} here", USAGE)
        return "\n".join(found)

    async def _explain(self, call: OnlineCall, arguments: list[str]) -> None:
        error = self.error
        if error is None:
            call.out.text("Nothing has failed yet.")
            return
        call.out.text(str(error) or type(error).__name__)
        if isinstance(error, MultiError):
            error = error.results[error.index] or error
        known = help_of(error)
        if known is not None:
            code, one = known
            number = "" if code is None else f" ({code})"
            call.out.text(f"{one.name}{number}: {one.meaning}\nrepeat: {one.repeat}\nwhat to do: {one.advice}")
        elif isinstance(error, CommandError):
            call.out.text(f"exit code {error.code}: {EXITS.get(error.code, 'of the program that was run')}")

    async def _undo(self, call: OnlineCall, arguments: list[str]) -> None:
        if not self.journal.entries or self.client is None:
            raise CommandError("there is nothing to undo: no change was made in this shell", MISSING)
        entry = self.journal.entries[-1]
        if entry.lost:
            self.journal.entries.pop()
            raise CommandError(f"{entry.line!r} cannot be undone: {entry.lost}", CONFLICT)
        try:
            await self.client.undo(entry)
        except (MultiError, ZKError) as error:
            raise CommandError(
                f"{entry.line!r} was not undone, as things have changed since: {error}", CONFLICT
            ) from error
        self.journal.entries.pop()
        call.note(f"undone: {entry.line}")

    async def _list_jobs(self, call: OnlineCall, arguments: list[str]) -> None:
        for job in self._jobs.values():
            call.out.text(f"[{job.number}] {job.line}")

    async def _unwatch(self, call: OnlineCall, arguments: list[str]) -> None:
        given = arguments[0] if arguments else None
        ending = [
            job
            for job in self._jobs.values()
            if given is None or given == str(job.number) or call.path(given) in map(call.path, job.words[1:])
        ]
        is_java = given is not None and not given.isdecimal() and self._watches.remove(call.path(given))
        if not ending and not is_java and given is not None:
            raise CommandError(f"nothing in the background is about {given}", MISSING)
        if given is None:
            self._watches.close()
        for job in ending:
            del self._jobs[job.number]
            job.task.cancel()

    async def _connect(self, call: OnlineCall, arguments: list[str]) -> None:
        await self.connect(arguments[0] if arguments else None)

    async def _close(self, call: OnlineCall, arguments: list[str]) -> None:
        await self.close()

    async def _history(self, call: OnlineCall, arguments: list[str]) -> None:
        last = len(self.history) - 1
        for number in range(max(0, last - HISTORY_SHOWN), last + 1):
            call.out.text(f"{number} - {shown_line(self.history[number])}")

    async def _redo(self, call: OnlineCall, arguments: list[str]) -> int:
        number = int(arguments[0]) if arguments[0].isdecimal() else -1
        if not 0 <= number < len(self.history) - 1:
            raise CommandError("Command index out of range", USAGE)
        again = self.history[number]
        if again.split()[0] == "redo":
            raise CommandError("No redoing redos", USAGE)
        self.history[-1] = again
        return await self._line(again)

    async def _print_watches(self, call: OnlineCall, arguments: list[str]) -> None:
        if arguments:
            self._watches.is_printing = arguments[0] == "on"
        else:
            call.out.text(f"printwatches is {'on' if self._watches.is_printing else 'off'}")

    async def _quit(self, call: OnlineCall, arguments: list[str]) -> None:
        self.is_over = True


def _opened(name: str, mode: str) -> BinaryIO:
    """A file of this machine. Raises CommandError."""
    try:
        return cast("BinaryIO", open(name, mode))
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror}", USAGE) from None


async def nothing() -> None:
    """What is left to do after a help text."""


def table_command(name: str) -> Command | None:
    """Of the table; None if it is not there, or runs in a process of its own only."""
    found = find(name) if name in commands() and name != "sh" else None
    return found if isinstance(found, Command) else None


def plain_parser(command: Command) -> argparse.ArgumentParser:
    """Without the flags that say which server: the shell has its own, and Java's `ls -s` means something else."""
    return Command(command.name, command.flags, command.body, command.examples).parser()


def told_change(change: StateChange) -> str:
    """A change of the session's state for a person; empty if it is nobody's business."""
    state, was, server, reason = change
    if state is State.SUSPENDED:
        return f"the connection is lost ({reason}); looking for another server"
    if state in (State.CONNECTED, State.READ_ONLY):
        limits = ", which has lost its quorum and only reads" if state is State.READ_ONLY else ""
        return f"connected to {server}{limits}" + (", with a new session" if was is State.CONNECTING else "")
    if state is State.EXPIRED:
        return "the session has expired: its ephemerals and watches are gone"
    if state is State.AUTH_FAILED:
        return "the server has refused the credentials; connect begins anew"
    return ""


async def role_of(server: str) -> str:
    """Leader, follower, observer or standalone, by the word srvr; empty if it does not say."""
    host, _, port = server.rpartition(":")
    try:
        async with asyncio.timeout(ROLE_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(b"srvr")
                told = await reader.read(LONGEST_WORD)
            finally:
                writer.close()
    except (OSError, ValueError, TimeoutError):
        return ""
    found = _MODE.search(told.decode("utf-8", "replace"))
    return found[1] if found else ""


def is_secret(line: str) -> bool:
    """It may hold a password, or begins with a blank: no history keeps it."""
    return _SECRET.match(line) is not None


def shown_line(line: str) -> str:
    """For the list of lines."""
    return f"{' '.join(line.split()[:2])} ..." if is_secret(line) else line
