"""
What one SQL statement of a handler means for the transaction around it. Pure text, no database.

The reading errs on one side: whatever is not known to be harmless counts as a write, and a write
is protected by a savepoint, kept from other sessions' rollbacks, and counted for its engine.
"""

from __future__ import annotations

import re
from functools import lru_cache

from atomicbatch.sql import functions, refusals
from atomicbatch.sql.kinds import CONTROL, Family, Kind, Statement
from atomicbatch.sql.lexing import bare, both_ways, uncommented
from atomicbatch.sql.setting_statements import (
    level_of,
    options_of,
    read_set_config,
    read_setting,
)

__all__ = ["CONTROL", "Family", "Kind", "Statement", "read_statement"]


_READ = Statement(Kind.READ)
_HOLD = Statement(Kind.HOLD)
_WRITE = Statement(Kind.WRITE)
_DML = Statement(Kind.WRITE, "dml")

# Texts beyond this length are lists of values; they are not worth keeping.
_KEPT_CHARACTERS = 10_000


def read_statement(sql: str, family: Family) -> Statement:
    """Tell what a statement does."""
    if len(sql) <= _KEPT_CHARACTERS:
        return _read(sql, family)
    if ";" not in sql and sql[:7].upper() in ("INSERT ", "UPDATE ", "DELETE "):
        return _DML
    return _read.__wrapped__(sql, family)


@lru_cache(maxsize=2048)
def _read(sql: str, family: Family) -> Statement:
    if family is not Family.MYSQL or ("/*!" not in sql and "/*M!" not in sql):
        return _read_text(sql, family)
    # Whether the server runs what stands in such a comment depends on its version.
    ran, skipped = (_read_text(text, family) for text in both_ways(sql))
    if ran == skipped and ran.kind is Kind.REFUSED:
        return ran
    if ran.kind in _WEIGHT and skipped.kind in _WEIGHT:
        return max(ran, skipped, key=lambda one: _WEIGHT[one.kind])
    return Statement(Kind.REFUSED, refusals.EXECUTABLE)


def _read_text(sql: str, family: Family) -> Statement:
    texts = [text for part in bare(sql, family).split(";") if (text := part.strip())]
    if len(texts) > 1:
        texts = _with_bodies(texts, family)
    if not texts:
        return _READ
    if len(texts) == 1:
        return _read_one(texts[0], sql, family)
    statements = []
    for text in texts:
        statement = _read_one(text, sql, family)
        if statement.kind is Kind.REFUSED:
            return statement
        if statement.kind not in _WEIGHT or statement.settings:
            return Statement(Kind.REFUSED, refusals.ONE_CONTROLS)
        if family is Family.MYSQL and _PLAIN.match(text) is None:
            return Statement(Kind.REFUSED, refusals.COMPOUND)
        statements.append(statement)
    heaviest = max(statements, key=lambda one: _WEIGHT[one.kind])
    # What has to be checked is so whichever statement it belongs to.
    details = [statement.detail for statement in statements]
    checked = (detail for detail in ("call", "excludes", "foreign_keys") if detail in details)
    return heaviest._replace(detail=next(checked, details[0]))


_WEIGHT = {Kind.READ: 0, Kind.HOLD: 1, Kind.WRITE: 2}

# A body of statements is part of one statement, and does not run when that is executed.
_BODY = {
    Family.SQLITE: re.compile(r"CREATE\s+(?:TEMP(?:ORARY)?\s+)?TRIGGER\b.*\bBEGIN\b", re.DOTALL),
    Family.POSTGRESQL: re.compile(
        r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\b.*\bBEGIN\s+ATOMIC\b", re.DOTALL
    ),
}
# MariaDB's compound statements (REPEAT ..., FOR ..., a label) consist of parts that are none by
# themselves, so that what they run cannot be told by the first word.
_PLAIN = re.compile(
    r"\(|(?:CALL|CREATE|DELETE|DESC|DESCRIBE|DO|DROP|EXPLAIN|INSERT|LOAD|REPLACE|SELECT|SET|SHOW|"
    r"TABLE|UPDATE|VALUES|WITH)\b"
)


