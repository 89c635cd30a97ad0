"""`coati cheat`: a page of examples by topic. Knows words only."""

from __future__ import annotations

import argparse
import difflib
from typing import Final

from coati.cli.command import Call, Command
from coati.cli.exits import USAGE, CommandError

PAGES: Final[dict[str, tuple[str, str]]] = {
    "connect": (
        "which server, and as whom",
        """
        coati -s zk1:2181,zk2:2181/app ls /           # several servers, and a root of your own
        export COATI_HOSTS=zk1:2181,zk2:2181          # for all commands that follow
        coati --auth digest:alice get /secret         # asks for the password
        coati --auth digest:@file get /secret         # the file holds alice:password
        coati context add prod -s zk1,zk2 --use       # a name for all of that
        coati -s zk1:2281 --tls-ca ca.pem ls /        # TLS
        """,
    ),
    "data": (
        "look at znodes and change them",
        """
        coati ls /                                    # names, one a line
        coati ls -l /
        coati tree -L 2 /
        coati get /conf/app
        coati stat /conf/app
        coati create -p /conf/app/port 8080           # with its parents
        coati set /conf/app/port 8081
        coati set /conf/app/port 8082 --version 1     # only if nobody changed it
        coati set /conf/app @app.json                 # data from a file; - is stdin
        coati rm -r /conf/app                         # shows what goes, and asks
        coati edit /conf/app                          # in $EDITOR
        """,
    ),
    "trees": (
        "copy, compare, search and save subtrees",
        """
        coati cp -r /conf /conf.old
        coati diff /conf /conf.old
        coati find '/conf/**/port'
        coati grep 8080 /conf
        coati du /
        coati export /conf > conf.jsonl
        coati import conf.jsonl /conf --dry-run
        """,
    ),
    "watch": (
        "see changes as they happen",
        """
        coati watch -R /conf                          # an event a line, until Ctrl-C
        coati watch /conf/app --once
        coati watch /conf/app -- systemctl reload app # a command for each change
        coati wait /ready --exists --timeout 30       # exit code 9 if it does not come
        """,
    ),
    "acl": (
        "who may do what",
        """
        coati acl get /secret
        coati acl set /secret auth::cdrwa,world:anyone:r
        coati auth whoami
        coati auth hash alice
        """,
    ),
    "quota": (
        "limits of subtrees",
        """
        coati quota ls
        coati quota set /app --count 1000
        coati quota set /app --bytes 1000000 --hard
        coati quota rm /app
        """,
    ),
    "recipes": (
        "locks, elections and queues from the command line",
        """
        coati lock /locks/backup -- ./backup.sh       # one at a time, in the whole fleet
        coati lock /locks/backup --wait 0 -- ./backup.sh   # or not at all: exit code 9
        coati elect /leader --id web1 -- ./serve.sh
        coati queue put /jobs 'resize 17'
        coati queue take /jobs
        coati counter /visits +1
        """,
    ),
    "inspect": (
        "how the servers are",
        """
        coati status                                  # role, zxid, lag and latency of each server
        coati top
        coati doctor                                  # exit code 9 if something is wrong
        coati sessions
        coati who /locks/backup                       # who holds it, who waits
        coati 4lw mntr
        """,
    ),
    "ensemble": (
        "servers and configuration",
        """
        coati config show
        coati status                                  # who leads, who follows
        """,
    ),
    "storage": (
        "data directories, without a server",
        """
        coati snap ls /var/lib/zookeeper
        coati log dump /var/lib/zookeeper
        coati log history /conf/app /var/lib/zookeeper
        coati log verify /var/lib/zookeeper
        coati purge --keep 3 /var/lib/zookeeper
        """,
    ),
    "scripts": (
        "output for programs, and exit codes",
        """
        coati -o json get /conf/app | jq -r .data
        coati -o jsonl watch -R /conf | while read -r event; do echo "$event"; done
        coati exists /ready || echo "not yet: $?"     # 4: no such znode
        coati set /conf/app x --version 3; echo $?    # 5: somebody was faster
        coati rm -r /old --yes                        # nobody is asked
        coati errors BadVersion                       # what an error means
        """,
    ),
    "shell": (
        "the interactive shell",
        """
        coati sh
        /app > cd conf                                # paths are relative to where you stand
        /app/conf > get port | jq .                   # pipes and > go to the system's shell
        /app/conf > watch . &                         # lines above the prompt while you type
        /app/conf > set port 9                        # ...
        /app/conf > undo                              # the last change, if nobody changed it since
        /app/conf > explain                           # the last error
        coati sh -c 'ls /' -c 'get /conf/app'
        coati sh runbook.txt                          # commands of the Java shell are known too
        """,
    ),
    "server": (
        "run one",
        """
        coati serve --data-dir /var/lib/coati              # alone, on port 2181
        coati serve zoo.cfg                           # as Java would
        coati bench --mix r90w10
        """,
    ),
}


def page(topic: str) -> str:
    """The text of one topic."""
    title, text = PAGES[topic]
    return f"{topic}: {title}\n" + "".join(f"  {line.strip()}\n" for line in text.strip().splitlines())


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", nargs="?", help=", ".join(PAGES))


def _cheat(call: Call) -> None:
    topic = call.options.topic
    if topic is None:
        with call.out.table("topic", "about") as table:
            for name, (title, _) in PAGES.items():
                table.row(name, title)
        return
    if topic not in PAGES:
        near = difflib.get_close_matches(topic, PAGES, 1)
        meant = f"is it {near[0]} you mean?" if near else f"there are: {', '.join(PAGES)}"
        raise CommandError(f"there is no page {topic!r}; {meant}", USAGE)
    if call.out.is_structured:
        call.out.record({"topic": topic, "about": PAGES[topic][0], "examples": page(topic).splitlines()[1:]})
    else:
        call.out.text(page(topic))


CHEAT = Command("cheat", _flags, _cheat, "  coati cheat        # the topics\n  coati cheat watch")
