"""`coati doctor`: gathers what there is to know of configurations, servers and their tree, and says what is wrong."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from coati.admin.ask import why
from coati.admin.doctor import CHECKS, diagnose
from coati.admin.ensemble import survey
from coati.admin.facts import Facts, TreeFacts
from coati.admin.livechecks import CROWDED_CHILDREN, LARGE_ZNODE_BYTES
from coati.cli.checkconfig import add_file_flags, report
from coati.cli.configfacts import Source, config_facts, unresolved
from coati.cli.exits import USAGE, CommandError
from coati.cli.online import OnlineCall, OnlineCommand, context_of
from coati.cli.reach import members_of, reach_of
from coati.client.types import Mode, join_path
from coati.errors import NoAuth, NoNode, ZKError
from coati.recipes.client import Client
from coati.recipes.wallclock import wall_clock

WORDS: Final = ("mntr", "conf", "cons")
# So many of a kind are named.
SHOWN_ZNODES: Final = 20
AT_ONCE: Final = 64


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", action="append", default=[], metavar="zoo.cfg",
                        help="look at this file too, and at its machine; may be repeated")  # fmt: skip
    add_file_flags(parser)
    parser.add_argument("--znodes", type=int, default=10_000, metavar="N", help="look at so many, default %(default)s")
    parser.add_argument("--write", action="store_true", help="compare clocks, by an ephemeral znode that goes at once")
    parser.add_argument("--list", action="store_true", help="list the checks, and ask nobody")


async def _doctor(call: OnlineCall) -> int:
    options = call.options
    if options.list:
        with call.out.table("check", "level", "about", "fix") as table:
            for check in CHECKS:
                table.row(check.name, check.level, check.about, check.fix)
        return 0
    if options.znodes < 0:
        raise CommandError("--znodes is not negative", USAGE)
    sources = [Source(path, options.properties, options.elsewhere) for path in options.config]
    facts = Facts(configs=[config_facts(source) for source in sources])
    if not sources or _names_servers(call):
        await _look_at_servers(call, facts)
    else:
        call.note("no server is asked: name them with -s")
    return report(call, diagnose(facts))


def _names_servers(call: OnlineCall) -> bool:
    """Whether somebody said which, and it is not the default."""
    if call.client is not None or call.options.server is not None or "COATI_HOSTS" in call.environ:
        return True
    return "hosts" in context_of(call.options.context or call.environ.get("COATI_CONTEXT"), call.environ)


async def _look_at_servers(call: OnlineCall, facts: Facts) -> None:
    reach = reach_of(call)
    facts.named = [str(host) for host in reach.hosts]
    facts.unresolved = unresolved(sorted({host.name for host in reach.hosts}))
    named = await survey(reach.hosts, timeout_s=reach.timeout_s, tls=reach.tls)
    serving = [one.info for one in named if one.info is not None and one.info.is_serving]
    hosts = await members_of(call, reach, is_ensemble=any(info.mode != "standalone" for info in serving))
    facts.servers = await survey(hosts, timeout_s=reach.timeout_s, tls=reach.tls, more=WORDS)
    if not serving:
        return
    try:
        async with call.connect() as zk:
            facts.tree = await _look_at_tree(call, zk)
    except (ZKError, OSError) as error:
        call.note(f"the tree was not looked at: {why(error)}")


async def _look_at_tree(call: OnlineCall, zk: Client) -> TreeFacts:
    """The largest and the most crowded of so many znodes, the root's ACL and, if that is wanted, the leader's clock."""
    tree = TreeFacts()
    try:
        tree.root_acl = ",".join(map(str, (await zk.chroot_free().get_acl("/")).acl))
    except NoAuth:
        call.note("the ACL of / may not be read")
    left = call.options.znodes
    level = ["/"]
    while level and left > 0:
        some, rest = level[: min(left, AT_ONCE)], level[min(left, AT_ONCE) :]
        left -= len(some)
        for names in await asyncio.gather(*(_look_at(zk, path, tree) for path in some)):
            rest += names
        level = rest
    if level and call.options.znodes:
        call.note(f"{call.options.znodes} znodes were looked at; --znodes looks at more")
    tree.large = sorted(tree.large, key=lambda found: -found[1])[:SHOWN_ZNODES]
    tree.crowded = sorted(tree.crowded, key=lambda found: -found[1])[:SHOWN_ZNODES]
    if call.options.write:
        tree.skew_s = await _skew(zk, join_path(call.path("/"), "coati-doctor-"))
    return tree


async def _look_at(zk: Client, path: str, tree: TreeFacts) -> list[str]:
    """The paths below. No data is read: a Stat says how much there is."""
    try:
        stat = await zk.exists(path)
        if stat is None:
            return []
        if stat.data_length > LARGE_ZNODE_BYTES:
            tree.large.append((path, stat.data_length))
        if stat.num_children > CROWDED_CHILDREN:
            tree.crowded.append((path, stat.num_children))
        return [join_path(path, name) for name in await zk.children(path)] if stat.num_children else []
    except (NoAuth, NoNode):
        return []


async def _skew(zk: Client, path: str) -> float:
    """The leader's clock against ours, in the middle of the request."""
    began = wall_clock()
    node = await zk.create(path, mode=Mode.EPHEMERAL_SEQUENTIAL)
    middle = (began + wall_clock()) / 2
    await zk.delete(node.path)
    return node.stat.ctime / 1000 - middle


DOCTOR: Final = OnlineCommand(
    "doctor", _flags, _doctor,
    "  coati doctor -s h1,h2,h3\n  coati doctor --config /etc/zookeeper/zoo.cfg\n  coati doctor --list",
)  # fmt: skip
