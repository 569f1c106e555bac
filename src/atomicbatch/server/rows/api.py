"""Api: which resource a call is for, and what becomes of what goes wrong there."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import unquote_to_bytes

from atomicbatch.errors import ConflictError, TimeoutExceededError
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Reply
from atomicbatch.problems import problem_reply
from atomicbatch.server.database.bounds import TooMuchError
from atomicbatch.server.database.faults import (
    RowFault,
    fault_of,
    is_outdated,
    logged_as,
    shortage_of,
)
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.query.names import QueryProblem
from atomicbatch.server.rows.methods import on_collection, on_item
from atomicbatch.server.rows.plan import First, Known, Outdated, Plan, Steps
from atomicbatch.server.rows.refusals import refuse_unheard
from atomicbatch.server.rows.resource import Resource
from atomicbatch.server.rows.run import run
from atomicbatch.server.schema.tables import Schema
from atomicbatch.server.values.codec import ValueProblem

_log = logging.getLogger("atomicbatch.server")


class Api:
    """
    Everything the server answers from the database.

    Args:
        schema: What is served.
        base_path: Where its tables are, ``/v1/api``.
        pages: Replies that need no database, by path; they answer GET and HEAD.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        base_path: str,
        pages: dict[bytes, Reply],
        read_only: bool,
        limits: Limits,
    ) -> None:
        self.schema = schema
        self._base = base_path.encode() + b"/"
        self._pages = pages
        self._max_bytes = limits.max_reply_bytes
        self._resources = {
            self._base + name.encode(): Resource(
                table, schema.dialect, read_only=read_only, max_bytes=limits.max_reply_bytes
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
            reply = run(self.plan(call), session, self._max_bytes)
        except RowFault as fault:
            return _refusal(fault, session)
        except ValueProblem as problem:
            return _refusal(
                RowFault(problem.status, problem.slug, str(problem), column=problem.column), session
            )
        except QueryProblem as problem:
            return _refusal(
                RowFault(400, "invalid-query", problem.detail, parameter=problem.parameter), session
            )
        except TooMuchError:
            return self._too_much()
        except UnicodeEncodeError:  # of a text in SQLite that is none
            detail = "a key that is not UTF-8 cannot be used: use filters and return=minimal"
            return _problem(RowFault(400, "invalid-key", detail))
        except session.driver_error as error:
            return self._driver_problem(error, session)
        session.replies.append(reply)
        session.reply_bytes += len(reply.body)
        if session.reply_bytes > self._max_bytes:
            return self._too_much()
        return reply

    def _too_much(self) -> Reply:
        detail = (
            f"the replies of one batch hold at most {self._max_bytes} bytes: ask for fewer rows "
            "with limit and offset, or for none with Prefer: return=minimal"
        )
        members = {"limit": "max_reply_bytes", "maximum": self._max_bytes}
        return _problem(RowFault(413, "limit-exceeded", detail, **members))

    def plan(self, call: Call) -> Plan:
        """
        What a call needs of the database, by the schema that is served.

        Raises:
            RowFault, ValueProblem, QueryProblem: The call's own fault; ``perform`` says so in its
                reply, unless the schema has changed.
        """
        refuse_unheard(call)
        path = call.path
        if b"%" in path:
            return self._plan_decoded(call)
        resource = self._resources.get(path)
        if resource is not None:
            return on_collection(resource, call)
        base, _, segment = path.rpartition(b"/")
        resource = self._resources.get(base)
        if resource is not None:
            return on_item(resource, call, segment) if segment else on_collection(resource, call)
        return self._elsewhere(call)

    def _plan_decoded(self, call: Call) -> Plan:
        """Where something is percent-encoded: each segment is decoded once, and on its own."""
        *base, name, segment = (*call.path.split(b"/"), b"")[: self._base.count(b"/") + 2]
        whole = unquote_to_bytes(b"/".join(base)) + b"/"
        resource = self._resources.get(self._base + unquote_to_bytes(name))
        if whole != self._base or resource is None or len(call.path.split(b"/")) > len(base) + 2:
            return self._elsewhere(call)
        return on_item(resource, call, segment) if segment else on_collection(resource, call)

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

    def _driver_problem(self, error: Exception, session: Session) -> Reply:
        trouble = session.trouble(error)
        if isinstance(trouble, TimeoutExceededError):
            # We have interrupted the statement ourselves, often because the client has hung up:
            # its error says nothing that the log should tell.
            raise trouble from None
        if trouble is not None:
            raise trouble from error
        if session.takes_any_text(error):
            raise ConflictError("a text is not UTF-8") from error
        if is_outdated(error) and session.outdated(surely=True):
            raise _schema_changed() from error
        if (shortage := shortage_of(error)) is not None:
            raise shortage from None
        fault = fault_of(error)
        if fault is None:
            _log.error("the database refused a statement: %s", logged_as(error))
            fault = RowFault(500, "internal-error", "the database refused the statement")
        return _problem(fault)


_READY = Reply(200, ((b"content-type", b"application/json"),), b'{"status":"ready"}')


def _if_current(page: Reply) -> Steps[Reply]:
    """A page of the schema, if that is still the database's."""
    if (yield Outdated()):
        raise _schema_changed()
    return page


def _schema_changed() -> ConflictError:
    return ConflictError("the database's schema has changed")


# What the schema decides. A row that is not there, or a condition that does not hold, is not it.
_BY_SCHEMA = frozenset(
    {
        *("not-found", "method-not-allowed", "unknown-column", "read-only-column", "invalid-query"),
        *("invalid-key", "wrong-type", "value-out-of-range", "value-too-long"),
    }
)


def _refusal(fault: RowFault, session: Session) -> Reply:
    """
    The reply for a call that was refused.

    Raises:
        ConflictError: It was refused by a schema that is not the database's any more.
    """
    if fault.slug in _BY_SCHEMA and session.outdated():
        raise _schema_changed()
    return _problem(fault)


def _get_only(method: str) -> Reply:
    allow = (b"allow", b"GET, HEAD, OPTIONS")
    if method == "OPTIONS":
        return Reply(204, (allow,), b"")
    return _problem(RowFault(405, "method-not-allowed", "use GET or HEAD", allow=allow[1].decode()))


_TITLES = {
    "not-found": "There is no such resource",
    "method-not-allowed": "The resource does not take this method",
    "unknown-column": "There is no such column",
    "wrong-type": "A value has the wrong type",
    "value-out-of-range": "A value is outside what its column can hold",
    "value-too-long": "A value is too long for its column",
    "unique-violation": "The row exists already",
    "foreign-key-violation": "The row's references do not hold",
    "not-null-violation": "A value is missing",
    "check-violation": "A value breaks a rule of the table",
    "trigger-refused": "The database refused the row",
    "read-only-column": "The database computes this column",
    "read-only": "The database is read-only",
    "invalid-query": "The query is not understood",
    "invalid-key": "The key in the path is not understood",
    "key-mismatch": "The body's key is not the path's",
    "invalid-precondition": "The precondition does not fit",
    "precondition-failed": "The precondition does not hold",
    "filter-required": "A filter is required",
    "invalid-preference": "A preference is not understood or not honoured",
    "not-supported": "The server does not do this",
    "too-many-affected": "The write would reach more rows than it may",
    "unexpected-body": "The method takes no body",
    "malformed-json": "The body is not JSON",
    "unsupported-media-type": "The body's media type is not taken",
    "forbidden": "The server may not do this",
    "database-full": "The database is full",
    "limit-exceeded": "A limit is exceeded",
    "internal-error": "Something went wrong in the server",
}


def _problem(fault: RowFault) -> Reply:
    members: dict[str, Any] = dict(fault.members)
    allow = members.pop("allow", None)
    reply = problem_reply(fault.status, fault.slug, _TITLES[fault.slug], fault.detail, **members)
    if allow is None:
        return reply
    return reply._replace(headers=(*reply.headers, (b"allow", allow.encode())))
