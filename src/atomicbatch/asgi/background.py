"""
Background tasks of Starlette, FastAPI and Litestar: after COMMIT, not after the call's response.

Frameworks run them as the last thing of a call, and some run the exit of ``yield`` dependencies,
which may well commit, even later. So nothing outside of the app can tell them apart; instead,
inside a batch, the response's ``background`` gives a stand-in that takes the task down for later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from atomicbatch.engine.current import RunningBatch, current_batch

Task = Callable[[], Any]


class Deferred:
    """A background task that will run after COMMIT; everything else about it is its own."""

    __slots__ = ("_batch", "_task")

    def __init__(self, task: Any, batch: RunningBatch) -> None:
        self._task = task
        self._batch = batch

    async def __call__(self) -> None:
        self._batch.defer(self._task)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def install() -> None:
    """Defer the background tasks of the frameworks that have been imported; again: no harm."""
    for module, name in (
        ("starlette.responses", "Response"),
        ("litestar.response.base", "ASGIResponse"),
    ):
        response = getattr(sys.modules.get(module), name, None)
        if response is not None and not isinstance(vars(response).get("background"), _Background):
            response.background = _Background(vars(response).get("background"))


def uninstall() -> None:
    """Undo :func:`install`."""
    for module, name in (
        ("starlette.responses", "Response"),
        ("litestar.response.base", "ASGIResponse"),
    ):
        response = getattr(sys.modules.get(module), name, None)
        found = vars(response).get("background") if response is not None else None
        if isinstance(found, _Background):
            if found.slot is None:
                del response.background  # type: ignore[union-attr]
            else:
                response.background = found.slot  # type: ignore[union-attr]


class _Background:
    """
    The attribute ``background`` of responses.

    Args:
        slot: The descriptor that was there before (Litestar's responses have slots), or None.
    """

    def __init__(self, slot: Any) -> None:
        self.slot = slot

    def __get__(self, response: Any, owner: type) -> Any:
        if response is None:
            return self
        if self.slot is None:
            try:
                task = vars(response)["background"]
            except KeyError:
                raise AttributeError("background") from None
        else:
            task = self.slot.__get__(response, owner)
        if task is None:
            return None
        batch = current_batch()
        return task if batch is None else Deferred(task, batch)

    def __set__(self, response: Any, task: Any) -> None:
        if isinstance(task, Deferred):
            task = task._task
        if self.slot is None:
            vars(response)["background"] = task
        else:
            self.slot.__set__(response, task)
