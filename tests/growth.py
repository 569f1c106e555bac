"""How the time that something takes grows with its size, told by processor time."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMES = 16
# Linear is 16 and quadratic 256; between them is room for caches and a busy machine.
MOST = 60
# What is shorter is noise: such inputs are made longer first, up to a bound for the fast ones.
SHORTEST_SECONDS = 0.0005
LONGEST = 1 << 20


def is_linear(prepare: Callable[[int], Callable[[], object]], *, size: int = 8192) -> bool:
    """
    Tell whether sixteen times the size takes far less than the 256 times of anything quadratic.

    Args:
        prepare: Makes what is to be measured for a size in bytes.
        size: The smallest that is tried.
    """
    while (short := _seconds(prepare(size))) < SHORTEST_SECONDS and size < LONGEST:
        size *= 2
    long, most = prepare(size * TIMES), MOST * max(short, SHORTEST_SECONDS)
    return any(_seconds_once(long) < most for _ in range(3))


def _seconds(run: Callable[[], object]) -> float:
    """The best of three, as nothing makes it shorter but luck."""
    return min(_seconds_once(run) for _ in range(3))


def _seconds_once(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start
