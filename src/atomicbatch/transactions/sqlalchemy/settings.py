"""What SET has set: each session has settings of its own, although all share one connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from atomicbatch.transactions.sqlalchemy.drivers import run_plainly, value_of
from atomicbatch.transactions.statements import Kind, Statement

if TYPE_CHECKING:
    from atomicbatch.transactions.sqlalchemy.real import RealTransaction

_NAME = re.compile(r"[A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)*")


class Settings:
    """
    The settings of the one connection (PostgreSQL).

    Row level security hangs on them, so one session must not see those of another. Before each
    statement they are made what its session has set, or what they were at first.
    """

    __slots__ = ("_actual", "_first", "_lasting", "_real")

    def __init__(self, real: RealTransaction) -> None:
        self._real = real
        # What each was before anybody of the batch has set it.
        self._first: dict[str, str] = {}
        # What each is; missing: unknown, since ROLLBACK TO may have changed it.
        self._actual: dict[str, str] = {}
        # Those that would outlive COMMIT.
        self._lasting: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._first)

    def names_of(self, statement: Statement, parameters: Iterable[Any]) -> tuple[str, ...]:
        """Tell which settings a statement makes."""
        if statement.settings == ("*",):
            return tuple(self._first)
        if statement.settings != ("?",):
            return statement.settings
        # The name is a parameter; those that name no setting do no harm.
        return tuple(text for text in _texts(parameters) if _NAME.fullmatch(text))

    def switch(self, own: Mapping[str, str], but: Iterable[str] = ()) -> None:
        """
        Make the settings those of a session.

        Args:
            own: What it has set.
            but: What it is about to set.
        """
        for name, first in self._first.items():
            wanted = own.get(name, first)
            if self._actual.get(name) != wanted and name not in but:
                self._set(name, wanted, lasting=False)
                self._actual[name] = wanted

    def remember(self, names: Iterable[str], *, lasting: bool) -> None:
        """Take note of what settings are that are about to be made."""
        for name in names:
            if name not in self._first:
                self._first[name] = self._read(name) or ""
            if lasting:
                self._lasting.add(name)

    def read(self, names: Iterable[str]) -> dict[str, str]:
        """Tell what settings have become; those that are none are left out."""
        found = {}
        for name in names:
            value = self._read(name)
            if value is None:
                del self._first[name]
                self._lasting.discard(name)
            else:
                self._actual[name] = found[name] = value
        return found

    def forget(self) -> None:
        """ROLLBACK TO has been sent: nobody knows what they are now."""
        self._actual.clear()

    def end(self) -> None:
        """Put back what would outlive COMMIT, and reach whoever gets the connection next."""
        for name in sorted(self._lasting):
            self._set(name, self._first[name], lasting=True)

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch, since it cannot be made faithful."""
        self._real.refuse(what)

    def _read(self, name: str) -> str | None:
        text = f"SELECT current_setting({_literal(name)}, true)"
        value: str | None = value_of(self._real.fairy, text)
        return value

    def _set(self, name: str, value: str, *, lasting: bool) -> None:
        is_local = "false" if lasting else "true"
        text = f"SELECT set_config({_literal(name)}, {_literal(value)}, {is_local})"
        run_plainly(self._real.fairy, [text])


class OwnSettings:
    """What one session has set."""

    __slots__ = ("_committed", "_connection", "_now", "_pending")

    def __init__(self, connection: Settings) -> None:
        self._connection = connection
        self._now: dict[str, str] = {}
        # What of it a rollback leaves, and whose values a commit would add to that.
        self._committed: dict[str, str] = {}
        self._pending: set[str] = set()

    def apply(self) -> None:
        """Make the connection's settings the session's."""
        self._connection.switch(self._now)

    def before(self, statement: Statement, parameters: Iterable[Any]) -> tuple[str, ...]:
        """Make ready for a statement of the session; tell which settings it will make."""
        if not statement.settings:
            self.apply()
            return ()
        connection = self._connection
        names = connection.names_of(statement, parameters)
        if not names and statement.settings == ("?",):
            connection.refuse(
                "a handler calls set_config() with a name that is neither in the statement nor a "
                "parameter, so that the setting would leak into later calls; write the name"
            )
        connection.remember(names, lasting=statement.lasting)
        connection.switch(self._now, but=names if statement.kind is Kind.READ else ())
        return names

    def after(self, names: Iterable[str], *, lasting: bool) -> None:
        """Take note of what a statement has made."""
        made = self._connection.read(names)
        self._now.update(made)
        if lasting:
            self._pending.update(made)
        else:
            self._pending.difference_update(made)

    def rolled_back_to(self) -> None:
        """The session has rolled back to a savepoint of its own."""
        self._now = self._connection.read(self._now)
        self._pending.intersection_update(self._now)

    def end(self, *, commit: bool) -> None:
        """The session's transaction is over."""
        if commit:
            self._committed.update({name: self._now[name] for name in self._pending})
        self._now = dict(self._committed)
        self._pending.clear()


def _texts(parameters: Iterable[Any]) -> Iterable[str]:
    for one in parameters:
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            yield from _texts(one.values())
        elif isinstance(one, (list, tuple)):
            yield from _texts(one)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
