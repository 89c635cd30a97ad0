"""Client: the verbs of BaseClient and the recipes on it; what `coati.Client` is.

It stands here because recipes know the client and the client must not know recipes.
"""

from __future__ import annotations

from coati.client.client import BaseClient


class Client(BaseClient):
    """A ZooKeeper session with recipes: `async with coati.Client("h1,h2/app") as zk:`. See BaseClient."""
