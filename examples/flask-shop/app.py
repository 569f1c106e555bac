"""
A shop: Flask and Flask-SQLAlchemy on SQLite; one line at the end makes batches of its calls atomic.

Start it with ``gunicorn app:app``, then send order.http and too-many.http with ``atomicbatch
send``.
"""

from __future__ import annotations

import os

from flask import Flask, abort, request
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from atomicbatch import on_commit
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch


class Base(DeclarativeBase): ...


db = SQLAlchemy(model_class=Base)


class Product(Base):
    __tablename__ = "product"
    sku: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    price_cents: Mapped[int]
    stock: Mapped[int]

    def shown(self) -> dict[str, object]:
        return {
            "sku": self.sku,
            "name": self.name,
            "price_cents": self.price_cents,
            "stock": self.stock,
        }


class Order(Base):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


class Line(Base):
    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("order.id"))
    sku: Mapped[str] = mapped_column(ForeignKey("product.sku"))
    quantity: Mapped[int]


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("DATABASE_URL", "sqlite:///shop.sqlite")
db.init_app(app)
with app.app_context():
    Base.metadata.create_all(db.engine)


@app.put("/products/<sku>")
def put_product(sku: str) -> ResponseReturnValue:
    stored = db.session.merge(Product(sku=sku, **request.json))
    db.session.commit()
    return stored.shown()


@app.get("/products/<sku>")
def get_product(sku: str) -> ResponseReturnValue:
    if (product := db.session.get(Product, sku)) is None:
        abort(404, f"there is no product {sku}")
    return product.shown()


@app.post("/orders")
def place_order() -> ResponseReturnValue:
    order = Order(email=request.json["email"])
    db.session.add(order)
    db.session.flush()
    for line in request.json["lines"]:
        if not take_from_stock(line["sku"], line["quantity"]):
            return {"detail": f"there are no {line['quantity']} of {line['sku']}"}, 409
        db.session.add(Line(order_id=order.id, **line))
    db.session.commit()
    on_commit(send_mail, order.email, f"We have your order {order.id}.")
    return {"id": order.id}, 201


def take_from_stock(sku: str, quantity: int) -> bool:
    # In one statement, so that two orders at a time cannot take the same tin.
    enough = (Product.sku == sku, Product.stock >= quantity)
    taken = db.session.execute(
        update(Product).where(*enough).values(stock=Product.stock - quantity)
    )
    return bool(taken.rowcount)


def send_mail(address: str, text: str) -> None:
    print(f"mail to {address}: {text}", flush=True)


app.wsgi_app = AtomicBatch(app.wsgi_app, transaction=SQLAlchemyTransaction())
