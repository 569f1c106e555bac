"""
What handlers do with sync engines: each function is one handler, none knows of batches.

What it returns becomes the response's JSON. A pattern that needs something of its own, or ends
otherwise in a batch than alone, says so in its decorator.
"""

from __future__ import annotations

import socket
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any, TypeVar

import httpx
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlmodel import Session as SQLModelSession

from tests.databases import OTHER_MYSQL
from tests.transactions.sqlalchemy.worlds import Item, World, items

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Pattern:
    """
    One way to use the database.

    Attributes:
        act: The handler.
        families: Databases that it makes sense on.
        refused: On these families the batch fails, with a message that holds ``because``.
        unawaited: SQLAlchemy leaves coroutines behind that nobody awaits, which Python warns of.
    """

    act: Callable[[World], Any]
    families: tuple[str, ...]
    refused: tuple[str, ...]
    because: str
    unawaited: bool = False

    @property
    def name(self) -> str:
        return self.act.__name__


ALL = ("sqlite", "postgresql", "mysql")
SERVERS = ("postgresql", "mysql")
# Syntax that MySQL does not know.
MARIADB = () if OTHER_MYSQL else ("mysql",)
PATTERNS: list[Pattern] = []


def pattern(
    *, families: tuple[str, ...] = ALL, refused: tuple[str, ...] = (), because: str = ""
) -> Callable[[F], F]:
    def register(act: F) -> F:
        PATTERNS.append(Pattern(act, families, refused, because))
        return act

    return register


def names(session: Session) -> list[str]:
    return list(session.scalars(sa.select(Item.name).order_by(Item.name)))


# One session -------------------------------------------------------------------------------------


@pattern()
def session_commit(world: World) -> Any:
    with Session(world.engine) as session:
        item = Item(name="new", n=1)
        session.add(item)
        session.commit()
        session.refresh(item)
        return [item.id, item.name]


@pattern()
def session_begin(world: World) -> Any:
    with Session(world.engine) as session, session.begin():
        session.add(Item(name="new", n=1))
    return "done"


@pattern()
def sessionmaker_begin(world: World) -> Any:
    with sessionmaker(world.engine, expire_on_commit=False).begin() as session:
        session.add_all([Item(name="new", n=1), Item(name="newer", n=2)])
        session.flush()
        return names(session)


@pattern()
def sqlmodel_session(world: World) -> Any:
    with SQLModelSession(world.engine) as session:
        session.add(Item(name="new", n=1))
        session.commit()
        return names(session)


@pattern()
def scoped(world: World) -> Any:
    registry = scoped_session(sessionmaker(world.engine))
    registry.add(Item(name="new", n=1))
    registry.commit()
    found = registry.scalar(sa.select(sa.func.count()).select_from(Item))
    registry.remove()
    return found


@pattern()
def several_commits(world: World) -> Any:
    with Session(world.engine) as session:
        for number in range(3):
            session.add(Item(name=f"new {number}", n=number))
            session.commit()
        return names(session)


@pattern()
def update_and_delete(world: World) -> Any:
    with Session(world.engine) as session:
        item = session.scalars(sa.select(Item).where(Item.name == "one")).one()
        item.n += 5
        session.execute(sa.delete(Item).where(Item.name == "two"))
        session.commit()
        return item.n


@pattern()
def for_update(world: World) -> Any:
    with Session(world.engine) as session:
        item = session.scalars(sa.select(Item).where(Item.name == "one").with_for_update()).one()
        item.n -= 3
        session.commit()
        return item.n


@pattern()
def only_reads(world: World) -> Any:
    with Session(world.engine) as session:
        return names(session)


@pattern()
def never_used(world: World) -> Any:
    with Session(world.engine):
        return "nothing"


@pattern()
def leaks_a_session(world: World) -> Any:
    session = Session(world.engine)
    session.add(Item(name="never committed", n=1))
    session.flush()
    LEAKED.append(session)  # or the garbage collector would close it
    return "flushed"


LEAKED: list[Any] = []


# Core and raw connections ------------------------------------------------------------------------


