"""
Batches for a Django project: ``MIDDLEWARE = ["atomicbatch.django.BatchMiddleware", ...]``.

In reading order::

    middleware.py   BatchMiddleware: the endpoint at its path, every other request to the project
    options.py      the setting ATOMICBATCH, checked, and what it means for the endpoint
    outer.py        the batch request as the endpoints of asgi/ and wsgi/ take it; their response
    handlers.py     one call -> a request of Django's own -> the middleware below -> its response
    transaction.py  what calls work in: the drivers' doors, or the transaction of a test
    hooks.py        the places where Django's own database layer has to know of a batch
    drivers.py      which drivers have doors; what is written by others is refused
    advice.py       what messages say to do instead: by settings, not by arguments
    checks.py       system checks: what is misconfigured, and what would surprise
    apps.py         for INSTALLED_APPS, so that the checks run with ``manage.py check``

The endpoints are those of ``wsgi/`` and ``asgi/``; here is only what Django has in other shapes.
Calls start below the middleware, so that each passes all others, in the order they are listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atomicbatch import doors
from atomicbatch.django import hooks

if TYPE_CHECKING:
    from atomicbatch.django.middleware import BatchMiddleware

__all__ = ["BatchMiddleware"]

# Before the first connection is opened.
doors.install()
hooks.install()


def __getattr__(name: str) -> Any:
    """Import the middleware when it is asked for: Django itself may be half imported till then."""
    if name == "BatchMiddleware":
        from atomicbatch.django.middleware import BatchMiddleware

        return BatchMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
