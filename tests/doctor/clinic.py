"""
The app under examination: handlers that can run in batches, and handlers that cannot.

Tests copy this file to a folder of their own, where it is imported as any app is. It works on
the SQLite files ``one.sqlite`` and ``two.sqlite`` there.
"""

import asyncio
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

one = sa.create_engine("sqlite:///one.sqlite")
two = sa.create_engine("sqlite:///two.sqlite")
slow = create_async_engine("sqlite+aiosqlite:///one.sqlite")
started: list[str] = []


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    started.append("up")
    yield
    go.set()  # what a call has left behind goes on while we still wait
    if threads:
        gone.wait(10)
    cancelled.extend(task.cancelled() for task in left)
    opened.close()
    await slow.dispose()
    one.dispose()
    two.dispose()
    started.append("down")


app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    name: str = Field(min_length=1)
    price: int = Field(gt=5)


def add(connection: Any, name: str) -> None:
    connection.execute(sa.text("INSERT INTO item VALUES (:name)"), {"name": name})


def connected() -> Iterator[sa.Connection]:
    with one.connect() as connection:
        yield connection


Connected = Annotated[sa.Connection, Depends(connected)]


@app.post("/items", status_code=201)
def create(item: Item, connection: Connected) -> dict[str, str]:
    add(connection, item.name)
    connection.commit()
    return {"name": item.name}


@app.get("/items")
def read(connection: Connected, like: str) -> list[str]:
    found = connection.execute(sa.text("SELECT name FROM item WHERE name LIKE :n"), {"n": like})
    return [row.name for row in found]


@app.put("/items/{name}")
async def change(name: str) -> dict[str, str]:
    connection: AsyncConnection
    async with slow.begin() as connection:
        await connection.execute(sa.text("INSERT INTO item VALUES (:name)"), {"name": name})
    return {"name": name}


@app.post("/raw")
def raw() -> None:
    with sqlite3.connect("one.sqlite") as connection:
        connection.execute("INSERT INTO item VALUES ('raw')")
    connection.close()


@app.post("/direct")
def direct() -> None:
    connection = sqlite3.Connection("one.sqlite")
    connection.execute("INSERT INTO item VALUES ('direct')")
    connection.commit()
    connection.close()


@app.post("/factory")
def by_factory() -> None:
    def make(*args: Any, **options: Any) -> sqlite3.Connection:
        return sqlite3.Connection(*args, **{**options, "factory": sqlite3.Connection})

    connect: Any = sqlite3.connect
    connection = connect("one.sqlite", factory=make)
    connection.execute("INSERT INTO item VALUES ('factory')")
    connection.commit()
    connection.close()


@app.post("/both")
def both() -> None:
    for engine in (one, two):
        with engine.begin() as connection:
            add(connection, "both")


@app.get("/both")
def read_both(connection: Connected) -> int:
    with two.connect() as other:
        return sum(len(c.execute(sa.text("SELECT * FROM item")).all()) for c in (connection, other))


@app.post("/outward")
def outward(port: Annotated[int, Header()], connection: Connected) -> None:
    add(connection, "outward")
    connection.commit()
    socket.create_connection(("127.0.0.1", port)).close()


@app.get("/outward")
async def read_outward(port: Annotated[int, Header()]) -> None:
    socket.create_connection(("127.0.0.1", port)).close()


@app.post("/program")
def program() -> None:
    subprocess.run([sys.executable, "-c", "open('program', 'w').close()"], check=True)


@app.post("/blocking")
async def blocking() -> None:
    with one.begin() as connection:
        add(connection, "blocking")


@app.post("/strict")
def strict(connection: Connected) -> None:
    add(connection, "strict")
    connection.commit()
    raise HTTPException(422)


@app.post("/protected")
def protected(connection: Connected, x_key: Annotated[str, Header()] = "") -> None:
    if x_key != "secret":
        raise HTTPException(401)
    add(connection, "protected")
    connection.commit()


@app.post("/later")
def later(connection: Connected, tasks: BackgroundTasks) -> None:
    add(connection, "later")
    connection.commit()
    tasks.add_task(Path("later").touch)


@app.post("/raises")
def raises(connection: Connected) -> None:
    add(connection, "raises")
    connection.commit()
    raise RuntimeError("boom")


@app.post("/nothing")
def nothing(response: Response) -> None:
    response.status_code = 204


@app.post("/file")
def file(connection: Connected) -> None:
    add(connection, "file")
    connection.commit()
    Path("written").write_text("x")


@app.post("/driver")
def driver(connection: Connected) -> None:
    own: Any = connection.connection.driver_connection
    own.execute("INSERT INTO item VALUES ('driver')")
    connection.commit()


@app.post("/ends")
def ends(connection: Connected) -> None:
    own: Any = connection.connection.driver_connection
    own.execute("INSERT INTO item VALUES ('driver')")
    own.commit()


@app.post("/restarts")
def restarts() -> None:
    connection: Any = one.raw_connection()
    own = connection.driver_connection
    own.backup(opened)
    connection.close()


opened = sqlite3.connect("one.sqlite", check_same_thread=False)


@app.post("/opened")
def opened_before() -> None:
    opened.execute("INSERT INTO item VALUES ('opened')")
    opened.commit()


@app.get("/opened")
def read_opened() -> int:
    return len(opened.execute("SELECT * FROM item").fetchall())


left: list[Any] = []
cancelled: list[bool] = []
threads: list[threading.Thread] = []


@app.post("/leaves")
async def leaves() -> None:
    async def late() -> None:
        await asyncio.sleep(60)

    async with slow.begin() as connection:
        await connection.execute(sa.text("INSERT INTO item VALUES ('leaves')"))
    left.append(asyncio.create_task(late()))


@app.post("/unfinished")
async def unfinished() -> None:
    async def late() -> None:
        async with slow.begin() as connection:
            await connection.execute(sa.text("INSERT INTO item VALUES ('unfinished')"))
            ready.set()
            await asyncio.sleep(60)

    ready = asyncio.Event()
    left.append(asyncio.create_task(late()))
    await ready.wait()


@app.post("/thread")
def thread(connection: Connected) -> None:
    add(connection, "thread")
    connection.commit()

    def late() -> None:
        go.wait(30)
        try:
            with one.begin() as own:
                add(own, "too late")
        except Exception as error:
            refusals.append(str(error))
        gone.set()

    threads.append(threading.Thread(target=late))
    threads[0].start()


go, gone, refusals = threading.Event(), threading.Event(), list[str]()


inside = AtomicBatch(app, transaction=SQLAlchemyTransaction(outside=(two,)))
behind = FastAPI(routes=app.routes, lifespan=lifespan)
behind.add_middleware(AtomicBatch, transaction=SQLAlchemyTransaction(slow, two))

counted: list[str] = []


async def busy(scope: Any, receive: Any, send: Any) -> None:
    """The app, with a thread beside each call that does what a call must not."""
    if scope["type"] == "lifespan":
        threading.Thread(target=beside, daemon=True).start()
    else:
        ask.set()
        told.wait(10)
    await app(scope, receive, send)


def beside() -> None:
    ask.wait(10)
    try:
        sqlite3.connect("beside.sqlite").close()
        counted.append("opened")
    except sqlite3.Error as error:
        counted.append(str(error))
    told.set()


ask, told = threading.Event(), threading.Event()
