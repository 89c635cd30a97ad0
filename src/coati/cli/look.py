"""Looking at znodes: get."""

from __future__ import annotations

import argparse

from coati.cli.online import OnlineCall, OnlineCommand


def _get_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path")


async def _get(call: OnlineCall) -> None:
    async with call.connect() as zk:
        node = await zk.get(call.path(call.options.path))
    call.out.data(node.data, path=node.path)


GET = OnlineCommand("get", _get_flags, _get, "  coati get /conf/app\n  coati -o json get /conf/app | jq .data")
