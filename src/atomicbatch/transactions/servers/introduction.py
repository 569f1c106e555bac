"""Introductions: a connection tells by one query where it leads, and what its session has set."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from atomicbatch.doors.custom_settings import seen
from atomicbatch.drivers.answers import answer_of
from atomicbatch.guard.places import Place
from atomicbatch.sql.kinds import Family

# Who may not call pg_control_system(), or has a server without it, is known by its address.
_SYSTEM = "(SELECT system_identifier::text FROM pg_control_system())"
# What a transaction has had for itself, or has reset, is listed as the session's for ever after.
_POSTGRESQL = """
SELECT json_build_object(
  'system', {system}, 'database', current_database(), 'user', session_user,
  'level', current_setting('default_transaction_isolation'),
  'defers', (SELECT count(*) > 0 AND bool_and(condeferred) FROM pg_constraint WHERE condeferrable),
  'settings', settings, 'custom', {custom})::text
FROM (SELECT coalesce(json_object_agg(name, setting) FILTER (WHERE source = 'session'
        AND setting IS DISTINCT FROM reset_val AND name NOT IN ('transaction_isolation',
        'transaction_read_only', 'transaction_deferrable')), '{{}}')::jsonb
        || jsonb_build_object('role', current_setting('role')) AS settings,
      array_agg(lower(name)) AS names FROM pg_settings) AS listed
