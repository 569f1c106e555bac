"""
Handlers: Django's own, which start below our middleware instead of making a stack of their own.

So a call is treated as Django treats a request: signals, script prefix, errors while it is read,
streams, files and their closing are all Django's code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from asgiref.sync import sync_to_async
from django.core import signals
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.wsgi import WSGIHandler
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix
from django.utils import timezone, translation

from atomicbatch.asgi.types import Receive, Scope, Send
from atomicbatch.django.outer import CallRequest
from atomicbatch.wsgi.types import Environ, StartResponse


class SyncCalls:
    """
    A WSGI app for the calls of sync batches, under either gateway.

    Args:
        get_response: The middleware below ours, sync.
    """

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._by_environ = _ByEnviron(get_response)
        self._by_scope = _ByScope(get_response)

    def __call__(
        self, called: Environ | CallRequest, start_response: StartResponse
    ) -> Iterable[bytes]:
        _begin()
        response: Iterable[bytes]
        if isinstance(called, CallRequest):
            response = self._by_scope.respond(called, start_response)
        else:
            response = self._by_environ(called, start_response)
        return response


class _ByEnviron(WSGIHandler):
    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        # Not WSGIHandler's, which would load all middleware once more.
        self._middleware_chain = get_response


class _ByScope(ASGIHandler):
    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        # Likewise.
        self._middleware_chain = get_response

    def respond(self, called: CallRequest, start_response: StartResponse) -> HttpResponseBase:
        """Respond in sync code, as :class:`WSGIHandler` does."""
        scope, body = called
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, response = self.create_request(scope, BytesIO(body))
        if request is not None:
            response = self.get_response(request)
        response._handler_class = self.__class__
        cookies = [("Set-Cookie", c.OutputString()) for c in response.cookies.values()]
        status = f"{response.status_code} {response.reason_phrase}"
        start_response(status, [*response.items(), *cookies])
        return response


class AsyncCalls(_ByScope):
    """
    An ASGI app for the calls of async batches.

    Unlike Django's own it makes no tasks, so that a call that is cancelled leaves nothing running.

    Args:
        get_response: The middleware below ours, async.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _begin()
        # A call's body comes in one piece.
        body = (await receive())["body"]
        set_script_prefix(get_script_prefix(scope))
        await signals.request_started.asend(sender=self.__class__, scope=scope)
        request, response = self.create_request(scope, BytesIO(body))
        if request is not None:
            response = await self.run_get_response(request)
        try:
            await self.send_response(response, send)
        finally:
            await sync_to_async(response.close, thread_sensitive=True)()


def _begin() -> None:
    """Begin a call with nothing that an earlier request of this thread may have left behind."""
    translation.deactivate()
    timezone.deactivate()
