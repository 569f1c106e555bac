"""The handlers of PyMySQL itself: a connection for each request, and one that is kept."""

from __future__ import annotations

import threading
import warnings
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from typing import Any

import pymysql
from pymysql.constants import CLIENT, COMMAND
from pymysql.cursors import DictCursor, SSCursor, SSDictCursor

from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.servers import MariaDB

HANDLERS: list[Handler] = []
FLAGGED: list[Handler] = []
CODED: list[Handler] = []
KEPT: list[Handler] = []
INSERT = "INSERT INTO item (name, n) VALUES (%s, %s)"
COUNT = "SELECT count(*) FROM item"
PROCEDURE = (
    "DROP PROCEDURE IF EXISTS more",
    (
        "CREATE PROCEDURE more (IN number INT, OUT next INT) BEGIN"
        " SELECT number; INSERT INTO item (name) VALUES (CONCAT('p', number));"
        " SELECT count(*) FROM item; SET next = number + 1; END"
    ),
)


class World:
    """Where the handlers connect to, and how all of them do it."""

    def __init__(self, store: MariaDB, **options: Any) -> None:
        # Without ssl_disabled it reads the system's certificates each time.
        self.parameters = {**store.parameters, "ssl_disabled": True, **options}

    def connect(self, **options: Any) -> Any:
        return pymysql.connect(**{**self.parameters, **options})


def flags(connection: Any) -> list[bool]:
    """Whether statements commit by themselves, and whether a transaction is open."""
    return [connection.get_autocommit(), bool(connection.server_status & 1)]


def add(world: World, name: str) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, (name, 0))
        connection.commit()
    return name


# Transactions ------------------------------------------------------------------------------------


@handler(HANDLERS)
def insert(world: World) -> Any:
    with world.connect() as connection:
        cursor = connection.cursor()
        told = [cursor.execute(INSERT, ("new", 1)), flags(connection)]
        told += [cursor.lastrowid, cursor.rowcount, cursor.description, connection.insert_id()]
        connection.commit()
        return [*told, flags(connection), connection.affected_rows()]


@handler(HANDLERS)
def each_commits(world: World) -> Any:
    with world.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        told = flags(connection)
        connection.rollback()
        return [told, flags(connection)]


@handler(HANDLERS)
def explicit_begin(world: World) -> Any:
    with world.connect(autocommit=True) as connection, connection.cursor() as cursor:
        connection.begin()
        told = [flags(connection)]
        cursor.execute(INSERT, ("a", 1))
        connection.commit()
        told.append(flags(connection))
        cursor.execute("BEGIN")
        told += [flags(connection), cursor.rowcount, cursor.lastrowid]
        cursor.execute(INSERT, ("b", 1))
        cursor.execute("ROLLBACK")
        return [*told, flags(connection)]


