"""Connections that the app drops without closing them: what they have not committed is undone."""

from __future__ import annotations

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
        # References, by their own identity: to what is gone they are all alike.
        self._followed: dict[int, Any] = {}
        # A list, since the collector may add to it in the middle of anything.
        self._uses: list[Uses] = []

    def __bool__(self) -> bool:
        return bool(self._uses)

    def follow(self, connection: Any, use: Uses) -> None:
        """Notice when a connection of the app's is gone; some classes do not tell."""
        with suppress(TypeError):
            reference = ref(connection, partial(self._note, use))
            self._followed[id(reference)] = reference

    def _note(self, use: Uses, gone: Any) -> None:
        self._followed.pop(id(gone), None)
        self._uses.append(use)

    def close(self) -> None:
        """Undo what those of sync drivers have not committed."""
        for use in self._uses[:]:
            if isinstance(use, SyncUse):
                try:
                    use.close()
                finally:
                    self._forget(use)

    async def close_async(self) -> None:
        """Likewise of async drivers; whoever asks meanwhile waits as well."""
        for use in self._uses[:]:
            if isinstance(use, AsyncUse):
                try:
                    await use.close()
                finally:
                    self._forget(use)

    def _forget(self, use: Uses) -> None:
        with suppress(ValueError):  # somebody else was faster
            self._uses.remove(use)
