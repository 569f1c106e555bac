"""
Processes that a call starts, or gives work to, have no part in its batch.

One that is forked copies the call's context, and the guard in it: ``guard/watch.py`` sees to those.
One that is started anew (``spawn``, ``forkserver``) is told here to whose batch it belongs. Workers
of a pool outlive the batch that has started them, so they start without its context, and what a
call gives them to do is watched in the worker. What is refused there comes back as the job's
error, and fails the batch as it arrives: whoever waits for the job may hide it. The initializer of
a pool that a call makes is watched as well, as long as the batch runs.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from contextvars import Context
from functools import partial, wraps
from types import ModuleType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from atomicbatch import patches
from atomicbatch.doors.worker_threads import change_threads
from atomicbatch.errors import NotBatchableError
from atomicbatch.guard.children import Children
from atomicbatch.guard.places import Allowed
from atomicbatch.guard.watch import Watch, watching

T = TypeVar("T")
WHY = "what takes no part in a batch is refused"
logger = logging.getLogger("atomicbatch")
# Of multiprocessing.pool.Pool; apply(), map() and starmap() come down to these.
_POOL = ("apply_async", "_map_async", "imap", "imap_unordered")


def _nothing() -> None:
    """Nothing."""


prepare: Callable[[], None] = _nothing
"""Puts the doors into a process that may have none; ``install.py`` knows."""


# Pools -------------------------------------------------------------------------------------------


def change_executors(module: ModuleType) -> None:
    """Let pools of ``concurrent.futures`` watch what calls give them to do."""
    patches.change(module.ProcessPoolExecutor, "submit", _submit, why=WHY)
    patches.change(module.ProcessPoolExecutor, "__init__", _made, why=WHY)


def change_pools(module: ModuleType) -> None:
    """Let pools of ``multiprocessing`` watch what calls give them to do."""

    def given(found: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(found)
        def give(self: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            watch = watching.get()
            if watch is not None and watch.restrains and not isinstance(self, module.ThreadPool):
                func = partial(_watched, _name_of(watch), watch.allowed, func)
            return found(self, func, *args, **kwargs)

        return give

    def started(found: Callable[..., None]) -> Callable[..., None]:
        @wraps(found)
        def start(self: Any, *args: Any, **kwargs: Any) -> None:
            watch = watching.get()
            if watch is None or isinstance(self, module.ThreadPool):
                found(self, *args, **kwargs)
            else:
                args, kwargs = _with_initializer(watch, 1, args, kwargs)
                Context().run(found, self, *args, **kwargs)

        return start

    patches.change(module.Pool, "__init__", started, why=WHY)
    for name in _POOL:
        patches.change(module.Pool, name, given, why=WHY)


def _made(found: Callable[..., None]) -> Callable[..., None]:
    @wraps(found)
    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        if (watch := watching.get()) is not None:
            args, kwargs = _with_initializer(watch, 2, args, kwargs)
        found(self, *args, **kwargs)

    return make


def _with_initializer(
    watch: Watch, place: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Have the initializer of a pool's workers, if it has one, watched while the batch runs."""
    given = kwargs.get("initializer") or (args[place] if len(args) > place else None)
    if not callable(given) or not watch.restrains:
        return args, kwargs
    children = watch.children()
    if children is None:
        watch.check()
        return args, kwargs
    initializer = _Initializer(given, watch.allowed, children)
    if "initializer" in kwargs:
        return args, kwargs | {"initializer": initializer}
    return (*args[:place], initializer, *args[place + 1 :]), kwargs


def _submit(found: Callable[..., Any]) -> Callable[..., Any]:
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        watch = watching.get()
        if watch is None:
            return found(self, fn, *args, **kwargs)
        if watch.restrains:
            fn = partial(_watched, _name_of(watch), watch.allowed, fn)
        return Context().run(found, self, fn, *args, **kwargs)

    return submit


