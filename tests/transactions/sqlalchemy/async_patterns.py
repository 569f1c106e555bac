"""What handlers do with async engines; the sync ones are in patterns.py."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, MissingGreenlet, StatementError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

from tests.transactions.sqlalchemy.patterns import (
    ALL,
    LEAKED,
    MARIADB,
    SERVERS,
    Pattern,
    busy_elsewhere,
)
from tests.transactions.sqlalchemy.worlds import Item, World, items

F = TypeVar("F", bound=Callable[..., Any])
PATTERNS: list[Pattern] = []
# Outside of SQLAlchemy's greenlets: some drivers' errors come wrapped, orig is MissingGreenlet.
WRONG_PLACE = (MissingGreenlet, StatementError)


def pattern(
    *,
    families: tuple[str, ...] = ALL,
    refused: tuple[str, ...] = (),
    because: str = "",
    unawaited: bool = False,
) -> Callable[[F], F]:
    def register(act: F) -> F:
        PATTERNS.append(Pattern(act, families, refused, because, unawaited))
        return act

    return register


async def names(session: AsyncSession) -> list[str]:
    return list(await session.scalars(sa.select(Item.name).order_by(Item.name)))


async def add(world: World, name: str, n: int = 1) -> None:
    async with AsyncSession(world.async_engine) as session:
        session.add(Item(name=name, n=n))
        await session.commit()


@pattern()
async def session_commit(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        item = Item(name="new", n=1)
        session.add(item)
        await session.commit()
        await session.refresh(item)
        return [item.id, item.name]


@pattern()
async def session_begin(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session, session.begin():
        session.add(Item(name="new", n=1))
    return "done"


@pattern()
async def sessionmaker_begin(world: World) -> Any:
    async with async_sessionmaker(world.async_engine).begin() as session:
        session.add_all([Item(name="new", n=1), Item(name="newer", n=2)])
        await session.flush()
        return await names(session)


@pattern()
async def scoped(world: World) -> Any:
    registry = async_scoped_session(
        async_sessionmaker(world.async_engine), scopefunc=asyncio.current_task
    )
    registry.add(Item(name="new", n=1))
    await registry.commit()
    found = await registry.scalar(sa.select(sa.func.count()).select_from(Item))
    await registry.remove()
    return found


@pattern()
async def engine_begin(world: World) -> Any:
    async with world.async_engine.begin() as connection:
        await connection.execute(sa.insert(items).values(name="new", n=1))
        return await connection.scalar(sa.select(sa.func.count()).select_from(items))


@pattern()
async def connect_commit(world: World) -> Any:
    async with world.async_engine.connect() as connection:
        await connection.execute(sa.insert(items).values(name="new", n=1))
        await connection.commit()
        await connection.execute(sa.insert(items).values(name="not committed", n=1))
    return "done"


@pattern()
async def raw_connection(world: World) -> Any:
    connection = await world.async_engine.raw_connection()

    def work(_: Any) -> int:
        cursor = connection.cursor()
        cursor.execute("INSERT INTO item (name, n) VALUES ('new', 1)")
        connection.commit()
        cursor.execute("SELECT count(*) FROM item")
        (found,) = cursor.fetchone() or (0,)
        cursor.close()
        connection.close()
        return int(found)

    return await sa.util.greenlet_spawn(work, None)


@pattern()
async def run_sync(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:

        def work(sync: Any) -> int:
            sync.add(Item(name="new", n=1))
            sync.commit()
            return len(sync.scalars(sa.select(Item)).all())

        return await session.run_sync(work)


@pattern()
async def for_update(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        item = (
            await session.scalars(sa.select(Item).where(Item.name == "one").with_for_update())
        ).one()
        item.n -= 3
        await session.commit()
        await session.refresh(item)
        return item.n


@pattern()
async def many_at_once(world: World) -> Any:
    async with world.async_engine.begin() as connection:
        await connection.execute(
            sa.insert(items), [{"name": f"new {number}", "n": number} for number in range(50)]
        )
        changed = await connection.execute(
            sa.update(items).where(items.c.n > 40).values(n=items.c.n + 1)
        )
        return changed.rowcount


@pattern()
async def orm_bulk(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        session.add_all([Item(name=f"new {number}", n=number) for number in range(50)])
        await session.commit()
        return len(await names(session))


@pattern()
async def only_reads(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        return await names(session)


@pattern()
async def rolls_back_itself(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        session.add(Item(name="not wanted", n=1))
        await session.flush()
        await session.rollback()
        session.add(Item(name="wanted", n=1))
        await session.commit()
        return await names(session)


@pattern()
async def duplicate_is_handled(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        session.add(Item(name="one", n=1))
        try:
            await session.commit()
        except IntegrityError:
            await session.rollback()
            session.add(Item(name="another", n=1))
            await session.commit()
            return "another"
        return "no error"


@pattern()
async def swallowed_error_then_commit(world: World) -> Any:
    async with world.async_engine.connect() as connection:
        await connection.execute(sa.insert(items).values(name="before", n=1))
        try:
            await connection.execute(sa.insert(items).values(name="one", n=1))
        except IntegrityError:
            pass
        await connection.commit()
    return "done"


@pattern()
async def nested_failure_inside_a_commit(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        session.add(Item(name="kept", n=1))
        await session.flush()
        try:
            async with session.begin_nested():
                session.add(Item(name="one", n=1))
        except IntegrityError:
            pass
        session.add(Item(name="kept too", n=1))
        await session.commit()
        return await names(session)


@pattern()
async def leaks_a_session(world: World) -> Any:
    session = AsyncSession(world.async_engine)
    session.add(Item(name="never committed", n=1))
    await session.flush()
    LEAKED.append(session)
    return "flushed"


@pattern()
async def reader_stays_open(world: World) -> Any:
    reader, writer = AsyncSession(world.async_engine), AsyncSession(world.async_engine)
    (await reader.scalars(sa.select(Item).where(Item.name == "one"))).one()
    writer.add(Item(name="new", n=1))
    await writer.commit()
    await writer.close()
    await reader.close()
    return "done"


@pattern(families=SERVERS)
async def interleaved_commits(world: World) -> Any:
    first, second = AsyncSession(world.async_engine), AsyncSession(world.async_engine)
    first.add(Item(name="first", n=1))
    await first.flush()
    second.add(Item(name="second", n=1))
    await second.flush()
    await first.commit()
    await second.commit()
    await first.close()
    await second.close()
    return "done"


@pattern(families=SERVERS, refused=SERVERS, because="overlap")
async def interleaved_and_rolled_back(world: World) -> Any:
    first, second = AsyncSession(world.async_engine), AsyncSession(world.async_engine)
    first.add(Item(name="first", n=1))
    await first.flush()
    second.add(Item(name="second", n=1))
    await second.commit()
    await first.rollback()
    await first.close()
    await second.close()
    return "done"


@pattern(families=SERVERS)
async def inner_fails_while_reader_is_open(world: World) -> Any:
    reader, writer = AsyncSession(world.async_engine), AsyncSession(world.async_engine)
    before = await names(reader)
    writer.add(Item(name="one", n=1))
    try:
        await writer.commit()
    except IntegrityError:
        pass
    after = await names(reader)
    await writer.rollback()
    writer.add(Item(name="new", n=1))
    await writer.commit()
    await writer.close()
    await reader.close()
    return [before, after]


@pattern(families=SERVERS)
async def gathers_five(world: World) -> Any:
    await asyncio.gather(*(add(world, f"new {number}", number) for number in range(5)))
    return "done"


@pattern()
async def autocommit_connection(world: World) -> Any:
    async with world.async_engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.insert(items).values(name="new", n=1))
        await connection.rollback()
        await connection.execute(sa.insert(items).values(name="newer", n=1))
    return "done"


@pattern()
async def autocommit_sub_engine(world: World) -> Any:
    engine = world.async_engine.execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(sa.insert(items).values(name="new", n=1))
    await add(world, "newer")
    return "done"


@pattern()
async def raw_savepoints(world: World) -> Any:
    async with world.async_engine.begin() as connection:
        await connection.execute(sa.insert(items).values(name="kept", n=1))
        await connection.exec_driver_sql("SAVEPOINT mine")
        await connection.execute(sa.insert(items).values(name="not kept", n=1))
        await connection.exec_driver_sql("ROLLBACK TO SAVEPOINT mine")
    return "done"


@pattern(refused=("mysql",), because="DDL")
async def creates_a_table(world: World) -> Any:
    async with world.async_engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS made (n INTEGER)")
        await connection.exec_driver_sql("DROP TABLE made")
        await connection.execute(sa.insert(items).values(name="new", n=1))
    return "done"


@pattern(families=SERVERS, refused=SERVERS, because="isolation_level=")
async def stricter_isolation(world: World) -> Any:
    async with world.async_engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="SERIALIZABLE")
        await connection.execute(sa.insert(items).values(name="new", n=1))
        await connection.commit()
    return "done"


@pattern(families=SERVERS)
async def streams(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        session.add_all([Item(name=f"new {number:03}", n=number) for number in range(100)])
        await session.commit()
        rows = await session.stream(
            sa.select(Item.name).order_by(Item.id).execution_options(yield_per=10)
        )
        return [name async for (name,) in rows]


@pattern(families=SERVERS)
async def writes_while_streaming(world: World) -> Any:
    await add(world, "third", 30)
    total = 0
    async with AsyncSession(world.async_engine) as reader:
        rows = await reader.stream(
            sa.select(Item.name, Item.n)
            .where(Item.n > 0)
            .order_by(Item.id)
            .execution_options(yield_per=1)
        )
        async for name, n in rows:
            total += n
            await add(world, f"seen {name}", n)
    return total


@pattern(families=("postgresql",))
async def local_setting(world: World) -> Any:
    found = []
    async with AsyncSession(world.async_engine) as session:
        for tenant in ("a", "b"):
            await session.execute(sa.text(f"SET LOCAL app.tenant = '{tenant}'"))
            found.append(await session.scalar(sa.text("SELECT current_setting('app.tenant')")))
            await session.commit()
        found.append(await session.scalar(sa.text("SELECT current_setting('app.tenant', true)")))
    return found


@pattern()
async def timeout_is_handled_before_the_database(world: World) -> Any:
    try:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(10)
    except TimeoutError:
        await add(world, "new")
    return "done"


def is_asyncpg(world: World) -> bool:
    return world.driver.endswith("asyncpg")


@pattern(families=("postgresql",))
async def copies_by_asyncpg(world: World) -> Any:
    async with world.async_engine.begin() as connection:
        if is_asyncpg(world):
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            await driver.copy_records_to_table("item", records=[("new", 1)], columns=["name", "n"])
            return await driver.fetchval("SELECT count(*) FROM item")
        await connection.execute(sa.insert(items).values(name="new", n=1))
        return await connection.scalar(sa.select(sa.func.count()).select_from(items))


@pattern(families=("postgresql",))
async def asyncpg_commits_by_itself(world: World) -> Any:
    """Before SQLAlchemy has begun a transaction, each statement of the driver's own does."""
    async with world.async_engine.connect() as connection:
        if is_asyncpg(world):
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.execute("INSERT INTO item (name, n) VALUES ($1, 1)", "kept")
        await connection.execute(sa.insert(items).values(name="not kept", n=1))
        if is_asyncpg(world):
            await driver.execute("INSERT INTO item (name, n) VALUES ('not kept either', 1)")
        await connection.rollback()
    return "done"


