"""Speakers: a wire is given the settings of whoever speaks, and only those that differ."""

from __future__ import annotations

from atomicbatch.transactions.servers.introduction import Introduction, difference
from atomicbatch.transactions.servers.speakers import note_settings, switch

SYSTEM = {"time_zone": "SYSTEM", "sql_mode": "", "unique_checks": "1"}
BERLIN = {**SYSTEM, "time_zone": "it's +01:00", "unique_checks": "0"}


class Wire:
    """Stands for a connection; nothing is sent."""


def of(settings: dict[str, str]) -> Introduction:
    return Introduction(("mysql", "host", "shop"), "me", "REPEATABLE READ", settings)


def test_only_what_differs_is_set() -> None:
    """In one statement; nothing for the same session, nor for another one that is alike."""
    wire, one, other = Wire(), of(SYSTEM), of(BERLIN)
    note_settings(wire, one.settings)
    assert switch(wire, one) == ""
    assert (
        switch(wire, other) == "SET SESSION time_zone = 'it''s +01:00', SESSION unique_checks = 0"
    )
    assert switch(wire, of(dict(BERLIN))) == ""
    assert switch(wire, one) == "SET SESSION time_zone = 'SYSTEM', SESSION unique_checks = 1"


def test_a_wire_that_nobody_knows_is_left_alone() -> None:
    """It was opened for whoever speaks first."""
    wire = Wire()
    assert switch(wire, of(BERLIN)) == ""
    assert switch(wire, of(SYSTEM)) != ""


def test_sessions_of_mysql_may_differ_in_their_settings() -> None:
    """Not in who they are, or in the isolation level, which is the transaction's."""
    assert difference(of(SYSTEM), of(BERLIN)) == ""
    assert difference(of(SYSTEM)._replace(user="you"), of(SYSTEM)) != ""
    assert difference(of(SYSTEM)._replace(level="SERIALIZABLE"), of(SYSTEM)) != ""
