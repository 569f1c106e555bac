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
    """A savepoint's name, an isolation level, why a statement is refused, or empty."""
    setting: str = ""
    """The setting that the statement makes for its transaction alone (SET LOCAL), or empty."""


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
        if statement.kind not in _WEIGHT or statement.setting:
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
_LEVEL = re.compile(
    r"ISOLATION\s+LEVEL\s+(SERIALIZABLE|REPEATABLE\s+READ|READ\s+COMMITTED|READ\s+UNCOMMITTED)"
)
_LOCKING = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE|KEY\s+SHARE)\b|\bLOCK\s+IN\s+SHARE\s+MODE\b"
)
_CHANGING = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE\s+INTO|INTO|TRUNCATE|CALL)\b")
_CALLED = re.compile(r"(?<![\w$])([^\W\d][\w$]*+|\"Q\")\s*+\(")
_STORED_PRAGMA = re.compile(r"\b(?:USER_VERSION|APPLICATION_ID)\s*[=(]")
_SET_CONFIG = re.compile(
    r"\bset_config\s*\(\s*'([^']+)'\s*,.*,([^,()]+)\)", re.IGNORECASE | re.DOTALL
)


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
    if first in ("SHOW", "DESCRIBE", "DESC", "USE") or text[0] == "(":
        return _READ if text[0] != "(" else _read_query(text, sql, family)
    if first == "EXPLAIN":
        # ANALYZE runs what it explains.
        return _WRITE if _CHANGING.search(text) or "ANALY" in text else _READ
    if first == "PRAGMA" and family is Family.SQLITE:
        if "FOREIGN_KEYS" in text:
            return Statement(Kind.READ, "foreign_keys")
        return _WRITE if _STORED_PRAGMA.search(text) else _READ
    if first == "LOCK":
        return _HOLD
    return _WRITE


def _read_query(text: str, sql: str, family: Family) -> Statement:
    setting = ""
    if family is Family.POSTGRESQL and "SET_CONFIG" in text:
        statement = _read_set_config(_uncommented(sql, family))
        if not (setting := statement.setting):
            return statement
        text = text.replace("SET_CONFIG", "")
    rest, locks = _LOCKING.subn(" ", text)
    # In SQLite no function can change the database.
    if _CHANGING.search(rest) or (
        family is not Family.SQLITE
        and any(not _is_harmless(name) for name in _CALLED.findall(rest))
    ):
        return Statement(Kind.WRITE, setting=setting)
    return Statement(Kind.HOLD, setting=setting) if locks or setting else _READ


def _read_set_config(sql: str) -> Statement:
    once = len(re.findall("set_config", sql, re.IGNORECASE)) == 1
    found = _SET_CONFIG.search(sql) if once else None
    if found is None:
        return Statement(
            Kind.REFUSED,
            "it calls set_config() with a name that is not written in the statement, so that the "
            "setting would leak into later calls; write the name as a literal",
        )
    if found[2].strip().lower() in ("false", "'f'", "'false'"):
        return _WRITE
    return Statement(Kind.HOLD, setting=found[1])


def _is_harmless(name: str) -> bool:
    return name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)


def _level(text: str) -> str:
    found = _LEVEL.search(text)
    return " ".join(found[1].split()) if found else ""


def _begin(text: str, second: str, sql: str, family: Family) -> Statement:
    if second == "NOT" or (text.startswith("START") and second != "TRANSACTION"):
        return _WRITE if second == "NOT" else Statement(Kind.REFUSED, _IMPLICIT_COMMIT)
    return Statement(Kind.BEGIN, _level(text))


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
    return Statement(Kind.REFUSED, _TWO_PHASE) if second == "TRANSACTION" else _WRITE


def _xa(text: str, second: str, sql: str, family: Family) -> Statement:
    return Statement(Kind.REFUSED, _TWO_PHASE)


def _set(text: str, second: str, sql: str, family: Family) -> Statement:
    if level := _level(text):
        return Statement(Kind.ISOLATION, level)
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
    if second == "LOCAL":
        plain = _uncommented(sql, family)
        name = re.search(r"\bLOCAL\s+([\"\w.]+)", plain, re.IGNORECASE)
        setting = name[1].replace('"', "") if name else ""
        return Statement(Kind.HOLD, setting=_SETTINGS.get(setting.upper(), setting))
    if second == "TRANSACTION":
        return Statement(Kind.ISOLATION, "READ ONLY" if "READ ONLY" in text else "")
    return _WRITE


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
}

