"""
Rounds: contestants do the same work in turn, so that what disturbs the machine disturbs them all.

Each round has calls of its own, made before the clock runs, and begins with another contestant.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Contestant(NamedTuple, Generic[T]):
    """Somebody who does the calls of a round."""

    name: str
    prepare: Callable[[Sequence[T]], Callable[[], object]]
    """What is to be timed, for these calls."""
    cpu_seconds: Callable[[], float] = time.process_time
    """What the one who is measured has computed so far."""
    most_calls: int = 10**9
    """Of more calls in a round it does the first so many."""


class Figures(NamedTuple):
    """What one contestant has taken, a round each; microseconds a call."""

    wall: list[float]
    cpu: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    @property
    def median_cpu(self) -> float:
        return statistics.median(self.cpu)

    @property
    def least(self) -> float:
        return min(self.wall)

    @property
    def spread(self) -> float:
        """How far apart the quartiles are, as a part of the median: how noisy the run was."""
        if len(self.wall) < 4:
            return (max(self.wall) - min(self.wall)) / self.median
        low, _, high = statistics.quantiles(self.wall, n=4)
        return (high - low) / self.median


def compete(
    contestants: Sequence[Contestant[T]], make_calls: Callable[[], Sequence[T]], rounds: int
) -> dict[str, Figures]:
    """Let all contestants do all rounds, after one that does not count."""
    found = {contestant.name: Figures([], []) for contestant in contestants}
    # What is here already is no garbage, and nobody's rounds are to be spent on looking at it.
    gc.collect()
    gc.freeze()
    for number in range(-1, rounds):
        calls = make_calls()
        turn = number % len(contestants)
        for contestant in (*contestants[turn:], *contestants[:turn]):
            own = calls[: contestant.most_calls]
            act = contestant.prepare(own)
            computed, start = contestant.cpu_seconds(), time.perf_counter()
            act()
            seconds = time.perf_counter() - start
            computed = contestant.cpu_seconds() - computed
            if number >= 0:
                found[contestant.name].wall.append(seconds / len(own) * 1e6)
                found[contestant.name].cpu.append(computed / len(own) * 1e6)
    return found
