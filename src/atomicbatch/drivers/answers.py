"""
Answers: what a database itself has said, read from any driver's exception.

A code (SQLSTATE, error number, SQLite's result code) is the database's own word. An error without
one is the driver's: the connection broke, time ran out, bytes could not be read. No driver is
imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

from atomicbatch.drivers.mysql_codes import verdict_of_number
from atomicbatch.drivers.postgresql_codes import verdict_of_state
from atomicbatch.drivers.sqlite_codes import verdict_of_result
from atomicbatch.drivers.verdicts import Fate, Verdict
from atomicbatch.sql.kinds import Family


class Answer(NamedTuple):
    """A database's code for what went wrong: one of the three, or a number with a state (MySQL)."""

    state: str = ""
    """SQLSTATE, five characters."""
    number: int | None = None
    """MySQL's, MariaDB's or TiDB's error number, or the client library's."""
    result: str = ""
    """SQLite's extended result code, by name: ``SQLITE_BUSY_SNAPSHOT``."""
    text: str = ""
    """The driver's message. It may hold values of rows: never for the log or the client."""

    @property
    def family(self) -> Family:
        """What kind of database has said it."""
        if self.result:
            return Family.SQLITE
        return Family.POSTGRESQL if self.number is None else Family.MYSQL

    @property
    def verdict(self) -> Verdict:
        """What the code means, by the table of its family."""
        if self.result:
            return verdict_of_result(self.result, self.text)
        if self.number is not None:
            return verdict_of_number(self.number, self.text)
        return verdict_of_state(self.state)

    @property
    def fate(self) -> Fate | None:
        """What it says about the transaction: by its number, or else by its SQLSTATE."""
        fate = self.verdict.fate
        if fate is None and self.number is not None:
            fate = verdict_of_state(self.state).fate
        return fate


def answer_of(error: BaseException) -> Answer | None:
    """
    Find the database's answer behind a driver's exception, however the driver is wrapped.

    The search goes from the outermost error inwards, by ``orig`` (SQLAlchemy's name for the
    driver's exception) and ``__cause__`` alone. Python sets ``__context__`` to whatever was being
    handled at the time, which may have been anything.
    """
    for link in causes(error):
        if (answer := own_answer(link)) is not None:
            return answer
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made from: ``orig`` and ``__cause__``, each one once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [original_of(link), link.__cause__]


def original_of(error: BaseException) -> BaseException | None:
    """The driver's exception inside SQLAlchemy's."""
    original = getattr(error, "orig", None)
    return original if isinstance(original, BaseException) else None


def is_drivers(error: BaseException) -> bool:
    """Tell whether an exception is a database driver's, or SQLAlchemy's around one."""
    return original_of(error) is not None or any(_is_root(kind) for kind in type(error).__mro__)


def _is_root(kind: type) -> bool:
    """Tell whether a class is the root of a driver's exceptions; an app may have an Error, too."""
    module = kind.__module__
    if module.startswith(("asyncpg.", "sqlalchemy.dialects.")):
        return True
    return kind.__name__ == "Error" and hasattr(sys.modules.get(module), "DatabaseError")


def own_answer(error: BaseException) -> Answer | None:
    """The answer that this one exception carries."""
    result = getattr(error, "sqlite_errorname", None)
    if isinstance(result, str):
        return Answer(result=result, text=str(error))
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if not isinstance(state, str):
        state = ""
    number = _number(error)
    if number is None and not state:
        return None
    return Answer(state=state, number=number, text=str(error))


def _is_pep_249(error: BaseException) -> bool:
    return not isinstance(error, OSError) and any(
        base.__name__ == "Error" for base in type(error).__mro__
    )


def _number(error: BaseException) -> int | None:
    """The error number of a MySQL driver: ``errno`` or the first argument."""
    # Only from exceptions of a driver: KeyError(1213) is no deadlock.
    if not _is_pep_249(error):
        return None
    number = getattr(error, "errno", None)
    if number is None and error.args:
        number = error.args[0]
    return number if isinstance(number, int) else None
