"""The handlers of psycopg's sync connections: of a pool, kept, one for each call, in autocommit."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.adapt import Dumper, Loader
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, scalar_row
from psycopg.types.enum import EnumInfo
from psycopg.types.json import Json
from psycopg_pool import ConnectionPool, NullConnectionPool

from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.servers import PostgreSQL

INSERT = "INSERT INTO item (name, n) VALUES (%s, %s)"
COUNT = "SELECT count(*) FROM item"

Take = Callable[[], AbstractContextManager[Any]]
"""Lends a connection."""

# What works in all modes of a connection.
EVERYWHERE: list[Handler] = []
# What begins by itself, or commits by itself.
IN_TRANSACTIONS: list[Handler] = []
IN_AUTOCOMMIT: list[Handler] = []


def add(take: Take, name: str) -> Any:
    with take() as connection, connection.transaction():
        connection.execute(INSERT, (name, 0))
    return name


def state_of(connection: Any) -> str:
    return TransactionStatus(connection.info.transaction_status).name


def failed(act: Callable[[], Any]) -> str:
    """Say what an act has failed with."""
    try:
        act()
    except Exception as error:
        # Without the address of what it is about.
        return f"{type(error).__name__}: {str(error).splitlines()[0].partition('<')[0]}"
    return "nothing"


# Transactions ------------------------------------------------------------------------------------


@handler(EVERYWHERE)
def block(take: Take) -> Any:
    with take() as connection:
        states = [state_of(connection)]
        with connection.transaction() as transaction:
            connection.execute(INSERT, ("new", 1))
            states += [state_of(connection), transaction.status.value]
        states += [state_of(connection), transaction.status.value]
        return states


@handler(EVERYWHERE)
def block_undone(take: Take) -> Any:
    with take() as connection:
        with suppress(UndoError), connection.transaction():
            connection.execute(INSERT, ("a", 1))
            raise UndoError
        with connection.transaction() as transaction:
            connection.execute(INSERT, ("b", 1))
            raise psycopg.Rollback
        with connection.transaction(force_rollback=True) as forced:
            connection.execute(INSERT, ("c", 1))
            count = connection.execute(COUNT).fetchone()
        with connection.transaction():
            connection.execute(INSERT, ("d", 1))
        return [count, transaction.status.value, forced.status.value, state_of(connection)]


@handler(EVERYWHERE)
def blocks_in_blocks(take: Take) -> Any:
    with take() as connection, connection.transaction() as outer:
        connection.execute(INSERT, ("a", 1))
        with connection.transaction() as inner:
            connection.execute(INSERT, ("b", 1))
            raise psycopg.Rollback(inner)
        with connection.transaction("named") as named:
            connection.execute(INSERT, ("c", 1))
            found = failed(lambda: connection.commit())
        with suppress(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute(INSERT, ("one", 1))
        connection.execute(INSERT, ("d", 1))
        return [found, named.savepoint_name, inner.savepoint_name, outer.savepoint_name]


@handler(IN_TRANSACTIONS)
def begin_where_a_statement_has_failed(take: Take) -> Any:
    with take() as connection:
        found = [failed(lambda: connection.execute(INSERT, ("one", 1)))]
        found.append(failed(lambda: connection.execute("BEGIN")))
        found.append(failed(lambda: connection.execute("SAVEPOINT a")))
        connection.rollback()
        connection.execute(INSERT, ("a", 1))
        return found


@handler(EVERYWHERE)
def outer_undone(take: Take) -> Any:
    with take() as connection:
        with connection.transaction() as outer:
            connection.execute(INSERT, ("a", 1))
            with connection.transaction():
                connection.execute(INSERT, ("b", 1))
                raise psycopg.Rollback(outer)
        return connection.execute(COUNT).fetchone()


@handler(EVERYWHERE)
def out_of_order(take: Take) -> Any:
    with take() as connection:
        one, two = connection.transaction(), connection.transaction()
        one.__enter__()
        two.__enter__()
        return [
            failed(lambda: one.__exit__(None, None, None)),
            failed(lambda: two.__exit__(None, None, None)),
            failed(connection.rollback),
        ]


@handler(EVERYWHERE)
def raw_control(take: Take) -> Any:
    with take() as connection:
        found = []
        for text in ("BEGIN", "SAVEPOINT x", "ROLLBACK TO x", "RELEASE x", "COMMIT", "ROLLBACK"):
            if text == "ROLLBACK TO x":
                connection.execute(INSERT, ("gone", 1))
            if text == "COMMIT":
                connection.execute(INSERT, ("kept", 1))
            cursor = connection.execute(text)
            found.append([cursor.statusmessage, cursor.description, state_of(connection)])
        return found


@handler(EVERYWHERE)
def started_by_hand(take: Take) -> Any:
    with take() as connection:
        connection.rollback()
        cursor = connection.cursor()
        cursor.execute("start transaction read write")
        found = [cursor.statusmessage, cursor.rowcount]
        cursor.execute(INSERT, ("a", 1))
        found += [cursor.statusmessage, cursor.rowcount]
        cursor.execute("end")
        return [*found, cursor.statusmessage, failed(cursor.fetchone).partition(":")[0]]


@handler(EVERYWHERE)
def commit_of_a_broken_one(take: Take) -> Any:
    with take() as connection:
        connection.execute("BEGIN")
        connection.execute(INSERT, ("a", 1))
        found = [failed(lambda: connection.execute(INSERT, ("one", 1))), state_of(connection)]
        found.append(failed(lambda: connection.execute(COUNT)))
        found += [connection.execute("COMMIT").statusmessage, state_of(connection)]
        return found


@handler(IN_TRANSACTIONS)
def commits(take: Take) -> Any:
    with take() as connection:
        states = [state_of(connection)]
        cursor = connection.execute(f"{INSERT} RETURNING id", ("new", 1))
        states += [state_of(connection), cursor.fetchone()]
        connection.commit()
        connection.commit()
        connection.rollback()
        return [*states, state_of(connection), cursor.rowcount]


@handler(IN_TRANSACTIONS)
def rolls_back(take: Take) -> Any:
    with take() as connection:
        connection.execute(INSERT, ("a", 1))
        connection.rollback()
        connection.execute(INSERT, ("b", 1))
        connection.commit()
        connection.execute(INSERT, ("c", 1))
        connection.rollback()
    return "done"


@handler(IN_TRANSACTIONS)
def given_back_open(take: Take) -> Any:
    with suppress(UndoError), take() as connection:
        connection.execute(INSERT, ("a", 1))
        raise UndoError
    with take() as connection:
        state = state_of(connection)
        connection.execute(INSERT, ("b", 1))
        connection.commit()
        return state


@handler(IN_TRANSACTIONS)
def caught(take: Take) -> Any:
    with take() as connection:
        connection.execute(INSERT, ("a", 1))
        found = [failed(lambda: connection.execute(INSERT, ("one", 1))), state_of(connection)]
        found += [failed(lambda: connection.execute(COUNT)), failed(connection.commit)]
        connection.execute(INSERT, ("b", 1))
        connection.commit()
        return [*found, state_of(connection)]


@handler(IN_TRANSACTIONS)
def caught_in_a_savepoint(take: Take) -> Any:
    with take() as connection:
        connection.execute(INSERT, ("a", 1))
        connection.execute("SAVEPOINT here")
        found = failed(lambda: connection.execute(INSERT, ("one", 1)))
        connection.execute("ROLLBACK TO SAVEPOINT here")
        connection.execute(INSERT, ("b", 1))
        connection.commit()
        return found


@handler(IN_TRANSACTIONS)
def not_in_the_middle(take: Take) -> Any:
    with take() as connection:
        connection.execute(COUNT)
        found = [failed(lambda: connection.set_autocommit(True))]
        found.append(failed(lambda: setattr(connection, "read_only", True)))
        connection.rollback()
        connection.autocommit = True
        connection.execute(INSERT, ("a", 1))
        found += [state_of(connection), connection.autocommit]
        connection.rollback()
        connection.autocommit = False
        return found


@handler(IN_AUTOCOMMIT)
def each_commits(take: Take) -> Any:
    with take() as connection:
        connection.execute(INSERT, ("a", 1))
        states = [state_of(connection)]
        connection.rollback()
        states.append(failed(lambda: connection.execute(INSERT, ("one", 1))))
        states.append(state_of(connection))
        connection.execute(INSERT, ("b", 1))
        return states


@handler(IN_AUTOCOMMIT)
def switched_off(take: Take) -> Any:
    with take() as connection:
        connection.autocommit = False
        connection.execute(INSERT, ("a", 1))
        connection.rollback()
        connection.execute(INSERT, ("b", 1))
        connection.commit()
        connection.set_autocommit(True)
        connection.execute(INSERT, ("c", 1))
        return connection.autocommit


@handler(IN_AUTOCOMMIT)
def cursor_without_a_transaction(take: Take) -> Any:
    with take() as connection:
        cursor = connection.cursor("c")
        found = failed(lambda: cursor.execute("SELECT name FROM item"))
        cursor.close()
        with connection.cursor("c", withhold=True) as held:
            held.execute("SELECT name FROM item ORDER BY id")
            return [found, held.fetchall()]


@handler(EVERYWHERE)
def read_only_transaction(take: Take) -> Any:
    with take() as connection:
        connection.rollback()
        connection.read_only = True
        with connection.transaction():
            count = connection.execute(COUNT).fetchone()
        connection.read_only = None
        return count


@handler(EVERYWHERE, because="SERIALIZABLE")
def stricter(take: Take) -> Any:
    with take() as connection:
        connection.rollback()
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        try:
            with connection.transaction():
                connection.execute(INSERT, ("a", 1))
        finally:
            connection.rollback()
            connection.isolation_level = None
    return "done"


# Several connections -----------------------------------------------------------------------------


@handler(EVERYWHERE)
def one_after_another(take: Take) -> Any:
    for name in ("a", "b", "c"):
        with take() as connection, connection.transaction():
            connection.execute(INSERT, (name, 1))
    return "done"


SEVERAL: list[Handler] = []


@handler(SEVERAL)
def reader_beside_a_writer(take: Take) -> Any:
    with take() as reader, take() as writer:
        before = reader.execute(COUNT).fetchone()
        with writer.transaction():
            writer.execute(INSERT, ("a", 1))
        return [before, reader.execute(COUNT).fetchone()]


@handler(SEVERAL)
def several_threads(take: Take) -> Any:
    def work(name: str) -> None:
        with take() as connection, connection.transaction():
            connection.execute(INSERT, (name, 1))

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "done"


@handler(SEVERAL)
def cursors_of_one_name(take: Take) -> Any:
    with (
        take() as one,
        take() as two,
        one.transaction(),
        two.transaction(),
        one.cursor("c") as first,
        two.cursor("c") as second,
    ):
        first.execute("SELECT name FROM item ORDER BY id")
        second.execute("SELECT name FROM item ORDER BY id DESC")
        return [first.fetchone(), second.fetchone(), first.fetchone(), second.fetchall()]


@handler(SEVERAL)
def copied_while_another_reads(take: Take) -> Any:
    with take() as one, take() as two:
        with one.transaction(), one.cursor().copy("COPY item (name, n) FROM STDIN") as copy:
            query = "SELECT name, n FROM item WHERE name IN ('one', 'two') ORDER BY id"
            for name, n in two.execute(query):
                copy.write_row([f"{name}-again", n])
                two.execute("SELECT 1")
        return two.execute(f"{COUNT} WHERE name LIKE '%again'").fetchone()


@handler(SEVERAL)
def given_while_another_reads(take: Take) -> Any:
    with take() as one, take() as two, one.transaction():
        names = ((name, two.execute("SELECT 7").fetchone()[0]) for name in ("a", "b", "c"))
        one.cursor().executemany(INSERT, names)
    return "done"


# Statements --------------------------------------------------------------------------------------


@handler(EVERYWHERE)
def cursors(take: Take) -> Any:
    with take() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, n FROM item ORDER BY id")
        found: list[Any] = [column.name for column in cursor.description]
        found += [cursor.rowcount, cursor.connection is connection, cursor.rownumber]
        found += [cursor.fetchone(), cursor.fetchmany(1), cursor.fetchall(), cursor.statusmessage]
        cursor.scroll(0, "absolute")
        found += [list(cursor)]
        with connection.transaction():
            cursor.execute(INSERT, ("a", 1))
        found += [cursor.rowcount, cursor.description, cursor.statusmessage]
        found.append(failed(cursor.fetchone))
    return [*found, cursor.closed, failed(lambda: cursor.execute("SELECT 1"))]


@handler(EVERYWHERE)
def row_factories(take: Take) -> Any:
    with take() as connection:
        by_name = connection.cursor(row_factory=dict_row)
        found = [by_name.execute("SELECT name, n FROM item ORDER BY id").fetchall()]
        alone = connection.cursor(row_factory=scalar_row)
        found.append(alone.execute("SELECT n FROM item ORDER BY id").fetchall())
        own, connection.row_factory = connection.row_factory, dict_row
        try:
            found.append(connection.execute("SELECT 1 AS x").fetchone())
        finally:
            connection.row_factory = own
        return found


class Name:
    def __init__(self, text: str) -> None:
        self.text = text


class NameDumper(Dumper):
    oid = psycopg.adapters.types["text"].oid

    def dump(self, obj: Any) -> bytes:
        return str(obj.text).encode()


class Backwards(Loader):
    def load(self, data: Any) -> Any:
        return bytes(data).decode()[::-1]


@handler(EVERYWHERE)
def adapters(take: Take) -> Any:
    with take() as connection:
        cursor = connection.cursor()
        cursor.adapters.register_dumper(Name, NameDumper)
        cursor.adapters.register_loader("text", Backwards)
        with connection.transaction():
            cursor.execute(INSERT, (Name("abc"), 1))
        cursor.execute("SELECT name::text, n FROM item WHERE name = %s", (Name("abc"),))
        found = cursor.fetchone()
        other = connection.execute("SELECT name::text FROM item WHERE name = 'abc'").fetchone()
        values = connection.execute(
            "SELECT %s::jsonb, %s::numeric, %s::int[]", (Json({"a": 1}), Decimal("1.50"), [1, 2])
        ).fetchone()
        return [found, other, json.dumps(values, default=str)]


@handler(EVERYWHERE)
def cursor_classes(take: Take) -> Any:
    with take() as connection:
        found = []
        with connection.transaction():
            for number, kind in enumerate((psycopg.ClientCursor, psycopg.Cursor)):
                cursor = kind(connection)
                cursor.execute(INSERT, (f"by {number}", 1))
                found += cursor.execute("SELECT n FROM item WHERE n = %s", (1,)).fetchall()
            raw = psycopg.RawCursor(connection)
            raw.execute("INSERT INTO item (name, n) VALUES ($1, $2)", ("raw", 2))
        own, connection.cursor_factory = connection.cursor_factory, psycopg.ClientCursor
        try:
            found.append(type(connection.execute("SELECT %s", ("x",))).__name__)
        finally:
            connection.cursor_factory = own
        return found


@handler(EVERYWHERE)
def queries(take: Take) -> Any:
    with take() as connection, connection.transaction():
        table, column = sql.Identifier("item"), sql.Identifier("name")
        text = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table, column, sql.Literal("a"))
        found = [connection.execute(text).statusmessage]
        found.append(connection.execute(b"SELECT name FROM item ORDER BY id").fetchall())
        found.append(connection.execute("SELECT %(x)s::int", {"x": 1}, binary=True).fetchone())
        found.append(connection.execute("SELECT %s::text", ["x"], prepare=True).fetchone())
        found.append(connection.execute("").statusmessage)
        return found


@handler(EVERYWHERE)
def several_in_one_text(take: Take) -> Any:
    with take() as connection, connection.transaction():
        cursor = connection.execute(
            "INSERT INTO item (name) VALUES ('a'); SELECT name FROM item WHERE name = 'a';"
        )
        return [cursor.statusmessage, cursor.nextset(), cursor.fetchall(), cursor.nextset()]


@handler(EVERYWHERE)
def wrong(take: Take) -> Any:
    with take() as connection:
        found = []
        for act in (
            lambda: connection.execute("SELECT * FROM nothing"),
            lambda: connection.execute("NONSENSE"),
            lambda: connection.execute("SELECT %s", ()),
            lambda: connection.execute("SELECT %s", (object(),)),
            lambda: connection.cursor().executemany(INSERT, [("x",)]),
        ):
            found.append([failed(act), state_of(connection)])
            connection.rollback()
        return found


@handler(EVERYWHERE)
def many(take: Take) -> Any:
    with take() as connection, connection.transaction():
        cursor = connection.cursor()
        cursor.executemany(INSERT, ((f"n{n}", n) for n in range(5)))
        found = [cursor.rowcount, cursor.statusmessage]
        cursor.executemany(f"{INSERT} RETURNING id", [("x", 1), ("y", 2)], returning=True)
        while True:
            found.append(cursor.fetchall())
            if not cursor.nextset():
                break
        cursor.executemany(INSERT, [])
        return [*found, cursor.rowcount]


@handler(EVERYWHERE)
def many_that_fail(take: Take) -> Any:
    with take() as connection:
        cursor = connection.cursor()
        with suppress(psycopg.Error), connection.transaction():
            cursor.executemany(INSERT, [("a", 1), ("one", 1), ("b", 1)])
        return [connection.execute(COUNT).fetchone(), state_of(connection) != "INERROR"]


@handler(EVERYWHERE)
def streams(take: Take) -> Any:
    with take() as connection, connection.transaction():
        cursor = connection.cursor()
        found: list[Any] = list(cursor.stream("SELECT name FROM item ORDER BY id"))
        found += list(cursor.stream(f"{INSERT} RETURNING name, n", ("a", 1), binary=True))
        found += [[column.name for column in cursor.description], cursor.rowcount]
        found += list(cursor.stream("SELECT 1 WHERE false"))
        cursor.execute(COUNT)
        return [*found, cursor.fetchone()]


@handler(EVERYWHERE)
def streams_nothing(take: Take) -> Any:
    with take() as connection:
        cursor = connection.cursor()
        found = failed(lambda: list(cursor.stream("UPDATE item SET n = 1 WHERE false")))
        connection.rollback()
        return found


@handler(EVERYWHERE)
def copies_in(take: Take) -> Any:
    with take() as connection, connection.transaction():
        cursor = connection.cursor()
        with cursor.copy("COPY item (name, n) FROM STDIN") as copy:
            copy.write_row(("a", 1))
            copy.write_row(("b", 2))
            copy.write("c\t3\n")
        found = [cursor.rowcount, cursor.statusmessage]
        with cursor.copy("COPY item (name, n) FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["varchar", "int4"])
            copy.write_row(("d", 4))
        return [*found, cursor.rowcount]


@handler(EVERYWHERE)
def copies_out(take: Take) -> Any:
    with take() as connection, connection.transaction():
        cursor = connection.cursor()
        with cursor.copy("COPY (SELECT name, n FROM item ORDER BY id) TO STDOUT") as copy:
            found: list[Any] = [bytes(block).decode() for block in copy]
        found.append(cursor.rowcount)
        query = "COPY (SELECT name, n FROM item WHERE n > %s ORDER BY id) TO STDOUT (FORMAT BINARY)"
        with cursor.copy(query, (10,)) as copy:
            copy.set_types(["text", "int4"])
            found += list(copy.rows())
        return found


@handler(EVERYWHERE)
def copies_wrongly(take: Take) -> Any:
    def copy(text: str, *rows: Any) -> None:
        with cursor.copy(text) as copy:
            for row in rows:
                if row is None:
                    raise UndoError("in the middle")
                copy.write_row(row)

    with take() as connection:
        cursor = connection.cursor()
        found = []
        for act in (
            lambda: copy("COPY nothing FROM STDIN", ("a",)),
            lambda: copy("COPY item (name) FROM STDIN", ("one",)),
            lambda: copy("COPY item (name) FROM STDIN", ("x",), None),
            lambda: copy("SELECT 1"),
            lambda: copy("COPY nothing TO STDOUT"),
        ):
            connection.execute("BEGIN")
            found.append([failed(act), state_of(connection)])
            connection.execute("ROLLBACK")
        return found


@handler(EVERYWHERE)
def cursors_in_the_server(take: Take) -> Any:
    with take() as connection, connection.transaction():
        with connection.cursor("c") as cursor:
            cursor.execute("SELECT name, n FROM item WHERE n > %s ORDER BY id", (1,))
            found: list[Any] = [column.name for column in cursor.description]
            found += [cursor.fetchone(), cursor.fetchall(), cursor.rownumber]
        with connection.cursor("c", scrollable=True, row_factory=dict_row) as cursor:
            cursor.itersize = 2
            cursor.execute("SELECT generate_series(1, 5) AS x")
            found += [next(cursor)]
            connection.execute(INSERT, ("between", 1))
            found += list(cursor)
            cursor.scroll(0, "absolute")
            found += cursor.fetchmany(2)
            cursor.execute("SELECT 7 AS y")
            found += cursor.fetchall()
        with psycopg.RawServerCursor(connection, "raw") as raw:
            raw.execute("SELECT $1::int", (5,), binary=True)
            found += raw.fetchall()
        return found


@handler(EVERYWHERE)
def cursor_opened_by_hand(take: Take) -> Any:
    with take() as connection, connection.transaction():
        connection.execute("DECLARE mine CURSOR FOR SELECT name FROM item ORDER BY id")
        with connection.cursor("mine") as cursor:
            return [cursor.fetchone(), cursor.fetchall()]


@handler(IN_TRANSACTIONS)
def cursor_after_commit(take: Take) -> Any:
    with take() as connection:
        cursor = connection.cursor("c")
        cursor.execute("SELECT name FROM item")
        connection.commit()
        found = [failed(cursor.fetchone)]
        connection.rollback()
        cursor.close()
        with connection.cursor("c") as again:
            again.execute("SELECT name FROM item ORDER BY id")
            found.append(again.fetchone())
        connection.rollback()
        return found


@handler(EVERYWHERE)
def many_times(take: Take) -> Any:
    # psycopg prepares it from the sixth time on.
    with take() as connection:
        found = []
        for number in range(8):
            with suppress(UndoError), connection.transaction():
                connection.execute(INSERT, (f"n{number}", number))
                found.append(connection.execute(COUNT).fetchone())
                if number % 3 == 2:
                    raise UndoError
        return found


@handler(EVERYWHERE)
def schema_changed(take: Take) -> Any:
    with take() as connection:
        with connection.transaction():
            for _ in range(7):
                connection.execute("SELECT * FROM item ORDER BY id")
            connection.execute("ALTER TABLE item ADD COLUMN more int DEFAULT 5")
            found = connection.execute("SELECT * FROM item ORDER BY id").fetchone()
            connection.execute("ALTER TABLE item DROP COLUMN more")
        return [found, connection.execute("SELECT * FROM item ORDER BY id").fetchone()]


@handler(EVERYWHERE)
def notices(take: Take) -> Any:
    with take() as connection:
        said: list[str] = []

        def note(diagnostic: Any) -> None:
            said.append(diagnostic.message_primary)

        connection.add_notice_handler(note)
        with connection.transaction():
            connection.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        connection.remove_notice_handler(note)
        return said


@handler(EVERYWHERE)
def deferred(take: Take) -> Any:
    with take() as connection, connection.transaction():
        connection.execute("SET CONSTRAINTS ALL DEFERRED")
        connection.execute("INSERT INTO line (item) VALUES (1)")
        return connection.execute("SELECT count(*) FROM line").fetchone()


@handler(EVERYWHERE)
def deferred_and_violated(take: Take) -> Any:
    with take() as connection:
        try:
            with connection.transaction():
                connection.execute(INSERT, ("a", 1))
                connection.execute("INSERT INTO line (item) VALUES (999)")
        except psycopg.errors.ForeignKeyViolation as error:
            told = [str(error), state_of(connection)]
        with connection.transaction():
            connection.execute(INSERT, ("b", 1))
        return told


@handler(EVERYWHERE)
def types_of_the_server(take: Take) -> Any:
    with take() as connection:
        with connection.transaction():
            connection.execute("CREATE TYPE mood AS ENUM ('ok', 'bad')")
            info = EnumInfo.fetch(connection, "mood")
            connection.execute("DROP TYPE mood")
        return None if info is None else [info.name, list(info.labels)]


@handler(EVERYWHERE)
def settings(take: Take) -> Any:
    with take() as connection:
        with connection.transaction():
            connection.execute("SET LOCAL TIME ZONE 'Asia/Tokyo'")
            found = connection.execute("SELECT '2020-01-01 00:00Z'::timestamptz").fetchone()
        return [str(found[0]), connection.execute("SHOW work_mem").fetchone()]


@handler(EVERYWHERE)
def cancelled(take: Take) -> Any:
    with take() as connection:
        connection.execute("SELECT 1")

        def cancel(act: Callable[[], None], over: threading.Event) -> None:
            while not over.wait(0.005):
                # A request that is there before its statement stops nothing.
                if state_of(connection) == "ACTIVE":
                    act()

        found = []
        for act in (connection.cancel, connection.cancel_safe):
            over = threading.Event()
            thread = threading.Thread(target=cancel, args=(act, over))
            thread.start()
            found.append(failed(lambda: connection.execute("SELECT pg_sleep(20)")))
            over.set()
            thread.join()
            connection.rollback()
        connection.cancel()
        return found


# What a connection tells -------------------------------------------------------------------------


@handler(EVERYWHERE)
def told(take: Take) -> Any:
    with take() as connection:
        info = connection.info
        return [info.dbname, info.user, info.status.name, connection.closed, connection.broken]


@handler(EVERYWHERE, because="pipeline()")
def pipelines(take: Take) -> Any:
    with take() as connection, connection.pipeline(), connection.transaction():
        connection.execute(INSERT, ("a", 1))
    return "done"


@handler(EVERYWHERE, because="notifications")
def listens(take: Take) -> Any:
    with take() as connection:
        return list(connection.notifies(timeout=0))


@handler(IN_TRANSACTIONS, because="two-phase")
def two_phases(take: Take) -> Any:
    with take() as connection:
        connection.rollback()
        connection.tpc_begin("mine")
        connection.execute(INSERT, ("a", 1))
        connection.tpc_rollback()
    return "done"


@handler(EVERYWHERE)
def locks(take: Take) -> Any:
    with take() as connection, connection.transaction():
        found = connection.execute("SELECT n FROM item WHERE name = 'one' FOR UPDATE").fetchone()
        connection.execute("UPDATE item SET n = n + 1 WHERE name = 'one'")
        return found


# A connection for each call ----------------------------------------------------------------------

OPENED: list[Handler] = []


@handler(OPENED)
def opened(url: str) -> Any:
    with psycopg.connect(url) as connection:
        connection.execute(INSERT, ("a", 1))
    with suppress(UndoError), psycopg.connect(url) as connection:
        connection.execute(INSERT, ("b", 1))
        raise UndoError
    return connection.closed


@handler(OPENED)
def closed_without_commit(url: str) -> Any:
    connection = psycopg.connect(url)
    connection.execute(INSERT, ("a", 1))
    connection.close()
    acts = (lambda: connection.execute(COUNT), connection.commit, connection.rollback)
    found = [connection.closed, connection.broken, *(failed(act) for act in acts)]
    connection.close()
    return found


@handler(OPENED, because="end one before it begins the other")
def forgotten(url: str) -> Any:
    connection = psycopg.connect(url)
    connection.execute(INSERT, ("a", 1))
    connection._pool = None  # as a pool does, so that it does not warn
    del connection
    gc.collect()
    with psycopg.connect(url) as connection:
        connection.execute(INSERT, ("b", 1))
        return connection.execute(COUNT).fetchone()


@handler(OPENED)
def by_a_class_of_its_own(url: str) -> Any:
    class Own(psycopg.Connection[Any]):
        def insert(self, name: str) -> None:
            self.execute(INSERT, (name, 1))

    with Own.connect(url, cursor_factory=psycopg.ClientCursor, row_factory=dict_row) as connection:
        connection.insert("a")
        return connection.execute(COUNT).fetchone()


def add_by_url(url: str, name: str) -> Any:
    with psycopg.connect(url) as connection:
        connection.execute(INSERT, (name, 0))
    return name


@library("psycopg", driver="psycopg", is_async=False, handlers=OPENED, add=add_by_url)
async def by_url(store: PostgreSQL) -> AsyncIterator[str]:
    yield store.url


@contextmanager
def kept(store: PostgreSQL, *, autocommit: bool) -> Iterator[Take]:
    """One connection that all calls use."""
    with psycopg.connect(store.url, autocommit=autocommit) as connection:

        @contextmanager
        def take() -> Iterator[Any]:
            try:
                yield connection
            finally:
                connection.rollback()

        yield take


POOLED = [*EVERYWHERE, *IN_TRANSACTIONS]
AUTO = [*EVERYWHERE, *IN_AUTOCOMMIT]


@library("psycopg-pool", driver="psycopg", is_async=False, handlers=[*POOLED, *SEVERAL], add=add)
async def by_pool(store: PostgreSQL) -> AsyncIterator[Take]:
    with ConnectionPool(store.url, min_size=0, max_size=4, open=True) as pool:
        yield pool.connection


@library("psycopg-pool-of-one", driver="psycopg", is_async=False, handlers=POOLED[:8], add=add)
async def by_pool_of_one(store: PostgreSQL) -> AsyncIterator[Take]:
    with ConnectionPool(
        store.url, min_size=1, max_size=1, open=True, check=ConnectionPool.check_connection
    ) as pool:
        yield pool.connection


@library("psycopg-null-pool", driver="psycopg", is_async=False, handlers=POOLED[:8], add=add)
async def by_null_pool(store: PostgreSQL) -> AsyncIterator[Take]:
    with NullConnectionPool(store.url, max_size=3, open=True) as pool:
        yield pool.connection


@library(
    "psycopg-autocommit", driver="psycopg", is_async=False, handlers=[*AUTO, *SEVERAL], add=add
)
async def by_autocommit(store: PostgreSQL) -> AsyncIterator[Take]:
    options = {"autocommit": True}
    with ConnectionPool(store.url, min_size=0, max_size=4, open=True, kwargs=options) as pool:
        yield pool.connection


KEPT = [one for one in POOLED[:12] if one.name != "given_back_open"]


@library("psycopg-kept", driver="psycopg", is_async=False, handlers=KEPT, add=add)
async def by_kept(store: PostgreSQL) -> AsyncIterator[Take]:
    with ExitStack() as stack:
        yield stack.enter_context(kept(store, autocommit=False))


@library("psycopg-kept-autocommit", driver="psycopg", is_async=False, handlers=AUTO, add=add)
async def by_kept_autocommit(store: PostgreSQL) -> AsyncIterator[Take]:
    with ExitStack() as stack:
        yield stack.enter_context(kept(store, autocommit=True))
