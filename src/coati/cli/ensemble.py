"""ensemble: a local ensemble of real servers in one command, and what can be done to it.

Knows the flags, where ensembles are noted and what is said to their supervisors; `cli.supervisor` runs them. The
directory of an ensemble has `ensemble.json`, with its processes and when each began, and a socket to its supervisor.
Names are links to such directories, in a directory of the user's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from coati.cli.command import Call, Command
from coati.cli.exits import CONFLICT, MISSING, REFUSED, USAGE, CommandError
from coati.cli.supervisor import SERVING, STATE, EnsembleFailed, Shape, Supervisor, control_path, started_at

VERBS: Final = ("up", "ls", "status", "down", "kill", "start", "pause", "resume", "partition", "heal")
OF_SERVERS: Final = ("kill", "start", "pause", "resume", "partition")
ANSWER_S: Final = 60.0


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("which", metavar="N", nargs="*", help="servers; of a partition the sides, as 1 or 1,2 3,4")
    parser.add_argument("--name", default="local", metavar="NAME", help="of several ensembles; %(default)s")
    parser.add_argument("--servers", type=int, default=3, metavar="N", help="up: so many that vote; %(default)d")
    parser.add_argument("--observers", type=int, default=0, metavar="N", help="up: so many that do not")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--dir", type=Path, metavar="DIR", help="up: data is kept here; else it goes with the ensemble")
    where.add_argument("--ephemeral", action="store_true", help="up: a directory that goes, which is the default")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="up: client ports from here; default: any")
    parser.add_argument("--background", action="store_true", help="up: return when it serves; `down` ends it")
    parser.add_argument("--set", dest="keys", action="append", default=[], metavar="KEY=VALUE", help="up: of zoo.cfg")
    # Of the process behind --background: where it says that it serves.
    parser.add_argument("--ready", type=int, help=argparse.SUPPRESS)


def _ensemble(call: Call) -> int | None:
    options = call.options
    if bool(options.which) is not (options.verb in OF_SERVERS):
        raise CommandError(
            f"{options.verb} is of {'servers: say which' if not options.which else 'all servers'}", USAGE
        )
    if options.verb == "up":
        _up(call)
    elif options.verb == "ls":
        _ls(call)
    elif options.verb == "down":
        _down(call)
    else:
        _told(call, ask(_home(call), options.verb, options.which))
    return None


# --- where they are -------------------------------------------------------------------------------


def _homes(environ: Mapping[str, str]) -> Path:
    """The directory of links to the user's ensembles."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    path = Path(runtime, "coati") if runtime else Path(tempfile.gettempdir(), f"coati-{os.getuid()}")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise CommandError(f"{path} is somebody else's", REFUSED)
    return path


def _home(call: Call) -> Path:
    """The directory of the ensemble that is named. Raises CommandError."""
    link = _homes(call.environ) / call.options.name
    if not (link / STATE).exists():
        raise CommandError(f"there is no ensemble {call.options.name!r}: coati ensemble up starts one", MISSING)
    home: Path = link.resolve()
    return home


def ask(home: Path, verb: str, words: list[str]) -> list[dict[str, Any]]:
    """What a supervisor answers. Raises CommandError; ConnectionError where there is none any more."""
    with control_path(home) as path, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(ANSWER_S)
        sock.connect(path)
        sock.sendall(json.dumps({"verb": verb, "words": words}).encode() + b"\n")
        line = sock.makefile("rb").readline()
    if not line:
        raise ConnectionResetError(f"the supervisor in {home} has ended")
    answer = json.loads(line)
    if "error" in answer:
        raise CommandError(answer["error"], CONFLICT)
    done: list[dict[str, Any]] = answer["done"]
    return done


# --- verbs ----------------------------------------------------------------------------------------


def _told(call: Call, servers: list[dict[str, Any]]) -> None:
    with call.out.table("id", "hosts", "role", "pid", "reaches") as table:
        for server in servers:
            table.row(server["id"], server["hosts"], server["role"], server["pid"], server["reaches"])


def _ls(call: Call) -> None:
    with call.out.table("name", "hosts", "serving", "directory") as table:
        for link in sorted(_homes(call.environ).iterdir()):
            home = link.resolve()
            try:
                state = json.loads((home / STATE).read_text())
            except OSError:
                # It has just gone.
                continue
            try:
                serving = sum(server["role"] in SERVING for server in ask(home, "status", []))
            except OSError:
                # Its supervisor went without a word: `down` removes what is left.
                serving = 0
            table.row(link.name, state["hosts"], serving, str(home))


