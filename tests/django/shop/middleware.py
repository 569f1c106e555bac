"""Middleware of the shop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db import transaction
from django.utils.decorators import sync_and_async_middleware


def begins(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A transaction around each request; sync only."""

    def middleware(request: Any) -> Any:
        with transaction.atomic():
            return get_response(request)

    return middleware


def sync_only(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Like most middleware out there, this is no coroutine function."""
    return lambda request: get_response(request)


@sync_and_async_middleware
def reads_bodies(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Read what is sent, as middleware that logs it does."""
    if iscoroutinefunction(get_response):

        async def middleware(request: Any) -> Any:
            assert request.body is not None
            return await get_response(request)

        return middleware
    return lambda request: (request.body, get_response(request))[1]
