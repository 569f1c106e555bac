"""
Notes with tags: FastAPI, sqlite3 and peewee on one SQLite file; batches of its calls are atomic.

Start it with ``uvicorn app:app``, then send notes.http and no-such-note.http with ``atomicbatch
send``.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any

import peewee
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions import DriverTransaction

PATH = os.environ.get("DATABASE", "notes.sqlite")
with closing(sqlite3.connect(PATH)) as connection:
    connection.executescript(
        """
        CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE);
        CREATE TABLE IF NOT EXISTS tag (id INTEGER PRIMARY KEY, note_id INTEGER, name TEXT);
        """
    )

# Tags by peewee --------------------------------------------------------------------------------
database = peewee.SqliteDatabase(PATH)


class Tag(peewee.Model):
    note_id = peewee.IntegerField()
    name = peewee.CharField()

    class Meta:
        database = database


class NewNote(BaseModel):
    title: str


class NewTag(BaseModel):
    title: str
    name: str


notes = FastAPI()


@notes.post("/notes", status_code=201)
def add_note(new: NewNote) -> dict[str, Any]:
    # By sqlite3: a connection for each request, which commits.
    with closing(sqlite3.connect(PATH)) as connection, connection:
        try:
            cursor = connection.execute("INSERT INTO note (title) VALUES (?)", (new.title,))
        except sqlite3.IntegrityError:
            raise HTTPException(409, f"there is a note {new.title!r}") from None
        return {"id": cursor.lastrowid, "title": new.title}


@notes.post("/tags", status_code=201)
def add_tag(new: NewTag) -> dict[str, Any]:
    with closing(sqlite3.connect(PATH)) as connection:
        found = connection.execute("SELECT id FROM note WHERE title = ?", (new.title,)).fetchone()
    if found is None:
        raise HTTPException(404, f"there is no note {new.title!r}")
    with database.connection_context(), database.atomic():
        Tag.create(note_id=found[0], name=new.name)
    return {"title": new.title, "tag": new.name}


@notes.get("/tags/{name}")
def tagged(name: str) -> list[str]:
    with closing(sqlite3.connect(PATH)) as connection:
        rows = connection.execute(
            "SELECT title FROM note JOIN tag ON note.id = note_id WHERE name = ? ORDER BY title",
            (name,),
        )
        return [title for (title,) in rows]


app = AtomicBatch(notes, transaction=DriverTransaction())
