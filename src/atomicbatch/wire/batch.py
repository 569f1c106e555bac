"""
The front door of the wire: read_batch and write_replies, and the client's two mirrors.

Everything is read and checked before anything is returned: a batch that is malformed anywhere
never starts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

from atomicbatch.errors import LimitError, MalformedError, WireError
from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Call, Headers, Reply
from atomicbatch.wire.call import CallReader, write_call
from atomicbatch.wire.inherit import Inheritance
from atomicbatch.wire.multipart import Part, boundary_of, join_parts, split_parts
from atomicbatch.wire.reply import ReplyReader, ReplyWriter
from atomicbatch.wire.rules import Rules


def read_batch(
    body: bytes,
    *,
    content_type: bytes,
    headers: Headers = (),
    query: bytes = b"",
    batch_paths: Collection[bytes] = (),
    limits: Limits | None = None,
    not_overridable: Collection[bytes] = (),
    consumed_query: Collection[str] = (),
    underscores: bool = True,
) -> Batch:
    """
    Read the body of a batch request into complete calls (SPEC 2 and 3).

    Args:
        body: The outer request's, already without its Content-Encoding.
        content_type: The value of the outer request's Content-Type.
        headers: The outer request's: calls inherit them.
        query: The outer request's, without the ``?``: calls inherit it.
        batch_paths: Where the batch endpoint is; a call aimed there is refused.
        limits: Bounds on the batch.
        not_overridable: More header names (lower-case) that a call's own headers cannot change.
        consumed_query: Decoded names in the outer query that calls do not inherit.
        underscores: Keep headers of calls with ``_`` in their name. False for WSGI.

    Returns:
        At least one call. The headers of each are its own, then the inherited ones, then the true
        Content-Length where there is a body.

    Raises:
        MediaTypeError: The request is not multipart/mixed.
        MalformedError: The body breaks the grammar or a rule of ours; ``call_index`` and
            ``offset`` (in bytes from the start of the body) say where.
        LimitError: The body, the number of calls, or the headers of a call exceed the limits.
    """
    rules = _rules(
        limits or Limits(), frozenset(not_overridable), frozenset(consumed_query), underscores
    )
    return read_calls(
        boundary_of(content_type),
        body,
        headers=headers,
        query=query,
        batch_paths=batch_paths,
        rules=rules,
    )


@lru_cache(maxsize=16)
def _rules(
    limits: Limits,
    not_overridable: frozenset[bytes],
    consumed_query: frozenset[str],
    underscores: bool,
) -> Rules:
    return Rules(
        limits,
        not_overridable=not_overridable,
        consumed_query=consumed_query,
        underscores=underscores,
    )


def read_calls(
    boundary: bytes,
    body: bytes,
    *,
    headers: Headers,
    query: bytes,
    batch_paths: Collection[bytes],
    rules: Rules,
) -> Batch:
    """
    Read the body of a batch request whose boundary is known; see :func:`read_batch`.

    Args:
        boundary: As ``boundary_of`` returns it.
        body: Already without its Content-Encoding.
        headers: As in ``read_batch``.
        query: Likewise.
        batch_paths: Likewise.
        rules: The endpoint's, with all its other options.
    """
    limits = rules.limits
    if len(body) > limits.max_body_bytes:
        raise LimitError(
            f"more than {limits.max_body_bytes} bytes in the body",
            limit="max_body_bytes",
            maximum=limits.max_body_bytes,
        )
    parts = split_parts(body, boundary, max_calls=limits.max_calls)
    if not parts:
        raise MalformedError("the batch is empty", offset=0)
    inheritance = Inheritance(headers, query, rules)
    reader = CallReader(inheritance, batch_paths, _newline(body, parts))
    calls: list[Call] = []
    content_ids: set[bytes] = set()
    for content, offset in parts:
        try:
            call = reader.read(content)
            content_id = call.content_id
            if content_id is not None:
                if content_id in content_ids:
                    raise MalformedError("Content-ID of an earlier part", offset=0)
                content_ids.add(content_id)
        except WireError as error:
            error.call_index = len(calls)
            error.offset = offset + (error.offset or 0)
            raise
        calls.append(call)
    return Batch(tuple(calls))


def write_replies(
    calls: Sequence[Call], replies: Sequence[Reply], *, date: bytes, boundary: bytes | None = None
) -> tuple[bytes, bytes]:
    """
    Write one reply for each call as a multipart body (SPEC 5.4).

    Args:
        calls: What the replies answer, for Content-ID and HEAD.
        replies: As many, in the same order.
        date: The value of the Date header of replies that have none.
        boundary: Random where it is None, as it should be outside tests.

    Returns:
        The value of the Content-Type header, and the body.

    Raises:
        ValueError: There are not as many replies as calls, or none; or the boundary given occurs
            in a reply. Nothing that a reply holds raises: its batch may be committed.
    """
    writer = ReplyWriter(date)
    parts = [writer.write(call, reply) for call, reply in zip(calls, replies, strict=True)]
    return join_parts(parts, boundary, b"batchresponse_")


def write_batch(calls: Sequence[Call], *, boundary: bytes | None = None) -> tuple[bytes, bytes]:
    """
    Write calls as the body of a batch request: the client's side of ``read_batch``.

    Returns:
        The value of the Content-Type header, and the body.

    Raises:
        ValueError: There is no call, or one that could not be read; or the boundary given occurs
            in a call.
    """
    return join_parts([write_call(call) for call in calls], boundary, b"batch_")


def read_replies(body: bytes, *, content_type: bytes) -> list[tuple[bytes | None, Reply]]:
    """
    Read the body of a batch response: the client's side of ``write_replies``.

    Returns:
        For each part, in order: the Content-ID of the call it answers (without ``response-``), or
        None, and the reply.

    Raises:
        MediaTypeError: The response is not multipart/mixed.
        MalformedError: The body breaks the grammar; ``call_index`` and ``offset`` say where.
    """
    parts = split_parts(body, boundary_of(content_type))
    reader = ReplyReader(_newline(body, parts))
    replies: list[tuple[bytes | None, Reply]] = []
    for content, offset in parts:
        try:
            replies.append(reader.read(content))
        except WireError as error:
            error.call_index = len(replies)
            error.offset = offset + (error.offset or 0)
            raise
    return replies


def _newline(body: bytes, parts: list[Part]) -> bytes:
    """Tell how the line of the first delimiter ends; so do most others."""
    start = parts[0][1] if parts else 0
    return b"\r\n" if body.endswith(b"\r\n", 0, start) else b"\n"
