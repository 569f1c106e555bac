"""Meanings: what a call is told when the database has refused one of its statements."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """
    What a call is told.

    Attributes:
        status: The HTTP status of its reply.
        slug: The problem's type; ``database-busy`` and ``timeout`` end the whole batch.
        detail: One line for people.
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
