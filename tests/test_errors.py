"""Errors: what the log is told of one."""

from __future__ import annotations

import sqlite3

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from atomicbatch import ConflictError
from atomicbatch.errors import kind_of


def caused(error: Exception) -> ConflictError:
    conflict = ConflictError("in the way")
    conflict.__cause__ = error
    return conflict


def of_sqlite() -> sqlite3.Error:
    error = sqlite3.OperationalError("UNIQUE constraint failed: secret.column")
    error.sqlite_errorname = "SQLITE_BUSY"
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.DeadlockDetected("Key (name)=(secret)"), "DeadlockDetected 40P01"),
        (pymysql.err.OperationalError(1213, "secret"), "OperationalError 1213"),
        (of_sqlite(), "OperationalError SQLITE_BUSY"),
        (
            sa.exc.OperationalError("secret", {}, psycopg.errors.SerializationFailure("secret")),
            "SerializationFailure 40001",
        ),
        (caused(pymysql.err.OperationalError(1205, "secret")), "OperationalError 1205"),
        (TimeoutError("secret"), "TimeoutError"),
        (type("Error" + "x" * 1000, (Exception,), {})("secret"), "Error" + "x" * 95),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_kind_of_an_error(error: Exception, kind: str) -> None:
    """The driver's class and the database's code, of bounded length, and nothing of the text."""
    assert kind_of(error) == kind


def test_a_chain_that_bites_its_tail() -> None:
    """It has an end for us."""
    first, second = ConflictError("a"), ConflictError("b")
    first.__cause__, second.__cause__ = second, first
    assert kind_of(first) == "ConflictError"