def _with_bodies(texts: list[str], family: Family) -> list[str]:
    """Join what belongs to the body of a trigger or function."""
    pattern = _BODY.get(family)
    if pattern is None or pattern.match(texts[0]) is None or "END" not in texts:
        return texts
    return [texts[0], *texts[texts.index("END") + 1 :]]


_WORDS = re.compile(r"[A-Z_][A-Z_0-9]*")
_NAME = re.compile(
    r"\b(?:SAVEPOINT|RELEASE|TO)\b\s*+(?:SAVEPOINT\b\s*+)?"
    r"""("[^"]+"|`[^`]+`|\[[^\]]+\]|'[^']+'|[^\s;]+)""",
    re.IGNORECASE,
)
_LOCKING = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE|KEY\s+SHARE)\b|\bLOCK\s+IN\s+SHARE\s+MODE\b"
)
# Who else has the lock matters, and sessions of one batch share their locks.
_EXCLUDING = re.compile(r"\bSKIP\s+LOCKED\b|\bNOWAIT\b|_ADVISORY_|\bGET_LOCK\b")
_CHANGING = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE\s+INTO|INTO|TRUNCATE|CALL)\b")
# A common table expression with its columns; nothing else looks like that, in PostgreSQL neither
# the columns of what a function returns: f(x) AS (a int).
_COLUMNS = (
    r"\([^()]*+\)\s*+AS\s*+(?:NOT\s*+)?(?:MATERIALIZED\s*+)?"
    r"\(\s*+(?:(?:SELECT|WITH|TABLE)\b|VALUES\s*+\()"
)
# With its schema: a function that is not the database's own may be called as one of those. Spaces
# around dots are gone by then, or each name of a long chain would be searched from anew.
_DOT = re.compile(r"(?<!\s)\s*+\.\s*+")
_CALLED = re.compile(
    r"(?<![\w$.])((?:(?:[^\W\d][\w$]*+|\"Q\")\.)*+(?:[^\W\d][\w$]*+|\"Q\"))\s*+"
    rf"(?!{_COLUMNS})\("
)
_STORED_PRAGMA = re.compile(r"\b(?:USER_VERSION|APPLICATION_ID)\s*[=(]")


def _read_one(text: str, sql: str, family: Family) -> Statement:
    words = _WORDS.findall(text, 0, 200)
    first, second = (*words[:2], "", "")[:2]
    if first in ("INSERT", "UPDATE", "DELETE", "REPLACE"):
        return _DML
    if family in _SESSION_LOCK and _SESSION_LOCK[family].search(text):
        return Statement(Kind.REFUSED, refusals.SESSION_LOCKS)
    if first in ("SELECT", "WITH", "VALUES", "TABLE"):
        return _read_query(text, sql, family)
    if (reader := _CONTROLS.get(first)) is not None:
        return reader(text, second, sql, family)
    refused = _refused(text, words, family)
    if refused:
        return Statement(Kind.REFUSED, refused)
    if first in ("SHOW", "DESCRIBE", "DESC") or text[0] == "(":
        return _READ if text[0] != "(" else _read_query(text, sql, family)
    if first == "CALL" and family is Family.MYSQL:
        return Statement(Kind.WRITE, "call")
    if first == "EXPLAIN":
        # ANALYZE runs what it explains.
        return _WRITE if _CHANGING.search(text) or "ANALY" in text else _READ
    if first == "PRAGMA" and family is Family.SQLITE:
        if re.search(r"\bFOREIGN_KEYS\b", text):
            return Statement(Kind.READ, "foreign_keys")
        if "DEFER_FOREIGN_KEYS" in text:
            return _HOLD
        return _WRITE if _STORED_PRAGMA.search(text) else _READ
    if first == "LOCK":
        return _HOLD
    return _WRITE


def _read_query(text: str, sql: str, family: Family) -> Statement:
    made = _READ
    if family is Family.POSTGRESQL and "SET_CONFIG" in text:
        made = read_set_config(uncommented(sql, family))
        if made.kind is Kind.REFUSED:
            return made
    rest, locks = _LOCKING.subn(" ", text)
    if _CHANGING.search(rest) or any(
        not _is_harmless(name, family) for name in _CALLED.findall(_DOT.sub(".", rest))
    ):
        made = made._replace(kind=Kind.WRITE)
    elif locks:
        made = made._replace(kind=Kind.HOLD)
    return made._replace(detail="excludes") if _EXCLUDING.search(text) else made


