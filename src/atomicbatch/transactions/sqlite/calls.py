"""Calls: which connections of the app's a call has used; its end is the end of all of them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from atomicbatch.errors import TransactionError
from atomicbatch.join.session import OVER
from atomicbatch.transactions import joining
from atomicbatch.transactions.places import Spawn
from atomicbatch.transactions.sqlite.real import Host

current_call: ContextVar[Call | None] = ContextVar("atomicbatch_sqlite_call", default=None)


class Call(joining.Call):
    """One call of the batch."""

    __slots__ = ("attempt", "left_alone", "uses")

    def __init__(self, attempt: Host, spawn: Spawn | None = None) -> None:
        super().__init__(attempt, current_call, spawn)
        self.attempt = attempt
        # By the identity of the app's connection, which may not live as long.
        self.uses: dict[int, Any] = {}
        # These are kept, so that their identities are not used again.
        self.left_alone: dict[int, Any] = {}

    def check(self) -> None:
        """Refuse what the call has left behind, after its end, and threads that it cannot use."""
        if self.ended:
            if not self.attempt.active:
                raise TransactionError(OVER)
            self.refuse_left_behind()
        self.check_thread()
