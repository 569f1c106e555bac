"""The names of settings that an app has made up are read from what it sends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch.sql.custom_settings import MOST_CHARACTERS, custom_settings_in

SETTING = [
    "SET shop.tenant = 'a'",
    "SET shop.tenant TO 'a'",
    "set Session Shop.Tenant to 'a'",
    "SET SESSION shop.tenant='a';",
    'SET "shop"."tenant" = \'a\'',
    "SET \"shop.tenant\" = 'a'",
    "SET shop . tenant TO DEFAULT",
    "/* = ' */ SET /* x */ shop.tenant -- more\n = 'a'",
    "SELECT 1; SET shop.tenant = 'a'; SELECT 2",
    "SELECT set_config('shop.tenant', 'a', false)",
    "SELECT pg_catalog.SET_CONFIG('Shop.Tenant', 'x.y', 'f')",
    "SELECT set_config('shop.tenant', name, is_local) FROM t",
    "WITH a AS (SELECT set_config('shop.tenant', 'a', false)) SELECT 1",
]
NOT_SETTING = [
    "SELECT 1",
    "SET search_path = a, b",
    "SET search_path TO 'a.b'",
    "SET LOCAL shop.tenant = 'a'",
    "RESET shop.tenant",
    "SHOW shop.tenant",
    "SELECT set_config('shop.tenant', 'a', true)",
    "SELECT current_setting('shop.tenant')",
    "-- SET shop.tenant = 'a'",
    "UPDATE t SET a = 1, b.c = 2",
    "UPDATE t SET a.b = 1",
    "SELECT set_config('work_mem', '1MB', false)",
]
PARAMETERS: list[tuple[str, Any]] = [
    ("SELECT set_config(%s, %s, false)", ("shop.tenant", "x.y")),
    ("SELECT '5 %%', %s, set_config(%b::text, 'x.y', false)", [1, "shop.tenant"]),
    ("SELECT set_config(%(name)s, %(value)s, false)", {"value": "x.y", "name": "shop.tenant"}),
    ("SELECT set_config($2, $1, $3)", ("x.y", "shop.tenant", False)),
    ("SELECT set_config($1, 'x.y', false)", (("shop.tenant",),)),
    ("SELECT set_config(%(name)s, 'x.y', false)", ({"name": "shop.tenant"},)),
]
NOT_THERE: list[Any] = [None, (), ("x",), (5,), {}, {"name": "shop.tenant"}, "shop.tenant"]


@pytest.mark.parametrize("sql", SETTING)
def test_what_is_set_for_the_session_is_named(sql: str) -> None:
    assert list(custom_settings_in(sql)) == ["shop.tenant"]


@pytest.mark.parametrize("sql", NOT_SETTING)
def test_nothing_else_is_named(sql: str) -> None:
    assert list(custom_settings_in(sql)) == []


def test_several_in_one_text_are_all_named() -> None:
    sql = "SET a.b = 1; SET c.d = 2; SELECT set_config('e.f', '', false), set_config('g', '', true)"
    assert list(custom_settings_in(sql)) == ["a.b", "c.d", "e.f"]


@pytest.mark.parametrize(("sql", "parameters"), PARAMETERS)
def test_a_parameter_may_have_the_name(sql: str, parameters: Any) -> None:
    assert list(custom_settings_in(sql, parameters)) == ["shop.tenant"]


@pytest.mark.parametrize("parameters", NOT_THERE)
def test_values_are_never_taken_for_names(parameters: Any) -> None:
    assert list(custom_settings_in("SELECT set_config($1, 'x.y', false)", parameters)) == []


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    script = "SET a.b = 1; " + "SELECT 1; " * MOST_CHARACTERS + "SET c.d = 1"
    assert list(custom_settings_in(script)) == ["a.b"]


@given(st.text(alphabet="set_config()'\"$%.;,- aB1/*\n"), st.lists(st.text(max_size=3)))
def test_any_text_can_be_read(sql: str, parameters: list[str]) -> None:
    for name in custom_settings_in(sql, parameters):
        assert "." in name
        assert name == name.lower()