"""
# Those of an extension that is loaded are among the others. NULL: the session knows none of it.
_CUSTOM = """(
  SELECT json_object_agg(name, current_setting(name, true))
  FROM unnest(ARRAY[{names}]) AS name WHERE name <> ALL (names))"""
# Of MySQL's many, those that change what a statement means or is given back as.
_VARIABLES = (
    "sql_mode",
    "time_zone",
    "character_set_client",
    "character_set_results",
    "collation_connection",
    "foreign_key_checks",
    "unique_checks",
    "sql_auto_is_null",
    "sql_safe_updates",
    "sql_select_limit",
    "group_concat_max_len",
    "div_precision_increment",
    "default_week_format",
    "lc_time_names",
    "innodb_lock_wait_timeout",
    "auto_increment_increment",
)
_MYSQL = (
    # Its number, since sql_mode may say that a backslash is nothing but a backslash.
    "SELECT CONCAT_WS(CHAR(10 USING utf8mb4), {system}, @@port, @@datadir, "
    "IFNULL(DATABASE(), ''), "
    "CURRENT_USER(), {level}"
)
# The isolation level has two names. MySQL reads the first of these comments from 5.7.20 on, which
# knows the new name; MariaDB reads the second one, and knows the old name also where it has both.
_LEVEL = "/*!50720 @@transaction_isolation *//*M! @@tx_isolation */"
# Who reads neither: an older MySQL, which misses a value, and a MariaDB without the old name.
_OTHER_LEVELS = {1064: "@@tx_isolation", 1193: "@@transaction_isolation"}


class Introduction(NamedTuple):
    """
    What is known of a connection's session.

    Attributes:
        key: The database itself, whatever the URL: the same for all connections to it.
        user: By which role or account.
        level: The isolation level that its transactions have, as SQL has it.
        settings: What its session has set, by name.
        custom: What settings are that the app has made up (``shop.tenant``), of those whose names
            doors have seen: PostgreSQL does not list them.
        defers: The database has constraints that are checked at COMMIT; and those that can be
            deferred are all deferred from the start.
        place: Where the connection leads by its address, if that is known.
    """

    key: tuple[str, ...]
    user: str
    level: str
    settings: Mapping[str, str]
    defers: bool = False
    custom: Mapping[str, str] = {}
    place: Place | None = None


Asking = Generator[str, Any, Introduction]
"""Yields queries of one value, and is sent the value, or has the error thrown in."""


def introduce(family: Family, place: Place | None) -> Asking:
    """
    Ask a connection who it is.

    Args:
        family: Of its database.
        place: Where it leads by its address, for servers that do not tell.
    """
    if family is Family.MYSQL:
        return _introduce_mysql(place)
    return _introduce_postgresql(place)


def _introduce_postgresql(place: Place | None) -> Asking:
    names = ", ".join(map(quoted, seen))
    asked = _CUSTOM.format(names=names) if names else "NULL"
    try:
        text = yield _POSTGRESQL.format(system=_SYSTEM, custom=asked)
    except Exception as error:
        if answer_of(error) is None:
            raise  # the connection is lost, or closed
        text = yield _POSTGRESQL.format(system="NULL", custom=asked)
    told = json.loads(text)
    system = told["system"] or f"{place.host}:{place.port}" if place else told["system"] or ""
    level = told["level"].upper()
    key = ("postgresql", system, told["database"])
    custom = {name: value for name, value in (told["custom"] or {}).items() if value is not None}
    settings, defers = told["settings"], bool(told["defers"])
    return Introduction(key, told["user"], level, settings, defers, custom, place)


def _introduce_mysql(place: Place | None) -> Asking:
    # CONCAT_WS would leave out what is NULL, as character_set_results may be.
    names = ", ".join(f"CONCAT('{name}=', IFNULL(@@{name}, 'NULL'))" for name in _VARIABLES)
    query = f"{_MYSQL}, {names})".replace("{system}", "@@hostname")
    try:
        text = yield query.format(level=_LEVEL)
    except Exception as error:
        answer = answer_of(error)
        other = None if answer is None else _OTHER_LEVELS.get(answer.number or 0)
        if other is None:
            raise
        text = yield query.format(level=other)
    if isinstance(text, bytes | bytearray):
        text = text.decode()
    lines = text.split("\n")
    pairs = dict(line.partition("=")[::2] for line in lines[-len(_VARIABLES) :])
    *address, user, level = lines[: -len(_VARIABLES)]
    key = ("mysql", *address)
    return Introduction(key, user, level.replace("-", " ").upper(), pairs, place=place)


def make_alike(wanted: Introduction, own: Introduction, family: Family) -> list[str]:
    """
    Write what makes the session of the batch's own connection like one of the app's.

    Args:
        wanted: The app's.
        own: The batch's own.
        family: Of the database.
    """
    extra = own.settings.keys() - wanted.settings.keys()  # PostgreSQL's alone are not all told
    texts = [f"RESET {name}" for name in sorted(extra)]
    changes = [
        (name, value)
        for name, value in wanted.settings.items()
        if own.settings.get(name) != value and name != "role"
    ]
    # Nobody can make a session forget that there is one: it is empty.
    custom = {name: "" for name, value in own.custom.items() if value}
    custom.update(wanted.custom)
    changes += [(name, value) for name, value in custom.items() if own.custom.get(name) != value]
    texts += _set(changes, family)
    if own.level != wanted.level:
        texts.append(_level(wanted.level, family))
    role = wanted.settings.get("role", "none")
    if own.settings.get("role", "none") != role:
        texts.append(f"SET role = {quoted(role)}")  # last: it may forbid the others
    return texts


def difference(wanted: Introduction, own: Introduction) -> str:
    """
    Name something in which two sessions differ that would have to be alike; empty: nothing.

    MySQL's settings need not be: each statement finds its own, see ``speakers.py``.
    """
    if wanted.user != own.user:
        return "the role by which they are opened"
    if wanted.level != own.level:
        return "the isolation level"
    if wanted.key[0] == "mysql":
        return ""
    for name in sorted({*wanted.settings, *own.settings}):
        if wanted.settings.get(name) != own.settings.get(name):
            return f"the setting {name}"
    return ""


def other_custom(wanted: Introduction, own: Introduction) -> dict[str, str]:
    """Tell which custom settings of a session are otherwise in another one; give its values."""
    names = wanted.custom.keys() | own.custom.keys()
    return {
        name: wanted.custom.get(name, "")
        for name in names
        if wanted.custom.get(name, "") != own.custom.get(name, "")
    }


def _set(changes: Sequence[tuple[str, str]], family: Family) -> list[str]:
    """Write what makes settings, in as few statements as can be."""
    if not changes:
        return []
    if family is Family.MYSQL:
        return [f"SET {', '.join(setting(name, value) for name, value in changes)}"]
    return [make_settings(changes)]


def make_settings(changes: Iterable[tuple[str, str]]) -> str:
    """Write one query that makes settings of PostgreSQL's for a session."""
    # Lists such as search_path are read as lists by it, unlike by SET.
    made = (f"set_config({quoted(name)}, {quoted(value)}, false)" for name, value in changes)
    return f"SELECT {', '.join(made)}"


def setting(name: str, value: str) -> str:
    """Write one of MySQL's settings, as a SET has it."""
    is_bare = value.isdigit() or value == "NULL"
    return f"SESSION {name} = {value if is_bare else quoted(value)}"


def _level(level: str, family: Family) -> str:
    if family is Family.MYSQL:
        return f"SET SESSION TRANSACTION ISOLATION LEVEL {level}"
    return f"SET default_transaction_isolation = {quoted(level.lower())}"


def quoted(value: str) -> str:
    """Write a text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"
