"""
The door of mysqlclient (``MySQLdb``).

Its cursors are Python's, but all they do is done by methods of the connection, which are written in
C: ``query()`` sends, ``store_result()``, ``affected_rows()`` and so on tell what came of it. In a
call of a batch, where the connection is joined, the batch's own connection sends, and its answer is
read to the end at once, since others are to use it next. From then on the app's connection is of a
class that shows that answer. When it next sends anything outside of the batch, it is first of its
own class again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.doors.mysql_sessions import UNLIKE, are_alike, sets_auto, sets_session, text_of
from atomicbatch.doors.mysqlclient_kind import KIND, MYSQLCLIENT, Origin, flags_of, plain
from atomicbatch.doors.server_uses import NOT_SENT, Use, use_of
from atomicbatch.guard.watch import Watch, watching

WHY = "what takes no part in a batch is refused"
_EARLY = "a handler uses a connection of MySQLdb that was opened before {since}; {first}"
_CHARACTERS = (
    "a handler changes the character set of its connection, which the batch's connections share; "
    "set it before, outside of batches"
)


def change_mysqlclient(module: ModuleType) -> None:
    """Give mysqlclient's connections a door; they remember what they were opened by."""
    if "MySQLdb._mysql" not in sys.modules:
        return  # PyMySQL under another name
    plain.learn(module)
    changes: dict[str, Callable[[Any], Any]] = {
        "__init__": _remembering,
        "query": _querying,
        "send_query": _sending,
        "commit": _ending("commit"),
        "rollback": _ending("rollback"),
        "autocommit": _switching,
        "close": _closing,
        "select_db": _moving("select_db()", "a connection for each database", "database"),
        "change_user": _moving(
            "change_user()", "a connection for each user", "user", "password", "database"
        ),
    }
    for name, make in changes.items():
        patches.change(module.Connection, name, make, why=WHY)


def _remembering(found: Callable[..., Any]) -> Callable[..., Any]:
    def init(self: Any, *args: Any, **options: Any) -> None:
        self._atomicbatch_origin = Origin(args, options)
        self._atomicbatch_sent = True  # by what connects, there may be an init_command
        found(self, *args, **options)

    return init


# Statements --------------------------------------------------------------------------------------


