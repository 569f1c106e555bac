"""Holding: the counts, and that they come back to nothing. Endpoints are tested with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from atomicbatch import EndpointLimits, LimitError
from atomicbatch.exchange import Held, Holding


def test_threads() -> None:
    """The first batches get many, the others two each, and those that end give theirs back."""
    holding = Holding(EndpointLimits(max_threads=50, max_batch_threads=40))
    batches = [Held(holding) for _ in range(4)]
    assert [held.take_threads() for held in batches] == [40, 10, 2, 2]
    for held in batches[:2]:
        held.give_back()
    assert Held(holding).take_threads() == 40
    batches[2].give_back()
    batches[3].give_back()
    assert holding.threads == 40


def test_counts_are_right_in_any_thread() -> None:
    """Threads of a server that take and give back at once leave nothing behind, and no gap."""
    holding = Holding(EndpointLimits(max_batches=4, max_held_bytes=4000))

    def batch(_: int) -> bool:
        held = Held(holding)
        try:
            held.enter()
            for _ in range(50):
                held.take(20)
        except LimitError:
            return False
        finally:
            held.give_back()
            held.give_back()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert any(pool.map(batch, range(200)))
    assert (holding.batches, holding.bytes) == (0, 0)


def test_a_bound_names_itself() -> None:
    """503, since others will have been answered soon."""
    holding = Holding(EndpointLimits(max_batches=1))
    Held(holding).enter()
    with pytest.raises(LimitError) as caught:
        Held(holding).enter()
    assert (caught.value.limit, caught.value.maximum, caught.value.status) == (
        "max_batches",
        1,
        503,
    )
