"""Scopes: which transactions of fixtures and tests are open, and which one code belongs to now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from atomicbatch import doors
from atomicbatch.errors import TransactionError
from atomicbatch.guard import Allowed
from atomicbatch.guard import watch as guard
from atomicbatch.model import Batch
from atomicbatch.testing.following import Following
from atomicbatch.transactions.around import around
from atomicbatch.transactions.drivers import Joining
from atomicbatch.transactions.nested.batches import NestedAttempt
from atomicbatch.transactions.nested.layers import Layer
from atomicbatch.transactions.nested.wires import Wires
from atomicbatch.transactions.nested.words import IN_TESTS
from atomicbatch.transactions.sqlite import calls
from atomicbatch.transactions.sqlite.memory import Memory

SCOPES = ("session", "package", "module", "class", "function")
"""pytest's, the widest first."""


class Scopes:
    """
    The layers that are open, the widest first.

    Args:
        outside: What they leave alone, by name: see :class:`~atomicbatch.guard.Allowed`.
    """

    def __init__(self, outside: Iterable[str] = ()) -> None:
        self._allowed = Allowed(tuple(outside), IN_TESTS)
        self._memory = Memory()
        self._wires = Wires()
        self._open: list[tuple[str, Layer]] = []
        # The scopes of the fixtures that are being set up, the innermost last.
        self._setting_up: list[str] = []
        self._watching = Following(guard.watching)
        self._current_call = Following(calls.current_call)

    @property
    def are_open(self) -> bool:
        """Tell whether anything is rolled back now."""
        return bool(self._open)

    @property
    def current(self) -> Layer | None:
        """The layer that code belongs to which runs now."""
        most = len(SCOPES) - 1 if not self._setting_up else SCOPES.index(self._setting_up[-1])
        for scope, layer in reversed(self._open):
            if SCOPES.index(scope) <= most:
                return layer
        return None

    def open(self, scope: str) -> Layer:
        """Open a layer inside of those that are open."""
        if not self._open:
            self._begin()
        layer = Layer(self._allowed, self._open[-1][1] if self._open else None, self._wires)
        self._open.append((scope, layer))
        self._follow()
        return layer

    def close(self, layer: Layer) -> None:
        """Undo what was stored in a layer, which is the innermost one."""
        _, last = self._open[-1]
        if last is not layer:
            raise RuntimeError("fixtures end in the order in which they do not")
        try:
            layer.end()
        finally:
            self._open.pop()
            self._follow()
            if not self._open:
                self._end()

    @contextmanager
    def setting_up(self, scope: str) -> Iterator[None]:
        """A fixture is set up inside the block: what it stores lasts as long as its scope."""
        self._setting_up.append(scope)
        self._follow()
        try:
            yield
        finally:
            self._setting_up.pop()
            self._follow()

    def problem(self) -> TransactionError | None:
        """Why something that was done cannot be undone, or was refused."""
        for _, layer in reversed(self._open):
            if layer.problem is not None:
                return layer.problem
        return None

    def _begin(self) -> None:
        doors.begin_batch(IN_TESTS)
        self._watching.put_in_place()
        self._current_call.put_in_place()
        around.nest, around.layer = self._nest, lambda: self.current

    def _end(self) -> None:
        around.clear()
        self._wires.stop()
        self._watching.take_away()
        self._current_call.take_away()

    def _follow(self) -> None:
        layer = self.current
        self._watching.fallback = None if layer is None else layer.watch
        self._current_call.fallback = None if layer is None else layer.whole

    def _nest(self, batch: Batch, deadline: float) -> Any:
        layer = self.current
        if layer is None:
            return None
        attempt = NestedAttempt(layer, self._memory, self._allowed, batch, deadline)
        return Joining(attempt, self._allowed)
