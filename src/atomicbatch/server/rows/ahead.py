"""
Ahead: performs a batch's calls on PostgreSQL, sending statements before earlier ones are answered.

A call whose one statement is known beforehand goes ahead. Its reply is made when its answer comes,
in the order of the calls. Any other call is a barrier: all answers before it are taken, it is
performed by itself (``run.py``), and then the next goes ahead.

What is wrong with a call is told when all calls before it are answered: an earlier error wins.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast

from atomicbatch.errors import TransactionError
from atomicbatch.model import Call, Reply
from atomicbatch.server.database.bounds import TooMuchError
from atomicbatch.server.database.flight import Flight
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.principal import Principal
from atomicbatch.server.rows.api import Api
from atomicbatch.server.rows.failures import FAULTS
from atomicbatch.server.rows.plan import Few, First, Known, One, Plan, Reached, Steps
from atomicbatch.server.rows.run import run, run_steps

# Statements are handed to the network in groups, so that the database works while we plan.
_GROUP = 32
# How much may be on its way: more calls than most batches have, since a group that has to wait for
# answers waits for the network too. But calls behind one that fails have run in vain.
_MOST_CALLS = 1024
_MOST_BYTES = 1024 * 1024


class Taken(Protocol):
    """Calls that are taken in order, and recorded in order: ``engine.Calls``."""

    def next(self) -> Call | None:
        """The next call; None: there is none, or the batch has failed."""

    @property
    def recorded(self) -> int:
        """How many are recorded."""

    @property
    def failed(self) -> bool:
        """Whether the batch has to be undone."""

    def record(self, reply: Reply, *, more: bool = False) -> None:
        """Take the reply of the first call that is not recorded yet; ``more``: of the next too."""

    def record_error(self, error: Exception) -> None:
        """The first call that is not recorded yet has raised."""

    def take_back(self) -> None:
        """No call has run."""

    def begin_again(self) -> None:
        """What is recorded is undone, and all calls are given out once more."""


def perform_ahead(
    calls: Taken,
    session: Session,
    flight: Flight,
    api: Api,
    *,
    asker: Callable[[Call], Principal | None],
) -> None:
    """
    Perform all calls of a batch in the session's transaction.

    Args:
        calls: Gives them out.
        session: In its transaction, whose BEGIN may not have been answered.
        flight: The session's.
        api: Plans calls.
        asker: Who asks for a call.

    Raises:
        TransactionError: The transaction could not be begun.
    """
    _Ahead(calls, session, flight, api, asker).perform_all()


class _Open(NamedTuple):
    """A call that is not recorded yet."""

    call: Call
    plan: Known | Reply


class _Ahead:
    def __init__(
        self,
        calls: Taken,
        session: Session,
        flight: Flight,
        api: Api,
        asker: Callable[[Call], Principal | None],
    ) -> None:
        self._calls, self._session, self._flight, self._api = calls, session, flight, api
        self._asker = asker
        self._faults = (*FAULTS, session.driver_error)
        self._open: deque[_Open] = deque()
        self._open_bytes = self._ungrouped = 0
        # So many calls may go ahead; the others are performed one by one.
        self._most_ahead: float = math.inf

    def perform_all(self) -> None:
        is_performed = False
        while not is_performed:
            with suppress(_BegunAnewError):
                self._perform_from_first()
                is_performed = True

    def _perform_from_first(self) -> None:
        taken = 0
        while (call := self._calls.next()) is not None:
            self._session.principal = self._asker(call)
            try:
                plan = self._api.plan(call, self._session.kept)
                goes_ahead = taken < self._most_ahead and _goes_ahead(plan)
                if goes_ahead:
                    self._send(call, cast("Known", plan))
            except Exception as error:
                if self._take_all():
                    self._fail(error)
                return
            taken += 1
            if goes_ahead:
                self._push_groups()
            elif plan.__class__ is Reply:
                self._open.append(_Open(call, plan))
            elif self._take_all():
                self._perform_alone(call, plan)
        if self._open or not self._flight.has_begun:
            self._take_all()

    # Sending ---------------------------------------------------------------------------------

    def _send(self, call: Call, plan: Known) -> None:
        statement = plan.statement
        self._flight.send(statement.sql, statement.parameters)
        self._open.append(_Open(call, plan))
        self._open_bytes += len(call.body)
        self._ungrouped += 1

    def _push_groups(self) -> None:
        if self._ungrouped >= _GROUP or self._is_too_much():
            self._push()

    def _is_too_much(self) -> bool:
        return self._open_bytes > _MOST_BYTES or len(self._open) > _MOST_CALLS

    def _push(self) -> None:
        """Hand a group over, and take what is answered; wait only if too much is on its way."""
        self._ungrouped = 0
        try:
            self._flight.push()
            self._flight.look()
        except Exception as error:
            self._stop(error)
        while self._open and not self._calls.failed:
            if not (self._is_too_much() or self._is_answered()):
                return
            self._take()

    def _is_answered(self) -> bool:
        if self._open[0].plan.__class__ is Reply:
            return self._flight.has_begun
        return self._flight.is_answered()

    # Taking ----------------------------------------------------------------------------------

    def _take_all(self) -> bool:
        """Take all answers; nothing is on its way then. False: the batch has failed."""
        if self._calls.failed:
            return False
        try:
            self._flight.sync()
            self._flight.push()
            self._flight.wait_for_begin()
        except Exception as error:
            self._stop(error)
        while self._open and not self._calls.failed:
            self._take()
        return not self._calls.failed

    def _take(self) -> None:
        """Make the first open call's reply of its answer, and record it."""
        try:
            self._flight.wait_for_begin()
            reply = self._first_reply()
        except _BegunAnewError:
            raise
        except Exception as error:
            self._stop(error)
        else:
            self._record(reply)

    def _first_reply(self) -> Reply:
        call, plan = self._open.popleft()
        if plan.__class__ is Reply:
            return plan
        self._open_bytes -= len(call.body)
        self._session.principal = self._asker(call)
        room = max(0, self._api.max_bytes - self._session.reply_bytes)
        made = self._answer(cast("Known", plan), room)
        if made.__class__ is Reply:
            return made
        steps = cast("Steps[Reply]", made)
        if not self._flight.statements_due:
            return run_steps(steps, self._session, room)
        steps.close()
        self._begin_anew()
        raise _BegunAnewError

    def _answer(self, plan: Known, room: int) -> Reply | Steps[Reply]:
        statement, finish, explain = plan
        try:
            answer = _TAKE[statement.__class__](self._flight, room)
        except self._session.driver_error as error:
            if explain is not None:
                self._flight.leave()
                run_steps(explain(error), self._session, room)
            raise
        return finish(answer)

    def _begin_anew(self) -> None:
        """
        Begin the transaction anew, since the first open call asks the database again.

        What is behind it may have changed what it asks for, so that nothing is sent behind it the
        next time. The calls before it are recorded anew too: in the other transaction they may
        have other answers, as sequences go on, and other clients have committed.
        """
        self._most_ahead = self._calls.recorded
        self._open.clear()
        self._open_bytes = self._ungrouped = 0
        self._session.begin_again()
        self._flight.wait_for_begin()
        self._calls.begin_again()

    def _perform_alone(self, call: Call, plan: Plan) -> None:
        self._session.principal = self._asker(call)
        try:
            reply = run(plan, self._session, self._api.max_bytes)
        except Exception as error:
            self._fail(error)
        else:
            self._record(reply)

    def _record(self, reply: Reply) -> None:
        more = bool(self._open) and self._is_answered()
        self._calls.record(self._api.answered(reply, self._session), more=more)

    # Failing ---------------------------------------------------------------------------------

    def _stop(self, error: Exception) -> None:
        """Something went wrong: it is the first open call's fault, unless BEGIN has failed."""
        session = self._session
        is_begun = self._flight.has_begun or self._calls.recorded
        if not is_begun and isinstance(error, (session.driver_error, TransactionError)):
            self._calls.take_back()
            raise session.not_begun(error) from error
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        """The first call that is not recorded has failed; what is behind it does not count."""
        self._open.clear()
        # A connection that cannot be read to the end is closed.
        with suppress(self._session.driver_error, TooMuchError):
            self._flight.leave()
        if not isinstance(error, self._faults):
            self._calls.record_error(error)
            return
        try:
            reply = self._api.failed(error, self._session)
        except Exception as raised:
            self._calls.record_error(raised)
        else:
            self._calls.record(reply)


def _goes_ahead(plan: Plan) -> bool:
    return plan.__class__ is Known and plan.statement.__class__ in _TAKE


class _BegunAnewError(Exception):
    """The transaction was begun anew: all calls are to be performed in it."""


# How the answer to each kind of statement is taken.
_TAKE: dict[type, Callable[[Flight, int], Any]] = {
    Reached: lambda flight, _: flight.take().rowcount,
    First: lambda flight, _: flight.take().fetchone(),
    One: lambda flight, room: flight.one(room),
    Few: lambda flight, room: flight.few(room),
}