# What SET calls by other words than the setting's name.
_SETTINGS = {
    "TIME": "timezone",
    "SCHEMA": "search_path",
    "NAMES": "client_encoding",
    "XML": "xmloption",
    "SESSION": "session_authorization",
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


# What may stand before an opening parenthesis in a query that only reads: words of SQL, types,
# and functions that change nothing. A function of the user's own may do anything.
_HARMLESS = frozenset(
    """
    ALL AND ANY ARRAY AS BETWEEN BY CASE DISTINCT ELSE EXCEPT EXISTS FILTER FROM GROUP HAVING IN
    INTERSECT INTERVAL IS JOIN LATERAL LIKE ILIKE LIMIT MATERIALIZED NOT OFFSET ON OR ORDER OVER
    PARTITION RECURSIVE ROW SELECT SETS SOME THEN UNION USING VALUES WHEN WHERE WITHIN XOR

    BINARY BIT CHAR CHARACTER DATETIME DEC DECIMAL FLOAT NUMERIC TIME TIMESTAMP TIMESTAMPTZ
    VARBINARY VARCHAR VARYING VECTOR

    AVG BIT_AND BIT_OR BOOL_AND BOOL_OR COUNT CUME_DIST DENSE_RANK EVERY FIRST_VALUE GROUPING
    GROUP_CONCAT LAG LAST_VALUE LEAD MAX MEDIAN MIN MODE NTH_VALUE NTILE PERCENTILE_CONT
    PERCENTILE_DISC PERCENT_RANK RANK ROW_NUMBER STDDEV STDDEV_POP STDDEV_SAMP STRING_AGG SUM
    VARIANCE VAR_POP VAR_SAMP XMLAGG

    ABS ACOS ASIN ATAN ATAN2 CBRT CEIL CEILING COS COT DEGREES DIV EXP FLOOR LN LOG LOG10 LOG2 MOD
    PI POW POWER RADIANS RAND RANDOM ROUND SIGN SIN SQRT TAN TRUNC

    ASCII BTRIM CHAR_LENGTH CHARACTER_LENGTH CHR CONCAT CONCAT_WS CRC32 DECODE DIGEST ELT ENCODE
    FIELD FIND_IN_SET FORMAT HEX INITCAP INSTR LCASE LEFT LENGTH LEVENSHTEIN LOCATE LOWER LPAD
    LTRIM MD5 MID OCTET_LENGTH ORD OVERLAY POSITION QUOTE QUOTE_IDENT QUOTE_LITERAL REPEAT REVERSE
    RIGHT RPAD RTRIM SHA1 SHA2 SHA256 SIMILARITY WORD_SIMILARITY SOUNDEX SPLIT_PART STARTS_WITH
    STRCMP STRPOS SUBSTR SUBSTRING SUBSTRING_INDEX TO_HEX TRANSLATE TRIM UCASE UNACCENT UNHEX
    UPPER

    AGE CLOCK_TIMESTAMP CURDATE CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURTIME DATE DATEDIFF
    DATE_ADD DATE_BIN DATE_FORMAT DATE_PART DATE_SUB DATE_TRUNC DAY DAYNAME DAYOFMONTH DAYOFWEEK
    DAYOFYEAR EXTRACT FROM_DAYS FROM_UNIXTIME GETDATE HOUR ISFINITE JUSTIFY_DAYS JUSTIFY_HOURS
    LAST_DAY LOCALTIME LOCALTIMESTAMP MAKE_DATE MAKE_INTERVAL MAKE_TIME MAKE_TIMESTAMP
    MAKE_TIMESTAMPTZ MICROSECOND MINUTE MONTH MONTHNAME NOW QUARTER SECOND STATEMENT_TIMESTAMP
    STR_TO_DATE SYSDATE TIMEDIFF TIMEZONE TIMESTAMPADD TIMESTAMPDIFF TO_CHAR TO_DATE TO_DAYS
    TO_NUMBER TO_TIMESTAMP TRANSACTION_TIMESTAMP UNIX_TIMESTAMP UTC_DATE UTC_TIME UTC_TIMESTAMP
    WEEK WEEKDAY YEAR YEARWEEK

    CAST COALESCE CONVERT GREATEST IF IFNULL ISNULL LEAST NULLIF NUM_NONNULLS NUM_NULLS NVL NVL2

    CARDINALITY GENERATE_SERIES HSTORE ROW_TO_JSON TO_JSON TO_JSONB UNNEST
    INT4RANGE INT8RANGE NUMRANGE TSRANGE TSTZRANGE DATERANGE ISEMPTY LOWER_INC UPPER_INC
    MATCH AGAINST TO_TSQUERY TO_TSVECTOR PLAINTO_TSQUERY PHRASETO_TSQUERY WEBSEARCH_TO_TSQUERY
    TS_HEADLINE TS_RANK TS_RANK_CD SETWEIGHT

    CONNECTION_ID CURRENT_DATABASE CURRENT_ROLE CURRENT_SCHEMA CURRENT_SCHEMAS CURRENT_SETTING
    CURRENT_USER DATABASE FORMAT_TYPE FOUND_ROWS GEN_RANDOM_UUID HAS_TABLE_PRIVILEGE
    LAST_INSERT_ID LASTVAL CURRVAL NEXTVAL OBJ_DESCRIPTION COL_DESCRIPTION PG_BACKEND_PID
    PG_GET_CONSTRAINTDEF PG_GET_EXPR PG_GET_INDEXDEF PG_GET_SERIAL_SEQUENCE PG_GET_VIEWDEF
    PG_IS_IN_RECOVERY PG_TABLE_IS_VISIBLE PG_TYPEOF ROW_COUNT SCHEMA SESSION_USER TXID_CURRENT
    PG_CURRENT_XACT_ID USER UUID UUIDV4 UUIDV7 UUID_GENERATE_V4 VERSION
    """.split()
)
_HARMLESS_PREFIXES = (
    "ARRAY_", "JSON_", "JSONB_", "REGEXP_", "STRING_TO_", "ST_", "INET_", "HOST_",
)  # fmt: skip
