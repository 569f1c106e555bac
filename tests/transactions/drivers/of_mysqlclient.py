"""mysqlclient's handlers: with a connection for each request, and with one that is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from typing import Any

import MySQLdb
from MySQLdb import cursors
from MySQLdb.connections import Connection
from MySQLdb.constants import FIELD_TYPE
from MySQLdb.converters import conversions

from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.servers import MariaDB

HANDLERS: list[Handler] = []
INSERT = "INSERT INTO item (name, n) VALUES (%s, %s)"
NAMES = "SELECT name FROM item ORDER BY name"


class World:
    """
    How an app comes to its connections.

    Attributes:
        connection: Gives one for the length of a block.
        connect: Opens another one, given options.
    """

    def __init__(
        self,
        connection: Callable[[], AbstractContextManager[Any]],
        connect: Callable[..., Any],
    ) -> None:
        self.connection = connection
        self.connect = connect


def add(world: World, name: str) -> Any:
    with world.connection() as connection:
        connection.cursor().execute(INSERT, (name, 0))
        connection.commit()
    return name


# Statements and what they tell -------------------------------------------------------------------


@handler(HANDLERS)
def insert(world: World) -> Any:
    with world.connection() as connection:
        cursor = connection.cursor()
        counted = cursor.execute(INSERT, ("new", 1))
        told = [counted, cursor.rowcount, cursor.lastrowid, connection.insert_id()]
        told += [connection.affected_rows(), connection.warning_count()]
        connection.commit()
        return told


@handler(HANDLERS)
def what_a_cursor_tells(world: World) -> Any:
    with world.connection() as connection:
        told: list[Any] = []
        for kind in (cursors.Cursor, cursors.DictCursor, cursors.SSCursor, cursors.SSDictCursor):
            with connection.cursor(kind) as cursor:
                counted = cursor.execute("SELECT name, n FROM item ORDER BY id")
                told += [counted, cursor.rowcount, [column[0] for column in cursor.description]]
                told += [
                    cursor.fetchone(),
                    cursor.fetchmany(1),
                    cursor.fetchall(),
                    cursor.rownumber,
                ]
                cursor.execute(NAMES)
                told += [list(cursor), cursor.fetchone(), type(cursor).__name__]
        cursor = connection.cursor()
        cursor.execute("UPDATE item SET n = n + 1 WHERE name = %(name)s", {"name": "one"})
        told += [cursor.rowcount, cursor.description, cursor.fetchall(), connection.info()]
        cursor.execute(NAMES)
        cursor.scroll(1)
        told += [cursor.fetchall(), cursor.mogrify("SELECT %s", ("ä'",)), cursor.warning_count]
        connection.commit()
        return told


@handler(HANDLERS)
def by_the_connection(world: World) -> Any:
    with world.connection() as connection:
        connection.query("INSERT INTO item (name) VALUES ('q')")
        told: list[Any] = [connection.affected_rows(), connection.store_result()]
        connection.query(b"SELECT name, n FROM item ORDER BY name")
        told.append(connection.field_count())
        result = connection.store_result()
        told += [result.num_rows(), result.num_fields(), result.fetch_row(1, 1)]
        told += [repr(result.fetch_row(0)), len(result.describe()), connection.affected_rows()]
        connection.query(NAMES)
        result = connection.use_result()
        rows = []
        while row := result.fetch_row():
            rows += row
        told += [rows, connection.next_result(), connection.more_results()]
        connection.query("SELECT 1; SELECT 2")
        told += [connection.store_result().fetch_row(0), connection.more_results()]
        told += [connection.next_result(), connection.store_result().fetch_row(0)]
        told += [connection.next_result(), connection.store_result()]
        connection.commit()
        return told


@handler(HANDLERS)
def many(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        told = [cursor.executemany(INSERT, [(f"n{number}", number) for number in range(5)])]
        told.append(cursor.rowcount)
        told.append(
            cursor.executemany("UPDATE item SET n = %s WHERE name = %s", [(8, "n1"), (9, "n2")])
        )
        connection.commit()
        return told


@handler(HANDLERS)
def many_in_one_text(world: World) -> Any:
    with world.connect(executemany_fallback="multi") as connection:
        cursor = connection.cursor()
        given = [(8, "one"), (9, "two")]
        told = [cursor.executemany("UPDATE item SET n = %s WHERE name = %s", given)]
        told.append(cursor.rowcount)
        connection.commit()
        return told


@handler(HANDLERS)
def several_in_one_text(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO item (name) VALUES ('a'); SELECT count(*) FROM item")
        told = [cursor.rowcount, cursor.nextset(), cursor.fetchall(), cursor.nextset()]
        connection.commit()
        return told


@handler(HANDLERS)
def warnings(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT CAST('x' AS SIGNED)")
        told = [cursor.fetchall(), connection.warning_count(), connection.show_warnings()]
        connection.rollback()
        return told


@handler(HANDLERS)
def converted(world: World) -> Any:
    own = {**conversions, FIELD_TYPE.LONG: lambda text: f"number {text.decode()}"}
    with closing(world.connect(conv=own, cursorclass=cursors.DictCursor)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT name, n FROM item ORDER BY name")
        told = list(cursor.fetchall())
    with world.connection() as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT n, CAST('2020-01-02' AS DATE), 1.50, x'00ff', NULL FROM item")
        told.append(repr(cursor.fetchall()))
        connection.rollback()
    return told


class Counting(Connection):  # type: ignore[misc]
    """An app's own class, which counts what it sends."""

    sent = 0

    def query(self, query: Any) -> Any:
        self.sent += 1
        return super().query(query)

    def store_result(self) -> Any:
        self.sent += 100
        return super().store_result()


