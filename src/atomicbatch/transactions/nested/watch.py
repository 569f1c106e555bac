"""The watch on a layer: what cannot be undone at its end is refused, and said."""

from __future__ import annotations

import mmap
import os
from typing import Any

from atomicbatch.errors import NotBatchableError, TransactionError
from atomicbatch.guard import Allowed, Watch
from atomicbatch.guard import watch as guard
from atomicbatch.guard.callers import Caller, caller
from atomicbatch.guard.watch import Driver, library_of, said

# How much of what a process that was forked has been refused is told.
_TOLD_BYTES = 2048


class LayerWatch(Watch):
    """
    What the doors of drivers tell, and are told, while a layer is open.

    Args:
        joined: The layer.
        allowed: What is left alone.
        told: Memory that is shared with processes which are forked; None: with none yet.
    """

    def __init__(self, joined: Any, allowed: Allowed, told: mmap.mmap | None = None) -> None:
        super().__init__(allowed)
        self._entering = False
        self.joined = joined
        self._told = told
        self._heard: TransactionError | None = None

    def elsewhere(self) -> Watch:
        """What watches a process that was forked; its parent hears of what it was refused."""
        if not self._active:
            return self
        watch = LayerWatch(None, self.allowed, self._told)
        watch._is_elsewhere = True
        return watch

    def before_fork(self) -> None:
        """Make the memory by which a process that is about to be forked tells."""
        if self._told is None:
            self._told = mmap.mmap(-1, _TOLD_BYTES)

    def told_by_child(self) -> TransactionError | None:
        """What a process that was forked has been refused, or None."""
        if self._heard is None and self._told is not None:
            text = bytes(self._told).rstrip(b"\0")
            if text:
                self._heard = NotBatchableError(text.decode("utf-8", "replace"))
        return self._heard

    def _stranger(self, connection: Any, driver: Driver) -> Caller | None:
        if self._active and self._takes_part(connection):
            self._own.append(connection)
            return None
        who = caller()
        if self.allowed.allows((*who.libraries, driver.name), driver.place(connection)):
            return None
        return who

    def _writes(self, connection: Any, driver: Driver, verb: str) -> None:
        who = self._stranger(connection, driver)
        if who is None:
            return
        what, name = said(who, connection, driver, verb), library_of(who, driver)
        if self._is_elsewhere:
            what = (
                f"{what}, in another process, which has no part in the transaction of the test; "
                f"let the test do that work in its own process"
            )
            if self._told is not None:
                self._told[:_TOLD_BYTES] = what.encode()[:_TOLD_BYTES].ljust(_TOLD_BYTES, b"\0")
        else:
            what = (
                f"{what}: that connection takes no part in the transaction of the test, whose "
                f"rollback could not undo it; if it may stay, allow it by name: "
                f'atomicbatch_outside = ["{name}"]'
            )
        self._refuse(what)


def _before_fork() -> None:
    watch = guard.watching.get()
    if isinstance(watch, LayerWatch):
        watch.before_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