@handler(HANDLERS)
def nested(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        cursor.execute("SAVEPOINT inner_one")
        cursor.execute(INSERT, ("b", 1))
        cursor.execute("ROLLBACK TO SAVEPOINT inner_one")
        cursor.execute("RELEASE SAVEPOINT inner_one")
        connection.commit()
        cursor.execute(COUNT)
        return cursor.fetchall()


@handler(HANDLERS)
def commands_of_its_own(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:

        def send(text: str) -> int:
            connection._execute_command(COMMAND.COM_QUERY, text)
            return int(connection._read_ok_packet().affected_rows)

        cursor.execute(INSERT, ("a", 1))
        told = [send("SAVEPOINT one"), send("INSERT INTO item (name) VALUES ('b'), ('c')")]
        told.append(send("ROLLBACK TO SAVEPOINT one"))
        told.append(send("UPDATE item SET n = 99 WHERE n > 0"))
        connection.commit()
        return [*told, flags(connection)]


@handler(HANDLERS)
def rollback(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        connection.rollback()
        told = flags(connection)
        cursor.execute(INSERT, ("b", 1))
        connection.commit()
    return told


@handler(HANDLERS)
def forgotten_commit(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        return flags(connection)


@handler(HANDLERS)
def dropped_connection(world: World) -> Any:
    connection = world.connect()
    connection.cursor().execute(INSERT, ("a", 1))
    del connection
    return "done"


@handler(HANDLERS)
def an_error_leaves_the_block(world: World) -> Any:
    with suppress(UndoError), world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        raise UndoError
    return "done"


@handler(HANDLERS)
def caught(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        try:
            cursor.execute(INSERT, ("one", 1))
        except pymysql.IntegrityError as error:
            told = list(error.args)
        cursor.execute(INSERT, ("b", 1))
        connection.commit()
    return told


@handler(HANDLERS)
def autocommit_switched(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        connection.autocommit(True)  # commits
        told = [flags(connection)]
        cursor.execute(INSERT, ("b", 1))
        connection.autocommit(False)
        cursor.execute(INSERT, ("c", 1))
        connection.rollback()
        cursor.execute("SET autocommit = 1")
        told.append(flags(connection))
        cursor.execute(INSERT, ("d", 1))
        connection.ping()
        return [*told, flags(connection)]


@handler(HANDLERS)
def read_only(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("START TRANSACTION READ ONLY")
        cursor.execute(COUNT)
        told = cursor.fetchall()
        connection.commit()
        cursor.execute(INSERT, ("a", 1))
        connection.commit()
    return told


@handler(HANDLERS, because="SERIALIZABLE")
def stricter(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        cursor.execute(INSERT, ("a", 1))
        connection.commit()
    return "done"


@handler(HANDLERS)
def two_connections(world: World) -> Any:
    with world.connect() as one, world.connect() as other:
        one.cursor().execute(INSERT, ("a", 1))
        one.commit()
        cursor = other.cursor()
        cursor.execute(COUNT)
        other.rollback()
        one.cursor().execute(INSERT, ("b", 1))
        one.rollback()
        return cursor.fetchall()


@handler(HANDLERS)
def each_with_its_settings(world: World) -> Any:
    first = "SET SESSION time_zone = '+03:00'"
    with world.connect(init_command=first) as one, world.connect() as other:
        told = []
        for command in ("SELECT 1", "SET SESSION time_zone = '+05:00', sql_mode = ''"):
            cursor = one.cursor()
            cursor.execute(command)
            for connection in (other, one, other):
                cursor = connection.cursor()
                cursor.execute("SELECT @@time_zone, @@sql_mode")
                told.append(cursor.fetchone())
        other.cursor().execute(INSERT, ("a", 1))
        other.commit()
        return told


@handler(HANDLERS)
def in_threads(world: World) -> Any:
    threads = [threading.Thread(target=add, args=(world, f"t{one}")) for one in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return "done"


@handler(HANDLERS, because="runs a statement (DDL, say)")
def ddl(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE item COMMENT 'x'")
    return "done"


@handler(HANDLERS, because="runs a statement (DDL, say)")
def lock_tables(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES item WRITE")
        cursor.execute("UNLOCK TABLES")
    return "done"


# Cursors and results -----------------------------------------------------------------------------


@handler(HANDLERS)
def read_after_write(world: World) -> Any:
    with world.connect(cursorclass=DictCursor) as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 7))
        cursor.execute("SELECT name, n FROM item ORDER BY name")
        told = [cursor.fetchone(), cursor.fetchmany(1), cursor.fetchall(), cursor.rowcount]
        connection.commit()
        return [*told, [column[0] for column in cursor.description]]


@handler(HANDLERS)
def many(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        told = [cursor.executemany(INSERT, [(f"n{n}", n) for n in range(5)]), cursor.lastrowid]
        change = "UPDATE item SET n = n + 1 WHERE name = %s"
        told.append(cursor.executemany(change, [("n1",), ("n2",), ("none",)]))
        connection.commit()
        return [*told, cursor.rowcount]


@handler(FLAGGED)
def found_rows(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        told = [cursor.execute("UPDATE item SET n = 10 WHERE name = 'one'")]
        connection.commit()
        return told


@handler(HANDLERS, because="client_flag")
def found_rows_or_not(world: World) -> Any:
    told = []
    for flag in (CLIENT.FOUND_ROWS, 0):
        with world.connect(client_flag=flag) as connection, connection.cursor() as cursor:
            told.append(cursor.execute("UPDATE item SET n = 10 WHERE name = 'one'"))
            connection.commit()
    return told


@handler(FLAGGED)
def several_statements(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO item (name) VALUES ('a'); SELECT name FROM item ORDER BY name; SELECT 5"
        )
        told: list[Any] = [cursor.rowcount]
        while cursor.nextset():
            told.append(cursor.fetchall())
        # Whoever does not fetch them all loses the rest.
        cursor.execute("SELECT 1; SELECT 2; SELECT 3")
        cursor.nextset()
        cursor.execute("SELECT 4")
        connection.commit()
        return [*told, cursor.fetchall(), cursor.nextset()]


@handler(FLAGGED)
def several_of_which_one_fails(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        told: list[Any] = [
            cursor.execute("UPDATE item SET n = 7 WHERE n > 0; INSERT INTO item SET name='one'")
        ]
        try:
            cursor.nextset()
        except pymysql.IntegrityError as error:
            told += error.args
        cursor.execute(COUNT)
        connection.commit()
        return [*told, cursor.fetchall()]


@handler(HANDLERS)
def unbuffered(world: World) -> Any:
    with world.connect() as connection, world.connect() as other:
        cursor = connection.cursor(SSCursor)
        told = [str(cursor.execute("SELECT name FROM item ORDER BY name")), cursor.rowcount > 99]
        told.append(cursor.fetchone())
        other.cursor().execute(INSERT, ("a", 1))
        other.commit()
        told += [cursor.fetchmany(5), cursor.fetchone(), cursor.rownumber, cursor.warning_count]
        cursor.close()
        with connection.cursor(SSDictCursor) as rows:
            rows.execute("SELECT name, n FROM item WHERE name = 'one'")
            told.append(list(rows))
        # The rest is dropped.
        cursor = connection.cursor(SSCursor)
        cursor.execute("SELECT name FROM item")
        cursor.fetchone()
        cursor.close()
        connection.cursor().execute(INSERT, ("b", 1))
        connection.commit()
        return told


@handler(HANDLERS)
def unbuffered_and_left(world: World) -> Any:
    with world.connect() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cursor = connection.cursor(SSCursor)
        cursor.execute("SELECT name FROM item ORDER BY name")
        told = [cursor.fetchone()]
        connection.ping()
        told.append(cursor.fetchone())
        return told


@handler(HANDLERS)
def procedure(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        told = [cursor.callproc("more", (3, 0)), cursor.fetchall()]
        while cursor.nextset():
            told.append(cursor.fetchall())
        cursor.execute("SELECT @_more_1")
        connection.commit()
        return [*told, cursor.fetchall()]


@handler(HANDLERS)
def warnings_shown(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT IGNORE INTO item (name) VALUES ('one')")
        told = [cursor.warning_count, connection.show_warnings()]
        cursor.execute("SELECT 1")
        told.append(connection.show_warnings())
        connection.commit()
        return told


@handler(HANDLERS)
def last_insert_id(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("a", 1))
        cursor.execute("SELECT LAST_INSERT_ID()")
        connection.commit()
        return [cursor.fetchall(), connection.insert_id()]


@handler(HANDLERS)
def converters(world: World) -> Any:
    def shout(text: Any) -> str:
        return f"{text}!"

    conversions = {**pymysql.converters.conversions, 3: shout, 8: shout}
    with world.connect(conv=conversions) as connection, world.connect() as other:
        told = []
        for one in (connection, other, connection):
            cursor = one.cursor()
            cursor.execute("SELECT n, name FROM item ORDER BY n")
            told.append(cursor.fetchall())
        return told


@handler(CODED)
def texts_of_its_session(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("grün", 1))
        cursor.execute("SELECT group_concat(name ORDER BY name) FROM item")
        connection.commit()
        return [cursor.fetchall(), connection.charset]


@handler(HANDLERS)
def another_character_set(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT, ("grün", 1))
        connection.set_character_set("latin1")
        cursor.execute(INSERT, ("weiß", 1))
        connection.commit()
        cursor.execute("SELECT @@character_set_client")
        connection.set_character_set("utf8mb4")
        return [cursor.fetchall(), connection.charset, connection.encoding]


@handler(HANDLERS)
def a_statement_in_bytes(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        connection.query(b"INSERT INTO item (name) VALUES ('\xc3\xbc')")
        cursor.execute("INSERT INTO item (name, note) VALUES (%s, %s)", ("b", b"\x00\x01"))
        connection.commit()
        return connection.affected_rows()


@handler(HANDLERS)
def closed(world: World) -> Any:
    connection = world.connect()
    connection.cursor().execute(INSERT, ("a", 1))
    connection.commit()
    connection.close()
    told = [connection.open]
    for act in (lambda: connection.query(COUNT), connection.close, connection.commit):
        try:
            act()
        except pymysql.Error as error:
            told.append(repr(error))
    return told


@handler(HANDLERS)
def reconnects(world: World) -> Any:
    with world.connect() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connection.cursor().execute(INSERT, ("a", 1))
        connection.commit()
        connection.cursor().execute(INSERT, ("b", 1))
        connection._force_close()
        connection.ping(reconnect=True)
        told = flags(connection)
        connection.cursor().execute(INSERT, ("c", 1))
        connection.commit()
        return told


@handler(HANDLERS, because="select_db")
def another_database(world: World) -> Any:
    with world.connect() as connection:
        connection.cursor().execute(INSERT, ("a", 1))
        connection.commit()
        connection.select_db("information_schema")
    return "done"


@handler(HANDLERS)
def selects_its_database(world: World) -> Any:
    with world.connect(database="mysql") as connection:
        connection.select_db(world.parameters["database"])
        connection.cursor().execute(INSERT, ("a", 1))
        connection.commit()
    return "done"


@handler(HANDLERS, because="LOAD DATA LOCAL")
def loads_a_file(world: World) -> Any:
    with world.connect(local_infile=True) as connection, connection.cursor() as cursor:
        with suppress(pymysql.Error):
            cursor.execute("LOAD DATA /* ours */ LOCAL INFILE '/none' INTO TABLE item")
        connection.rollback()
    return "done"


@handler(HANDLERS)
def only_reads(world: World) -> Any:
    with world.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, n, now() > 1 FROM item ORDER BY name")
        return list(cursor)


# A connection that is kept -----------------------------------------------------------------------


def add_by_kept(connection: Any, name: str) -> Any:
    connection.cursor().execute(INSERT, (name, 0))
    connection.commit()
    return name


@handler(KEPT)
def kept_insert(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute(INSERT, ("a", 1))
    connection.commit()
    return [cursor.lastrowid, flags(connection)]


@handler(KEPT)
def kept_rollback(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute(INSERT, ("a", 1))
    connection.rollback()
    cursor.execute(COUNT)
    told = cursor.fetchall()
    connection.rollback()
    return [told, flags(connection)]


@handler(KEPT)
def kept_mode(connection: Any) -> Any:
    cursor = connection.cursor()
    connection.autocommit(True)
    cursor.execute(INSERT, ("a", 1))
    told = flags(connection)
    connection.autocommit(False)
    cursor.execute(INSERT, ("b", 1))
    told += flags(connection)
    connection.rollback()
    return told


@handler(KEPT)
def kept_time_zone(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute("SET SESSION time_zone = '+05:00'")
    cursor.execute("SELECT @@time_zone")
    told = cursor.fetchone()
    cursor.execute("SET SESSION time_zone = 'SYSTEM'")
    connection.rollback()
    return told


@library("pymysql", driver="pymysql", is_async=False, handlers=HANDLERS, add=add)
async def per_request(store: MariaDB) -> AsyncIterator[World]:
    store.run(*PROCEDURE)
    yield World(store)


@library("pymysql-flags", driver="pymysql", is_async=False, handlers=FLAGGED, add=add)
async def flagged(store: MariaDB) -> AsyncIterator[World]:
    yield World(store, client_flag=CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS)


@library("pymysql-latin1", driver="pymysql", is_async=False, handlers=CODED, add=add)
async def coded(store: MariaDB) -> AsyncIterator[World]:
    yield World(store, charset="latin1", init_command="SET SESSION group_concat_max_len = 4")


@library("pymysql-kept", driver="pymysql", is_async=False, handlers=KEPT, add=add_by_kept)
async def kept(store: MariaDB) -> AsyncIterator[Any]:
    with closing(World(store).connect()) as connection:
        yield connection
