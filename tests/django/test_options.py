"""Options: what the setting ATOMICBATCH says, and what it cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import override_settings

from atomicbatch import EndpointLimits, Limits
from atomicbatch.django.options import options_of, problems_of
from atomicbatch.engine import Replay
from atomicbatch.exchange import OptionNames
from tests.django.asking import Project


def read(**given: Any) -> Any:
    with override_settings(ATOMICBATCH=given):
        return options_of()


def test_nothing_has_to_be_set() -> None:
    """Without the setting, and with an empty one, the endpoint is as AtomicBatch's own is."""
    assert options_of() == read() == ({}, ())


def test_every_option_of_the_endpoint_can_be_set() -> None:
    """Each argument of AtomicBatch has a key, and each bound too."""
    endpoint, outside = read(
        PATH="/batch",
        LIMITS={"MAX_CALLS": 7, "TIMEOUT_SECONDS": 10},
        ENDPOINT_LIMITS={"MAX_BATCHES": 8},
        REPLAY={"MAX_ATTEMPTS": 9, "MAX_SECONDS": 0.5},
        ROLLED_BACK_STATUS=409,
        NOT_OVERRIDABLE=["X-User"],
        CONSUMED_QUERY=("token",),
        OUTSIDE=["requests_cache"],
    )
    assert endpoint == {
        "path": "/batch",
        "limits": Limits(max_calls=7, timeout_seconds=10),
        "endpoint_limits": EndpointLimits(max_batches=8),
        "replay": Replay(max_attempts=9, max_seconds=0.5),
        "rolled_back_status": 409,
        "not_overridable": ["X-User"],
        "consumed_query": ["token"],
    }
    assert set(endpoint) == set(OptionNames.__annotations__)
    assert outside == ("requests_cache",)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"TRANSACTION": 1}, "ATOMICBATCH has no key 'TRANSACTION'; it knows CONSUMED_QUERY, "),
        ({"path": "/batch"}, "ATOMICBATCH has no key 'path'"),
        ({"PATH": "batch"}, "ATOMICBATCH['PATH']: path must start with /"),
        ({"PATH": None}, "ATOMICBATCH['PATH']: text, not None"),
        ({"LIMITS": 100}, "ATOMICBATCH['LIMITS']: a dictionary, not 100"),
        ({"LIMITS": {"CALLS": 1}}, "ATOMICBATCH['LIMITS']: no key 'CALLS'; it knows MAX_CALLS"),
        ({"LIMITS": {"MAX_CALLS": "9"}}, "MAX_CALLS: a whole number, not '9'"),
        ({"LIMITS": {"MAX_CALLS": True}}, "MAX_CALLS: a whole number, not True"),
        ({"LIMITS": {"MAX_CALLS": 0}}, "limit max_calls must be positive"),
        ({"LIMITS": {"TIMEOUT_SECONDS": "1"}}, "TIMEOUT_SECONDS: a number, not '1'"),
        ({"REPLAY": {"MAX_ATTEMPTS": 0}}, "max_attempts must be at least 1"),
        ({"ROLLED_BACK_STATUS": 99}, "rolled_back_status is no final HTTP status"),
        ({"NOT_OVERRIDABLE": "X-User"}, "a list of names, not 'X-User'"),
        ({"CONSUMED_QUERY": [1]}, "text, not 1"),
        ({"OUTSIDE": "default"}, "a list of databases and libraries, not 'default'"),
        ({"OUTSIDE": [1]}, "not the name of a database or a library: 1"),
        ({"OUTSIDE": ["redis://x"]}, "knows no database by an URL that starts with redis"),
    ],
)
def test_what_cannot_be_set(given: dict[str, Any], problem: str) -> None:
    """An unknown key or a value of the wrong kind is refused when the project starts."""
    with override_settings(ATOMICBATCH=given):
        assert [problem in found for found in problems_of()] == [True]
    with pytest.raises(ImproperlyConfigured) as refused:
        read(**given)
    assert problem in str(refused.value)


def test_the_setting_is_no_dictionary() -> None:
    """That is said as well."""
    with override_settings(ATOMICBATCH=["/batch"]), pytest.raises(ImproperlyConfigured):
        options_of()


def test_a_database_is_left_alone_by_its_alias() -> None:
    """An alias of DATABASES stands for the file or the server behind it."""
    _, outside = read(OUTSIDE=["default"])
    assert outside == (Path(connections["default"].settings_dict["NAME"]),)


def test_the_options_are_in_force(project: Project) -> None:
    """The path is the endpoint's, and the limits are those of its batches."""
    setting = {"PATH": "/batch", "LIMITS": {"MAX_CALLS": 1}}
    with Project.behind(project.gateway, project.database, ATOMICBATCH=setting) as other:
        assert other.batch("GET /echo", path="/batch").outcome == "committed"
        refused = other.batch("GET /echo", "GET /echo", path="/batch")
        assert (refused.status, refused.problem["limit"]) == (413, "max_calls")
        assert other.plain("POST /v1/api/batch").status == 404


@pytest.mark.every_gateway
def test_a_path_that_is_not_ascii(project: Project) -> None:
    """Gateways write it each in its own way."""
    setting = {"PATH": "/b\xe4tch"}
    sent = setting["PATH"]
    if project.gateway == "wsgi":
        sent = sent.encode().decode("latin-1")
    with Project.behind(project.gateway, project.database, ATOMICBATCH=setting) as other:
        answer = other.batch("GET /echo", path=sent, **raw_path(project, b"/b%C3%A4tch"))
    assert answer.outcome == "committed"


def raw_path(project: Project, path: bytes) -> dict[str, Any]:
    return {} if project.gateway == "wsgi" else {"raw_path": path}
