"""
The oracle for handlers that nobody would write: random ones.

A random program is what the handlers of one or two calls do, step by step, with up to three
sessions or connections in turn. It runs alone, in a batch that commits, and in a batch that fails
afterwards. Replies and rows of the first two agree, unless the batch is refused; and it is refused
only where the documentation says so. What is refused or fails leaves no row.

Natively sessions block each other where they write the same rows, and here too they would see each
other's. So each has names of its own. Its handlers swallow every error, as the worst of them do.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, ask, call
from tests.databases import OTHER_MYSQL
from tests.transactions.sqlalchemy.oracle import RUN, Databases, add
from tests.transactions.sqlalchemy.patterns import Pattern
from tests.transactions.sqlalchemy.test_oracle import app_of, ask_plainly
from tests.transactions.sqlalchemy.worlds import DRIVERS, SEED, Item, World, items

MAIN = ("pysqlite", "psycopg", "pymysql", "aiosqlite", "asyncpg", "asyncmy")
EXAMPLES = [15, pytest.param(40, marks=pytest.mark.prove)]
SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

# Programs ----------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One thing that a handler does with the session in a slot; ``row`` is one of its own rows."""

    slot: int
    act: str
    row: int = 0


class Program(NamedTuple):
    """The kind of session in each slot, and the steps of each call."""

    kinds: tuple[str, ...]
    calls: list[list[Step]]


SLOTS = 3
ROWS = 3
WRITES = ("insert", "update", "delete")
ENDS = ("commit", "rollback", "close")
# A slot's row 0 is there in the beginning: to insert it fails, unless it has been deleted.
ACTS = {
    "sqlite": (*WRITES, "insert", "read", "nest", "release", "undo", *ENDS, "commit"),
    "mysql": (*WRITES, "insert", "read", "lock", "nest", "release", "undo", *ENDS, "commit"),
    "postgresql": (
        *(*WRITES, "insert", "read", "lock", "nest", "release", "undo", *ENDS, "commit"),
        *("divide", "set", "setting"),
    ),
}
AUTO_ACTS = (*WRITES, "read", "nest", *ENDS)  # of which "nest" sends BEGIN


def steps(family: str, kinds: tuple[str, ...], *, one_at_a_time: bool) -> st.SearchStrategy[Any]:
    """What one call does."""

    def of(slot: int) -> st.SearchStrategy[Step]:
        acts = AUTO_ACTS if kinds[slot] == "auto" else ACTS[family]
        return st.builds(Step, st.just(slot), st.sampled_from(acts), st.integers(0, ROWS - 1))

    slots = range(len(kinds))
    if not one_at_a_time:
        return st.lists(st.one_of(*map(of, slots)), max_size=14).map(
            lambda some: [*some, *(Step(slot, "close") for slot in slots)]
        )
    return st.lists(
        st.sampled_from(slots).flatmap(
            lambda slot: st.lists(of(slot), max_size=8).map(
                lambda some: [*some, Step(slot, "close")]
            )
        ),
        max_size=4,
    ).map(lambda parts: [step for part in parts for step in part])


def programs(family: str, *, one_at_a_time: bool) -> st.SearchStrategy[Program]:
    kinds = st.lists(st.sampled_from(("orm", "core", "auto")), min_size=1, max_size=SLOTS)
    return kinds.map(tuple).flatmap(
        lambda some: st.builds(
            Program,
            st.just(some),
            st.lists(steps(family, some, one_at_a_time=one_at_a_time), min_size=1, max_size=2),
        )
    )


# Handlers ----------------------------------------------------------------------------------------


