"""
A shop: FastAPI and SQLModel on SQLite; one line at the end makes batches of its calls atomic.

Start it with ``uvicorn app:app``, then send order.http and too-many.http with ``atomicbatch send``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from sqlmodel import Field, Session, SQLModel, col, create_engine, update

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.sqlite"))


class ProductIn(SQLModel):
    name: str
    price_cents: int = Field(ge=0)
    stock: int = Field(ge=0)


class Product(ProductIn, table=True):
    sku: str = Field(primary_key=True)


class ProductOut(ProductIn):
    sku: str


class LineIn(SQLModel):
    sku: str = Field(foreign_key="product.sku")
    quantity: int = Field(ge=1)


class Line(LineIn, table=True):
    id: int | None = Field(default=None, primary_key=True)
    order_id: int = Field(foreign_key="order.id")


class OrderIn(SQLModel):
    email: str
    lines: list[LineIn] = Field(min_length=1)


class Order(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    email: str


def get_session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


InSession = Annotated[Session, Depends(get_session)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    SQLModel.metadata.create_all(engine)
    yield
    engine.dispose()


shop = FastAPI(title="Shop", lifespan=lifespan)


@shop.put("/products/{sku}", response_model=ProductOut)
def put_product(sku: str, product: ProductIn, session: InSession) -> Product:
    stored = session.merge(Product(sku=sku, **product.model_dump()))
    session.commit()
    session.refresh(stored)
    return stored


@shop.get("/products/{sku}", response_model=ProductOut)
def get_product(sku: str, session: InSession) -> Product:
    if (product := session.get(Product, sku)) is None:
        raise HTTPException(404, f"there is no product {sku}")
    return product


@shop.post("/orders", status_code=201)
def place_order(order: OrderIn, session: InSession, tasks: BackgroundTasks) -> dict[str, int]:
    placed = Order(email=order.email)
    session.add(placed)
    session.flush()
    assert placed.id is not None  # noqa: S101  # the flush has given it one
    for line in order.lines:
        take_from_stock(session, line)
        session.add(Line(order_id=placed.id, sku=line.sku, quantity=line.quantity))
    number = placed.id
    session.commit()
    tasks.add_task(send_mail, order.email, f"We have your order {number}.")
    return {"id": number}


def take_from_stock(session: Session, line: LineIn) -> None:
    # In one statement, so that two orders at a time cannot take the same tin.
    enough = (col(Product.sku) == line.sku, col(Product.stock) >= line.quantity)
    taken = session.exec(
        update(Product).where(*enough).values(stock=col(Product.stock) - line.quantity)
    )
    if not taken.rowcount:
        raise HTTPException(409, f"there are no {line.quantity} of {line.sku}")


def send_mail(address: str, text: str) -> None:
    print(f"mail to {address}: {text}", flush=True)


app = AtomicBatch(shop, transaction=SQLAlchemyTransaction())
