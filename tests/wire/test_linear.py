"""No body takes more than linear time, whatever it is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from atomicbatch.errors import WireError
from atomicbatch.wire import read_batch
from tests.growth import is_linear
from tests.wire.hostile import HOSTILE, UNBOUNDED, Hostile


def reading(request: Hostile) -> Callable[[], object]:
    def read() -> None:
        with contextlib.suppress(WireError):
            read_batch(
                request.body,
                content_type=request.content_type,
                headers=request.headers,
                query=request.query,
                limits=UNBOUNDED,
            )

    return read


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_linear_time(name: str) -> None:
    """Sixteen times the bytes take far less than the 256 times of anything quadratic."""
    assert is_linear(lambda size: reading(HOSTILE[name](size)))
