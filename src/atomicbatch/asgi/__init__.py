"""
Batches for any ASGI app: ``app = AtomicBatch(app, transaction=...)``.

In reading order::

    app.py             AtomicBatch: the endpoint at its path, every other request to the app
    endpoint.py        BatchEndpoint: takes one batch request, notices hang-ups, sends the response
    body.py            reads a body in its bounds of size and time
    attempts.py        the transaction, begun once for each attempt at a batch
    dispatch.py        one call -> the app -> its reply
    scope.py           where calls go, and the ASGI scope of each
    tasks.py           the task of each, which begins at once
    entrance.py        who may be in the app together with a batch that has to be alone
    heavy.py           big bodies are read and written beside the event loop
    frameworks.py      what of frameworks has to know of batches:
    background.py        background tasks wait for COMMIT
    after_response.py    so do Litestar's after_response hooks
    threads.py           a batch has worker threads of its own
    roles.py           whether code is a call's handler, a dependency of it, or middleware
    document.py        the endpoint in the app's own OpenAPI document
    types.py           the shapes of the ASGI specification
"""

from __future__ import annotations

from atomicbatch.asgi.app import AtomicBatch
from atomicbatch.asgi.endpoint import BatchEndpoint

__all__ = ["AtomicBatch", "BatchEndpoint"]
