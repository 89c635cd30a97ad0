"""`coati serve`: flags and zoo.cfg into a configuration, and the server run with it.

Knows the flags; what the keys mean is `server.config`'s, and running is `server.main`'s.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from coati.cli.standard import keep_standard_files
from coati.errors import ConfigError
from coati.server.config import DEFAULT_DATA_DIR, DEFAULT_PORT, Entry, load_config
from coati.server.exitcodes import INVALID_INVOCATION
from coati.server.logs import LEVELS
from coati.server.main import run

EPILOG: Final = f"""
Without a file the server listens on 127.0.0.1:{DEFAULT_PORT} and keeps its data in ./{DEFAULT_DATA_DIR}.
Flags go before the file. Examples:
  coati serve conf/zoo.cfg
  coati serve --client-port 0 --data-dir /var/tmp/zk --set tickTime=500 -D zookeeper.snapCount=1000
"""


def main(argv: list[str]) -> int:
    """The exit code: 0 after a clean stop, 2 for a wrong configuration, 3 for an unusable data directory."""
    options = _parser().parse_args(argv)
    try:
        overrides = _overrides(options)
        properties = {key: Entry(value, f"-D{key}") for key, value in map(_pair, options.properties)}
        config = load_config(options.config, overrides=overrides, properties=properties)
    except ConfigError as error:
        print(f"coati serve: {error}", file=sys.stderr)
        return INVALID_INVOCATION
    keep_standard_files()
    data_dir = os.path.abspath(config.data_dir)
    return run(
        config,
        sys.stderr,
        log_level=options.log_level,
        on_serving=lambda address: _hint(address, data_dir) if options.hint else None,
    )


def _hint(address: str, data_dir: str) -> None:
    """For somebody who has just typed `make run`."""
    host, _, port = address.rpartition(":")
    beside = os.path.join(os.path.dirname(sys.executable), "coati")
    shell = os.path.relpath(beside) if os.path.exists(beside) else "coati"
    print(
        f"""
coati serves at {address}. To try it, in another terminal:
  {f"{shell} -s {address} sh":<40}  the shell
  {f"echo srvr | nc {host} {port}":<40}  ask how it is
  {f"zkCli.sh -server {address}":<40}  ZooKeeper's own shell, if you have it
or from Python:
  from coati.sync import Client
  with Client("{address}") as zk: print(zk.children("/"))
Ctrl-C stops the server; its data stays in {data_dir}.
""",
        file=sys.stderr,
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coati serve",
        description="Run a standalone server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="?", metavar="zoo.cfg", help="configuration in ZooKeeper's own format")
    parser.add_argument("--data-dir", metavar="DIR", help="where snapshots and logs are kept (dataDir)")
    parser.add_argument("--client-port", "--port", metavar="N", help="client port, 0 for any free one (clientPort)")
    parser.add_argument("--host", metavar="NAME", help="address to listen on (clientPortAddress)")
    parser.add_argument(
        "--set", dest="keys", action="append", default=[], metavar="KEY=VALUE", help="a key of zoo.cfg; may be repeated"
    )
    parser.add_argument(
        "-D", dest="properties", action="append", default=[], metavar="NAME=VALUE", help="a Java system property"
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="default: %(default)s")
    parser.add_argument("--hint", action="store_true", help="say what to try once the server is up")
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Entry]:
    """Keys of zoo.cfg that flags set; a named flag goes before `--set`."""
    overrides = {key: Entry(value, "--set") for key, value in map(_pair, options.keys)}
    for flag, key in (("data_dir", "dataDir"), ("client_port", "clientPort"), ("host", "clientPortAddress")):
        value = getattr(options, flag)
        if value is not None:
            overrides[key] = Entry(value.strip(), f"--{flag.replace('_', '-')}")
    return overrides


def _pair(text: str) -> tuple[str, str]:
    """`name=value`; a name alone has the empty value, as for Java's -D."""
    name, _, value = text.partition("=")
    return name.strip(), value.strip()
