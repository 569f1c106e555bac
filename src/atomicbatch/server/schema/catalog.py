"""
Catalog: the schema that is served, read again when the database's own has changed.

On SQLite, each transaction checks the schema's version when it begins, so that a batch never runs
with another schema than its transaction sees. The other databases have no such number. There, the
definitions are compared once a second, and whenever a call fails in a way that a change explains.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import sqlalchemy as sa

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.schema.definitions import definitions
from atomicbatch.server.schema.reflection import read_schema
from atomicbatch.server.schema.tables import Schema

_log = logging.getLogger("atomicbatch.server")
_LOOK_SECONDS = 1.0


class Catalog:
    """
    The schema of one database, shared by all threads of a process.

    Attributes:
        hides_batch: There is a table called ``batch``. It is not served: its path is the batch
            endpoint's.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database cannot be reached or read.
    """

    def __init__(self, dialect: Dialect, engine: sa.Engine) -> None:
        self._dialect, self._engine = dialect, engine
        self._lock = threading.Lock()
        self._looked = 0.0
        self._known = self._read()

    @property
    def schema(self) -> Schema:
        """The schema as it was read last."""
        return self._known[1]

    def schema_of(self, raw: Any) -> Schema | None:
        """The schema, if it is what ``raw`` sees; None: it has to be read again."""
        self._looked = time.monotonic()
        known, schema = self._known
        return schema if definitions(raw, self._dialect.name) == known else None

    def is_due(self) -> bool:
        """Whether it is time to compare again."""
        return time.monotonic() - self._looked > _LOOK_SECONDS

    def expire(self) -> None:
        """Make it time to compare again."""
        self._looked = 0.0

    def read_again(self) -> None:
        """
        Read the schema again.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database cannot be reached or read.
        """
        before = self._known
        with self._lock:
            if self._known is before:  # if not, another thread has just done it
                self._known = self._read()
                _log.info("the database's schema has changed and was read again")

    def _read(self) -> tuple[list[Any], Schema]:
        with self._engine.connect() as connection:
            # One snapshot for all queries.
            if self._engine.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            elif self._engine.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            self._looked = time.monotonic()
            raw = connection.connection.dbapi_connection
            found = definitions(raw, self._dialect.name)
            schema = read_schema(connection, self._dialect)
        self.hides_batch = schema.tables.pop("batch", None) is not None
        return found, schema
