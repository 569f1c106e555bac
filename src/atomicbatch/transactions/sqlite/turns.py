"""Turns: one batch at a time for each database; others stand in line, and do not poll its lock."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

_LOOK_UP_SECONDS = 0.25


class Turn:
    """A lock that is handed on in the order in which it was asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Event] = deque()

    def take_now(self) -> bool:
        """Take it if it is free; tell whether it was."""
        with self._lock:
            taken, self._is_taken = self._is_taken, True
            return not taken

    def take(self, deadline: float, is_stopped: Callable[[], bool]) -> bool:
        """
        Wait for it until ``deadline`` (time.monotonic()); tell whether it is taken.

        Args:
            deadline: When to stop waiting.
            is_stopped: Asked now and then: nobody waits for it any more.
        """
        called = threading.Event()
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return True
            self._waiting.append(called)
        while True:
            seconds = max(0.0, deadline - time.monotonic())
            if called.wait(min(seconds, _LOOK_UP_SECONDS)):
                return True
            if seconds <= _LOOK_UP_SECONDS or is_stopped():
                break
        with self._lock:
            if called.is_set():
                return True  # in the last moment
            self._waiting.remove(called)
        return False

    def is_in_use(self) -> bool:
        """Tell whether somebody has it, or waits for it."""
        return self._is_taken

    def give(self) -> None:
        """Hand it on to whoever has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_taken = False
