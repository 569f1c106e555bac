"""
What one SQL statement of a handler means for the transaction around it. Pure text, no database.

The reading errs on one side: whatever is not known to be harmless counts as a write, and a write
is protected by a savepoint, kept from other sessions' rollbacks, and counted for its engine.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from atomicbatch.transactions.functions import HARMLESS


class Family(Enum):
    """Databases that speak the same SQL about transactions."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    MYSQL = "mysql"


class Kind(Enum):
    """What a statement does."""

    READ = "read"
    """Nothing that would have to be undone, or that another session's rollback could undo."""
    HOLD = "hold"
    """Takes a lock or makes a setting: no data, but nobody else's rollback may undo it."""
    WRITE = "write"
    """Changes data, or may do so."""
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    ROLLBACK_TO = "rollback to savepoint"
    RELEASE = "release savepoint"
    ISOLATION = "set isolation level"
    REFUSED = "refused"
    """Cannot be made part of a batch; ``detail`` says why and what to do."""


class Statement(NamedTuple):
    """How one statement was read."""

    kind: Kind
    detail: str = ""
    """A savepoint's name, a transaction's options, why it is refused, what has to be checked."""
    settings: tuple[str, ...] = ()
    """The settings that it makes: names, ``*`` for all, ``?`` where parameters name them."""
    lasting: bool = False
    """They outlive the transaction (SET), unlike those of SET LOCAL."""


CONTROL = frozenset(
    {Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.ROLLBACK_TO, Kind.RELEASE}
)
_READ = Statement(Kind.READ)
_HOLD = Statement(Kind.HOLD)
_WRITE = Statement(Kind.WRITE)

# Texts beyond this length are lists of values; they are not worth keeping.
_KEPT_CHARACTERS = 10_000


def read_statement(sql: str, family: Family) -> Statement:
    """Tell what a statement does."""
    if len(sql) <= _KEPT_CHARACTERS:
        return _read(sql, family)
    if ";" not in sql and sql[:7].upper() in ("INSERT ", "UPDATE ", "DELETE "):
        return _WRITE
    return _read.__wrapped__(sql, family)


@lru_cache(maxsize=2048)
def _read(sql: str, family: Family) -> Statement:
    texts = [text for part in _bare(sql, family).split(";") if (text := part.strip())]
    if not texts:
        return _READ
    if len(texts) == 1:
        return _read_one(texts[0], sql, family)
    heaviest = _READ
    for text in texts:
        statement = _read_one(text, sql, family)
        if statement.kind is Kind.REFUSED:
            return statement
        if statement.kind not in _WEIGHT or statement.settings:
            return Statement(
                Kind.REFUSED,
                "it runs several statements in one text, of which one controls the transaction; "
                "run them one by one",
            )
        heaviest = max(heaviest, statement, key=lambda one: _WEIGHT[one.kind])
    return heaviest


_WEIGHT = {Kind.READ: 0, Kind.HOLD: 1, Kind.WRITE: 2}

# Comments, then what is quoted, then what is opened and never closed: the last takes all the rest,
# so that no text is searched twice for an end that it does not have.
_COMMENT = r"--[^\n]*|/\*.*?\*/"
# PostgreSQL: comments nest. Three deep, that is; what is deeper counts as never closed.
_NESTED = ""
for _ in range(3):
    _NESTED = rf"/\*(?:[^*/]++|\*(?!/)|/(?!\*){_NESTED and '|' + _NESTED})*+\*/"
