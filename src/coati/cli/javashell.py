"""The commands of the Java shell (zkCli of 3.8 and 3.9) in its grammar, with its output.

Knows their flags, what each prints and the words it has for errors; must not know coati's own commands. They run on
the shell's session. What Java prints on stderr goes there too.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from coati import __version__, errors
from coati.cli.exits import REFUSED, USAGE, CommandError, code_of
from coati.cli.javawatches import CHILDREN, DATA, JavaWatches
from coati.cli.online import OnlineCall
from coati.client.ops import MultiError
from coati.client.quota import text
from coati.client.types import ACL, ANY, OPEN, TTL_MAX_S, Auth, Mode, Perm, Stat
from coati.errors import KeeperError, NoNode, ZKError
from coati.recipes.client import Client

CONFIG: Final = "/zookeeper/config"
QUOTAS: Final = "/zookeeper/quota"

# Where KeeperException.getCodeMessage has other words than the names of our classes.
_SAYS: Final = {
    errors.NOT_EMPTY: "Directory not empty",
    errors.SESSION_EXPIRED: "Session expired",
    errors.SESSION_MOVED: "Session moved",
    errors.NO_WATCHER: "No such watcher",
    errors.RECONFIG_DISABLED: "Reconfig is disabled",
    errors.THROTTLED_OP: "Op throttled due to high load",
    errors.MARSHALLING_ERROR: "MarshallingError",
}
# CliWrapperException.
_WRAPPED: Final = {
    errors.NO_NODE: "Node does not exist: {}",
    errors.NO_CHILDREN_FOR_EPHEMERALS: "Ephemerals cannot have children: {}",
    errors.NODE_EXISTS: "Node already exists: {}",
    errors.NOT_EMPTY: "Node not empty: {}",
    errors.NOT_READ_ONLY: "Not a read-only call: {}",
    errors.INVALID_ACL: "Acl is not valid : {}",
    errors.NO_AUTH: "Insufficient permission : {}",
    errors.BAD_ARGUMENTS: "Arguments are not valid : {}",
    errors.BAD_VERSION: "version No is not valid : {}",
    errors.QUOTA_EXCEEDED: "Quota has exceeded : {}",
    errors.RECONFIG_IN_PROGRESS: "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)",
    errors.NEW_CONFIG_NO_QUORUM: (
        "No quorum of new config is connected and up-to-date with the leader of last commmitted config - try invoking "
        "reconfiguration after new servers are connected and synced"
    ),
}
_LETTERS: Final = {"r": Perm.READ, "w": Perm.WRITE, "c": Perm.CREATE, "d": Perm.DELETE, "a": Perm.ADMIN}
_INTEGER: Final = re.compile(r"[+-]?\d{1,19}")


class JavaCall:
    """One run: the shell's call, the flags with their values, and the arguments behind the name."""

    def __init__(self, call: OnlineCall, flags: dict[str, str], arguments: list[str], watches: JavaWatches) -> None:
        self.call = call
        self.flags = flags
        self.arguments = arguments
        self.watches = watches

    @property
    def zk(self) -> Client:
        """The session."""
        if self.call.client is None:
            raise CommandError("Not connected", code_of(errors.ClientClosed()))
        return self.call.client

    @property
    def path(self) -> str:
        """The first argument, as it is if it is absolute: Java refuses what it would not have written so."""
        given = self.arguments[0]
        if not given.startswith("/"):
            return self.call.path(given)
        problem = path_problem(given)
        if problem:
            raise CommandError(problem, USAGE)
        return given

    @property
    def version(self) -> int:
        """What -v expects."""
        return self.number("v", ANY)

    def number(self, flag: str, usual: int, wrong: str = "") -> int:
        """The value of a flag; `wrong` is what to say if it is no number."""
        given = self.flags.get(flag)
        if given is None:
            return usual
        if _INTEGER.fullmatch(given) is None:
            raise CommandError(wrong or f"-{flag} is followed by a number, not {given!r}", USAGE)
        return int(given)

    @property
    def is_watched(self) -> bool:
        """By -w, or as before 3.5: `get path watch`."""
        if len(self.arguments) > 1:
            name = self.call.name
            flags = "[-s] [-w]" if name == "get" else "[-w]"
            self.warn(f"'{name} path [watch]' has been deprecated. Please use '{name} {flags} path' instead.")
            return True
        return "w" in self.flags

    def say(self, line: str) -> None:
        """On stdout."""
        self.call.out.text(line)

    def warn(self, line: str) -> None:
        """On stderr."""
        print(line, file=self.call.streams.stderr, flush=True)

    def stat(self, stat: Stat) -> None:
        """As StatPrinter, with -s."""
        if "s" in self.flags:
            self.say(stat_lines(stat))


