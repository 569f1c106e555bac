"""The handlers of Tortoise, Piccolo and databases."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

from databases import Database
from piccolo.columns import Integer, Varchar
from piccolo.engine.sqlite import SQLiteEngine
from piccolo.table import Table
from tortoise import Tortoise
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.exceptions import IntegrityError
from tortoise.expressions import F
from tortoise.transactions import atomic, in_transaction

from tests.transactions.drivers.files import File
from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.tortoise_models import Item

# Tortoise ----------------------------------------------------------------------------------------

OF_TORTOISE: list[Handler] = []


async def tortoise_add(world: Any, name: str) -> Any:
    await Item.create(name=name)
    return name


@handler(OF_TORTOISE)
async def tortoise_insert(world: Any) -> Any:
    return (await Item.create(name="new", n=1)).id


@handler(OF_TORTOISE)
async def tortoise_transaction(world: Any) -> Any:
    async with in_transaction():
        await Item.create(name="a")
        await Item.create(name="b")
    return "done"


@handler(OF_TORTOISE)
async def tortoise_atomic(world: Any) -> Any:
    @atomic()
    async def work() -> None:
        await Item.create(name="a")
        raise UndoError

    try:
        await work()
    except UndoError:
        await Item.create(name="b")
    return "done"


@handler(OF_TORTOISE)
async def tortoise_nested(world: Any) -> Any:
    async with in_transaction():
        await Item.create(name="a")
        try:
            async with in_transaction():
                await Item.create(name="b")
                raise UndoError
        except UndoError:
            pass
    return await Item.all().count()


@handler(OF_TORTOISE)
async def tortoise_rollback(world: Any) -> Any:
    async with in_transaction() as transaction:
        await Item.create(name="a", using_db=transaction)
        await transaction.rollback()
    await Item.create(name="b")
    return "done"


@handler(OF_TORTOISE)
async def tortoise_caught(world: Any) -> Any:
    try:
        await Item.create(name="one")
    except IntegrityError as error:
        found = str(error)
    await Item.create(name="b")
    return found


@handler(OF_TORTOISE)
async def tortoise_read_after_write(world: Any) -> Any:
    await Item.create(name="a", n=7)
    return await Item.all().order_by("name").values_list("name", "n")


@handler(OF_TORTOISE)
async def tortoise_bulk(world: Any) -> Any:
    await Item.bulk_create([Item(name=f"n{number}") for number in range(5)], batch_size=2)
    return await Item.all().count()


@handler(OF_TORTOISE)
async def tortoise_update_and_delete(world: Any) -> Any:
    changed = await Item.filter(name="one").update(n=F("n") + 5)
    return [changed, await Item.filter(name="two").delete()]


@handler(OF_TORTOISE)
async def tortoise_get_or_create(world: Any) -> Any:
    _, was_made = await Item.get_or_create(name="one")
    _, is_made = await Item.get_or_create(name="three")
    return [was_made, is_made]


@handler(OF_TORTOISE)
async def tortoise_select_for_update(world: Any) -> Any:
    async with in_transaction():
        item = await Item.filter(name="one").select_for_update().get()
        item.n -= 3
        await item.save()
    return item.n


@handler(OF_TORTOISE)
async def tortoise_gather(world: Any) -> Any:
    await asyncio.gather(*(Item.create(name=f"n{number}") for number in range(5)))
    return await Item.all().count()


@handler(OF_TORTOISE)
async def tortoise_only_reads(world: Any) -> Any:
    return sorted(await Item.all().values_list("name", flat=True))


@library("tortoise", driver="aiosqlite", is_async=True, handlers=OF_TORTOISE, add=tortoise_add)
async def tortoise(file: File) -> AsyncIterator[Any]:
    EXECUTOR_CACHE.clear()  # SQL of another database's
    await Tortoise.init(
        db_url=f"sqlite://{file.path}",
        modules={"models": ["tests.transactions.drivers.tortoise_models"]},
    )
    await Item.all().count()  # it connects when it is first used
    yield None
    await Tortoise.close_connections()


# Piccolo -----------------------------------------------------------------------------------------

OF_PICCOLO: list[Handler] = []


async def piccolo_add(item: Any, name: str) -> Any:
    await item.insert(item(name=name, n=0))
    return name


@handler(OF_PICCOLO)
async def piccolo_insert(item: Any) -> Any:
    return await item.insert(item(name="new", n=1))


@handler(OF_PICCOLO)
async def piccolo_transaction(item: Any) -> Any:
    async with item._meta.db.transaction():
        await item.insert(item(name="a", n=1))
        await item.insert(item(name="b", n=2))
    return "done"


@handler(OF_PICCOLO)
async def piccolo_atomic(item: Any) -> Any:
    queries = item._meta.db.atomic()
    queries.add(item.insert(item(name="a", n=1)), item.insert(item(name="b", n=2)))
    await queries.run()
    return "done"


@handler(OF_PICCOLO)
async def piccolo_savepoint(item: Any) -> Any:
    async with item._meta.db.transaction() as transaction:
        await item.insert(item(name="a", n=1))
        savepoint = await transaction.savepoint()
        await item.insert(item(name="b", n=2))
        await savepoint.rollback_to()
    return await item.count()


@handler(OF_PICCOLO)
async def piccolo_rollback(item: Any) -> Any:
    async with item._meta.db.transaction() as transaction:
        await item.insert(item(name="a", n=1))
        await transaction.rollback()
    await item.insert(item(name="b", n=2))
    return "done"


@handler(OF_PICCOLO)
async def piccolo_undone(item: Any) -> Any:
    try:
        async with item._meta.db.transaction():
            await item.insert(item(name="a", n=1))
            raise UndoError
    except UndoError:
        await item.insert(item(name="b", n=2))
    return "done"


@handler(OF_PICCOLO)
async def piccolo_caught(item: Any) -> Any:
    try:
        await item.insert(item(name="one", n=1))
    except sqlite3.IntegrityError as error:
        found = str(error)
    await item.insert(item(name="b", n=2))
    return found


@handler(OF_PICCOLO)
async def piccolo_read_after_write(item: Any) -> Any:
    await item.insert(item(name="a", n=7))
    return await item.select(item.name, item.n).order_by(item.name)


@handler(OF_PICCOLO)
async def piccolo_update_and_delete(item: Any) -> Any:
    await item.update({item.n: item.n + 5}).where(item.name == "one")
    await item.delete().where(item.name == "two")
    return await item.count()


@handler(OF_PICCOLO)
async def piccolo_only_reads(item: Any) -> Any:
    return sorted(await item.select(item.name).output(as_list=True))


@library("piccolo", driver="aiosqlite", is_async=True, handlers=OF_PICCOLO, add=piccolo_add)
async def piccolo(file: File) -> AsyncIterator[Any]:
    engine = SQLiteEngine(path=file.path)

    class PiccoloItem(Table, tablename="item", db=engine):
        name = Varchar(unique=True)
        n = Integer()

    yield PiccoloItem


# databases ---------------------------------------------------------------------------------------

OF_DATABASES: list[Handler] = []
_INSERT = "INSERT INTO item (name, n) VALUES (:name, :n)"


async def databases_add(db: Database, name: str) -> Any:
    await db.execute(_INSERT, {"name": name, "n": 0})
    return name


@handler(OF_DATABASES)
async def databases_insert(db: Database) -> Any:
    return await db.execute(_INSERT, {"name": "new", "n": 1})


@handler(OF_DATABASES)
async def databases_transaction(db: Database) -> Any:
    async with db.transaction():
        await db.execute(_INSERT, {"name": "a", "n": 1})
        await db.execute(_INSERT, {"name": "b", "n": 2})
    return "done"


@handler(OF_DATABASES)
async def databases_nested(db: Database) -> Any:
    async with db.transaction():
        await db.execute(_INSERT, {"name": "a", "n": 1})
        try:
            async with db.transaction():
                await db.execute(_INSERT, {"name": "b", "n": 2})
                raise UndoError
        except UndoError:
            pass
    return await db.fetch_val("SELECT count(*) FROM item")


@handler(OF_DATABASES)
async def databases_rollback(db: Database) -> Any:
    transaction = await db.transaction()
    await db.execute(_INSERT, {"name": "a", "n": 1})
    await transaction.rollback()
    await db.execute(_INSERT, {"name": "b", "n": 2})
    return "done"


@handler(OF_DATABASES)
async def databases_caught(db: Database) -> Any:
    try:
        await db.execute(_INSERT, {"name": "one", "n": 1})
    except sqlite3.IntegrityError as error:
        found = str(error)
    await db.execute(_INSERT, {"name": "b", "n": 2})
    return found


@handler(OF_DATABASES)
async def databases_read_after_write(db: Database) -> Any:
    await db.execute(_INSERT, {"name": "a", "n": 7})
    return [tuple(row) for row in await db.fetch_all("SELECT name, n FROM item ORDER BY name")]


@handler(OF_DATABASES)
async def databases_many(db: Database) -> Any:
    await db.execute_many(_INSERT, [{"name": f"n{n}", "n": n} for n in range(5)])
    return await db.fetch_val("SELECT count(*) FROM item")


@handler(OF_DATABASES)
async def databases_iterate(db: Database) -> Any:
    found = []
    async with db.transaction():
        async for row in db.iterate("SELECT name FROM item ORDER BY name"):
            found.append(row[0])  # noqa: PERF401
    return found


@handler(OF_DATABASES)
async def databases_connection(db: Database) -> Any:
    async with db.connection() as connection, connection.transaction():
        await connection.execute(_INSERT, {"name": "a", "n": 1})
    return "done"


@library("databases", driver="aiosqlite", is_async=True, handlers=OF_DATABASES, add=databases_add)
async def databases(file: File) -> AsyncIterator[Database]:
    async with Database(f"sqlite:///{file.path}") as db:
        yield db