def _is_harmless(name: str, family: Family) -> bool:
    if family is Family.POSTGRESQL:
        name = name.removeprefix("PG_CATALOG.")
    # SQLite calls those pragmas as functions that change nothing.
    is_pragma = family is Family.SQLITE and name.startswith("PRAGMA_")
    return is_pragma or name in _HARMLESS[family]


_HARMLESS = {
    Family.SQLITE: functions.SQLITE,
    Family.POSTGRESQL: functions.POSTGRESQL,
    Family.MYSQL: functions.MYSQL,
}


def _begin(text: str, second: str, sql: str, family: Family) -> Statement:
    if second == "NOT" or (text.startswith("START") and second != "TRANSACTION"):
        return _WRITE if second == "NOT" else Statement(Kind.REFUSED, refusals.IMPLICIT_COMMIT)
    return Statement(Kind.BEGIN, options_of(text))


def _commit(text: str, second: str, sql: str, family: Family) -> Statement:
    return _end(Kind.COMMIT, text, second, family)


def _rollback(text: str, second: str, sql: str, family: Family) -> Statement:
    if second != "PREPARED" and re.search(r"\bTO\b", text):
        return _savepoint(text, second, sql, family)
    return _end(Kind.ROLLBACK, text, second, family)


def _end(kind: Kind, text: str, second: str, family: Family) -> Statement:
    if second == "PREPARED":
        return Statement(Kind.REFUSED, refusals.TWO_PHASE)
    if family is Family.MYSQL and "RELEASE" in re.sub(r"\bNO\s+RELEASE\b", "", text):
        return Statement(Kind.REFUSED, refusals.RELEASE)
    return Statement(kind, "chain" if re.search(r"\bAND\s+CHAIN\b", text) else "")


def _savepoint(text: str, second: str, sql: str, family: Family) -> Statement:
    first = _WORDS.findall(text, 0, 200)[0]
    kind = {"SAVEPOINT": Kind.SAVEPOINT, "RELEASE": Kind.RELEASE}.get(first, Kind.ROLLBACK_TO)
    found = _NAME.search(uncommented(sql, family))
    return Statement(kind, found[1].strip("\"'`[]").lower() if found else "")


def _prepare(text: str, second: str, sql: str, family: Family) -> Statement:
    if second == "TRANSACTION":
        return Statement(Kind.REFUSED, refusals.TWO_PHASE)
    return Statement(Kind.REFUSED, refusals.UNREADABLE) if family is Family.MYSQL else _WRITE


def _xa(text: str, second: str, sql: str, family: Family) -> Statement:
    return Statement(Kind.REFUSED, refusals.TWO_PHASE)


def _set(text: str, second: str, sql: str, family: Family) -> Statement:
    if level_of(text):
        return Statement(Kind.ISOLATION, options_of(text))
    if family is Family.MYSQL:
        return _read_mysql_setting(text, sql)
    if second == "TRANSACTION":
        return Statement(Kind.ISOLATION, options_of(text))
    if second == "CONSTRAINTS":
        return _HOLD
    return read_setting(sql, family)


def _read_mysql_setting(text: str, sql: str) -> Statement:
    if re.match(r"SET\s+STATEMENT\b", text):
        return _read_set_statement(text, sql)
    if _AUTOCOMMIT.search(uncommented(sql, Family.MYSQL)):
        return Statement(
            Kind.REFUSED,
            "it sets autocommit by SQL; say it to SQLAlchemy, as "
            'execution_options(isolation_level="AUTOCOMMIT")',
        )
    if _COMMITTING_SET.search(text):
        return Statement(Kind.REFUSED, refusals.IMPLICIT_COMMIT)
    # Values may call functions.
    return _read_query(text, sql, Family.MYSQL)


# Names may stand in backquotes; in double quotes too, with sql_mode=ANSI_QUOTES.
_AUTOCOMMIT = re.compile(r"\bautocommit\b[`\"]?\s*+:?=", re.IGNORECASE)
_COMMITTING_SET = re.compile(
    r"(?:^SET|,)\s*+(?:PASSWORD\s*+(?:=|:=|FOR\b)|DEFAULT\s+ROLE\b)", re.IGNORECASE
)


