"""The shell around the join's steps for event loops; ``steps.run`` is its twin for threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from atomicbatch.join.steps import (
    PERFORM,
    Ask,
    Bound,
    Commit,
    LinkState,
    Perform,
    Send,
    Step,
    Steps,
)

T = TypeVar("T")


class AsyncLink(LinkState, Protocol):
    """A driver's connection, for those who await."""

    async def send(self, texts: Sequence[str]) -> None:
        """Run SQL without parameters or rows."""

    async def ask(self, text: str) -> Any:
        """Run a query; return the first column of its one row, or None."""

    async def begin(self) -> None:
        """Begin the transaction."""

    async def commit(self) -> None:
        """Send COMMIT, without any proof before it."""

    async def rollback(self) -> None:
        """Roll the transaction back, if one is open."""


class AsyncAheadLink(AsyncLink, Protocol):
    """The twin of ``steps.AheadLink``."""

    async def perform_after(
        self, texts: Sequence[str], perform: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Run SQL without rows, and then a handler's statement."""

    async def commit_after(self, texts: Sequence[str]) -> None:
        """Run SQL without rows, and then COMMIT."""


async def run_async(
    steps: Steps[T], link: AsyncLink, perform: Callable[[], Awaitable[Any]] | None = None
) -> T:
    """Run steps to their end, as :func:`atomicbatch.join.steps.run` does."""
    answer: Any
    try:
        step = next(steps)
        while True:
            try:
                if step is PERFORM:
                    answer = await perform()  # type: ignore[misc]
                elif type(step) is Send:
                    await link.send(step.texts)
                    answer = None
                elif type(step) is Ask:
                    answer = await link.ask(step.text)
                elif type(step) is Perform:
                    ahead = _ahead(link)
                    answer = await ahead.perform_after(step.ahead, perform)  # type: ignore[arg-type]
                else:
                    await _bound(link, step)()
                    answer = None
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        returned: T = end.value
        return returned


def _ahead(link: AsyncLink) -> AsyncAheadLink:
    """The link of a transaction that has said that it can do it."""
    return cast("AsyncAheadLink", link)


def _bound(link: AsyncLink, step: Step) -> Callable[[], Awaitable[None]]:
    if step is Bound.BEGIN:
        return link.begin
    if type(step) is Commit:
        return partial(_ahead(link).commit_after, step.ahead)
    return link.commit if step is Bound.COMMIT else link.rollback
