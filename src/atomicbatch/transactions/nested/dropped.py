"""Connections that the app drops without closing them: what they have not committed is undone."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import ref

from atomicbatch.transactions.servers.async_use import AsyncUse
from atomicbatch.transactions.servers.attempt import Uses
from atomicbatch.transactions.servers.sync_use import SyncUse


class Dropped:
    """
    The uses in a layer whose connections are gone.

    The server would roll them back. In a batch that is done at the end of the call, which a test
    has not. Here it is done before the next statement of anybody's, since the garbage collector
    must not be made to wait.
    """

    def __init__(self) -> None:
        self._followed: list[Any] = []
        self._uses: deque[Uses] = deque()

    def __bool__(self) -> bool:
        return bool(self._uses)

    def follow(self, connection: Any, use: Uses) -> None:
        """Notice when a connection of the app's is gone; some classes do not tell."""
        with suppress(TypeError):
            self._followed.append(ref(connection, partial(self._note, use)))

    def _note(self, use: Uses, gone: Any) -> None:
        # By identity: references to what is gone are all alike.
        self._followed = [one for one in self._followed if one is not gone]
        self._uses.append(use)

    def close(self) -> None:
        """Undo what those of sync drivers have not committed."""
        for _ in range(len(self._uses)):
            use = self._uses.popleft()
            if isinstance(use, SyncUse):
                use.close()
            else:
                self._uses.append(use)

    async def close_async(self) -> None:
        """Likewise of async drivers."""
        for _ in range(len(self._uses)):
            use = self._uses.popleft()
            if isinstance(use, AsyncUse):
                await use.close()
            else:
                self._uses.append(use)
