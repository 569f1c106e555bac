"""
The door of SQLAlchemy's pools: what sets up a connection that they open is no part of a batch.

An app's listeners for ``connect`` set up connections (``SET search_path``), and the dialect asks
the server for its version. That holds for as long as the pool has the connection, so it must not
go to the batch's own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.guard.watch import aside, watching

WHY = "what takes no part in a batch is refused"
_CONNECT = "_ConnectionRecord__connect"


def change_sqlalchemy_pool(module: ModuleType) -> None:
    """Let pools open their connections outside of batches."""
    if hasattr(module._ConnectionRecord, _CONNECT):
        patches.change(module._ConnectionRecord, _CONNECT, _connecting, why=WHY)


def _connecting(found: Callable[..., None]) -> Callable[..., None]:
    def connect(self: Any) -> None:
        if watching.get() is None:
            found(self)
            return
        with aside():
            found(self)

    return connect
