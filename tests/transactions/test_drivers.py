"""DriverTransaction: its contract, its limits, and what it does beside other requests."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from flask import Flask
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atomicbatch import Batch, BrokenTransactionError, Limits, wsgi
from atomicbatch.asgi import AtomicBatch
from atomicbatch.testing import check_async_transaction, check_transaction
from atomicbatch.transactions import DriverTransaction
from tests.asgi.asking import Answer, Request, ask, call, scope_of
from tests.transactions.drivers.files import File
from tests.wsgi.asking import ask as ask_wsgi

INSERT = "INSERT INTO item (name) VALUES (?)"


@pytest.fixture(params=["WAL", "DELETE"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> File:
    return File(tmp_path / "shop.sqlite", journal=request.param)


def insert(path: str, name: str, **options: Any) -> None:
    with closing(sqlite3.connect(path, **options)) as connection, connection:
        connection.execute(INSERT, (name,))


def shop(**routes: Callable[[str], Any]) -> Starlette:
    """An app of functions that take a name; ``async def`` ones run on the event loop."""

    def endpoint(act: Callable[[str], Any]) -> Any:
        if inspect.iscoroutinefunction(act):

            async def answer(request: HTTPRequest) -> Response:
                return JSONResponse(await act(request.path_params["name"]), 201)

            return answer

        def answer_in_thread(request: HTTPRequest) -> Response:
            return JSONResponse(act(request.path_params["name"]), 201)

        return answer_in_thread

    def fail(_: HTTPRequest) -> Response:
        return JSONResponse("no", 409)

    return Starlette(
        routes=[
            *(
                Route(f"/{route}/{{name}}", endpoint(act), methods=["POST"])
                for route, act in routes.items()
            ),
            Route("/fail", fail, methods=["POST"]),
        ]
    )


def calls(*targets: str) -> list[Any]:
    return [call("POST", target) for target in targets]


def batch(app: Any, *targets: str) -> Answer:
    return asyncio.run(ask(app, *calls(*targets)))


async def plainly(app: Any, target: str) -> Answer:
    request = Request([b""])
    await app(scope_of(target, ()), request.receive, request.send)
    return request.answer


def detail(answer: Answer, index: int) -> str:
    found: str = json.loads(answer.replies[index].body)["detail"]
    return found


# The contract ------------------------------------------------------------------------------------


def test_the_contract(file: File) -> None:
    """What atomicbatch.testing asks of any adapter, by ``with``."""
    names = iter(f"n{number}" for number in range(100))

    def end_it(joined: Any) -> None:
        sqlite3.Cursor(joined.reals[0].connection).execute("ROLLBACK")

    def refuse(_: Any) -> None:
        with closing(sqlite3.connect(file.path)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA defer_foreign_keys = ON")
            connection.execute("INSERT INTO line (item) VALUES (999)")
            connection.commit()

    check_transaction(
        DriverTransaction(),
        write=lambda _: insert_with_keys(file.path, next(names)),
        count=lambda: count_past_doors(file.path),
        escape=end_it,
        refuse=refuse,
    )


def count_past_doors(path: str) -> int:
    """By a connection that no batch knows."""
    with closing(sqlite3.Connection(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM item").fetchone()[0])


def insert_with_keys(path: str, name: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with connection:
            connection.execute(INSERT, (name,))


def test_the_contract_of_async_adapters(file: File) -> None:
    """The same by ``async with``, with aiosqlite."""
    names = iter(f"n{number}" for number in range(100))

    async def write(_: Any) -> None:
        async with aiosqlite.connect(file.path) as connection:
            await connection.execute(INSERT, (next(names),))
            await connection.commit()

    async def count() -> int:
        return count_past_doors(file.path)

    async def end_it(joined: Any) -> None:
        sqlite3.Cursor(joined.reals[0].connection).execute("ROLLBACK")

    asyncio.run(
        check_async_transaction(DriverTransaction(), write=write, count=count, escape=end_it)
    )


def test_what_escapes_is_told(file: File) -> None:
    """A transaction that was ended behind our back is no rollback, whoever leaves the block."""

    def go() -> None:
        with DriverTransaction().begin(Batch(()), deadline=time.monotonic() + 30) as joined:
            insert(file.path, "escaped")
            joined.reals[0].connection.execute("COMMIT")
            raise ValueError

    with pytest.raises(BrokenTransactionError) as error:
        go()
    assert error.value.may_be_stored
    assert ("escaped", 0) in file.rows()


def test_a_conflict_clause_that_rolls_back(file: File) -> None:
    """ON CONFLICT ROLLBACK ends the transaction: the batch fails, also where nobody looks."""

    def bad(name: str) -> str:
        with suppress(sqlite3.IntegrityError), closing(sqlite3.connect(file.path)) as connection:
            connection.execute("INSERT OR ROLLBACK INTO item (name) VALUES ('one')")
        return name

    app = AtomicBatch(
        shop(add=lambda name: insert(file.path, name), bad=bad), transaction=DriverTransaction()
    )
    answer = batch(app, "/add/a", "/bad/b", "/add/c")
    assert answer.outcome.startswith("rolled-back")
    assert "ON CONFLICT ROLLBACK" in detail(answer, 1)
    assert len(file.rows()) == 2


# Beside others -----------------------------------------------------------------------------------


def test_batches_and_requests_at_once(file: File) -> None:
    """Rows are those of the batches that have committed and of the requests that succeeded."""

    async def add_async(name: str) -> str:
        async with aiosqlite.connect(file.path, timeout=30) as connection:
            await connection.execute(INSERT, (name,))
            await connection.commit()
        return name

    plain = shop(
        add=lambda name: insert(file.path, name, timeout=30),
        add_async=add_async,
    )
    app = AtomicBatch(plain, transaction=DriverTransaction())

    async def one(number: int) -> tuple[int, set[str]]:
        names = [f"{number}-a", f"{number}-b"]
        targets = [f"/add/{names[0]}", f"/add_async/{names[1]}"]
        if number % 3 == 0:
            answer = await ask(app, *calls(*targets, "/fail"))
            assert answer.outcome.startswith("rolled-back")
            return 0, set()
        answer = await ask(app, *calls(*targets))
        assert answer.outcome == "committed", answer.body
        return 1, set(names)

    async def request(number: int) -> tuple[int, set[str]]:
        assert (await plainly(app, f"/add/plain-{number}")).status == 201
        return 0, {f"plain-{number}"}

    async def go() -> list[tuple[int, set[str]]]:
        return await asyncio.gather(
            *(one(number) for number in range(12)), *(request(number) for number in range(12))
        )

    done = asyncio.run(go())
    assert sum(committed for committed, _ in done) == 8
    wanted = set().union(*(names for _, names in done))
    assert {name for name, _ in file.rows()} == wanted | {"one", "two"}


def test_a_request_that_writes_on_the_event_loop(file: File) -> None:
    """It would wait for the batch, and the batch for the loop; so the batch runs again."""
    begun, done = asyncio.Event(), asyncio.Event()

    async def slow(name: str) -> str:
        await run_in_threadpool(insert, file.path, name)
        begun.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), 1)
        return name

    async def on_loop(name: str) -> str:
        insert(file.path, name)
        return name

    app = AtomicBatch(shop(slow=slow, on_loop=on_loop), transaction=DriverTransaction())

    async def go() -> tuple[Answer, float]:
        batch = asyncio.create_task(ask(app, *calls("/slow/a", "/slow/b")))
        await begun.wait()
        start = time.monotonic()
        assert (await plainly(app, "/on_loop/plain")).status == 201
        seconds = time.monotonic() - start
        done.set()
        return await batch, seconds

    answer, seconds = asyncio.run(go())
    assert seconds < 2  # SQLite would have waited for 5
    assert answer.outcome == "committed", answer.body
    assert answer.headers["batch-attempts"] != "1"
    assert {name for name, _ in file.rows()} == {"one", "two", "a", "b", "plain"}


def test_batches_on_the_event_loop(file: File) -> None:
    """Batches that use sqlite3 in ``async def`` handlers do not stop the loop for each other."""

    async def add(name: str) -> str:
        insert(file.path, name)
        await asyncio.sleep(0.02)
        return name

    app = AtomicBatch(shop(add=add), transaction=DriverTransaction())

    async def go() -> list[Answer]:
        return await asyncio.gather(
            *(ask(app, *calls(f"/add/{number}-a", f"/add/{number}-b")) for number in range(4))
        )

    start = time.monotonic()
    answers = asyncio.run(go())
    assert time.monotonic() - start < 10
    assert [answer.outcome for answer in answers] == ["committed"] * 4
    assert len(file.rows()) == 2 + 8


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Another process has the write lock."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            yield
        finally:
            process.communicate(b"\n")


def test_the_time_limit_bounds_waiting_for_the_lock(file: File) -> None:
    """The database is locked by another process for longer than the batch may take."""
    app = AtomicBatch(
        shop(add=lambda name: insert(file.path, name)),
        transaction=DriverTransaction(),
        limits=Limits(timeout_seconds=0.5),
    )
    with locked(file.path):
        start = time.monotonic()
        answer = batch(app, "/add/a")
        assert time.monotonic() - start < 2
    assert answer.status in (503, 504) or answer.outcome.startswith("rolled-back")
    assert len(file.rows()) == 2


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@pytest.mark.parametrize("where", ["thread", "loop", "aiosqlite"])
def test_the_time_limit_stops_a_statement(where: str, file: File) -> None:
    """A statement that would never end is interrupted, and the batch undone."""

    def work(name: str) -> None:
        insert(file.path, name)
        with closing(sqlite3.connect(file.path)) as connection:
            connection.execute(ENDLESS)

    async def on_loop(name: str) -> None:
        work(name)

    async def by_aiosqlite(name: str) -> None:
        async with aiosqlite.connect(file.path) as connection:
            await connection.execute(INSERT, (name,))
            await connection.execute(ENDLESS)

    act = {"thread": work, "loop": on_loop, "aiosqlite": by_aiosqlite}[where]
    app = AtomicBatch(
        shop(act=act), transaction=DriverTransaction(), limits=Limits(timeout_seconds=0.3)
    )
    start = time.monotonic()
    answer = batch(app, "/act/a")
    assert time.monotonic() - start < 3
    assert answer.outcome.startswith("rolled-back"), answer.body
    assert answer.replies[0].status == 504
    assert len(file.rows()) == 2
    insert(file.path, "free", timeout=1)  # nobody has its lock any more


@pytest.mark.parametrize("where", ["thread", "loop"])
def test_the_time_limit_ends_threads_that_wait_for_each_other(where: str, tmp_path: Path) -> None:
    """A statement waits for rows that another thread reads, and that one for the statement."""
    file = File(tmp_path / "shop.sqlite")

    def read() -> str:
        with closing(sqlite3.connect(file.path)) as connection:
            return str(connection.execute("SELECT name FROM item").fetchone()[0])

    def work(name: str) -> None:
        with (
            ThreadPoolExecutor(1) as pool,
            closing(sqlite3.connect(file.path)) as connection,
            connection,
        ):
            connection.executemany(INSERT, ((name + pool.submit(read).result(),) for _ in "a"))

    async def on_loop(name: str) -> None:
        work(name)

    app = AtomicBatch(
        shop(act=work if where == "thread" else on_loop),
        transaction=DriverTransaction(),
        limits=Limits(timeout_seconds=0.3),
    )
    answer = batch(app, "/act/a")
    assert answer.replies[0].status == 504, answer.body
    assert len(file.rows()) == 2
    insert(file.path, "free", timeout=2)  # nobody has its lock any more


@pytest.mark.parametrize("where", ["thread", "loop"])
def test_only_what_keeps_the_event_loop_is_blamed(
    where: str, file: File, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler goes on after the time limit, in a thread, or so that nothing else can run."""
    is_answered = threading.Event()

    def work(name: str) -> None:
        def names() -> Iterator[tuple[str]]:
            is_answered.wait(1.5)  # the statement does not end by being interrupted
            yield (name,)

        with closing(sqlite3.connect(file.path)) as connection:
            connection.executemany(INSERT, names())

    async def on_loop(name: str) -> None:
        work(name)

    app = AtomicBatch(
        shop(act=work if where == "thread" else on_loop),
        transaction=DriverTransaction(),
        limits=Limits(timeout_seconds=0.3),
    )
    answer = batch(app, "/act/a")
    is_answered.set()
    assert answer.replies[0].status == 504, answer.body
    assert ("the event loop stood still" in caplog.text) is (where == "loop")
    assert len(file.rows()) == 2


