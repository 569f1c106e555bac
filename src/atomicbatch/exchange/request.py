"""Request: the outer head, checked once; with the body it becomes a Batch."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from atomicbatch import codings
from atomicbatch.exchange.formats import Format, ReadBody, choose_format
from atomicbatch.exchange.options import EndpointOptions
from atomicbatch.exchange.preferences import refuse_unsupported
from atomicbatch.exchange.upload import body_too_long
from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Headers


class Head(NamedTuple):
    """The head of a batch request, checked: its body may be read."""

    headers: Headers
    """The outer request's: (lower-case name, value)."""
    format: Format
    read_body: ReadBody
    """Reads this request's body, once its codings are undone."""
    codings: list[str]
    """Its Content-Encoding, in the order the codings were applied."""


def read_head(headers: Headers, limits: Limits) -> Head:
    """
    Read the head of a POST to the batch endpoint.

    Raises:
        WireError: The head alone is reason enough to refuse the batch.
    """
    refuse_unsupported(headers)
    types: list[bytes] = []
    encodings: list[bytes] = []
    lengths: list[bytes] = []
    for name, value in headers:
        if name == b"content-type":
            types.append(value)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"content-encoding":
            encodings.append(value)
    format_, read_body = choose_format(types)
    applied = codings.content_codings(encodings) if encodings else []
    for length in lengths:
        # Anything but digits is the HTTP server's business; 20 digits are more than 2**64.
        if length.isdigit() and (len(length) > 20 or int(length) > limits.max_body_bytes):
            raise body_too_long(limits)
    return Head(headers, format_, read_body, applied)


def read_request(
    head: Head,
    query: bytes,
    body: bytes,
    *,
    batch_paths: Collection[bytes],
    options: EndpointOptions,
) -> Batch:
    """
    Undo the body's Content-Encoding (SPEC 2.7) and read the batch.

    Args:
        head: The outer request's.
        query: The outer request's, without the ``?``.
        body: The outer request's, as it came.
        batch_paths: Where the batch endpoint is; a call aimed there is refused.
        options: Of the endpoint.

    Raises:
        WireError: This is no batch that we run.
    """
    limits = options.limits
    if len(body) > limits.max_body_bytes:
        raise body_too_long(limits)
    if head.codings:
        body = codings.decode(body, head.codings, limits.max_body_bytes)
    return head.read_body(
        body,
        headers=head.headers,
        query=query,
        batch_paths=batch_paths,
        rules=options.rules,
    )