# MySQL: "5--1" is no comment, and what stands in /*! ... */ is executed.
_MYSQL_COMMENT = r"--(?=\s|$)[^\n]*|\#[^\n]*|/\*(?!!|M!).*?\*/"
_QUOTED = r"""'(?:[^']++|'')*+'|"(?:[^"]++|"")*+\""""
_DOLLARS = r"(?<![\w$])\$(?:[^\W\d]\w*)?\$"
_BARE = {
    Family.SQLITE: re.compile(
        rf"({_COMMENT})|({_QUOTED}|`[^`]*+`|\[[^\]]*+\])|(?:/\*|['\"`\[]).*", re.DOTALL
    ),
    Family.POSTGRESQL: re.compile(
        rf"(--[^\n]*|{_NESTED})|(\b[eE]'(?:[^'\\]++|\\.|'')*+'|({_DOLLARS}).*?\3|{_QUOTED})"
        rf"|(?:/\*|\b[eE]'|['\"]|{_DOLLARS}).*",
        re.DOTALL,
    ),
    Family.MYSQL: re.compile(
        rf"({_MYSQL_COMMENT})|"
        r"""('(?:[^'\\]++|\\.|'')*+'|"(?:[^"\\]++|\\.|"")*+"|`[^`]*+`)"""
        r"""|(?:/\*(?!!|M!)|['"`]).*""",
        re.DOTALL,
    ),
}
_CONDITIONAL = re.compile(r"/\*M?!\d*")


def _bare(sql: str, family: Family) -> str:
    """The statement's own words: without comments, and with nothing inside its quotes."""

    def blank(found: re.Match[str]) -> str:
        if found[1] is not None:
            return " "
        if found[2] is None:
            return found[0]
        return "''" if found[0][0] in "'$eE" else '"Q"'

    bare = _BARE[family].sub(blank, sql)
    if family is Family.MYSQL:
        bare = _CONDITIONAL.sub(" ", bare).replace("*/", " ")
    return bare.upper()


def _uncommented(sql: str, family: Family) -> str:
    return _BARE[family].sub(lambda found: found[0] if found[1] is None else " ", sql)


_WORDS = re.compile(r"[A-Z_][A-Z_0-9]*")
_NAME = re.compile(
    r"\b(?:SAVEPOINT|RELEASE|TO)\b\s*+(?:SAVEPOINT\b\s*+)?"
    r"""("[^"]+"|`[^`]+`|\[[^\]]+\]|'[^']+'|[^\s;]+)""",
    re.IGNORECASE,
)
_READ_ONLY = re.compile(r"\bREAD\s+ONLY\b")
_SETTING = re.compile(
    r"\b(?:RE)?SET\s+(LOCAL\s+|SESSION\s+(?!AUTHORIZATION\b|CHARACTERISTICS\b))?([\"\w.]+)",
    re.IGNORECASE,
)
_LEVEL = re.compile(
    r"ISOLATION\s+LEVEL\s+(SERIALIZABLE|REPEATABLE\s+READ|READ\s+COMMITTED|READ\s+UNCOMMITTED)"
)
_LOCKING = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE|KEY\s+SHARE)\b|\bLOCK\s+IN\s+SHARE\s+MODE\b"
)
# Who else has the lock matters, and sessions of one batch share their locks.
_EXCLUDING = re.compile(r"\bSKIP\s+LOCKED\b|\bNOWAIT\b|_ADVISORY_|\bGET_LOCK\b")
_CHANGING = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE\s+INTO|INTO|TRUNCATE|CALL)\b")
# With its schema: a function that is not the database's own may be called as one of those. Spaces
# around dots are gone by then, or each name of a long chain would be searched from anew.
_DOT = re.compile(r"(?<!\s)\s*+\.\s*+")
_CALLED = re.compile(r"(?<![\w$.])((?:(?:[^\W\d][\w$]*+|\"Q\")\.)*+(?:[^\W\d][\w$]*+|\"Q\"))\s*+\(")
_STORED_PRAGMA = re.compile(r"\b(?:USER_VERSION|APPLICATION_ID)\s*[=(]")
_SET_CONFIG = re.compile(r"\bset_config\s*\(\s*'([^']+)'\s*,", re.IGNORECASE)


