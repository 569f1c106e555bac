"""
Things to do: Quart and async SQLAlchemy on SQLite; batches of its calls are atomic.

Start it with ``uvicorn app:app``, then send week.http and done-twice.http with ``atomicbatch
send``.
"""

from __future__ import annotations

import os
from typing import Any

from quart import Quart, ResponseReturnValue, abort, request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from atomicbatch import on_commit
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///todo.sqlite"))
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase): ...


class Todo(Base):
    __tablename__ = "todo"
    key: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    done: Mapped[bool] = mapped_column(default=False)

    def shown(self) -> dict[str, Any]:
        return {"key": self.key, "text": self.text, "done": self.done}


todo = Quart(__name__)


@todo.before_serving
async def create_tables() -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


@todo.after_serving
async def disconnect() -> None:
    await engine.dispose()


@todo.put("/todos/<key>")
async def write(key: str) -> ResponseReturnValue:
    body = await request.get_json()
    async with sessions() as session:
        stored = await session.merge(Todo(key=key, text=body["text"], done=False))
        await session.commit()
    return stored.shown()


@todo.get("/todos")
async def read() -> ResponseReturnValue:
    async with sessions() as session:
        found = await session.scalars(select(Todo).order_by(Todo.key))
        return [one.shown() for one in found]


@todo.post("/todos/<key>/done")
async def finish(key: str) -> ResponseReturnValue:
    async with sessions() as session:
        found = await session.get(Todo, key)
        if found is None:
            abort(404)
        if found.done:
            abort(409, f"{key} is done already")
        found.done = True
        await session.commit()
    on_commit(congratulate, found.text)
    return found.shown()


async def congratulate(text: str) -> None:
    print(f"well done: {text}", flush=True)


app = AtomicBatch(todo, transaction=SQLAlchemyTransaction())
