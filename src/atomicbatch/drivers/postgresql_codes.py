"""
SQLSTATEs of PostgreSQL, CockroachDB and YugabyteDB, and what each means.

The source is PostgreSQL's manual, appendix A. A state without a value of its own in a column has
that of its class, the first two characters.

An ERROR from COMMIT comes before the commit record is written. What may come after it (57P01 and
its like, class 08, XX, 58, out of memory, 40003) is no refusal.
"""

from __future__ import annotations

from atomicbatch.drivers import meanings as to_call
from atomicbatch.drivers.meanings import Meaning
from atomicbatch.drivers.verdicts import NOTHING, Fate, Refusal, Verdict

_CONSTRAINT, _OTHER = Refusal.CONSTRAINT, Refusal.OTHER

# Refusals by class are what deferred triggers and constraints raise.
CLASSES = {
    "08": Verdict(Fate.LOST),  # connection exception
    "09": Verdict(None, _OTHER, to_call.RAISED),  # triggered action exception
    "0A": Verdict(None, _OTHER),  # feature not supported
    "21": Verdict(None, _OTHER),  # cardinality
    "22": Verdict(None, _OTHER, to_call.TYPE),  # data exception
    "23": Verdict(None, _CONSTRAINT, to_call.CHECK),  # integrity constraint
    "27": Verdict(None, _CONSTRAINT),  # triggered data change
    "2D": Verdict(None, _OTHER),  # invalid transaction termination
    "2F": Verdict(None, _OTHER, to_call.RAISED),  # SQL routine
    "38": Verdict(None, _OTHER, to_call.RAISED),  # external routine
    "39": Verdict(None, _OTHER, to_call.RAISED),  # external routine, called wrongly
    # Syntax or access: values of tsquery and names of things have a syntax too.
    "42": Verdict(None, _OTHER, to_call.TYPE),
    "44": Verdict(None, _CONSTRAINT, to_call.CHECK),  # WITH CHECK OPTION
    "53": Verdict(meaning=to_call.BUSY),  # resources
    "54": Verdict(None, _OTHER, to_call.TOO_LONG),  # limits of the program
    "55": Verdict(None, _OTHER, to_call.LOCKED),  # object state, locks
    "P0": Verdict(None, _CONSTRAINT, to_call.RAISED),  # PL/pgSQL: RAISE
}
_OWN = {
    "0A000": Verdict(meaning=to_call.OPERATOR, outdated=True),  # also "cached plan must not change"
    "21000": Verdict(meaning=to_call.RAISED),  # a query of a trigger has given more than one row
    "22000": Verdict(meaning=to_call.TYPE),
    "22001": Verdict(meaning=to_call.TOO_LONG),
    "22003": Verdict(meaning=to_call.RANGE),
    "22004": Verdict(meaning=to_call.NOT_NULL),
    "22008": Verdict(meaning=to_call.RANGE),
    "22012": Verdict(meaning=to_call.RANGE),  # division by zero, in a computed column or a check
    "22015": Verdict(meaning=to_call.RANGE),
    "2201B": Verdict(meaning=to_call.OPERATOR),
    "22019": Verdict(meaning=to_call.OPERATOR),
    "22021": Verdict(meaning=to_call.CHARSET),
    "22025": Verdict(meaning=to_call.OPERATOR),
    "22026": Verdict(meaning=to_call.RANGE),  # bit(n) of another length
    "22P05": Verdict(meaning=to_call.CHARSET),
    "23000": Verdict(meaning=to_call.CHECK),
    "23001": Verdict(meaning=to_call.FOREIGN),
    "23502": Verdict(meaning=to_call.NOT_NULL),
    "23503": Verdict(meaning=to_call.FOREIGN),
    "23505": Verdict(meaning=to_call.UNIQUE),
    "23514": Verdict(meaning=to_call.CHECK),
    "23P01": Verdict(meaning=to_call.EXCLUSION),
    "25006": Verdict(None, _OTHER, to_call.READ_ONLY),
    "25P01": Verdict(Fate.SAVEPOINT_GONE),  # there is no transaction
    "25P02": Verdict(None, _OTHER),  # it had failed already
    "26000": Verdict(outdated=True),  # a prepared statement is gone
    "27000": Verdict(meaning=to_call.RAISED),  # a trigger has changed the row that is being changed
    "3B001": Verdict(Fate.SAVEPOINT_GONE),
    "3F000": Verdict(meaning=to_call.NO_OBJECT),
    "40000": Verdict(None, _OTHER),
    "40001": Verdict(Fate.CONFLICT),  # serialization_failure
    "40002": Verdict(None, _CONSTRAINT),
    "40003": Verdict(Fate.LOST),  # statement completion unknown
    "40P01": Verdict(Fate.CONFLICT),  # deadlock_detected
    "42501": Verdict(meaning=to_call.FORBIDDEN),
    "42703": Verdict(meaning=to_call.NO_OBJECT, outdated=True),
    "42704": Verdict(meaning=to_call.NO_OBJECT),
    "42725": Verdict(meaning=to_call.OPERATOR),
    "42883": Verdict(meaning=to_call.OPERATOR),
    "428C9": Verdict(meaning=to_call.GENERATED),
    "42P01": Verdict(meaning=to_call.NO_OBJECT, outdated=True),
    "42P21": Verdict(meaning=to_call.OPERATOR),
    "42P22": Verdict(meaning=to_call.OPERATOR),
    "53100": Verdict(None, Refusal.FULL, to_call.FULL),  # at COMMIT: what deferred triggers write
    "55000": Verdict(meaning=to_call.STATE),
    # No conflict: who says NOWAIT wants to hear that the lock is taken.
    "55P03": Verdict(meaning=to_call.LOCKED),
    # Cancelled, or its statement_timeout. At COMMIT it comes from deferred triggers only: a COMMIT
    # that waits for a standby succeeds with a warning.
    "57014": Verdict(None, _OTHER, to_call.LATE),
    # The server is shutting down, has crashed, is starting; the database was dropped; idle.
    **dict.fromkeys(("57P01", "57P02", "57P03", "57P04", "57P05"), Verdict(Fate.LOST)),
}


def _with_class(state: str, own: Verdict) -> Verdict:
    of_class = CLASSES.get(state[:2], NOTHING)
    return Verdict(
        own.fate or of_class.fate,
        own.refusal or of_class.refusal,
        own.meaning or of_class.meaning,
        own.outdated,
    )


STATES = {state: _with_class(state, own) for state, own in _OWN.items()}


def verdict_of_state(state: str) -> Verdict:
    """What an SQLSTATE means: five characters, or none at all."""
    return STATES.get(state) or CLASSES.get(state[:2], NOTHING)


def meaning_of_state(state: str, context: str) -> Meaning | None:
    """
    What an SQLSTATE means for a call, where it is known which function raised it.

    Args:
        state: Its five characters.
        context: The functions of the database it came through (psycopg's ``diag.context``).
    """
    if "at RAISE" in context:
        return to_call.RAISED
    # A name or type that is wrong in a function's own text is nothing that the caller has sent.
    in_function = "PL/" in context or "SQL function" in context
    if state[:2] == "42" and state != "42501" and in_function:
        return None
    return verdict_of_state(state).meaning
