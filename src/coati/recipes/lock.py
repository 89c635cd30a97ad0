"""Lock and ExclusiveLock: one holder at a time, in the order of asking, or whoever is quickest.

Sources: ZooKeeper's recipes; Curator's InterProcessMutex; kazoo's Lock.
"""

from __future__ import annotations

import asyncio
from typing import Final

from coati.client.client import BaseClient, joined
from coati.client.ops import Create, MultiError
from coati.client.types import Mode, Node, parent_path
from coati.client.watching import Trigger
from coati.errors import ConnectionLoss, KeeperError, NodeExists, NoNode, ZKError
from coati.recipes.claim import Claim
from coati.recipes.held import MARGIN, Held, OnLoss, Release
from coati.recipes.line import LOCK, Contender, Layout, Line, too_late

_MARKS: Final[dict[Layout, str]] = {"native": "-lock-", "curator": "-lock-", "kazoo": "__lock__"}


class Lock(Claim[Held]):
    """Fair: who asks first gets it first, and each waiter watches only the one before it. See Claim."""

    def __init__(
        self,
        client: BaseClient,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> None:
        super().__init__(client, timeout=timeout, on_loss=on_loss, reentrant=reentrant)
        self.path = path
        self._id = id
        self._mark = _MARKS[layout]
        self._line = Line(client, path, LOCK[layout])
        self._release = Release(joined(client))

    async def holders(self) -> list[Contender]:
        """Who holds it, then who waits, in order."""
        return await self._line.contenders()

    async def _win(self, deadline: float | None, *, waits: bool) -> Held | None:
        node = await self._line.win(self._mark, self._id, deadline, waits=waits)
        return None if node is None else Held(self._client, node)

    async def _free(self, held: Held) -> None:
        await self._release.delete(held.path)


class ExclusiveLock(Claim[Held]):
    """One znode of a fixed name, `path` itself: whoever creates it holds it, and its end starts a new race.

    Not fair, and each release wakes everybody who waits: for a few contenders, or where the name must be known.
    """

    def __init__(
        self,
        client: BaseClient,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss = "cancel",
        reentrant: bool = False,
    ) -> None:
        super().__init__(client, timeout=timeout, on_loss=on_loss, reentrant=reentrant)
        self.path = path
        self._id = id
        self._patient = client.with_options(timeout=None)

    async def holder(self) -> Contender | None:
        """Who holds it. Those who wait are not known."""
        try:
            node = await self._client.get(self.path)
        except NoNode:
            return None
        stat = node.stat
        id = node.data[:-_MARK_BYTES]
        return Contender(id, node.path, stat.czxid, stat.ephemeral_owner, stat.created, "", self._client)

    async def _win(self, deadline: float | None, *, waits: bool) -> Held | None:
        # By this a contender knows its own znode if nobody has answered the create.
        data = self._id + b"#" + self._client.unique().encode()
        try:
            async with asyncio.timeout_at(deadline):
                while (node := await self._create(data)) is None:
                    if not waits:
                        return None
                    await self._wait_for_end()
        except TimeoutError as error:
            self._disown_soon(data)
            raise too_late(self._client, self.path) from error
        except BaseException:
            self._disown_soon(data)
            raise
        return Held(self._client, node)

    async def _create(self, data: bytes) -> Node | None:
        """Ours now; None if it is somebody else's."""
        while True:
            try:
                # A multi claims nothing that it was not told of.
                made = (await self._patient.multi([Create(self.path, data, Mode.EPHEMERAL)]))[0]
            except ConnectionLoss:
                found = await self._find_own(data)
                if found is not None:
                    return found
                continue
            except MultiError as error:
                if isinstance(error.results[0], NodeExists):
                    return None
                if not isinstance(error.results[0], NoNode):
                    raise
                await self._patient.ensure(parent_path(self.path))
                continue
            assert isinstance(made, Node)
            if made.stat.czxid:
                return made
            # Java before 3.9 has no Stat in the answer to a multi.
            found = await self._find_own(data)
            if found is not None:
                return found

    async def _find_own(self, data: bytes) -> Node | None:
        """The znode if it is this contender's, of this session."""
        await self._patient.sync(self.path)
        try:
            node = await self._patient.get(self.path)
        except NoNode:
            return None
        return node if node.data == data and node.stat.ephemeral_owner == self._client.session.id else None

    async def _wait_for_end(self) -> None:
        wake = Trigger()
        try:
            await self._patient.get(self.path, watch=wake)
            await wake.wait()
        except NoNode:
            return
        finally:
            wake.close()

    # --- giving back ------------------------------------------------------------------------------

    async def _free(self, held: Held) -> None:
        await self._delete(held.token, held.owner, is_sure=not held.is_lost)

    def _disown_soon(self, data: bytes) -> None:
        if not self._client.is_closed:
            self._client.spawn(self._disown(data))

    async def _disown(self, data: bytes) -> None:
        """After a create that nobody has waited for."""
        try:
            node = await self._find_own(data)
            if node is not None:
                await self._delete(node.stat.czxid, node.stat.ephemeral_owner, is_sure=True)
        except ZKError:
            # The session is over, and what it may have made with it.
            return

    async def _delete(self, token: int, owner: int, *, is_sure: bool) -> None:
        """Deletes the znode with this czxid: never one that somebody else has created since under the same name.

        Once the session that owns it is over, the server sees to that. `is_sure`: it was there a moment ago.
        """
        loop = asyncio.get_running_loop()
        session = self._client.session
        while session.id == owner and not self._client.is_closed:
            try:
                if not is_sure:
                    stat = await self._patient.exists(self.path)
                    if stat is None or stat.czxid != token:
                        return
                # Sent only while the session certainly lives, since what it has made is there for as long; and once,
                # since a second one might meet a successor.
                left_s = session.deadline - loop.time()
                if left_s > 0:
                    await self._client.with_options(timeout=left_s).delete(self.path)
                    return
            except NoNode:
                return
            except KeeperError:
                await asyncio.sleep(session.timeout * MARGIN)
            except ZKError:
                # The znode is looked at before it is tried again.
                await asyncio.sleep(0)
            is_sure = False


_MARK_BYTES: Final = 33
