"""Turns: the line in which batches stand that have met a conflict."""

from __future__ import annotations

import asyncio
import threading

import pytest
import sqlalchemy as sa

from atomicbatch.engine import Replay, Turns, execute, execute_async
from atomicbatch.errors import BusyError, ConflictError
from atomicbatch.model import Batch, Call, Reply
from benchmarks.contention import crowd, joined, make_rows


def batch(*targets: str) -> Batch:
    return Batch(
        tuple(
            Call(method, path.encode(), b"", (), b"")
            for method, path in (target.split() for target in targets)
        )
    )


A, B, READS_A = batch("PUT /a"), batch("PUT /b"), batch("GET /a")


def test_one_at_a_time_in_the_order_they_came() -> None:
    """Who leaves lets the next have its turn, whoever leaves from the middle."""
    turns = Turns()
    first, second, third, fourth = (turns.ask(A) for _ in range(4))
    assert [turn.come.done() for turn in (first, second, third)] == [True, False, False]
    second.leave()
    assert not third.come.done()
    first.leave()
    assert third.come.done()
    first.leave()  # a second time changes nothing
    assert not fourth.come.done()


def test_one_that_no_longer_waits_does_not_hold_up_the_line() -> None:
    """A cancelled wait is passed over as soon as it leaves."""
    turns = Turns()
    first, second, third = (turns.ask(A) for _ in range(3))
    second.come.cancel()
    first.leave()
    second.leave()
    assert third.come.done()


def test_newcomers_stand_in_line_for_the_same_paths_only() -> None:
    """What writes elsewhere, or only reads, runs at once; after a second conflict nothing does."""
    turns = Turns()
    assert not turns.meets(A)
    turn = turns.ask(A)
    assert turns.meets(A)
    assert turns.meets(batch("GET /b", "DELETE /a"))
    assert not turns.meets(B)
    assert not turns.meets(READS_A)
    turn.lost = True
    assert turns.meets(B)
    turn.leave()
    assert not turns.meets(A)


class Conflicting:
    """A transaction, sync and async, that meets a conflict for each of the errors it is given."""

    def __init__(self, conflicts: int) -> None:
        self.conflicts = conflicts
        self.begun = 0

    def begin(self, batch: Batch, *, deadline: float) -> Conflicting:
        return self

    def __enter__(self) -> None:
        self.begun += 1
        if self.begun <= self.conflicts:
            raise ConflictError("another transaction was in the way")

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        pass


def answer(call: Call, _: None) -> Reply:
    return Reply(200, (), b"")


async def answer_async(call: Call, _: None) -> Reply:
    return Reply(200, (), b"")


def test_a_batch_waits_for_its_turn_in_a_thread() -> None:
    """It does not run again before the one in front of it has left, and then commits."""
    turns, transaction = Turns(), Conflicting(1)
    front = turns.ask(B)
    outcomes = []

    def run() -> None:
        outcomes.append(execute(A, transaction, answer, timeout_seconds=30, turns=turns))

    thread = threading.Thread(target=run)
    thread.start()
    while not turns.meets(A):  # it has met its conflict, and stands in line
        pass
    assert transaction.begun == 1
    front.leave()
    thread.join(30)
    assert (outcomes[0].committed, outcomes[0].attempts) == (True, 2)
    assert not turns.meets(A), "it has left the line"


def test_a_batch_waits_for_its_turn_in_an_event_loop() -> None:
    """The async twin."""

    async def run() -> None:
        turns, transaction = Turns(), Conflicting(1)
        front = turns.ask(B)
        running = asyncio.create_task(
            execute_async(A, transaction, answer_async, timeout_seconds=30, turns=turns)
        )
        while not turns.meets(A):
            await asyncio.sleep(0)
        assert transaction.begun == 1
        front.leave()
        outcome = await running
        assert (outcome.committed, outcome.attempts) == (True, 2)
        assert not turns.meets(A)

    asyncio.run(run())


def test_the_time_limit_holds_in_line() -> None:
    """A replay whose turn does not come ends with its conflict, a newcomer without having run."""
    turns = Turns()
    turns.ask(A)
    transaction = Conflicting(1)
    with pytest.raises(BusyError):
        execute(A, transaction, answer, timeout_seconds=0.05, turns=turns)
    assert transaction.begun == 0
    with pytest.raises(ConflictError):
        execute(B, transaction, answer, timeout_seconds=0.05, turns=turns)
    assert transaction.begun == 1
    with pytest.raises(ConflictError):
        asyncio.run(
            execute_async(
                B, Conflicting(1), answer_async, timeout_seconds=0.05, turns=turns, replay=Replay()
            )
        )
    assert not turns.meets(B), "they have left the line"


def test_a_cancelled_batch_leaves_the_line() -> None:
    """Its place goes to the next."""

    async def run() -> None:
        turns = Turns()
        turns.ask(A)
        waiting = asyncio.create_task(
            execute_async(A, Conflicting(0), answer_async, timeout_seconds=30, turns=turns)
        )
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(turns) == 1

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "paths"),
    [
        pytest.param("postgresql", 10**6, id="hidden-postgresql"),
        pytest.param("mysql", 3, id="same paths-mysql"),
        pytest.param("postgresql", 3, id="same paths-postgresql", marks=pytest.mark.prove),
        pytest.param("mysql", 10**6, id="hidden-mysql", marks=pytest.mark.prove),
    ],
)
def test_a_crowd_that_wants_the_same_rows(
    database: str, paths: int, request: pytest.FixtureRequest
) -> None:
    """Every batch of a crowd commits; at random times two thirds run out of attempts."""
    url = sa.make_url(request.getfixturevalue(f"{database}_url"))
    drivers = {"postgresql": ("psycopg", "psycopg"), "mysql": ("pymysql", "asyncmy")}
    sync, asynchronous = (f"{database}+{driver}" for driver in drivers[database])
    make_rows(url.set(drivername=sync), 3)
    clients = joined(url.set(drivername=asynchronous), 3)
    figures = asyncio.run(crowd(clients, paths, 30, 3))
    assert figures.committed == 1.0, figures
