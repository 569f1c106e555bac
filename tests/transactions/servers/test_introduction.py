"""Where a connection leads is asked of the server."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
import pymysql
import pytest

from atomicbatch.doors.custom_settings import seen
from atomicbatch.transactions.servers.introduction import (
    Introduction,
    difference,
    introduce,
    make_alike,
    other_custom,
)
from atomicbatch.transactions.servers.sync_real import asked
from tests.stores import Store
from tests.transactions.servers.standing_in import Psycopg, PyMySQL, connect_pymysql


def of(kind: Any, connection: Any) -> Introduction:
    place = kind.named.place(connection)
    return asked(introduce(kind.named.family, place), kind, connection)


def test_a_postgresql_database_is_known_by_its_server_and_name(postgresql_store: Store) -> None:
    url = postgresql_store.url
    with (
        psycopg.connect(url, autocommit=True) as one,
        psycopg.connect(url.replace("127.0.0.1", "localhost"), autocommit=True) as other,
        psycopg.connect(f"{url.rpartition('/')[0]}/postgres", autocommit=True) as third,
    ):
        first = of(Psycopg(), one)
        assert first.key == of(Psycopg(), other).key
        assert first.key != of(Psycopg(), third).key
        assert first.level == "READ COMMITTED"
        assert first.settings == {"role": "none"}


def test_what_a_session_has_set_is_told_and_can_be_set_elsewhere(postgresql_store: Store) -> None:
    url = postgresql_store.url
    with (
        psycopg.connect(url, autocommit=True) as one,
        psycopg.connect(url, autocommit=True) as other,
    ):
        one.execute("SET search_path = 'it''s', public, pg_catalog")
        one.execute("SET statement_timeout = '7s'")
        one.execute("SET default_transaction_isolation = 'repeatable read'")
        one.execute("SET ROLE pg_read_all_data")
        wanted, own = of(Psycopg(), one), of(Psycopg(), other)
        assert difference(wanted, own) == "the isolation level"
        for text in make_alike(wanted, own, Psycopg.named.family):
            other.execute(text)
        assert of(Psycopg(), other) == wanted
        for name in ("search_path", "statement_timeout", "role", "transaction_isolation"):
            assert (
                one.execute(f"SHOW {name}").fetchone() == other.execute(f"SHOW {name}").fetchone()
            )


def test_what_was_a_transactions_own_is_not_told(postgresql_store: Store) -> None:
    """PostgreSQL lists its isolation level as the session's for ever after."""
    with psycopg.connect(postgresql_store.url, autocommit=True) as one:
        with one.transaction():
            one.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE")
        assert of(Psycopg(), one).settings == {"role": "none"}
        with one.transaction():
            one.execute("SET lock_timeout = '7s'")
            one.execute("RESET lock_timeout")
        assert of(Psycopg(), one).settings == {"role": "none"}


def test_who_may_not_ask_for_the_system_is_known_by_the_address(postgresql_store: Store) -> None:
    with psycopg.connect(postgresql_store.url, autocommit=True) as one:
        asking = introduce(Psycopg.named.family, Psycopg.named.place(one))
        assert "pg_control_system" in next(asking)
        second = asking.throw(psycopg.errors.InsufficientPrivilege("permission denied"))
        assert "pg_control_system" not in second
        row = one.execute(second).fetchone()
        assert row is not None
        with pytest.raises(StopIteration) as ended:
            asking.send(row[0])
        assert ended.value.value.key[1] == f"localhost:{one.info.port}"


