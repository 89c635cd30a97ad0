"""Snapshots as files: reading one in batches, and writing one aside while the server goes on.

Knows files, compression and the order of the sections; the bytes are format.py's. Must not know a tree: znodes are
plain tuples both ways.
Invariants: a snapshot has its name only when it is whole, sealed and synced; memory stays at a few MB whatever its
size; a failed one leaves nothing behind and harms nobody.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, cast

from coati.errors import ConfigError, StorageCorrupt
from coati.seams import Disk, File, ReadFile
from coati.storage import format
from coati.storage.format import Damage, ZnodeTuple, ZxidDigest
from coati.wire.records import ACL

try:
    import cramjam
except ImportError:  # an extra: pip install coati[snappy]
    _has_cramjam = False
else:
    _has_cramjam = True

# More than the caches of a processor hold is not read quicker, and costs fresh pages.
READ_BYTES: Final = 1 << 20
TMP_SUFFIX: Final = ".tmp"
# What waits for the disk before `SnapshotWriter.ready` says stop, and what is written before a sync in between: the
# log's syncs wait behind one such piece, not behind the whole snapshot. A piece that is durable gives its pages to the
# next one; in a virtual machine fresh ones can cost more than the copy into them.
MAX_PENDING_BYTES: Final = 4 << 20
SYNC_BYTES: Final = 1 << 20
# SnapStream: wbits of a gzip member; GZIPOutputStream compresses with the default level.
_GZIP_WBITS: Final = 31
# A limit on one ACL of the table, and on one snappy block, so that a damaged length cannot fill the memory.
_MAX_ACL_BYTES: Final = 16 << 20
_MAX_BLOCK_BYTES: Final = 16 << 20
# All trailers together have less.
_MAX_TRAILER_BYTES: Final = 4096
# A shorter limit than this is not believed: it may have been higher when the snapshot was written.
MIN_FIELD_LIMIT_BYTES: Final = 16 << 20

Done = Callable[[BaseException | None], None]


def check_compression(compression: str) -> None:
    """Raises ConfigError if snapshots cannot be read or written with this method here."""
    if compression not in format.COMPRESSIONS:
        raise ConfigError(f"snapshot.compression.method={compression}: neither empty nor gz nor snappy")
    if compression == "snappy" and not _has_cramjam:
        raise ConfigError("snapshot.compression.method=snappy needs the package cramjam: pip install 'coati[snappy]'")


class _Source(Protocol):
    """Gives the uncompressed bytes, some MB at a time; empty at the end. Raises Damage."""

    def read(self) -> bytes: ...


class _PlainSource:
    __slots__ = ("_file",)

    def __init__(self, file: ReadFile) -> None:
        self._file = file

    def read(self) -> bytes:
        return self._file.read(READ_BYTES)


class _GzipSource:
    __slots__ = ("_file", "_has_input", "_zlib")

    def __init__(self, file: ReadFile) -> None:
        self._file = file
        self._zlib = zlib.decompressobj(_GZIP_WBITS)
        self._has_input = False

    def read(self) -> bytes:
        # A file of zeros grows a thousandfold: never more than READ_BYTES come out of one call.
        while not self._zlib.eof:
            waiting = self._zlib.unconsumed_tail
            data = waiting or self._file.read(READ_BYTES)
            try:
                piece = self._zlib.decompress(data, READ_BYTES)
            except zlib.error as error:
                raise Damage(0, f"it cannot be decompressed: {error}") from None
            if piece:
                self._has_input = True
                return piece
            if not data:
                raise Damage(0, "the compressed data is cut short")
        if self._zlib.unused_data or self._file.read(1):
            raise Damage(0, "data stands behind the compressed data")
        return b""


class _SnappySource:
    __slots__ = ("_data", "_file", "_is_started", "_pos")

    def __init__(self, file: ReadFile) -> None:
        self._file = file
        self._data = b""
        self._pos = 0
        self._is_started = False

    def read(self) -> bytes:
        if not self._is_started:
            self._is_started = True
            if self._take(len(format.SNAPPY_HEADER)) != format.SNAPPY_HEADER:
                raise Damage(0, "this is not a stream of snappy-java")
        parts: list[bytes] = []
        size = 0
        while size < READ_BYTES:
            head = self._take(4)
            if not head:
                break
            length = int.from_bytes(head, "big")
            block = self._take(length) if len(head) == 4 and length <= _MAX_BLOCK_BYTES else b""
            if not block or len(block) < length:
                raise Damage(0, "the compressed data is cut short")
            parts.append(_snappy_decompress(block))
            size += len(parts[-1])
        return b"".join(parts)

    def _take(self, count: int) -> bytes:
        while len(self._data) - self._pos < count:
            chunk = self._file.read(READ_BYTES)
            if not chunk:
                break
            self._data = self._data[self._pos :] + chunk
            self._pos = 0
        taken = self._data[self._pos : self._pos + count]
        self._pos += len(taken)
        return taken


def _snappy_decompress(block: bytes) -> bytes:
    try:
        if cramjam.snappy.decompress_raw_len(block) > _MAX_BLOCK_BYTES:
            raise Damage(0, "a compressed block is larger than allowed")
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise Damage(0, f"it cannot be decompressed: {error}") from None


def _open_source(file: ReadFile, compression: str) -> _Source:
    if compression == "gz":
        return _GzipSource(file)
    check_compression(compression)
    if compression == "snappy":
        return _SnappySource(file)
    return _PlainSource(file)


class SnapshotReader:
    """One snapshot while it is read, from its head on; `close` when done.

    `sessions` (id -> timeout in ms) and `acls` (id -> entries) are there from the start; `digest` and `last_zxid` once
    `batches()` is exhausted. Offsets in errors count uncompressed bytes. Raises StorageCorrupt; OSError as the disk.
    """

    def __init__(self, disk: Disk, path: str, zxid: int, compression: str, max_field_bytes: int) -> None:
        self.path = path
        self.zxid = zxid
        self.sessions: dict[int, int] = {}
        self.acls: dict[int, list[ACL]] = {}
        self.digest: ZxidDigest | None = None
        self.last_zxid: int | None = None
        self.is_complete = False
        self._max_field_bytes = max(max_field_bytes, MIN_FIELD_LIMIT_BYTES)
        self._data = b""
        self._offset = 0  # of self._data in the file
        self._checksum = 1
        self._file = disk.open_read(path)
        try:
            self._source = _open_source(self._file, compression)
            self._read_head()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def batches(self) -> Iterator[list[ZnodeTuple]]:
        """The znodes in the order of the file, some ten thousand at a time; every ACL id is known.

        The seals are checked at the end: what was built from the batches is valid only then.
        """
        is_first = True
        while True:
            boxed: list[format.BoxedZnode] = []
            try:
                stop = format.decode_znodes(self._data, 0, boxed, self._max_field_bytes)
            except Damage as damage:
                raise self._corrupt(damage) from None
            batch = cast(list[ZnodeTuple], boxed)
            if batch:
                if is_first and batch[0][0] != b"/":
                    raise self._corrupt(Damage(0, "the first znode is not the root"))
                is_first = False
                self._check_acls(batch)
                self._consume(stop)
                yield batch
            elif self._data.startswith(format.END_OF_ZNODES):
                break
            elif len(self._data) >= len(format.END_OF_ZNODES) and self._data.startswith(b"\x00\x00\x00\x01"):
                raise self._corrupt(Damage(0, "a znode has a path of one byte"))
            else:
                self._need_more("the znodes")
        if is_first:
            raise self._corrupt(Damage(0, "there is no root"))
        self._consume(len(format.END_OF_ZNODES))
        self._read_trailers()

    def _check_acls(self, batch: list[ZnodeTuple]) -> None:
        for acl_id in sorted({znode[2] for znode in batch}):
            if acl_id != format.OPEN_ACL_ID and acl_id not in self.acls:
                raise self._corrupt(Damage(0, f"a znode after here has the ACL {acl_id}, which the table lacks"))

    def _read_head(self) -> None:
        self._need(format.HEADER_BYTES, "the header")
        try:
            format.check_snapshot_header(self._data)
        except Damage as damage:
            raise self._corrupt(damage) from None
        self._consume(format.HEADER_BYTES)
        self._read_sessions(self._read_count())
        self._read_acls(self._read_count())

    def _read_count(self) -> int:
        self._need(4, "a count")
        try:
            count = format.decode_count(self._data, 0)
        except Damage as damage:
            raise self._corrupt(damage) from None
        self._consume(4)
        return count

    def _read_sessions(self, count: int) -> None:
        while count:
            self._need(format.SESSION_BYTES, "the sessions")
            here = min(count, len(self._data) // format.SESSION_BYTES)
            try:
                format.decode_sessions(self._data, 0, here, self.sessions)
            except Damage as damage:
                raise self._corrupt(damage) from None
            self._consume(here * format.SESSION_BYTES)
            count -= here

    def _read_acls(self, count: int) -> None:
        pos = 0
        while count:
            try:
                stop = format.decode_acl(self._data, pos, self.acls)
            except Damage as damage:
                raise self._corrupt(damage) from None
            if stop >= 0:
                pos = stop
                count -= 1
                continue
            self._consume(pos)
            pos = 0
            if len(self._data) > _MAX_ACL_BYTES:
                raise self._corrupt(Damage(0, "an ACL is larger than allowed"))
            self._need_more("the ACL table")
        self._consume(pos)

    def _read_trailers(self) -> None:
        while len(self._data) <= _MAX_TRAILER_BYTES and self._more():
            pass
        try:
            format.check_seal(self._data, 0, self._checksum)
            self._consume(format.SEAL_BYTES)
            self.digest, self.last_zxid = format.decode_trailers(self._data, self._checksum)
        except Damage as damage:
            raise self._corrupt(damage) from None
        self.is_complete = True

    def _need(self, count: int, what: str) -> None:
        while len(self._data) < count:
            self._need_more(what)

    def _need_more(self, what: str) -> None:
        if not self._more():
            raise self._corrupt(Damage(len(self._data), f"the file ends in the middle of {what}"))

    def _more(self) -> bool:
        try:
            piece = self._source.read()
        except Damage as damage:
            raise self._corrupt(damage) from None
        self._data = self._data + piece if self._data else piece
        return bool(piece)

    def _consume(self, count: int) -> None:
        self._checksum = zlib.adler32(memoryview(self._data)[:count], self._checksum)
        self._data = self._data[count:]
        self._offset += count

    def _corrupt(self, damage: Damage) -> StorageCorrupt:
        return StorageCorrupt(self.path, self._offset + damage.offset, damage.reason)


class _Sink(Protocol):
    """Turns bytes into what the file holds."""

    def encode(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class _PlainSink:
    __slots__ = ()

    def encode(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class _GzipSink:
    __slots__ = ("_zlib",)

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(wbits=_GZIP_WBITS)

    def encode(self, data: bytes) -> bytes:
        return self._zlib.compress(data)

    def end(self) -> bytes:
        return self._zlib.flush()


class _SnappySink:
    __slots__ = ("_is_started", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._is_started = False

    def encode(self, data: bytes) -> bytes:
        data = self._rest + data
        size = format.SNAPPY_BLOCK_BYTES
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        parts = [] if self._is_started else [format.SNAPPY_HEADER]
        self._is_started = True
        for start in range(0, whole, size):
            _append_block(parts, data[start : start + size])
        return b"".join(parts)

    def end(self) -> bytes:
        parts: list[bytes] = []
        if self._rest:
            _append_block(parts, self._rest)
        return b"".join(parts)


def _append_block(parts: list[bytes], data: bytes) -> None:
    block = bytes(cramjam.snappy.compress_raw(data))
    parts.append(len(block).to_bytes(4, "big"))
    parts.append(block)


def _make_sink(compression: str) -> _Sink:
    if compression == "gz":
        return _GzipSink()
    if compression == "snappy":
        return _SnappySink()
    return _PlainSink()


class SnapshotFile:
    """The file of one snapshot while it is written. Runs on the disk's worker, or at start-up. Raises OSError."""

    def __init__(self, disk: Disk, directory: str, zxid: int, compression: str) -> None:
        self._disk = disk
        self._directory = directory
        self.name = format.snapshot_name(zxid, compression)
        self._path = f"{directory}/{self.name}"
        self._sink = _make_sink(compression)
        self._file: File | None = None
        self._checksum = 1
        self._unsynced_bytes = 0
        self.written_bytes = 0
        self.is_finished = False

    def write(self, parts: Sequence[bytes]) -> None:
        """Appends to the file, which the first call creates."""
        if self._file is None:
            tmp = self._path + TMP_SUFFIX
            if self._disk.exists(tmp):
                self._disk.remove(tmp)
            self._file = self._disk.create(tmp)
        for data in parts:
            self._checksum = zlib.adler32(data, self._checksum)
            self._put(self._sink.encode(data))
        if self._unsynced_bytes >= SYNC_BYTES:
            self._file.sync()
            self._file.forget(self.written_bytes)
            self._unsynced_bytes = 0

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        self._file.append(data)
        self._unsynced_bytes += len(data)
        self.written_bytes += len(data)

    def finish(self, digest: ZxidDigest | None, last_zxid: int | None) -> None:
        """Writes the end mark, seals and trailers, makes all of it durable and gives it its name."""
        self.write([format.END_OF_ZNODES])
        self._seal()
        if digest is not None:
            self.write([format.encode_digest(digest)])
            self._seal()
        if last_zxid is not None:
            self.write([format.encode_last_zxid(last_zxid)])
            self._seal()
        self._put(self._sink.end())
        assert self._file is not None
        self._file.sync()
        self._file.forget(self.written_bytes)
        self._file.close()
        self._file = None
        self.publish(self._path + TMP_SUFFIX, self._path)
        self.is_finished = True

    def publish(self, aside: str, path: str) -> None:
        """Gives the file, which is durable, its name."""
        self._disk.rename(aside, path)
        self._disk.sync_dir(self._directory)

    def _seal(self) -> None:
        self.write([format.encode_seal(self._checksum)])

    def remove(self) -> None:
        """Gives it up; what was written is removed. Best effort: recovery removes what stays."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
            if self._disk.exists(self._path + TMP_SUFFIX):
                self._disk.remove(self._path + TMP_SUFFIX)
        except OSError:
            return


class SnapshotWriter:
    """One snapshot while it is written, aside and off the loop: `add` slices while `ready`, then `finish`.

    A failure is a warning and never more: `failed` is set, `finish`'s `done` gets the error, no partial file stays.
    `on_end` is told once: of the first error, or None when the file has its name or was given up.
    `trailers(digest)` are the digest and the last zxid to write, each None where it is switched off.
    """

    def __init__(
        self,
        disk: Disk,
        file: SnapshotFile,
        head: bytes,
        trailers: Callable[[int | None], tuple[ZxidDigest | None, int | None]],
        on_end: Done,
    ) -> None:
        self.failed: BaseException | None = None
        # Called when `ready` may have become true again, so that nobody has to ask in a loop.
        self.on_ready: Callable[[], None] | None = None
        self._disk = disk
        self._file = file
        self._trailers = trailers
        self._on_end = on_end
        self._pending: list[bytes] = [head]
        self._pending_bytes = len(head)
        self._is_busy = False
        self._is_over = False  # finish or abort was called
        self._is_ended = False  # the file has its name, or is removed
        self._digest: int | None = None
        self._done: Done | None = None
        self._pump()

    @property
    def ready(self) -> bool:
        """Whether the disk keeps up: add only then, so that memory stays bounded."""
        return self._pending_bytes < MAX_PENDING_BYTES

    def add(self, data: bytes) -> None:
        """Hands the next serialised znodes to the disk's worker. Parents come before their children."""
        assert not self._is_over
        if self.failed is not None:
            return
        self._pending.append(data)
        self._pending_bytes += len(data)
        self._pump()

    def finish(self, digest: int | None, done: Done) -> None:
        """Seals, syncs and renames it. `digest` (unsigned) is the tree's at the snapshot's zxid."""
        assert not self._is_over
        self._is_over = True
        self._digest = digest
        self._done = done
        if self._is_ended:
            # It has failed already; `done` comes as for any other end, not from within this call.
            self._disk.submit(_nothing, lambda _: self._report())
        else:
            self._pump()

    def abort(self) -> None:
        """Gives it up and removes what was written."""
        if not self._is_over:
            self._is_over = True
            self._pending.clear()
            self._pump()

    def abandon(self) -> None:
        """The same at once, when the worker has no job left: at the end of the server."""
        self._is_over = True
        self._is_ended = True
        self._pending.clear()
        self._file.remove()

    def _pump(self) -> None:
        """Starts the next job unless one is under way."""
        if self._is_busy:
            return
        if self._pending:
            parts, self._pending = self._pending, []
            size = self._pending_bytes
            self._is_busy = True
            self._disk.submit(lambda: self._file.write(parts), lambda error: self._wrote(size, error))
        elif self._is_over and not self._is_ended:
            self._is_busy = True
            job = self._file.remove if self._done is None else self._finish
            self._disk.submit(job, self._ended)

    def _wrote(self, size: int, error: BaseException | None) -> None:
        self._is_busy = False
        self._pending_bytes -= size
        if self._is_ended:
            return
        if error is not None:
            # The space is needed: it is given back now, not when the caller comes with `finish`.
            self._fail(error)
            self._is_busy = True
            self._disk.submit(self._file.remove, self._ended)
        else:
            self._pump()
        if self.on_ready is not None:
            self.on_ready()

    def _fail(self, error: BaseException) -> None:
        self.failed = error
        self._pending.clear()
        self._pending_bytes = 0
        self._on_end(error)

    def _finish(self) -> None:
        digest, last_zxid = self._trailers(self._digest)
        try:
            self._file.finish(digest, last_zxid)
        except Exception:
            self._file.remove()
            raise

    def _ended(self, error: BaseException | None) -> None:
        self._is_busy = False
        self._is_ended = True
        if error is not None:
            self._fail(error)
        elif self.failed is None:
            self._on_end(None)
        self._report()

    def _report(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self.failed)


def _nothing() -> None:
    """A job without work."""
