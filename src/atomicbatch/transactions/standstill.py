"""Standstill: whether an event loop has run anything since the time limit, and what keeps it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from atomicbatch.guard.callers import function_of


class Standstill:
    """
    Asks an event loop for a sign of life, and tells what keeps it if none comes.

    Its methods may be called in any thread, and never block.

    Args:
        loop: The batch's.
        thread: The loop's, as threading.get_ident() tells.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self._loop = loop
        self._thread = thread
        self._lives: bool | None = None  # None: it was not asked

    def ask(self) -> None:
        """Ask the loop; again does nothing."""
        if self._lives is None:
            with suppress(RuntimeError):  # the loop has been closed
                self._lives = False
                self._loop.call_soon_threadsafe(self._take_sign_of_life)

    def _take_sign_of_life(self) -> None:
        self._lives = True

    def told(self) -> str:
        """Say what the loop has been doing since it was asked; empty if it has answered."""
        if self._lives is not False:
            return ""
        function = function_of(sys._current_frames().get(self._thread)) or "a library"
        return f"the time limit passed while the event loop stood still, in {function}"
