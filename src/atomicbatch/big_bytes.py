"""
Big bytes: put together and searched in slices, so that other threads can run in between.

Python holds its lock through one ``b"".join()``, however long that is: 60 MiB are 130 ms in which
no thread runs, the event loop's included.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

SLICE_BYTES = 1024 * 1024
"""Copying or searching so many takes one or two milliseconds."""


def concatenated(pieces: Sequence[bytes]) -> bytes:
    """Put pieces together: ``b"".join(pieces)``."""
    if len(pieces) == 1:
        return pieces[0]
    if sum(map(len, pieces)) <= SLICE_BYTES:
        return b"".join(pieces)
    buffer = io.BytesIO()
    for piece in pieces:
        if len(piece) <= SLICE_BYTES:
            buffer.write(piece)
        else:
            for one in slices(piece):
                buffer.write(one)
    return buffer.getvalue()  # without a copy


def slices(body: bytes) -> list[memoryview]:
    """Cut bytes into views of at most ``SLICE_BYTES``."""
    view = memoryview(body)
    return [view[start : start + SLICE_BYTES] for start in range(0, len(body), SLICE_BYTES)]


def occurs(wanted: bytes, body: bytes) -> bool:
    """Tell whether bytes occur in others: ``wanted in body``."""
    if len(body) <= SLICE_BYTES:
        return wanted in body
    return any(
        body.find(wanted, start, start + SLICE_BYTES + len(wanted)) >= 0
        for start in range(0, len(body), SLICE_BYTES)
    )