def test_a_thread_left_behind(file: File) -> None:
    """What a call has left running stores nothing that the batch has undone."""
    go_on = threading.Event()
    errors: list[Exception] = []
    threads: list[threading.Thread] = []

    def leaves(name: str) -> str:
        def later() -> None:
            go_on.wait(5)
            try:
                insert(file.path, name, timeout=0.5)
            except Exception as error:
                errors.append(error)

        threads.append(threading.Thread(target=later))
        threads[0].start()
        insert(file.path, f"{name}-now")
        return name

    app = AtomicBatch(shop(leaves=leaves), transaction=DriverTransaction())
    answer = batch(app, "/leaves/a", "/fail")
    assert answer.outcome.startswith("rolled-back")
    go_on.set()
    threads[0].join()
    assert "was rolled back" in str(errors[0])
    assert len(file.rows()) == 2


# Databases ---------------------------------------------------------------------------------------


def test_two_databases(file: File, tmp_path: Path) -> None:
    """One may be written and another read; two that are written cannot be committed as one."""
    other = File(tmp_path / "other.sqlite")

    def both(name: str) -> Any:
        insert(file.path, name)
        with closing(sqlite3.connect(other.path)) as connection:
            return connection.execute("SELECT count(*) FROM item").fetchone()

    app = AtomicBatch(
        shop(both=both, other=lambda name: insert(other.path, name)),
        transaction=DriverTransaction(),
    )
    assert batch(app, "/both/a").outcome == "committed"
    answer = batch(app, "/both/b", "/other/c")
    assert answer.outcome.startswith("rolled-back")
    assert "two databases" in str(answer.body)
    assert (len(file.rows()), len(other.rows())) == (3, 2)


