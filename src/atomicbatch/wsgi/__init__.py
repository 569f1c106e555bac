"""
Batches for any WSGI app: ``app.wsgi_app = AtomicBatch(app.wsgi_app, transaction=...)`` for Flask.

In reading order::

    app.py         AtomicBatch: the endpoint at its path, every other request to the app
    endpoint.py    reads one batch request, lets it be answered, sends the response
    environ.py     what an environ says as headers, and the environ that a call gets
    dispatch.py    one call -> the app -> its reply (PEP 3333 towards the app)
    types.py       the shapes of PEP 3333

A batch runs in the thread of its request. So nobody has to keep an event loop free: there is no
entrance and no work beside the loop, as in ``asgi/``.
"""

from __future__ import annotations

from atomicbatch.wsgi.app import AtomicBatch

__all__ = ["AtomicBatch"]
