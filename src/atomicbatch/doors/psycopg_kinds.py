"""What an adapter has to know of psycopg's connections, sync and async: how to ask, how to open."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

from atomicbatch.doors.server_uses import Kind
from atomicbatch.drivers import psycopg, psycopg_ahead, psycopg_async
from atomicbatch.drivers.driver import AsyncDriver, State, SyncDriver
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver
from atomicbatch.sql.kinds import Family

T = TypeVar("T")


def _place(connection: Any) -> Place | None:
    info = info_of(connection)
    return of_server("postgresql", info.host, info.port, info.dbname)


PSYCOPG = Driver("psycopg", Family.POSTGRESQL, _place)


def info_of(connection: Any) -> Any:
    """Make psycopg's ``info`` of a connection's own, whatever stands for it in a batch."""
    return _module().ConnectionInfo(connection.pgconn)


class _Psycopg:
    """What is the same for both; see ``doors/server_uses.py``."""

    named: Driver = PSYCOPG

    def state(self, connection: Any) -> State:
        return psycopg.state(connection)

    def is_auto(self, connection: Any) -> bool:
        return bool(connection.autocommit)

    def level(self, connection: Any) -> str:
        level = connection.isolation_level
        return "" if level is None else _module().IsolationLevel(level).name.replace("_", " ")

    def is_read_only(self, connection: Any) -> bool:
        return bool(connection.read_only)

    def sends_ahead(self, wire: Any) -> bool:
        return psycopg_ahead.is_able(wire)


class SyncPsycopg(_Psycopg):
    """``psycopg.Connection``."""

    driver: SyncDriver | AsyncDriver = psycopg
    is_async: bool = False

    def ask(self, connection: Any, text: str) -> Any:
        # Not by a cursor, which would begin a transaction, and take the lock that a handler's
        # statement holds already.
        return _first_value(connection, connection.wait(_asking(connection, text)))

    def open(self, connection: Any) -> Any:
        return _module().Connection.connect(**_keywords(connection), **_PLAIN)

    def adopt(self, wire: Any) -> None:
        wire.rollback()
        wire.set_autocommit(True)
        _make_plain(wire, _module().Cursor)

    def close(self, wire: Any) -> None:
        with suppress(Exception):
            wire.close()

    def perform_after(self, wire: Any, texts: Sequence[str], perform: Callable[[], T]) -> T:
        return psycopg_ahead.perform_after(wire, texts, perform, partial(psycopg.send, wire))


class AsyncPsycopg(_Psycopg):
    """``psycopg.AsyncConnection``."""

    driver: SyncDriver | AsyncDriver = psycopg_async
    is_async: bool = True

    async def ask(self, connection: Any, text: str) -> Any:
        return _first_value(connection, await connection.wait(_asking(connection, text)))

    async def open(self, connection: Any) -> Any:
        return await _module().AsyncConnection.connect(**_keywords(connection), **_PLAIN)

    async def adopt(self, wire: Any) -> None:
        await wire.rollback()
        await wire.set_autocommit(True)
        _make_plain(wire, _module().AsyncCursor)

    async def close(self, wire: Any) -> None:
        with suppress(Exception):
            await wire.close()

    async def perform_after(
        self, wire: Any, texts: Sequence[str], perform: Callable[[], Awaitable[T]]
    ) -> T:
        send = partial(psycopg_async.send, wire)
        return await psycopg_ahead.perform_after_async(wire, texts, perform, send)


SYNC, ASYNC = SyncPsycopg(), AsyncPsycopg()


def kind_of(connection: Any) -> Kind:
    """Tell which kind a connection is of."""
    return ASYNC if isinstance(connection, _module().AsyncConnection) else SYNC


# The wire prepares nothing: psycopg would go on to use what ROLLBACK TO has undone. What the app's
# own connection has prepared stays in use outside of the batch, and is not asked for inside.
_PLAIN: dict[str, Any] = {"autocommit": True, "prepare_threshold": None}


def _module() -> Any:
    return sys.modules["psycopg"]


def _make_plain(wire: Any, cursor_class: type) -> None:
    wire.prepare_threshold = None
    wire.cursor_factory = cursor_class
    wire.row_factory = _module().rows.tuple_row


def _asking(connection: Any, text: str) -> Generator[Any, Any, Any]:
    """Make psycopg's generator that sends a query as it is."""
    return connection._exec_command(text.encode())  # type: ignore[no-any-return]


def _first_value(connection: Any, result: Any) -> Any:
    """Convert the first column of the first row, whatever the app has registered for its own."""
    module = _module()
    context = SimpleNamespace(adapters=module.adapters, connection=connection)
    transformer = module.adapt.Transformer(context)
    transformer.set_pgresult(result)
    row = transformer.load_row(0, tuple)
    return None if row is None else row[0]


def _keywords(connection: Any) -> dict[str, Any]:
    """Tell what another connection to the same server is opened with."""
    info = info_of(connection)
    keywords: dict[str, Any] = info.get_parameters()
    if info.password:
        keywords["password"] = info.password
    if any("," in keywords.get(name, "") for name in ("host", "hostaddr", "port")):
        # Of several servers, the one that has answered.
        keywords.pop("hostaddr", None)
        keywords["host"], keywords["port"] = info.host, str(info.port)
    return keywords