def test_names_of_one_file(file: File, tmp_path: Path) -> None:
    """A link, an URI and a path lead to one database, and one transaction."""
    link = tmp_path / "link.sqlite"
    link.symlink_to(file.path)

    def add(name: str) -> Any:
        insert(str(link), f"{name}-link")
        insert(f"file:{file.path}?mode=rw", f"{name}-uri", uri=True)
        with closing(sqlite3.connect(Path(file.path))) as connection:
            return connection.execute("SELECT count(*) FROM item").fetchone()

    app = AtomicBatch(shop(add=add), transaction=DriverTransaction())
    answer = batch(app, "/add/a")
    assert json.loads(answer.replies[0].body) == [4]
    assert batch(app, "/add/b", "/fail").outcome.startswith("rolled-back")
    assert len(file.rows()) == 4


def test_what_is_left_alone(file: File, tmp_path: Path) -> None:
    """A file or a library that is allowed by name, and handlers of Python's logging."""
    log, cache = File(tmp_path / "log.sqlite"), File(tmp_path / "cache.sqlite")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            insert(log.path, record.getMessage())

    logger = logging.getLogger("tests.drivers")
    logger.addHandler(Handler())
    logger.propagate = False

    def add(name: str) -> None:
        insert(file.path, name)
        insert(cache.path, name)
        logger.warning("%s", name)

    transaction = DriverTransaction(outside=(cache.path,))
    answer = batch(AtomicBatch(shop(add=add), transaction=transaction), "/add/a", "/fail")
    logger.handlers.clear()
    assert answer.outcome.startswith("rolled-back")
    assert len(file.rows()) == 2
    assert ("a", 0) in cache.rows()
    assert ("a", 0) in log.rows()