def _querying(found: Callable[..., Any]) -> Callable[..., Any]:
    def query(self: Any, query: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            use = use_of(watch, self, KIND, executes=True)
            if use is not None and self.open:
                return _query(self, watch, use, query)
            if use is None:
                watch.sends(self, MYSQLCLIENT, query)
        self._atomicbatch_sent = True
        return found(self, query)

    return query


def _query(connection: Any, watch: Watch, use: Use, query: Any) -> None:
    """Run a statement on the batch's own connection, and show its answer."""
    text = text_of(query, connection.encoding)
    if not hasattr(connection, "_atomicbatch_origin"):
        advice = watch.allowed.advice
        use.refuse(_EARLY.format(since=advice.joins_since, first=advice.join_first))
    if (on := sets_auto(text)) is not None:
        connection.autocommit(on)
        show(connection, _nothing())
        return

    def perform(wire: Any) -> list[Answer]:
        if wire.character_set_name() != connection.character_set_name():
            use.refuse(_CHARACTERS)
        if not are_alike(flags_of(connection), flags_of(wire)):
            use.refuse(UNLIKE)
        wire.converter = connection.converter
        plain.connection.query(wire, query if isinstance(query, str) else bytes(query))
        return _answers(wire)

    answers = use.perform(text, None, perform)
    if sets_session(text):
        # Also on the app's own: it is to have it after the batch, and quotes values by it.
        plain.connection.query(connection, query if isinstance(query, str) else bytes(query))
        plain.connection.store_result(connection)
        use.note_session()
    show(connection, _nothing() if answers is NOT_SENT else answers)


def _sending(found: Callable[..., Any]) -> Callable[..., Any]:
    def send_query(self: Any, query: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            use = use_of(watch, self, KIND, executes=True)
            if use is not None:
                use.refuse("a handler uses send_query(), whose answer comes later; use query()")
            watch.sends(self, MYSQLCLIENT, query)
        self._atomicbatch_sent = True
        return found(self, query)

    return send_query


# Its transaction ---------------------------------------------------------------------------------


def _use_of(connection: Any) -> Use | None:
    watch = watching.get()
    return None if watch is None else use_of(watch, connection, KIND, executes=False)


def _ending(how: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(found: Callable[..., Any]) -> Callable[..., Any]:
        def end(self: Any) -> Any:
            use = _use_of(self)
            if use is not None and self.open:
                return getattr(use, how)()
            ended = found(self)
            self._atomicbatch_sent = False
            return ended

        return end

    return make


def _switching(found: Callable[..., Any]) -> Callable[..., Any]:
    def autocommit(self: Any, on: Any) -> Any:
        # The app's own connection is to have it after the batch as well.
        switched = found(self, on)
        if (use := _use_of(self)) is not None:
            use.set_auto(bool(on))
        return switched

    return autocommit


def _closing(found: Callable[..., Any]) -> Callable[..., Any]:
    def close(self: Any) -> Any:
        if self.open and (use := _use_of(self)) is not None:
            use.end()
        return found(self)

    return close


def _moving(
    what: str, instead: str, *parameters: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Refuse in a batch what lets a connection lead elsewhere; elsewhere, note where it leads."""

    def make(found: Callable[..., Any]) -> Callable[..., Any]:
        def move(self: Any, *args: Any, **options: Any) -> Any:
            watch = watching.get()
            use = None if watch is None else use_of(watch, self, KIND, executes=True)
            if use is not None:
                use.refuse(f"a handler uses {what}; open {instead}")
            moved = found(self, *args, **options)
            origin = vars(self).get("_atomicbatch_origin")
            if origin is not None:
                given = Origin((), {**dict(zip(parameters, args, strict=False)), **options})
                origin.options.update(given.options)
            return moved

        return move

    return make


# Its answers -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Answer:
    """What came of one statement: its rows, and what the connection tells of it."""

    rows: Any
    affected: int
    last_id: int
    warnings: int
    columns: int
    info: Any


def _nothing() -> list[Answer]:
    return [Answer(None, 0, 0, 0, 0, None)]


def _answers(wire: Any) -> list[Answer]:
    """Read everything that a statement has given: a procedure's may be several."""
    answers = []
    while True:
        # In this order: fetching the rows changes what is told of them.
        rows = wire.store_result()
        told = (wire.affected_rows(), wire.insert_id(), wire.warning_count())
        answers.append(Answer(rows, *told, wire.field_count(), wire.info()))
        if wire.next_result() != 0:
            return answers


class Joined:
    """
    What is put in front of a connection that shows the answer of the batch's own.

    Attributes:
        _atomicbatch: Those that have not been asked for yet; the first is the one that is shown.
    """

    _atomicbatch: list[Answer]

    def query(self, query: Any) -> Any:
        leave(self)
        return plain.base.query(self, query)

    def send_query(self, query: Any) -> Any:
        leave(self)
        return plain.base.send_query(self, query)

    def store_result(self) -> Any:
        answer = self._atomicbatch[0]
        rows, answer.rows = answer.rows, None
        return rows

    def use_result(self) -> Any:
        self._atomicbatch[0].affected = -1  # it is not known before they are fetched
        return self.store_result()

    def discard_result(self) -> None:
        self._atomicbatch[0].rows = None

    def more_results(self) -> bool:
        return len(self._atomicbatch) > 1

    def next_result(self) -> int:
        if len(self._atomicbatch) > 1:
            del self._atomicbatch[0]
            return 0
        return -1

    def affected_rows(self) -> int:
        return self._atomicbatch[0].affected

    def insert_id(self) -> int:
        return self._atomicbatch[0].last_id

    def warning_count(self) -> int:
        return self._atomicbatch[0].warnings

    def field_count(self) -> int:
        return self._atomicbatch[0].columns

    def info(self) -> Any:
        return self._atomicbatch[0].info


@lru_cache(maxsize=1024)
def _joined(kind: type) -> type:
    """The class of a connection of this class, while it shows the answer of the batch's own."""
    base = plain.base
    names: dict[str, Any] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "_atomicbatch_class": kind,
    }
    if kind is base:
        return type(kind.__name__, (Joined, base), names)
    return type(kind.__name__, (kind, _joined(base)), names)


def show(connection: Any, answers: list[Answer]) -> None:
    """Let a connection of the app's show answers."""
    if not isinstance(connection, Joined):
        connection.__class__ = _joined(type(connection))  # type: ignore[arg-type]  # it is hashable
    connection._atomicbatch = answers


def leave(connection: Any) -> None:
    """Let a connection of the app's be of its own class again."""
    connection.__class__ = connection._atomicbatch_class
    connection._atomicbatch = []  # nothing can be deleted of one