def test_a_mariadb_schema_is_known_by_its_server_and_name(mariadb_store: Store) -> None:
    kind = PyMySQL()
    with (
        closing(connect_pymysql(mariadb_store.url)) as one,
        closing(connect_pymysql(mariadb_store.url)) as other,
        closing(connect_pymysql(f"{mariadb_store.url.rpartition('/')[0]}/mysql")) as third,
    ):
        first = of(kind, one)
        assert first.key == of(kind, other).key
        assert first.key != of(kind, third).key
        assert first.level == "REPEATABLE READ"
        one.query("SET SESSION sql_mode = 'ANSI_QUOTES', time_zone = '+03:00'")
        one.query("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        one.query("SET foreign_key_checks = 0")
        wanted = of(kind, one)
        for text in make_alike(wanted, of(kind, other), kind.named.family):
            other.query(text)
        assert of(kind, other) == wanted
        assert wanted.level == "SERIALIZABLE"
        assert wanted.settings["sql_mode"] == "ANSI_QUOTES"


def test_the_level_is_asked_by_either_name(mariadb_store: Store) -> None:
    """At once where the server reads comments of its version, else by the name that it knows."""
    with closing(connect_pymysql(mariadb_store.url)) as one:
        names = {1064: "@@tx_isolation", 1193: "@@transaction_isolation"}
        for number, name in names.items():
            asking = introduce(PyMySQL.named.family, None)
            text = next(asking)
            one.query(text)
            assert "REPEATABLE-READ" in one._result.rows[0][0]
            again = asking.throw(pymysql.ProgrammingError(number, "it is not known"))
            assert name in again
            assert "*" not in again
        other = introduce(PyMySQL.named.family, None)
        next(other)
        with pytest.raises(pymysql.OperationalError):
            other.throw(pymysql.OperationalError(1142, "SELECT command denied"))


def test_what_only_the_other_session_has_set_is_reset(postgresql_store: Store) -> None:
    url = postgresql_store.url
    with (
        psycopg.connect(url, autocommit=True) as one,
        psycopg.connect(url, autocommit=True) as other,
    ):
        other.execute("SET TimeZone = 'Asia/Tokyo'")
        wanted = of(Psycopg(), one)
        for text in make_alike(wanted, of(Psycopg(), other), Psycopg.named.family):
            other.execute(text)
        for name in ("TimeZone", "statement_timeout"):
            assert (
                one.execute(f"SHOW {name}").fetchone() == other.execute(f"SHOW {name}").fetchone()
            )


def test_custom_settings_are_told_by_name(
    postgresql_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are set are set elsewhere. Those of a loaded extension are listed."""
    monkeypatch.setattr(seen, "_names", frozenset(("shop.tenant", "shop.gone", "plpgsql.a_b")))
    url = postgresql_store.url
    with (
        psycopg.connect(url, autocommit=True) as one,
        psycopg.connect(url, autocommit=True) as other,
    ):
        one.execute("SET shop.tenant = 'it''s'")
        other.execute("SET shop.gone = '7'")
        other.execute("DO 'BEGIN END'")
        seen.add(["plpgsql.extra_errors"])
        one.execute("DO 'BEGIN END'; SET plpgsql.extra_errors = 'too_many_rows'")
        wanted, own = of(Psycopg(), one), of(Psycopg(), other)
        assert wanted.custom == {"shop.tenant": "it's"}
        assert wanted.settings["plpgsql.extra_errors"] == "too_many_rows"
        assert other_custom(wanted, own) == {"shop.tenant": "it's", "shop.gone": ""}
        (text,) = make_alike(wanted, own, Psycopg.named.family)
        other.execute(text)
        assert of(Psycopg(), other) == wanted._replace(custom={**wanted.custom, "shop.gone": ""})
        assert make_alike(wanted, of(Psycopg(), other), Psycopg.named.family) == []
        assert difference(wanted, own._replace(settings=wanted.settings)) == ""


def test_what_is_null_in_mariadb_is_told_as_well(mariadb_store: Store) -> None:
    kind = PyMySQL()
    server = mariadb_store.url.rpartition("/")[0]
    with (
        closing(connect_pymysql(mariadb_store.url)) as one,
        closing(connect_pymysql(mariadb_store.url)) as other,
        closing(connect_pymysql(f"{server}/")) as without,
    ):
        first = of(kind, other)
        one.query("SET character_set_results = NULL")
        wanted = of(kind, one)
        assert wanted.key == first.key
        assert wanted.level == first.level
        assert wanted.settings == {**first.settings, "character_set_results": "NULL"}
        for text in make_alike(wanted, first, kind.named.family):
            other.query(text)
        assert of(kind, other) == wanted
        nowhere = of(kind, without)
        assert nowhere.key == (*first.key[:-1], "")
        assert nowhere.level == first.level
