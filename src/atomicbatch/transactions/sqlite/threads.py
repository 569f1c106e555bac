"""Threads for what would block the event loop; they are made when needed and reused."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor


class Threads:
    """
    Those of this process.

    Attributes:
        ending: COMMIT and ROLLBACK run here, not in the threads of handlers: those may all be
            waiting for locks that this very batch holds.
        beginning: BEGIN ahead of the first call. It waits for its turn until others have
            committed, who must not wait behind it.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """In a process that was forked there are none."""
        self.ending = ThreadPoolExecutor(256, thread_name_prefix="atomicbatch-sqlite")
        self.beginning = ThreadPoolExecutor(64, thread_name_prefix="atomicbatch-sqlite-begin")


threads = Threads()
