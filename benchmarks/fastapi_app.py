"""
An ordinary FastAPI app to be measured: sessions by dependency, models, commits.

``BENCHMARK_DATABASE`` is its database, an URL of SQLAlchemy's: with ``postgresql+asyncpg://`` and
``postgresql+psycopg_async://`` the handlers are ``async def``, with all others ``def``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from atomicbatch import Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

URL = os.environ["BENCHMARK_DATABASE"]


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    stock: Mapped[int]


class NewItem(BaseModel):
    name: str
    stock: int


class StoredItem(NewItem):
    id: int


plain = FastAPI()

if not URL.partition(":")[0].endswith(("asyncpg", "_async")):
    engine = sa.create_engine(URL)
    Base.metadata.create_all(engine)

    def session() -> Iterator[Session]:
        with Session(engine) as opened:
            yield opened

    @plain.post("/items", status_code=201)
    def create(new: NewItem, db: Annotated[Session, Depends(session)]) -> StoredItem:
        item = Item(**new.model_dump())
        db.add(item)
        db.commit()
        db.refresh(item)
        return StoredItem(id=item.id, name=item.name, stock=item.stock)

    @plain.post("/simple", status_code=201)
    def create_simply(new: NewItem) -> dict[str, int]:
        """As short as it gets: the session is the handler's own, the answer is the key."""
        with Session(engine) as db:
            item = Item(name=new.name, stock=new.stock)
            db.add(item)
            db.flush()
            key = item.id
            db.commit()
        return {"id": key}

    @plain.post("/items/bulk", status_code=201)
    def create_many(
        new: list[NewItem], db: Annotated[Session, Depends(session)]
    ) -> list[StoredItem]:
        """The hand-written bulk endpoint that a batch saves its author from."""
        items = [Item(**one.model_dump()) for one in new]
        db.add_all(items)
        db.flush()
        stored = [StoredItem(id=item.id, name=item.name, stock=item.stock) for item in items]
        db.commit()
        return stored

else:
    async_engine = create_async_engine(URL)

    async def async_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(async_engine) as opened:
            yield opened

    @plain.post("/items", status_code=201)
    async def create_async(
        new: NewItem, db: Annotated[AsyncSession, Depends(async_session)]
    ) -> StoredItem:
        item = Item(**new.model_dump())
        db.add(item)
        await db.commit()
        await db.refresh(item)
        return StoredItem(id=item.id, name=item.name, stock=item.stock)

    @plain.post("/simple", status_code=201)
    async def create_simply_async(new: NewItem) -> dict[str, int]:
        async with AsyncSession(async_engine) as db:
            item = Item(name=new.name, stock=new.stock)
            db.add(item)
            await db.flush()
            key = item.id
            await db.commit()
        return {"id": key}

    @plain.post("/items/bulk", status_code=201)
    async def create_many_async(
        new: list[NewItem], db: Annotated[AsyncSession, Depends(async_session)]
    ) -> list[StoredItem]:
        items = [Item(**one.model_dump()) for one in new]
        db.add_all(items)
        await db.flush()
        stored = [StoredItem(id=item.id, name=item.name, stock=item.stock) for item in items]
        await db.commit()
        return stored


app = AtomicBatch(plain, transaction=SQLAlchemyTransaction(), limits=Limits(max_calls=1000))
