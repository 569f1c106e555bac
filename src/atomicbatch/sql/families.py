"""One table per database family: a statement's first word -> what reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from atomicbatch.sql import control, refusals
from atomicbatch.sql.kinds import Family, Kind, Statement, refused
from atomicbatch.sql.lexing import Text, uncommented
from atomicbatch.sql.queries import changes_data, read_query
from atomicbatch.sql.setting_statements import isolation, level_of, read_setting

Reader = Callable[[Text], Statement]

_READ = Statement(Kind.READ)
_HOLD = Statement(Kind.HOLD)
_WRITE = Statement(Kind.WRITE)
DML = Statement(Kind.WRITE, is_dml=True)
"""INSERT, UPDATE, DELETE and REPLACE."""


class Grammar(NamedTuple):
    """What the statements of one family mean."""

    first_words: Mapping[str, Reader | Statement]
    """What a first word means, or who reads the rest. Any other word may write."""
    refused_anywhere: tuple[tuple[re.Pattern[str], str], ...] = ()
    """What may stand in no statement but DML, and why."""

    def read(self, text: Text) -> Statement:
        """Tell what one statement does."""
        meaning = self.first_words.get(text.first, _unknown)
        if meaning is DML:
            return DML
        for pattern, why in self.refused_anywhere:
            if pattern.search(text.bare):
                return refused(why)
        return meaning if isinstance(meaning, Statement) else meaning(text)


def _unknown(text: Text) -> Statement:
    return read_query(text) if text.bare[0] == "(" else _WRITE


def _explain(text: Text) -> Statement:
    # ANALYZE runs what it explains.
    return _WRITE if changes_data(text.bare) or "ANALY" in text.bare else _READ


def _set(text: Text) -> Statement:
    if text.second == "TRANSACTION" or level_of(text.bare):
        return isolation(Kind.ISOLATION, text.bare)
    if text.second == "CONSTRAINTS":
        return _HOLD
    return read_setting(text)


_EVERYWHERE: dict[str, Reader | Statement] = {
    "INSERT": DML,
    "UPDATE": DML,
    "DELETE": DML,
    "REPLACE": DML,
    "SELECT": read_query,
    "WITH": read_query,
    "VALUES": read_query,
    "TABLE": read_query,
    "SHOW": _READ,
    "EXPLAIN": _explain,
    "DESCRIBE": _explain,
    "DESC": _explain,
    "LOCK": _HOLD,
    "BEGIN": control.begin,
    "START": control.begin,
    "COMMIT": control.commit,
    "END": control.commit,
    "ROLLBACK": control.rollback,
    "ABORT": control.rollback,
    "SAVEPOINT": control.savepoint,
    "RELEASE": control.savepoint,
    "PREPARE": control.prepare,
    "XA": control.two_phase,
    "SET": _set,
}
_OUTSIDE = refused(refusals.NO_TRANSACTION)
_TEMPORARY = (re.compile(r"\bON\s+COMMIT\s+(?:DROP|DELETE)\b"), refusals.TEMPORARY)


# SQLite -----------------------------------------------------------------------------------------

_FOREIGN_KEYS = re.compile(r"\bFOREIGN_KEYS\b")
_STORED_PRAGMA = re.compile(r"\b(?:USER_VERSION|APPLICATION_ID)\s*[=(]")


def stores_by_pragma(bare: str) -> bool:
    """Tell whether a PRAGMA stores something in the file."""
    return _STORED_PRAGMA.search(bare) is not None


def _pragma(text: Text) -> Statement:
    if _FOREIGN_KEYS.search(text.bare):
        return Statement(Kind.READ, sets_foreign_keys=True)
    if "DEFER_FOREIGN_KEYS" in text.bare:
        return _HOLD
    return _WRITE if stores_by_pragma(text.bare) else _READ


_SQLITE = Grammar(_EVERYWHERE | {"PRAGMA": _pragma, "VACUUM": _OUTSIDE}, (_TEMPORARY,))


# PostgreSQL -------------------------------------------------------------------------------------


def _create(text: Text) -> Statement:
    """CREATE, DROP and REINDEX."""
    of_cluster = text.first != "REINDEX" and text.second in ("DATABASE", "TABLESPACE")
    if of_cluster or "CONCURRENTLY" in text.words[:5]:
        return _OUTSIDE
    return _WRITE


def _alter(text: Text) -> Statement:
    return _OUTSIDE if text.second == "SYSTEM" else _WRITE


def _discard(text: Text) -> Statement:
    # PostgreSQL itself refuses DISCARD ALL in a transaction.
    return _WRITE if text.second == "ALL" else refused(refusals.DISCARD)


# A lock of the session is released at once, before COMMIT. To take one is refused with it: its
# release would be refused, or the batch's end would leave it to whoever gets the connection next.
_POSTGRESQL_SESSION_LOCK = re.compile(
    r"(?<![\w$])PG_(?:TRY_)?ADVISORY_(?:UN)?LOCK(?:_ALL|_SHARED)?\s*+\("
)
_POSTGRESQL_FILE = re.compile(
    r"\ACOPY\b.*(?:\b(?:TO|FROM)\s+PROGRAM\b|\bTO\s+(?:E|U&)?['$])|(?<![\w$])LO_EXPORT\s*+\(",
    re.DOTALL,
)
_POSTGRESQL = Grammar(
    _EVERYWHERE
    | {
        "RESET": read_setting,
        "CREATE": _create,
        "DROP": _create,
        "REINDEX": _create,
        "ALTER": _alter,
        "DISCARD": _discard,
        "VACUUM": _OUTSIDE,
    },
    (
        (_POSTGRESQL_SESSION_LOCK, refusals.SESSION_LOCKS),
        (_POSTGRESQL_FILE, refusals.SERVER_FILES),
        _TEMPORARY,
    ),
)


# MariaDB and MySQL ------------------------------------------------------------------------------

_MYSQL_SESSION_LOCK = re.compile(r"(?<![\w$.@])(?:GET_LOCK|RELEASE_LOCK|RELEASE_ALL_LOCKS)\s*+\(")
_MYSQL_FILE = re.compile(r"\bINTO\s+(?:OUTFILE|DUMPFILE)\b")
_SET_STATEMENT = re.compile(r"SET\s+STATEMENT\b")
# Names may stand in backquotes; in double quotes too, with sql_mode=ANSI_QUOTES.
_AUTOCOMMIT = re.compile(r"\bautocommit\b[`\"]?\s*+:?=", re.IGNORECASE)
_SET_TRANSACTION = re.compile(r"SET\s+(SESSION\s+|LOCAL\s+)?TRANSACTION\b")
_READ_ONLY_SESSION = re.compile(
    r"\b(?:tx|transaction)_read_only\b[`\"]?\s*+:?=\s*+(?!['\"]?(?:0|OFF|FALSE)\b)", re.IGNORECASE
)
_COMMITTING_SET = re.compile(
    r"(?:^SET|,)\s*+(?:PASSWORD\s*+(?:=|:=|FOR\b)|DEFAULT\s+ROLE\b)", re.IGNORECASE
)
_TEMPORARY_TABLE = re.compile(
    r"(?:CREATE\s+(?:OR\s+REPLACE\s+)?|DROP\s+)TEMPORARY\s+TABLES?\b", re.IGNORECASE
)
_ANALYZED = re.compile(
    r"ANALYZE\s+(?:FORMAT\s*=\s*\w+\s+)?(?:SELECT|WITH|INSERT|REPLACE|UPDATE|DELETE|\()",
    re.IGNORECASE,
)
# MariaDB manual, "SQL statements that cause an implicit commit".
_COMMITTING = (
    "ALTER ANALYZE BACKUP CACHE CHANGE CHECK CREATE DROP FLUSH GRANT INSTALL LOAD LOCK OPTIMIZE "
    "RENAME REPAIR RESET REVOKE STOP TRUNCATE UNINSTALL UNLOCK".split()
)
_COMMITS = refused(refusals.IMPLICIT_COMMIT)


def _mysql_set(text: Text) -> Statement:
    if _SET_STATEMENT.match(text.bare):
        return refused(refusals.SET_STATEMENT)
    if (found := _SET_TRANSACTION.match(text.bare)) is not None or level_of(text.bare):
        statement = isolation(Kind.ISOLATION, text.bare)
        is_for_all = found is not None and found[1] is not None
        return refused(refusals.READ_ONLY) if is_for_all and statement.read_only else statement
    whole = uncommented(text.sql, text.family)
    if _AUTOCOMMIT.search(whole):
        return refused(refusals.AUTOCOMMIT)
    if _READ_ONLY_SESSION.search(whole):
        return refused(refusals.READ_ONLY)
    # Values may call functions.
    return _COMMITS if _COMMITTING_SET.search(text.bare) else read_query(text)


def _temporary_table(text: Text) -> Statement:
    # Temporary things other than tables commit, and "temporary" may be anything's name.
    return _WRITE if _TEMPORARY_TABLE.match(text.bare) else _COMMITS


def _analyze(text: Text) -> Statement:
    # MariaDB runs the statement behind it, and tells how that went. Statistics of a table commit.
    return _WRITE if _ANALYZED.match(text.bare) else _COMMITS


def _load(text: Text) -> Statement:
    return _WRITE if "DATA" in text.words[:2] else _COMMITS


def _mysql_prepare(text: Text) -> Statement:
    return refused(refusals.TWO_PHASE if text.second == "TRANSACTION" else refusals.UNREADABLE)


_MYSQL = Grammar(
    _EVERYWHERE
    | dict.fromkeys(_COMMITTING, _COMMITS)
    | {
        "SET": _mysql_set,
        "CREATE": _temporary_table,
        "DROP": _temporary_table,
        "ANALYZE": _analyze,
        "LOAD": _load,
        "CALL": Statement(Kind.WRITE, calls=True),
        "PREPARE": _mysql_prepare,
        "EXECUTE": refused(refusals.UNREADABLE),
        "USE": refused(refusals.OTHER_DATABASE),
    },
    ((_MYSQL_SESSION_LOCK, refusals.SESSION_LOCKS), (_MYSQL_FILE, refusals.SERVER_FILES)),
)

GRAMMARS = {Family.SQLITE: _SQLITE, Family.POSTGRESQL: _POSTGRESQL, Family.MYSQL: _MYSQL}
"""The table of each family."""
