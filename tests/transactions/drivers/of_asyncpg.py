"""The handlers of asyncpg: by a pool, and by a connection that the app keeps."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg

from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.servers import PostgreSQL

BY_POOL: list[Handler] = []
HOOKED: list[Handler] = []
KEPT: list[Handler] = []
INSERT = "INSERT INTO item (name, n) VALUES ($1, $2)"
NAMES = "SELECT name FROM item ORDER BY name"


def told(rows: Any) -> Any:
    return [dict(row) for row in rows]


async def add(pool: asyncpg.Pool, name: str) -> Any:
    await pool.execute(INSERT, name, 0)
    return name


@handler(BY_POOL)
async def insert(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        return [
            await connection.execute(INSERT, "new", 1),
            await connection.fetchval(f"{INSERT} RETURNING id", "newer", 2),
            await connection.execute("INSERT INTO item (name) VALUES ('newest'), ('last')"),
        ]


@handler(BY_POOL)
async def by_the_pool_itself(pool: asyncpg.Pool) -> Any:
    await pool.executemany(INSERT, [(f"n{number}", number) for number in range(5)])
    row = await pool.fetchrow("SELECT name, n FROM item WHERE name = $1", "n3")
    rows = await pool.fetch("SELECT name FROM item WHERE n < $1 ORDER BY name", 3)
    return [dict(row), told(rows), await pool.fetchval("SELECT count(*) FROM item")]


@handler(BY_POOL)
async def transaction(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        before = connection.is_in_transaction()
        async with connection.transaction():
            await connection.execute(INSERT, "a", 1)
            inside = connection.is_in_transaction()
            await connection.execute(INSERT, "b", 2)
        return [before, inside, connection.is_in_transaction()]


@handler(BY_POOL)
async def nested(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(INSERT, "a", 1)
        try:
            async with connection.transaction():
                await connection.execute(INSERT, "b", 2)
                raise UndoError
        except UndoError:
            pass
        async with connection.transaction():
            await connection.execute(INSERT, "c", 3)
        return await connection.fetchval("SELECT count(*) FROM item")


@handler(BY_POOL)
async def rolled_back(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(INSERT, "a", 1)
        await transaction.rollback()
        await connection.execute(INSERT, "b", 2)
    return "done"


@handler(BY_POOL)
async def released_with_a_transaction(pool: asyncpg.Pool) -> Any:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with pool.acquire() as connection:
        await connection.transaction().start()
        await connection.execute(INSERT, "a", 1)
    await pool.execute(INSERT, "b", 2)
    return "done"


@handler(BY_POOL)
async def by_text(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        tags = [
            await connection.execute(text)
            for text in (
                "BEGIN",
                "INSERT INTO item (name) VALUES ('a')",
                "SAVEPOINT inner_one",
                "INSERT INTO item (name) VALUES ('b')",
                "ROLLBACK TO SAVEPOINT inner_one",
                "RELEASE SAVEPOINT inner_one",
                "COMMIT",
                "START TRANSACTION",
                "UPDATE item SET n = 5",
                "ROLLBACK",
            )
        ]
        return [tags, await connection.fetchval("SHOW server_encoding")]


@handler(BY_POOL)
async def control_by_fetching(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        found: list[Any] = [await connection.fetch("BEGIN")]
        await connection.execute(INSERT, "a", 1)
        statement = await connection.prepare("SAVEPOINT inner_one")
        found += [await statement.fetch(), statement.get_statusmsg(), statement.get_attributes()]
        await connection.execute(INSERT, "b", 1)
        found.append(await connection.fetchrow("ROLLBACK TO inner_one"))
        found.append(await connection.fetchval("COMMIT"))
        return [*found, connection.is_in_transaction()]


@handler(BY_POOL)
async def caught(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        try:
            await connection.execute(INSERT, "one", 1)
        except asyncpg.UniqueViolationError as error:
            found = [str(error), error.constraint_name]
        await connection.execute(INSERT, "b", 1)
    return found


@handler(BY_POOL)
async def broken(pool: asyncpg.Pool) -> Any:
    found = []
    async with pool.acquire() as connection:
        await connection.execute("BEGIN")
        for text in ("SELECT 1/0", "SELECT 1", "SAVEPOINT a", "SELECT name FROM nowhere"):
            try:
                await connection.fetch(text)
            except asyncpg.PostgresError as error:
                found.append(type(error).__name__)
        found.append(await connection.execute("COMMIT"))
        await connection.execute(INSERT, "b", 1)
    return found


@handler(BY_POOL)
async def wrong_arguments(pool: asyncpg.Pool) -> Any:
    found = []
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(INSERT, "a", 1)
        for wrong in (("b",), ("b", "no number"), ("b", 10**20)):
            try:
                await connection.execute(INSERT, *wrong)
            except (asyncpg.InterfaceError, asyncpg.DataError) as error:
                found.append(str(error))
        try:
            await connection.executemany(INSERT, [("c", 1), ("d", "no number")])
        except asyncpg.DataError as error:
            found.append(str(error))
    return found


@handler(BY_POOL)
async def executemany_fails(pool: asyncpg.Pool) -> Any:
    try:
        await pool.executemany(INSERT, [("a", 1), ("b", 2), ("one", 3)])
    except asyncpg.UniqueViolationError as error:
        found = str(error)
    await pool.executemany(INSERT, [])
    await pool.executemany(INSERT, [("c", number) for number in (1,)])
    return found


@handler(BY_POOL)
async def fetchmany(pool: asyncpg.Pool) -> Any:
    text = f"{INSERT} RETURNING id, name"
    return told(await pool.fetchmany(text, [("a", 1), ("b", 2)]))


@handler(BY_POOL)
async def prepared(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        statement = await connection.prepare(f"{INSERT} RETURNING id, n")
        found: list[Any] = [
            dict(await statement.fetchrow(f"n{number}", number)) for number in range(3)
        ]
        found.append(statement.get_statusmsg())
        found += [await statement.fetchval("other", 4), told(await statement.fetch("last", 5))]
        found += [statement.get_statusmsg(), statement.get_query()]
        found += [[one.name for one in statement.get_attributes()]]
        found += [[one.name for one in statement.get_parameters()]]
        await statement.executemany([("many", 1), ("more", 2)])
        plan = await (await connection.prepare(NAMES)).explain()
        return [*found, sorted(plan[0])]


@handler(BY_POOL)
async def named(pool: asyncpg.Pool) -> Any:
    found = []
    async with pool.acquire() as one, pool.acquire() as two:
        by_one = await one.prepare("SELECT name FROM item WHERE n = $1", name="mine")
        by_two = await two.prepare("SELECT count(*) FROM item", name="mine")
        for _ in range(2):
            found += [await by_one.fetchval(10), await by_two.fetchval()]
        try:
            await one.prepare("SELECT 1", name="mine")
        except asyncpg.DuplicatePreparedStatementError as error:
            found.append(str(error))
        return [*found, by_one.get_name(), await by_one.fetchval(20)]


@handler(BY_POOL)
async def cursor(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        await connection.executemany(INSERT, [(f"n{number}", number) for number in range(9)])
        names_of = "SELECT name FROM item WHERE name LIKE 'n%' ORDER BY name"
        try:
            async for _ in connection.cursor(NAMES):
                pass
        except asyncpg.NoActiveSQLTransactionError as error:
            found: list[Any] = [str(error)]
        async with connection.transaction():
            names = []
            async for row in connection.cursor(names_of, prefetch=2):
                names.append(row["name"])
                await connection.execute("UPDATE item SET n = n + 1 WHERE name = $1", row["name"])
            one = await connection.cursor(f"{names_of} LIMIT $1", 8)
            found += [names, told(await one.fetch(2)), await one.forward(2)]
            found += [dict(await one.fetchrow()), told(await one.fetch(50)), await one.fetchrow()]
            statement = await connection.prepare(names_of)
            found.append([row["name"] async for row in statement.cursor(prefetch=3)])
    return found


@handler(BY_POOL)
async def rows_of_a_write(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection, connection.transaction():
        text = "UPDATE item SET n = n + 1 WHERE name IN ('one', 'two') RETURNING name"
        return sorted([row["name"] async for row in connection.cursor(text, prefetch=1)])


@handler(BY_POOL)
async def copies(pool: asyncpg.Pool) -> Any:
    out, chosen = io.BytesIO(), io.BytesIO()
    names = ["name", "n"]
    async with pool.acquire() as connection:
        rows = io.BytesIO(b"a\t1\nb\t2\n")
        found: list[Any] = [await connection.copy_to_table("item", source=rows, columns=names)]
        records = [("c", 3), ("d", 4)]
        found.append(await connection.copy_records_to_table("item", records=records, columns=names))

        async def parts() -> AsyncIterator[bytes]:
            yield b"e\t5\n"
            yield b"f\t6\n"

        async with connection.transaction():
            found.append(await connection.copy_to_table("item", source=parts(), columns=names))
        await connection.copy_from_table("item", output=out, columns=names)
        await connection.copy_from_query(f"{NAMES} LIMIT $1", 2, output=chosen)
    return [*found, sorted(out.getvalue().decode().split()), chosen.getvalue().decode()]


@handler(BY_POOL)
async def copy_fails(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        try:
            await connection.copy_records_to_table(
                "item", records=[("a", 1), ("one", 2)], columns=["name", "n"]
            )
        except asyncpg.UniqueViolationError as error:
            found = str(error)
        await connection.execute(INSERT, "b", 1)
    return found


@handler(BY_POOL, because="while it copies")
async def copies_what_it_reads(pool: asyncpg.Pool) -> Any:
    async def rows() -> AsyncIterator[tuple[str, int]]:
        for number in range(2):
            yield f"{await pool.fetchval('SELECT count(*) FROM item')}-{number}", number

    async with pool.acquire() as connection:
        return await connection.copy_records_to_table("item", records=rows(), columns=["name", "n"])


@handler(BY_POOL)
async def codecs(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        plain = await connection.fetchval("SELECT '[1]'::jsonb")
        await connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
        )
        found = await connection.fetchval("SELECT $1::jsonb", {"a": [1, None]})
        await connection.reset_type_codec("jsonb", schema="pg_catalog")
        return [plain, found, await connection.fetchval("SELECT '[1]'::jsonb")]


@handler(BY_POOL)
async def types(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("CREATE TYPE mood AS ENUM ('sad', 'glad')")
        await connection.execute("CREATE TYPE pair AS (one mood, two int[])")
        found = await connection.fetchval("SELECT ROW('sad', '{1,2}')::pair")
        back = await connection.fetchval("SELECT ($1::pair).two[2]", ("glad", [3, 4]))
        moods = await connection.fetchval("SELECT $1::mood[]", ["sad", "glad"])
        await connection.execute("DROP TYPE pair")
        await connection.execute("DROP TYPE mood")
        await connection.reload_schema_state()
        return [found["one"], found["two"], back, moods]


@handler(BY_POOL)
async def schema_changes(pool: asyncpg.Pool) -> Any:
    """A statement that was prepared before ALTER TABLE, in a transaction and outside of one."""
    found: list[Any] = []
    async with pool.acquire() as connection:
        text = "SELECT * FROM item WHERE name = $1"
        found.append(dict(await connection.fetchrow(text, "one")))
        await connection.execute("ALTER TABLE item ADD COLUMN more int DEFAULT 7")
        found.append(dict(await connection.fetchrow(text, "one")))
        async with connection.transaction():
            await connection.execute("ALTER TABLE item ALTER COLUMN more TYPE text")
            try:
                async with connection.transaction():
                    await connection.fetchrow(text, "one")
            except asyncpg.InvalidCachedStatementError as error:
                found.append(str(error))
            found.append(dict(await connection.fetchrow(text, "one")))
        await connection.execute("ALTER TABLE item DROP COLUMN more")
        await connection.reload_schema_state()
        found.append(dict(await connection.fetchrow(text, "one")))
    return found


@handler(BY_POOL)
async def schema_rolled_back(pool: asyncpg.Pool) -> Any:
    found: list[Any] = []
    async with pool.acquire() as connection:
        await connection.reload_schema_state()
        text = "SELECT * FROM item WHERE name = 'one'"
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("ALTER TABLE item ADD COLUMN more int DEFAULT 7")
        found.append(dict(await connection.fetchrow(text)))
        await transaction.rollback()
        found.append(dict(await connection.fetchrow(text)))
    return found


@handler(BY_POOL)
async def gathered(pool: asyncpg.Pool) -> Any:
    async def one(name: str) -> Any:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(INSERT, name, 1)
            return await connection.fetchval("SELECT name FROM item WHERE name = $1", name)

    return await asyncio.gather(*(one(f"n{number}") for number in range(6)))


@handler(BY_POOL)
async def two_at_a_time(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        found = await asyncio.gather(
            connection.execute("SELECT pg_sleep(0.05)"),
            connection.execute("SELECT 1"),
            return_exceptions=True,
        )
        return [str(one) for one in found]


@handler(BY_POOL)
async def time_limit(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        for name in ("a", "b"):
            try:
                async with connection.transaction():
                    await connection.execute(INSERT, name, 1)
                    await connection.fetchval("SELECT pg_sleep(9)", timeout=0.05)
            except TimeoutError:
                pass
        with suppress(TimeoutError):
            await connection.execute("SELECT pg_sleep(9)", timeout=0.05)
        await connection.execute(INSERT, "c", 1, timeout=5)
    return "done"


@handler(BY_POOL)
async def settings(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("SET LOCAL work_mem = '1MB'")
            inside = await connection.fetchval("SHOW work_mem")
        await connection.execute("SET statement_timeout = '50s'")
        found = [inside, await connection.fetchval("SHOW statement_timeout")]
        await connection.execute("RESET statement_timeout")
        return [*found, await connection.fetchval("SHOW statement_timeout")]


@handler(BY_POOL)
async def loggers(pool: asyncpg.Pool) -> Any:
    queries: list[str] = []
    notices: list[str] = []
    async with pool.acquire() as connection:

        def hear(_: Any, message: Any) -> None:
            notices.append(message.message)

        connection.add_log_listener(hear)
        with connection.query_logger(lambda record: queries.append(record.query)):
            await connection.execute(INSERT, "a", 1)
            await connection.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
        await asyncio.sleep(0)
        connection.remove_log_listener(hear)
    return [queries, notices]


@handler(BY_POOL)
async def read_only(pool: asyncpg.Pool) -> Any:
    async with (
        pool.acquire() as connection,
        connection.transaction(readonly=True, deferrable=True),
    ):
        return await connection.fetchval("SELECT count(*) FROM item")


@handler(BY_POOL, because="has set to read only")
async def writes_read_only(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        with suppress(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute(INSERT, "a", 1)
    return "not reached"


@handler(BY_POOL, because="SERIALIZABLE")
async def serializable(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection, connection.transaction(isolation="serializable"):
        await connection.execute(INSERT, "a", 1)
    return "done"


@handler(BY_POOL)
async def read_committed(pool: asyncpg.Pool) -> Any:
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="read_committed"),
        connection.transaction(isolation="read_committed"),
    ):
        await connection.execute(INSERT, "a", 1)
    return "done"


@handler(BY_POOL)
async def deferred_and_violated(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        try:
            async with connection.transaction():
                await connection.execute(INSERT, "a", 1)
                await connection.execute("INSERT INTO line (item) VALUES (999)")
        except asyncpg.ForeignKeyViolationError as error:
            told = [str(error), connection.is_in_transaction()]
        await connection.execute(INSERT, "b", 1)
        return told


@handler(BY_POOL, because="changes the client encoding")
async def changes_the_encoding(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        await connection.execute("SET NAMES 'LATIN1'")
        return await connection.fetchval("SELECT $1::text", "\xe9")


@handler(BY_POOL)
async def says_its_encoding_again(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        await connection.execute("SET client_encoding TO 'utf-8'")
        return await connection.fetchval("SELECT $1::text", "\xe9")


@handler(BY_POOL, because="listens for notifications")
async def listens(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        await connection.add_listener("channel", print)
        await connection.remove_listener("channel", print)
    return "done"


@handler(BY_POOL)
async def notifies(pool: asyncpg.Pool) -> Any:
    await pool.execute("NOTIFY channel, 'x'")
    return "done"


@handler(BY_POOL)
async def connections_of_its_own(pool: asyncpg.Pool) -> Any:
    connection = await asyncpg.connect(**pool._connect_kwargs, dsn=pool._connect_args[0])
    await connection.execute(INSERT, "a", 1)
    await connection.reset()
    await connection.execute("BEGIN")
    await connection.execute(INSERT, "b", 1)
    await connection.close()
    cut_off = await asyncpg.connect(dsn=pool._connect_args[0])
    await cut_off.execute(INSERT, "c", 1)
    cut_off.terminate()
    return [connection.is_closed(), cut_off.is_closed()]


@handler(BY_POOL)
async def cut_off_in_a_transaction(pool: asyncpg.Pool) -> Any:
    async with pool.acquire() as connection:
        await connection.execute("BEGIN")
        await connection.execute(INSERT, "a", 1)
        connection.terminate()
    seen = await pool.fetchval("SELECT count(*) FROM item")
    await pool.execute(INSERT, "a", 2)
    return seen


@handler(BY_POOL)
async def expired(pool: asyncpg.Pool) -> Any:
    await pool.execute(INSERT, "a", 1)
    await pool.expire_connections()
    await pool.execute(INSERT, "b", 1)
    return await pool.fetchval("SELECT count(*) FROM item")


@handler(BY_POOL)
async def only_reads(pool: asyncpg.Pool) -> Any:
    return [row["name"] for row in await pool.fetch(NAMES)]


@handler(BY_POOL)
async def settings_end_with_the_release(pool: asyncpg.Pool) -> Any:
    found = []
    for _ in range(3):
        async with pool.acquire() as connection:
            found.append(await connection.fetchval("SHOW statement_timeout"))
            await connection.execute("SET statement_timeout = '50s'")
            await connection.execute(INSERT, f"n{len(found)}", 1)
    return found


@handler(BY_POOL)
async def left_cursor(pool: asyncpg.Pool) -> Any:
    """Rows that nobody has fetched do not keep the table from being altered afterwards."""
    async with pool.acquire() as connection:
        async with connection.transaction():
            async for row in connection.cursor(NAMES, prefetch=1):
                found = row["name"]
                break
        await connection.execute("ALTER TABLE item ADD COLUMN more int")
        await connection.execute("ALTER TABLE item DROP COLUMN more")
        await connection.reload_schema_state()
    return found


@library("asyncpg-pool", driver="asyncpg", is_async=True, handlers=BY_POOL, add=add)
async def by_pool(store: PostgreSQL) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(store.url, min_size=1, max_size=3) as pool:
        yield pool


@library("asyncpg-uncached", driver="asyncpg", is_async=True, handlers=BY_POOL, add=add)
async def uncached(store: PostgreSQL) -> AsyncIterator[asyncpg.Pool]:
    """As behind PgBouncer."""
    async with asyncpg.create_pool(
        store.url, min_size=1, max_size=3, statement_cache_size=0
    ) as pool:
        yield pool


async def hooked(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )
    await connection.execute("SET application_name = 'hooked'")


@handler(HOOKED)
async def by_hooks(pool: asyncpg.Pool) -> Any:
    found = []
    for number in range(2):
        async with pool.acquire() as connection:
            found.append(await connection.fetchval("SELECT $1::jsonb", {"n": number}))
            found.append(await connection.fetchval("SHOW application_name"))
            found.append(await connection.fetchval("SHOW lock_timeout"))
            await connection.execute(INSERT, f"n{number}", number)
            await connection.execute("BEGIN")
            await connection.execute(INSERT, "undone", 1)
    return found


@library("asyncpg-hooks", driver="asyncpg", is_async=True, handlers=HOOKED, add=add)
async def hooks(store: PostgreSQL) -> AsyncIterator[asyncpg.Pool]:
    """A pool of one, with whatever an app can have done to its connections."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    async def set_up(connection: asyncpg.Connection) -> None:
        await connection.execute("SET lock_timeout = '7s'")

    async def reset(connection: asyncpg.Connection) -> None:
        await connection.execute("RESET ALL")
        await connection.execute("SET application_name = 'hooked'")

    async with asyncpg.create_pool(
        store.url, min_size=1, max_size=1, init=hooked, setup=set_up, reset=reset
    ) as pool:
        yield pool


