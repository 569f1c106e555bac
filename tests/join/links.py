"""A link of the standard library's own: the join needs no more of a driver than this."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from atomicbatch.join.checkout import Checkout
from atomicbatch.join.status import Status
from atomicbatch.join.steps import NOT_SENT, Steps, run
from atomicbatch.join.transaction import Transaction
from atomicbatch.sql.kinds import Family

T = TypeVar("T")


class SQLiteLink:
    """The batch's connection to a file, in its transaction."""

    def __init__(self, path: Path, status: Status | None = None) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.sent: list[str] = []
        self.status = Status() if status is None else status
        self.transaction = Transaction(Family.SQLITE, self.status)
        self.transaction.connection.state = self
        run(self.transaction.begin(), self)

    def send(self, texts: Sequence[str]) -> None:
        for text in texts:
            self.sent.append(text)
            self.connection.execute(text)

    def ask(self, text: str) -> Any:
        row = self.connection.execute(text).fetchone()
        return None if row is None else row[0]

    def begin(self) -> None:
        self.connection.execute("PRAGMA foreign_keys=1")
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.sent.append("COMMIT")
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        self.sent.append("ROLLBACK")
        self.connection.execute("ROLLBACK")

    def is_in_transaction(self) -> bool:
        return self.connection.in_transaction

    def is_aborted(self) -> bool:
        return False

    def is_lost(self, error: Exception) -> bool:
        return False

    def interrupt(self) -> None:
        self.connection.interrupt()

    def run(self, steps: Steps[T], perform: Callable[[], Any] | None = None) -> T:
        return run(steps, self, perform)

    def execute(self, checkout: Checkout, sql: str) -> list[Any] | None:
        """What a driver's door does with a statement of a handler."""
        result = run(checkout.perform(sql), self, lambda: self.connection.execute(sql).fetchall())
        return None if result is NOT_SENT else result
