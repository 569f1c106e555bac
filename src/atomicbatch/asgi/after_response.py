"""Litestar's ``after_response`` hooks: after COMMIT, as its background tasks, not after a call."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

from atomicbatch.engine.current import current_place

Hook = Callable[[Any], Awaitable[object]]
_MODULE, _CLASS, _METHOD = (
    "litestar.handlers.http_handlers.base",
    "HTTPRouteHandler",
    "resolve_after_response",
)
# What was there before, or None: not installed.
_original: Any = None


def install() -> None:
    """Defer the hooks, once Litestar has been imported."""
    global _original
    if _original is not None or _MODULE not in sys.modules:
        return
    handler = getattr(sys.modules[_MODULE], _CLASS, None)
    original = getattr(handler, _METHOD, None)
    if original is not None:
        setattr(handler, _METHOD, _deferring(original))
        _original = original


def uninstall() -> None:
    """Undo :func:`install`."""
    global _original
    if _original is not None:
        setattr(getattr(sys.modules[_MODULE], _CLASS), _METHOD, _original)
        _original = None


def _deferring(original: Callable[[Any], Hook | None]) -> Callable[[Any], Hook | None]:
    @wraps(original)
    def resolve_after_response(handler: Any) -> Hook | None:
        hook = original(handler)
        return hook if hook is None or current_place() is None else partial(_later, hook)

    return resolve_after_response


async def _later(hook: Hook, request: Any) -> None:
    place = current_place()
    if place is None or not place.defer(partial(hook, request), while_active=True):
        await hook(request)