def _read_one(text: str, sql: str, family: Family) -> Statement:
    words = _WORDS.findall(text, 0, 200)
    first, second = (*words[:2], "", "")[:2]
    if first in ("INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"):
        return _WRITE
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
        made = _read_set_config(text, _uncommented(sql, family))
        text = text.replace("SET_CONFIG", "")
    rest, locks = _LOCKING.subn(" ", text)
    # In SQLite no function can change the database.
    if _CHANGING.search(rest) or (
        family is not Family.SQLITE
        and any(not _is_harmless(name) for name in _CALLED.findall(_DOT.sub(".", rest)))
    ):
        made = made._replace(kind=Kind.WRITE)
    elif locks:
        made = made._replace(kind=Kind.HOLD)
    return made._replace(detail="excludes") if _EXCLUDING.search(text) else made


def _read_set_config(text: str, sql: str) -> Statement:
    names = tuple(name.lower() for name in _SET_CONFIG.findall(sql))
    if len(names) != text.count("SET_CONFIG"):
        names = ("?",)
    # Where the last argument cannot be seen, it does no harm to think that it lasts.
    lasting = not re.search(r",\s*(?:true|'t'|'true')\s*\)", sql, re.IGNORECASE)
    return Statement(Kind.READ, settings=names, lasting=lasting)


def _is_harmless(name: str) -> bool:
    return name.removeprefix("PG_CATALOG.") in HARMLESS


def _level(text: str) -> str:
    found = _LEVEL.search(text)
    return " ".join(found[1].split()) if found else ""


def _options(text: str) -> str:
    """A transaction's isolation level, whether it only reads, or both, separated by a comma."""
    return ", ".join(filter(None, (_level(text), "READ ONLY" * bool(_READ_ONLY.search(text)))))


def _begin(text: str, second: str, sql: str, family: Family) -> Statement:
    if second == "NOT" or (text.startswith("START") and second != "TRANSACTION"):
        return _WRITE if second == "NOT" else Statement(Kind.REFUSED, _IMPLICIT_COMMIT)
    return Statement(Kind.BEGIN, _options(text))


def _commit(text: str, second: str, sql: str, family: Family) -> Statement:
    return Statement(Kind.REFUSED, _TWO_PHASE) if second == "PREPARED" else Statement(Kind.COMMIT)


def _rollback(text: str, second: str, sql: str, family: Family) -> Statement:
    if second == "PREPARED":
        return Statement(Kind.REFUSED, _TWO_PHASE)
    if re.search(r"\bTO\b", text):
        return _savepoint(text, second, sql, family)
    return Statement(Kind.ROLLBACK)


def _savepoint(text: str, second: str, sql: str, family: Family) -> Statement:
    first = _WORDS.findall(text, 0, 200)[0]
    kind = {"SAVEPOINT": Kind.SAVEPOINT, "RELEASE": Kind.RELEASE}.get(first, Kind.ROLLBACK_TO)
    found = _NAME.search(_uncommented(sql, family))
    return Statement(kind, found[1].strip("\"'`[]").lower() if found else "")


def _prepare(text: str, second: str, sql: str, family: Family) -> Statement:
    if second == "TRANSACTION":
        return Statement(Kind.REFUSED, _TWO_PHASE)
    return Statement(Kind.REFUSED, _UNREADABLE) if family is Family.MYSQL else _WRITE


def _xa(text: str, second: str, sql: str, family: Family) -> Statement:
    return Statement(Kind.REFUSED, _TWO_PHASE)


def _set(text: str, second: str, sql: str, family: Family) -> Statement:
    if _level(text):
        return Statement(Kind.ISOLATION, _options(text))
    if family is Family.MYSQL:
        if re.search(r"\bAUTOCOMMIT\b", text):
            return Statement(
                Kind.REFUSED,
                "it sets autocommit by SQL; say it to SQLAlchemy, as "
                'execution_options(isolation_level="AUTOCOMMIT")',
            )
        if second == "PASSWORD":
            return Statement(Kind.REFUSED, _IMPLICIT_COMMIT)
        # SET STATEMENT ... FOR runs a statement, and values may call functions.
        return _WRITE if second == "STATEMENT" else _read_query(text, sql, family)
    if second == "TRANSACTION":
        return Statement(Kind.ISOLATION, _options(text))
    if second == "CONSTRAINTS":
        return _HOLD
    return _read_setting(sql, family)


