"""Bytes in slices are the bytes themselves."""

from __future__ import annotations

import random

import pytest

from atomicbatch.big_bytes import SLICE_BYTES, concatenated, occurs, slices

SIZES = [0, 1, 100, SLICE_BYTES - 1, SLICE_BYTES, SLICE_BYTES + 1, 3 * SLICE_BYTES + 7]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_concatenated(count: int, size: int) -> None:
    """It is join() with more patience."""
    pieces = [random.Random(number).randbytes(size) for number in range(count)]
    assert concatenated(pieces) == b"".join(pieces)
    assert b"".join(slices(pieces[0])) == pieces[0]


@pytest.mark.parametrize("size", SIZES[2:])
def test_occurs(size: int) -> None:
    """Wherever it is, also across two slices."""
    wanted = b"needle"
    for place in {0, 7, size // 2, size - len(wanted), *range(SLICE_BYTES - 7, SLICE_BYTES + 2)}:
        if 0 <= place <= size - len(wanted):
            body = bytearray(size)
            body[place : place + len(wanted)] = wanted
            assert occurs(wanted, bytes(body)), place
    assert not occurs(wanted, bytes(size))
