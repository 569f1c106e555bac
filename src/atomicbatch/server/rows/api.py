"""Api: which table a call is for, and its reply."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from atomicbatch.limits import Limits
from atomicbatch.model import Call, Reply
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.rows.asked import Asked, Blocks, asked_by
from atomicbatch.server.rows.failures import (
    FAULTS,
    problem,
    reply_to,
    schema_changed,
    too_much,
)
from atomicbatch.server.rows.methods import on_collection, on_item
from atomicbatch.server.rows.plan import First, Known, Outdated, Plan, Steps
from atomicbatch.server.rows.resource import Resource
from atomicbatch.server.rows.run import run
from atomicbatch.server.schema.tables import Schema


class Api:
    """
    Everything the server answers from the database.

    Args:
        schema: What is served.
        base_path: Where its tables are, ``/v1/api``.
        pages: Replies that need no database, by path; they answer GET and HEAD.
        plain: See ``Resource``.

    Attributes:
        schema: What is served.
        max_bytes: How many bytes the replies of one batch may take together.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        base_path: str,
        pages: dict[bytes, Reply],
        read_only: bool,
        limits: Limits,
        plain: bool = True,
    ) -> None:
        self.schema = schema
        self._base = base_path.encode() + b"/"
        self._pages = pages
        self.max_bytes = limits.max_reply_bytes
        self._resources = {
            self._base + name.encode(): Resource(
                table,
                schema.dialect,
                read_only=read_only,
                max_bytes=limits.max_reply_bytes,
                plain=plain,
            )
            for name, table in schema.tables.items()
        }

    def perform(self, call: Call, session: Session) -> Reply:
        """
        Perform one call in the session's transaction.

        Raises:
            TransactionError: The database did not keep the transaction.
        """
        try:
            reply = run(self.plan(call, session.kept), session, self.max_bytes)
        except (*FAULTS, session.driver_error) as error:
            return self.failed(error, session)
        return self.answered(reply, session)

    def answered(self, reply: Reply, session: Session) -> Reply:
        """Count a reply to what all replies of the batch may take; 413 once that is too much."""
        session.replies.append(reply)
        session.reply_bytes += len(reply.body)
        if session.reply_bytes > self.max_bytes:
            return too_much(self.max_bytes)
        return reply

    def failed(self, error: Exception, session: Session) -> Reply:
        """
        The reply of a call that has failed, see ``reply_to``.

        Raises:
            TransactionError: The error concerns the whole batch.
        """
        return reply_to(error, session, self.max_bytes)

    def plan(self, call: Call, blocks: Blocks | None = None) -> Plan:
        """
        What a call needs of the database, by the schema that is served.

        Args:
            call: The call.
            blocks: What is kept of the headers of its batch.

        Raises:
            RowFault, ValueProblem, QueryProblem: The call's own fault; ``perform`` says so in its
                reply, unless the schema has changed.
        """
        asked = Asked(call.headers) if blocks is None else asked_by(call.headers, blocks)
        asked.refuse_unsupported(call)
        path = call.path
        if b"%" in path:
            return self._plan_decoded(call, asked)
        resource = self._resources.get(path)
        if resource is not None:
            return on_collection(resource, call, asked)
        base, _, segment = path.rpartition(b"/")
        resource = self._resources.get(base)
        if resource is None:
            return self._elsewhere(call)
        if segment:
            return on_item(resource, call, asked, segment)
        return on_collection(resource, call, asked)

    def _plan_decoded(self, call: Call, asked: Asked) -> Plan:
        """The plan for a path that is percent-encoded: each segment is decoded once, by itself."""
        *base, name, segment = (*call.path.split(b"/"), b"")[: self._base.count(b"/") + 2]
        whole = unquote_to_bytes(b"/".join(base)) + b"/"
        resource = self._resources.get(self._base + unquote_to_bytes(name))
        if whole != self._base or resource is None or len(call.path.split(b"/")) > len(base) + 2:
            return self._elsewhere(call)
        if segment:
            return on_item(resource, call, asked, segment)
        return on_collection(resource, call, asked)

    def page(self, path: bytes, method: str) -> Reply | None:
        """The reply that needs no database, if there is one for ``path``."""
        page = self._pages.get(path if path == b"/" else path.rstrip(b"/"))
        if page is None or method in ("GET", "HEAD"):
            return page
        return _get_only(method)

    def _elsewhere(self, call: Call) -> Plan:
        path = call.path
        page = self.page(path, call.method)
        if page is not None:
            return _if_current(page)
        if path == b"/readyz":
            if call.method not in ("GET", "HEAD"):
                return _get_only(call.method)
            return Known(First("SELECT 1", ()), lambda _: _READY)
        if path.startswith(self._base):
            raise RowFault(404, "not-found", "there is no such table or view")
        raise RowFault(404, "not-found", "there is nothing at this path")


_READY = Reply(200, ((b"content-type", b"application/json"),), b'{"status":"ready"}')


def _if_current(page: Reply) -> Steps[Reply]:
    """A page of the schema, if that is still the database's."""
    if (yield Outdated()):
        raise schema_changed()
    return page


def _get_only(method: str) -> Reply:
    allow = (b"allow", b"GET, HEAD, OPTIONS")
    if method == "OPTIONS":
        return Reply(204, (allow,), b"")
    return problem(RowFault(405, "method-not-allowed", "use GET or HEAD", allow=allow[1].decode()))
