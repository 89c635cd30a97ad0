"""init: a data directory for a member of an ensemble.

As Java's zkServer-initialize.sh: `myid`, `version-2`, and the file `initialize`, which permits a server with
`db.autocreate=false` to begin with nothing, once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from coati.cli.command import Call, Command
from coati.cli.exits import CONFLICT, USAGE, CommandError

MOST_ID: Final = 255
_VERSION_DIR: Final = "version-2"


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", help="dataDir of zoo.cfg")
    parser.add_argument("--id", type=int, required=True, metavar="N", help="the N of this server's line server.N")
    parser.add_argument("--log-dir", metavar="DIR", help="dataLogDir of zoo.cfg, where that is another one")


def _init(call: Call) -> None:
    options = call.options
    if not 0 <= options.id <= MOST_ID:
        raise CommandError(f"an id is a number from 0 to {MOST_ID}", USAGE)
    data = Path(options.dir)
    places = [data, Path(options.log_dir)] if options.log_dir else [data]
    for place in places:
        found = place / _VERSION_DIR
        if found.is_dir() and any(found.iterdir()):
            raise CommandError(f"{found} holds the data of a server: choose another directory", CONFLICT)
    myid = data / "myid"
    if myid.exists() and myid.read_text().strip() != str(options.id):
        raise CommandError(f"{myid} says {myid.read_text().strip()!r} already", CONFLICT)
    try:
        for place in places:
            (place / _VERSION_DIR).mkdir(parents=True, exist_ok=True)
        myid.write_text(f"{options.id}\n")
        (data / "initialize").touch()
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}", USAGE) from None
    call.out.record({"dir": str(data), "id": options.id})


INIT = Command("init", _flags, _init, "  coati init /var/lib/zookeeper --id 1\n  coati serve /etc/zookeeper/zoo.cfg")
