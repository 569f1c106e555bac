"""
Pools of processes, which an app has for computing.

A process that a call forks copies the call's context, but takes no part in its batch. Workers of a
pool outlive the batch that has started them, so they start without that context. What a call gives
them to do is watched in the worker.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

from atomicbatch import patches
from atomicbatch.guard.places import Allowed
from atomicbatch.guard.watch import Watch, watching

T = TypeVar("T")
WHY = "what takes no part in a batch is refused"


def change_pools(module: ModuleType) -> None:
    """Let pools of processes watch what calls give them to do."""
    patches.change(module.ProcessPoolExecutor, "submit", _submit, why=WHY)


def _submit(found: Callable[..., Any]) -> Callable[..., Any]:
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        watch = watching.get()
        if watch is None:
            return found(self, fn, *args, **kwargs)
        if watch.restrains:
            fn = partial(_watched, watch.allowed, fn)
        return Context().run(found, self, fn, *args, **kwargs)

    return submit


def _watched(allowed: Allowed, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """In the worker, which has doors if it was forked from this process or has the app itself."""
    token = watching.set(Watch(allowed).elsewhere())
    try:
        return fn(*args, **kwargs)
    finally:
        watching.reset(token)
