"""Commands that talk to a server: the flags that say which, and the session they get.

Knows flags, environment, contexts and the client. `COATI_HOSTS`, `COATI_AUTH`, `COATI_TIMEOUT`, `COATI_CONTEXT`,
`COATI_TLS_CA`, `COATI_TLS_CERT`, `COATI_TLS_KEY` stand in for flags; a context is a table of the same in a file.
Passwords are never arguments: others on the machine can read those.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from coati.cli.command import Call, Command, Streams
from coati.cli.exits import USAGE, CommandError
from coati.cli.places import contexts_path
from coati.client.tls import TLS
from coati.client.types import Auth
from coati.recipes.client import Client

DEFAULT_HOSTS: Final = "127.0.0.1:2181"
DEFAULT_TIMEOUT_S: Final = 10.0
# A list of children may be longer than what servers take: a million names are some ten megabytes.
MAX_FRAME: Final = 1 << 30
KEYS: Final = ("hosts", "auth", "timeout", "tls_ca", "tls_cert", "tls_key")
"""What a context may set; `COATI_` and the same in capitals is the variable."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom: what a client is made from."""

    hosts: str
    auth: tuple[Auth, ...]
    timeout: float
    tls: TLS | None
    read_only: bool

    def client(self, **others: Any) -> Client:
        """One that has not been started; `others` are options of Client that the command sets itself."""
        usual = {"session_timeout": max(self.timeout, 4.0), "on_expired": "raise", "max_frame": MAX_FRAME}
        return Client(
            self.hosts, timeout=self.timeout, auth=self.auth, tls=self.tls, read_only=self.read_only, name="coati-cli",
            **{**usual, **others},
        )  # fmt: skip


class OnlineCall(Call):
    """A call that can open a session: `async with call.connect() as zk`."""

    __slots__ = ("client",)

    def __init__(self, name: str, options: argparse.Namespace, streams: Streams, client: Client | None = None) -> None:
        super().__init__(name, options, streams)
        self.client = client

    def target(self) -> Target:
        """From flags, then the environment, then the context. Raises CommandError."""
        return target_of(self.options, self.environ, self.streams)

    @asynccontextmanager
    async def connect(self, hosts: str | None = None, **others: Any) -> AsyncIterator[Client]:
        """A session that ends with the block; in the shell it is the shell's, and stays. `hosts`: another server.

        `others` are options of Client, for a session of one's own.
        """
        if self.client is not None and hosts is None:
            yield self.client
            return
        target = self.target()
        client = (target if hosts is None else _elsewhere(target, hosts)).client(**others)
        await client.start(timeout=target.timeout)
        try:
            yield client
        finally:
            await client.aclose()


class OnlineCommand(Command):
    """A command whose body is a coroutine and may open a session."""

    __slots__ = ()

    def __init__(
        self,
        name: str,
        flags: Callable[[argparse.ArgumentParser], None],
        body: Callable[[OnlineCall], Coroutine[Any, Any, int | None]],
        examples: str = "",
    ) -> None:
        super().__init__(name, flags, cast("Callable[[Call], int | None]", body), examples)

    def more_flags(self, parser: argparse.ArgumentParser) -> None:
        add_target_flags(parser)

    def call(self, options: argparse.Namespace, streams: Streams) -> OnlineCall:
        return OnlineCall(self.name, options, streams)

    def coroutine(self, call: OnlineCall) -> Coroutine[Any, Any, int | None]:
        """The body on a call: what the shell awaits."""
        return cast("Coroutine[Any, Any, int | None]", self.body(call))

    def perform(self, call: Call) -> int | None:
        return asyncio.run(self.coroutine(cast("OnlineCall", call)))


