"""PostgreSQL for the server: by psycopg, SERIALIZABLE."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import sqlalchemy as sa

from atomicbatch.drivers.known import SYNC
from atomicbatch.drivers.postgresql import begin
from atomicbatch.server.database import counting
from atomicbatch.server.database.backend import (
    CONNECT_SECONDS,
    KEEPALIVE,
    USER_TIMEOUT_MILLISECONDS,
    Backend,
    Execute,
    Raw,
    Row,
    connect_arguments,
    received,
)
from atomicbatch.server.database.bounds import TOO_LONG, TooMuchError
from atomicbatch.server.database.tickets import AnyTicket
from atomicbatch.server.dialect import POSTGRESQL

_WAITS = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": KEEPALIVE["TCP_KEEPIDLE"],
    "keepalives_interval": KEEPALIVE["TCP_KEEPINTVL"],
    "keepalives_count": KEEPALIVE["TCP_KEEPCNT"],
    "tcp_user_timeout": USER_TIMEOUT_MILLISECONDS,
}


class PostgreSQLBackend(Backend):
    """PostgreSQL by psycopg, SERIALIZABLE."""

    dialect = POSTGRESQL
    driver = SYNC["psycopg"]

    def __init__(self, url: sa.URL, *, read_only: bool) -> None:
        super().__init__(url, read_only=read_only)
        import psycopg
        from psycopg.types.string import TextLoader

        self._connect: Callable[..., Any] = counting.postgresql().connect
        chunked = getattr(psycopg, "capabilities", None)
        # Older versions give row by row, which takes longer.
        self._chunks = {"size": 100} if chunked and chunked.has_stream_chunked() else {}
        self._text_loader = TextLoader
        given = connect_arguments(url)
        self._engine_waits = {k: v for k, v in _WAITS.items() if k not in given}
        self._keywords = {**given, **self._engine_waits}
        self.driver_error = psycopg.Error

    # Read as the server writes them: Python's types would lose digits, years and infinity.
    _TEXT_TYPES = (
        *("numeric", "date", "time", "timetz", "timestamp", "timestamptz", "interval"),
        *("json", "jsonb", "uuid", "inet", "cidr"),
    )
    # How values are written as text: a role's or a database's own settings could lose digits.
    _SETTINGS = (
        *("TimeZone = 'UTC'", "DateStyle = 'ISO'", "IntervalStyle = 'iso_8601'"),
        *("bytea_output = 'hex'", "extra_float_digits = 1", "xmloption = 'content'"),
    )

    def connect(self, *, reader: bool) -> Raw:  # noqa: ARG002 - every connection does both
        raw = self._connect(**self._keywords, autocommit=True)
        for name in self._TEXT_TYPES:
            raw.adapters.register_loader(name, self._text_loader)
        for setting in self._SETTINGS:
            raw.execute(f"SET {setting}")
        if self.read_only:
            raw.execute("SET default_transaction_read_only = on")
        return raw

    def executor(self, raw: Raw) -> Execute:
        execute: Execute = raw.execute
        return execute

    def stream(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> Generator[Row]:
        try:
            with raw.receiving(received(most_bytes)):
                # Closed early, it cancels the query.
                yield from raw.cursor().stream(sql, parameters, **self._chunks)
        except self.driver_error as error:
            raise _too_long(error) or error from None

    def one(self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int) -> Row | None:
        try:
            with raw.receiving(received(most_bytes)):
                row: Row | None = raw.execute(sql, parameters).fetchone()
        except self.driver_error as error:
            raise _too_long(error) or error from None
        return row

    def few(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> list[Row] | None:
        # The driver prepares it, unlike a stream.
        try:
            with raw.receiving(received(most_bytes)):
                rows: list[Row] = raw.execute(sql, parameters).fetchall()
        except self.driver_error as error:
            raise _too_long(error) or error from None
        return rows

    def begin(self, raw: Raw, ticket: AnyTicket) -> None:
        raw.execute(begin("SERIALIZABLE", read_only=ticket.read_only))

    def is_worn(self, raw: Raw) -> bool:
        worn: bool = raw.is_worn
        return worn


def _too_long(error: Exception) -> TooMuchError | None:
    """The error of ours, if PostgreSQL refused a value as too long; see ``Statements.read_sql``."""
    return TooMuchError() if TOO_LONG in str(error) else None