Body = Callable[[JavaCall], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class JavaCommand:
    """`flags` have no value, `valued` have one; `least` arguments there must be."""

    usage: str
    body: Body
    flags: tuple[str, ...] = ()
    valued: tuple[str, ...] = ()
    least: int = 1

    def parsed(self, words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """Flags and arguments, as commons-cli's DefaultParser tells them apart. Raises CommandError."""
        flags: dict[str, str] = {}
        arguments: list[str] = []
        waiting = list(words)
        while waiting:
            word = waiting.pop(0)
            if word == "--":
                arguments += waiting
                break
            if not word.startswith("-") or word == "-":
                arguments.append(word)
                continue
            self._flag(word, waiting, flags)
        if len(arguments) < self.least:
            raise CommandError(self.usage, USAGE)
        return flags, arguments

    def _flag(self, word: str, waiting: list[str], flags: dict[str, str]) -> None:
        name = word.lstrip("-")
        if name in self.flags:
            flags[name] = ""
        elif name in self.valued:
            if not waiting:
                raise CommandError(f"Missing argument for option: {name}", USAGE)
            flags[name] = waiting.pop(0)
        elif name[:1] in self.valued:
            flags[name[0]] = name[1:].removeprefix("=")
        elif name and all(letter in self.flags for letter in name):
            flags |= dict.fromkeys(name, "")
        else:
            raise CommandError(f"Unrecognized option: {word}", USAGE)


class Told(Exception):
    """What went wrong has been said already, in Java's words."""

    def __init__(self, error: Exception, code: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.code = code


async def run(
    command: JavaCommand, call: OnlineCall, parsed: tuple[dict[str, str], list[str]], watches: JavaWatches
) -> None:
    """Runs one command; `parsed` are its flags and arguments. Raises Told."""
    java = JavaCall(call, *parsed, watches)
    try:
        await command.body(java)
    except CommandError as error:
        java.warn(str(error))
        raise Told(error, error.code) from error
    except ZKError as error:
        java.warn(words_for(error, java.arguments[0] if java.arguments else ""))
        raise Told(error, code_of(error)) from error


def words_for(error: ZKError, path: str) -> str:
    """As CliWrapperException, or KeeperException itself."""
    if isinstance(error, MultiError):
        error = error.results[error.index] or error
    code = error.code if isinstance(error, KeeperError) else errors.CONNECTION_LOSS
    if isinstance(error, KeeperError) and code in _WRAPPED:
        return _WRAPPED[code].format(error.path or path)
    said = _SAYS.get(code, type(error).__name__)
    return f"KeeperErrorCode = {said} for {path}" if path else f"KeeperErrorCode = {said}"


def path_problem(path: str) -> str:
    """What PathUtils.validatePath says of an absolute path; empty if it is one, or breaks a rarer rule."""
    if path == "/":
        return ""
    if path.endswith("/"):
        return "Path must not end with / character"
    wrong = re.search(r"/(?=/)|/\.{1,2}(?=/|$)", path)
    if wrong is None:
        return ""
    what = "empty node name specified" if wrong[0] == "/" else "relative paths not allowed"
    at = wrong.end() if wrong[0] == "/" else wrong.end() - 1
    return f'Invalid path string "{path}" caused by {what} @{at}'


def stat_lines(stat: Stat) -> str:
    """As StatPrinter."""
    return "\n".join(
        (
            f"cZxid = {_hex(stat.czxid)}",
            f"ctime = {_date(stat.ctime)}",
            f"mZxid = {_hex(stat.mzxid)}",
            f"mtime = {_date(stat.mtime)}",
            f"pZxid = {_hex(stat.pzxid)}",
            f"cversion = {stat.cversion}",
            f"dataVersion = {stat.version}",
            f"aclVersion = {stat.aversion}",
            f"ephemeralOwner = {_hex(stat.ephemeral_owner)}",
            f"dataLength = {stat.data_length}",
            f"numChildren = {stat.num_children}",
        )
    )


def _hex(value: int) -> str:
    return f"0x{value & 0xFFFFFFFFFFFFFFFF:x}"


def _date(ms: int) -> str:
    """As java.util.Date prints itself."""
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(ms / 1000))


def acl_of(java: JavaCall, given: str) -> list[ACL]:
    """As AclParser: what is wrong is said, and left out."""
    found = []
    for line in given.split(","):
        scheme, _, rest = line.partition(":")
        who, colon, letters = rest.rpartition(":")
        if not colon:
            java.warn(f"{line} does not have the form scheme:id:perm")
            continue
        perms = Perm(0)
        for letter in letters:
            if letter in _LETTERS:
                perms |= _LETTERS[letter]
            else:
                java.warn(f"Unknown perm type: {letter}")
        found.append(ACL(perms, scheme, who))
    if not found:
        # Java refuses it before it knows the path (ZooKeeper.setACL).
        raise CommandError("Acl is not valid : null", USAGE)
    return found


# --- reading ----------------------------------------------------------------------------------------


async def _ls(java: JavaCall) -> None:
    zk, path = java.zk, java.path
    is_watched = java.is_watched
    if "R" in java.flags:
        with java.watches.once(DATA, path, is_wanted=is_watched) as trigger:
            await zk.get(path, watch=trigger)
        java.say(path)
        await _ls_below(java, path, is_watched)
        return
    with java.watches.once(CHILDREN, path, is_wanted=is_watched) as trigger:
        names = await zk.children(path, watch=trigger)
    java.say(f"[{', '.join(names)}]")
    if "s" in java.flags:
        stat = await zk.exists(path)
        if stat is None:
            raise NoNode(path)
        java.stat(stat)


async def _ls_below(java: JavaCall, top: str, is_watched: bool) -> None:
    """The children of a znode, then those of each, as ZKUtil.visitSubTreeDFS goes."""
    waiting = [top]
    while waiting:
        path = waiting.pop()
        try:
            with java.watches.once(CHILDREN, path, is_wanted=is_watched) as trigger:
                names = await java.zk.children(path, watch=trigger)
        except NoNode:
            continue
        below = [f"{path.rstrip('/')}/{name}" for name in names]
        if below:
            java.say("\n".join(below))
        waiting += reversed(below)


async def _get(java: JavaCall) -> None:
    with java.watches.once(DATA, java.path, is_wanted=java.is_watched) as trigger:
        node = await java.zk.get(java.path, watch=trigger)
    data = node.data
    if "x" in java.flags:
        data = hexdump(data).encode()
    elif "b" in java.flags:
        data = base64.b64encode(data)
    java.call.out.write(data + b"\n")
    java.stat(node.stat)


def hexdump(data: bytes) -> str:
    """As HexDumpOutputFormatter: netty's pretty table."""
    rule = "+--------+" + "-" * 49 + "+" + "-" * 16 + "+"
    head = " " * 9 + "+" + "-" * 49 + "+\n" + " " * 9 + "|  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |"
    lines = [head, rule]
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"|{at:08x}| {row.hex(' '):<47} |{shown:<16}|")
    return "\n".join([*lines, rule])


async def _stat(java: JavaCall) -> None:
    with java.watches.once(DATA, java.path, is_wanted=java.is_watched) as trigger:
        stat = await java.zk.exists(java.path, watch=trigger)
    if stat is None:
        raise NoNode(java.path)
    java.say(stat_lines(stat))


async def _sync(java: JavaCall) -> None:
    await java.zk.sync(java.path)
    java.say("Sync is OK")


async def _count(java: JavaCall) -> None:
    java.say(str(await java.zk.count(java.path)))


async def _ephemerals(java: JavaCall) -> None:
    java.say(f"[{', '.join(await java.zk.ephemerals(java.path if java.arguments else '/'))}]")


# --- changing ---------------------------------------------------------------------------------------


async def _create(java: JavaCall) -> None:
    flags = java.flags
    if "c" in flags and ("e" in flags or "s" in flags):
        text = "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential."
        raise CommandError(text, USAGE)
    if "t" in flags and ("e" in flags or "c" in flags):
        kind = "Ephemeral" if "e" in flags else "Container"
        raise CommandError(f"TTLs cannot be used with {kind} znodes", USAGE)
    if "e" in flags:
        mode = Mode.EPHEMERAL_SEQUENTIAL if "s" in flags else Mode.EPHEMERAL
    elif "c" in flags:
        mode = Mode.CONTAINER
    else:
        mode = Mode.SEQUENTIAL if "s" in flags else Mode.PERSISTENT
    given = java.arguments
    ttl_ms = java.number("t", 0, "-t argument must be a long value")
    if "t" in flags and not 0 < ttl_ms <= TTL_MAX_S * 1000:
        raise CommandError(f"ttl must be positive and cannot be larger than: {TTL_MAX_S * 1000:.0f}", USAGE)
    # A sequential znode may have digits for a name.
    path = given[0] if mode.is_sequential and given[0].startswith("/") else java.path
    data = given[1].encode("utf-8", "surrogateescape") if len(given) > 1 else b""
    try:
        acl = acl_of(java, given[2]) if len(given) > 2 else OPEN
    except CommandError:
        java.warn("KeeperErrorCode = InvalidACL")
        raise
    try:
        made = await java.zk.create(path, data, mode=mode, ttl=ttl_ms / 1000 if ttl_ms else None, acl=acl)
    except errors.InvalidACL:
        java.warn(f"KeeperErrorCode = InvalidACL for {path}")
        raise
    java.warn(f"Created {made.path}")


async def _set(java: JavaCall) -> None:
    data = java.arguments[1].encode("utf-8", "surrogateescape")
    if "b" in java.flags:
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise CommandError(f"{java.arguments[1]!r} is not base64: {error}", USAGE) from None
    java.stat(await java.zk.set(java.path, data, version=java.version))


async def _delete(java: JavaCall) -> None:
    await java.zk.delete(java.path, version=java.version)


async def _deleteall(java: JavaCall) -> None:
    path = java.path
    if path == "/":
        raise CommandError("deleteall / is refused: name the subtrees that shall go", REFUSED)
    if await java.zk.exists(path) is None:
        raise NoNode(path)
    batch = max(1, java.number("b", 1000, "-b argument must be an int value"))
    await java.zk.with_options(timeout=None).delete_tree(path, batch=batch)


# --- who may what -----------------------------------------------------------------------------------


async def _get_acl(java: JavaCall) -> None:
    info = await java.zk.get_acl(java.path)
    for one in info.acl:
        letters = "".join(letter for letter in "cdrwa" if one.perms & _LETTERS[letter])
        java.say(f"'{one.scheme},'{one.id}\n: {letters}")
    java.stat(info.stat)


async def _set_acl(java: JavaCall) -> None:
    acl = acl_of(java, java.arguments[1])
    if "R" not in java.flags:
        java.stat(await java.zk.set_acl(java.path, acl, version=java.version))
        return
    waiting = [java.path]
    await java.zk.get(java.path)
    while waiting:
        path = waiting.pop()
        try:
            await java.zk.set_acl(path, acl, version=java.version)
        except KeeperError as error:
            java.call.out.write(f"KeeperErrorCode = {_SAYS.get(error.code, type(error).__name__)} for {path}".encode())
        try:
            waiting += (f"{path.rstrip('/')}/{name}" for name in reversed(await java.zk.children(path)))
        except NoNode:
            continue


async def _whoami(java: JavaCall) -> None:
    java.say("Auth scheme: User")
    for one in await java.zk.whoami():
        java.say(f"{one.scheme}: {one.user}")


# --- quotas -----------------------------------------------------------------------------------------


async def _set_quota(java: JavaCall) -> None:
    chosen = [flag for flag in "nbNB" if flag in java.flags]
    if len(chosen) != 1:
        raise CommandError(SET_QUOTA, USAGE)
    (flag,) = chosen
    path = java.path
    if path.startswith(QUOTAS):
        java.warn(f"cannot set a quota under the path: {QUOTAS}")
        return
    if _INTEGER.fullmatch(java.flags[flag]) is None:
        java.warn("NumberFormatException happens when parsing the option value")
        return
    value = int(java.flags[flag])
    if flag in "nN" and value <= 0:
        java.warn("the num quota must be greater than zero")
        return
    if value < 0:
        java.warn("the bytes quota must be greater than or equal to zero")
        return
    is_count = flag in "nN"
    try:
        limits = await java.zk.quota.set(
            path, count=value if is_count else None, bytes=None if is_count else value, hard=flag.isupper()
        )
    except NoNode:
        raise CommandError(f"{path} does not exist.", code_of(NoNode())) from None
    except errors.BadArguments as error:
        other = error.hint.partition(" has a quota")[0]
        kind = "parent" if path.startswith(f"{other}/") else "child"
        raise CommandError(f"{path} has a {kind} {other} which has a quota", code_of(errors.NodeExists())) from None
    usage = await java.zk.quota.usage(path)
    for unit, used, soft, hard in (
        ("count", usage.count, limits.count, limits.hard_count),
        ("bytes", usage.bytes, limits.bytes, limits.hard_bytes),
    ):
        if any(limit is not None and limit < used for limit in (soft, hard)):
            java.say(f"[Warning]: the {unit} quota you create is less than the existing {unit}:{used}")


async def _list_quota(java: JavaCall) -> None:
    path = java.path
    where = f"{QUOTAS}{path}/zookeeper_"
    java.warn(f"absolute path is {where}limits")
    limits = await java.zk.quota.get(path)
    if limits is None:
        java.warn(f"quota for {path} does not exist.")
        return
    values = {
        "count": limits.count, "bytes": limits.bytes,
        "countHardLimit": limits.hard_count, "byteHardLimit": limits.hard_bytes,
    }  # fmt: skip
    told = text({name: -1 if value is None else value for name, value in values.items()})
    java.say(f"Output quota for {path} {told.decode()}")
    usage = await java.zk.quota.usage(path)
    java.say(f"Output stat for {path} {text({'count': usage.count, 'bytes': usage.bytes}).decode()}")


async def _del_quota(java: JavaCall) -> None:
    path, flags = java.path, java.flags
    if await java.zk.quota.get(path) is None:
        java.say(f"Quota does not exist for {path}")
    elif not flags:
        await java.zk.quota.remove(path)
    else:
        for is_hard, count, size in ((False, "n", "b"), (True, "N", "B")):
            if count in flags or size in flags:
                await java.zk.quota.unset(path, count=count in flags, bytes=size in flags, hard=is_hard)


# --- watches ----------------------------------------------------------------------------------------


async def _add_watch(java: JavaCall) -> None:
    mode = java.flags.get("m", "PERSISTENT_RECURSIVE").upper()
    if mode not in ("PERSISTENT", "PERSISTENT_RECURSIVE") or len(java.arguments) != 1:
        raise CommandError(ADD_WATCH, USAGE)
    await java.watches.add(java.zk, java.path, is_recursive=mode == "PERSISTENT_RECURSIVE")


async def _remove_watches(java: JavaCall) -> None:
    if not java.watches.remove(java.path):
        raise errors.NoWatcher(java.path)


# --- the ensemble -----------------------------------------------------------------------------------


async def _config(java: JavaCall) -> None:
    zk = java.zk.chroot_free()
    with java.watches.once(DATA, CONFIG, is_wanted="w" in java.flags) as trigger:
        node = await zk.get(CONFIG, watch=trigger)
    said = node.data.decode("utf-8", "replace")
    java.say(client_line(said) if "c" in java.flags else f"{said}\n")
    java.stat(node.stat)


def client_line(config: str) -> str:
    """As ConfigUtils.getClientConfigStr: the version, and where clients connect."""
    version, hosts = "", []
    for line in config.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "version":
            version = value.strip()
        elif key.startswith("server.") and ";" in value:
            address = value.rpartition(";")[2].strip()
            hosts.append(address if ":" in address else f"0.0.0.0:{address}")
    return f"{version} {','.join(hosts)}"


async def _reconfig(java: JavaCall) -> None:
    flags = java.flags
    is_whole = "file" in flags or "members" in flags
    if not (is_whole or "add" in flags or "remove" in flags):
        raise CommandError(RECONFIG, USAGE)
    if is_whole and ("add" in flags or "remove" in flags):
        said = (
            "Can't use -file or -members together with -add or -remove (mixing incremental and non-incremental modes "
            "is not allowed)"
        )
        raise CommandError(said, USAGE)
    if "file" in flags and "members" in flags:
        raise CommandError("Can't use -file and -members together (conflicting non-incremental modes)", USAGE)
    members = members_in(java.call.given(f"@{flags['file']}").decode()) if "file" in flags else None
    if "members" in flags:
        members = flags["members"].lower().split(",")
    try:
        version = int(flags.get("v", "-1"), 16)
    except ValueError:
        raise CommandError("-v must be followed by a long (configuration version)", USAGE) from None
    join = flags["add"].lower().split(",") if "add" in flags else ()
    leave = flags["remove"].lower().split(",") if "remove" in flags else ()
    done = await java.zk.reconfig(join=join, leave=leave, members=members, from_version=version)
    java.say(f"Committed new configuration:\n{done.text}")
    if "s" in flags:
        java.stat((await java.zk.chroot_free().get(CONFIG)).stat)


def members_in(text: str) -> list[str]:
    """The servers of a dynamic configuration file."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith("server.")]


async def _version(java: JavaCall) -> None:
    java.say(f"ZooKeeper CLI version: coati {__version__}")


async def _add_auth(java: JavaCall) -> None:
    credentials = java.arguments[1].encode() if len(java.arguments) > 1 else b""
    await java.zk.authenticate(Auth(java.arguments[0], credentials))


SET_QUOTA: Final = "setquota -n|-b|-N|-B val path"
ADD_WATCH: Final = (
    "addWatch [-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is "
    "PERSISTENT_RECURSIVE"
)
RECONFIG: Final = (
    "reconfig [-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | "
    "[-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]"
)

COMMANDS: Final[dict[str, JavaCommand]] = {
    "addWatch": JavaCommand(ADD_WATCH, _add_watch, valued=("m",)),
    "addauth": JavaCommand("addauth scheme auth", _add_auth),
    "config": JavaCommand("config [-c] [-w] [-s]", _config, ("c", "w", "s"), least=0),
    "create": JavaCommand(
        "create [-s] [-e] [-c] [-t ttl] path [data] [acl]", _create, ("s", "e", "c"), ("t",),
    ),
    "delete": JavaCommand("delete [-v version] path", _delete, valued=("v",)),
    "deleteall": JavaCommand("deleteall path [-b batch size]", _deleteall, valued=("b",)),
    "delquota": JavaCommand("delquota [-n|-b|-N|-B] path", _del_quota, ("n", "b", "N", "B")),
    "get": JavaCommand("get [-s] [-w] [-b] [-x] path", _get, ("s", "w", "b", "x")),
    "getAcl": JavaCommand("getAcl [-s] path", _get_acl, ("s",)),
    "getAllChildrenNumber": JavaCommand("getAllChildrenNumber path", _count),
    "getEphemerals": JavaCommand("getEphemerals path", _ephemerals, least=0),
    "listquota": JavaCommand("listquota path", _list_quota),
    "ls": JavaCommand("ls [-s] [-w] [-R] path", _ls, ("s", "w", "R")),
    "reconfig": JavaCommand(RECONFIG, _reconfig, ("s",), ("v", "file", "members", "add", "remove"), least=0),
    "removewatches": JavaCommand("removewatches path [-c|-d|-a] [-l]", _remove_watches, ("c", "d", "p", "r", "a", "l")),
    "set": JavaCommand("set path data [-s] [-v version] [-b]", _set, ("s", "b"), ("v",), least=2),
    "setAcl": JavaCommand("setAcl [-s] [-v version] [-R] path acl", _set_acl, ("s", "R"), ("v",), least=2),
    "setquota": JavaCommand(SET_QUOTA, _set_quota, valued=("n", "b", "N", "B")),
    "stat": JavaCommand("stat [-w] path", _stat, ("w",)),
    "sync": JavaCommand("sync path", _sync),
    "version": JavaCommand("version ", _version, least=0),
    "whoami": JavaCommand("whoami ", _whoami, least=0),
}  # fmt: skip