class Slot:
    """One session or connection of a handler, opened when it is first used."""

    def __init__(self, engine: sa.Engine, kind: str, number: int) -> None:
        self.engine = engine
        self.kind = kind
        self.number = number
        self.used: Any = None
        self.reset()

    def reset(self) -> None:
        self.nested: list[Any] = []
        self.failed = False
        self.writes = False

    @property
    def session(self) -> Any:
        if self.used is None:
            self.used = Session(self.engine) if self.kind == "orm" else self.engine.connect()
            if self.kind == "auto":
                self.used.execution_options(isolation_level="AUTOCOMMIT")
        return self.used

    def insert(self, name: str) -> None:
        if self.kind == "orm":
            self.session.add(Item(name=name, n=0))
            self.session.flush()
        else:
            self.session.execute(sa.insert(items).values(name=name, n=0))

    def update(self, name: str) -> int:
        mine = items.c.name == name
        if self.kind == "orm":
            item = self.session.scalars(sa.select(Item).where(mine)).one_or_none()
            if item is None:
                return 0
            item.n += 1
            self.session.flush()
            return int(item.n)
        done = self.session.execute(sa.update(items).where(mine).values(n=items.c.n + 1))
        return int(done.rowcount)

    def delete(self, name: str) -> int:
        target: Any = Item if self.kind == "orm" else items
        return int(self.session.execute(sa.delete(target).where(items.c.name == name)).rowcount)

    def read(self, _: str) -> list[list[Any]]:
        mine = items.c.name.startswith(f"{self.number}-")
        query = sa.select(items.c.name, items.c.n).where(mine).order_by(items.c.name)
        return [list(row) for row in self.session.execute(query)]

    def lock(self, name: str) -> int:
        query = sa.select(items.c.n).where(items.c.name == name).with_for_update()
        return len(self.session.execute(query).all())

    def divide(self, _: str) -> None:
        self.session.execute(sa.text("SELECT 1 / 0"))

    def set(self, name: str) -> None:
        self.session.execute(sa.text(f"SET LOCAL app.slot{self.number} = '{name}'"))

    def setting(self, _: str) -> str:
        query = sa.text(f"SELECT current_setting('app.slot{self.number}', true)")
        return f"is {self.session.scalar(query) or ''}"

    def nest(self, _: str) -> None:
        if self.kind != "auto":
            self.nested.append(self.session.begin_nested())
        elif not self.nested:
            self.session.exec_driver_sql("BEGIN")
            self.nested.append("ROLLBACK")

    def release(self, name: str) -> None:
        if self.failed:
            self.undo(name)  # as ``with session.begin_nested()`` does
        elif self.nested:
            self.nested.pop().commit()

    def undo(self, _: str) -> None:
        if self.nested:
            self.nested.pop().rollback()
            self.failed = False

    def commit(self, _: str) -> None:
        if self.kind == "auto" and self.nested:
            self.session.exec_driver_sql("COMMIT")
        else:
            if self.kind == "orm" and self.failed:
                self.undo("")
            self.session.commit()
        self.reset()

    def rollback(self, _: str) -> None:
        if self.kind == "auto" and self.nested:
            self.session.exec_driver_sql("ROLLBACK")
        else:
            self.session.rollback()
        self.reset()

    def close(self, _: str) -> None:
        if self.used is None:
            return
        try:
            if self.kind == "auto" and self.nested:
                self.session.exec_driver_sql("ROLLBACK")
        finally:
            self.used.close()
            self.used = None
            self.reset()


class Handler:
    """One call: performs its steps, one by one."""

    def __init__(self, world: World, kinds: tuple[str, ...]) -> None:
        self.family = world.family
        self.slots = [Slot(world.engine, kind, number) for number, kind in enumerate(kinds)]

    def perform(self, step: Step) -> Any:
        """What the handler learns from it; the name of the error if it fails."""
        slot = self.slots[step.slot]
        if not self.possible(slot, step.act):
            return None
        try:
            return getattr(slot, step.act)(f"{step.slot}-{step.row}")
        except Exception as error:
            slot.failed = True
            return type(error).__name__

    def possible(self, slot: Slot, act: str) -> bool:
        """On SQLite only one session writes at a time."""
        if self.family != "sqlite":
            return True
        if act not in (*WRITES, "nest"):
            return True
        if any(other.writes for other in self.slots if other is not slot):
            return False
        slot.writes = slot.kind != "auto" or act == "nest" or slot.writes
        return True


# When a batch may be refused ---------------------------------------------------------------------


@dataclass(eq=False)
class Transaction:
    """What a session has done since it began one."""

    changed: bool = False
    failed: bool = False
    explicit: bool = False
    since: set[Transaction] = field(default_factory=set)
    """Those that have changed or locked something since."""


def may_refuse(kinds: tuple[str, ...], steps: list[Step], replies: list[Any]) -> bool:
    """
    Whether a call does what docs/explanation/handlers-in-a-batch.md says is refused.

    It undoes a transaction that has written, while another one has written since; or it goes on
    after a failed statement, before that transaction was rolled back.
    """
    opened: dict[int, Transaction] = {}
    for (slot, act, _), reply in zip(steps, replies, strict=True):
        one = opened.setdefault(slot, Transaction())
        others = [other for other in opened.values() if other is not one]
        failed = isinstance(reply, str) and not reply.startswith("is ")
        if any(other.failed for other in others) and act not in ENDS:
            return True
        if act in (*WRITES, "lock", "set", "nest"):
            one.changed = True
            for other in others:
                other.since.add(one)
        one.failed = one.failed or failed
        one.explicit = one.explicit or act == "nest"
        undone = act in ("rollback", "close", "undo") or one.failed
        if undone and one.changed and one.since:
            return True
        if kinds[slot] == "auto" and not one.explicit:
            del opened[slot]  # it has committed by itself
        elif act in ENDS and (not failed or act == "close"):
            del opened[slot]
            for other in others if undone else []:
                other.since.discard(one)
    return False