@pattern()
def engine_begin(world: World) -> Any:
    with world.engine.begin() as connection:
        connection.execute(sa.insert(items).values(name="new", n=1))
        return connection.scalar(sa.select(sa.func.count()).select_from(items))


@pattern()
def connect_commit(world: World) -> Any:
    with world.engine.connect() as connection:
        connection.execute(sa.insert(items).values(name="new", n=1))
        connection.commit()
        connection.execute(sa.insert(items).values(name="not committed", n=1))
    return "done"


@pattern()
def engine_begin_fails(world: World) -> Any:
    try:
        with world.engine.begin() as connection:
            connection.execute(sa.insert(items).values(name="new", n=1))
            raise RuntimeError
    except RuntimeError:
        return "caught"


@pattern()
def many_at_once(world: World) -> Any:
    with world.engine.begin() as connection:
        connection.execute(
            sa.insert(items), [{"name": f"new {number}", "n": number} for number in range(50)]
        )
        inserted = connection.execute(
            sa.update(items).where(items.c.n > 40).values(n=items.c.n + 1)
        )
        return inserted.rowcount


@pattern()
def orm_bulk(world: World) -> Any:
    with Session(world.engine) as session:
        session.add_all([Item(name=f"new {number}", n=number) for number in range(50)])
        session.commit()
        return len(names(session))


def _raw(world: World, sql: str) -> str:
    return sql if world.family == "sqlite" else sql.replace("?", "%s")


@pattern()
def raw_connection(world: World) -> Any:
    connection = world.engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(_raw(world, "INSERT INTO item (name, n) VALUES (?, ?)"), ("new", 1))
        cursor.executemany(
            _raw(world, "INSERT INTO item (name, n) VALUES (?, ?)"), [("newer", 2), ("newest", 3)]
        )
        connection.commit()
        cursor.execute("SELECT count(*) FROM item")
        (found,) = cursor.fetchone() or (None,)
        cursor.close()
        return found
    finally:
        connection.close()


@pattern()
def raw_connection_closed_without_commit(world: World) -> Any:
    connection = world.engine.raw_connection()
    cursor = connection.cursor()
    cursor.execute("INSERT INTO item (name, n) VALUES ('new', 1)")
    rows = cursor.rowcount
    cursor.close()
    connection.close()
    return rows


@pattern()
def raw_cursor_is_iterated(world: World) -> Any:
    connection = world.engine.raw_connection()
    cursor: Any = connection.cursor()
    cursor.execute("SELECT name FROM item ORDER BY name")
    found = [row[0] for row in cursor]
    connection.close()
    return found


@pattern()
def driver_connection(world: World) -> Any:
    with world.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        cursor = driver.cursor()
        cursor.execute("INSERT INTO item (name, n) VALUES ('new', 1)")
        cursor.close()
        connection.commit()
    return "done"


@pattern()
def driver_connection_commits(world: World) -> Any:
    with world.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.cursor().execute("INSERT INTO item (name, n) VALUES ('new', 1)")
        driver.rollback()
        driver.cursor().execute("INSERT INTO item (name, n) VALUES ('newer', 1)")
        driver.commit()
        driver.cursor().execute("INSERT INTO item (name, n) VALUES ('never', 1)")
    return "done"


@pattern()
def cursors_connection_commits(world: World) -> Any:
    connection = world.engine.raw_connection()
    cursor: Any = connection.cursor()
    cursor.execute("INSERT INTO item (name, n) VALUES ('new', 1)")
    cursor.connection.commit()
    cursor.execute("INSERT INTO item (name, n) VALUES ('never', 1)")
    cursor.close()
    connection.close()
    return "done"


@pattern(families=("mysql",), refused=("mysql",), because="uses query of the driver's connection")
def drivers_own_query(world: World) -> Any:
    connection: Any = world.engine.raw_connection()
    connection.cursor().execute("SELECT 1")
    connection.query("INSERT INTO item (name, n) VALUES ('new', 1)")
    connection.rollback()
    connection.close()
    return "done"


# Rollbacks and errors ----------------------------------------------------------------------------