def _read_setting(sql: str, family: Family) -> Statement:
    """SET and RESET of PostgreSQL."""
    found = _SETTING.search(_uncommented(sql, family))
    if found is None:
        return _WRITE
    name = found[2].replace('"', "").lower()
    if found[1] is None and name == "session" and "characteristics" in sql.lower():
        return Statement(Kind.ISOLATION, _options(sql.upper()))
    name = _SETTINGS.get(name, name)
    if name.startswith("transaction_"):
        return Statement(
            Kind.REFUSED, "it sets an option of the transaction, which all calls share"
        )
    scope = (found[1] or "").strip().lower()
    return Statement(
        Kind.READ, settings=("*" if name == "all" else name,), lasting=scope != "local"
    )


def _reset(text: str, second: str, sql: str, family: Family) -> Statement:
    return _read_setting(sql, family) if family is Family.POSTGRESQL else _WRITE


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

# What SET calls by other words than the setting's name.
_SETTINGS = {
    "time": "timezone",
    "schema": "search_path",
    "names": "client_encoding",
    "xml": "xmloption",
    "session": "session_authorization",
}

_TWO_PHASE = (
    "it uses two-phase commit, whose second phase would outlive the batch; "
    "use an ordinary transaction"
)
_IMPLICIT_COMMIT = (
    "it runs a statement (DDL, say) that MariaDB and MySQL commit at once together with "
    "everything before it; do that outside of batches"
)
_NO_TRANSACTION = (
    "it runs a statement that the database refuses inside a transaction; do that outside of batches"
)
_OTHER_DATABASE = (
    "it changes the connection's database (USE), which later calls would work on; name the "
    "database in the statement or the table, or use an engine of its own"
)
_UNREADABLE = (
    "it prepares or executes SQL that cannot be read beforehand, and that may commit; run it "
    "directly"
)
_TEMPORARY = (
    "it makes a temporary table that is emptied or dropped at COMMIT, which in a batch comes after "
    "later calls have seen it; drop or empty it in the handler"
)
# MariaDB manual, "SQL statements that cause an implicit commit".
_COMMITTING = frozenset(
    "ALTER ANALYZE BACKUP CACHE CHANGE CHECK CREATE DROP FLUSH GRANT INSTALL LOAD LOCK OPTIMIZE "
    "RENAME REPAIR RESET REVOKE STOP TRUNCATE UNINSTALL UNLOCK".split()
)


def _refused(text: str, words: list[str], family: Family) -> str:
    """Why a statement cannot run in a batch, or an empty text."""
    first = words[0] if words else ""
    if family is Family.MYSQL:
        if first == "USE":
            return _OTHER_DATABASE
        if first == "EXECUTE":
            return _UNREADABLE
        if first in ("CREATE", "DROP") and "TEMPORARY" in words[:4]:
            return ""
        if first == "LOAD" and "DATA" in words[:2]:
            return ""
        return _IMPLICIT_COMMIT if first in _COMMITTING else ""
    if first == "VACUUM":
        return _NO_TRANSACTION
    if re.search(r"\bON\s+COMMIT\s+(?:DROP|DELETE)\b", text):
        return _TEMPORARY
    if family is Family.POSTGRESQL and (
        (first in ("CREATE", "DROP") and words[1:2] in (["DATABASE"], ["TABLESPACE"]))
        or (first in ("CREATE", "DROP", "REINDEX") and "CONCURRENTLY" in words[:5])
        or words[:2] == ["ALTER", "SYSTEM"]
    ):
        return _NO_TRANSACTION
    return ""