# The comparison ----------------------------------------------------------------------------------


class Oracle:
    """Runs programs alone and in batches, on one engine and one database."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.program = Program((), [])
        self.count = 0
        act = self.act_async if world.is_async else self.act
        self.plain = app_of(world, Pattern(act, (), (), ""))
        self.app = AtomicBatch(self.plain, transaction=SQLAlchemyTransaction())
        self.connection = world.database.connect()
        # Beside rows of its own, each slot has a row that nobody touches: MariaDB locks the gap
        # before the next one, in which another's new row would have to wait.
        own = [(f"{slot}{tail}", 0) for slot in range(SLOTS) for tail in ("", "-0")]
        self.seed = sorted([*SEED, *own])

    def act(self, world: World) -> list[Any]:
        handler, steps = self.handler()
        return [handler.perform(step) for step in steps]

    async def act_async(self, world: World) -> list[Any]:
        handler, steps = self.handler()
        # What AsyncSession and AsyncConnection do with each of their methods.
        return [await greenlet_spawn(handler.perform, step) for step in steps]

    def handler(self) -> tuple[Handler, list[Step]]:
        kinds, calls = self.program
        self.count += 1
        return Handler(self.world, kinds), calls[(self.count - 1) % len(calls)]

    def run(self, text: str) -> list[tuple[Any, ...]]:
        cursor = self.connection.cursor()
        cursor.execute(text)
        rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        cursor.close()
        return rows

    def reset(self) -> None:
        self.run("DELETE FROM item")
        values = ", ".join(f"('{name}', {n})" for name, n in self.seed)
        self.run(f"INSERT INTO item (name, n) VALUES {values}")
        self.count = 0

    def rows(self) -> list[tuple[str, int]]:
        return sorted(self.run("SELECT name, n FROM item"))

    async def check(self, program: Program) -> None:
        self.program = program
        runs = [RUN] * len(program.calls)
        self.reset()
        alone = [json.loads((await ask_plainly(self.plain, run)).body) for run in runs]
        rows = self.rows()
        # Natively nothing waits for a lock, or the program is none for this test.
        assert not any("OperationalError" in replies for replies in alone), alone

        self.reset()
        answer = await ask(self.app, *runs)
        if answer.outcome == "committed":
            assert [json.loads(reply.body) for reply in answer.replies] == alone
            assert self.rows() == rows
        else:
            self.check_refusal(answer, alone)

        self.reset()
        answer = await ask(self.app, *runs, call("POST", "/fail"))
        assert answer.outcome.startswith("rolled-back")
        assert self.rows() == self.seed

        assert self.world.checked_out() == 0
        assert (await ask_plainly(self.app, add("plain"))).status == 201
        assert self.rows() == sorted([*self.seed, ("plain", 0)])

    def check_refusal(self, answer: Answer, alone: list[list[Any]]) -> None:
        number, _, status = answer.outcome.removeprefix("rolled-back; failed=").partition("; ")
        assert status == "status=501", answer.body
        kinds, calls = self.program
        index = int(number) - 1
        assert may_refuse(kinds, calls[index], alone[index]), answer.body
        assert self.rows() == self.seed


def check(world: World, program: st.SearchStrategy[Program], examples: int) -> None:
    oracle = Oracle(world)
    with asyncio.Runner() as runner:

        @settings(SETTINGS, max_examples=examples)
        @given(program)
        def compare(program: Program) -> None:
            runner.run(oracle.check(program))

        try:
            compare()
        finally:
            runner.run(world.dispose())
            oracle.connection.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("driver", MAIN)
def test_one_at_a_time(driver: str, examples: int, databases: Databases) -> None:
    """Sessions that do not overlap do in a batch what they do alone; none is ever refused."""
    world = World(driver, databases(DRIVERS[driver]))
    check(world, programs(world.family, one_at_a_time=True), examples)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("driver", MAIN)
def test_in_turn(driver: str, examples: int, databases: Databases) -> None:
    """Sessions in turn do in a batch what they do alone, or are refused for a documented reason."""
    if OTHER_MYSQL and DRIVERS[driver] == "mysql":
        pytest.skip("alone, MySQL's sessions wait for locks that MariaDB's do not take")
    world = World(driver, databases(DRIVERS[driver]))
    check(world, programs(world.family, one_at_a_time=False), examples)
