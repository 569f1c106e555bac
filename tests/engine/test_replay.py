"""Replay: when a whole batch is run again, and how long to wait first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch.engine import Replay


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(1, 0.005), (2, 0.010), (3, 0.020), (8, 0.640), (9, 1.0), (10_000, 1.0)],
)
def test_the_wait_doubles_up_to_its_bound(attempt: int, longest: float) -> None:
    """The longest wait is 5 ms after the first attempt, doubles, and stops at a second."""
    assert Replay().delay_seconds(attempt, 1.0) == pytest.approx(longest)


@given(attempt=st.integers(1, 10**9), random=st.floats(0, 1, exclude_max=True))
def test_the_wait_is_jittered_over_its_whole_range(attempt: int, random: float) -> None:
    """Any part of the longest wait may be waited: none at all as well (full jitter)."""
    longest = Replay().delay_seconds(attempt, 1.0)
    assert 0 <= Replay().delay_seconds(attempt, random) <= longest <= 1.0
    assert Replay().delay_seconds(attempt, 0.0) == 0.0


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"base_seconds": -1.0}, {"max_seconds": -0.1}]
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    """A batch runs at least once, and no wait is negative."""
    with pytest.raises(ValueError, match="must"):
        Replay(**wrong)  # type: ignore[arg-type]
