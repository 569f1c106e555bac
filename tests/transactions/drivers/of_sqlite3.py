"""The handlers of sqlite3 itself: a connection for each request, in all its styles."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from typing import Any

from tests.transactions.drivers.files import File
from tests.transactions.drivers.libraries import Handler, UndoError, handler, library, on_loop

HANDLERS: list[Handler] = []
INSERT = "INSERT INTO item (name, n) VALUES (?, ?)"
COUNT = "SELECT count(*) FROM item"


def add(path: str, name: str) -> Any:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(INSERT, (name, 0))
    return name


# Transactions ------------------------------------------------------------------------------------


@handler(HANDLERS)
def insert(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(INSERT, ("new", 1))
        connection.commit()
        return [cursor.lastrowid, cursor.rowcount]


@handler(HANDLERS)
def with_connection(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(INSERT, ("new", 1))
    return "done"


@handler(HANDLERS)
def with_connection_and_an_error(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        try:
            with connection:
                connection.execute(INSERT, ("a", 1))
                raise UndoError
        except UndoError:
            pass
        with connection:
            connection.execute(INSERT, ("b", 1))
    return "done"


@handler(HANDLERS)
def explicit_begin(path: str) -> Any:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        states = [connection.in_transaction]
        connection.execute("BEGIN IMMEDIATE")
        states.append(connection.in_transaction)
        connection.execute(INSERT, ("a", 1))
        connection.execute("COMMIT")
        states.append(connection.in_transaction)
        connection.execute("begin")
        connection.execute(INSERT, ("b", 1))
        connection.execute("rollback")
        return states


@handler(HANDLERS)
def each_commits(path: str) -> Any:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(INSERT, ("a", 1))
        state = connection.in_transaction
        connection.rollback()
        return state


@handler(HANDLERS)
def nested(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(INSERT, ("a", 1))
        connection.execute("SAVEPOINT inner")
        connection.execute(INSERT, ("b", 1))
        connection.execute("ROLLBACK TO inner")
        connection.execute("RELEASE inner")
        connection.commit()
        return connection.execute(COUNT).fetchone()


@handler(HANDLERS)
def savepoint_that_begins(path: str) -> Any:
    # Outside of a transaction its release is COMMIT.
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("SAVEPOINT one")
        connection.execute(INSERT, ("a", 1))
        state = connection.in_transaction
        connection.execute("RELEASE one")
        return [state, connection.in_transaction]


@handler(HANDLERS)
def rollback(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(INSERT, ("a", 1))
        connection.rollback()
        connection.execute(INSERT, ("b", 1))
        connection.commit()
    return "done"


@handler(HANDLERS)
def forgotten_commit(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(INSERT, ("a", 1))
        return connection.in_transaction


@handler(HANDLERS)
def in_transaction(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        states = [connection.in_transaction]
        connection.execute(COUNT)
        states.append(connection.in_transaction)
        connection.execute(INSERT, ("a", 1))
        states.append(connection.in_transaction)
        connection.commit()
        states.append(connection.in_transaction)
        return states


@handler(HANDLERS)
def isolation_level_switched(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        levels: list[Any] = [connection.isolation_level]
        connection.execute(INSERT, ("a", 1))
        connection.isolation_level = None  # commits
        levels += [connection.isolation_level, connection.in_transaction]
        connection.execute(INSERT, ("b", 1))
        connection.isolation_level = "IMMEDIATE"
        connection.execute(INSERT, ("c", 1))
        connection.rollback()
        return levels


@handler(HANDLERS)
def schema_in_a_transaction(path: str) -> Any:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE gone (id INTEGER)")
        connection.execute("INSERT INTO gone VALUES (1)")
        found = connection.execute("SELECT count(*) FROM gone").fetchone()
        connection.execute("ROLLBACK")
        return found


@handler(HANDLERS)
def two_connections(path: str) -> Any:
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(path)) as other:
        with one:
            one.execute(INSERT, ("a", 1))
        with other:
            other.execute(INSERT, ("b", 1))
        return one.execute(COUNT).fetchone()


@handler(HANDLERS)
def reader_beside_a_writer(path: str) -> Any:
    with closing(sqlite3.connect(path)) as reader, closing(sqlite3.connect(path)) as writer:
        before = reader.execute(COUNT).fetchone()
        with writer:
            writer.execute(INSERT, ("a", 1))
        return [before, reader.execute(COUNT).fetchone()]


@handler(HANDLERS)
def two_connections_at_once(path: str) -> Any:
    # The other one waits for the lock, and gives up.
    found = "not locked"
    with (
        closing(sqlite3.connect(path, timeout=0.05)) as one,
        closing(sqlite3.connect(path, timeout=0.05)) as other,
    ):
        one.execute(INSERT, ("a", 1))
        try:
            other.execute(INSERT, ("b", 1))
        except sqlite3.OperationalError as error:
            found = f"{error}, {error.sqlite_errorname}"
        one.rollback()
        other.rollback()
        other.execute("BEGIN IMMEDIATE")
        try:
            one.execute(INSERT, ("c", 1))
        except sqlite3.OperationalError as error:
            found += f"; {error}"
        one.rollback()
        other.execute("COMMIT")
        one.execute(INSERT, ("d", 1))
        one.commit()
    return found


@handler(HANDLERS)
def waits_for_another_thread(path: str) -> Any:
    written, waits = threading.Event(), threading.Event()

    def work() -> None:
        with closing(sqlite3.connect(path)) as other:
            other.execute(INSERT, ("a", 1))
            written.set()
            waits.wait(0.2)
            other.commit()

    thread = threading.Thread(target=work)
    thread.start()
    written.wait(5)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE item SET n = n + 1 WHERE name = 'a'")
    thread.join()
    return "done"


# Errors ------------------------------------------------------------------------------------------


@handler(HANDLERS)
def caught(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(INSERT, ("a", 1))
        try:
            connection.execute(INSERT, ("one", 1))
        except sqlite3.IntegrityError as error:
            found = [str(error), error.sqlite_errorname]
        connection.execute(INSERT, ("b", 1))
        connection.commit()
    return found


@handler(HANDLERS)
def caught_and_rolled_back(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        try:
            with connection:
                connection.execute(INSERT, ("a", 1))
                connection.execute(INSERT, ("one", 1))
        except sqlite3.IntegrityError as error:
            return str(error)
    return "not reached"


@handler(HANDLERS)
def wrong_sql(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        found = []
        for sql in ("SELECT * FROM nothing", "INSERT INTO item (nothing) VALUES (1)", "NONSENSE"):
            try:
                connection.execute(sql)
            except sqlite3.OperationalError as error:
                found.append(str(error))
        return found


@handler(HANDLERS)
def closed(path: str) -> Any:
    connection = sqlite3.connect(path)
    cursor = connection.cursor()
    connection.close()
    found = []
    for act in (
        lambda: cursor.execute(COUNT),
        lambda: connection.execute(COUNT),
        connection.commit,
    ):
        try:
            act()
        except sqlite3.ProgrammingError as error:
            found.append(str(error))
    connection.close()
    return found


@handler(HANDLERS)
def other_thread(path: str) -> Any:
    found: list[str] = []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(INSERT, ("a", 1))

        def work() -> None:
            try:
                connection.execute(INSERT, ("b", 1))
            except sqlite3.ProgrammingError as error:
                found.append(str(error).partition(".")[0])

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        connection.commit()
    return found


@handler(HANDLERS)
def several_threads(path: str) -> Any:
    def work(name: str) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(INSERT, (name, 1))

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "done"


# Ways to execute ---------------------------------------------------------------------------------


@handler(HANDLERS)
def many(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.executemany(INSERT, ((f"n{n}", n) for n in range(5)))
        connection.commit()
        return cursor.rowcount


@handler(HANDLERS)
def many_that_fails(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        with suppress(sqlite3.IntegrityError):
            connection.executemany(INSERT, [("a", 1), ("one", 1), ("b", 1)])
        connection.commit()
        return connection.execute(COUNT).fetchone()


@handler(HANDLERS)
def script(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(INSERT, ("before", 1))  # which the script commits
        connection.executescript(
            """
            -- a comment; with a semicolon
            INSERT INTO item (name, n) VALUES ('a;b', 1);
            BEGIN;
            INSERT INTO item (name, n) VALUES ('c', 1);
            COMMIT;
            CREATE TRIGGER counts AFTER INSERT ON item WHEN NEW.name = 'd' BEGIN
              UPDATE item SET n = n + 1 WHERE name = 'one';
              UPDATE item SET n = n + 1 WHERE name = 'two';
            END;
            INSERT INTO item (name, n) VALUES ('d', 1);
            DROP TRIGGER counts;
            SELECT * FROM item;
            INSERT INTO item (name, n) VALUES ('e', 1)
            """
        )
        return connection.in_transaction


@handler(HANDLERS)
def script_left_open(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("BEGIN; INSERT INTO item (name) VALUES ('a');")
        state = connection.in_transaction
        connection.rollback()
        return state


@handler(HANDLERS)
def script_that_fails(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        try:
            connection.executescript(
                "INSERT INTO item (name) VALUES ('a'); INSERT INTO item (name) VALUES ('one')"
            )
        except sqlite3.IntegrityError as error:
            return str(error)
    return "not reached"


@handler(HANDLERS)
def cursors(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        with closing(connection.cursor()) as cursor:
            cursor.execute(COUNT)
            names = [column[0] for column in cursor.description]
            same = cursor.connection is connection
            cursor.execute(INSERT, ("a", 1))
            after = [cursor.description, cursor.rowcount, cursor.fetchall()]
            cursor.execute("SELECT name FROM item ORDER BY name")
            first = next(cursor)
            rest = list(cursor)
            connection.commit()
        return [names, same, after, first, rest]


@handler(HANDLERS)
def returning(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"{INSERT} RETURNING id, name", ("a", 1)).fetchall()
        connection.commit()
        return rows


@handler(HANDLERS)
def cte(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "WITH old AS (SELECT name, n FROM item) INSERT INTO item (name, n)"
            " SELECT name || '2', n FROM old WHERE name = 'one'"
        )
        connection.commit()
        return connection.execute(COUNT).fetchone()


@handler(HANDLERS)
def fetched_later(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute("SELECT name FROM item ORDER BY name")
        first = cursor.fetchone()
        connection.execute(INSERT, ("zzz", 1))
        connection.commit()
        return [first, cursor.fetchmany(1)]


@handler(HANDLERS)
def control_by_a_cursor(path: str) -> Any:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT name FROM item")
        cursor.execute("BEGIN")
        begun = [cursor.fetchall(), cursor.description]
        cursor.execute(INSERT, ("a", 1))
        cursor.execute("COMMIT")
        return [begun, cursor.fetchone()]


@handler(HANDLERS)
def total_changes(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        found = [connection.total_changes]
        connection.execute("UPDATE item SET n = n + 1 WHERE name IN ('one', 'two')")
        found.append(connection.total_changes)
        connection.commit()
        connection.execute("DELETE FROM item WHERE name = 'one'")
        found.append(connection.total_changes)
        connection.rollback()
        return found


@handler(HANDLERS)
def dump(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(INSERT, ("a", 1))
        lines = list(connection.iterdump())
        return [line for line in lines if line.startswith('INSERT INTO "item"')]


@handler(HANDLERS, because="backup()")
def backup_into_memory(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(":memory:")) as copy:
        connection.backup(copy)
        copy.execute("DELETE FROM item WHERE name = 'one'")
        return copy.execute(COUNT).fetchone()


@handler(HANDLERS, because="backup()")
def backup_into_the_file(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(":memory:")) as copy:
        connection.backup(copy)
        copy.execute(INSERT, ("a", 1))
        copy.commit()
        copy.backup(connection)
    return "done"


@handler(HANDLERS, because="blobopen()")
def blob_written(path: str) -> Any:
    with (
        closing(sqlite3.connect(path)) as connection,
        connection,
        connection.blobopen("item", "note", 1) as blob,
    ):
        blob.write(b"cba")
    return "done"


@handler(HANDLERS)
def blob_read(path: str) -> Any:
    with (
        closing(sqlite3.connect(path)) as connection,
        connection.blobopen("item", "note", 1, readonly=True) as blob,
    ):
        return blob.read().decode()


# What belongs to a connection --------------------------------------------------------------------


@handler(HANDLERS)
def row_factory(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        row = connection.execute("SELECT name, n FROM item ORDER BY name").fetchone()
        cursor = connection.cursor()
        cursor.row_factory = lambda _, values: list(values)
        return [dict(row), cursor.execute("SELECT name FROM item ORDER BY name").fetchone()]


@handler(HANDLERS)
def text_factory(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lambda text: text.decode().upper()
        return connection.execute("SELECT name FROM item ORDER BY name").fetchall()


@handler(HANDLERS, because="detect_types")
def detect_types(path: str) -> Any:
    with closing(sqlite3.connect(path, detect_types=sqlite3.PARSE_COLNAMES)) as connection:
        row = connection.execute("SELECT '2026-11-30' AS 'day [date]'").fetchone()
        return type(row[0]).__name__


@handler(HANDLERS)
def functions(path: str) -> Any:
    class Longest:
        def __init__(self) -> None:
            self.longest = ""

        def step(self, value: Any) -> None:
            self.longest = max(self.longest, value, key=len)

        def finalize(self) -> Any:
            return self.longest

    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("shout", 1, lambda text: text.upper() + "!")
        connection.create_aggregate("longest", 1, Longest)
        connection.create_collation("backwards", lambda one, other: (one < other) - (one > other))
        with connection:
            connection.execute("INSERT INTO item (name) SELECT shout(name) FROM item WHERE n > 0")
        return [
            connection.execute("SELECT longest(name) FROM item WHERE n > 0").fetchone(),
            connection.execute(
                "SELECT name FROM item WHERE n > 0 ORDER BY name COLLATE backwards"
            ).fetchall(),
        ]


@handler(HANDLERS)
def one_function_for_each_connection(path: str) -> Any:
    found = []
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(path)) as other:
        one.create_function("who", 0, lambda: "one", deterministic=False)
        other.create_function("who", 0, lambda: "other", deterministic=False)
        for connection in (one, other, one):
            found += connection.execute("SELECT who()").fetchone()
    return found


@handler(HANDLERS)
def function_beside_a_writer(path: str) -> Any:
    # A query that calls it needs no lock.
    with closing(sqlite3.connect(path)) as writer, closing(sqlite3.connect(path)) as reader:
        reader.create_function("shout", 1, lambda text: text.upper() + "!")
        writer.execute(INSERT, ("a", 1))
        found = reader.execute("SELECT shout(name) FROM item WHERE name = 'one'").fetchone()
        writer.rollback()
        return found


@handler(HANDLERS)
def authorizer(path: str) -> Any:
    may = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
    with closing(sqlite3.connect(path)) as connection:
        connection.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_OK if action in may else sqlite3.SQLITE_DENY
        )
        found = connection.execute("SELECT n FROM item WHERE name = 'one'").fetchone()
        try:
            connection.execute("DELETE FROM item")
        except sqlite3.DatabaseError as error:
            return [found, str(error)]
    return "not reached"


@handler(HANDLERS)
def progress_handler(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(INSERT, ("a", 1))
        connection.commit()
        connection.set_progress_handler(lambda: 1, 1)
        try:
            connection.execute(COUNT)
        except sqlite3.OperationalError as error:
            return str(error)
    return "not reached"


@handler(HANDLERS, because="PRAGMA foreign_keys")
def foreign_keys(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        found: list[Any] = [connection.execute("PRAGMA foreign_keys").fetchone()]
        try:
            connection.execute("INSERT INTO line (item) VALUES (999)")
        except sqlite3.IntegrityError as error:
            found.append(str(error))
        connection.rollback()
        return found


@handler(HANDLERS, because="PRAGMA foreign_keys")
def foreign_keys_switched(path: str) -> Any:
    # The neighbours' connections, and so the batch's, have them off.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(INSERT, ("a", 1))
        connection.commit()
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("INSERT INTO line (item) VALUES (1)")
        connection.commit()
    return "done"


@handler(HANDLERS)
def foreign_keys_in_a_transaction(path: str) -> Any:
    # SQLite takes no notice of it there.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(INSERT, ("a", 1))
        connection.execute("PRAGMA foreign_keys = ON")
        found = connection.execute("PRAGMA foreign_keys").fetchone()
        connection.commit()
        return found


@handler(HANDLERS)
def pragmas(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA cache_size = -2000")
        connection.execute("PRAGMA case_sensitive_like = ON")
        one = connection.execute("SELECT count(*) FROM item WHERE name LIKE 'ONE'").fetchone()
        with closing(sqlite3.connect(path)) as other:
            two = other.execute("SELECT count(*) FROM item WHERE name LIKE 'ONE'").fetchone()
        columns = connection.execute("PRAGMA table_info(line)").fetchall()
        return [one, two, columns, connection.execute("PRAGMA cache_size").fetchone()]


@handler(HANDLERS)
def query_only(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA query_only = ON")
        try:
            connection.execute(INSERT, ("a", 1))
        except sqlite3.OperationalError as error:
            found = str(error)
        connection.execute("PRAGMA query_only = OFF")
        connection.execute(INSERT, ("b", 1))
        connection.commit()
        return found


@handler(HANDLERS)
def read_only(path: str) -> Any:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found: list[Any] = [connection.execute(COUNT).fetchone()]
        try:
            connection.execute(INSERT, ("a", 1))
        except sqlite3.OperationalError as error:
            found.append(str(error))
        return found


@handler(HANDLERS)
def uri(path: str) -> Any:
    with closing(sqlite3.connect(f"file:{path}?cache=private", uri=True)) as connection:
        with connection:
            connection.execute(INSERT, ("a", 1))
        with closing(sqlite3.connect(path)) as other:
            return other.execute(COUNT).fetchone()


@handler(HANDLERS, because="attach")
def attached(path: str) -> Any:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("ATTACH ? AS other", (path,))
        connection.execute("INSERT INTO other.item (name) VALUES ('a')")
        connection.commit()
    return "done"


@handler(HANDLERS, because="attach")
def attaches(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ATTACH ':memory:' AS other")
        connection.execute(INSERT, ("a", 1))
        connection.commit()
    return "done"


@handler(HANDLERS, because="temporary")
def temporary_table(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TEMP TABLE some AS SELECT name FROM item")
        return connection.execute("SELECT count(*) FROM some").fetchone()


@handler(HANDLERS)
def memory_of_its_own(path: str) -> Any:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE scratch (n INTEGER)")
        connection.execute("INSERT INTO scratch VALUES (1)")
        return connection.execute("SELECT count(*) FROM scratch").fetchone()


@handler(HANDLERS)
def own_classes(path: str) -> Any:
    class Connection(sqlite3.Connection):
        def insert(self, name: str) -> Any:
            return self.cursor(Cursor).execute(INSERT, (name, 1))

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *args: Any) -> Any:
            return super().execute(sql, *args)

    with closing(sqlite3.connect(path, factory=Connection)) as connection, connection:
        cursor = connection.insert("a")
        return [type(cursor).__name__, type(connection).__name__, cursor.lastrowid]


@handler(HANDLERS)
def only_reads(path: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name FROM item ORDER BY name").fetchall()


if sys.version_info >= (3, 12):

    @handler(HANDLERS)
    def autocommit_off(path: str) -> Any:
        with closing(sqlite3.connect(path, autocommit=False)) as connection:
            states = [connection.in_transaction]
            connection.execute(INSERT, ("a", 1))
            connection.commit()
            states.append(connection.in_transaction)
            connection.execute(INSERT, ("b", 1))
            connection.rollback()
            return states

    @handler(HANDLERS)
    def autocommit_on(path: str) -> Any:
        with closing(sqlite3.connect(path, autocommit=True)) as connection:
            connection.execute(INSERT, ("a", 1))
            connection.rollback()
            return connection.in_transaction

    @handler(HANDLERS)
    def autocommit_switched(path: str) -> Any:
        with closing(sqlite3.connect(path)) as connection:
            connection.autocommit = True
            connection.execute(INSERT, ("a", 1))
            connection.autocommit = False
            connection.execute(INSERT, ("b", 1))
            connection.autocommit = True  # commits
            return [connection.autocommit, connection.in_transaction]


# Connections that are kept -----------------------------------------------------------------------


class Kept:
    """A connection and a cursor for the whole app, used by whoever comes."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, check_same_thread=False)
        self.cursor = self.connection.cursor()


