"""Client: the verbs of BaseClient and the recipes on it; what `coati.Client` is.

It stands here because recipes know the client and the client must not know recipes.
"""

from __future__ import annotations

from coati.client.client import BaseClient
from coati.recipes.held import OnLoss
from coati.recipes.line import Layout
from coati.recipes.lock import Lock


class Client(BaseClient):
    """A ZooKeeper session with recipes: `async with coati.Client("h1,h2/app") as zk:`. See BaseClient."""

    # --- locks ------------------------------------------------------------------------------------

    def lock(
        self,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> Lock:
        """A fair lock: `async with zk.lock("/locks/job", timeout=5) as held:`. See Lock."""
        return Lock(self, path, id=id, timeout=timeout, on_loss=on_loss, layout=layout, reentrant=reentrant)
