"""
Steps: how the join says what to do, without doing it.

Each use of the batch's connection is a generator. It yields a step, is sent the step's answer, or
has the step's error thrown in, and returns what the use comes to. So one join serves all drivers:
threads and SQLAlchemy's greenlets run the steps by :func:`run`, event loops by ``run_async`` in
``awaiting.py``, and nothing else differs between them::

    checkout.perform("INSERT ...")      run()                    the link, a driver's
      yield Send(("SAVEPOINT ab_1",)) ->  link.send(...)      ->   to the database
                                      <-  None
      yield PERFORM                   ->  perform()           ->   the handler's own statement
                                      <-  its result, or its error
      return the result

Whoever runs the steps lets in one at a time on one connection: the lock is not the join's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar, cast

T = TypeVar("T")


class Send(NamedTuple):
    """Run SQL of ours that gives no rows, in as few round trips as the driver can."""

    texts: Sequence[str]


class Ask(NamedTuple):
    """Run a query of ours. The answer is the first column of its one row, or None."""

    text: str


class Perform(NamedTuple):
    """
    Now run the handler's own statement. The answer is its result.

    Where the transaction says that its link can do it (``sends_ahead``), SQL of ours goes ahead
    in the same round trip. NotReachedError: that has failed.
    """

    ahead: Sequence[str] = ()


class Commit(NamedTuple):
    """
    COMMIT, with SQL of ours ahead of it in the same round trip. NotReachedError: that has failed.

    It is for links that can do it; the transaction knows it (``ends_in_one``).
    """

    ahead: Sequence[str]


class Bound(Enum):
    """Begin or end the real transaction, in the driver's own way."""

    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"


PERFORM: Final = Perform()
NOT_SENT: Final = object()
"""What a use returns if the handler's statement was about its transaction, and is not sent."""

Step: TypeAlias = Send | Ask | Perform | Commit | Bound
Steps: TypeAlias = Generator[Step, Any, T]


class LinkState(Protocol):
    """What is known of a driver's connection without sending anything."""

    def is_in_transaction(self) -> bool:
        """Tell whether a transaction is open; asked on SQLite only."""

    def is_aborted(self) -> bool | None:
        """
        Tell whether PostgreSQL refuses all statements since one has failed.

        None: the driver does not know, so ask the server.
        """

    def is_lost(self, error: Exception) -> bool:
        """Tell whether this error means that the connection is gone."""

    def interrupt(self) -> None:
        """Stop the statement that was cancelled on our side, and may still run; never blocks."""


class Link(LinkState, Protocol):
    """A driver's connection, for those who may block."""

    def send(self, texts: Sequence[str]) -> None:
        """Run SQL without parameters or rows."""

    def ask(self, text: str) -> Any:
        """Run a query; return the first column of its one row, or None."""

    def begin(self) -> None:
        """Begin the transaction."""

    def commit(self) -> None:
        """Send COMMIT, without any proof before it."""

    def rollback(self) -> None:
        """Roll the transaction back, if one is open."""


class AheadLink(Link, Protocol):
    """A link that can send SQL of ours ahead of something else, in the same round trip."""

    def perform_after(self, texts: Sequence[str], perform: Callable[[], Any]) -> Any:
        """Run SQL without rows, and then a handler's statement; see :class:`Perform`."""

    def commit_after(self, texts: Sequence[str]) -> None:
        """Run SQL without rows, and then COMMIT; see :class:`Commit`."""


def run(steps: Steps[T], link: Link, perform: Callable[[], Any] | None = None) -> T:
    """
    Run steps to their end.

    Args:
        steps: Of one use of the connection.
        link: The connection.
        perform: Runs the handler's own statement.

    Returns:
        What the steps return; what they raise is raised.
    """
    answer: Any
    try:
        step = next(steps)
        while True:
            try:
                if step is PERFORM:
                    answer = perform()  # type: ignore[misc]  # only uses with a statement say so
                elif type(step) is Send:
                    link.send(step.texts)
                    answer = None
                elif type(step) is Ask:
                    answer = link.ask(step.text)
                elif type(step) is Perform:
                    answer = _ahead(link).perform_after(step.ahead, perform)  # type: ignore[arg-type]
                else:
                    _bound(link, step)()
                    answer = None
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        returned: T = end.value
        return returned


def _ahead(link: Link) -> AheadLink:
    """The link of a transaction that has said that it can do it."""
    return cast("AheadLink", link)


def _bound(link: Link, step: Step) -> Callable[[], None]:
    if step is Bound.BEGIN:
        return link.begin
    if type(step) is Commit:
        return partial(_ahead(link).commit_after, step.ahead)
    return link.commit if step is Bound.COMMIT else link.rollback
