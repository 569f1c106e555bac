"""Litestar's ``after_response`` hooks: after COMMIT, as its background tasks, not after a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.engine.current import current_place

Hook = Callable[[Any], Awaitable[object]]
_WHY = "after_response hooks of a call wait for COMMIT"


def install() -> None:
    """Defer the hooks, whenever Litestar is imported."""
    patches.when_imported("litestar.handlers.http_handlers.base", _change)


def uninstall() -> None:
    """Undo :func:`install`."""
    patches.undo(_WHY)


def _change(module: ModuleType) -> None:
    handler = getattr(module, "HTTPRouteHandler", None)
    if hasattr(handler, "resolve_after_response"):
        patches.change(handler, "resolve_after_response", _deferring, why=_WHY)


def _deferring(original: Callable[[Any], Hook | None]) -> Callable[[Any], Hook | None]:
    def resolve_after_response(handler: Any) -> Hook | None:
        hook = original(handler)
        return hook if hook is None or current_place() is None else partial(_later, hook)

    return resolve_after_response


async def _later(hook: Hook, request: Any) -> None:
    place = current_place()
    if place is None or not place.defer(partial(hook, request), while_active=True):
        await hook(request)