def _down(call: Call) -> None:
    home = _home(call)
    state = json.loads((home / STATE).read_text())
    try:
        ask(home, "down", [])
        ends = state["processes"][:1]
    except OSError:
        call.note("its supervisor is gone: what is left of it is killed")
        ends = state["processes"]
        for process in ends:
            if process["started"] is not None and process["started"] == started_at(process["pid"]):
                os.kill(process["pid"], signal.SIGKILL)
        (home / STATE).unlink()
        if not state["is_kept"]:
            shutil.rmtree(home, ignore_errors=True)
    for process in ends:
        _wait_for_end(process["pid"], process["started"])
    (_homes(call.environ) / call.options.name).unlink(missing_ok=True)


def _wait_for_end(pid: int, started: str | None) -> None:
    """It is no child of ours."""
    if started is None or started != started_at(pid):
        return
    try:
        end = os.pidfd_open(pid)
    except OSError:
        return
    try:
        select.select([end], [], [], ANSWER_S)
    finally:
        os.close(end)


def _up(call: Call) -> None:
    options = call.options
    if options.servers < 1 or options.observers < 0:
        raise CommandError("an ensemble has one server at least", USAGE)
    keys = dict(text.partition("=")[::2] for text in options.keys)
    homes = _homes(call.environ)
    link = homes / options.name
    if "/" in options.name or options.name.startswith("."):
        raise CommandError(f"{options.name!r} is no name", USAGE)
    if (link / STATE).exists() and not options.ready:
        raise CommandError(f"the ensemble {options.name!r} is up already: coati ensemble down, or --name", CONFLICT)
    if options.background:
        _up_behind(call)
        return
    home = Path(options.dir).absolute() if options.dir else Path(tempfile.mkdtemp(prefix="coati-ensemble-"))
    link.unlink(missing_ok=True)
    link.symlink_to(home)
    shape = Shape(options.name, home, bool(options.dir), options.servers, options.observers, options.port, keys)
    try:
        asyncio.run(_run(call, shape))
    except EnsembleFailed as error:
        raise CommandError(str(error), CONFLICT) from None
    finally:
        link.unlink(missing_ok=True)


async def _run(call: Call, shape: Shape) -> None:
    supervisor = Supervisor(shape)
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    assert starting is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.end)
    async with supervisor:
        if call.options.ready is not None:
            os.write(call.options.ready, supervisor.hosts.encode())
            os.close(call.options.ready)
        else:
            call.out.text(supervisor.hosts)
            call.out.flush()
            call.note("Ctrl-C stops it" + ("" if shape.is_kept else ", and its data goes"))
        await supervisor.until_asked()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.remove_signal_handler(number)


def _up_behind(call: Call) -> None:
    """The same in a process of its own, which is left alone when it serves."""
    options = call.options
    ready, says = os.pipe()
    words = ["--name", options.name, "--servers", str(options.servers), "--observers", str(options.observers)]
    words += ["--port", str(options.port), "--ready", str(says)]
    words += [word for key in options.keys for word in ("--set", key)]
    words += ["--dir", str(options.dir)] if options.dir else []
    os.set_inheritable(says, True)
    with tempfile.TemporaryFile() as said:
        # No child to be waited for: it outlives this process.
        null = os.open(os.devnull, os.O_RDWR)
        pid = os.posix_spawn(
            sys.executable, [sys.executable, "-m", "coati", "ensemble", "up", *words], call.environ, setsid=True,
            file_actions=[(os.POSIX_SPAWN_DUP2, file, at) for at, file in enumerate((null, null, said.fileno()))],
        )  # fmt: skip
        os.close(null)
        os.close(says)
        with os.fdopen(ready, "rb") as reader:
            hosts = reader.read()
        if not hosts:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            said.seek(0)
            raise CommandError(said.read().decode().strip().removeprefix("coati ensemble: "), code)
    call.out.text(hosts.decode())


ENSEMBLE: Final = Command(
    "ensemble", _flags, _ensemble,
    "  coati ensemble up --servers 3 --background\n"
    "  coati ensemble status\n"
    "  coati ensemble kill 2; coati ensemble start 2\n"
    "  coati ensemble partition 1,2; coati ensemble heal\n"
    "  coati ensemble down",
)  # fmt: skip
