"""Send: calls -> one batch on its way to a server -> the answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

import httpx

from atomicbatch.client.answer import Answer, Response, lost_answer, read_answer
from atomicbatch.model import Call
from atomicbatch.wire.batch import write_batch


class SendError(Exception):
    """The batch was not sent: nothing has left for the server."""


# Nothing has left for the server when these are raised. After any other error the server may have
# the batch, and may have committed it.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.InvalidURL,
    httpx.LocalProtocolError,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def send_calls(
    calls: Sequence[Call],
    *,
    server: str,
    batch_path: str = "/v1/api/batch",
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 60.0,
) -> Answer:
    """
    Send calls as one batch.

    Args:
        calls: In order.
        server: Its URL: scheme, host, port, and a prefix of its paths if there is one.
        batch_path: The batch endpoint, below that.
        headers: Of the batch request; they apply to every call.
        timeout_seconds: How long to wait for the whole answer.

    Raises:
        SendError: The batch cannot be written, or the server cannot be reached.
    """
    if "?" in server or "#" in server:
        raise SendError(f"{server} has a query: give scheme, host, port and a prefix only")
    with httpx.Client(timeout=timeout_seconds) as client:
        try:
            url = server.rstrip("/") + batch_path
            request = _request(client, url, calls, headers or {})
        except (ValueError, httpx.InvalidURL) as error:
            raise SendError(f"cannot send to {server}: {error}") from error
        try:
            response = _exchange(client, request, timeout_seconds)
        except _NEVER_SENT as error:
            raise SendError(f"cannot send to {server}: {error}") from error
        except Exception as error:
            why = str(error) or type(error).__name__
            return lost_answer(f"the answer of {server} was lost ({why})")
    try:
        return read_answer(response, len(calls))
    except Exception as error:
        return lost_answer(f"the answer is not understood ({error!r})")


def _request(
    client: httpx.Client, url: str, calls: Sequence[Call], headers: Mapping[str, str]
) -> httpx.Request:
    content_type, body = write_batch(calls)
    outer = httpx.Headers(dict(headers))
    outer["content-type"] = content_type.decode()
    return client.build_request("POST", url, content=body, headers=outer)


def _exchange(client: httpx.Client, request: httpx.Request, seconds: float) -> Response:
    """Send, and read the whole answer; however slowly it comes, it gets this time and no more."""
    end = time.monotonic() + seconds
    response = client.send(request, stream=True)
    with contextlib.closing(response):
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if time.monotonic() > end:
                raise httpx.ReadTimeout("it took too long to arrive", request=request)
    headers = tuple((name.lower(), value) for name, value in response.headers.raw)
    return Response(response.status_code, headers, bytes(body))
