"""
Hooks: the places where Django's database layer has to know of a batch.

Django's connections join a batch by their drivers' doors: ``DatabaseWrapper`` is told nothing, and
its autocommit, its atomic blocks and its savepoints are Django's own. What a door cannot know is
changed here, on ``BaseDatabaseWrapper``:

===============================  ==================================================================
``on_commit``,                   functions wait for the batch's COMMIT, and are dropped when it is
``run_and_clear_commit_hooks``   rolled back
``connect``                      what sets a connection up does not belong to the batch, and the
                                 batch's own connection is opened and set up by Django as well
``close_if_unusable_or_...``     its age does not close a connection between two calls: with
                                 ``CONN_MAX_AGE=0`` each call would open one
``close``                        rows that a handler loses by closing fail the batch
===============================  ==================================================================

``CursorWrapper`` asks the guard before it sends, where the driver has no door: see ``drivers.py``.

Outside of batches each passes everything on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.django.drivers import calling, executing, unwrapped
from atomicbatch.doors.openers import note_opener
from atomicbatch.engine.current import Place, current_place
from atomicbatch.guard.watch import aside, watching

WHY = "Django's connections work in a batch's transaction"
"""The reason of all changes here."""

# The one that Django tells of failures of robust functions.
_logger = logging.getLogger("django.db.backends.base")
_LOSES = (
    "a handler closes its connection inside atomic(), whose rows would be lost although the call "
    "succeeds; close it after the block, or leave that to Django"
)


def install() -> None:
    """Change Django's database layer, as soon as it is imported; once."""
    patches.when_imported("django.db.backends.base.base", _change_connections)
    patches.when_imported("django.db.backends.utils", _change_cursors)


def _change_connections(module: ModuleType) -> None:
    for name, make in _CHANGES.items():
        patches.change(module.BaseDatabaseWrapper, name, make, why=WHY)


def _change_cursors(module: ModuleType) -> None:
    for name, make in _CHANGES_OF_CURSORS.items():
        patches.change(module.CursorWrapper, name, make, why=WHY)


# Functions for after COMMIT ----------------------------------------------------------------------


def _on_commit(found: Callable[..., None]) -> Callable[..., None]:
    def on_commit(self: Any, func: Callable[[], object], robust: bool = False) -> None:
        place = _place()
        if (
            place is None
            or not callable(func)
            # It waits for the block's end, or cannot wait at all; both as Django does it.
            or self.in_atomic_block
            or not self.get_autocommit()
        ):
            found(self, func, robust=robust)
        else:
            _defer(place, func, robust)

    return on_commit


def _running_and_clearing(found: Callable[[Any], None]) -> Callable[[Any], None]:
    def run_and_clear_commit_hooks(self: Any) -> None:
        place = _place()
        if place is None:
            found(self)
            return
        self.validate_no_atomic_block()
        waiting, self.run_on_commit = self.run_on_commit, []
        for _, func, robust in waiting:
            _defer(place, func, robust)

    return run_and_clear_commit_hooks


def _place() -> Place | None:
    """Return where functions wait; None: they do not, since this is no call, or COMMIT is over."""
    place = current_place()
    return None if place is None or place.is_stored else place


def _defer(place: Place, func: Callable[[], object], robust: bool) -> None:
    act = _Deferred(func, robust)
    if not place.defer(act):
        act()


class _Deferred:
    """A function that waits for COMMIT."""

    def __init__(self, func: Callable[[], object], robust: bool) -> None:
        self._func = func
        self._robust = robust
        self.__qualname__ = getattr(func, "__qualname__", type(func).__qualname__)

    def __call__(self) -> None:
        try:
            self._func()
        except Exception as error:
            if not self._robust:
                raise
            # As Django says it.
            _logger.error(
                "Error calling %s in on_commit() (%s).", self.__qualname__, error, exc_info=True
            )


# Connections -------------------------------------------------------------------------------------


def _connecting(found: Callable[[Any], None]) -> Callable[[Any], None]:
    def connect(self: Any) -> None:
        with aside():
            found(self)
        # Not with the wrapper in hand, which has the connection: neither would ever be freed.
        opener = partial(_open, found, type(self), self.settings_dict, self.alias)
        note_opener(unwrapped(self.connection), opener)

    return connect


def _open(
    connect: Callable[[Any], None], wrapper: Any, settings: Mapping[str, Any], alias: str
) -> Any:
    """Open another connection to a database, and set it up, as Django does."""
    options = {name: value for name, value in settings["OPTIONS"].items() if name != "pool"}
    twin = wrapper({**settings, "OPTIONS": options}, alias)
    connect(twin)
    return unwrapped(twin.connection)


def _closing_the_obsolete(found: Callable[[Any], None]) -> Callable[[Any], None]:
    def close_if_unusable_or_obsolete(self: Any) -> None:
        if watching.get() is None:
            found(self)
            return
        # Once the batch is over, it is closed at its age again: the end of the request sees to it.
        # Nor is its health checked for each call, since it is not what the calls' queries go by.
        until, is_checked = self.close_at, self.health_check_done
        self.close_at = None
        try:
            found(self)
        finally:
            self.close_at = until
            self.health_check_done = self.health_check_done or is_checked

    return close_if_unusable_or_obsolete


def _closing(found: Callable[[Any], None]) -> Callable[[Any], None]:
    def close(self: Any) -> None:
        watch = watching.get()
        if (
            watch is not None
            and watch.joins
            and self.in_atomic_block
            and not self.closed_in_transaction
            and self.connection is not None
            and watch.joined.has_written(unwrapped(self.connection))
        ):
            watch.joined.refuse(_LOSES)
        found(self)

    return close


_CHANGES: dict[str, Callable[[Any], Callable[..., None]]] = {
    "on_commit": _on_commit,
    "run_and_clear_commit_hooks": _running_and_clearing,
    "connect": _connecting,
    "close_if_unusable_or_obsolete": _closing_the_obsolete,
    "close": _closing,
}
_CHANGES_OF_CURSORS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "_execute": executing,
    "_executemany": executing,
    "callproc": calling,
}
