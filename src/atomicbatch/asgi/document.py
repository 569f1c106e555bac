"""The batch endpoint in the app's own OpenAPI document, for apps that make one as FastAPI does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from atomicbatch.limits import Limits
from atomicbatch.openapi.batch_path import ExampleCall, batch_path_item
from atomicbatch.openapi.calls import Operation, operations_of

_PROBLEM = {
    "description": "The batch did not run, or its outcome is not known",
    "content": {"application/problem+json": {"schema": {"type": "object"}}},
}


def describe_endpoint(app: Any, path: str, limits: Limits) -> None:
    """
    Add the batch endpoint to the document of an app; a second time does nothing.

    This replaces the method ``openapi``, which is FastAPI's documented way to extend its document.
    Other apps are left as they are.
    """
    original = getattr(app, "openapi", None)
    if not callable(original) or not hasattr(app, "openapi_schema"):
        return
    if path in getattr(original, "atomicbatch_paths", ()):
        return
    app.openapi = _Described(original, path, limits)
    # What has been made already does not show the endpoint yet.
    app.openapi_schema = None


class _Described:
    def __init__(self, original: Callable[[], dict[str, Any]], path: str, limits: Limits) -> None:
        self._original = original
        self._path = path
        self._limits = limits
        self.atomicbatch_paths = {path, *getattr(original, "atomicbatch_paths", ())}

    def __call__(self) -> dict[str, Any]:
        document = self._original()
        paths = document.setdefault("paths", {})
        if self._path not in paths:
            calls = list(_example(document)) or [ExampleCall("GET", "/", "")]
            paths[self._path] = batch_path_item(calls, self._limits, problem=_PROBLEM)
        return document


def _example(document: Mapping[str, Any]) -> Iterable[ExampleCall]:
    """A call that writes, where there is one, and one that reads what is there."""
    operations = [one for one in operations_of(document) if not one.obstacle and _is_plain(one)]
    for methods in (("POST", "PUT", "PATCH"), ("GET",)):
        found = [one for one in operations if one.call.method in methods]
        # One without parameters in its path works although nobody knows what is stored.
        for one in sorted(found, key=lambda one: "{" in one.path)[:1]:
            query = f"?{one.call.query.decode()}" if one.call.query else ""
            target = one.call.path.decode() + query
            yield ExampleCall(one.call.method, target, one.call.body.decode())


def _is_plain(operation: Operation) -> bool:
    """Tell whether a call is no more than a request line and perhaps a JSON body."""
    return all(
        name == b"content-type" and value.startswith(b"application/json")
        for name, value in operation.call.headers
    )
