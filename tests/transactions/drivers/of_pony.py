"""Pony's handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pony import orm

from tests.transactions.drivers.files import File
from tests.transactions.drivers.libraries import (
    Handler,
    UndoError,
    early_of,
    handler,
    library,
    loaded_without,
    on_loop,
)
from tests.transactions.drivers.servers import Server

HANDLERS: list[Handler] = []


def add(item: Any, name: str) -> Any:
    with orm.db_session:
        item(name=name, n=0)
    return name


@handler(HANDLERS)
def insert(item: Any) -> Any:
    with orm.db_session:
        made = item(name="new", n=1)
        orm.flush()
        return made.id


@handler(HANDLERS)
def decorated(item: Any) -> Any:
    @orm.db_session  # type: ignore[untyped-decorator]
    def work() -> None:
        item(name="a", n=1)
        item(name="b", n=2)

    work()
    return "done"


@handler(HANDLERS)
def commits_twice(item: Any) -> Any:
    with orm.db_session:
        item(name="a", n=1)
        orm.commit()
        item(name="b", n=2)
        orm.commit()
        item(name="c", n=3)
    return "done"


@handler(HANDLERS)
def rolls_back(item: Any) -> Any:
    with orm.db_session:
        item(name="a", n=1)
        orm.flush()
        orm.rollback()
        item(name="b", n=1)
    return "done"


@handler(HANDLERS)
def rolled_back_by_an_error(item: Any) -> Any:
    try:
        with orm.db_session:
            item(name="a", n=1)
            orm.flush()
            raise UndoError
    except UndoError:
        pass
    with orm.db_session:
        item(name="b", n=1)
    return "done"


@handler(HANDLERS)
def caught(item: Any) -> Any:
    try:
        with orm.db_session:
            item(name="a", n=1)
            item(name="one", n=1)
    except orm.TransactionIntegrityError as error:
        found = type(error).__name__
    with orm.db_session:
        item(name="b", n=1)
    return found


@handler(HANDLERS)
def read_after_write(item: Any) -> Any:
    with orm.db_session:
        item(name="a", n=7)
        return [[one.name, one.n] for one in item.select().order_by(item.name)]


@handler(HANDLERS)
def update_and_delete(item: Any) -> Any:
    with orm.db_session:
        item.get(name="one").n += 5
        item.get(name="two").delete()
    return "done"


@handler(HANDLERS)
def bulk_delete(item: Any) -> Any:
    with orm.db_session:
        return orm.delete(one for one in item if one.n > 15)


@handler(HANDLERS)
def for_update(item: Any) -> Any:
    with orm.db_session:
        item.get_for_update(name="one").n -= 3
    return "done"


@handler(HANDLERS)
def own_functions(item: Any) -> Any:
    # power() and py_upper() are functions of Python's that Pony makes on its connection.
    with orm.db_session:
        return sorted(orm.select((one.name.upper(), one.n**2) for one in item)[:])


@handler(HANDLERS)
def case_counts(item: Any) -> Any:
    # PRAGMA case_sensitive_like of Pony's connections.
    with orm.db_session:
        return len(item.select(lambda one: one.name.startswith("O"))[:])


@handler(HANDLERS)
def raw(item: Any) -> Any:
    with orm.db_session:
        item._database_.execute("INSERT INTO item (name, n) VALUES ('raw', 1)")
        return item._database_.select("SELECT count(*) FROM item")


@handler(HANDLERS)
def only_reads(item: Any) -> Any:
    with orm.db_session:
        return sorted(orm.select(one.name for one in item)[:])


def _bound(**options: Any) -> tuple[Any, Any]:
    db = orm.Database()
    db.bind(**options)

    class Item(db.Entity):  # type: ignore[name-defined,misc]
        _table_ = "item"
        id = orm.PrimaryKey(int, auto=True)
        name = orm.Required(str)
        n = orm.Required(int)

    db.generate_mapping()
    return db, Item


@library(
    "pony", driver="sqlite3", is_async=False, handlers=HANDLERS, add=add, early="opened before"
)
async def in_threads(file: File) -> AsyncIterator[Any]:
    db, item = _bound(provider="sqlite", filename=file.path)
    yield item
    db.disconnect()


def _options(driver: str, store: Server) -> dict[str, Any]:
    """What ``bind()`` is given for a server."""
    if store.on == "postgresql":
        return {"provider": "postgres", **store.parameters}
    if driver == "mysqlclient":
        return {"provider": "mysql", **store.parameters}
    # Which it takes where mysqlclient is not installed.
    module: Any = loaded_without("MySQLdb", "pony.orm.dbproviders.mysql")
    # Reading the system's certificates takes PyMySQL longer than most tests.
    return {"provider": module.MySQLProvider, **store.parameters, "ssl_disabled": True}


def register(driver: str) -> None:
    """Register Pony on a server's driver."""

    @library(
        f"pony-{driver}",
        driver=driver,
        is_async=False,
        handlers=HANDLERS,
        add=add,
        early=early_of(driver),
    )
    async def in_threads(store: Server) -> AsyncIterator[Any]:
        db, item = _bound(**_options(driver, store))
        yield item
        db.disconnect()


for _driver in ("psycopg2", "pymysql", "mysqlclient"):
    register(_driver)


async def _add(item: Any, name: str) -> Any:
    return add(item, name)


@library(
    "pony-on-the-loop",
    driver="sqlite3",
    is_async=True,
    handlers=[on_loop(one) for one in HANDLERS],
    add=_add,
    early="opened before",
)
async def on_the_loop(file: File) -> AsyncIterator[Any]:
    # By the connection that bind() has made.
    db, item = _bound(provider="sqlite", filename=file.path)
    yield item
    db.disconnect()
