"""AtomicBatch: the batch endpoint at its path, every other request to the app."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Unpack
from weakref import WeakKeyDictionary

from atomicbatch.asgi import frameworks
from atomicbatch.asgi.attempts import Attempts
from atomicbatch.asgi.dispatch import Dispatcher
from atomicbatch.asgi.document import describe_endpoint
from atomicbatch.asgi.endpoint import BatchEndpoint
from atomicbatch.asgi.entrance import Entrance
from atomicbatch.asgi.heavy import work
from atomicbatch.asgi.roles import role_of
from atomicbatch.asgi.scope import Target
from atomicbatch.asgi.threads import shielded
from atomicbatch.asgi.types import App, Receive, Scope, Send
from atomicbatch.doors import begin_batch
from atomicbatch.doors import install as install_doors
from atomicbatch.engine import AsyncTransaction, Turns, as_one, contexts, execute_async
from atomicbatch.engine.after_commit import in_any_thread
from atomicbatch.engine.current import RunningBatch, inside_batch, running_batch
from atomicbatch.errors import NotBatchableError
from atomicbatch.exchange import (
    EndpointOptions,
    Head,
    Held,
    Holding,
    OptionNames,
    Response,
    read_request,
    response_size,
    write_response,
)
from atomicbatch.guard import Allowed, callers
from atomicbatch.model import Call, Reply


class AtomicBatch:
    """
    Adds a batch endpoint to an ASGI app.

    Wrap the whole app with it, or add it to the app as a middleware. Either way each call passes
    all of the app's middleware: where the app is known from the scope (``scope["app"]``, as
    Starlette and FastAPI set it), calls start at its front, not behind this middleware.

    Args:
        app: Gets every request but batches, and every call of a batch.
        transaction: Begins the transaction that the app's handlers work in. A list of
            SQLAlchemyTransaction and DriverTransaction: an app that uses engines and drivers.
        options: ``path``, ``limits``, ``endpoint_limits``, ``replay``, ``rolled_back_status``,
            ``not_overridable`` and ``consumed_query``, as
            :class:`~atomicbatch.exchange.EndpointOptions` takes them.

    Raises:
        ValueError: A path or a status that cannot be one.
    """

    def __init__(
        self,
        # Of other frameworks' own types for scopes and messages.
        app: Callable[[Any, Any, Any], Awaitable[None]],
        *,
        transaction: AsyncTransaction[Any] | Sequence[AsyncTransaction[Any]],
        **options: Unpack[OptionNames],
    ) -> None:
        self._options = EndpointOptions(**options)
        self._app: App = app
        self._transaction = as_one(transaction)
        self._allowed = Allowed.of(self._transaction)
        self._holding = Holding(self._options.endpoint_limits)
        self._turns = Turns()
        self._entrances: WeakKeyDictionary[asyncio.AbstractEventLoop, Entrance]
        self._entrances = WeakKeyDictionary()
        self._entrance_at_hand: Entrance | None = None
        contexts.install()
        frameworks.install()
        install_doors()
        callers.role_of = role_of
        describe_endpoint(app, self._options.path, self._options.limits)

    @property
    def app(self) -> App:
        """The app behind it."""
        return self._app

    @property
    def transaction(self) -> AsyncTransaction[Any]:
        """What begins the transactions of its batches."""
        return self._transaction

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] in self._paths(scope):
            await self._batch(scope, receive, send)
        else:
            if "app" in scope:
                self._describe(scope)
            await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give a request that is no batch to the app."""
        loop = asyncio._get_running_loop()
        # On another kind of event loop, trio's say, there are no batches.
        if loop is None or inside_batch():
            await self._app(scope, receive, send)
            return
        entrance = self._entrance_at_hand
        if entrance is None or entrance.loop() is not loop:
            entrance = self.entrance(loop)
        entered = await entrance.enter_later() if entrance.is_shut else entrance.enter()
        try:
            await self._app(scope, receive, send)
        finally:
            entrance.leave(entered)

    async def _batch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to the endpoint."""
        begin_batch(self._allowed.advice)
        held = Held(self._holding)
        running = RunningBatch(held.take_threads)
        endpoint = BatchEndpoint(
            partial(self._answer, running, held),
            limits=self._options.limits,
            shared_limits=self._options.endpoint_limits,
            held=held,
        )
        try:
            await endpoint(scope, receive, send)
        finally:
            held.give_back()
            # Also if the client has gone meanwhile: what is stored is stored. In a task of its
            # own, since this one may have been cancelled.
            if running.committed and not running.finish_if_idle():
                await _to_the_end(running.run_deferred(self.in_thread))

    @staticmethod
    def in_thread(act: Callable[[], Any]) -> Awaitable[Any]:
        """Choose the thread of the sync functions that wait for COMMIT."""
        return in_any_thread(act)

    def entrance(self, loop: asyncio.AbstractEventLoop) -> Entrance:
        """Find the entrance of an event loop; its first request makes it."""
        entrance = self._entrances.get(loop)
        if entrance is None:
            entrance = self._entrances[loop] = Entrance(loop)
        self._entrance_at_hand = entrance
        return entrance

    def _describe(self, scope: Scope) -> None:
        """Show the endpoint in the document of the app that calls start at."""
        app, prefix = scope["app"], ""
        if scope.get("path_params") or not _is_outermost(app, scope):
            # Each request may have another path, or batches are refused.
            return
        if "app_root_path" in scope:
            # We are mounted. The document's paths are below the prefix of the app itself.
            prefix = scope["root_path"][len(scope["app_root_path"]) :]
        describe_endpoint(app, prefix.rstrip("/") + self._options.path, self._options.limits)

    def _paths(self, scope: Scope) -> tuple[str, str]:
        """The endpoint's path as current servers and Starlette show it, and as old ones do."""
        path = self._options.path
        return scope.get("root_path", "").rstrip("/") + path, path

    async def _answer(
        self, running: RunningBatch, held: Held, scope: Scope, head: Head, body: bytes
    ) -> Response:
        options = self._options
        read = partial(
            read_request,
            head,
            scope.get("query_string", b""),
            body,
            batch_paths=[path.encode() for path in self._paths(scope)],
            options=options,
        )
        # A few bytes that are compressed may become many.
        batch = await work(options.limits.max_body_bytes if head.codings else len(body), read)
        del body, read  # the calls have copies
        if head.codings:
            held.take(sum(len(call.body) for call in batch.calls))
        target = self._target(scope)
        attempts = Attempts(
            self._transaction,
            self._allowed,
            lambda watch: Dispatcher(target, scope, options.limits, watch, held),
            running,
            self.entrance(asyncio.get_running_loop()),
        )
        with running_batch(running):
            outcome = await execute_async(
                batch,
                attempts,
                _perform,
                timeout_seconds=options.limits.timeout_seconds,
                replay=options.replay,
                turns=self._turns,
            )
        status = options.rolled_back_status
        write = partial(write_response, head, batch, outcome, rolled_back_status=status)
        return await work(response_size(batch, outcome), write)

    def _target(self, scope: Scope) -> Target:
        """
        Choose where calls start: as far out as we know.

        If they started behind this middleware, they would not meet one further out, which checks
        the path for instance.

        Raises:
            NotBatchableError: There is an app further out, and the scope does not say which.
        """
        root_path = scope.get("root_path", "")
        prefixed = scope["path"] == self._paths(scope)[0]
        app = scope.get("app")
        if app is None:
            return Target(self._app, root_path, prefixed)
        if not _is_outermost(app, scope):
            raise NotBatchableError(
                "the app with this batch endpoint is mounted below another app, whose middleware "
                "the calls would not pass; put AtomicBatch in front of the outermost app"
            )
        # We are mounted below the app, whose own prefix Starlette remembers; or we are one of its
        # routes or hosts, which have no prefix of their own.
        if prefixed or "app_root_path" in scope:
            return Target(app, scope.get("app_root_path", root_path), prefixed)
        return Target(self._app, root_path, prefixed)


def _is_outermost(app: Any, scope: Scope) -> bool:
    """
    Tell whether the app in the scope is the first that the request has come to.

    An app that is mounted in another one puts itself into the scope in its place, but the first
    router of all stays there.
    """
    return "router" not in scope or getattr(app, "router", None) is scope["router"]


async def _perform(call: Call, dispatcher: Dispatcher) -> Reply:
    return await dispatcher.perform(call)


async def _to_the_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Await something to its end, also when cancelled meanwhile."""
    task = asyncio.create_task(coroutine)
    cancelled: asyncio.CancelledError | None = None
    with shielded():
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