@pattern()
def rolls_back_itself(world: World) -> Any:
    with Session(world.engine) as session:
        session.add(Item(name="not wanted", n=1))
        session.flush()
        session.rollback()
        session.add(Item(name="wanted", n=1))
        session.commit()
        return names(session)


@pattern()
def only_rolls_back(world: World) -> Any:
    with Session(world.engine) as session:
        session.add(Item(name="not wanted", n=1))
        session.flush()
        session.rollback()
        return names(session)


@pattern()
def duplicate_is_handled(world: World) -> Any:
    with Session(world.engine) as session:
        session.add(Item(name="one", n=1))
        try:
            session.commit()
        except IntegrityError:
            session.rollback()
            session.add(Item(name="another", n=1))
            session.commit()
            return "another"
        return "no error"


@pattern()
def duplicate_after_a_commit(world: World) -> Any:
    with Session(world.engine) as session:
        session.add(Item(name="new", n=1))
        session.commit()
        session.add(Item(name="one", n=1))
        try:
            session.commit()
        except IntegrityError:
            session.rollback()
        return names(session)


@pattern()
def swallowed_error_then_commit(world: World) -> Any:
    """On PostgreSQL a COMMIT after an error stores nothing, and says nothing; so it does here."""
    with world.engine.connect() as connection:
        connection.execute(sa.insert(items).values(name="before", n=1))
        try:
            connection.execute(sa.insert(items).values(name="one", n=1))
        except IntegrityError:
            pass
        connection.commit()
    return "done"


@pattern()
def nested_failure_inside_a_commit(world: World) -> Any:
    with Session(world.engine) as session:
        session.add(Item(name="kept", n=1))
        session.flush()
        try:
            with session.begin_nested():
                session.add(Item(name="one", n=1))
        except IntegrityError:
            pass
        session.add(Item(name="kept too", n=1))
        session.commit()
        return names(session)


@pattern()
def nested_twice(world: World) -> Any:
    with Session(world.engine) as session:
        with session.begin_nested():
            session.add(Item(name="outer", n=1))
            session.flush()
            inner = session.begin_nested()
            session.add(Item(name="inner", n=1))
            session.flush()
            inner.rollback()
        session.commit()
        return names(session)


@pattern()
def nested_without_a_commit(world: World) -> Any:
    """Alone, sqlite3 takes the savepoint for the transaction, and its RELEASE commits."""
    with Session(world.engine) as session:
        with session.begin_nested():
            session.add(Item(name="new", n=1))
            with session.begin_nested():
                session.add(Item(name="newer", n=1))
        return names(session)


@pattern()
def nested_kept_but_rolled_back(world: World) -> Any:
    with Session(world.engine) as session:
        with session.begin_nested():
            session.add(Item(name="not wanted", n=1))
        session.rollback()
        return names(session)


# Two sessions ------------------------------------------------------------------------------------


@pattern()
def reader_stays_open(world: World) -> Any:
    """The auth session of many apps: it reads, and is closed when the request ends."""
    reader, writer = Session(world.engine), Session(world.engine)
    reader.scalars(sa.select(Item).where(Item.name == "one")).one()
    if world.family == "sqlite":
        reader.rollback()  # alone, SQLite would keep the writer waiting in some journal modes
        reader.scalars(sa.select(Item).where(Item.name == "one")).one()
    writer.add(Item(name="new", n=1))
    writer.commit()
    writer.close()
    reader.close()
    return "done"


@pattern(families=SERVERS)
def interleaved_commits(world: World) -> Any:
    first, second = Session(world.engine), Session(world.engine)
    first.add(Item(name="first", n=1))
    first.flush()
    second.add(Item(name="second", n=1))
    second.flush()
    first.commit()
    second.commit()
    first.close()
    second.close()
    return "done"


@pattern(families=SERVERS, refused=SERVERS, because="overlap")
def interleaved_and_rolled_back(world: World) -> Any:
    first, second = Session(world.engine), Session(world.engine)
    first.add(Item(name="first", n=1))
    first.flush()
    second.add(Item(name="second", n=1))
    second.commit()
    first.rollback()
    return "done"


