"""psycopg2's handlers: with a connection for each request, a pool, and one that is kept."""

from __future__ import annotations

import io
import json
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool
from psycopg2 import errors, sql

from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.servers import PostgreSQL

HANDLERS: list[Handler] = []
KEPT: list[Handler] = []
INSERT = "INSERT INTO item (name, n) VALUES (%s, %s)"
NAMES = "SELECT name FROM item ORDER BY name"


class World:
    """
    How an app comes to its connections.

    Attributes:
        url: Of the database.
        connection: Gives one for the length of a block.
    """

    def __init__(self, url: str, connection: Callable[[], Any]) -> None:
        self.url = url
        self.connection = connection


def failed(act: Callable[[], Any]) -> str:
    """Say what an act has failed with."""
    try:
        act()
    except psycopg2.Error as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def add(world: World, name: str) -> Any:
    with world.connection() as connection, connection, connection.cursor() as cursor:
        cursor.execute(INSERT, (name, 0))
    return name


# Statements and what they tell -------------------------------------------------------------------


@handler(HANDLERS)
def insert(world: World) -> Any:
    with world.connection() as connection:
        cursor = connection.cursor()
        cursor.execute(f"{INSERT} RETURNING id", ("new", 1))
        connection.commit()
        return [cursor.fetchone(), cursor.rowcount, cursor.lastrowid, cursor.statusmessage]


@handler(HANDLERS)
def what_a_cursor_tells(world: World) -> Any:
    with world.connection() as connection:
        cursor = connection.cursor()
        told = [cursor.description, cursor.rowcount, cursor.statusmessage, cursor.query]
        cursor.execute("SELECT id, name, n FROM item ORDER BY id")
        told += [[column.name for column in cursor.description], cursor.rowcount, cursor.rownumber]
        told += [cursor.fetchmany(1), cursor.rownumber, cursor.fetchall(), cursor.fetchone()]
        cursor.scroll(0, mode="absolute")
        told += [list(cursor), cursor.query.decode(), cursor.statusmessage, cursor.closed]
        cursor.execute("UPDATE item SET n = n + 1 WHERE name = %(name)s", {"name": "one"})
        told += [cursor.rowcount, cursor.statusmessage, cursor.description, cursor.query.decode()]
        cursor.arraysize = 2
        cursor.execute(NAMES)
        told += [cursor.fetchmany(), type(cursor).__name__, cursor.connection is connection]
        cursor.close()
        try:
            cursor.fetchone()
        except psycopg2.InterfaceError as error:
            told.append(str(error))
        connection.commit()
        return told


@handler(HANDLERS)
def no_results(world: World) -> Any:
    with world.connection() as connection:
        cursor = connection.cursor()
        told: list[Any] = []
        for text in ("BEGIN", "SET CONSTRAINTS ALL DEFERRED", "SAVEPOINT a", "COMMIT"):
            cursor.execute(text)
            told.append([cursor.description, cursor.rowcount, cursor.statusmessage])
            try:
                cursor.fetchone()
            except psycopg2.ProgrammingError as error:
                told.append(str(error))
        connection.rollback()
        return told


