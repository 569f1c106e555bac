"""Links: how a transaction is begun and ended that is a savepoint of another one's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class _Link:
    """
    The outer transaction's link, by which the join's steps are run, but for BEGIN and the end.

    The join sets a savepoint right after BEGIN, and releases it right before COMMIT. So nothing is
    to be done for BEGIN, nor for COMMIT, and ROLLBACK is one to that savepoint.

    Args:
        outer: The link of the outer transaction.
        root: The name of that savepoint.
        is_begun: Tells whether it has been set on the connection, or was put off so far.
    """

    ends_in_one = False
    """There is no COMMIT with which the release of the savepoint could go along."""

    def __init__(self, outer: Any, root: str, is_begun: Callable[[], bool]) -> None:
        self._outer = outer
        self._is_begun = is_begun
        self._undoing = (f"ROLLBACK TO SAVEPOINT {root}", f"RELEASE SAVEPOINT {root}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outer, name)


class NestedLink(_Link):
    """For threads."""

    def begin(self) -> None:
        """Nothing: the savepoint comes next."""

    def commit(self) -> None:
        """Nothing: the savepoint has been released."""

    def rollback(self) -> None:
        """Undo everything since the savepoint."""
        if self._is_begun():
            self._outer.send(self._undoing)


class NestedAsyncLink(_Link):
    """For event loops."""

    async def begin(self) -> None:
        """Nothing: the savepoint comes next."""

    async def commit(self) -> None:
        """Nothing: the savepoint has been released."""

    async def rollback(self) -> None:
        """Undo everything since the savepoint."""
        if self._is_begun():
            await self._outer.send(self._undoing)
