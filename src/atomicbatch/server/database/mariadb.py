"""MariaDB and MySQL for the server: by PyMySQL, SERIALIZABLE."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Sequence
from typing import Any

import sqlalchemy as sa

from atomicbatch.drivers.known import SYNC
from atomicbatch.drivers.mysql import begin
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
from atomicbatch.server.database.tickets import AnyTicket
from atomicbatch.server.dialect import MARIADB

_SCHEMA_SECONDS = 30


class MariaDBBackend(Backend):
    """MariaDB and MySQL by PyMySQL, SERIALIZABLE."""

    dialect = MARIADB
    driver = SYNC["pymysql"]

    def __init__(self, url: sa.URL, *, read_only: bool) -> None:
        super().__init__(url, read_only=read_only)
        import pymysql
        from pymysql.constants import CLIENT, FIELD_TYPE
        from pymysql.converters import conversions
        from pymysql.cursors import SSCursor

        self._connect: Callable[..., Any] = counting.mysql()
        self._unbuffered = SSCursor
        keywords = connect_arguments(url)
        self._read_timeout = keywords.get("read_timeout")
        waits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": _SCHEMA_SECONDS}
        self._engine_waits = {k: v for k, v in waits.items() if k not in keywords}
        self.driver_error = pymysql.Error
        # Read as the server writes them: Python's types would lose digits and zero dates.
        as_text = (
            *(FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL, FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE),
            *(FIELD_TYPE.TIME, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP),
        )
        self._keywords: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            **keywords,
            "conv": {key: value for key, value in conversions.items() if key not in as_text},
            # UPDATE then counts the rows it found, not the rows it changed.
            "client_flag": int(keywords.get("client_flag", 0)) | CLIENT.FOUND_ROWS,
            "charset": "utf8mb4",
            "autocommit": True,
        }

    def connect(self, *, reader: bool) -> Raw:  # noqa: ARG002 - every connection does both
        raw = self._open(self._keywords["connect_timeout"])
        cursor = raw.cursor()
        cursor.execute(
            # Whatever the server's own mode is. Without the first the server cuts and rounds
            # values, and says nothing; without the second it numbers a row anew whose key is 0.
            # Zero dates are taken, so that those which are there can be sent back.
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,"
            "ERROR_FOR_DIVISION_BY_ZERO', SESSION time_zone = '+00:00'"
        )
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        cursor.close()
        # From now on whoever waits for an answer is watched, see ``threads.py``.
        raw._read_timeout = self._read_timeout
        return raw

    def _open(self, seconds: float) -> Raw:
        """A connection on which nothing takes longer than ``seconds``."""
        keywords = {**self._keywords, "connect_timeout": seconds, "read_timeout": seconds}
        raw = self._connect(**keywords)
        _keep_alive(raw._sock)
        return raw

    def executor(self, raw: Raw) -> Execute:
        def execute(sql: str, parameters: Sequence[Any]) -> Any:
            cursor = raw.cursor()
            cursor.execute(sql, parameters)
            return cursor

        return execute

    def stream(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> Generator[Row]:
        cursor = raw.cursor(self._unbuffered)
        with raw.receiving(received(most_bytes)):
            cursor.execute(sql, parameters)
            try:
                yield from cursor
            except GeneratorExit:
                # The driver would read all the rest before it could go on: rather begin anew.
                raw.close()
                raise
            cursor.close()

    def one(self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int) -> Row | None:
        with raw.receiving(received(most_bytes)), raw.cursor() as cursor:
            cursor.execute(sql, parameters)
            row: Row | None = cursor.fetchone()
        return row

    def few(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> list[Row] | None:
        with raw.receiving(received(most_bytes)), raw.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())

    def begin(self, raw: Raw, ticket: AnyTicket) -> None:
        self.driver.send(raw, begin(read_only=ticket.read_only))

    def _run_elsewhere(self, sql: str, seconds: float) -> None:
        helper = self._open(seconds)
        try:
            helper.query(sql)
        finally:
            helper.close()


def _keep_alive(own: socket.socket) -> None:
    """Let the kernel find out that the other side has gone, where it can."""
    if own.family == socket.AF_UNIX:
        return
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {**KEEPALIVE, "TCP_USER_TIMEOUT": USER_TIMEOUT_MILLISECONDS}
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:  # not on every system
            own.setsockopt(socket.IPPROTO_TCP, option, value)
