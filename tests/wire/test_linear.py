"""No body takes more than linear time, whatever it is made of."""

from __future__ import annotations

import contextlib
import time

import pytest

from atomicbatch.errors import WireError
from atomicbatch.wire import read_batch
from tests.wire.hostile import HOSTILE, UNBOUNDED, Hostile

TIMES = 16
# Linear is 16 and quadratic 256; between them is room for caches and a busy machine.
MOST = 60
# What is shorter is noise: such bodies are made longer first, up to a bound for the fast ones.
SHORTEST_SECONDS = 0.001
LONGEST_BYTES = 1 << 20


def seconds(request: Hostile) -> float:
    """Processor time of one reading; the best of three, as nothing makes it shorter but luck."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        with contextlib.suppress(WireError):
            read_batch(
                request.body,
                content_type=request.content_type,
                headers=request.headers,
                query=request.query,
                limits=UNBOUNDED,
            )
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_linear_time(name: str) -> None:
    """Sixteen times the bytes take far less than the 256 times of anything quadratic."""
    size = 8192
    while (short := seconds(HOSTILE[name](size))) < SHORTEST_SECONDS and size < LONGEST_BYTES:
        size *= 2
    assert seconds(HOSTILE[name](size * TIMES)) < MOST * max(short, SHORTEST_SECONDS)
