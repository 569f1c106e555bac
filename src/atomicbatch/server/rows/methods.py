"""Methods: which method of a call does what with the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from atomicbatch.model import Call, Reply
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.rows import plain
from atomicbatch.server.rows.asked import Asked
from atomicbatch.server.rows.create import create
from atomicbatch.server.rows.delete import delete_many, delete_one
from atomicbatch.server.rows.keys import read_key
from atomicbatch.server.rows.plan import Plan, Row
from atomicbatch.server.rows.read import read_many, read_one
from atomicbatch.server.rows.replace import replace
from atomicbatch.server.rows.resource import Resource
from atomicbatch.server.rows.update import update_many, update_one

_COLLECTION: dict[str, Callable[[Resource, Call, Asked], Plan]] = {
    "GET": read_many,
    "HEAD": read_many,
    "POST": create,
    "PATCH": update_many,
    "DELETE": delete_many,
}
_ITEM: dict[str, Callable[[Resource, Call, Asked, Row], Plan]] = {
    "GET": read_one,
    "HEAD": read_one,
    "PUT": replace,
    "PATCH": update_one,
    "DELETE": delete_one,
}
_PLAIN_ITEM: dict[str, Callable[[Resource, Call, Row], Plan | None]] = {
    "GET": plain.read,
    "HEAD": plain.read,
    "PATCH": plain.update,
    "DELETE": plain.delete,
}
_READS = frozenset({"GET", "HEAD"})


def on_collection(resource: Resource, call: Call, asked: Asked) -> Plan:
    """The plan of a call on ``/v1/api/{table}``."""
    if asked.plain_json and call.method == "POST" and "POST" in resource.plain and not call.query:
        plan = plain.create(resource, call)
        if plan is not None:
            return plan
    perform = _COLLECTION.get(call.method)
    if perform is None or (resource.read_only and call.method not in _READS):
        return _not_allowed(resource, call.method, _COLLECTION)
    return perform(resource, call, asked)


def on_item(resource: Resource, call: Call, asked: Asked, segment: bytes) -> Plan:
    """The plan of a call on ``/v1/api/{table}/{key}``; ``segment`` is the key as sent."""
    if not resource.table.key:
        detail = f"{resource.table.name!r} has no primary key: use filters"
        raise RowFault(404, "not-found", detail)
    if call.method == "OPTIONS" or (resource.read_only and call.method not in _READS):
        return _not_allowed(resource, call.method, _ITEM)
    key = read_key(resource, segment)
    if asked.plain and not call.query and (asked.plain_json or not call.body):
        perform_plain = _PLAIN_ITEM.get(call.method) if call.method in resource.plain else None
        if perform_plain and (plan := perform_plain(resource, call, key)) is not None:
            return plan
    perform = _ITEM.get(call.method)
    if perform is None:
        return _not_allowed(resource, call.method, _ITEM)
    return perform(resource, call, asked, key)


def _not_allowed(resource: Resource, method: str, table: Mapping[str, object]) -> Reply:
    """The answer to OPTIONS, and to a method that is not in the table."""
    taken = [name for name in table if name in _READS or not resource.read_only]
    allow = ", ".join([*taken, "OPTIONS"])
    if method == "OPTIONS":
        return Reply(204, ((b"allow", allow.encode()),), b"")
    detail = f"use one of {allow}"
    if resource.read_only:
        why = resource.table.read_only_why or "the server is"
        detail = f"{resource.table.name!r} is read-only ({why}): {detail}"
    raise RowFault(405, "method-not-allowed", detail, allow=allow)
