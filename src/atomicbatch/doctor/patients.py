"""Patients: an app of each kind, started; it is asked which calls it takes, and each is tried."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple, Protocol

from atomicbatch import asgi, wsgi
from atomicbatch.doctor import blind_spots
from atomicbatch.doctor.loading import DoctorError, running
from atomicbatch.doctor.operations import (
    DOCUMENTS,
    document_of,
    from_openapi,
    no_document,
    operations_in,
    request_for,
)
from atomicbatch.doctor.raised import answered_errors
from atomicbatch.doctor.rehearsal import rehearsal_of
from atomicbatch.doctor.trying import Trial, Tried
from atomicbatch.doctor.watching import Watch
from atomicbatch.errors import AtomicBatchError
from atomicbatch.limits import Limits
from atomicbatch.model import Call
from atomicbatch.openapi.calls import Operation
from atomicbatch.wsgi.dispatch import Dispatcher

HOST = "localhost"
_SERVER = (HOST, 80)
_CLIENT = ("127.0.0.1", 1)


class Asked(NamedTuple):
    """How an app's calls are asked for."""

    prefix: str | None
    """Where the paths of its document begin; None: find out."""
    document: str | None
    """The path of its document; None: find out."""
    headers: Mapping[str, str]
    """Sent along."""


class Patient(AbstractContextManager["Patient"], Protocol):
    """
    An app under examination; the block starts it and shuts it down.

    Attributes:
        host: Which host its requests are for.
        trial: How its calls are tried, once it is started.
    """

    host: str
    trial: Trial

    def operations(self, asked: Asked) -> list[Operation]:
        """
        Make a call for each thing that the app can do.

        Raises:
            DoctorError: It does not tell.
        """

    def try_call(self, call: Call, watch: Watch) -> Tried:
        """Perform a call, and undo it."""


class AsyncPatient(Patient):
    """
    An ASGI app.

    Args:
        outermost: What a server would run.
        inner: What the calls of a batch go to.
        own: The transaction of its own AtomicBatch; None: it has none.
        scheme: Of its requests.
        host: Which host they are for.
        routes: Makes calls where the app has no OpenAPI document; empty: it cannot.
        documents: Where else than in the usual places the app may have such documents.
    """

    def __init__(
        self,
        outermost: Any,
        inner: Any,
        own: Any,
        *,
        scheme: str = "http",
        host: str = HOST,
        routes: Callable[[], list[Operation]] = list,
        documents: Sequence[str] = (),
    ) -> None:
        self.host = host
        self._routes = routes
        self._documents = documents
        self._outermost = outermost
        self._inner = inner
        self._own = own
        self._block = ExitStack()
        self._runner: asyncio.Runner
        self._scope = scope(scheme)

    def __enter__(self) -> AsyncPatient:
        with ExitStack() as block:
            self._runner = block.enter_context(asyncio.Runner())
            lifespan = running(self._outermost)
            self._scope["state"] = self._runner.run(lifespan.__aenter__())
            block.push(lambda *error: self._runner.run(lifespan.__aexit__(*error)))
            # Now, since the app may import what takes part while it starts.
            rehearsal = rehearsal_of(self._own)
            # Constructed for its side effect: batches follow calls into the threads and background
            # tasks of the app's framework, as they do when the app is served.
            asgi.AtomicBatch(self._inner, transaction=rehearsal.transaction)
            self.trial = Trial(self._inner, self._scope, rehearsal)
            self._block = block.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._block.__exit__(*error)

    def operations(self, asked: Asked) -> list[Operation]:
        making = from_openapi(
            self._inner,
            self._scope,
            prefix=asked.prefix,
            paths=[asked.document] if asked.document else self._documents,
            headers=asked.headers,
        )
        try:
            return self._runner.run(making)
        except DoctorError:
            if not asked.document and (made := self._routes()):
                return made
            raise

    def try_call(self, call: Call, watch: Watch) -> Tried:
        return self._runner.run(self._try(call, watch))

    async def _try(self, call: Call, watch: Watch) -> Tried:
        with blind_spots.tasks(), answered_errors(self.trial.note_raised):
            return await self.trial.try_call(call, watch)


class SyncPatient(Patient):
    """
    A WSGI app.

    Args:
        inner: What the calls of a batch go to.
        own: The transaction of its own AtomicBatch; None: it has none.
        outer: The environ of the batch request, or what makes the environs of its calls.
        host: Which host its requests are for.
        routes: Makes calls where the app has no OpenAPI document; empty: it cannot.
        documents: Where else than in the usual places the app may have such documents.
    """

    def __init__(
        self,
        inner: Any,
        own: Any,
        *,
        outer: Any = None,
        host: str = HOST,
        routes: Callable[[], list[Operation]] = list,
        documents: Sequence[str] = (),
    ) -> None:
        self.host = host
        self._inner = inner
        self._own = own
        self._outer = environ() if outer is None else outer
        self._routes = routes
        self._documents = documents

    def __enter__(self) -> SyncPatient:
        rehearsal = rehearsal_of(self._own)
        wsgi.AtomicBatch(self._inner, transaction=rehearsal.transaction)  # for its side effect
        self.trial = Trial(self._inner, self._outer, rehearsal)
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def operations(self, asked: Asked) -> list[Operation]:
        paths = [asked.document] if asked.document else [*self._documents, *DOCUMENTS]
        for path in dict.fromkeys(paths):
            dispatcher = Dispatcher(self._inner, self._outer, Limits())
            try:
                reply = dispatcher.perform(request_for(path, asked.headers))
            except AtomicBatchError:
                continue
            if (document := document_of(reply)) is not None:
                return operations_in([("", document)], set(), asked.prefix)
        if not asked.document and (made := self._routes()):
            return made
        raise no_document(paths)

    def try_call(self, call: Call, watch: Watch) -> Tried:
        with answered_errors(self.trial.note_raised):
            return self.trial.try_call_here(call, watch)


def scope(scheme: str = "http") -> dict[str, Any]:
    """Make what an ASGI server would tell of a request, as far as its calls take it over."""
    return {
        "type": "http",
        "scheme": scheme,
        "client": _CLIENT,
        "server": _SERVER,
        "root_path": "",
    }


def environ(scheme: str = "http") -> dict[str, Any]:
    """Make what a WSGI server would tell of a request, as far as its calls take it over."""
    return {
        "SERVER_NAME": _SERVER[0],
        "SERVER_PORT": str(_SERVER[1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": _CLIENT[0],
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        # What a handler raises is in the report.
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
