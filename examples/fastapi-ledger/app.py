"""
A ledger: FastAPI and async SQLAlchemy (asyncpg) on PostgreSQL; batches of transfers are atomic.

Start it with ``DATABASE_URL=postgresql+asyncpg://user:password@localhost/ledger uvicorn app:app``,
then send payday.http and overdrawn.http with ``atomicbatch send``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy import CheckConstraint, ForeignKey, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction


class Base(DeclarativeBase): ...


class Account(Base):
    __tablename__ = "account"
    name: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int] = mapped_column(CheckConstraint("cents >= 0"))


class Transfer(Base):
    __tablename__ = "transfer"
    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(ForeignKey("account.name"))
    target: Mapped[str] = mapped_column(ForeignKey("account.name"))
    cents: Mapped[int]


class AccountModel(BaseModel):
    name: str
    cents: int = Field(ge=0)


class TransferModel(BaseModel):
    source: str
    target: str
    cents: int = Field(gt=0)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield {"sessions": async_sessionmaker(engine, expire_on_commit=False)}
    await engine.dispose()


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.state.sessions() as session:
        yield session


class Ledger:
    """The repository of accounts and of the transfers between them."""

    def __init__(self, session: Annotated[AsyncSession, Depends(get_session)]) -> None:
        self.session = session

    async def open(self, name: str, cents: int) -> None:
        self.session.add(Account(name=name, cents=cents))
        try:
            await self.session.commit()
        except IntegrityError:
            raise HTTPException(409, f"there is an account {name} already") from None

    async def account(self, name: str) -> Account:
        if (account := await self.session.get(Account, name)) is None:
            raise HTTPException(404, f"there is no account {name}")
        return account

    async def transfer(self, source: str, target: str, cents: int) -> None:
        # In one order, so that two transfers at a time do not wait for each other.
        named = select(Account).where(Account.name.in_([source, target])).order_by(Account.name)
        found = {row.name: row for row in await self.session.scalars(named.with_for_update())}
        if source not in found or target not in found:
            raise HTTPException(404, f"there is no account {source} or no {target}")
        if found[source].cents < cents:
            raise HTTPException(409, f"{source} has no more than {found[source].cents} cents")
        found[source].cents -= cents
        found[target].cents += cents
        self.session.add(Transfer(source=source, target=target, cents=cents))
        await self.session.commit()


InLedger = Annotated[Ledger, Depends()]
app = FastAPI(title="Ledger", lifespan=lifespan)
app.add_middleware(AtomicBatch, transaction=SQLAlchemyTransaction(isolation_level="SERIALIZABLE"))


@app.post("/accounts", status_code=201)
async def open_account(account: AccountModel, ledger: InLedger) -> AccountModel:
    await ledger.open(account.name, account.cents)
    return account


@app.get("/accounts/{name}", response_model=AccountModel)
async def get_account(name: str, ledger: InLedger) -> Account:
    return await ledger.account(name)


@app.post("/transfers", status_code=201)
async def make_transfer(transfer: TransferModel, ledger: InLedger) -> TransferModel:
    await ledger.transfer(transfer.source, transfer.target, transfer.cents)
    return transfer