@handler(HANDLERS)
def many(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.executemany(INSERT, [(f"n{number}", number) for number in range(5)])
        counted = cursor.rowcount
        psycopg2.extras.execute_values(
            cursor, "INSERT INTO item (name, n) VALUES %s", [("v1", 1), ("v2", 2)]
        )
        given = psycopg2.extras.execute_values(
            cursor,
            "INSERT INTO item (name, n) VALUES %s RETURNING name",
            [("w1", 1), ("w2", 2), ("w3", 3)],
            page_size=2,
            fetch=True,
        )
        psycopg2.extras.execute_batch(cursor, INSERT, [("x1", 1), ("x2", 2)])
        connection.commit()
        return [counted, given]


@handler(HANDLERS)
def many_in_autocommit(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        connection.autocommit = True
        with suppress(errors.UniqueViolation):
            cursor.executemany(INSERT, [("a", 1), ("b", 2), ("one", 3), ("c", 4)])
        cursor.executemany(INSERT, iter([("d", 1), ("e", 2)]))
        counted = cursor.rowcount
        connection.autocommit = False
        return counted


@handler(HANDLERS)
def composed(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        query = sql.SQL("SELECT {}, {} FROM {} ORDER BY 1").format(
            sql.Identifier("name"), sql.Literal("it's"), sql.Identifier("item")
        )
        cursor.execute(query)
        rows = cursor.fetchall()
        cursor.execute(b"SELECT 1 %% %s", [3])
        told = cursor.mogrify(INSERT, ("ä'", None)).decode()
        rows.append(cursor.fetchone())
        connection.rollback()
        return [rows, told]


@handler(HANDLERS)
def several_in_one_text(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO item (name) VALUES ('a'); SELECT count(*) FROM item")
        counted = cursor.fetchone()
        connection.commit()
        return [counted, cursor.statusmessage]


@handler(HANDLERS)
def procedures(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        given = cursor.callproc("lower", ["ABC"])
        rows = cursor.fetchall()
        cursor.callproc("upper", ("abc",))
        rows += cursor.fetchall()
        connection.commit()
        return [given, rows]


@handler(HANDLERS)
def copies(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.copy_from(io.StringIO("c1\t1\nc2\t2\n"), "item", columns=("name", "n"))
        counted = cursor.rowcount
        cursor.copy_expert("COPY item (name, n) FROM STDIN (FORMAT csv)", io.StringIO("c3,3\n"))
        out = io.StringIO()
        cursor.copy_to(out, "item", columns=("name", "n"))
        cursor.copy_expert("COPY (SELECT name FROM item ORDER BY name) TO STDOUT", out)
        connection.commit()
        return [counted, sorted(out.getvalue().split("\n")), cursor.rowcount]


@handler(HANDLERS)
def copies_in_autocommit(world: World) -> Any:
    with world.connection() as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.copy_from(io.StringIO("c1\t1\n"), "item", columns=("name", "n"))
            try:
                cursor.copy_from(io.StringIO("c1\t1\n"), "item", columns=("name", "n"))
            except errors.UniqueViolation as error:
                found = error.diag.constraint_name
            cursor.execute(INSERT, ("b", 1))
        connection.autocommit = False
        return found


# Classes -----------------------------------------------------------------------------------------


@handler(HANDLERS)
def rows_of_all_kinds(world: World) -> Any:
    extras = psycopg2.extras
    kinds = (extras.DictCursor, extras.RealDictCursor, extras.NamedTupleCursor)
    told: list[Any] = []
    with world.connection() as connection:
        for kind in kinds:
            with connection.cursor(cursor_factory=kind) as cursor:
                cursor.execute("SELECT id, name, n FROM item ORDER BY id")
                told += [json.loads(json.dumps(cursor.fetchone())), repr(cursor.fetchmany(1))]
                cursor.execute("SELECT name, n FROM item ORDER BY id")
                told += [repr(list(cursor)), type(cursor).__name__]
                cursor.execute(f"{NAMES} LIMIT 1")
                row = cursor.fetchall()[0]
                told.append(row.name if kind is extras.NamedTupleCursor else row["name"])
            with connection.cursor("named", kind) as cursor:
                cursor.execute("SELECT name, n FROM item ORDER BY id")
                told.append([repr(cursor.fetchone()), repr(list(cursor))])
        connection.rollback()
    return told


class Shouting(psycopg2.extensions.cursor):  # type: ignore[misc]
    """An app's own class, which changes what it sends and what it gets."""

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002  # as psycopg2's
        self.said = f"{query}!"
        return super().execute(query, vars)

    def fetchone(self) -> Any:
        row = super().fetchone()
        return row and tuple(str(value).upper() for value in row)

    def insert(self, name: str) -> Any:
        self.execute(INSERT, (name, 1))
        return self.rowcount


class Connection(psycopg2.extensions.connection):  # type: ignore[misc]
    """An app's own class of connections, which counts its commits."""

    commits = 0

    def cursor(self, *args: Any, **options: Any) -> Any:
        options.setdefault("cursor_factory", Shouting)
        return super().cursor(*args, **options)

    def commit(self) -> None:
        self.commits += 1
        super().commit()


@handler(HANDLERS)
def own_classes(world: World) -> Any:
    with closing(psycopg2.connect(world.url, connection_factory=Connection)) as connection:
        cursor = connection.cursor()
        told = [cursor.insert("a"), cursor.said]
        cursor.execute(NAMES)
        told += [cursor.fetchone(), cursor.fetchall(), isinstance(cursor, Shouting)]
        with connection:
            cursor.insert("b")
        connection.commit()
        return [*told, connection.commits]


class SetUp(psycopg2.extensions.connection):  # type: ignore[misc]
    """An app's own class, which sets its connections up, outside of batches."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        with self.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self.is_its_own = cursor.fetchone() == (self.get_backend_pid(),)
            cursor.execute("SET TIME ZONE 'Asia/Tokyo'")
        self.commit()


@handler(HANDLERS)
def set_up_by_its_class(world: World) -> Any:
    with closing(psycopg2.connect(world.url, connection_factory=SetUp)) as connection:
        return connection.is_its_own


@handler(HANDLERS)
def factories_that_are_functions(world: World) -> Any:
    extensions = psycopg2.extensions

    def factory(connection: Any, *args: Any, **options: Any) -> Any:
        return extensions.cursor(connection, *args, **options)

    with world.connection() as connection:
        cursor = connection.cursor(cursor_factory=factory)
        cursor.execute(INSERT, ("a", 1))
        other = connection.cursor(cursor_factory=lambda one, *more: Shouting(one, *more))
        told = other.insert("b")
        connection.commit()
        named = connection.cursor("c", cursor_factory=factory)
        named.execute(NAMES)
        rows = named.fetchall()
        connection.commit()
    with closing(psycopg2.connect(world.url, cursor_factory=Shouting)) as connection:
        connection.cursor().insert("c")
        connection.commit()

    def connects(dsn: str, async_: int = 0) -> Any:
        return Connection(dsn, async_)

    with closing(psycopg2.connect(world.url, connection_factory=connects)) as connection:
        connection.cursor().insert("d")
        connection.commit()
    return [told, rows]


@handler(HANDLERS)
def logging_connection(world: World) -> Any:
    logger = logging.getLogger("tests.of_psycopg2")
    logger.propagate = False
    told: list[str] = []
    log = logging.Handler()
    log.emit = lambda record: told.append(str(record.msg))  # type: ignore[method-assign]
    logger.addHandler(log)
    logger.setLevel(logging.DEBUG)
    opened = psycopg2.connect(world.url, connection_factory=psycopg2.extras.LoggingConnection)
    with closing(opened) as connection:
        connection.initialize(logger)
        connection.cursor().execute(INSERT, ("a", 1))
        connection.commit()
    logger.removeHandler(log)
    return told


# Types -------------------------------------------------------------------------------------------


@handler(HANDLERS)
def types_of_a_connection(world: World) -> Any:
    extensions = psycopg2.extensions
    whole = extensions.new_type((23,), "WHOLE", lambda value, cursor: f"whole {value}")
    short = extensions.new_type((23,), "SHORT", lambda value, cursor: f"short {value}")
    with closing(psycopg2.connect(world.url)) as connection:
        extensions.register_type(whole, connection)
        cursor, other = connection.cursor(), connection.cursor()
        extensions.register_type(short, other)
        told = []
        for one in (cursor, other):
            one.execute("SELECT n, name FROM item ORDER BY name")
            told.append(one.fetchall())
        with closing(psycopg2.connect(world.url)) as plain, plain.cursor() as third:
            third.execute("SELECT n FROM item ORDER BY name")
            told.append(third.fetchall())
        return told


@handler(HANDLERS)
def types_of_the_driver(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        psycopg2.extras.register_uuid(conn_or_curs=connection)
        psycopg2.extras.register_default_jsonb(connection, loads=lambda text: f"json {text}")
        wanted = uuid.UUID(int=5)
        cursor.execute(
            "SELECT %s::uuid, %s::jsonb, ARRAY[1, 2], now() > '2000-01-01', 1.50::numeric,"
            " int4range(1, 5), '1 day'::interval, ROW(1, 'x'), %s::bytea",
            (wanted, psycopg2.extras.Json({"a": 1}), psycopg2.Binary(b"\x00\xff")),
        )
        row = cursor.fetchone()
        connection.rollback()
        return [repr(value) for value in row[:-1]] + [bytes(row[-1]).hex()]


@handler(HANDLERS)
def types_that_are_asked_for(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TYPE pair AS (left_one int, right_one text)")
        psycopg2.extras.register_composite("pair", cursor)
        cursor.execute("SELECT (1, 'x')::pair")
        told = repr(cursor.fetchone())
        connection.rollback()
        return told


@handler(HANDLERS)
def row_factories(world: World) -> Any:
    class Row(list[Any]):
        def __init__(self, cursor: Any) -> None:
            super().__init__([None] * len(cursor.description))
            self.of = cursor

    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, name FROM item ORDER BY id")
        first = cursor.fetchone()
        cursor.row_factory = Row
        row = cursor.fetchone()
        told = [first, row, row.of is cursor]
        cursor.row_factory = None
        cursor.tzinfo_factory = None
        cursor.execute("SELECT '2020-01-01 00:00+00'::timestamptz")
        told.append(cursor.fetchone()[0].tzinfo is None)
        connection.rollback()
        return told


# Transactions ------------------------------------------------------------------------------------


@handler(HANDLERS)
def rollback(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        connection.rollback()
        cursor.execute(INSERT, ("b", 1))
        connection.commit()
        cursor.execute(NAMES)
        names = cursor.fetchall()
        connection.commit()
        return names


@handler(HANDLERS)
def forgotten_commit(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        return cursor.rowcount


@handler(HANDLERS)
def dropped_without_closing(world: World) -> Any:
    connection = psycopg2.connect(world.url)
    connection.cursor().execute(INSERT, ("a", 1))
    del connection
    return "done"


@handler(HANDLERS)
def blocks(world: World) -> Any:
    with world.connection() as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute(INSERT, ("a", 1))
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(INSERT, ("b", 1))
                raise UndoError
        except UndoError:
            pass
        return connection.closed


@handler(HANDLERS)
def blocks_in_autocommit(world: World) -> Any:
    with world.connection() as connection:
        connection.autocommit = True
        told = []
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(INSERT, ("a", 1))
                told += [connection.status, connection.info.transaction_status]
                raise UndoError
        except UndoError:
            pass
        with connection, connection.cursor() as cursor:
            cursor.execute(INSERT, ("b", 1))
            cursor.execute("SELECT count(*) FROM item")
            told.append(cursor.fetchone())
        connection.cursor().execute(INSERT, ("c", 1))
        told += [connection.status, connection.info.transaction_status]
        connection.autocommit = False
        return told


@handler(HANDLERS)
def savepoints(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        cursor.execute("SAVEPOINT inner_one")
        cursor.execute(INSERT, ("b", 1))
        cursor.execute("ROLLBACK TO SAVEPOINT inner_one")
        try:
            cursor.execute(INSERT, ("one", 1))
        except psycopg2.IntegrityError:
            cursor.execute("ROLLBACK TO SAVEPOINT inner_one")
        cursor.execute("RELEASE SAVEPOINT inner_one")
        cursor.execute(INSERT, ("c", 1))
        connection.commit()
    return "done"


@handler(HANDLERS)
def caught(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        told: list[Any] = []
        try:
            cursor.execute(INSERT, ("one", 1))
        except errors.UniqueViolation as error:
            told += [error.pgcode, error.diag.constraint_name, type(error.cursor).__name__]
        told += [connection.status, connection.get_transaction_status()]
        try:
            cursor.execute(NAMES)
        except errors.InFailedSqlTransaction as error:
            told.append(error.pgcode)
        told.append(cursor.query.decode())
        connection.rollback()
        told += [connection.status, connection.info.transaction_status]
        cursor.execute(INSERT, ("b", 1))
        told += [connection.status, connection.info.transaction_status]
        connection.commit()
        return told


@handler(HANDLERS)
def syntax_errors(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        connection.commit()
        try:
            cursor.execute("SELEC 1")
        except errors.SyntaxError as error:
            found = [error.diag.statement_position, error.pgcode]
        connection.rollback()
        cursor.execute(INSERT, ("b", 1))
        connection.commit()
        return found


@handler(HANDLERS)
def autocommit(world: World) -> Any:
    with world.connection() as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(INSERT, ("a", 1))
        connection.rollback()
        with suppress(psycopg2.IntegrityError):
            cursor.execute(INSERT, ("one", 1))
        told = [connection.status, connection.info.transaction_status]
        cursor.execute("BEGIN")
        cursor.execute(INSERT, ("b", 1))
        told += [connection.status, connection.info.transaction_status]
        cursor.execute("ROLLBACK")
        cursor.execute(INSERT, ("c", 1))
        told += [connection.autocommit, connection.isolation_level]
        connection.autocommit = False
        cursor.execute(INSERT, ("d", 1))
        try:
            connection.autocommit = True
        except psycopg2.ProgrammingError as error:
            told.append(str(error))
        connection.rollback()
        return told


@handler(HANDLERS)
def session(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection, connection.cursor() as cursor:
        connection.set_session(isolation_level="READ COMMITTED", readonly=True)
        told: list[Any] = [connection.isolation_level, connection.readonly]
        cursor.execute(NAMES)
        told.append(cursor.fetchall())
        for change in (
            lambda: connection.set_session(readonly=False),
            lambda: setattr(connection, "readonly", False),
            lambda: setattr(connection, "isolation_level", None),
        ):
            try:
                change()
            except psycopg2.ProgrammingError as error:
                told.append(str(error))
        connection.rollback()
        connection.readonly = None
        connection.isolation_level = None
        cursor.execute(INSERT, ("a", 1))
        connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_AUTOCOMMIT)
        cursor.execute(INSERT, ("b", 1))
        told += [connection.autocommit, connection.closed]
        return told


@handler(HANDLERS, because="set to read only")
def writes_where_it_only_reads(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection:
        connection.readonly = True
        try:
            connection.cursor().execute(INSERT, ("a", 1))
        except errors.ReadOnlySqlTransaction as error:
            return str(error)
    return "not reached"


@handler(HANDLERS, because="SERIALIZABLE")
def stricter_level(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection:
        connection.isolation_level = "SERIALIZABLE"
        connection.cursor().execute(INSERT, ("a", 1))
        connection.commit()
    return "done"


@handler(HANDLERS)
def deferred_constraint(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        cursor.execute("INSERT INTO line (item) SELECT id FROM item WHERE name = 'a'")
        connection.commit()
    return "done"


@handler(HANDLERS)
def deferred_and_violated(world: World) -> Any:
    """It is told at the handler's own commit, or at the end of a statement that commits."""
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        cursor.execute("INSERT INTO line (item) VALUES (999)")
        told = [failed(connection.commit), connection.get_transaction_status()]
        connection.autocommit = True
        told.append(failed(lambda: cursor.execute("INSERT INTO line (item) VALUES (999)")))
        connection.autocommit = False
        cursor.execute(INSERT, ("b", 1))
        connection.commit()
        return told


@handler(HANDLERS)
def two_connections(world: World) -> Any:
    with (
        closing(psycopg2.connect(world.url)) as one,
        closing(psycopg2.connect(world.url)) as other,
    ):
        one.cursor().execute(INSERT, ("a", 1))
        one.commit()
        cursor = other.cursor()
        cursor.execute(NAMES)
        names = cursor.fetchall()
        other.rollback()
        one.cursor().execute(INSERT, ("b", 1))
        one.rollback()
        return names


@handler(HANDLERS)
def settings(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection, connection.cursor() as cursor:
        told = []
        cursor.execute("SET TIME ZONE 'Asia/Tokyo'")
        connection.commit()
        cursor.execute("SET LOCAL search_path = pg_catalog")
        cursor.execute("SHOW search_path")
        told.append(cursor.fetchone())
        connection.commit()
        for name in ("search_path", "TimeZone"):
            cursor.execute(f"SHOW {name}")
            told.append(cursor.fetchone())
        connection.rollback()
        return told


@handler(HANDLERS)
def notices(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection, connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        connection.commit()
        return connection.notices


# Cursors in the server ---------------------------------------------------------------------------


@handler(HANDLERS)
def named_cursors(world: World) -> Any:
    told: list[Any] = []
    with world.connection() as connection:
        with connection.cursor("it's") as cursor:
            cursor.itersize = 2
            cursor.execute("SELECT generate_series(%s::int, 7)", (1,))
            told += [cursor.description, cursor.rowcount, cursor.query.decode()]
            told += [cursor.fetchone(), cursor.fetchmany(2), next(cursor), cursor.rownumber]
            told += [[column.name for column in cursor.description], cursor.rowcount]
            told += [list(cursor), cursor.fetchone(), cursor.fetchall(), cursor.name]
        with connection.cursor("again", scrollable=True) as cursor:
            cursor.execute("SELECT generate_series(1, 7)")
            cursor.scroll(3)
            told.append(cursor.fetchone())
            cursor.scroll(0, mode="absolute")
            told.append(cursor.fetchmany())
            try:
                cursor.execute("SELECT 1")
            except psycopg2.ProgrammingError as error:
                told.append(str(error))
        connection.commit()
    return told


@handler(HANDLERS)
def named_cursors_that_end(world: World) -> Any:
    told: list[Any] = []
    with world.connection() as connection:
        cursor = connection.cursor("c")
        cursor.execute(NAMES)
        connection.commit()
        for use in (cursor.fetchone, cursor.fetchall, cursor.close, lambda: next(cursor)):
            try:
                told.append(use())
            except psycopg2.ProgrammingError as error:
                told.append(str(error))
        again = connection.cursor("c")
        again.execute(NAMES)
        told.append(again.fetchall())
        connection.rollback()
        held = connection.cursor("h", withhold=True)
        held.execute(NAMES)
        connection.commit()
        told += [held.fetchone(), held.fetchall()]
        held.close()
        connection.commit()
        connection.autocommit = True
        try:
            connection.cursor("e").execute(NAMES)
        except psycopg2.ProgrammingError as error:
            told.append(str(error))
        held = connection.cursor("h", withhold=True)
        held.execute(NAMES)
        told.append(list(held))
        held.close()
        connection.autocommit = False
    return told


@handler(HANDLERS)
def named_cursors_that_fail(world: World) -> Any:
    with world.connection() as connection:
        told: list[Any] = []
        cursor = connection.cursor("c")
        uses: list[Callable[[], Any]] = [
            lambda: cursor.executemany("SELECT 1", []),
            lambda: cursor.callproc("now"),
        ]
        for use in uses:
            try:
                use()
            except psycopg2.ProgrammingError as error:
                told.append(str(error))
        cursor.execute("SELECT 1 / (n - 1) FROM generate_series(0, 3) AS n")
        told.append(cursor.fetchone())
        try:
            cursor.fetchone()
        except errors.DivisionByZero as error:
            told.append(error.pgcode)
        cursor.close()
        connection.rollback()
        with connection, connection.cursor() as other:
            other.execute(INSERT, ("a", 1))
        return told


# What cannot be part of a batch ------------------------------------------------------------------


@handler(HANDLERS, because="tpc_begin()")
def two_phases(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection:
        connection.tpc_begin(connection.xid(1, "a", "b"))
        connection.cursor().execute(INSERT, ("a", 1))
        connection.tpc_commit()
    return "done"


@handler(HANDLERS, because="LISTEN")
def listens(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("LISTEN news")
        connection.poll()
        return [str(one) for one in connection.notifies]


@handler(HANDLERS, because="lobject()")
def large_objects(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection:
        one = connection.lobject(0, "w")
        one.write("x")
        one.unlink()
        connection.commit()
    return "done"


@handler(HANDLERS, because="asynchronous connection")
def asynchronous(world: World) -> Any:
    with closing(psycopg2.connect(world.url, async_=1)) as connection:
        psycopg2.extras.wait_select(connection)
        cursor = connection.cursor()
        cursor.execute(INSERT, ("a", 1))
        psycopg2.extras.wait_select(connection)
        return cursor.rowcount


@handler(HANDLERS, because="client encoding")
def other_encoding(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 'ä'")
        told = cursor.fetchall()
        connection.rollback()
        connection.set_client_encoding("LATIN1")
        cursor.execute("SELECT 'ä'")
        return told + cursor.fetchall()


@handler(HANDLERS)
def reset(world: World) -> Any:
    with closing(psycopg2.connect(world.url)) as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        connection.reset()
        cursor.execute(INSERT, ("b", 1))
        connection.commit()
    return "done"


@handler(HANDLERS)
def green(world: World) -> Any:
    psycopg2.extensions.set_wait_callback(psycopg2.extras.wait_select)
    try:
        with closing(psycopg2.connect(world.url)) as connection, connection.cursor() as cursor:
            cursor.execute(INSERT, ("a", 1))
            connection.commit()
            cursor.execute(NAMES)
            return cursor.fetchall()
    finally:
        psycopg2.extensions.set_wait_callback(None)


# Opened in several ways --------------------------------------------------------------------------


@library("psycopg2", driver="psycopg2", is_async=False, handlers=HANDLERS, add=add)
async def per_request(store: PostgreSQL) -> AsyncIterator[World]:
    yield World(store.url, lambda: closing(psycopg2.connect(store.url)))


@library(
    "psycopg2-pool",
    driver="psycopg2",
    is_async=False,
    handlers=HANDLERS,
    add=add,
    early="of psycopg2 was opened before",
)
async def pooled(store: PostgreSQL) -> AsyncIterator[World]:
    pool = psycopg2.pool.ThreadedConnectionPool(1, 5, store.url)

    @contextmanager
    def connection() -> Iterator[Any]:
        taken = pool.getconn()
        try:
            yield taken
        finally:
            pool.putconn(taken)

    yield World(store.url, connection)
    pool.closeall()


# One cursor for all requests, made before, as tutorials do ---------------------------------------


def add_by_kept(cursor: Any, name: str) -> Any:
    cursor.execute(INSERT, (name, 0))
    cursor.connection.commit()
    return name


@handler(KEPT)
def insert_by_kept(cursor: Any) -> Any:
    cursor.execute(f"{INSERT} RETURNING id", ("new", 1))
    cursor.connection.commit()
    told = [cursor.fetchone(), cursor.rowcount, type(cursor).__name__]
    cursor.execute(NAMES)
    told.append([row["name"] for row in cursor])
    cursor.connection.commit()
    return told


@handler(KEPT)
def rollback_by_kept(cursor: Any) -> Any:
    cursor.execute(INSERT, ("a", 1))
    cursor.connection.rollback()
    return "done"


@library(
    "psycopg2-kept",
    driver="psycopg2",
    is_async=False,
    handlers=KEPT,
    add=add_by_kept,
    early="of psycopg2 was opened before",
)
async def kept(store: PostgreSQL) -> AsyncIterator[Any]:
    with closing(psycopg2.connect(store.url)) as connection:
        yield connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor)


@library("psycopg2-own-class", driver="psycopg2", is_async=False, handlers=KEPT, add=add_by_kept)
async def kept_of_own_class(store: PostgreSQL) -> AsyncIterator[Any]:
    factory = psycopg2.extras.RealDictConnection
    with closing(psycopg2.connect(store.url, connection_factory=factory)) as connection:
        yield connection.cursor()
