"""Joining: the block of one attempt at a batch, entered and left by sync or by async code."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AbstractContextManager

from atomicbatch.transactions.sqlalchemy.joined import Call, Joined
from atomicbatch.transactions.sqlalchemy.places import Acts, do, do_async


class Joining(AbstractContextManager[Joined], AbstractAsyncContextManager[Joined]):
    """
    The block of one attempt, and what stops it when time is up.

    ``with`` does everything in the thread that enters it, which must have no event loop: a WSGI
    app's. ``async with`` does what would block the event loop in threads.
    """

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._call: Call
        self.interrupt, self.sever, self.give_up = joined.interrupt, joined.sever, joined.give_up

    def __enter__(self) -> Joined:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("this thread has an event loop; use 'async with' or execute_async()")
        do(self._enter())
        return self._joined

    async def __aenter__(self) -> Joined:
        self._joined.enter_loop()
        await do_async(self._enter())
        return self._joined

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        do(self._leave(error))

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await do_async(self._leave(error))

    def _enter(self) -> Acts:
        try:
            yield from self._joined.prepare()
        except BaseException as error:
            yield from self._undo(error)
            raise
        self._call = self._joined.call().__enter__()

    def _leave(self, error: BaseException | None) -> Acts:
        try:
            yield from self._call.leave(error)
        except BaseException as problem:
            yield from self._undo(problem)
            raise
        if error is None:
            yield from self._joined.commit()
        else:
            yield from self._undo(error)

    def _undo(self, error: BaseException) -> Acts:
        """Roll back; raise what counts more than the error that left the block."""
        joined = self._joined
        yield from joined.rollback()
        problem = joined.error
        if problem is None or problem is error:
            return
        if isinstance(error, Exception) or (
            # A time limit, say: that something may be stored is worse.
            joined.has_escaped and isinstance(error, asyncio.CancelledError)
        ):
            raise problem from error
