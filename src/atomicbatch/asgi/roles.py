"""Roles: whether code is a call's handler, a dependency of it, or middleware around it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextvars import ContextVar
from functools import partial
from types import CodeType
from typing import Any

from atomicbatch.asgi.types import Scope

current_scope: ContextVar[Scope | None] = ContextVar("atomicbatch_scope", default=None)
"""The scope of the call that this code belongs to; frameworks add to it as they go."""


def role_of(codes: Collection[CodeType]) -> str:
    """
    Tell what part of an app runs: a handler, a dependency or middleware.

    Args:
        codes: Of the app's functions on the stack.

    Returns:
        "handler", "dependency" or "middleware" with the function's name, as far as FastAPI,
        Starlette and Litestar tell; empty where nobody knows.
    """
    scope = current_scope.get()
    if scope is None:
        return ""
    handler = scope.get("endpoint")
    if handler is None:
        handler = getattr(scope.get("route_handler"), "fn", None)
        if handler is None:
            # No router has found one yet, or its framework tells nobody.
            return "middleware" if "router" in scope or "app" in scope else ""
    dependant = getattr(scope.get("route"), "dependant", None)
    roles = {_code_of(call): "dependency" for call in _dependencies(dependant)}
    roles[_code_of(handler)] = "handler"
    for code in codes:
        if (role := roles.get(code)) is not None:
            return f"{role} {code.co_name}()"
    return ""


def _dependencies(dependant: Any) -> Iterator[Any]:
    """The functions that FastAPI calls before a handler, and those that they depend on."""
    for one in getattr(dependant, "dependencies", ()):
        yield one.call
        yield from _dependencies(one)


def _code_of(function: Any) -> CodeType | None:
    # Litestar wraps what it runs in a thread.
    while isinstance(function, partial) or type(function).__name__ == "AsyncCallable":
        function = function.func
    function = getattr(function, "__wrapped__", function)
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):
        code = getattr(getattr(function, "__call__", None), "__code__", None)  # noqa: B004
    return code if isinstance(code, CodeType) else None
