"""Routes: the calls to try, from the routes of a Flask or Quart app that has no document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atomicbatch.doctor.interfaces import layers
from atomicbatch.model import Call
from atomicbatch.openapi.calls import Operation

# Of a call by one of these nothing is to be known but its path.
_WITHOUT_BODY = ("GET", "DELETE")
_WITH_BODY = ("POST", "PUT", "PATCH")
# The plainest value that each of werkzeug's converters takes; the others take text.
_VALUES = {
    "IntegerConverter": 1,
    "FloatConverter": 1.0,
    "UUIDConverter": "00000000-0000-4000-8000-000000000001",
}
_DOCUMENTS = ("openapi.json", "swagger.json", "apispec.json")


def operations_in(app: Any) -> list[Operation]:
    """
    Make a call for each route of a Flask or Quart app; none for other apps.

    Nothing tells which body a route takes: those that may take one have an obstacle that says so.
    """
    return [
        _operation(rule, method, path)
        for rule, path in _rules(app)
        for method in (*_WITHOUT_BODY, *_WITH_BODY)
        if rule.methods is None or method in rule.methods
    ]


def documents_in(app: Any) -> list[str]:
    """The paths at which a Flask or Quart app seems to have an OpenAPI document."""
    return [path for rule, path in _rules(app) if not rule.arguments and path.endswith(_DOCUMENTS)]


def _rules(app: Any) -> Iterator[tuple[Any, str]]:
    """Each route, with a path that leads to it."""
    routes = next((found for one in layers(app) if (found := _map_of(one)) is not None), None)
    if routes is None:
        return
    for rule in routes.iter_rules():
        if rule.endpoint == "static" or rule.endpoint.endswith(".static") or rule.build_only:
            continue
        converters = getattr(rule, "_converters", {})
        values = {name: _value(converters[name]) for name in rule.arguments if name in converters}
        built = rule.build(values)
        yield rule, built[1] if built else rule.rule


def _map_of(one: Any) -> Any:
    """A bound method, as ``app.wsgi_app`` is, leads to its app."""
    for owner in (one, getattr(one, "__self__", None)):
        found = getattr(owner, "url_map", None)
        if hasattr(found, "iter_rules"):
            return found
    return None


def _value(converter: Any) -> Any:
    if (items := getattr(converter, "items", None)) is not None:
        return min(items)
    least = getattr(converter, "min", None)
    return least or _VALUES.get(type(converter).__name__, "text")


def _operation(rule: Any, method: str, path: str) -> Operation:
    target, _, query = path.partition("?")
    call = Call(method, target.encode(), query.encode(), (), b"")
    obstacle = "" if method in _WITHOUT_BODY else "its route does not tell which body it takes"
    return Operation(call, rule.rule, obstacle=obstacle, made_up=True)
