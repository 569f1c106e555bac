"""The same steps where their answers are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from atomicbatch.join.awaiting import run_async
from atomicbatch.join.steps import PERFORM, Ask, Send, Steps


class _Link:
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self.connection = connection

    async def send(self, texts: Sequence[str]) -> None:
        for text in texts:
            await self.connection.execute(text)

    async def ask(self, text: str) -> Any:
        async with self.connection.execute(text) as cursor:
            row = await cursor.fetchone()
        return None if row is None else row[0]

    async def begin(self) -> None:
        await self.connection.execute("BEGIN")

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()

    def is_in_transaction(self) -> bool:
        return self.connection.in_transaction

    def is_aborted(self) -> bool:
        return False

    def is_lost(self, error: Exception) -> bool:
        return False

    def interrupt(self) -> None:
        pass


def test_each_step_is_awaited(tmp_path: Path) -> None:
    """SQL is sent in order, queries and the handler's statement are answered."""

    def steps() -> Steps[list[object]]:
        yield Send(("CREATE TABLE t (n)", "INSERT INTO t VALUES (7)"))
        return [(yield Ask("SELECT n FROM t")), (yield PERFORM)]

    async def perform() -> str:
        await asyncio.sleep(0)
        return "performed"

    async def main() -> None:
        async with aiosqlite.connect(tmp_path / "steps.sqlite") as connection:
            assert await run_async(steps(), _Link(connection), perform) == [7, "performed"]

    asyncio.run(main())


def test_a_cancellation_is_thrown_into_the_steps(tmp_path: Path) -> None:
    """A task that is cancelled in a step has its steps take note of it, and is cancelled."""
    seen: list[BaseException] = []
    begun = asyncio.Event()

    def steps() -> Steps[None]:
        try:
            yield PERFORM
        except BaseException as error:
            seen.append(error)
            raise

    async def perform() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async with aiosqlite.connect(tmp_path / "steps.sqlite") as connection:
            task = asyncio.create_task(run_async(steps(), _Link(connection), perform))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert [type(error) for error in seen] == [asyncio.CancelledError]

    asyncio.run(main())
