"""
Batches follow their calls into the greenlets that a call starts itself.

gevent starts greenlets with an empty context, so that what they write would be stored even if the
batch fails. Its class of greenlets cannot be changed, and there are many ways to one. But each new
greenlet takes over ``spawn_tree_locals``, a dict, from the one that makes it. So a call puts a seed
there. When such a greenlet runs for the first time, a trace function gives it the batch.

It gets our own context variables only: outside of batches it would have none of the app's either.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from threading import Thread
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")
OURS = "atomicbatch_"
"""The names of all our context variables begin so."""
_KEY = "atomicbatch"
_LOCALS = "spawn_tree_locals"


class _Seed:
    """What greenlets of one call begin with. It lives as long as they do."""

    __slots__ = ("__weakref__", "values")

    def __init__(self) -> None:
        self.values: list[tuple[ContextVar[Any], Any]] = [
            one for one in copy_context().items() if one[0].name.startswith(OURS)
        ]


_living: WeakSet[_Seed] = WeakSet()


def followed(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function; greenlets that it starts work for the batch of this context."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return function(*args, **kwargs)
    greenlet = sys.modules["greenlet"]
    here = greenlet.getcurrent()
    before = getattr(here, _LOCALS, None)
    seed = _Seed()
    _living.add(seed)
    setattr(here, _LOCALS, {**(before or {}), _KEY: seed})
    if not isinstance(greenlet.gettrace(), _Trace):
        greenlet.settrace(_Trace(greenlet))
    try:
        return function(*args, **kwargs)
    finally:
        setattr(here, _LOCALS, {} if before is None else before)


class _Trace:
    """
    A thread's trace function: it is called in each greenlet that is switched to.

    It goes as soon as no greenlet of a batch is left. An older one is called as well.
    """

    __slots__ = ("_greenlet", "_older")

    def __init__(self, greenlet: Any) -> None:
        self._greenlet = greenlet
        self._older = greenlet.gettrace()

    def __call__(self, event: str, args: Any) -> None:
        if event in ("switch", "throw"):
            _grow(args[1])
            if not _living and self._greenlet.gettrace() is self:
                self._greenlet.settrace(self._older)
        if self._older is not None:
            self._older(event, args)


def _grow(greenlet: Any) -> None:
    """Give a new greenlet, which runs now, the batch that it was started for."""
    tree: Any = getattr(greenlet, _LOCALS, None)
    seed = tree.get(_KEY) if tree else None
    if seed is None or greenlet.gr_context is not None:
        return
    if _serves_others(greenlet):
        setattr(greenlet, _LOCALS, {key: tree[key] for key in tree if key != _KEY})
        return
    for variable, value in seed.values:
        variable.set(value)


def _serves_others(greenlet: Any) -> bool:
    """
    Tell whether it is an event loop, or a thread.

    Threads are followed where they are started; those of pools serve others later.
    """
    function = getattr(greenlet, "_run", None)
    hub: Any = sys.modules["gevent.hub"]
    return isinstance(greenlet, hub.Hub) or isinstance(getattr(function, "__self__", None), Thread)
