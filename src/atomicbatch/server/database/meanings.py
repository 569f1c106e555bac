"""Meanings: each code of a database's own for a refused statement, and what it means to a call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """
    What a call is answered.

    Attributes:
        status: HTTP's.
        slug: The problem's type; ``database-busy`` and ``timeout`` end the whole batch.
        detail: For people.
    """

    status: int
    slug: str
    detail: str


UNIQUE = Meaning(409, "unique-violation", "a row with the same unique value exists already")
FOREIGN = Meaning(
    409,
    "foreign-key-violation",
    "the row points at a row that does not exist, or is pointed at by one",
)
EXCLUSION = Meaning(409, "unique-violation", "the row conflicts with one that exists already")
NOT_NULL = Meaning(422, "not-null-violation", "a column that needs a value has none")
CHECK = Meaning(422, "check-violation", "a value breaks a rule of the table")
TOO_LONG = Meaning(422, "value-too-long", "a value is too long for its column or its index")
RANGE = Meaning(422, "value-out-of-range", "a value is out of its column's range")
CHARSET = Meaning(
    422, "value-out-of-range", "the column's character set has no such character as a text holds"
)
TYPE = Meaning(400, "wrong-type", "a value does not fit its column's type")
NO_OBJECT = Meaning(400, "wrong-type", "a value names something that the database does not have")
GENERATED = Meaning(422, "read-only-column", "the database computes this column itself")
RAISED = Meaning(422, "trigger-refused", "a trigger of the database refused the row")
OPERATOR = Meaning(400, "invalid-query", "this comparison does not exist for the column's type")
FORBIDDEN = Meaning(403, "forbidden", "the server's database user may not do this")
STATE = Meaning(403, "forbidden", "the database does not allow this in the state that it is in")
READ_ONLY = Meaning(405, "read-only", "the database is open for reading only")
FULL = Meaning(507, "database-full", "the database has no room left")
LOCKED = Meaning(503, "database-busy", "a lock was not given within the database's own time limit")
BUSY = Meaning(503, "database-busy", "the database has no memory, connection or file to spare")
LATE = Meaning(504, "timeout", "the database's own time limit for a statement was over")

# SQLSTATEs of PostgreSQL (its manual's appendix A); else the class decides.
_STATES = {
    "0A000": OPERATOR,
    "21000": RAISED,  # a query of a trigger has given more than one row
    "22000": TYPE,
    "22001": TOO_LONG,
    "22003": RANGE,
    "22004": NOT_NULL,
    "22008": RANGE,
    "22012": RANGE,  # division by zero, in a computed column or a check
    "22015": RANGE,
    "2201B": OPERATOR,
    "22019": OPERATOR,
    "22021": CHARSET,
    "22025": OPERATOR,
    "22026": RANGE,  # bit(n) of another length
    "22P05": CHARSET,
    "23000": CHECK,
    "23001": FOREIGN,
    "23502": NOT_NULL,
    "23503": FOREIGN,
    "23505": UNIQUE,
    "23514": CHECK,
    "23P01": EXCLUSION,
    "25006": READ_ONLY,
    "27000": RAISED,  # a trigger has changed the row that is being changed
    "42501": FORBIDDEN,
    "428C9": GENERATED,
    "42725": OPERATOR,
    "42883": OPERATOR,
    "42P21": OPERATOR,
    "42P22": OPERATOR,
    "42P01": NO_OBJECT,
    "42703": NO_OBJECT,
    "42704": NO_OBJECT,
    "3F000": NO_OBJECT,
    "53100": FULL,
    "55000": STATE,
    "55P03": LOCKED,
    "57014": LATE,
}
# Classes: data exception, integrity, WITH CHECK OPTION, syntax or access (tsquery and names of
# things have a syntax too), resources, limits of the program, state, PL/pgSQL and the like.
_CLASSES = {
    "09": RAISED,
    "22": TYPE,
    "23": CHECK,
    "2F": RAISED,
    "38": RAISED,
    "39": RAISED,
    "42": TYPE,
    "44": CHECK,
    "53": BUSY,
    "54": TOO_LONG,
    "55": LOCKED,
    "P0": RAISED,
}

# Error numbers of MariaDB and MySQL.
_NUMBERS: dict[Meaning, tuple[int, ...]] = {
    UNIQUE: (1022, 1062, 1169, 1557, 1586, 1761, 1762, 1859),
    FOREIGN: (1216, 1217, 1451, 1452),
    NOT_NULL: (1048, 1263, 1364),
    CHECK: (1369, 3819, 4025),
    TOO_LONG: (1071, 1118, 1153, 1301, 1406, 3157),
    RANGE: (1264, 1365, 1425, 1426, 1441, 1690, 1916),
    CHARSET: (1300, 1977, 3854, 3988),
    TYPE: (
        *(1210, 1265, 1292, 1366, 1367, 1411, 1416, 1525, 1582, 1916, 3037, 3140, 3141, 3143),
        *(3144, 3146, 3151, 4037, 4038, 4039, 4040, 4041, 4042, 4043, 4044, 4078, 4079),
    ),
    GENERATED: (1906, 3105),
    RAISED: (1172, 1242, 1329, 1336, 1415, 1422, 1424, 1442, 1456, 1642, 1643, 1644),
    OPERATOR: (1139, 1253, 1267, 1270, 1271, 3685, 3692),
    FORBIDDEN: (1044, 1142, 1143, 1227, 1370, 1419),
    READ_ONLY: (1036, 1290, 1792, 1874),
    FULL: (1021, 1114),
    LOCKED: (3572,),
    BUSY: (1037, 1038, 1040, 1041, 1203, 1206, 1226, 1461),
    LATE: (1317, 1907, 1969, 3024),
}
_BY_NUMBER = {number: meaning for meaning, all_ in _NUMBERS.items() for number in all_}

# Extended result codes of SQLite; else the primary one decides.
_SQLITE_NAMES = {
    "SQLITE_CONSTRAINT": CHECK,
    "SQLITE_CONSTRAINT_UNIQUE": UNIQUE,
    "SQLITE_CONSTRAINT_PRIMARYKEY": UNIQUE,
    "SQLITE_CONSTRAINT_ROWID": UNIQUE,
    "SQLITE_CONSTRAINT_FOREIGNKEY": FOREIGN,
    "SQLITE_CONSTRAINT_NOTNULL": NOT_NULL,
    "SQLITE_CONSTRAINT_CHECK": CHECK,
    "SQLITE_CONSTRAINT_DATATYPE": TYPE,
    "SQLITE_CONSTRAINT_TRIGGER": RAISED,
    "SQLITE_MISMATCH": TYPE,
    "SQLITE_RANGE": RANGE,
    "SQLITE_TOOBIG": TOO_LONG,
    "SQLITE_AUTH": FORBIDDEN,
    "SQLITE_PERM": FORBIDDEN,
    "SQLITE_READONLY": READ_ONLY,
    "SQLITE_FULL": FULL,
    "SQLITE_NOMEM": BUSY,
    "SQLITE_CANTOPEN": BUSY,
    "SQLITE_PROTOCOL": BUSY,
    "SQLITE_INTERRUPT": LATE,
}
# SQLITE_ERROR has no code of its own for what a function says of a value in a computed column, an
# index or a check.
_SQLITE_TEXTS = {
    "malformed JSON": TYPE,
    "JSON path error": TYPE,
    "bad JSON path": TYPE,
    "integer overflow": RANGE,
    "invalid value": TYPE,
    "too many levels of trigger recursion": RAISED,
}


def meaning_of_state(state: str, context: str) -> Meaning | None:
    """
    What an SQLSTATE of PostgreSQL means.

    Args:
        state: Its five characters.
        context: Where in functions of the database it came from, or empty.
    """
    if "at RAISE" in context:
        return RAISED
    meaning = _STATES.get(state) or _CLASSES.get(state[:2])
    # A name or type that is wrong in a function's own text is nothing that the caller has sent.
    in_function = "PL/" in context or "SQL function" in context
    return None if state[:2] == "42" and state != "42501" and in_function else meaning


def meaning_of_number(number: int, message: str) -> Meaning | None:
    """What an error number of MariaDB or MySQL means."""
    if number == 1366 and "string value" in message:
        return CHARSET
    if number == 1030:  # of the storage engine, with a number of its own
        return FULL if "error 28 " in message else TOO_LONG if "error 139 " in message else None
    return _BY_NUMBER.get(number)


def meaning_of_sqlite(name: str, message: str) -> Meaning | None:
    """What a result code of SQLite means."""
    meaning = _SQLITE_NAMES.get(name) or _SQLITE_NAMES.get("_".join(name.split("_")[:2]))
    if meaning is None and name == "SQLITE_ERROR":
        return next((m for text, m in _SQLITE_TEXTS.items() if message.startswith(text)), None)
    return meaning
