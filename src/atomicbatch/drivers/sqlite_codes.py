"""
SQLite's error codes and what each means.

The names are those of Python's ``sqlite_errorname``; the source is SQLite's "Result and Error
Codes". An extended code without a row of its own means what its primary code means.
"""

from __future__ import annotations

from atomicbatch.drivers import meanings as to_call
from atomicbatch.drivers.verdicts import NOTHING, Fate, Refusal, Verdict

_CONSTRAINT = Refusal.CONSTRAINT

RESULTS = {
    # Another connection holds the lock, or has written since we read.
    "SQLITE_BUSY": Verdict(Fate.CONFLICT),
    "SQLITE_LOCKED": Verdict(Fate.CONFLICT),
    "SQLITE_CONSTRAINT": Verdict(None, _CONSTRAINT, to_call.CHECK),
    "SQLITE_CONSTRAINT_UNIQUE": Verdict(None, _CONSTRAINT, to_call.UNIQUE),
    "SQLITE_CONSTRAINT_PRIMARYKEY": Verdict(None, _CONSTRAINT, to_call.UNIQUE),
    "SQLITE_CONSTRAINT_ROWID": Verdict(None, _CONSTRAINT, to_call.UNIQUE),
    "SQLITE_CONSTRAINT_FOREIGNKEY": Verdict(None, _CONSTRAINT, to_call.FOREIGN),
    "SQLITE_CONSTRAINT_NOTNULL": Verdict(None, _CONSTRAINT, to_call.NOT_NULL),
    "SQLITE_CONSTRAINT_CHECK": Verdict(None, _CONSTRAINT, to_call.CHECK),
    "SQLITE_CONSTRAINT_DATATYPE": Verdict(None, _CONSTRAINT, to_call.TYPE),
    "SQLITE_CONSTRAINT_TRIGGER": Verdict(None, _CONSTRAINT, to_call.RAISED),
    # Proves that nothing is stored under conditions only, see commit_errors.py.
    "SQLITE_FULL": Verdict(None, Refusal.FULL, to_call.FULL),
    # None of these proves anything at COMMIT: of SQLITE_IOERR, SQLITE_CORRUPT and their like the
    # frame that commits may be in the file.
    "SQLITE_MISMATCH": Verdict(meaning=to_call.TYPE),
    "SQLITE_RANGE": Verdict(meaning=to_call.RANGE),
    "SQLITE_TOOBIG": Verdict(meaning=to_call.TOO_LONG),
    "SQLITE_AUTH": Verdict(meaning=to_call.FORBIDDEN),
    "SQLITE_PERM": Verdict(meaning=to_call.FORBIDDEN),
    "SQLITE_READONLY": Verdict(meaning=to_call.READ_ONLY),
    "SQLITE_NOMEM": Verdict(meaning=to_call.BUSY),
    "SQLITE_CANTOPEN": Verdict(meaning=to_call.BUSY),
    "SQLITE_PROTOCOL": Verdict(meaning=to_call.BUSY),
    "SQLITE_INTERRUPT": Verdict(meaning=to_call.LATE),
}
# How the messages begin of errors that share the code SQLITE_ERROR. Most are what a function says
# about a value, in a computed column, an index or a check.
ERROR_TEXTS = {
    "no such savepoint": Verdict(Fate.SAVEPOINT_GONE),
    "malformed JSON": Verdict(meaning=to_call.TYPE),
    "JSON path error": Verdict(meaning=to_call.TYPE),
    "bad JSON path": Verdict(meaning=to_call.TYPE),
    "integer overflow": Verdict(meaning=to_call.RANGE),
    "invalid value": Verdict(meaning=to_call.TYPE),
    "too many levels of trigger recursion": Verdict(meaning=to_call.RAISED),
}


def verdict_of_result(result: str, text: str) -> Verdict:
    """
    What a result code of SQLite means.

    Args:
        result: The extended code's name.
        text: The message.
    """
    if result == "SQLITE_ERROR":
        return next((row for start, row in ERROR_TEXTS.items() if text.startswith(start)), NOTHING)
    primary = "_".join(result.split("_")[:2])
    return RESULTS.get(result) or RESULTS.get(primary) or NOTHING
