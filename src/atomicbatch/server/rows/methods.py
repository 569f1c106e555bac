"""Rows: which method of a call on one table's rows does what."""

from __future__ import annotations

from atomicbatch.model import Call, Reply
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.rows.change import Changing
from atomicbatch.server.rows.read import Reading


class Rows(Reading, Changing):
    """The rows of one table or view as resources."""

    def collection(self, call: Call, session: Session) -> Reply:
        """Perform a call on ``/v1/api/{table}``."""
        method = call.method
        if method == "POST" and not self._read_only:
            return self._create(call, session)
        if method in ("GET", "HEAD"):
            return self._list(call, session)
        if method == "PATCH" and not self._read_only:
            return self._update_many(call, session)
        if method == "DELETE" and not self._read_only:
            return self._delete_many(call, session)
        return self._not_allowed(method, "GET, HEAD, POST, PATCH, DELETE, OPTIONS")

    def item(self, call: Call, session: Session, segment: bytes) -> Reply:
        """Perform a call on ``/v1/api/{table}/{key}``; ``segment`` is the key as sent."""
        method = call.method
        if not self._key_positions:
            raise RowFault(404, "not-found", f"{self.table.name!r} has no primary key: use filters")
        if method == "OPTIONS" or (self._read_only and method not in ("GET", "HEAD")):
            return self._not_allowed(method, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")
        key = self._read_key(segment)
        if method in ("GET", "HEAD"):
            return self._read(call, session, key)
        if method == "PATCH":
            return self._update(call, session, key)
        if method == "PUT":
            return self._replace(call, session, key)
        if method == "DELETE":
            return self._delete(call, session, key)
        return self._not_allowed(method, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")

    def _not_allowed(self, method: str, allow: str) -> Reply:
        if self._read_only:
            allow = "GET, HEAD, OPTIONS"
        if method == "OPTIONS":
            return Reply(204, ((b"allow", allow.encode()),), b"")
        detail = f"use one of {allow}"
        if self._read_only:
            why = self.table.read_only_why or "the server is"
            detail = f"{self.table.name!r} is read-only ({why}): {detail}"
        raise RowFault(405, "method-not-allowed", detail, allow=allow)
