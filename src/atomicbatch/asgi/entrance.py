"""
Entrance: who may be in the app together with a batch that has to be alone.

Requests and ordinary batches share the app. A batch that the event loop had to wait for runs again
alone: the entrance is shut, the requests inside leave, and the batch goes in.

The entrance makes progress likely. Atomicity does not depend on it: nobody is held for longer than
a few seconds, and a request that goes in all the same can only make the batch begin again. It is
phase-fair: when it opens, all who were held go in before it is shut for the next batch.

::

    open ---- alone() ----> no batch comes in ---- those inside have left ----> shut, held: requests
      ^                                                                              |
      |                                                            the requests inside have left,
      +---- all held go in ---- the batch has left <---- alone <---- or a second has passed

Only the tasks of one event loop use it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import ref


class Stay:
    """A batch's stay inside, which ends once: when it leaves, or when it is left behind."""

    __slots__ = ("_end",)

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            end()


class Entrance:
    """
    The entrance of one app on one event loop.

    Args:
        loop: The event loop.
        hold_seconds: Longest that a request waits outside; then it goes in, whatever happens.
        grace_seconds: Longest that a batch waits for requests to leave. Those that are still inside
            then, streams for instance, are not counted any more.

    Attributes:
        loop: Gives the event loop, while there is one.
        is_shut: A request has to wait: :meth:`enter_later`.
        requests: How many are inside, without those that nobody waits for.
        batches: How many are inside, the one that is alone included.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        hold_seconds: float = 5.0,
        grace_seconds: float = 1.0,
    ) -> None:
        self.loop = ref(loop)
        self.hold_seconds = hold_seconds
        self.grace_seconds = grace_seconds
        self.is_shut = False
        self.requests = 0
        self.batches = 0
        # When a batch stops waiting, a new generation begins. Requests of an earlier one, which are
        # still inside, are not counted.
        self._generation = 0
        # A batch is alone, or about to be.
        self._is_taken = False
        self._lined_up: deque[asyncio.Future[None]] = deque()
        self._held_requests: dict[asyncio.Future[int], None] = {}
        self._held_batches: dict[asyncio.Future[None], None] = {}
        # Set when somebody leaves, for the batch that waits for that.
        self._somebody_left: asyncio.Event | None = None

    # Requests ----------------------------------------------------------------------------------

    def enter(self) -> int:
        """Let a request in; return what :meth:`leave` is to be given."""
        self.requests += 1
        return self._generation

    def leave(self, entered: int) -> None:
        """A request has left."""
        if entered == self._generation:
            self.requests -= 1
            if self._somebody_left is not None:
                self._somebody_left.set()

    async def enter_later(self) -> int:
        """Hold a request until the entrance opens, or for ``hold_seconds``; then let it in."""
        held: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._held_requests[held] = None
        try:
            await asyncio.wait((held,), timeout=self.hold_seconds)
        except BaseException:
            if held.done():
                self.leave(held.result())
            raise
        finally:
            self._held_requests.pop(held, None)
        return held.result() if held.done() else self.enter()

    # Batches -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[Stay]:
        """Be inside together with others; wait outside while a batch is alone."""
        if self._is_taken:
            held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._held_batches[held] = None
            try:
                await held
            except BaseException:
                if held.done() and not held.cancelled():
                    self._batch_left()
                raise
            finally:
                self._held_batches.pop(held, None)
        else:
            self.batches += 1
        stay = Stay(self._batch_left)
        try:
            yield stay
        finally:
            stay.end()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Stay]:
        """
        Be inside while nobody else is, as far as that can be had.

        How long it waits for other batches is bounded by their time limits, and by its own.
        """
        await self._take()
        stay = Stay(self._open)
        try:
            while self.batches:
                await self._until_somebody_leaves(None)
            self.is_shut = True
            until = time.monotonic() + self.grace_seconds
            while self.requests and (left := until - time.monotonic()) > 0:
                await self._until_somebody_leaves(left)
            if self.requests:
                self.requests = 0
                self._generation += 1
            self.batches += 1
            stay = Stay(self._left_alone)
            yield stay
        finally:
            stay.end()

    def _left_alone(self) -> None:
        self.batches -= 1
        self._open()

    def _batch_left(self) -> None:
        self.batches -= 1
        if self._somebody_left is not None:
            self._somebody_left.set()

    async def _take(self) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lined_up.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._open()
            elif turn in self._lined_up:
                self._lined_up.remove(turn)
            raise

    def _open(self) -> None:
        self.is_shut = False
        # Counted now, so that the next batch that is to be alone waits for them.
        for request in self._held_requests:
            if not request.done():
                request.set_result(self.enter())
        for batch in self._held_batches:
            if not batch.done():
                self.batches += 1
                batch.set_result(None)
        while self._lined_up:
            turn = self._lined_up.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False

    async def _until_somebody_leaves(self, seconds: float | None) -> None:
        self._somebody_left = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await self._somebody_left.wait()
        except TimeoutError:
            pass
        finally:
            self._somebody_left = None