class Memory:
    """A database in memory, on the one connection that there can be."""

    def __init__(self, *, check_same_thread: bool = False) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=check_same_thread)
        self.connection.execute("CREATE TABLE item (name TEXT UNIQUE)")

    def add(self, name: str) -> str:
        with self.connection:
            self.connection.execute(INSERT, (name,))
        return name

    def rows(self) -> list[str]:
        return [name for (name,) in self.connection.execute("SELECT name FROM item ORDER BY 1")]


def test_a_database_in_memory() -> None:
    """The app's own connection is the batch's; it is as it was afterwards."""
    memory = Memory()
    app = AtomicBatch(shop(add=memory.add), transaction=DriverTransaction())
    assert batch(app, "/add/a", "/add/b", "/fail").outcome.startswith("rolled-back")
    assert memory.rows() == []
    assert batch(app, "/add/a", "/add/b").outcome == "committed"
    assert memory.rows() == ["a", "b"]
    assert not memory.connection.isolation_level
    memory.connection.execute(INSERT, ("c",))
    memory.connection.rollback()
    assert memory.rows() == ["a", "b"]


@pytest.mark.parametrize(
    "name", ["file:shop?mode=memory&cache=shared", "file::memory:?cache=shared"]
)
def test_a_shared_database_in_memory(name: str) -> None:
    """Others see what is written to it, also by a connection that a call has opened itself."""
    with closing(sqlite3.connect(name, uri=True)) as others, others:
        others.execute("CREATE TABLE item (name TEXT)")
        app = AtomicBatch(
            shop(add=lambda item: insert(name, item, uri=True)), transaction=DriverTransaction()
        )
        answer = batch(app, "/add/a", "/fail")
        assert answer.outcome.startswith("rolled-back")
        assert "is undone" in detail(answer, 0)
        assert others.execute("SELECT name FROM item").fetchall() == []
        assert batch(app, "/add/a", "/add/b").outcome == "committed"
        assert others.execute("SELECT name FROM item").fetchall() == [("a",), ("b",)]