def _read_set_statement(text: str, sql: str) -> Statement:
    """SET STATEMENT of MariaDB, which runs what follows FOR."""
    depth = 0
    for found in re.finditer(r"[()]|\bFOR\b", text):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if found[0] == "FOR" and depth == 0:
            break
    else:
        return _WRITE
    ran = text[found.end() :].strip()
    if any(word in _CONTROLS for word in _WORDS.findall(ran, 0, 200)[:1]):
        return Statement(Kind.REFUSED, refusals.SET_STATEMENT)
    statement = _read_one(ran, sql, Family.MYSQL) if ran else _READ
    # Values may call functions.
    values = _read_query(text[: found.start()], sql, Family.MYSQL)
    if statement.kind in _WEIGHT and values.kind is Kind.WRITE:
        return statement._replace(kind=Kind.WRITE)
    return statement


def _reset(text: str, second: str, sql: str, family: Family) -> Statement:
    if family is Family.MYSQL:
        return Statement(Kind.REFUSED, refusals.IMPLICIT_COMMIT)
    return read_setting(sql, family) if family is Family.POSTGRESQL else _WRITE


_CONTROLS = {
    "BEGIN": _begin,
    "START": _begin,
    "COMMIT": _commit,
    "END": _commit,
    "ROLLBACK": _rollback,
    "ABORT": _rollback,
    "SAVEPOINT": _savepoint,
    "RELEASE": _savepoint,
    "PREPARE": _prepare,
    "XA": _xa,
    "SET": _set,
    "RESET": _reset,
}

# A lock of the session is released at once. Taking one is refused with it: its release, which
# would be refused, or the batch's end would leave it to whoever gets the connection next.
_SESSION_LOCK = {
    Family.POSTGRESQL: re.compile(
        r"(?<![\w$])PG_(?:TRY_)?ADVISORY_(?:UN)?LOCK(?:_ALL|_SHARED)?\s*+\("
    ),
    Family.MYSQL: re.compile(r"(?<![\w$.@])(?:GET_LOCK|RELEASE_LOCK|RELEASE_ALL_LOCKS)\s*+\("),
}
# MariaDB manual, "SQL statements that cause an implicit commit".
_COMMITTING = frozenset(
    "ALTER ANALYZE BACKUP CACHE CHANGE CHECK CREATE DROP FLUSH GRANT INSTALL LOAD LOCK OPTIMIZE "
    "RENAME REPAIR RESET REVOKE STOP TRUNCATE UNINSTALL UNLOCK".split()
)

_TEMPORARY_TABLE = re.compile(
    r"(?:CREATE\s+(?:OR\s+REPLACE\s+)?|DROP\s+)TEMPORARY\s+TABLES?\b", re.IGNORECASE
)


def _refused(text: str, words: list[str], family: Family) -> str:
    """Why a statement cannot run in a batch, or an empty text."""
    first = words[0] if words else ""
    if family is Family.MYSQL:
        if first == "USE":
            return refusals.OTHER_DATABASE
        if first == "EXECUTE":
            return refusals.UNREADABLE
        # Other temporary things than tables commit, and "temporary" may be anything's name.
        if _TEMPORARY_TABLE.match(text):
            return ""
        if first == "LOAD" and "DATA" in words[:2]:
            return ""
        return refusals.IMPLICIT_COMMIT if first in _COMMITTING else ""
    if first == "VACUUM":
        return refusals.NO_TRANSACTION
    if re.search(r"\bON\s+COMMIT\s+(?:DROP|DELETE)\b", text):
        return refusals.TEMPORARY
    if family is Family.POSTGRESQL and (
        (first in ("CREATE", "DROP") and words[1:2] in (["DATABASE"], ["TABLESPACE"]))
        or (first in ("CREATE", "DROP", "REINDEX") and "CONCURRENTLY" in words[:5])
        or words[:2] == ["ALTER", "SYSTEM"]
    ):
        return refusals.NO_TRANSACTION
    # DISCARD ALL is refused by PostgreSQL itself.
    if family is Family.POSTGRESQL and first == "DISCARD" and words[1:2] != ["ALL"]:
        return refusals.DISCARD
    return ""