@handler(HANDLERS)
def own_class(world: World) -> Any:
    with closing(world.connect(Counting)) as connection:
        before = connection.sent
        cursor = connection.cursor()
        cursor.execute(INSERT, ("a", 1))
        cursor.execute(NAMES)
        told = [cursor.fetchall(), connection.sent - before, type(connection).__name__]
        connection.commit()
        return told


@handler(HANDLERS)
def quoted(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ('it\'s \\ "ä"; -- DROP', 1))
        cursor.execute("SELECT name FROM item WHERE n = 1")
        told = [cursor.fetchall(), connection.escape_string(b"'").decode()]
        connection.commit()
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
        connection.commit()
        return cursor.fetchall()


@handler(HANDLERS)
def forgotten_commit(world: World) -> Any:
    with world.connect() as connection:
        return connection.cursor().execute(INSERT, ("a", 1))


@handler(HANDLERS)
def closed_without_commit(world: World) -> Any:
    with world.connect() as one:
        one.cursor().execute(INSERT, ("a", 1))
    with world.connect() as other:
        cursor = other.cursor()
        cursor.execute(NAMES)
        return cursor.fetchall()


@handler(HANDLERS)
def dropped_without_closing(world: World) -> Any:
    connection = world.connect()
    connection.cursor().execute(INSERT, ("a", 1))
    del connection
    return "done"


