"""
An app as full-stack templates make them: sessions by dependency, repositories, commits everywhere.

One engine to read by and one to write by; a user who is looked up for each request, in a session
that stays open; a service that catches its errors; a middleware that logs by a session of its own;
mails in the background. Nothing of it knows of batches.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, TypeVar

import sqlalchemy as sa
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import Response


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(80), unique=True)
    name: Mapped[str] = mapped_column(sa.String(80), default="")


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(sa.String(80))


class Visit(Base):
    __tablename__ = "visits"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(sa.String(200))


Row = TypeVar("Row", User, Note)


class Repository(Generic[Row]):
    """Each of its methods commits, as a repository's do."""

    def __init__(self, model: type[Row], session: AsyncSession) -> None:
        self.model: type[Row] = model
        self.session = session

    async def add(self, row: Row) -> Row:
        self.session.add(row)
        await self.session.commit()
        await self.session.refresh(row)
        return row

    async def get(self, key: int) -> Row:
        row: Row | None = await self.session.get(self.model, key)
        if row is None:
            raise HTTPException(404, "there is none such")
        return row

    async def save(self, row: Row, **values: Any) -> Row:
        for name, value in values.items():
            setattr(row, name, value)
        await self.session.commit()
        await self.session.refresh(row)
        return row

    async def delete(self, row: Row) -> None:
        await self.session.delete(row)
        await self.session.commit()


class NewUser(BaseModel):
    email: str


class NewNote(BaseModel):
    title: str


def make_app(url: str, mails: list[str]) -> FastAPI:
    """Make the app; ``mails`` is where it sends its mails to."""
    writer, reader = create_async_engine(url), create_async_engine(url)
    writing = async_sessionmaker(writer, expire_on_commit=False)
    reading = async_sessionmaker(reader, expire_on_commit=False)

    async def session() -> AsyncIterator[AsyncSession]:
        async with writing() as opened:
            yield opened

    async def reading_session() -> AsyncIterator[AsyncSession]:
        async with reading() as opened:
            yield opened

    Session = Annotated[AsyncSession, Depends(session)]  # noqa: N806
    ReadingSession = Annotated[AsyncSession, Depends(reading_session)]  # noqa: N806

    async def current_user(db: ReadingSession, x_user: Annotated[str, Header()]) -> User:
        user = await db.scalar(sa.select(User).where(User.email == x_user))
        if user is None:
            raise HTTPException(401, "sign in first")
        return user

    CurrentUser = Annotated[User, Depends(current_user)]  # noqa: N806

    class Visits(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            response = await call_next(request)
            async with writing.begin() as db:
                db.add(Visit(path=request.url.path))
            return response

    app = FastAPI()
    app.add_middleware(Visits)
    app.state.engines = (writer, reader)

    @app.post("/users", status_code=201)
    async def sign_up(new: NewUser, db: Session, background: BackgroundTasks) -> dict[str, Any]:
        try:
            user = await Repository(User, db).add(User(email=new.email))
        except IntegrityError:
            await db.rollback()
            raise HTTPException(409, "this address is taken") from None
        await Repository(Note, db).add(Note(owner_id=user.id, title="Welcome"))
        background.add_task(mails.append, new.email)
        return {"id": user.id, "email": user.email}

    @app.put("/users/me")
    async def ensure(new: NewUser, user: CurrentUser, db: Session) -> dict[str, Any]:
        """Take an address if it is free, else stay as it was."""
        users = Repository(User, db)
        try:
            await users.save(await users.get(user.id), email=new.email)
        except IntegrityError:
            await db.rollback()
            await users.save(await users.get(user.id), name=f"wanted to be {new.email}")
        return {"id": user.id}

    @app.post("/notes", status_code=201)
    async def write(new: NewNote, user: CurrentUser, db: Session) -> dict[str, Any]:
        note = await Repository(Note, db).add(Note(owner_id=user.id, title=new.title))
        return {"title": note.title}

    @app.delete("/notes/{title}", status_code=204)
    async def remove(title: str, user: CurrentUser, db: Session) -> None:
        note = await db.scalar(sa.select(Note).where(Note.title == title))
        if note is None:
            raise HTTPException(404, "there is none such")
        if note.owner_id != user.id:
            raise HTTPException(403, "not yours")
        await Repository(Note, db).delete(note)

    @app.get("/notes")
    async def titles(user: CurrentUser, db: ReadingSession) -> list[str]:
        query = sa.select(Note.title).where(Note.owner_id == user.id).order_by(Note.title)
        return list(await db.scalars(query))

    return app
