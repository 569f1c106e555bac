"""Upload: a body as it arrives."""

from __future__ import annotations

import pytest

from atomicbatch import LimitError, Limits
from atomicbatch.exchange import Held, Holding, Upload, body_too_slow
from atomicbatch.limits import EndpointLimits


def test_pieces_become_a_body() -> None:
    """A body is what its pieces are together; without any it is empty."""
    upload = Upload(Limits())
    assert upload.body() == b""
    for piece in (b"ab", b"", b"cd"):
        upload.take(piece)
    assert (upload.size, upload.body()) == (4, b"abcd")


def test_the_piece_that_is_too_much() -> None:
    """The bound on one body names itself, as does the one on all batches together."""
    upload = Upload(Limits(max_body_bytes=3))
    upload.take(b"abc")
    with pytest.raises(LimitError, match="longer than 3 bytes"):
        upload.take(b"d")
    held = Held(Holding(EndpointLimits(max_held_bytes=3)))
    upload = Upload(Limits(), held)
    upload.take(b"abc")
    with pytest.raises(LimitError) as caught:
        upload.take(b"d")
    assert (caught.value.limit, caught.value.status) == ("max_held_bytes", 503)


def test_a_body_that_takes_too_long() -> None:
    """408, since it was the client that was slow."""
    assert body_too_slow().status == 408
