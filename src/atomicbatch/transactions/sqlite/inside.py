"""Inside: one thread at a time works on a batch's connection to a database."""

from __future__ import annotations

import threading

from atomicbatch.errors import TransactionError
from atomicbatch.join.session import OVER
from atomicbatch.join.status import Status

_LOOK_UP_SECONDS = 0.1


class Inside:
    """
    A lock that lets one thread in at a time, for as long as the batch runs.

    The thread inside may itself wait for one outside: a Python function, or an iterator given to
    executemany(), may need what another thread reads. So nobody waits once time is up.

    Args:
        status: The attempt's.
    """

    def __init__(self, status: Status) -> None:
        self._lock = threading.RLock()
        self._status = status

    def acquire(self, *, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, as ``threading.RLock.acquire`` does, whatever the batch's time."""
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    def __enter__(self) -> None:
        """
        Take it.

        Raises:
            TransactionError: Time is up.
        """
        while not self._lock.acquire(timeout=_LOOK_UP_SECONDS):
            if self._status.is_stopped:
                self._status.check()
                raise TransactionError(OVER)

    def __exit__(self, *_: object) -> None:
        self._lock.release()
