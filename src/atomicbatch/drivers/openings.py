"""Openings: what it means that a connection could not be opened, and why that was."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from atomicbatch.drivers.answers import answer_of, causes
from atomicbatch.drivers.conflicts import is_conflict
from atomicbatch.errors import BusyError, TransactionError, kind_of

_FULL = "the server allows no more connections"
_FORBIDDEN = "the server does not let it log in"
_NOBODY = "no server answers at its address"
_LATE = "the server did not answer in time"
# SQLSTATEs, or their classes, and the numbers of MySQL and of its client libraries.
_CODES: dict[str | int | None, str] = {
    **dict.fromkeys(("53300", 1040, 1203, 1226), _FULL),
    **dict.fromkeys(("28", 1044, 1045, 1251, 1698), _FORBIDDEN),
    **dict.fromkeys((2002, 2003, 2005), _NOBODY),
}
# What libpq says has no code, and is the server's own text in the server's language.
_TEXTS = (
    (re.compile(r"too many (?:clients|connections)|connection slots|no more connections"), _FULL),
    (re.compile(r"authentication failed|not permitted to log in|no pg_hba\.conf"), _FORBIDDEN),
    (re.compile(r"[Cc]onnection refused|No such file|could not translate host"), _NOBODY),
    (re.compile(r"timeout expired|[Tt]imed out"), _LATE),
)


@contextmanager
def opening() -> Iterator[None]:
    """
    Around what opens the batch's own connection, or waits for one of a pool.

    Raises:
        BusyError: It could not be opened. To run the batch again would help in a moment at best, so
            the client is told to come back.
        ConflictError: Another transaction was in the way of what the app does to new connections.
    """
    start = time.monotonic()
    try:
        yield
    except TransactionError:
        raise
    except Exception as error:
        if is_conflict(error, by_driver=True):
            raise
        seconds = time.monotonic() - start
        raise BusyError(
            f"the batch's transaction could not be begun, since its connection to the database "
            f"could not be opened within {seconds:.2f} seconds: {reason_of(error)}"
        ) from error


def reason_of(error: BaseException) -> str:
    """Say why a connection could not be opened, without what may be secret."""
    reason, kind = _by_code(error) or _by_class(error) or _by_text(str(error)), kind_of(error)
    return f"{reason} ({kind})" if reason else kind


def _by_code(error: BaseException) -> str:
    answer = answer_of(error)
    codes = () if answer is None else (answer.number, answer.state, answer.state[:2])
    return next((_CODES[code] for code in codes if code in _CODES), "")


def _by_class(error: BaseException) -> str:
    for one in causes(error):
        if isinstance(one, ConnectionRefusedError):
            return _NOBODY
        if isinstance(one, TimeoutError):
            return _LATE
    return ""


def _by_text(text: str) -> str:
    return next((reason for pattern, reason in _TEXTS if pattern.search(text)), "")
