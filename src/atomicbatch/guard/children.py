"""
Children: processes that a call has started, and what they and their batch tell each other.

A child copies its parent's memory, or has none of it, but it has no part in the batch. What it
writes is refused there, where nobody may see that. So both share a page of memory: the child
writes down what it was refused, and the batch fails; the batch writes down how it has ended, and
what outlives it goes on as a thread would. The page has no name anywhere, and goes with the last
process that has it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final

_FATE: Final = 0
_OUTSIDE: Final = 1
_LENGTH: Final = 2  # two bytes
_TEXT: Final = 4
_MOST_BYTES: Final = 2048
# How long a child waits for the end of a COMMIT that is under way, and how often it looks.
_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.005
_kept: list[Children] = []


class Fate(IntEnum):
    """How far the batch is, as its children are told."""

    RUNNING = 0
    CLOSING = 1
    """It has listened to its children for the last time, and is being committed."""
    COMMITTED = 2
    UNDONE = 3


class Children:
    """
    What a batch and its children tell each other.

    In a process that is not forked but started anew, it arrives by pickle, as an argument of a
    ``multiprocessing.Process``.

    Args:
        file: A descriptor of the page's memory, which is closed with it; None: there is none yet.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(self, file: int | None = None) -> None:
        self._file = _memory() if file is None else file
        try:
            self._page = mmap.mmap(self._file, _TEXT + _MOST_BYTES)
        except BaseException:
            os.close(self._file)
            raise
        self._ended: Fate | None = None
        self._last = "", False

    def __reduce__(self) -> tuple[Callable[[Any], Children], tuple[Any]]:
        # Imported where a process is being started: multiprocessing is there already.
        from multiprocessing.reduction import DupFd

        return _arrived, (DupFd(self._file),)

    # In the batch's process --------------------------------------------------------------------

    @property
    def told(self) -> str:
        """What a child was refused; empty: nothing."""
        return self._last[0] if self._ended is not None else self._read()

    @property
    def wrote_outside(self) -> bool:
        """A child has written what is allowed by name."""
        return self._last[1] if self._ended is not None else self._page[_OUTSIDE] != 0

    def close(self) -> str:
        """From now on nobody listens; tell what a child was refused until now."""
        if self._ended is not None:
            return self._last[0]
        # First this, then listening: see report(). Between the two lie thousands of instructions,
        # so that no processor can take them in another order.
        self._page[_FATE] = Fate.CLOSING
        return self._read()

    def end(self, fate: Fate) -> None:
        """The batch is over: tell children that outlive it, and let go of the page."""
        if self._ended is None:
            self._page[_FATE] = fate
            self._last = self._read(), self.wrote_outside
            self._ended = fate
            self._page.close()
            os.close(self._file)

    @property
    def is_over(self) -> bool:
        """Tell whether the batch was over; in a child, when that was started."""
        return self._ended is not None

    # In a child --------------------------------------------------------------------------------

    def report(self, what: str) -> Fate:
        """
        Tell what is about to be refused, if the batch still listens.

        Returns:
            RUNNING: the batch hears it and fails. COMMITTED: it has not heard it; what outlives it
            may write. UNDONE: it was rolled back, or nobody knows.
        """
        if self._ended is not None:
            return self._ended  # it was over when the child was forked
        text = what.encode()[:_MOST_BYTES]
        self._page[_TEXT : _TEXT + len(text)] = text
        self._page[_LENGTH:_TEXT] = len(text).to_bytes(_TEXT - _LENGTH)
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while (fate := Fate(self._page[_FATE])) is Fate.CLOSING:
            if time.monotonic() > give_up:
                return Fate.UNDONE
            time.sleep(_LOOK_SECONDS)
        return fate

    def keep(self) -> None:
        """
        Never let go of it in this process, which was forked.

        A daemon closes all descriptors, and then has others by the same numbers.
        """
        _kept.append(self)

    def note_outside(self) -> None:
        """What is allowed by name is written."""
        if self._ended is None:
            self._page[_OUTSIDE] = 1

    def _read(self) -> str:
        length = int.from_bytes(self._page[_LENGTH:_TEXT])
        return self._page[_TEXT : _TEXT + length].decode("utf-8", "replace")

    def __del__(self) -> None:
        # A batch always ends it; a child that was started anew may not live as long.
        with suppress(AttributeError, OSError, ValueError):
            if self._ended is None:
                self._page.close()
                os.close(self._file)


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("atomicbatch")
    else:
        with tempfile.TemporaryFile(buffering=0) as named:
            file = os.dup(named.fileno())
    os.ftruncate(file, _TEXT + _MOST_BYTES)
    return file


def _arrived(file: Any) -> Children:
    return Children(file.detach())
