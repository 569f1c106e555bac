"""Commit hooks: functions that wait for a commit, left out in tests that are rolled back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.engine import current

WHY = "functions that wait for a commit are left out in tests"
"""The reason of all changes here."""


def leave_out(is_in_test: Callable[[], bool]) -> None:
    """
    Leave out what an app does after its commit: by our ``on_commit``, and by Django's.

    Batches in a test run theirs when they are committed, as always.

    Args:
        is_in_test: Tells whether a test runs that is rolled back.
    """

    def drops() -> bool:
        return is_in_test() and current.current_place() is None

    patches.change(current, "run_now", partial(_running_now, drops), why=WHY)
    patches.when_imported("django.db.backends.base.base", partial(_change_django, drops))


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
