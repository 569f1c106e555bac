"""What SET has set: each session has settings of its own, although all share one connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar

from atomicbatch.join.status import Status
from atomicbatch.join.steps import Ask, Steps
from atomicbatch.sql.kinds import Kind, Statement

T = TypeVar("T")
# Who we are decides what else may be set.
_ROLES = ("session_authorization", "role")
_NAME = re.compile(r"[A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)*")


class Making(NamedTuple):
    """The settings that a statement makes, and whether they outlive the transaction."""

    names: tuple[str, ...]
    new: frozenset[str]
    """Those that nobody in the batch has made before."""
    lasting: bool


class Settings:
    """
    The settings of the one connection (PostgreSQL).

    Row level security hangs on them, so one session must not see those of another. Before each
    statement they are made what its session has set, or what they were at first.
    """

    __slots__ = ("_actual", "_first", "_lasting", "_status")

    def __init__(self, status: Status) -> None:
        self._status = status
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
        if statement.settings != ("?",):
            return statement.settings
        # The name is a parameter; those that name no setting do no harm.
        return tuple(text for text in _of_type(str, parameters) if _NAME.fullmatch(text))

    def switch(self, own: Mapping[str, str], but: Iterable[str] = ()) -> Steps[None]:
        """
        Make the settings those of a session.

        Args:
            own: What it has set.
            but: What it is about to set.
        """
        wanted = {
            name: own.get(name, first) for name, first in self._first.items() if name not in but
        }
        if all(self._actual.get(name) == value for name, value in wanted.items()):
            return
        roles = [name for name in _ROLES if name in wanted]
        for name in roles:
            yield from self._make(name, self._first[name])
        for name in sorted(wanted.keys() - roles):
            yield from self._make(name, wanted[name])
        for name in roles:
            yield from self._make(name, wanted[name])

    def note_first(self, names: Iterable[str], of_all: Mapping[str, str]) -> None:
        """Take note of what settings are on the connection that nobody of the batch has made."""
        for name in names:
            if name not in self._first:
                self._first[name] = self._actual[name] = of_all.get(name, "")

    def remember(self, names: Iterable[str], *, lasting: bool) -> Steps[frozenset[str]]:
        """Take note of what settings are that are about to be made; tell which are new."""
        new = frozenset(names) - self._first.keys()
        for name in names:
            if name not in self._first:
                self._first[name] = self._actual[name] = (yield from self._read(name)) or ""
            if lasting:
                self._lasting.add(name)
        return new

    def read(self, made: Making) -> Steps[dict[str, str]]:
        """Tell what settings have become; those that are none, or are as before, are left out."""
        found = {}
        for name in made.names:
            value = yield from self._read(name)
            if value is None or (name in made.new and value == self._first[name]):
                # Any text among the parameters of set_config() may be a setting's name.
                del self._first[name]
                self._actual.pop(name, None)
                self._lasting.discard(name)
            else:
                self._actual[name] = found[name] = value
        return found

    def forget(self) -> None:
        """ROLLBACK TO has been sent: nobody knows what they are now."""
        self._actual.clear()

    def end(self) -> Steps[None]:
        """
        Put all back for COMMIT, which no single session's settings should govern.

        What would outlive it would reach whoever gets the connection next.
        """
        yield from self.switch({})
        for name in sorted(self._lasting):
            yield from self._set(name, self._first[name], lasting=True)

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch, since it cannot be made faithful."""
        self._status.refuse(what)

    def _read(self, name: str) -> Steps[str | None]:
        value: str | None = yield Ask(f"SELECT current_setting({_literal(name)}, true)")
        return value

    def _make(self, name: str, value: str) -> Steps[None]:
        if self._actual.get(name) != value:
            yield from self._set(name, value, lasting=False)
            self._actual[name] = value

    def _set(self, name: str, value: str, *, lasting: bool) -> Steps[None]:
        is_local = "false" if lasting else "true"
        yield Ask(f"SELECT set_config({_literal(name)}, {_value(name, value)}, {is_local})")


