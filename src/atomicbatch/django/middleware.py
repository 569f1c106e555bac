"""BatchMiddleware: the batch endpoint at its path, every other request to the project."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from atomicbatch.asgi import AtomicBatch as AsyncBatches
from atomicbatch.django import checks, outer
from atomicbatch.django.handlers import AsyncCalls, SyncCalls
from atomicbatch.django.options import options_of
from atomicbatch.django.transaction import DjangoTransaction, in_test_transactions
from atomicbatch.engine.current import inside_batch
from atomicbatch.exchange import EndpointOptions
from atomicbatch.wsgi import AtomicBatch as Batches


class BatchMiddleware:
    """
    Adds a batch endpoint to a Django project; the setting ``ATOMICBATCH`` has its options.

    It comes first in ``MIDDLEWARE``: each call of a batch then passes all the others. Django tells
    by ``get_response`` whether it is to be sync or async; below a middleware that is sync only, it
    is sync under ASGI too.

    Args:
        get_response: What is below it: the next middleware.

    Raises:
        ImproperlyConfigured: The setting has a key or a value that it cannot have.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[Any], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response: Callable[[Any], Any] = get_response
        checks.tell_once()
        options, outside = options_of()
        transaction = DjangoTransaction(outside=outside)
        self._path: str = options.get("path", EndpointOptions().path)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
            self._async_batches = _AsyncBatches(
                AsyncCalls(get_response), transaction=transaction, **options
            )
        else:
            self._batches = _SyncBatches(
                SyncCalls(get_response), transaction=transaction, **options
            )

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._respond(request)
        if request.path_info != self._path:
            return self.get_response(request)
        with in_test_transactions():
            answer = outer.Answer()
            sending = self._batches(outer.environ_of(request), answer.start_response)
            # What waited for COMMIT runs when it is closed, so before the client is answered, as
            # it does without a batch.
            with closing(sending):  # type: ignore[type-var]
                return answer.response(b"".join(sending))

    async def _respond(self, request: HttpRequest) -> HttpResponseBase:
        """Answer a request; the async twin of ``__call__``."""
        if request.path_info != self._path:
            return await self._pass_on(request)
        with await sync_to_async(in_test_transactions)():
            answer = outer.Answer()
            receive = outer.receive_of(request)
            await self._async_batches(outer.scope_of(request), receive, answer.send)
            return answer.response()

    async def _pass_on(self, request: HttpRequest) -> HttpResponseBase:
        """Give a request that is no batch to the project; hold it while a batch has to be alone."""
        response: HttpResponseBase
        if inside_batch():
            response = await self.get_response(request)
            return response
        entrance = self._async_batches.entrance(asyncio.get_running_loop())
        entered = await entrance.enter_later() if entrance.is_shut else entrance.enter()
        try:
            response = await self.get_response(request)
            return response
        finally:
            entrance.leave(entered)


class _AsyncBatches(AsyncBatches):
    """Batches whose sync parts all run in the thread that Django has for a request."""

    @staticmethod
    def in_thread(act: Callable[[], Any]) -> Awaitable[Any]:
        # There, since each thread has database connections of its own. Those of this one are
        # closed when the request ends.
        done: Awaitable[Any] = sync_to_async(act, thread_sensitive=True)()
        return done


class _SyncBatches(Batches):
    """Batches in the thread of their request, whichever gateway it has come by."""

    def environs(self, environ: dict[str, Any]) -> Any:
        request = environ[outer.REQUEST]
        if isinstance(request, ASGIRequest):
            return outer.CallRequests(outer.scope_of(request))
        return super().environs(environ)