def test_others_wait_for_a_database_in_memory() -> None:
    """A request's row must not be undone with a batch that has the only connection."""
    memory = Memory()
    begun = asyncio.Event()

    async def slow(name: str) -> str:
        await run_in_threadpool(memory.add, name)
        begun.set()
        await asyncio.sleep(0.2)
        return name

    app = AtomicBatch(shop(slow=slow, add=memory.add), transaction=DriverTransaction())

    async def go() -> tuple[Answer, Answer]:
        batch = asyncio.create_task(ask(app, *calls("/slow/a", "/fail")))
        await begun.wait()
        return await plainly(app, "/add/plain"), await batch

    plain, answer = asyncio.run(go())
    assert answer.outcome.startswith("rolled-back")
    assert (plain.status, memory.rows()) == (201, ["plain"])


# Connections from before -------------------------------------------------------------------------


def test_a_transaction_from_before_the_batch(file: File) -> None:
    """It is none of the batch's, and cannot be made so."""
    kept = sqlite3.connect(file.path, check_same_thread=False)
    kept.execute(INSERT, ("before",))

    def add(name: str) -> None:
        with kept:
            kept.execute(INSERT, (name,))

    app = AtomicBatch(shop(add=add), transaction=DriverTransaction())
    answer = batch(app, "/add/a")
    assert "begun before the batch" in detail(answer, 0)
    kept.rollback()
    assert batch(app, "/add/a").outcome == "committed"
    kept.close()


def test_a_cursor_after_a_batch_that_was_undone(file: File) -> None:
    """It is its connection's again when it is next used."""
    with closing(sqlite3.connect(file.path, check_same_thread=False)) as connection:
        cursor = connection.cursor()

        def add(name: str) -> Any:
            cursor.execute(INSERT, (name,))
            connection.commit()
            return cursor.execute("SELECT count(*) FROM item").fetchone()

        app = AtomicBatch(shop(add=add), transaction=DriverTransaction())
        assert batch(app, "/add/a", "/fail").outcome.startswith("rolled-back")
        assert add("b") == (3,)
        assert batch(app, "/add/c", "/fail").outcome.startswith("rolled-back")
        cursor.executemany(INSERT, [("d",)])
        connection.commit()
        assert len(file.rows()) == 4