@pattern(families=("postgresql",))
async def asyncpg_by_keyword(world: World) -> Any:
    """However the statement is given, it is read before it runs."""
    async with world.async_engine.connect() as connection:
        await connection.execute(sa.insert(items).values(name="kept", n=1))
        if is_asyncpg(world):
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.execute(query="INSERT INTO item (name, n) VALUES ('as well', 1)")
            await driver.execute(query="COMMIT")
        await connection.rollback()
        await connection.execute(sa.insert(items).values(name="not kept", n=1))
    return "done"


@pattern(families=("postgresql",))
async def asyncpg_runs_out_of_time(world: World) -> Any:
    """Its time limit stops the statement, and with it the transaction."""
    async with world.async_engine.connect() as connection:
        await connection.execute(sa.insert(items).values(name="undone", n=1))
        if is_asyncpg(world):
            driver: Any = (await connection.get_raw_connection()).driver_connection
            try:
                await driver.fetch("SELECT pg_sleep(60)", timeout=0.1)
            except TimeoutError:
                await connection.commit()
                return "timed out"
        await connection.rollback()
    return "timed out"


@pattern(families=("postgresql",))
async def run_async_and_rolled_back(world: World) -> Any:
    def insert(connection: sa.Connection) -> None:
        connection.execute(sa.text("SELECT 1"))
        adapted: Any = connection.connection.dbapi_connection
        if is_asyncpg(world):
            adapted.run_async(
                lambda driver: driver.execute("INSERT INTO item (name, n) VALUES ('no', 1)")
            )

    async with world.async_engine.connect() as connection:
        await connection.run_sync(insert)
        await connection.rollback()
    return "done"


