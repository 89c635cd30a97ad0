"""The doctor: which checks there are, how grave each is, and what to do about it.

The table is what docs/cli/doctor.md shows, and a test holds both together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from coati.admin import configchecks, livechecks
from coati.admin.facts import Facts

ERROR: Final = "error"
WARNING: Final = "warning"
INFO: Final = "info"
LEVELS: Final = (ERROR, WARNING, INFO)


class Check(NamedTuple):
    """`about`: what it looks for; `fix`: what to do; `find` yields where, and what was seen."""

    name: str
    level: str
    about: str
    fix: str
    find: Callable[[Facts], Iterator[tuple[str, str]]]


class Finding(NamedTuple):
    """One thing that a check saw."""

    level: str
    check: str
    where: str
    seen: str
    fix: str


CONFIG_CHECKS: Final = (
    Check("config-refused", ERROR, "a file that no server would start with",
          "correct the line that is named", configchecks.refused),
    Check("config-warning", WARNING, "what a server says of the file when it starts, as keys without effect",
          "correct or remove the key", configchecks.warned),
    Check("one-server", INFO, "one voter, or no server.N at all",
          "run three servers, on machines that do not fail together", configchecks.alone),
    Check("two-voters", WARNING, "two voters, of which none may fail",
          "add a third voter", configchecks.no_tolerance),
    Check("even-voters", WARNING, "four, six, ... voters",
          "make one an observer, or add one: an even number tolerates no more failures than one less",
          configchecks.even_voters),
    Check("tick-time", WARNING, "tickTime below 500 or above 10000 ms",
          "set tickTime=2000; every other time is counted in it", configchecks.tick),
    Check("init-limit", WARNING, "initLimit below 5 s",
          "set initLimit so that a snapshot can be sent and loaded in it, 10 ticks of 2 s for a start",
          configchecks.init_limit),
    Check("sync-limit", WARNING, "syncLimit below 2 s",
          "set syncLimit to 5 ticks of 2 s, more than the longest pause of a member", configchecks.sync_limit),
    Check("session-bounds", WARNING, "maxSessionTimeout below four ticks, or minSessionTimeout below 1 s",
          "leave both at their defaults, 2 and 20 ticks", configchecks.session_bounds),
    Check("no-autopurge", WARNING, "no autopurge.purgeInterval",
          "set autopurge.purgeInterval=24 and autopurge.snapRetainCount=3, or run `coati purge` daily",
          configchecks.no_autopurge),
    Check("many-files", WARNING, "more than 100 snapshots and logs in the data directories",
          "run `coati purge --keep 3`, and set autopurge.purgeInterval", configchecks.many_files),
    Check("one-disk", INFO, "dataLogDir on the disk of dataDir",
          "put dataLogDir on a disk of its own, if writes are slow", configchecks.one_disk),
    Check("disk-full", ERROR, "less than 5 % of a data disk free",
          "make room now: a server stops when it cannot write its log", configchecks.full),
    Check("disk-nearly-full", WARNING, "less than 15 % of a data disk free",
          "purge old snapshots, or enlarge the disk", configchecks.nearly_full),
    Check("temporary-dir", WARNING, "dataDir or dataLogDir below /tmp, /var/tmp, /run or /dev/shm",
          "use a directory that survives a restart, as /var/lib/zookeeper", configchecks.temporary),
    Check("data-dir-unwritable", ERROR, "a data directory that this user cannot write to",
          "give it to the user that the server runs as (chown), or ask the doctor as that user",
          configchecks.unwritable),
    Check("all-words", WARNING, "4lw.commands.whitelist=*",
          "set 4lw.commands.whitelist=srvr,ruok,mntr,conf,isro", configchecks.all_words),
    Check("no-words", INFO, "a whitelist without mntr",
          "set 4lw.commands.whitelist=srvr,ruok,mntr,conf,isro", configchecks.no_words),
    Check("skip-acl", ERROR, "skipACL=yes",
          "remove it, once the lost password or the wrong ACL is mended", configchecks.skip_acl),
    Check("open-reconfig", ERROR, "reconfigEnabled=true together with skipACL=yes",
          "remove skipACL at once", configchecks.open_reconfig),
    Check("snap-count", WARNING, "snapCount below 10000 or above 2000000",
          "leave snapCount at 100000: below, snapshots never end; above, a start takes long", configchecks.snap_count),
    Check("force-sync", ERROR, "forceSync=no",
          "remove it; a faster disk is the cure for slow writes", configchecks.force_sync),
    Check("large-buffer", WARNING, "jute.maxbuffer above 4 MiB",
          "keep large values elsewhere, and their addresses in znodes", configchecks.large_buffer),
    Check("buffers-differ", ERROR, "jute.maxbuffer differs between the files given",
          "set the same jute.maxbuffer on all servers and clients: a member that reads less cannot follow",
          configchecks.buffers_differ),
    Check("no-connection-limit", INFO, "maxClientCnxns=0 without maxCnxns",
          "set maxClientCnxns to a few times what a client needs", configchecks.unlimited),
    Check("myid-missing", ERROR, "an ensemble without a myid file in dataDir",
          "write the number N of the server's own line server.N into dataDir/myid", configchecks.myid_missing),
    Check("myid-not-listed", ERROR, "a myid without its line server.N",
          "correct dataDir/myid, or add the line to all files", configchecks.myid_unlisted),
    Check("myid-twice", ERROR, "two members with one id",
          "give each member a number of its own, and the data directory that belongs to it", configchecks.myid_twice),
    Check("members-differ", ERROR, "lines server.N that are not the same in all files and servers",
          "copy the same lines to all members, and restart them one by one", configchecks.members_differ),
    Check("limits-differ", WARNING, "tickTime, initLimit or syncLimit that differ between members",
          "use the same values everywhere", configchecks.limits_differ),
    Check("peer-type", ERROR, "peerType against what the server's own line says",
          "end the line with :observer on all members and set peerType=observer on that one, or neither",
          configchecks.role_differs),
    Check("ports-collide", ERROR, "one port for two purposes: quorum, election, clients",
          "give each purpose a port of its own, as 2888, 3888 and 2181", configchecks.ports_collide),
    Check("loopback-member", ERROR, "localhost in a line server.N beside other machines",
          "use names or addresses that all members can reach", configchecks.loopback),
    Check("port-taken", ERROR, "a clientPort on which another program listens",
          "stop that program, or use another clientPort", configchecks.port_taken),
    Check("unknown-name", ERROR, "host names without an address, in server.N or in the connect string",
          "correct the name or the DNS; a member that cannot be found cannot be elected with", configchecks.unresolved),
    Check("host-twice", WARNING, "a server that the connect string names twice",
          "name each server once", configchecks.duplicate_hosts),
)  # fmt: skip

LIVE_CHECKS: Final = (
    Check("server-down", ERROR, "a server that does not answer, or has no quorum",
          "start it; look at its log if it runs", livechecks.down),
    Check("no-leader", ERROR, "no leader among the servers",
          "start members until more than half of the voters run and reach each other's quorum and election ports",
          livechecks.no_leader),
    Check("two-leaders", ERROR, "more than one leader",
          "they are members of two ensembles, or one is about to find out: ask again, then compare their server.N",
          livechecks.two_leaders),
    Check("strangers", ERROR, "a server that runs alone in a list of several",
          "give all of them the same lines server.N, or list one server only", livechecks.strangers),
    Check("read-only", ERROR, "a server that has lost its quorum and serves reads only",
          "find out why it does not reach the others", livechecks.read_only),
    Check("lagging", WARNING, "a member more than 1000 txns behind the leader",
          "look at its disk, its network and its load", livechecks.lagging),
    Check("epochs-differ", ERROR, "a member in another epoch, 1000 txns after the leader began its own",
          "it has not joined this leader: ask again, then look at its log", livechecks.epochs_differ),
    Check("not-synced", WARNING, "a leader with learners or clients that wait for a sync",
          "ask again; if it stays, look at those members' logs", livechecks.not_synced),
    Check("versions-differ", WARNING, "members of different releases",
          "finish the upgrade", livechecks.versions_differ),
    Check("zxid-rollover", WARNING, "a zxid whose counter is beyond 0xf0000000",
          "restart the leader at a quiet time: at 0xffffffff it steps down by itself", livechecks.rollover),
    Check("outstanding", WARNING, "more than 100 requests that wait",
          "look at the latency of its disk, and at `coati top` for who asks so much", livechecks.outstanding),
    Check("slow-requests", WARNING, "an average latency above 50 ms",
          "look at its disk and at pauses; `coati 4lw srst` begins the average anew", livechecks.slow),
    Check("slow-disk", WARNING, "syncs of the log above 50 ms on average, or one above 1 s",
          "give the log a disk of its own, or a faster one", livechecks.slow_disk),
    Check("digest-mismatch", ERROR, "a tree that was not the leader's",
          "stop that member, move its version-2 directory aside, and let it start from the leader's snapshot",
          livechecks.digests_differ),
    Check("unrecoverable-errors", ERROR, "errors that a server did not recover from",
          "look at its log, and restart it", livechecks.unrecoverable),
    Check("rejected-connections", WARNING, "connections that were turned away",
          "find the client that leaks them, or raise maxClientCnxns", livechecks.rejected),
    Check("large-requests", WARNING, "requests that were too large",
          "make them smaller, or raise jute.maxbuffer everywhere", livechecks.large_requests),
    Check("throttled", WARNING, "requests that were throttled",
          "find who asks so much with `coati top`", livechecks.throttled),
    Check("file-descriptors", WARNING, "more than 80 % of the file descriptors open",
          "raise the limit (ulimit -n, LimitNOFILE), or find the client that leaks connections",
          livechecks.descriptors),
    Check("client-near-limit", WARNING, "a client address with more than 80 % of maxClientCnxns",
          "find out whether it leaks connections, before it is turned away", livechecks.busy_clients),
    Check("many-watches", WARNING, "more than 500000 watches on a server",
          "watch a parent or use recursive watches; `coati watches` shows them", livechecks.many_watches),
    Check("much-data", WARNING, "more than 1 GiB of data",
          "keep large values elsewhere; raise initLimit, so that a snapshot fits in", livechecks.much_data),
    Check("burdened-leader", INFO, "a leader with over 100 connections, half as many again as a follower",
          "let clients connect to followers and observers, or set leaderServes=no", livechecks.burdened_leader),
    Check("words-refused", INFO, "words that a server does not allow, so that checks had to be left out",
          "set 4lw.commands.whitelist=srvr,ruok,mntr,conf,cons,isro", livechecks.unasked),
    Check("open-root", INFO, "a root that everybody may write to",
          "set an ACL on /, as `coati acl set / world:anyone:r`, once all clients have their own subtrees",
          livechecks.open_root),
    Check("large-znode", WARNING, "a znode of more than 256 KiB",
          "keep large values elsewhere: each is in memory, in the log, and in every reply", livechecks.large_znodes),
    Check("crowded-znode", WARNING, "a znode with more than 10000 children",
          "spread them over several parents: the list of names has to fit into jute.maxbuffer",
          livechecks.crowded_znodes),
    Check("clock-skew", WARNING, "a leader's clock more than 1 s from this machine's (with --write)",
          "run NTP on all machines; TTLs, leases and logs go by the clock", livechecks.clock_skew),
)  # fmt: skip

CHECKS: Final = (*CONFIG_CHECKS, *LIVE_CHECKS)


def diagnose(facts: Facts) -> list[Finding]:
    """All findings, the gravest first."""
    found = [
        Finding(check.level, check.name, where, seen, check.fix)
        for check in CHECKS
        for where, seen in check.find(facts)
    ]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))