def _watched(
    batch: tuple[int, int], allowed: Allowed, fn: Callable[..., T], *args: Any, **kwargs: Any
) -> T:
    """In the worker: do a call's work, and tell what was refused, also where the work hides it."""
    prepare()
    change_threads()
    watch = Watch(allowed)
    watch.go_elsewhere()
    token = watching.set(watch)
    try:
        result = fn(*args, **kwargs)
    except Exception as error:
        if (refused := watch.hear(last=True)) is None:
            raise
        raise RefusedElsewhereError(batch, str(refused)) from error
    finally:
        watching.reset(token)
        refused = watch.hear(last=True)
        # What it leaves behind belongs to nobody that could hear of it.
        watch.end(undone=True)
    if refused is not None:
        raise RefusedElsewhereError(batch, str(refused))
    return result


class _Initializer:
    """Prepares a worker of a pool that a call has made; after the batch, unwatched."""

    def __init__(self, act: Callable[..., object], allowed: Allowed, children: Children) -> None:
        self._act = act
        self._allowed = allowed
        self._children = children

    def __reduce__(self) -> Any:
        if self._children.is_over:
            return partial, (self._act,)
        return _Initializer, (self._act, self._allowed, self._children)

    def __call__(self, *args: Any) -> None:
        if self._children.is_over:
            self._act(*args)
            return
        prepare()
        change_threads()
        watch = Watch(self._allowed)
        watch.go_elsewhere(self._children)
        token = watching.set(watch)
        try:
            self._act(*args)
        finally:
            watching.reset(token)


class RefusedElsewhereError(NotBatchableError):
    """
    What a worker was refused. Where it arrives by pickle it fails the batch.

    Args:
        batch: Names the batch.
        what: The message.
    """

    def __init__(self, batch: tuple[int, int], what: str) -> None:
        super().__init__(what)
        self._batch = batch

    def __reduce__(self) -> Any:
        return _told, (self._batch, str(self))


_watches: WeakValueDictionary[tuple[int, int], Watch] = WeakValueDictionary()
_numbers = itertools.count()


def _name_of(watch: Watch) -> tuple[int, int]:
    """Name the batch of a watch, in all processes."""
    if watch.name is None:
        watch.name = os.getpid(), next(_numbers)
        _watches[watch.name] = watch
    return watch.name


def _told(batch: tuple[int, int], what: str) -> NotBatchableError:
    error = NotBatchableError(what)
    watch = _watches.get(batch)
    is_heard = watch is not None and watch.hear_from_worker(error)
    if not is_heard and (watch is not None or batch[0] == os.getpid()):
        logger.warning("work that a call has left to a pool was refused after its batch: %s", what)
    return error


# Processes that are started anew -----------------------------------------------------------------


def change_processes(module: ModuleType) -> None:
    """Let processes that a call starts anew know that they do not belong to the batch."""
    patches.change(module.BaseProcess, "start", _start, why=WHY)


def _start(found: Callable[[Any], None]) -> Callable[[Any], None]:
    def start(self: Any) -> None:
        watch = watching.get()
        if watch is None or not watch.restrains or not _is_anew(self):
            return found(self)
        children = watch.children()
        if children is None:
            watch.check()
        self.run = _Run(self, watch.allowed, children)
        try:
            found(self)
        finally:
            del self.run
        return None

    return start


def _is_anew(process: Any) -> bool:
    """Tell whether a process is not forked; its class, or its context, says how it starts."""
    method = getattr(process, "_start_method", None)
    if method is None:
        from multiprocessing import get_start_method

        method = get_start_method()
    return os.name == "posix" and method in ("spawn", "forkserver")


class _Run:
    """Takes the place of a process's ``run``, in the process."""

    def __init__(self, process: Any, allowed: Allowed, children: Children | None) -> None:
        self._process = process
        self._allowed = allowed
        self._children = children

    def __call__(self) -> None:
        prepare()
        change_threads()
        watch = Watch(self._allowed)
        watch.go_elsewhere(self._children)
        watching.set(watch)
        process = self._process
        del process.run
        process.run()
