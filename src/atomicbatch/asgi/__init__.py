"""
Batches for any ASGI app: ``app = AtomicBatch(app, transaction=...)``.

In reading order::

    endpoint.py    BatchEndpoint: reads one batch request, watches for hang-up, sends the response
    dispatch.py    one call -> the app -> its reply
    heavy.py       big bodies are read and written beside the event loop
    holding.py     what all batches of an endpoint hold, and its bounds
    background.py  background tasks of frameworks wait for COMMIT
    threads.py     a batch has worker threads of its own
    document.py    the endpoint in the app's own OpenAPI document
    app.py         AtomicBatch: the endpoint at its path, every other request to the app
"""

from __future__ import annotations

from atomicbatch.asgi.app import AtomicBatch
from atomicbatch.asgi.endpoint import BatchEndpoint

__all__ = ["AtomicBatch", "BatchEndpoint"]
