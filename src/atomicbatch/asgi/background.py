"""
Background tasks of Starlette, FastAPI and Litestar: after COMMIT, not after the call's response.

Frameworks run them at the end of a call. Some run the exits of ``yield`` dependencies, which may
commit, even later, so that nobody outside of the app can tell the two apart. Therefore, inside a
batch, the response's ``background`` gives a stand-in, which notes the task for later.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.engine.current import Place, current_place

Task = Callable[[], Any]


class Deferred:
    """
    A background task that will run after COMMIT; its attributes are those of the task itself.

    A middleware, or a list of tasks that it was put into, may run it when the batch has ended. Then
    it is an ordinary task; after a rollback it does nothing.
    """

    __slots__ = ("_place", "_task")

    def __init__(self, task: Any, place: Place) -> None:
        self._task = task
        self._place = place

    async def __call__(self) -> None:
        # Only while the batch runs: the tasks of a list are to run in the list's order.
        if not self._place.defer(self._task, while_active=True):
            await self._task()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


_WHY = "background tasks of a call wait for COMMIT"
_RESPONSES = {
    "starlette.responses": "Response",
    "litestar.response.base": "ASGIResponse",
}


def install() -> None:
    """Defer the background tasks of the frameworks, whenever they are imported."""
    for module in _RESPONSES:
        patches.when_imported(module, _change)


def uninstall() -> None:
    """Undo :func:`install`."""
    patches.undo(_WHY)


def _change(module: ModuleType) -> None:
    response = getattr(module, _RESPONSES[module.__name__], None)
    if response is not None:
        patches.change(response, "background", _Background, why=_WHY)


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
        place = current_place()
        return task if place is None else Deferred(task, place)

    def __set__(self, response: Any, task: Any) -> None:
        if isinstance(task, Deferred):
            task = task._task
        if self.slot is None:
            vars(response)["background"] = task
        else:
            self.slot.__set__(response, task)