class OwnSettings:
    """
    What one session has set.

    Attributes:
        committed: What is left of it, whatever becomes of the transaction that is open.
    """

    __slots__ = ("_connection", "_now", "_saved", "_staying", "committed")

    def __init__(self, connection: Settings) -> None:
        self._connection = connection
        # As they are; as a commit leaves them (SET LOCAL passes); as a rollback does.
        self._now: dict[str, str] = {}
        self._staying: dict[str, str] = {}
        self.committed: dict[str, str] = {}
        # The first two as they were at each savepoint of the session's own.
        self._saved: list[tuple[str, dict[str, str], dict[str, str]]] = []

    def bring(self, values: Mapping[str, str], of_all: Mapping[str, str]) -> None:
        """The session comes with settings of its own; ``of_all`` has those of the connection."""
        self._connection.note_first(values, of_all)
        for settings in (self._now, self._staying, self.committed):
            settings.update(values)

    def apply(self) -> Steps[None]:
        """Make the connection's settings the session's."""
        yield from self._connection.switch(self._now)

    def before(self, statement: Statement, parameters: Iterable[Any]) -> Steps[Making | None]:
        """Make ready for a statement of the session; tell which settings it will make."""
        if not statement.settings:
            yield from self.apply()
            return None
        connection = self._connection
        names = connection.names_of(statement, parameters)
        if not names and statement.settings == ("?",):
            connection.refuse(
                "a handler calls set_config() with a name that is neither in the statement nor a "
                "parameter, so that the setting would leak into later calls; write the name"
            )
        lasting = statement.lasting
        if statement.lasting_unknown:
            said = set(_of_type(bool, parameters))
            if len(said) != 1:
                connection.refuse(
                    "a handler calls set_config() and it cannot be told whether the setting is to "
                    "last longer than the transaction; write true or false in the statement"
                )
            lasting = said == {False}
        new = yield from connection.remember(names, lasting=lasting)
        yield from connection.switch(self._now, but=names if statement.kind is Kind.READ else ())
        return Making(names, new, lasting)

    def after(self, made: Making) -> Steps[None]:
        """Take note of what a statement has made."""
        values = yield from self._connection.read(made)
        self._now.update(values)
        if made.lasting:
            self._staying.update(values)

    def savepoint(self, name: str) -> None:
        """The session has set a savepoint of its own."""
        self._saved.append((name, dict(self._now), dict(self._staying)))

    def rolled_back_to(self, name: str) -> None:
        """The session has rolled back to a savepoint of its own."""
        # Without one of that name nothing had been set yet.
        self._now, self._staying = dict(self.committed), dict(self.committed)
        index = self._find(name)
        del self._saved[index + 1 :]
        if index >= 0:
            _, now, staying = self._saved[index]
            self._now, self._staying = dict(now), dict(staying)

    def released(self, name: str) -> None:
        """The session has released a savepoint of its own."""
        if (index := self._find(name)) >= 0:
            del self._saved[index:]

    def end(self, *, commit: bool) -> None:
        """The session's transaction is over."""
        if commit:
            self.committed = dict(self._staying)
        self._now, self._staying = dict(self.committed), dict(self.committed)
        self._saved.clear()

    def _find(self, name: str) -> int:
        for index in range(len(self._saved) - 1, -1, -1):
            if self._saved[index][0] == name:
                return index
        return -1


def _of_type(kind: type[T], parameters: Iterable[Any]) -> Iterable[T]:
    """Find values of a type among a statement's parameters, however they are given."""
    for one in parameters:
        if isinstance(one, kind):
            yield one
        elif isinstance(one, Mapping):
            yield from _of_type(kind, one.values())
        elif isinstance(one, (list, tuple)):
            yield from _of_type(kind, one)


def _value(name: str, value: str) -> str:
    """
    The expression that set_config() is given.

    An extension's setting may be anything, also nothing, until the extension is loaded, which its
    first use does. From then on it has a type, and nothing may be no value of it: NULL is its
    default, which is what it would be if nobody had set it.
    """
    if value or "." not in name:
        return _literal(value)
    return (
        f"CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_settings WHERE lower(name) = {_literal(name)}"
        " AND vartype <> 'string') THEN NULL ELSE '' END"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