def add_target_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which server, and who asks."""
    group = parser.add_argument_group("which server, and as whom")
    group.add_argument("-s", "--server", metavar="HOSTS", help=f"h1:2181,h2:2181/chroot; default {DEFAULT_HOSTS}")
    group.add_argument("--context", metavar="NAME", help="a named set of these flags (coati context)")
    group.add_argument("--timeout", type=float, metavar="S", help=f"of each call, {DEFAULT_TIMEOUT_S:g} seconds")
    group.add_argument(
        "--auth", action="append", metavar="SCHEME:WHO",
        help="digest:USER asks for the password, digest:@FILE reads user:password; COATI_AUTH has it all",
    )  # fmt: skip
    group.add_argument("--tls-ca", metavar="PEM", help="speak TLS, trust this authority ('system': the system's)")
    group.add_argument("--tls-cert", metavar="PEM", help="our certificate")
    group.add_argument("--tls-key", metavar="PEM", help="and its key")
    group.add_argument("--read-only", action="store_true", help="a server that has lost its quorum will do")


def target_of(options: argparse.Namespace, environ: Mapping[str, str], streams: Streams) -> Target:
    """Flags, then variables, then the context. Raises CommandError."""
    context = context_of(options.context or environ.get("COATI_CONTEXT"), environ)

    def one(key: str, flag: object) -> str | None:
        return str(flag) if flag is not None else environ.get(f"COATI_{key.upper()}", context.get(key))

    timeout = one("timeout", options.timeout)
    ca, cert, key = one("tls_ca", options.tls_ca), one("tls_cert", options.tls_cert), one("tls_key", options.tls_key)
    try:
        seconds = DEFAULT_TIMEOUT_S if timeout is None else float(timeout)
    except ValueError:
        raise CommandError(f"a timeout is a number of seconds, not {timeout!r}", USAGE) from None
    if not 0 < seconds < 1e6:
        raise CommandError("a timeout is more than nothing", USAGE)
    kept = environ.get("COATI_AUTH", context.get("auth"))
    told = [_asked(text, streams) for text in options.auth or ()]
    return Target(
        hosts=(one("hosts", options.server) or DEFAULT_HOSTS).removeprefix("zk://"),
        auth=tuple(told or ([_auth(kept)] if kept else [])),
        timeout=seconds,
        tls=TLS(None if ca == "system" else ca, cert, key) if ca or cert else None,
        read_only=options.read_only,
    )


def context_of(name: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """What a context sets; without a name, that of `current`, if there is one. Raises CommandError."""
    path = Path(contexts_path(environ))
    found: dict[str, Any] = {}
    try:
        text = path.read_text()
        import tomllib

        found = tomllib.loads(text)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}", USAGE) from None
    chosen = name or found.get("current")
    if not chosen:
        return {}
    tables = found.get("context", {})
    if chosen not in tables:
        raise CommandError(f"{path} has no context {chosen!r}; it has: {', '.join(sorted(tables)) or 'none'}", USAGE)
    unknown = sorted(set(tables[chosen]) - set(KEYS))
    if unknown:
        raise CommandError(f"{path}: context {chosen!r} sets {unknown[0]!r}; known are {', '.join(KEYS)}", USAGE)
    return {key: str(value) for key, value in tables[chosen].items()}


def _elsewhere(target: Target, hosts: str) -> Target:
    return Target(hosts.removeprefix("zk://"), target.auth, target.timeout, target.tls, target.read_only)


def _auth(text: str) -> Auth:
    scheme, colon, credentials = text.partition(":")
    if not colon:
        raise CommandError("credentials are written SCHEME:CREDENTIALS, as digest:user:password", USAGE)
    return Auth(scheme, credentials.encode())


def _asked(text: str, streams: Streams) -> Auth:
    """What `--auth` names: with the password from a file or a person."""
    scheme, _, who = text.partition(":")
    if who.startswith("@"):
        try:
            return Auth(scheme, Path(who[1:]).read_bytes().strip())
        except OSError as error:
            raise CommandError(f"{who[1:]} cannot be read: {error.strerror}", USAGE) from None
    if scheme != "digest":
        return Auth(scheme, who.encode())
    if not who or ":" in who:
        raise CommandError(
            "a password is no argument, as others can read those: --auth digest:USER asks for it, digest:@FILE reads "
            "user:password, COATI_AUTH holds digest:user:password",
            USAGE,
        )
    if not streams.is_asked:
        raise CommandError(f"nobody can give the password of {who!r} here: use digest:@FILE or COATI_AUTH", USAGE)
    return Auth(scheme, f"{who}:{getpass.getpass(f'password of {who}: ')}".encode())
