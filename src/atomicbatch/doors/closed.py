"""Connections of async drivers that are closed at once: what they have not committed is undone."""

from __future__ import annotations

from weakref import WeakKeyDictionary, ref

from atomicbatch.doors.server_uses import Use
from atomicbatch.guard.watch import Watch, watching


class Closed:
    """
    What stands for connections that were closed by a function which cannot wait.

    The server would roll them back. In a batch that is done ahead of the next statement of
    anybody's in it, which may run on another event loop: a test has several.
    """

    def __init__(self) -> None:
        # References, since their calls keep them, and what they stand for keeps its watch.
        self._uses: WeakKeyDictionary[Watch, list[ref[Use]]] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._uses)

    def note(self, use: Use) -> None:
        """A connection is closed, and has something open."""
        watch = watching.get()
        if watch is not None:
            self._uses.setdefault(watch, []).append(ref(use))

    async def end(self) -> None:
        """Undo all of it; whoever asks meanwhile waits as well."""
        watch = watching.get()
        noted = None if watch is None else self._uses.get(watch)
        if watch is None or noted is None:
            return
        for reference in noted[:]:
            use = reference()
            try:
                if use is not None and use.in_transaction():
                    await use.end_async()
            finally:
                if reference in noted:  # somebody else may have been faster
                    noted.remove(reference)
        if not noted:
            self._uses.pop(watch, None)
