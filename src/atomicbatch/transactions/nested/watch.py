"""The watch on a layer: what cannot be undone at its end is refused, and said."""

from __future__ import annotations

from typing import Any

from atomicbatch.guard import Allowed, Watch
from atomicbatch.guard.callers import Caller, caller
from atomicbatch.guard.watch import Driver, library_of, said
from atomicbatch.transactions.nested.words import for_tests


class LayerWatch(Watch):
    """
    What the doors of drivers tell, and are told, while a layer is open.

    Args:
        joined: The layer.
        allowed: What is left alone.
    """

    def __init__(self, joined: Any, allowed: Allowed) -> None:
        super().__init__(allowed)
        self._entering = False
        self.joined = joined

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
        what, name = for_tests(said(who, connection, driver, verb)), library_of(who, driver)
        if self._is_elsewhere:
            self._refuse_elsewhere(
                f"{what}, in another process, which has no part in the transaction of the test; "
                f"let the test do that work in its own process"
            )
            return
        advice, since, first = self.allowed.advice, "", ""
        if driver.is_early:
            since = f" was opened before {advice.watched_since} and"
            first = f"{advice.watch_first}; "
        self._refuse(
            f"{what}: that connection{since} takes no part in the transaction of the test, whose "
            f"rollback could not undo it; {first}{advice.allow.format(name=name)}"
        )