@pattern(families=SERVERS)
def inner_fails_while_reader_is_open(world: World) -> Any:
    reader, writer = Session(world.engine), Session(world.engine)
    before = names(reader)
    writer.add(Item(name="one", n=1))
    try:
        writer.commit()
    except IntegrityError:
        pass
    after = names(reader)  # the writer has not been rolled back yet
    writer.rollback()
    writer.add(Item(name="new", n=1))
    writer.commit()
    writer.close()
    reader.close()
    return [before, after]


@pattern(families=SERVERS)
def reader_fails_after_a_commit(world: World) -> Any:
    reader, writer = Session(world.engine), Session(world.engine)
    names(reader)
    writer.add(Item(name="new", n=1))
    writer.commit()
    try:
        reader.execute(sa.text("SELECT nothing FROM nowhere"))
    except sa.exc.DBAPIError:
        reader.rollback()
    found = reader.scalar(sa.select(sa.func.count()).select_from(Item))
    reader.close()
    writer.close()
    return found


@pattern(families=SERVERS)
def same_savepoint_names(world: World) -> Any:
    first, second = Session(world.engine), Session(world.engine)
    inner = first.begin_nested()
    names(first)
    other = second.begin_nested()
    second.add(Item(name="second", n=1))
    second.flush()
    other.commit()
    second.commit()
    inner.commit()
    first.add(Item(name="first", n=1))
    first.commit()
    first.close()
    second.close()
    return "done"


@pattern(families=SERVERS)
def five_threads(world: World) -> Any:
    def add(number: int) -> None:
        with Session(world.engine) as session:
            session.add(Item(name=f"new {number}", n=number))
            session.commit()

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(add, range(5)))
    return "done"


@pattern(families=SERVERS)
def a_pool_of_threads(world: World) -> Any:
    def add(number: int) -> int:
        with Session(world.engine) as session:
            session.add(Item(name=f"new {number}", n=number))
            session.commit()
        return number

    with ThreadPool(2) as pool:
        pool.apply(add, (1,))
        pool.map(add, (2, 3))
        return list(pool.imap(add, (4, 5)))


@pattern()
def a_thread_of_its_own(world: World) -> Any:
    def add() -> None:
        with Session(world.engine) as session:
            session.add(Item(name="new", n=1))
            session.commit()

    thread = threading.Thread(target=add)
    thread.start()
    thread.join()
    return "done"


# AUTOCOMMIT and raw transaction control ----------------------------------------------------------


@pattern()
def autocommit_connection(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.insert(items).values(name="new", n=1))
        connection.rollback()
        connection.execute(sa.insert(items).values(name="newer", n=1))
    return "done"


@pattern()
def autocommit_sub_engine(world: World) -> Any:
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.insert(items).values(name="new", n=1))
    with world.engine.begin() as connection:
        connection.execute(sa.insert(items).values(name="newer", n=1))
    return "done"


@pattern()
def autocommit_error(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.insert(items).values(name="new", n=1))
        try:
            connection.execute(sa.insert(items).values(name="one", n=1))
        except IntegrityError:
            pass
        connection.execute(sa.insert(items).values(name="newer", n=1))
    return "done"


