"""coati.sync: the client for threads. Names from inside, and no code."""

from coati.sync.bridge import (
    OnLoss,
    Polled,
    Steps,
)
from coati.sync.client import (
    Client,
    Held,
    SessionView,
    Transaction,
    Trigger,
    Watch,
)

__all__ = [
    "Client",
    "Held",
    "OnLoss",
    "Polled",
    "SessionView",
    "Steps",
    "Transaction",
    "Trigger",
    "Watch",
]
