"""Body: the body of a request, read in its bounds of size and time."""

from __future__ import annotations

import asyncio

from atomicbatch.asgi.heavy import work
from atomicbatch.asgi.types import Receive
from atomicbatch.exchange import Held, Upload, body_too_slow
from atomicbatch.limits import Limits


async def read_body(receive: Receive, limits: Limits, held: Held | None = None) -> bytes | None:
    """Read a whole body, as ``read_upload`` does, and put it together."""
    upload = await read_upload(receive, limits, held)
    return None if upload is None else await work(upload.size, upload.body)


async def read_upload(receive: Receive, limits: Limits, held: Held | None = None) -> Upload | None:
    """
    Read a whole body, or return None: the client has hung up.

    Args:
        receive: Of the request.
        limits: Bounds on the body and on the time it takes to arrive.
        held: Counts the bytes as they arrive.

    Raises:
        LimitError: It is too long; what follows is not read.
        TimeoutExceededError: It took too long (408).
    """
    upload = Upload(limits, held)
    try:
        async with asyncio.timeout(limits.timeout_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                upload.take(message.get("body", b""))
                if not message.get("more_body", False):
                    return upload
    except TimeoutError:
        raise body_too_slow() from None
