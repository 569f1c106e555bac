"""AtomicBatch: the batch endpoint at its path, every other request to the app."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Unpack

from atomicbatch.doors import begin_batch
from atomicbatch.doors import install as install_doors
from atomicbatch.engine import Transaction, Turns, as_one, contexts, execute
from atomicbatch.engine.current import RunningBatch, running_batch
from atomicbatch.exchange import (
    EndpointOptions,
    Head,
    Held,
    Holding,
    OptionNames,
    Response,
    read_request,
    write_response,
)
from atomicbatch.guard import Allowed, guarded_sync, stopped_like
from atomicbatch.model import Batch, Call, Reply
from atomicbatch.wsgi.dispatch import Dispatcher, Environs
from atomicbatch.wsgi.endpoint import BatchEndpoint, send
from atomicbatch.wsgi.environ import CallEnvirons, batch_paths, query_of
from atomicbatch.wsgi.types import App, Environ, StartResponse


class AtomicBatch:
    """
    Adds a batch endpoint to a WSGI app; for Flask, ``app.wsgi_app`` is what it wraps.

    Calls start at what it wraps. Wrap the app last, so that each call passes all of its middleware.

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
        # Of other frameworks' own types for environs and responses.
        app: Callable[[Any, Any], Iterable[bytes]],
        *,
        transaction: Transaction[Any] | Sequence[Transaction[Any]],
        **options: Unpack[OptionNames],
    ) -> None:
        # WSGI cannot tell X_User from X-User, so calls send neither in place of the other.
        self._options = EndpointOptions(**options, keeps_underscores=False)
        self._app: App = app
        self._transaction = as_one(transaction)
        self._allowed = Allowed.of(self._transaction)
        self._path = self._options.path.encode().decode("latin-1")
        self._holding = Holding(self._options.endpoint_limits)
        self._turns = Turns()
        contexts.install()
        install_doors()

    @property
    def app(self) -> App:
        """The app behind it."""
        return self._app

    @property
    def transaction(self) -> Transaction[Any]:
        """What begins the transactions of its batches."""
        return self._transaction

    def environs(self, outer: Environ) -> Environs:
        """Choose what makes the environs of a batch's calls, by the environ of its request."""
        return CallEnvirons(outer)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != self._path:
            return self._app(environ, start_response)
        begin_batch(self._allowed.advice)
        held = Held(self._holding)
        running = RunningBatch(held.take_threads)

        def when_sent() -> None:
            held.give_back()
            # Also if the client has gone meanwhile: what is stored is stored.
            running.run_deferred_here()

        answer = partial(self._answer, running, held)
        options = self._options
        endpoint = BatchEndpoint(
            answer, limits=options.limits, shared_limits=options.endpoint_limits, held=held
        )
        try:
            response = endpoint.response(environ)
        except BaseException:
            when_sent()
            raise
        return send(response, environ, start_response, when_sent)

    def _answer(
        self, running: RunningBatch, held: Held, environ: Environ, head: Head, body: bytes
    ) -> Response:
        options = self._options
        paths = batch_paths(environ, options.path)
        batch = read_request(head, query_of(environ), body, batch_paths=paths, options=options)
        del body  # the calls have copies
        if head.codings:
            # A few bytes that are compressed may become many.
            held.take(sum(len(call.body) for call in batch.calls))
        attempts = _Attempts(self, environ, running, held)
        with running_batch(running):
            # In a context of its own, so that the server's thread is left as it was.
            outcome = copy_context().run(
                execute,
                batch,
                attempts,
                _perform,
                timeout_seconds=options.limits.timeout_seconds,
                replay=options.replay,
                turns=self._turns,
            )
        return write_response(head, batch, outcome, rolled_back_status=options.rolled_back_status)


class _Attempts:
    """The user's transaction, with a fresh Dispatcher as what each attempt's block gives."""

    def __init__(
        self, batches: AtomicBatch, environ: Environ, running: RunningBatch, held: Held
    ) -> None:
        self._batches = batches
        self._environ = environ
        self._running = running
        self._held = held

    def begin(self, batch: Batch, *, deadline: float) -> AbstractContextManager[Dispatcher]:
        manager = self._batches._transaction.begin(batch, deadline=deadline)
        return stopped_like(manager, self._begin(manager))

    @contextmanager
    def _begin(self, manager: AbstractContextManager[Any]) -> Iterator[Dispatcher]:
        batches = self._batches
        self._running.attempt()
        with guarded_sync(manager, batches._allowed) as watch:
            limits, environs = batches._options.limits, batches.environs(self._environ)
            yield Dispatcher(batches._app, environs, limits, watch, self._held)
        self._running.committed = True


def _perform(call: Call, dispatcher: Dispatcher) -> Reply:
    return dispatcher.perform(call)
