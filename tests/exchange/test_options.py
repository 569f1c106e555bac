"""Options: what an endpoint can be told."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from atomicbatch.exchange import EndpointOptions, OptionNames


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "batch"},
        {"path": "/batch/"},
        {"rolled_back_status": 100},
        {"not_overridable": "x-user"},
        {"consumed_query": "key"},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    """What cannot be meant is found when the app is made, not when the first batch comes."""
    with pytest.raises(ValueError, match=r"must|no final"):
        EndpointOptions(**wrong)


def test_every_option_has_a_name_that_endpoints_take() -> None:
    """The keyword arguments of AtomicBatch are the options, but for what an endpoint decides."""
    assert set(get_type_hints(OptionNames)) == set(EndpointOptions.__slots__) - {
        "keeps_underscores",
        "rules",
    }
    with pytest.raises(TypeError, match="timeout"):
        EndpointOptions(timeout=3)  # type: ignore[call-arg]


def test_header_names_are_compared_in_lower_case() -> None:
    """However a protected header is spelled, it is the one that requests have."""
    assert EndpointOptions(not_overridable=["X-Tenant"]).not_overridable == {b"x-tenant"}
