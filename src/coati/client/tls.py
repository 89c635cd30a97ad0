"""TLS: how to reach a server over an encrypted connection, as files or as a context of the caller's."""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TLS:
    """Paths of PEM files. `ca` None trusts what the system trusts; `cert` and `key` prove who we are (mutual TLS)."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    key_password: str | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Raises OSError or ssl.SSLError if a file cannot be read or is not what it should be."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = self.check_hostname
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key, self.key_password)
        return context
