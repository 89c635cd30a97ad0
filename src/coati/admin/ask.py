"""Four-letter words on sockets, for those who have an event loop.

Knows one connection a word, and bounds of time and size. What the answers mean is `words`'.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from coati.admin.words import BadAnswer, checked
from coati.client.hosts import Host

MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
_CHUNK_BYTES: Final = 256 * 1024


async def ask(host: Host, word: str, *, timeout_s: float, tls: ssl.SSLContext | None = None) -> str:
    """The answer to a word. Raises WordError, and OSError or TimeoutError if nobody answers."""
    return checked(word, await answer(host, word, timeout_s=timeout_s, tls=tls))


async def answer(host: Host, word: str, *, timeout_s: float, tls: ssl.SSLContext | None = None) -> bytes:
    """The bytes up to the end of the connection. Raises OSError, TimeoutError, BadAnswer if there are too many."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host.name, host.port, ssl=tls)
        try:
            writer.write(word.encode())
            chunks: list[bytes] = []
            size = 0
            while chunk := await reader.read(_CHUNK_BYTES):
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise BadAnswer(word, f"more than {MAX_ANSWER_BYTES} bytes")
            return b"".join(chunks)
        finally:
            writer.close()


def why(error: BaseException) -> str:
    """What kept a server from answering, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)
