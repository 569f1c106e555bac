"""
Notes with tags: Litestar and async SQLAlchemy on SQLite; batches of its calls are atomic.

Start it with ``uvicorn app:app``, then send notes.http and no-such-note.http with ``atomicbatch
send``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from litestar import Controller, Litestar, Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.di import NamedDependency
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import FromPath, JSONBody
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///notes.sqlite"))
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase): ...


class Note(Base):
    __tablename__ = "note"
    title: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    tags: Mapped[list[Tag]] = relationship(order_by="Tag.name", lazy="selectin")


class Tag(Base):
    __tablename__ = "tag"
    note: Mapped[str] = mapped_column(ForeignKey("note.title"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


@dataclass
class NoteData:
    title: str
    text: str


@dataclass
class TaggedNote(NoteData):
    tags: list[str]


async def provide_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


InSession = NamedDependency[AsyncSession]


async def tell_subscribers(text: str) -> None:
    print(f"told subscribers: {text}", flush=True)


class NoteController(Controller):
    path = "/notes"

    @post()
    async def write(self, data: JSONBody[NoteData], session: InSession) -> Response[NoteData]:
        if await session.get(Note, data.title) is not None:
            raise ClientException(f"there is a note {data.title} already", status_code=409)
        session.add(Note(title=data.title, text=data.text))
        await session.commit()
        return Response(data, background=BackgroundTask(tell_subscribers, f"new: {data.title}"))

    @post("/{title:str}/tags/{tag:str}")
    async def tag(self, title: FromPath[str], tag: FromPath[str], session: InSession) -> TaggedNote:
        note = await find(session, title)
        if tag not in [one.name for one in note.tags]:
            note.tags.append(Tag(name=tag))
        await session.commit()
        return shown(note)

    @get("/{title:str}")
    async def show(self, title: FromPath[str], session: InSession) -> TaggedNote:
        note = await find(session, title)
        return shown(note)


async def find(session: AsyncSession, title: str) -> Note:
    note = await session.scalar(select(Note).where(Note.title == title))
    if note is None:
        raise NotFoundException(f"there is no note {title}")
    return note


def shown(note: Note) -> TaggedNote:
    return TaggedNote(note.title, note.text, [tag.name for tag in note.tags])


@asynccontextmanager
async def lifespan(_: Litestar) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


notes = Litestar([NoteController], dependencies={"session": provide_session}, lifespan=[lifespan])
app = AtomicBatch(notes, transaction=SQLAlchemyTransaction())
