"""Readiness: whether the database answers, told in time whatever it does."""

from __future__ import annotations

import asyncio
import logging

from atomicbatch.errors import AtomicBatchError
from atomicbatch.exchange import Upload
from atomicbatch.model import Reply
from atomicbatch.problems import RETRY_AFTER, TITLES, error_reply, problem_reply
from atomicbatch.server.database.database import Database
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.http.answering import Answering, Tell
from atomicbatch.server.pages.fixed import READY

_log = logging.getLogger("atomicbatch.server")
_SECONDS = 1.0
_NOT_READY = problem_reply(
    503, "database-busy", TITLES["database-busy"], f"no answer within {_SECONDS:g} second"
)
_NOT_READY = _NOT_READY._replace(headers=(*_NOT_READY.headers, RETRY_AFTER))


class Readiness:
    """
    What ``/readyz`` answers.

    Args:
        database: Is asked.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking: asyncio.Task[bool] | None = None

    def asked(self) -> Answering:
        """The answer to one request: 200, or 503 after a second without one of the database."""
        return _Waiting(self)

    async def answer(self) -> Reply:
        """Wait for the database, for a second at most."""
        # One question at a time: whoever asks often must not fill the threads of a database that
        # hangs.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        await asyncio.wait((self._asking,), timeout=_SECONDS)
        return READY if self._asking.done() and self._asking.result() else _NOT_READY

    async def _ask(self) -> bool:
        try:
            await self._database.run(_query, read_only=True, seconds=_SECONDS)
        except Exception as error:
            _log.warning("/readyz: the database does not answer: %s", error)
            return False
        return True


class _Waiting(Answering):
    """A request that waits for the answer to a question."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._task: asyncio.Task[None] | None = None

    def start(self, upload: Upload, tell: Tell) -> None:
        upload.take_all()
        self._task = asyncio.create_task(self._wait(tell))

    def abandon(self) -> None:
        """Let it be: it is over within a second."""

    async def _wait(self, tell: Tell) -> None:
        tell(await self._readiness.answer())

    def refusal(self, error: AtomicBatchError) -> Reply:
        return error_reply(error)


def _query(session: Session) -> None:
    with session:
        session.execute("SELECT 1", ()).fetchone()
