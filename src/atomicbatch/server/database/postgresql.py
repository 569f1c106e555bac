"""PostgreSQL for the server: by psycopg, SERIALIZABLE."""

from __future__ import annotations

import select
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import sqlalchemy as sa

from atomicbatch.drivers.driver import State
from atomicbatch.drivers.known import SYNC
from atomicbatch.drivers.postgresql import begin
from atomicbatch.drivers.psycopg_pipeline import has_pipeline
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
from atomicbatch.server.database.bounds import too_long
from atomicbatch.server.database.flight import Flight
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
    """
    PostgreSQL by psycopg, SERIALIZABLE.

    With ``?pooler=transaction`` in the URL, each transaction may run on another connection of a
    pooler's (PgBouncer): nothing is kept on a connection, neither settings nor names of statements.

    Raises:
        ValueError: The URL names another kind of pooler.
    """

    dialect = POSTGRESQL
    driver = SYNC["psycopg"]

    def __init__(self, url: sa.URL, *, read_only: bool) -> None:
        pooler = url.query.get("pooler")
        if pooler not in (None, "transaction"):
            raise ValueError("the URL's option pooler must be transaction")
        self._is_pooled = pooler is not None
        url = url.difference_update_query(["pooler"])
        super().__init__(url, read_only=read_only)
        import psycopg
        from psycopg.types.string import TextLoader

        self._connect: Callable[..., Any] = counting.postgresql().connect
        chunked = getattr(psycopg, "capabilities", None)
        # Older versions give row by row, which takes longer.
        self._chunks = {"size": 100} if chunked and chunked.has_stream_chunked() else {}
        self._text_loader = TextLoader
        # An old libpq has none, and Windows no poll: statements then go one by one.
        self._has_pipeline = has_pipeline(psycopg) and hasattr(select, "poll")
        given = connect_arguments(url)
        self._engine_waits = {k: v for k, v in _WAITS.items() if k not in given}
        if self._is_pooled:
            self._engine_waits["prepare_threshold"] = None
        self._keywords = {**given, **self._engine_waits}
        self.driver_error = psycopg.Error

    # Read as the server writes them: Python's types would lose digits, years and infinity.
    _TEXT_TYPES = (
        *("numeric", "date", "time", "timetz", "timestamp", "timestamptz", "interval"),
        *("json", "jsonb", "uuid", "inet", "cidr"),
    )
    # How values are written as text: a role's or a database's own settings could lose digits.
    _SETTINGS = (
        *(("TimeZone", "UTC"), ("DateStyle", "ISO"), ("IntervalStyle", "iso_8601")),
        *(("bytea_output", "hex"), ("extra_float_digits", "1"), ("xmloption", "content")),
    )

    def connect(self, *, reader: bool) -> Raw:  # noqa: ARG002 - every connection does both
        raw = self._connect(**self._keywords, autocommit=True)
        for name in self._TEXT_TYPES:
            raw.adapters.register_loader(name, self._text_loader)
        if not self._is_pooled:
            self.driver.send(raw, [*self._settings(), *self._read_only_settings()])
        if self._has_pipeline:
            # psycopg's own names would be forgotten by DEALLOCATE ALL, and ours with them.
            raw.prepare_threshold = None
            interrupt = partial(self._try_to_interrupt, raw)
            raw.flight = Flight(raw, prepares=not self._is_pooled, interrupt=interrupt)
        return raw

    def _settings(self) -> list[str]:
        return [f"SET {name} = '{value}'" for name, value in self._SETTINGS]

    def _read_only_settings(self) -> list[str]:
        return ["SET default_transaction_read_only = on"] if self.read_only else []

    def _begin(self, ticket: AnyTicket) -> list[str]:
        """What begins a transaction: a statement each."""
        texts = [begin("SERIALIZABLE", read_only=ticket.read_only)]
        if self._is_pooled:
            # They hold for this transaction only.
            calls = [f"set_config('{name}', '{value}', true)" for name, value in self._SETTINGS]
            texts.append(f"SELECT {', '.join(calls)}")
        return texts

    def _try_to_interrupt(self, raw: Raw) -> None:
        with suppress(Exception):  # the connection may be closed by now
            self.interrupt(raw)

    def flight(self, raw: Raw) -> Flight | None:
        flight: Flight | None = raw.flight
        return flight

    def executor(self, raw: Raw) -> Execute:
        plain: Execute = raw.execute
        flight = self.flight(raw)
        if flight is None:
            return plain

        def execute(sql: str, parameters: Sequence[Any]) -> Any:
            if flight.can_carry:
                return flight.ask(sql, parameters, flight.take)
            return plain(sql, parameters)

        return execute

    def stream(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> Generator[Row]:
        if (flight := self.flight(raw)) is not None:
            flight.leave_to_stream()
        try:
            with raw.receiving(received(most_bytes)):
                # Closed early, it cancels the query.
                yield from raw.cursor().stream(sql, parameters, **self._chunks)
        except self.driver_error as error:
            raise too_long(error) or error from None

    def one(self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int) -> Row | None:
        flight = self.flight(raw)
        if flight is not None and flight.can_carry:
            return flight.ask(sql, parameters, partial(flight.one, most_bytes))
        try:
            with raw.receiving(received(most_bytes)):
                row: Row | None = raw.execute(sql, parameters).fetchone()
        except self.driver_error as error:
            raise too_long(error) or error from None
        return row

    def few(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> list[Row] | None:
        flight = self.flight(raw)
        if flight is not None and flight.can_carry:
            return flight.ask(sql, parameters, partial(flight.few, most_bytes))
        # The driver prepares it, unlike a stream.
        try:
            with raw.receiving(received(most_bytes)):
                rows: list[Row] = raw.execute(sql, parameters).fetchall()
        except self.driver_error as error:
            raise too_long(error) or error from None
        return rows

    def begin(self, raw: Raw, ticket: AnyTicket) -> None:
        for text in self._begin(ticket):
            raw.execute(text)

    def send_begin(self, raw: Raw, ticket: AnyTicket) -> None:
        flight = self.flight(raw)
        if flight is None:
            self.begin(raw, ticket)
        else:
            flight.begin(self._begin(ticket), ticket)

    def settle(self, raw: Raw) -> None:
        self._leave_flight(raw)
        if self.driver.state(raw) is State.ABORTED:
            self.driver.rollback(raw)

    def _leave_flight(self, raw: Raw) -> None:
        flight = self.flight(raw)
        if flight is not None:
            flight.leave()

    def _prove_and_commit(self, raw: Raw) -> None:
        flight = self.flight(raw)
        if flight is not None:
            flight.finish()
        super()._prove_and_commit(raw)

    def rollback(self, raw: Raw) -> None:
        self._leave_flight(raw)
        super().rollback(raw)

    def is_worn(self, raw: Raw) -> bool:
        flight = self.flight(raw)
        worn: bool = raw.is_worn or (flight is not None and flight.is_worn)
        return worn
