"""Joining: the block of one attempt at a batch, entered and left by sync or by async code."""

from __future__ import annotations

import asyncio

from sqlalchemy.util import greenlet_spawn

from atomicbatch.transactions import joining
from atomicbatch.transactions.sqlalchemy.attempt import SQLAlchemyAttempt


class Joining(joining.Joining[SQLAlchemyAttempt]):
    """The block of one attempt. ``with`` is for threads that have no event loop."""

    def __init__(self, attempt: SQLAlchemyAttempt) -> None:
        super().__init__(attempt, greenlet_spawn)

    def __enter__(self) -> SQLAlchemyAttempt:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("this thread has an event loop; use 'async with' or execute_async()")
        return super().__enter__()

    async def __aenter__(self) -> SQLAlchemyAttempt:
        self._attempt.enter_loop()
        return await super().__aenter__()
