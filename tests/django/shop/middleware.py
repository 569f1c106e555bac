"""Middleware of the shop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def sync_only(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Like most middleware out there, this is no coroutine function."""
    return lambda request: get_response(request)
