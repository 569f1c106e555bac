"""Joining: the block of one attempt at a batch, entered and left by sync or by async code."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AbstractContextManager

from sqlalchemy.util import greenlet_spawn

from atomicbatch.join.acts import Acts, do
from atomicbatch.transactions.places import do_async
from atomicbatch.transactions.sqlalchemy.attempt import Call, SQLAlchemyAttempt


class Joining(
    AbstractContextManager[SQLAlchemyAttempt], AbstractAsyncContextManager[SQLAlchemyAttempt]
):
    """
    The block of one attempt, and what stops it when time is up.

    ``with`` does everything in the thread that enters it, which must have no event loop: a WSGI
    app's. ``async with`` does what would block the event loop in threads.
    """

    def __init__(self, attempt: SQLAlchemyAttempt) -> None:
        self._attempt = attempt
        self._call: Call
        self.interrupt, self.sever, self.give_up = attempt.interrupt, attempt.sever, attempt.give_up

    def __enter__(self) -> SQLAlchemyAttempt:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("this thread has an event loop; use 'async with' or execute_async()")
        do(self._enter())
        return self._attempt

    async def __aenter__(self) -> SQLAlchemyAttempt:
        self._attempt.enter_loop()
        await do_async(self._enter(), greenlet_spawn)
        return self._attempt

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        do(self._leave(error))

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await do_async(self._leave(error), greenlet_spawn)

    def _enter(self) -> Acts:
        try:
            yield from self._attempt.prepare()
        except BaseException as error:
            yield from self._undo(error)
            raise
        self._call = self._attempt.call().__enter__()

    def _leave(self, error: BaseException | None) -> Acts:
        try:
            yield from self._call.leave(error)
        except BaseException as problem:
            yield from self._undo(problem)
            raise
        if error is None:
            yield from self._attempt.commit()
        else:
            yield from self._undo(error)

    def _undo(self, error: BaseException) -> Acts:
        """Roll back; raise what counts more than the error that left the block."""
        attempt = self._attempt
        yield from attempt.rollback()
        problem = attempt.error
        if problem is None or problem is error:
            return
        if isinstance(error, Exception) or (
            # A time limit, say: that something may be stored is worse.
            attempt.has_escaped and isinstance(error, asyncio.CancelledError)
        ):
            raise problem from error