def test_a_cursor_that_others_use_meanwhile(tmp_path: Path) -> None:
    """A request that uses a cursor of the batch's sees what is stored, not the batch's rows."""
    file = File(tmp_path / "shop.sqlite")
    kept = sqlite3.connect(file.path, check_same_thread=False, isolation_level=None)
    cursor = kept.cursor()
    begun, go_on = threading.Event(), threading.Event()
    seen: list[Any] = []

    def add(name: str) -> Any:
        cursor.execute(INSERT, (name,))
        begun.set()
        go_on.wait(5)
        return cursor.execute("SELECT count(*) FROM item").fetchone()

    def use_it() -> None:
        begun.wait(5)
        seen.append(cursor.execute("SELECT count(*) FROM item").fetchone())
        go_on.set()

    app = AtomicBatch(shop(add=add), transaction=DriverTransaction())
    outside = threading.Thread(target=use_it)
    outside.start()
    answer = batch(app, "/add/a", "/add/b")
    outside.join()
    assert answer.outcome == "committed", answer.body
    assert seen == [(2,)]
    assert json.loads(answer.replies[1].body) == [4]
    assert cursor.connection is kept
    assert cursor.execute("SELECT count(*) FROM item").fetchone() == (4,)
    kept.close()


# Other endpoints ---------------------------------------------------------------------------------


def test_wsgi(file: File) -> None:
    """A Flask app with sqlite3."""
    app = Flask("shop")

    @app.post("/add/<name>")
    def add(name: str) -> Any:
        insert(file.path, name)
        return {}, 201

    @app.post("/fail")
    def fail() -> Any:
        return {}, 409

    batches = wsgi.AtomicBatch(app.wsgi_app, transaction=DriverTransaction())
    answer = ask_wsgi(batches, *calls("/add/a", "/add/b", "/fail"))
    assert answer.outcome.startswith("rolled-back")
    assert len(file.rows()) == 2
    answer = ask_wsgi(batches, *calls("/add/a", "/add/b"))
    assert answer.outcome == "committed"
    assert len(file.rows()) == 4


def test_what_a_client_is_told(file: File) -> None:
    """A call that used the database is undone; one that did not is not said to be."""

    def nothing(name: str) -> str:
        return name

    app = AtomicBatch(
        shop(add=lambda name: insert(file.path, name), nothing=nothing),
        transaction=DriverTransaction(),
    )
    answer = batch(app, "/add/a", "/nothing/b", "/fail")
    assert "what this call did is undone" in detail(answer, 0)
    assert "is undone" not in detail(answer, 1)


def test_a_database_in_memory_of_another_thread() -> None:
    """It could not be committed: only the thread that has opened it can use it."""

    async def by_aiosqlite() -> Answer:
        async with aiosqlite.connect(":memory:") as connection:
            await connection.execute("CREATE TABLE item (name TEXT)")

            async def add(name: str) -> None:
                await connection.execute(INSERT, (name,))
                await connection.commit()

            app = AtomicBatch(shop(add=add), transaction=DriverTransaction())
            return await ask(app, *calls("/add/a"))

    answer = asyncio.run(by_aiosqlite())
    assert "belongs to another thread" in detail(answer, 0)


def test_a_batch_that_is_given_up_leaves_a_database_in_memory() -> None:
    """Its own thread undoes it, the event loop's: no other can use the connection."""

    async def go() -> tuple[Answer, list[str]]:
        memory = Memory(check_same_thread=True)
        answered = asyncio.Event()

        async def keep_on(name: str) -> str:
            memory.add(name)
            while not answered.is_set():
                with suppress(asyncio.CancelledError):
                    await answered.wait()
            return name

        app = AtomicBatch(
            shop(keep_on=keep_on),
            transaction=DriverTransaction(),
            limits=Limits(timeout_seconds=0.2),
        )
        answer = await ask(app, *calls("/keep_on/a"))
        try:
            return answer, memory.rows()
        finally:
            answered.set()

    answer, rows = asyncio.run(go())
    assert answer.replies[0].status == 504
    assert rows == []