@pattern()
def raw_begin_and_commit(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("BEGIN")
        connection.execute(sa.insert(items).values(name="kept", n=1))
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("BEGIN")
        connection.execute(sa.insert(items).values(name="not kept", n=1))
        connection.exec_driver_sql("ROLLBACK")
        connection.execute(sa.insert(items).values(name="by itself", n=1))
    return "done"


@pattern()
def raw_savepoints(world: World) -> Any:
    with world.engine.begin() as connection:
        connection.execute(sa.insert(items).values(name="kept", n=1))
        connection.exec_driver_sql("SAVEPOINT mine")
        connection.execute(sa.insert(items).values(name="not kept", n=1))
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT mine")
        connection.execute(sa.insert(items).values(name="kept too", n=1))
        connection.exec_driver_sql("RELEASE SAVEPOINT mine")
    return "done"


# What cannot be part of a batch ------------------------------------------------------------------


@pattern(families=("mysql",))
def start_transaction_commits(world: World) -> Any:
    raw = world.engine.raw_connection()
    cursor = raw.cursor()
    cursor.execute(_raw(world, "INSERT INTO item (name, n) VALUES ('kept', 1)"))
    cursor.execute("START TRANSACTION")
    cursor.execute(_raw(world, "INSERT INTO item (name, n) VALUES ('undone', 1)"))
    raw.rollback()
    raw.close()
    return "done"


@pattern()
def switches_to_autocommit(world: World) -> Any:
    """sqlite3 and MySQL's drivers commit then, psycopg2 rolls back, or they refuse it."""
    raw = world.engine.raw_connection()
    driver: Any = raw.driver_connection
    cursor = raw.cursor()
    cursor.execute("INSERT INTO item (name, n) VALUES ('before', 1)")
    try:
        if world.family == "sqlite":
            driver.isolation_level = None
        elif world.family == "mysql":
            driver.autocommit(True)
        elif world.driver == "psycopg2":
            driver.set_isolation_level(0)
        else:
            driver.autocommit = True
        how = "switched"
        cursor.execute("INSERT INTO item (name, n) VALUES ('by itself', 1)")
    except Exception as error:
        how = type(error).__name__
    raw.rollback()
    if world.family == "sqlite":
        driver.isolation_level = ""
    elif world.family == "mysql":
        driver.autocommit(False)
    else:
        driver.autocommit = False
    raw.close()
    return how


@pattern(families=SERVERS, refused=SERVERS, because="savepoint under AUTOCOMMIT")
def savepoint_under_autocommit(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        try:
            connection.exec_driver_sql("SAVEPOINT a")
        except sa.exc.DBAPIError:
            return "refused"
    return "ignored"


@pattern(families=SERVERS)
def commits_and_chains(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("BEGIN")
        connection.execute(sa.insert(items).values(name="kept", n=1))
        connection.exec_driver_sql("COMMIT AND CHAIN")
        connection.execute(sa.insert(items).values(name="undone", n=1))
        connection.exec_driver_sql("ROLLBACK")
        connection.execute(sa.insert(items).values(name="by itself", n=1))
    return "done"


@pattern(families=("sqlite",))
def what_sqlite3_begins_nothing_for(world: World) -> Any:
    """It begins before INSERT, UPDATE, DELETE and REPLACE only: the rest commits by itself."""
    text = "WITH new (n) AS (SELECT 1) INSERT INTO item (name, n) SELECT 'by itself', n FROM new"
    with world.engine.connect() as connection:
        connection.execute(sa.text(text))
        connection.rollback()
        connection.execute(sa.insert(items).values(name="undone", n=1))
        connection.execute(sa.text(text.replace("by itself", "undone as well")))
        connection.rollback()
        names = list(connection.scalars(sa.select(items.c.name)))
        connection.execute(sa.text(text.replace("by itself", "after a query")))
    return names


@pattern(refused=("mysql",), because="DDL")
def creates_a_table(world: World) -> Any:
    with world.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS made (n INTEGER)")
        connection.exec_driver_sql("DROP TABLE made")
        connection.execute(sa.insert(items).values(name="new", n=1))
    return "done"


@pattern(families=SERVERS, refused=SERVERS, because="two-phase")
def two_phase(world: World) -> Any:
    with world.engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(sa.insert(items).values(name="new", n=1))
        transaction.prepare()
        transaction.rollback()
    return "done"


@pattern(families=("postgresql",), refused=("postgresql",), because="two-phase")
def commit_prepared(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        try:
            connection.exec_driver_sql("COMMIT PREPARED 'nothing'")
        except sa.exc.DBAPIError:
            return "none such"
    return "done"


@pattern(families=SERVERS, refused=SERVERS, because="isolation_level=")
def stricter_isolation(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="SERIALIZABLE")
        connection.execute(sa.insert(items).values(name="new", n=1))
        connection.commit()
    return "done"


@pattern()
def weaker_isolation(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="READ UNCOMMITTED")
        connection.execute(sa.insert(items).values(name="new", n=1))
        connection.commit()
    return "done"


@pattern(families=("postgresql",))
def read_only_connection(world: World) -> Any:
    options = {"postgresql_readonly": True, "postgresql_deferrable": True}
    with world.engine.connect() as plain:
        found = plain.execution_options(**options).scalar(sa.select(sa.func.sum(items.c.n)))
    with world.engine.begin() as connection:  # the option is gone with its connection
        connection.execute(sa.insert(items).values(name="new", n=found))
    return found


@pattern(families=("postgresql",), refused=("postgresql",), because="read only")
def read_only_connection_writes(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(postgresql_readonly=True)
        try:
            connection.execute(sa.insert(items).values(name="new", n=1))
        except sa.exc.DBAPIError:
            return "refused"
    return "written"


@pattern(refused=ALL, because="detach")
def detaches(world: World) -> Any:
    with world.engine.connect() as connection:
        connection.detach()
        return "done"


# Rows that stay in the server --------------------------------------------------------------------


@pattern()
def server_side_cursor(world: World) -> Any:
    with Session(world.engine) as session:
        session.add_all([Item(name=f"new {number:03}", n=number) for number in range(200)])
        session.commit()
        found = session.execute(
            sa.select(Item.name).order_by(Item.id), execution_options={"yield_per": 10}
        )
        return [name for (name,) in found]


@pattern(families=SERVERS)
def writes_while_streaming(world: World) -> Any:
    with Session(world.engine) as reader, Session(world.engine) as writer:
        writer.add_all([Item(name=f"new {number:03}", n=number) for number in range(50)])
        writer.commit()
        total = 0
        for name, n in reader.execute(
            sa.select(Item.name, Item.n).where(Item.n > 0).order_by(Item.id),
            execution_options={"yield_per": 5},
        ):
            total += n
            if n % 10 == 0:
                writer.add(Item(name=f"seen {name}", n=-n))
                writer.commit()
        return total


TENANT = sa.text("SELECT current_setting('app.tenant', true)")


@pattern(families=("postgresql",))
def a_setting_each(world: World) -> Any:
    """Row level security: one session never sees what another has set, in whatever way."""
    found = []
    with Session(world.engine) as one, Session(world.engine) as two, Session(world.engine) as none:
        one.execute(sa.text("SET LOCAL app.tenant = 'one'"))
        two.execute(sa.select(sa.func.set_config("app.tenant", "two", True)))
        found += [one.scalar(TENANT), two.scalar(TENANT), none.scalar(TENANT) or ""]
        one.add(Item(name="of one", n=1))
        one.commit()
        one.execute(sa.text("SET app.tenant = 'lasting'"))
        found += [two.scalar(TENANT), none.scalar(TENANT) or ""]
        two.rollback()
        found += [two.scalar(TENANT) or "", one.scalar(TENANT)]
        one.execute(sa.text("RESET app.tenant"))
        found += [one.scalar(TENANT) or ""]
        one.commit()
    return found


@pattern(families=("postgresql",))
def a_setting_until_a_savepoint(world: World) -> Any:
    found = []
    with Session(world.engine) as session:
        session.execute(sa.text("SET LOCAL app.tenant = 'outer'"))
        with session.begin_nested() as nested:
            session.execute(sa.text("SET LOCAL app.tenant = 'inner'"))
            found.append(session.scalar(TENANT))
            nested.rollback()
        found.append(session.scalar(TENANT))
        session.commit()
    return found


@pattern(families=("postgresql",))
def a_setting_of_each_kind(world: World) -> Any:
    """SET outlives the transaction, SET LOCAL does not, and neither what was rolled back."""
    found = []
    with world.engine.connect() as connection:

        def tell() -> None:
            found.append(connection.scalar(TENANT) or "")

        connection.execute(sa.text("SET app.tenant = 'lasting'"))
        connection.execute(sa.text("SET LOCAL app.tenant = 'local'"))
        tell()
        connection.commit()
        tell()
        connection.execute(sa.text("RESET app.tenant"))
        connection.commit()
        connection.execute(sa.text("SET LOCAL app.tenant = 'local'"))
        with connection.begin_nested() as nested:
            connection.execute(sa.text("SET app.tenant = 'undone'"))
            nested.rollback()
        tell()
        connection.commit()
        tell()
        with connection.begin_nested():
            connection.execute(sa.text("SET app.tenant = 'kept'"))
        connection.commit()
        tell()
        connection.execute(sa.text("RESET app.tenant"))
        connection.commit()
    return found


@pattern(families=("postgresql",))
def set_config_as_a_function(world: World) -> Any:
    """
    Its name, and whether it lasts, are parameters, which the statement's text does not tell.

    The value may be another setting's name, and one that cannot be changed.
    """
    found = []
    with world.engine.connect() as connection:
        for is_local in (True, False):
            connection.execute(sa.select(sa.func.set_config("app.tenant", "port", is_local)))
            connection.commit()
            found.append(connection.scalar(TENANT) or "")
        connection.execute(sa.text("RESET app.tenant"))
        connection.commit()
    return found


@pattern(families=("postgresql",))
def nested_after_a_setting_and_a_failure(world: World) -> Any:
    """Another session's failed statement is no hindrance, with settings about as well."""
    with Session(world.engine) as one, Session(world.engine) as two:
        one.execute(sa.text("SET LOCAL app.tenant = 'one'"))
        try:
            one.execute(sa.text("SELECT nothing FROM nowhere"))
        except sa.exc.DBAPIError:
            pass
        with two.begin_nested():
            two.add(Item(name="new", n=1))
        two.commit()
        one.rollback()
    return "done"


@pattern(families=("postgresql",), refused=("postgresql",), because="exclude another session")
def skips_what_is_locked(world: World) -> Any:
    query = sa.select(Item).order_by(Item.id).limit(1).with_for_update(skip_locked=True)
    with Session(world.engine) as one, Session(world.engine) as two:
        return [one.scalars(query).one().name, two.scalars(query).one().name]


@pattern(families=("postgresql",), refused=("postgresql",), because="read only")
def begins_read_only(world: World) -> Any:
    with world.engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("BEGIN READ ONLY")
        try:
            connection.execute(sa.insert(items).values(name="new", n=1))
        except sa.exc.DBAPIError:
            connection.exec_driver_sql("ROLLBACK")
            return "refused"
    return "written"


@pattern(families=("postgresql",))
def local_setting(world: World) -> Any:
    """SET LOCAL ends with its transaction, also where the transaction is a virtual one."""
    found = []
    with Session(world.engine) as session:
        for tenant in ("a", "b"):
            session.execute(sa.text(f"SET LOCAL app.tenant = '{tenant}'"))
            found.append(session.scalar(sa.text("SELECT current_setting('app.tenant')")))
            session.add(Item(name=f"of {tenant}", n=1))
            session.commit()
        session.execute(sa.text("SELECT set_config('app.tenant', 'c', true)"))
        session.commit()
        found.append(session.scalar(sa.text("SELECT current_setting('app.tenant', true)")))
    return found


# Statements that are not what their first words say -----------------------------------------------


@pattern(families=("postgresql",), refused=("postgresql",), because="before the batch's COMMIT")
def unlocks_before_commit(world: World) -> Any:
    with Session(world.engine) as session:
        session.execute(sa.text("SELECT pg_advisory_lock(7)"))
        session.add(Item(name="new", n=1))
        session.commit()
        return session.scalar(sa.text("SELECT pg_advisory_unlock(7)"))


@pattern(families=("mysql",), refused=("mysql",), because="before the batch's COMMIT")
def releases_a_named_lock(world: World) -> Any:
    with Session(world.engine) as session:
        session.execute(sa.text("SELECT GET_LOCK('new', 5)"))
        session.add(Item(name="new", n=1))
        session.commit()
        session.execute(sa.text("DO RELEASE_LOCK('new')"))
    return "done"


@pattern(families=MARIADB, refused=("mysql",), because="SET STATEMENT")
def within_a_time(world: World) -> Any:
    with Session(world.engine) as session:
        session.execute(
            sa.text(
                "SET STATEMENT max_statement_time = 60 FOR "
                "INSERT INTO item (name, n) VALUES ('new', 1)"
            )
        )
        session.commit()
        return names(session)


@pattern(families=MARIADB, refused=("mysql",), because="SET STATEMENT")
def commits_within_a_time(world: World) -> Any:
    with Session(world.engine) as session:
        session.add(Item(name="new", n=1))
        session.flush()
        session.execute(sa.text("SET STATEMENT max_statement_time = 60 FOR COMMIT"))
    return "done"


@pattern(families=MARIADB, refused=("mysql",), because="compound statement")
def commits_in_a_loop(world: World) -> Any:
    with Session(world.engine) as session:
        session.add(Item(name="new", n=1))
        session.flush()
        session.connection().exec_driver_sql("REPEAT COMMIT; UNTIL 1 END REPEAT")
    return "done"


@pattern(families=("mysql",), refused=("mysql",), because="executable comment")
def commits_in_a_comment(world: World) -> Any:
    with Session(world.engine) as session:
        session.add(Item(name="new", n=1))
        session.flush()
        session.connection().exec_driver_sql("/*!50000 COMMIT */")
    return "done"


@pattern(families=("postgresql",), refused=("postgresql",), because="name the settings")
def resets_all_settings(world: World) -> Any:
    with Session(world.engine) as session:
        session.execute(sa.text("RESET ALL"))
        session.add(Item(name="new", n=1))
        session.commit()
    return "done"


@pattern(families=("sqlite",))
def creates_a_trigger(world: World) -> Any:
    with Session(world.engine) as session:
        session.execute(
            sa.text(
                "CREATE TRIGGER twice AFTER INSERT ON item WHEN new.n > 0 BEGIN "
                "INSERT INTO item (name, n) VALUES (new.name || ' again', 0); END"
            )
        )
        session.add(Item(name="new", n=1))
        session.flush()
        session.execute(sa.text("DROP TRIGGER twice"))
        session.commit()
        return names(session)


@pattern(families=("postgresql",))
def creates_a_function(world: World) -> Any:
    with Session(world.engine) as session:
        session.execute(
            sa.text(
                "CREATE FUNCTION add_twice(n int) RETURNS bigint BEGIN ATOMIC "
                "INSERT INTO item (name, n) VALUES ('new', n); "
                "INSERT INTO item (name, n) VALUES ('newer', n); SELECT count(*) FROM item; END"
            )
        )
        found = session.scalar(sa.text("SELECT add_twice(1)"))
        session.execute(sa.text("DROP FUNCTION add_twice"))
        session.commit()
        return found


# What is being handled says nothing about the database's answer -----------------------------------


def busy_elsewhere() -> None:
    """A real conflict on a database that is none of the app's engines."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (
            sqlite3.connect(f"{folder}/x", isolation_level=None, timeout=0) for _ in "ab"
        )
        with closing(first), closing(second):
            first.execute("BEGIN IMMEDIATE")
            second.execute("BEGIN IMMEDIATE")


def insert_or_find(world: World) -> str:
    with Session(world.engine) as session:
        session.add(Item(name="one", n=1))
        try:
            session.commit()
        except IntegrityError:
            session.rollback()
            session.add(Item(name="another", n=1))
            session.commit()
            return "is there"
    return "new"


@pattern()
def duplicate_while_a_cache_is_down(world: World) -> Any:
    try:
        socket.create_connection(("127.0.0.1", 1))
    except OSError:
        return insert_or_find(world)
    return "somebody listens on port 1"


@pattern()
def duplicate_while_another_service_is_down(world: World) -> Any:
    try:
        httpx.get("http://127.0.0.1:1", trust_env=False)
    except httpx.HTTPError:
        return insert_or_find(world)
    return "somebody listens on port 1"


@pattern()
def duplicate_while_another_database_is_busy(world: World) -> Any:
    try:
        busy_elsewhere()
    except sqlite3.OperationalError:
        return insert_or_find(world)
    return "not busy"
