"""Batches: one batch -> its outcome, in one worker thread and one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from atomicbatch.engine import Calls, execute_by
from atomicbatch.errors import AtomicBatchError, BusyError
from atomicbatch.model import Batch, Call, Failure, Fate, Outcome
from atomicbatch.server.database.database import Abandon, Database, is_read_only
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.database.tickets import AnyTicket
from atomicbatch.server.principal import Principal
from atomicbatch.server.rows.ahead import perform_ahead
from atomicbatch.server.rows.api import Api
from atomicbatch.server.schema.tables import Schema

_T = TypeVar("_T")
Finish = Callable[[Batch, Outcome], _T]


class Batches:
    """
    Runs batches on a database.

    Args:
        database: What is served.
        make_api: Makes what performs calls on a schema.
        check_room: Called right before a batch runs; raises if no answer may be made now.
    """

    def __init__(
        self,
        database: Database,
        make_api: Callable[[Schema], Api],
        *,
        check_room: Callable[[], None],
    ) -> None:
        self._database = database
        self._make_api = make_api
        self._check_room = check_room
        self._api = make_api(database.catalog.schema)

    def start(
        self,
        batch: Batch,
        principals: Sequence[Principal | None],
        deadline: float,
        finish: Finish[_T],
        told: Callable[[_T | BaseException], object],
    ) -> Abandon:
        """
        Have a batch executed in a worker thread.

        Args:
            batch: What to run.
            principals: Who asks for each of its calls.
            deadline: ``time.monotonic()`` seconds.
            finish: Makes the answer from the outcome, in the worker thread as well.
            told: Called with the answer, see ``Database.start``, whose result is returned.
        """
        # By identity, as calls may be equal and be asked for by others.
        askers = dict(zip(map(id, batch.calls), principals, strict=True))

        def asker(call: Call) -> Principal | None:
            return askers[id(call)]

        def perform_all(calls: Calls, session: Session) -> None:
            api = self._api_of(session)
            if session.flight is not None:
                perform_ahead(calls, session, session.flight, api, asker=asker)
                return
            while (call := calls.next()) is not None:
                session.principal = askers[id(call)]
                try:
                    reply = api.perform(call, session)
                except Exception as error:
                    calls.record_error(error)
                else:
                    calls.record(reply)

        def work(session: Session) -> _T:
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise BusyError("the batch has waited too long for its turn")
            self._check_room()
            outcome = execute_by(
                perform_all, batch, session, timeout_seconds=seconds, turns=session
            )
            return finish(batch, outcome)

        def instead(ticket: AnyTicket, error: AtomicBatchError) -> _T:
            return finish(batch, _cut_short(batch, ticket, error))

        return self._database.start(
            work,
            read_only=is_read_only(batch),
            deadline=deadline,
            told=told,
            instead=instead,
        )

    def _api_of(self, session: Session) -> Api:
        """What performs calls on the schema that the session's transaction sees."""
        api = self._api
        if api.schema is not session.schema:
            api = self._api = self._make_api(session.schema)
        return api


def _cut_short(batch: Batch, ticket: AnyTicket, error: AtomicBatchError) -> Outcome:
    """The outcome if the thread hangs before COMMIT and is given up: what is known of it."""
    replies = tuple(ticket.replies or ())
    failures: tuple[Failure, ...] = ()
    if len(replies) < len(batch.calls):
        error.call_index = len(replies)
        failures = (Failure(len(replies), error),)
    took_part = (True,) * len(replies)
    return Outcome(Fate.ROLLED_BACK, replies, failures, error, took_part=took_part)