@pattern(refused=ALL, because="of the driver's own connection")
async def drivers_own_transaction(world: World) -> Any:
    async with world.async_engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        if is_asyncpg(world):
            async with driver.transaction():
                await driver.execute("INSERT INTO item (name, n) VALUES ('new', 1)")
        else:
            await driver.commit()
    return "done"


# Statements that are not what their first words say -----------------------------------------------


@pattern(families=("postgresql",), refused=("postgresql",), because="before the batch's COMMIT")
async def unlocks_before_commit(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        await session.execute(sa.text("SELECT pg_advisory_lock(7)"))
        session.add(Item(name="new", n=1))
        await session.commit()
        return await session.scalar(sa.text("SELECT pg_advisory_unlock(7)"))


@pattern(families=MARIADB, refused=("mysql",), because="SET STATEMENT")
async def commits_within_a_time(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        session.add(Item(name="new", n=1))
        await session.flush()
        await session.execute(sa.text("SET STATEMENT max_statement_time = 60 FOR COMMIT"))
    return "done"


# Nothing is sent outside of SQLAlchemy's greenlets: the handler may go on -------------------------


@pattern(unawaited=True)
async def loads_lazily_after_commit(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        item = Item(name="new", n=1)
        session.add(item)
        await session.commit()
        try:
            return item.name  # expired by the commit
        except WRONG_PLACE:
            await session.refresh(item)
        item.n = 2
        await session.commit()
        return "loaded"


@pattern(unawaited=True)
async def reads_in_a_wrong_place(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        for name in ("new", "newer"):  # with a new connection, and with one that is in use
            try:
                session.sync_session.scalars(sa.select(Item.name)).all()
            except WRONG_PLACE:
                session.add(Item(name=name, n=1))
                await session.flush()
        await session.commit()
        return "done"


@pattern(unawaited=True)
async def writes_in_a_wrong_place(world: World) -> Any:
    count = sa.update(items).where(items.c.name == "new").values(n=items.c.n + 1)
    async with world.async_engine.connect() as connection:
        await connection.execute(sa.insert(items).values(name="new", n=1))
        for _ in "ab":
            try:
                connection.sync_connection.execute(  # type: ignore[union-attr]
                    sa.insert(items).values(name="wrong", n=1)
                )
            except WRONG_PLACE:
                await connection.execute(count)
        await connection.commit()
        try:
            connection.sync_connection.execute(  # type: ignore[union-attr]
                sa.insert(items).values(name="wrong", n=1)
            )
        except WRONG_PLACE:
            await connection.execute(sa.insert(items).values(name="newer", n=1))
        await connection.commit()
    return "done"


@pattern(unawaited=True)
async def savepoints_in_a_wrong_place(world: World) -> Any:
    count = sa.update(items).where(items.c.name == "new").values(n=items.c.n + 1)
    async with world.async_engine.connect() as connection:
        await connection.execute(sa.insert(items).values(name="new", n=1))
        own: Any = connection.sync_connection
        failed = 0
        for text in ("SAVEPOINT mine", "ROLLBACK TO SAVEPOINT mine", "RELEASE SAVEPOINT mine"):
            try:
                own.exec_driver_sql(text)
            except WRONG_PLACE:
                failed += 1
            await connection.exec_driver_sql(text)
            await connection.execute(count)
        await connection.commit()
    return failed


@pattern()
async def controls_by_text(world: World) -> Any:
    async with world.async_engine.connect() as connection:
        await connection.execute(sa.insert(items).values(name="new", n=1))
        for text in ("SAVEPOINT mine", "RELEASE SAVEPOINT mine", "COMMIT"):
            await connection.execute(sa.text(text))
    return "done"


# What is being handled says nothing about the database's answer -----------------------------------


@pattern()
async def duplicate_while_a_cache_is_down(world: World) -> Any:
    try:
        await asyncio.open_connection("127.0.0.1", 1)
    except OSError:
        return await insert_or_find(world)
    return "somebody listens on port 1"


@pattern()
async def duplicate_while_something_is_missing(world: World) -> Any:
    try:
        return os.environ["NO_SUCH_KEY"]
    except KeyError:
        return await insert_or_find(world)


@pattern()
async def duplicate_while_another_database_is_busy(world: World) -> Any:
    try:
        busy_elsewhere()
    except sqlite3.OperationalError:
        return await insert_or_find(world)
    return "not busy"


@pattern(unawaited=True)
async def lazy_load_while_another_database_is_busy(world: World) -> Any:
    async with AsyncSession(world.async_engine) as session:
        try:
            busy_elsewhere()
        except sqlite3.OperationalError:
            try:
                session.sync_session.scalars(sa.select(Item.name)).all()
            except WRONG_PLACE:
                session.add(Item(name="new", n=1))
                await session.commit()
    return "done"


@pattern()
async def duplicate_in_a_group(world: World) -> Any:
    async def busy() -> None:
        busy_elsewhere()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(busy())
    except* sqlite3.OperationalError:
        found = await insert_or_find(world)
    return found


async def insert_or_find(world: World) -> str:
    async with AsyncSession(world.async_engine) as session:
        session.add(Item(name="one", n=1))
        try:
            await session.commit()
        except IntegrityError:
            await session.rollback()
            session.add(Item(name="another", n=1))
            await session.commit()
            return "is there"
    return "new"


@pattern(families=SERVERS)
async def gives_up_waiting(world: World) -> Any:
    """In a batch sessions stand in line for the one connection; nothing of this one was sent."""
    nap = "SELECT pg_sleep(0.4)" if world.family == "postgresql" else "SELECT SLEEP(0.4)"

    async def sleep() -> None:
        async with AsyncSession(world.async_engine) as session:
            await session.execute(sa.text(nap))

    async with asyncio.TaskGroup() as group, AsyncSession(world.async_engine) as session:
        await session.scalar(sa.select(Item.n))
        group.create_task(sleep())
        await asyncio.sleep(0.1)
        try:
            async with asyncio.timeout(0.1):
                found = await session.scalar(sa.select(Item.n).where(Item.name == "one"))
        except TimeoutError:
            await session.rollback()
            found = await session.scalar(sa.select(Item.n).where(Item.name == "one"))
        session.add(Item(name="new", n=1))
        await session.commit()
    return found
