"""Advice: what one message says differently is said by who has made the adapter."""

from __future__ import annotations

from atomicbatch.advice import ARGUMENTS, Advice
from atomicbatch.sql import refusals


def test_a_refusal_is_said_as_it_stands_unless_there_is_another_way_to_say_it() -> None:
    advice = Advice(instead={refusals.AUTOCOMMIT: "use the button"})
    assert advice.refusal(refusals.AUTOCOMMIT) == "use the button"
    assert advice.refusal(refusals.RELEASE) == refusals.RELEASE
    assert ARGUMENTS.refusal(refusals.AUTOCOMMIT) == refusals.AUTOCOMMIT
