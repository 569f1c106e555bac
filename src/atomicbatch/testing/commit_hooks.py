"""Commit hooks: functions that wait for a commit, left out in tests that are rolled back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.engine import current
from atomicbatch.guard.callers import is_installed

WHY = "functions that wait for a commit are left out in tests"
"""The reason of all changes here."""


def leave_out(is_in_test: Callable[[], bool]) -> None:
    """
    Leave out what an app does after its commit.

    By our ``on_commit`` and Django's, by peewee's ``after_commit``, and by the app's own listeners
    to SQLAlchemy's event ``after_commit``. Those of installed packages run: by it libraries put in
    order what they remember of a session. Batches in a test run theirs as always.

    Args:
        is_in_test: Tells whether a test runs that is rolled back.
    """

    def drops() -> bool:
        return is_in_test() and current.current_place() is None

    patches.change(current, "run_now", partial(_running_now, drops), why=WHY)
    patches.when_imported("django.db.backends.base.base", partial(_change_django, drops))
    patches.when_imported("peewee", partial(_change_peewee, drops))
    patches.when_imported("sqlalchemy.orm.events", partial(_change_sqlalchemy, drops))


def _running_now(drops: Callable[[], bool], found: Callable[[Any], None]) -> Any:
    def run_now(act: Any) -> None:
        if not drops():
            found(act)

    return run_now


def _change_django(drops: Callable[[], bool], module: ModuleType) -> None:
    wrapper = module.BaseDatabaseWrapper

    def on_commit(found: Callable[..., None]) -> Any:
        def act(self: Any, func: Any, robust: bool = False) -> None:
            # Inside of a block it waits, and is dropped at the block's end.
            if self.in_atomic_block or not callable(func) or not drops():
                found(self, func, robust=robust)

        return act

    def run_and_clear(found: Callable[[Any], None]) -> Any:
        def act(self: Any) -> None:
            if drops():
                self.run_on_commit = []
            else:
                found(self)

        return act

    patches.change(wrapper, "on_commit", on_commit, why=WHY)
    patches.change(wrapper, "run_and_clear_commit_hooks", run_and_clear, why=WHY)


def _change_peewee(drops: Callable[[], bool], module: ModuleType) -> None:
    if not hasattr(module.Database, "_run_commit_callbacks"):
        return  # before version 4

    def after_commit(found: Callable[..., Any]) -> Any:
        def act(self: Any, fn: Any) -> Any:
            # Inside of a transaction it waits, and is dropped at its end.
            return fn if self.transaction_depth() == 0 and drops() else found(self, fn)

        return act

    def run_callbacks(found: Callable[[Any], None]) -> Any:
        def act(self: Any) -> None:
            if drops():
                self._clear_commit_callbacks()
            else:
                found(self)

        return act

    patches.change(module.Database, "after_commit", after_commit, why=WHY)
    patches.change(module.Database, "_run_commit_callbacks", run_callbacks, why=WHY)


def _change_sqlalchemy(drops: Callable[[], bool], module: ModuleType) -> None:
    def listening(found: Callable[..., None]) -> Any:
        def listen(event_key: Any, **options: Any) -> None:
            if event_key.identifier == "after_commit" and not is_installed(event_key.fn):
                event_key = event_key.with_wrapper(_Listener(drops, event_key))
            found(event_key, **options)

        return listen

    patches.change(module.SessionEvents, "_listen", listening, why=WHY)


class _Listener:
    """
    A listener of the app's to ``after_commit``.

    Args:
        drops: Tells whether it is left out.
        event_key: What SQLAlchemy knows it by.
    """

    def __init__(self, drops: Callable[[], bool], event_key: Any) -> None:
        self._drops = drops
        self._listener: Any = event_key._listen_fn
        # SQLAlchemy has wrapped one that is to be called once: it is not called later instead.
        self._is_for_once = self._listener is not event_key.fn
        self._is_over = False

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self._is_over:
            return None
        if self._drops():
            self._is_over = self._is_for_once
            return None
        return self._listener(*args, **options)
