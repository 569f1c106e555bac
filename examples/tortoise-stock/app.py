"""
A stock of goods in several places: FastAPI and Tortoise; batches of its calls are atomic.

Start it with ``uvicorn app:app``, then send move.http and too-many.http with ``atomicbatch send``.
``DATABASE_URL`` is a file of SQLite, or a database: ``asyncpg://user@host/name``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from tortoise import fields
from tortoise.contrib.fastapi import RegisterTortoise
from tortoise.expressions import F
from tortoise.models import Model
from tortoise.transactions import in_transaction

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions import DriverTransaction

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite://stock.sqlite")


class Place(Model):
    name = fields.CharField(max_length=50, primary_key=True)
    crates = fields.IntField()


class Move(Model):
    id = fields.IntField(primary_key=True)
    source = fields.CharField(max_length=50)
    target = fields.CharField(max_length=50)
    crates = fields.IntField()


class Crates(BaseModel):
    crates: int


class NewMove(BaseModel):
    source: str
    target: str
    crates: int


@asynccontextmanager
async def lifespan(stock: FastAPI) -> AsyncIterator[None]:
    modules = {"models": [__name__]}
    async with RegisterTortoise(stock, db_url=DATABASE_URL, modules=modules, generate_schemas=True):
        yield


stock = FastAPI(lifespan=lifespan)


@stock.put("/places/{name}")
async def put(name: str, new: Crates) -> dict[str, object]:
    await Place.update_or_create({"crates": new.crates}, name=name)
    return {"name": name, "crates": new.crates}


@stock.get("/places/{name}")
async def get(name: str) -> dict[str, object]:
    place = await Place.get_or_none(name=name)
    if place is None:
        raise HTTPException(404, f"there is no place {name!r}")
    return {"name": name, "crates": place.crates}


@stock.post("/moves", status_code=201)
async def move(new: NewMove) -> dict[str, object]:
    async with in_transaction():
        source = Place.filter(name=new.source, crates__gte=new.crates)
        if not await source.update(crates=F("crates") - new.crates):
            raise HTTPException(409, f"there are no {new.crates} crates in {new.source!r}")
        if not await Place.filter(name=new.target).update(crates=F("crates") + new.crates):
            raise HTTPException(404, f"there is no place {new.target!r}")
        made = await Move.create(**new.model_dump())
    return {"id": made.id}


app = AtomicBatch(stock, transaction=DriverTransaction())