# A connection that the app keeps ------------------------------------------------------------------


class Kept:
    """What an app keeps."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.by_text: dict[str, Any] = {}

    async def prepared(self, text: str) -> Any:
        """A statement that is prepared once: outside of a batch, or in one."""
        if text not in self.by_text:
            self.by_text[text] = await self.connection.prepare(text)
        return self.by_text[text]


async def add_to_kept(kept: Kept, name: str) -> Any:
    return await (await kept.prepared(f"{INSERT} RETURNING name")).fetchval(name, 0)


@handler(KEPT)
async def kept_statement(kept: Kept) -> Any:
    statement = await kept.prepared(f"{INSERT} RETURNING id")
    return [await statement.fetchval("a", 1), await statement.fetchval("b", 2)]


@handler(KEPT)
async def kept_transaction(kept: Kept) -> Any:
    async with kept.connection.transaction():
        statement = await kept.prepared("SELECT name, note FROM item WHERE n > $1 ORDER BY name")
        await kept.connection.execute(INSERT, "a", 1)
        rows = [dict(row) async for row in statement.cursor(5)]
        try:
            async with kept.connection.transaction():
                await (await kept.prepared(INSERT)).fetch("one", 1)
        except asyncpg.UniqueViolationError as error:
            return [rows, str(error), await statement.fetchval(5)]


@handler(KEPT)
async def kept_forgotten(kept: Kept) -> Any:
    """Statements that nobody needs any more are closed, wherever they were prepared."""
    connection, found = kept.connection, []
    for number in range(3):
        statement = await connection.prepare(f"SELECT n + {number} FROM item WHERE name = 'one'")
        found.append(await statement.fetchval())
        del statement
    connection._stmt_cache.set_max_size(1)
    found += [await connection.fetchval(f"SELECT {number} + $1::int", 1) for number in range(3)]
    connection._stmt_cache.set_max_size(100)
    return found


@handler(KEPT)
async def kept_reset(kept: Kept) -> Any:
    connection = kept.connection
    await connection.execute("BEGIN")
    await connection.execute(INSERT, "a", 1)
    kept.connection._loop.set_exception_handler(lambda *_: None)
    await connection.reset()
    await connection.execute(INSERT, "b", 1)
    return connection.is_in_transaction()


@library("asyncpg-kept", driver="asyncpg", is_async=True, handlers=KEPT, add=add_to_kept)
async def kept_connection(store: PostgreSQL) -> AsyncIterator[Kept]:
    connection = await asyncpg.connect(store.url)
    yield Kept(connection)
    await connection.close()
