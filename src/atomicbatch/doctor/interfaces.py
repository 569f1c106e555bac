"""Interfaces: whether an object is an ASGI app or a WSGI app, and what is inside of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from inspect import iscoroutinefunction, signature
from typing import Any

from atomicbatch import asgi, wsgi

# Where middleware and frameworks keep the app that they call.
_INNER = ("app", "asgi_app", "wsgi_app", "application", "asgi_handler", "__wrapped__")
_HANDLERS = {"django.core.handlers.asgi.ASGIHandler", "django.core.handlers.wsgi.WSGIHandler"}
# How deep apps and middleware may be nested.
_DEEPEST = 20


class Interface(Enum):
    """How a server calls an app."""

    ASGI = "ASGI"
    WSGI = "WSGI"


def interface_of(app: Callable[..., Any]) -> Interface:
    """
    Tell how a server would call an app.

    What it takes decides; for what takes anything (decorators, say), what is inside.
    """
    for one in layers(app):
        if isinstance(one, asgi.AtomicBatch | wsgi.AtomicBatch):
            is_wsgi = isinstance(one, wsgi.AtomicBatch)
            return Interface.WSGI if is_wsgi else Interface.ASGI
        by_wsgi, by_asgi = _takes(one, 2), _takes(one, 3)
        if by_wsgi != by_asgi:
            return Interface.WSGI if by_wsgi else Interface.ASGI
        if iscoroutinefunction(one) or iscoroutinefunction(getattr(one, "__call__", None)):  # noqa: B004
            return Interface.ASGI
    return Interface.ASGI


def is_django(app: Any) -> bool:
    """Tell whether an app is a handler of Django's own."""
    names = {f"{one.__module__}.{one.__name__}" for one in type(app).__mro__}
    return bool(names & _HANDLERS)


def layers(app: Any) -> Iterator[Any]:
    """Yield an app, what it wraps, and so on inwards."""
    waiting = [app]
    seen: list[Any] = []
    while waiting and len(seen) < _DEEPEST:
        one = waiting.pop(0)
        if any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        by_protocol = _attribute(one, "application_mapping")  # of Django Channels
        if isinstance(by_protocol, Mapping) and "http" in by_protocol:
            waiting.append(by_protocol["http"])
        waiting += [inner for name in _INNER if callable(inner := _attribute(one, name))]


def _attribute(one: Any, name: str) -> Any:
    try:
        return getattr(one, name, None)
    except Exception:
        return None  # a proxy of what there is only in a request


def _takes(function: Any, arguments: int) -> bool:
    """Tell whether a function can be called with so many arguments."""
    try:
        signature(function).bind(*(None,) * arguments)
    except (TypeError, ValueError):
        return False
    return True
