"""What is put off until after COMMIT is looked at, although it does not run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from atomicbatch.doctor import Verdict, examine
from tests.doctor.conftest import by_operation

pytestmark = pytest.mark.slow
_APP = """
from typing import Annotated
from fastapi import BackgroundTasks, Depends, FastAPI
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from atomicbatch import on_commit

engine = sa.create_engine("sqlite:///one.sqlite")

class Base(DeclarativeBase):
    pass

class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)

Base.metadata.create_all(engine)
app = FastAPI()

def session():
    with Session(engine) as session:
        yield session

Opened = Annotated[Session, Depends(session)]

def add(session):
    item = Item()
    session.add(item)
    session.commit()
    return item

@app.post("/session")
def with_session(session: Opened, tasks: BackgroundTasks):
    add(session)
    tasks.add_task(print, session)

@app.post("/on-commit")
def by_on_commit(session: Opened):
    add(session)
    on_commit(print, file=session)

@app.post("/expired")
def with_expired(session: Opened, tasks: BackgroundTasks):
    tasks.add_task(print, add(session))

@app.post("/loaded")
def with_loaded(session: Opened, tasks: BackgroundTasks):
    item = add(session)
    session.refresh(item)
    tasks.add_task(print, item, item.id)
"""


def test_what_ends_before_it_is_used(write_app: Callable[[str], str]) -> None:
    """A session, or an object that would ask its session; one that is loaded would not."""
    found = by_operation(examine(f"{write_app(_APP)}:app"))
    for path, kind in (("session", "Session"), ("on-commit", "Session"), ("expired", "Item")):
        verdict, (reason,) = found[f"POST /{path}"]
        assert verdict is Verdict.WARNING
        assert reason.startswith(f"gives its {kind} to a background task or on_commit, which runs ")
    assert found["POST /loaded"] == (Verdict.SAFE, [])
