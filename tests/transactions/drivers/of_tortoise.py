"""Tortoise's handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tortoise import Tortoise
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.exceptions import IntegrityError
from tortoise.expressions import F
from tortoise.transactions import atomic, in_transaction

from tests.transactions.drivers.files import File
from tests.transactions.drivers.libraries import (
    Handler,
    UndoError,
    handler,
    library,
    loaded_without,
)
from tests.transactions.drivers.servers import Server
from tests.transactions.drivers.tortoise_models import Item

HANDLERS: list[Handler] = []


async def add(world: Any, name: str) -> Any:
    await Item.create(name=name)
    return name


@handler(HANDLERS)
async def insert(world: Any) -> Any:
    return (await Item.create(name="new", n=1)).pk


@handler(HANDLERS)
async def transaction(world: Any) -> Any:
    async with in_transaction():
        await Item.create(name="a")
        await Item.create(name="b")
    return "done"


@handler(HANDLERS)
async def decorated(world: Any) -> Any:
    @atomic()
    async def work() -> None:
        await Item.create(name="a")
        raise UndoError

    try:
        await work()
    except UndoError:
        await Item.create(name="b")
    return "done"


@handler(HANDLERS)
async def nested(world: Any) -> Any:
    async with in_transaction():
        await Item.create(name="a")
        try:
            async with in_transaction():
                await Item.create(name="b")
                raise UndoError
        except UndoError:
            pass
    return await Item.all().count()


@handler(HANDLERS)
async def rollback(world: Any) -> Any:
    async with in_transaction() as transaction:
        await Item.create(name="a", using_db=transaction)
        await transaction.rollback()
    await Item.create(name="b")
    return "done"


@handler(HANDLERS)
async def caught(world: Any) -> Any:
    try:
        await Item.create(name="one")
    except IntegrityError as error:
        found = str(error)
    await Item.create(name="b")
    return found


@handler(HANDLERS)
async def read_after_write(world: Any) -> Any:
    await Item.create(name="a", n=7)
    return await Item.all().order_by("name").values_list("name", "n")


@handler(HANDLERS)
async def bulk(world: Any) -> Any:
    await Item.bulk_create([Item(name=f"n{number}") for number in range(5)], batch_size=2)
    return await Item.all().count()


@handler(HANDLERS)
async def update_and_delete(world: Any) -> Any:
    changed = await Item.filter(name="one").update(n=F("n") + 5)
    return [changed, await Item.filter(name="two").delete()]


@handler(HANDLERS)
async def get_or_create(world: Any) -> Any:
    _, was_made = await Item.get_or_create(name="one")
    _, is_made = await Item.get_or_create(name="three")
    return [was_made, is_made]


@handler(HANDLERS)
async def select_for_update(world: Any) -> Any:
    async with in_transaction():
        item = await Item.filter(name="one").select_for_update().get()
        item.n -= 3
        await item.save()
    return item.n


@handler(HANDLERS)
async def gather(world: Any) -> Any:
    await asyncio.gather(*(Item.create(name=f"n{number}") for number in range(5)))
    return await Item.all().count()


@handler(HANDLERS)
async def only_reads(world: Any) -> Any:
    return sorted(await Item.all().values_list("name", flat=True))


@asynccontextmanager
async def opened(connection: Any) -> AsyncIterator[None]:
    """Tortoise on a connection, by an URL or by its parts."""
    EXECUTOR_CACHE.clear()  # SQL of another database's
    models = {"models": {"models": ["tests.transactions.drivers.tortoise_models"]}}
    await Tortoise.init(config={"connections": {"default": connection}, "apps": models})
    try:
        await Item.all().count()  # it connects when it is first used
        yield
    finally:
        await Tortoise.close_connections()


@library("tortoise", driver="aiosqlite", is_async=True, handlers=HANDLERS, add=add)
async def tortoise(file: File) -> AsyncIterator[Any]:
    async with opened(f"sqlite://{file.path}"):
        yield None


def _engine(driver: str) -> str:
    if driver == "aiomysql":
        # Which it takes where asyncmy is not installed.
        module: Any = loaded_without("asyncmy", "tortoise.backends.mysql.client")
        module.client_class = module.MySQLClient
        return str(module.__name__)
    names = {"asyncpg": "asyncpg", "psycopg-async": "psycopg", "asyncmy": "mysql"}
    return f"tortoise.backends.{names[driver]}"


def register(driver: str, size: int) -> None:
    """Register Tortoise on a server's driver, with a pool of some size."""

    @library(
        f"tortoise-{driver}" if size > 1 else f"tortoise-pool-of-one-{driver}",
        driver=driver,
        is_async=True,
        handlers=HANDLERS if size > 1 else [one for one in HANDLERS if one.name in FEW],
        add=add,
    )
    async def on_server(store: Server) -> AsyncIterator[Any]:
        names = {"host": store.host, "port": store.port, "user": store.user}
        credentials = {**names, "password": store.password, "database": store.database}
        sizes = {"minsize": 1, "maxsize": size}
        engine = {"engine": _engine(driver), "credentials": {**credentials, **sizes}}
        async with opened(engine):
            yield None


FEW = ("insert", "nested", "caught", "gather")
for _driver in ("asyncpg", "psycopg-async", "asyncmy", "aiomysql"):
    register(_driver, 3)
    register(_driver, 1)