KEPT: list[Handler] = []


def add_to_kept(kept: Kept, name: str) -> Any:
    with kept.connection:
        kept.connection.execute(INSERT, (name, 0))
    return name


@handler(KEPT)
def kept_connection(kept: Kept) -> Any:
    with kept.connection:
        return kept.connection.execute(INSERT, ("a", 1)).lastrowid


@handler(KEPT)
def kept_cursor(kept: Kept) -> Any:
    kept.cursor.execute(INSERT, ("a", 1))
    kept.connection.commit()
    same = kept.cursor.connection is kept.connection
    return [same, kept.cursor.execute(COUNT).fetchone()]


@handler(KEPT)
def kept_functions(kept: Kept) -> Any:
    kept.connection.create_function("twice", 1, lambda n: n * 2)
    return kept.connection.execute("SELECT twice(n) FROM item ORDER BY n").fetchall()


@handler(KEPT)
def kept_and_reset(kept: Kept) -> Any:
    kept.connection.execute(INSERT, ("a", 1))
    kept.connection.rollback()
    return kept.connection.execute(COUNT).fetchone()


@library("sqlite3", driver="sqlite3", is_async=False, handlers=HANDLERS, add=add)
async def per_request(file: File) -> AsyncIterator[str]:
    yield file.path


@library(
    "sqlite3-kept",
    driver="sqlite3",
    is_async=False,
    handlers=KEPT,
    add=add_to_kept,
    early="opened before",
)
async def kept(file: File) -> AsyncIterator[Kept]:
    world = Kept(file.path)
    yield world
    world.connection.close()


async def _add(path: str, name: str) -> Any:
    return add(path, name)


@library(
    "sqlite3-on-the-loop",
    driver="sqlite3",
    is_async=True,
    handlers=[on_loop(one) for one in HANDLERS],
    add=_add,
)
async def on_the_loop(file: File) -> AsyncIterator[str]:
    yield file.path
