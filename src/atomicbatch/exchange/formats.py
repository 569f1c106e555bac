"""
Formats: media type -> what reads a batch from such a body, and what writes its replies.

A format more is an entry more in :data:`FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from atomicbatch.errors import MalformedError, MediaTypeError
from atomicbatch.model import Batch, Call, Headers, Reply
from atomicbatch.wire.batch import read_calls, write_replies
from atomicbatch.wire.multipart import boundary_of
from atomicbatch.wire.rules import Rules


class ReadBody(Protocol):
    """Reads a whole body, already without its Content-Encoding, into complete calls."""

    def __call__(
        self,
        body: bytes,
        *,
        headers: Headers,
        query: bytes,
        batch_paths: Collection[bytes],
        rules: Rules,
    ) -> Batch: ...


class WriteReplies(Protocol):
    """Writes one reply for each call; returns the Content-Type and the body. It cannot fail."""

    def __call__(
        self, calls: Sequence[Call], replies: Sequence[Reply], *, date: bytes
    ) -> tuple[bytes, bytes]: ...


class Format(NamedTuple):
    """One way to write a batch down."""

    reader: Callable[[bytes], ReadBody]
    """
    Given the value of a Content-Type header, gives what reads such a body.

    It raises a WireError where the parameters are malformed.
    """
    write: WriteReplies
    """Writes the replies, in the same format."""


def _multipart_reader(content_type: bytes) -> ReadBody:
    return partial(read_calls, boundary_of(content_type))


FORMATS = {b"multipart/mixed": Format(_multipart_reader, write_replies)}
"""By media type, in lower case."""
_NAMES = b", ".join(FORMATS).decode()


def choose_format(content_types: Sequence[bytes]) -> tuple[Format, ReadBody]:
    """
    Choose the format of a batch request: the only place where its Content-Type is read.

    Args:
        content_types: The values of the outer request's Content-Type headers.

    Returns:
        The format, and what reads this request's body.

    Raises:
        MediaTypeError: There is no Content-Type, or none that is known.
        MalformedError: There are several, or its parameters are malformed.
    """
    if len(content_types) > 1:
        raise MalformedError("there are several Content-Type headers")
    for content_type in content_types:
        media_type = content_type.partition(b";")[0].strip().lower()
        if (found := FORMATS.get(media_type)) is not None:
            return found, found.reader(content_type)
    raise MediaTypeError(f"the Content-Type of a batch is {_NAMES}")
