"""peewee's handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

import peewee
from playhouse.pool import PooledMySQLDatabase, PooledPostgresqlDatabase, PooledSqliteDatabase

from tests.transactions.drivers.files import File
from tests.transactions.drivers.libraries import (
    SERVERS,
    Handler,
    UndoError,
    early_of,
    handler,
    library,
    on_loop,
)
from tests.transactions.drivers.servers import Server

try:
    from playhouse.postgres_ext import PooledPsycopg3Database, Psycopg3Database
except ImportError:  # peewee 3 has it elsewhere, and no pool for it
    from playhouse.psycopg3_ext import Psycopg3Database

    PooledPsycopg3Database = None

HANDLERS: list[Handler] = []


class World:
    """A database and its model; ``around`` is what a handler runs inside of."""

    def __init__(self, db: Any, *, per_request: bool) -> None:
        self.db = db
        self._per_request = per_request

        class Item(peewee.Model):
            name = peewee.CharField(unique=True)
            n = peewee.IntegerField(default=0)

            class Meta:
                database = db
                table_name = "item"

        self.item: Any = Item
        if self.is_sqlite:
            db.register_function(lambda n: n * 2, "twice", 1)

    @property
    def is_sqlite(self) -> bool:
        return isinstance(self.db, peewee.SqliteDatabase)

    def around(self) -> Any:
        if self._per_request:
            return self.db.connection_context()
        self.db.connect(reuse_if_open=True)
        return self.db.atomic() if self.is_sqlite else nullcontext()


def add(world: World, name: str) -> Any:
    with world.around():
        world.item.create(name=name)
    return name


@handler(HANDLERS)
def insert(world: World) -> Any:
    with world.around():
        return world.item.create(name="new", n=1).id


@handler(HANDLERS)
def atomic(world: World) -> Any:
    with world.around(), world.db.atomic():
        world.item.create(name="a")
        world.item.create(name="b")
    return "done"


@handler(HANDLERS)
def nested(world: World) -> Any:
    with world.around(), world.db.atomic():
        world.item.create(name="a")
        try:
            with world.db.atomic():
                world.item.create(name="b")
                raise UndoError
        except UndoError:
            pass
        return world.item.select().count()


@handler(HANDLERS)
def transaction_rolled_back(world: World) -> Any:
    with world.around():
        with world.db.atomic() as transaction:
            world.item.create(name="a")
            transaction.rollback()
        world.item.create(name="b")
    return "done"


@handler(HANDLERS)
def rolled_back_by_an_error(world: World) -> Any:
    with world.around():
        try:
            with world.db.atomic():
                world.item.create(name="a")
                raise UndoError
        except UndoError:
            pass
        world.item.create(name="b")
    return "done"


@handler(HANDLERS)
def caught(world: World) -> Any:
    with world.around():
        try:
            world.item.create(name="one")
        except peewee.IntegrityError as error:
            found = str(error)
        world.item.create(name="b")
    return found


@handler(HANDLERS)
def caught_in_atomic(world: World) -> Any:
    with world.around(), world.db.atomic():
        world.item.create(name="a")
        try:
            with world.db.atomic():
                world.item.create(name="one")
        except peewee.IntegrityError:
            world.item.create(name="b")
    return "done"


@handler(HANDLERS)
def read_after_write(world: World) -> Any:
    with world.around():
        world.item.create(name="a", n=7)
        return [(item.name, item.n) for item in world.item.select().order_by(world.item.name)]


@handler(HANDLERS)
def many(world: World) -> Any:
    with world.around():
        rows = [{"name": f"n{number}", "n": number} for number in range(5)]
        made = world.item.insert_many(rows).execute()
        return made if isinstance(made, int) else [list(row) for row in made]


@handler(HANDLERS)
def bulk_create(world: World) -> Any:
    with world.around():
        world.item.bulk_create([world.item(name=f"n{number}") for number in range(5)], 2)
    return "done"


@handler(HANDLERS)
def update_and_delete(world: World) -> Any:
    item = world.item
    with world.around():
        changed = item.update(n=item.n + 1).where(item.name == "one").execute()
        return [changed, item.delete().where(item.name == "two").execute()]


@handler(HANDLERS)
def get_or_create(world: World) -> Any:
    with world.around():
        _, was_made = world.item.get_or_create(name="one")
        _, is_made = world.item.get_or_create(name="three")
        return [was_made, is_made]


@handler(HANDLERS)
def upsert(world: World) -> Any:
    item = world.item
    with world.around():
        target = (
            {} if isinstance(world.db, peewee.MySQLDatabase) else {"conflict_target": [item.name]}
        )
        item.insert(name="one", n=5).on_conflict(**target, update={item.n: item.n + 5}).execute()
        return item.get(item.name == "one").n


@handler(HANDLERS, on=SERVERS)
def for_update(world: World) -> Any:
    with world.around(), world.db.atomic():
        item = world.item.select().where(world.item.name == "one").for_update().get()
        item.n -= 3
        item.save()
    return item.n


@handler(HANDLERS, on=("postgresql",))
def returning(world: World) -> Any:
    item = world.item
    with world.around():
        changed = item.update(n=item.n + 1).where(item.n > 0).returning(item.name, item.n)
        return sorted((one.name, one.n) for one in changed.execute())


@handler(HANDLERS, on=("sqlite",))
def own_function(world: World) -> Any:
    # Which peewee makes on each connection.
    with world.around():
        twice = peewee.fn.twice(world.item.n)
        return sorted(world.item.select(twice).where(world.item.n > 0).tuples())


@handler(HANDLERS)
def only_reads(world: World) -> Any:
    with world.around():
        return sorted(item.name for item in world.item.select())


PER_REQUEST = list(HANDLERS)


@handler(PER_REQUEST)
def manual_commit(world: World) -> Any:
    with world.around(), world.db.manual_commit():
        world.db.begin()
        world.item.create(name="a")
        world.db.commit()
        world.db.begin()
        world.item.create(name="b")
        world.db.rollback()
    return "done"


# SQLite ------------------------------------------------------------------------------------------


@library("peewee", driver="sqlite3", is_async=False, handlers=PER_REQUEST, add=add)
async def per_request(file: File) -> AsyncIterator[World]:
    yield World(peewee.SqliteDatabase(file.path), per_request=True)


@library("peewee-pragmas", driver="sqlite3", is_async=False, handlers=PER_REQUEST, add=add)
async def with_pragmas(file: File) -> AsyncIterator[World]:
    pragmas = {"journal_mode": "wal", "foreign_keys": 1, "cache_size": -64000, "synchronous": 1}
    yield World(peewee.SqliteDatabase(file.path, pragmas=pragmas), per_request=True)


@library(
    "peewee-kept",
    driver="sqlite3",
    is_async=False,
    handlers=HANDLERS,
    add=add,
    early="opened before",
)
async def kept(file: File) -> AsyncIterator[World]:
    # A connection for each thread, which nobody closes.
    db = peewee.SqliteDatabase(file.path)
    yield World(db, per_request=False)
    db.close()


@library(
    "peewee-pool",
    driver="sqlite3",
    is_async=False,
    handlers=PER_REQUEST,
    add=add,
    early="opened before",
)
async def pooled(file: File) -> AsyncIterator[World]:
    db = PooledSqliteDatabase(file.path, max_connections=4, check_same_thread=False)
    yield World(db, per_request=True)
    db.close_all()


async def _add(world: World, name: str) -> Any:
    return add(world, name)


@library(
    "peewee-on-the-loop",
    driver="sqlite3",
    is_async=True,
    handlers=[on_loop(one) for one in HANDLERS],
    add=_add,
)
async def on_the_loop(file: File) -> AsyncIterator[World]:
    yield World(peewee.SqliteDatabase(file.path), per_request=True)


# Servers -----------------------------------------------------------------------------------------


@contextmanager
def opened(driver: str, store: Server, **options: Any) -> Iterator[Any]:
    """A database on a driver; with ``max_connections`` it has a pool."""
    found = peewee.mysql  # type: ignore[attr-defined]
    if store.on == "mariadb":
        # As if only this one were installed.
        module = "MySQLdb" if driver == "mysqlclient" else driver
        peewee.mysql = import_module(module)  # type: ignore[attr-defined]
        kind = PooledMySQLDatabase if options else peewee.MySQLDatabase
        options["charset"] = "utf8mb4"
        if driver == "pymysql":
            options["ssl_disabled"] = True  # else it reads the system's certificates each time
    elif driver == "psycopg":
        kind = PooledPsycopg3Database if options else Psycopg3Database
    else:
        kind = PooledPostgresqlDatabase if options else peewee.PostgresqlDatabase
    try:
        yield kind(**{**store.parameters, **options})
    finally:
        peewee.mysql = found  # type: ignore[attr-defined]


def register(driver: str) -> None:
    """Register peewee on a server's driver, in each of its ways."""

    @library(f"peewee-{driver}", driver=driver, is_async=False, handlers=PER_REQUEST, add=add)
    async def per_request(store: Server) -> AsyncIterator[World]:
        with opened(driver, store) as db:
            yield World(db, per_request=True)

    async def pooled(store: Server) -> AsyncIterator[World]:
        with opened(driver, store, max_connections=1, timeout=10) as db:
            yield World(db, per_request=True)
            db.close_all()

    if driver != "psycopg" or PooledPsycopg3Database is not None:
        library(
            f"peewee-pool-{driver}",
            driver=driver,
            is_async=False,
            handlers=PER_REQUEST,
            add=add,
            # Here warnings are errors; mysqlclient's about ping() lets the pool connect each time.
            early="" if driver == "mysqlclient" else early_of(driver),
        )(pooled)

    few = [one for one in HANDLERS if one.name in ("insert", "nested", "caught")]

    @library(
        f"peewee-kept-{driver}",
        driver=driver,
        is_async=False,
        handlers=few,
        add=add,
        early=early_of(driver),
    )
    async def kept(store: Server) -> AsyncIterator[World]:
        # A connection for each thread, which nobody closes.
        with opened(driver, store) as db:
            yield World(db, per_request=False)

    @library(
        f"peewee-on-the-loop-{driver}",
        driver=driver,
        is_async=True,
        handlers=[on_loop(one) for one in few],
        add=_add,
    )
    async def on_the_loop(store: Server) -> AsyncIterator[World]:
        with opened(driver, store) as db:
            yield World(db, per_request=True)


for _driver in ("psycopg2", "psycopg", "pymysql", "mysqlclient"):
    register(_driver)
