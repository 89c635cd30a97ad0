"""`coati probe`: one question to one server for an orchestrator, and a yes or no as the exit code.

Must start fast: neither the client nor an event loop is loaded. An election is no reason to kill a server, so `live`
asks for an answer only, whatever it says; `ready` asks whether requests are served.
"""

from __future__ import annotations

import argparse
import select
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from coati.admin.knock import ask, shake_hands
from coati.cli.command import Call, Command
from coati.cli.exits import CHECK_FAILED, DONE, USAGE, CommandError

if TYPE_CHECKING:
    import ssl

DEFAULT_HOST: Final = "127.0.0.1:2181"
DEFAULT_PORT: Final = 2181
DEFAULT_TIMEOUT_S: Final = 5.0
DEFAULT_FOR_S: Final = 60.0
AGAIN_S: Final = 0.1
LEADING: Final = ("leader", "standalone")
REFUSED: Final = b"is not in the whitelist"
# A server before its first election, or without a quorum.
UNREADY: Final = ("leaderelection", "unknown", "null", "")


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("live", "ready", "startup"))
    parser.add_argument("--require-leader", action="store_true", help="ready only if it leads, or runs alone")
    parser.add_argument("--for", dest="patience", type=float, default=DEFAULT_FOR_S, metavar="S",
                        help="startup: wait so long for ready, default %(default)s seconds")  # fmt: skip
    parser.add_argument("-s", "--server", metavar="HOST", help=f"of several the first; default {DEFAULT_HOST}")
    parser.add_argument("--timeout", type=float, metavar="S", help=f"default {DEFAULT_TIMEOUT_S:g} seconds")
    parser.add_argument("--read-only", action="store_true", help="a server that has lost its quorum is ready too")
    parser.add_argument("--tls-ca", metavar="PEM", help="speak TLS, trust this authority ('system': the system's)")
    parser.add_argument("--tls-cert", metavar="PEM", help="our certificate")
    parser.add_argument("--tls-key", metavar="PEM", help="and its key")


def _probe(call: Call) -> int:
    options = call.options
    address = address_of(options.server or call.environ.get("COATI_HOSTS") or DEFAULT_HOST)
    timeout_s = DEFAULT_TIMEOUT_S if options.timeout is None else options.timeout
    if timeout_s <= 0 or options.patience < 0:
        raise CommandError("a timeout is more than nothing, and --for not negative", USAGE)
    tls = _tls(options)
    if options.kind == "live":
        why = _is_live(address, timeout_s, tls)
        return _tell(call, address, ok=not why, text=why or "it answers")
    deadline = monotonic() + (options.patience if options.kind == "startup" else 0.0)
    while True:
        state = _state(address, timeout_s, tls)
        ok, text = judged(state, options)
        if ok or monotonic() >= deadline:
            return _tell(call, address, ok=ok, text=text)
        select.select((), (), (), AGAIN_S)


def _tell(call: Call, address: tuple[str, int], *, ok: bool, text: str) -> int:
    kind = call.options.kind
    server = f"{address[0]}:{address[1]}"
    record = {"probe": kind, "server": server, "ok": ok, "why": text}
    call.out.stream(record, f"{server} {'is' if ok else 'is not'} {'ready' if kind == 'startup' else kind}: {text}")
    return DONE if ok else CHECK_FAILED


def judged(state: str, options: Any) -> tuple[bool, str]:
    """Whether a server in this state is ready: a mode, `read-only`, `serving`, or why it is not known."""
    if state.startswith("!"):
        return False, state[1:]
    if state in ("read-only", "ro"):
        return bool(options.read_only) and not options.require_leader, "it serves reads only, without a quorum"
    if state in UNREADY:
        return False, "it has no leader"
    if options.require_leader and state not in LEADING:
        return False, f"it is {state}" if state != "rw" else "it serves, but does not say whether it leads"
    return True, "it serves" if state == "rw" else state


def _is_live(address: tuple[str, int], timeout_s: float, tls: ssl.SSLContext | None) -> str:
    """Why it is not; empty if it is. Any answer will do, a refusal too."""
    try:
        if ask(address, "ruok", timeout_s, tls) or ask(address, "srvr", timeout_s, tls):
            return ""
        return "" if shake_hands(address, timeout_s, tls) else "it answers nothing"
    except OSError as error:
        return _reason(error)


def _state(address: tuple[str, int], timeout_s: float, tls: ssl.SSLContext | None) -> str:
    """Its mode, `rw` or `ro` from one that says less, or `!` and what went wrong."""
    try:
        answer = ask(address, "srvr", timeout_s, tls)
        if b"READ-ONLY mode" in answer:
            return "read-only"
        for line in answer.splitlines():
            if line.startswith(b"Mode: "):
                return line[6:].decode("ascii", "backslashreplace").strip()
        if answer and REFUSED not in answer:
            return "!" + answer.decode("utf-8", "backslashreplace").strip().partition("\n")[0]
        answer = ask(address, "isro", timeout_s, tls).strip()
        if answer in (b"rw", b"ro", b"null"):
            return answer.decode()
        return shake_hands(address, timeout_s, tls) or "!it takes no session"
    except OSError as error:
        return f"!{_reason(error)}"


def _reason(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()


def address_of(text: str) -> tuple[str, int]:
    """The first server of a connect string. Raises CommandError."""
    first = text.removeprefix("zk://").partition("/")[0].partition(",")[0].strip()
    name, bracket, port = first.rpartition("]")
    if bracket:
        name, port = name.removeprefix("["), port.removeprefix(":")
    else:
        name, _, port = first.partition(":")
    if not name or not (port or str(DEFAULT_PORT)).isdecimal():
        raise CommandError(f"{text!r} is not host:port", USAGE)
    return name, int(port) if port else DEFAULT_PORT


def _tls(options: Any) -> ssl.SSLContext | None:
    """Raises OSError if a file is not what it should be."""
    if not options.tls_ca and not options.tls_cert:
        return None
    import ssl

    context = ssl.create_default_context(cafile=None if options.tls_ca == "system" else options.tls_ca)
    if options.tls_cert:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    return context


PROBE: Final = Command(
    "probe", _flags, _probe,
    "  coati probe live\n  coati probe ready -s 127.0.0.1:2181 --require-leader\n  coati probe startup --for 120",
)  # fmt: skip
