"""Openings: why a server could not be connected to, by its code, or by libpq's text without one."""

from __future__ import annotations

import re

from atomicbatch.drivers.answers import answer_of, causes
from atomicbatch.errors import kind_of

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
