"""Outer: a batch request of Django's as the endpoints of asgi/ and wsgi/ take it, and back."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import NamedTuple

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse

from atomicbatch.asgi.scope import CallScopes, Target
from atomicbatch.asgi.types import Message, Receive, Scope
from atomicbatch.model import Call
from atomicbatch.wsgi.environ import wsgi_text
from atomicbatch.wsgi.types import Environ, ExcInfo, Write

REQUEST = "atomicbatch.request"
"""Where the environ of a batch request has the request itself. With a dot: calls do not get it."""
_PIECE_BYTES = 64 * 1024


def environ_of(request: HttpRequest) -> Environ:
    """Write a batch request as an environ, under either gateway."""
    environ = {
        **request.META,
        # Django has decoded these two.
        "PATH_INFO": wsgi_text(request.path_info.encode()),
        "SCRIPT_NAME": wsgi_text(request.META["SCRIPT_NAME"].encode()),
        REQUEST: request,
    }
    if hasattr(request, "_body"):  # a middleware further out has read it
        environ["wsgi.input"] = BytesIO(request.body)
    elif isinstance(request, ASGIRequest):
        environ["wsgi.input"] = request
    if isinstance(request, ASGIRequest):
        # Django has received all of it already.
        environ["wsgi.input_terminated"] = True
    return environ


def scope_of(request: ASGIRequest) -> Scope:
    """Write a batch request as the scope that an endpoint without middleware in front would get."""
    scope: Scope = {**request.scope}
    # Of an app that Django is mounted in: calls start below our middleware, not there.
    scope.pop("app", None)
    scope.pop("router", None)
    # FORCE_SCRIPT_NAME is a prefix that the server may not know of.
    scope["root_path"] = request.script_name
    scope["path"] = request.script_name.rstrip("/") + request.path_info
    return scope


def receive_of(request: ASGIRequest) -> Receive:
    """Make what gives the request's body; Django itself watches for a hang-up."""
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()
        piece = request.read(_PIECE_BYTES)
        is_read = not piece
        return {"type": "http.request", "body": piece, "more_body": not is_read}

    return receive


class CallRequest(NamedTuple):
    """What a call is in sync code under ASGI."""

    scope: Scope
    body: bytes


class CallRequests:
    """
    Makes what calls are in sync code under ASGI, in place of their environs.

    Args:
        scope: Of the batch request.
    """

    def __init__(self, scope: Scope) -> None:
        target = Target(None, scope["root_path"], prefixed=True)  # type: ignore[arg-type]
        self._scopes = CallScopes(target, scope)

    def environ(self, call: Call) -> CallRequest:
        return CallRequest(self._scopes.scope(call), call.body)


class Answer:
    """The endpoint's response, as either gateway is given it."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._reason: str | None = None
        self._pieces: list[bytes] = []

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: ExcInfo | None = None,  # noqa: ARG002  # of PEP 3333
        /,
    ) -> Write:
        code, _, self._reason = status.partition(" ")
        self._status, self._headers = int(code), headers
        return self._pieces.append

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [
                (name.decode("latin-1").title(), value.decode("latin-1"))
                for name, value in message["headers"]
            ]
        else:
            self._pieces.append(message["body"])

    def response(self, body: bytes | None = None) -> HttpResponse:
        """Make it a response of Django's."""
        content = b"".join(self._pieces) if body is None else body
        response = HttpResponse(content, status=self._status, reason=self._reason)
        for name, value in self._headers:
            response.headers[name] = value
        return response
