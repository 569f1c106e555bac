"""SQLite files: which file a connection has open, and what to do when another takes its name."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

Identity = tuple[int, int] | None
"""Device and inode of a file; None where there is no file."""
# SQLite finds both by the database's name, and would take them for the new file's.
_COMPANIONS = ("-wal", "-shm")


class FileConnection(sqlite3.Connection):
    """
    A connection that knows which file it has open.

    Attributes:
        path: The database's name.
        identities: Of the database, its write-ahead log and the log's index, when it was opened.
    """

    path: str
    identities: tuple[Identity, ...] = ()

    def moved(self) -> bool:
        """Whether the name now belongs to another file, or to none."""
        return identity(self.path) != self.identities[0]


def identity(path: str) -> Identity:
    """Which file ``path`` is."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_file(path: str, *, busy_seconds: float) -> FileConnection:
    """
    Open an SQLite file that exists.

    Args:
        path: Its name.
        busy_seconds: How long each statement waits for a lock.

    Raises:
        sqlite3.OperationalError: There is no such file, or it cannot be opened.
    """
    before = identity(path)
    raw = sqlite3.connect(
        # Without mode=rw a file that was deleted would be made anew, empty.
        f"{Path(path).absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,  # sqlite3 emits no BEGIN of its own
        check_same_thread=False,  # interrupt() comes from another thread
        cached_statements=512,
        factory=FileConnection,
    )
    raw.path = path
    if before is None or identity(path) != before:
        raw.close()
        raise sqlite3.OperationalError("the file was replaced while it was being opened")
    return raw


def note_identities(raw: FileConnection) -> None:
    """Note which files ``raw`` has open. It must have read from them before."""
    raw.identities = (
        identity(raw.path),
        *(identity(raw.path + suffix) for suffix in _COMPANIONS),
    )


def leave_file(raw: FileConnection) -> None:
    """
    Close a connection whose file has lost its name, and take its log away with it.

    The log belongs to the old file. Left behind, its pages would be read as the new file's.

    Raises:
        sqlite3.OperationalError: Somebody still reads the old file; try again.
    """
    busy = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise sqlite3.OperationalError("the file was replaced, and the old one is still being read")
    with _alone_in(os.path.dirname(os.path.abspath(raw.path))):
        for suffix, own in zip(_COMPANIONS, raw.identities[1:], strict=True):
            # Ours is still open, so no other file can have its inode.
            if own is not None and identity(raw.path + suffix) == own:
                os.unlink(raw.path + suffix)
    raw.close()


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Hold a lock on ``folder`` that all of our processes take."""
    if sys.platform == "win32":  # where nobody can replace a file that is open
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