@handler(HANDLERS)
def savepoints(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        cursor.execute("SAVEPOINT inner_one")
        cursor.execute(INSERT, ("b", 1))
        cursor.execute("ROLLBACK TO SAVEPOINT inner_one")
        with suppress(MySQLdb.IntegrityError):
            cursor.execute(INSERT, ("one", 1))
        cursor.execute("RELEASE SAVEPOINT inner_one")
        cursor.execute(INSERT, ("c", 1))
        connection.commit()
    return "done"


@handler(HANDLERS)
def caught(world: World) -> Any:
    with world.connection() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        try:
            cursor.execute(INSERT, ("one", 1))
        except MySQLdb.IntegrityError as error:
            found = error.args[0]
        cursor.execute(INSERT, ("b", 1))
        connection.commit()
        return found


@handler(HANDLERS)
def autocommit(world: World) -> Any:
    with world.connection() as connection:
        told = [connection.get_autocommit()]
        cursor = connection.cursor()
        cursor.execute(INSERT, ("z", 1))
        connection.autocommit(True)
        connection.rollback()
        cursor.execute(INSERT, ("a", 1))
        connection.rollback()
        connection.begin()
        cursor.execute(INSERT, ("b", 1))
        connection.rollback()
        cursor.execute("START TRANSACTION")
        cursor.execute(INSERT, ("c", 1))
        cursor.execute("COMMIT")
        told += [connection.get_autocommit(), cursor.rowcount, cursor.description]
        connection.autocommit(False)
        cursor.execute(INSERT, ("d", 1))
        connection.rollback()
        told.append(connection.get_autocommit())
        return told


@handler(HANDLERS)
def autocommit_by_sql(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET autocommit = 1")
        told = [connection.get_autocommit()]
        cursor.execute(INSERT, ("a", 1))
        connection.rollback()
        cursor.execute("SET SESSION autocommit=OFF;")
        told.append(connection.get_autocommit())
        cursor.execute(INSERT, ("b", 1))
        connection.rollback()
        return told


@handler(HANDLERS)
def autocommit_from_the_start(world: World) -> Any:
    with world.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        with suppress(UndoError):
            connection.begin()
            try:
                cursor.execute(INSERT, ("b", 1))
                raise UndoError
            except UndoError:
                connection.rollback()
                raise
        return connection.get_autocommit()


@handler(HANDLERS)
def two_connections(world: World) -> Any:
    with world.connect() as one, world.connect() as other:
        one.cursor().execute(INSERT, ("a", 1))
        one.commit()
        cursor = other.cursor()
        cursor.execute(NAMES)
        other.rollback()
        one.cursor().execute(INSERT, ("b", 1))
        one.rollback()
        return cursor.fetchall()


@handler(HANDLERS)
def pings(world: World) -> Any:
    with world.connection() as connection:
        connection.ping()
        connection.cursor().execute(INSERT, ("a", 1))
        connection.ping()
        connection.commit()
        return [connection.open, connection.character_set_name(), connection.get_server_info()]


@handler(HANDLERS)
def closed(world: World) -> Any:
    connection = world.connect()
    cursor = connection.cursor()
    cursor.execute(INSERT, ("a", 1))
    connection.commit()
    connection.close()
    told = [connection.open]
    uses: list[Callable[[], Any]] = [
        connection.commit,
        connection.close,
        lambda: connection.query("SELECT 1"),
        lambda: cursor.execute("SELECT 1"),
    ]
    for use in uses:
        try:
            use()
        except MySQLdb.Error as error:
            told.append(type(error).__name__)
    return told


@handler(HANDLERS)
def settings(world: World) -> Any:
    with world.connect() as connection, world.connect() as other:
        cursor = connection.cursor()
        cursor.execute("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES', time_zone = '+05:00'")
        cursor.execute(INSERT, ("a\\'", 1))
        connection.commit()
        told = []
        for one in (connection, other, connection):
            cursor = one.cursor()
            cursor.execute("SELECT name, @@time_zone, @@sql_mode FROM item WHERE n = 1")
            told.append(cursor.fetchall())
            one.commit()
        return told


@handler(HANDLERS)
def temporary_table(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE mine (a INTEGER)")
        cursor.execute("INSERT INTO mine VALUES (1), (2)")
        cursor.execute("SELECT count(*) FROM mine")
        told = cursor.fetchall()
        cursor.execute("DROP TEMPORARY TABLE mine")
        return told


# What cannot be part of a batch ------------------------------------------------------------------


@handler(HANDLERS, because="commit at once")
def definitions(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE other (a INTEGER)")
        cursor.execute("DROP TABLE other")
    return "done"


@handler(HANDLERS, because="select_db()")
def other_schema(world: World) -> Any:
    with world.connect() as connection:
        connection.select_db("information_schema")
    return "done"


@handler(HANDLERS, because="change_user()")
def other_user(world: World) -> Any:
    with world.connect() as connection:
        try:
            connection.change_user("nobody", "wrong", "nowhere")
        except MySQLdb.Error as error:
            return type(error).__name__
    return "done"


@handler(HANDLERS, because="character set")
def other_characters(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 'ä'")
        connection.set_character_set("latin1")
        cursor.execute("SELECT 'ä'")
        return cursor.fetchall()


@handler(HANDLERS, because="send_query()")
def sent_ahead(world: World) -> Any:
    with world.connect() as connection:
        connection.send_query(b"SELECT 1")
        connection.read_query_result()
        return connection.store_result().fetch_row(0)


# Opened in several ways --------------------------------------------------------------------------


def connector(store: MariaDB) -> Callable[..., Any]:
    def connect(kind: Any = MySQLdb.connect, **options: Any) -> Any:
        return kind(**{**store.parameters, "charset": "utf8mb4", **options})

    return connect


@library("mysqlclient", driver="mysqlclient", is_async=False, handlers=HANDLERS, add=add)
async def per_request(store: MariaDB) -> AsyncIterator[World]:
    connect = connector(store)
    yield World(connect, connect)


@library(
    "mysqlclient-kept",
    driver="mysqlclient",
    is_async=False,
    handlers=HANDLERS,
    add=add,
    early="of MySQLdb that was opened before",
)
async def kept(store: MariaDB) -> AsyncIterator[World]:
    connect = connector(store)
    with connect() as connection:
        yield World(lambda: nullcontext(connection), connect)
