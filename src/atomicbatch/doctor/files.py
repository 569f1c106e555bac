"""Files: audit events -> changes to files, which a rollback would not undo."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from atomicbatch.guard.places import of_file

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
# Python's own cache of compiled modules.
_CACHE = "__pycache__"

# Kept for all calls: a temporary file that one call leaves to the garbage collector may be removed
# during another call.
_temporary: set[str] = set()


class Change(NamedTuple):
    """One change that is about to be made."""

    verb: str
    paths: tuple[str, ...]
    adds: bool = False
    """Nothing is lost: lines are appended."""

    def __str__(self) -> str:
        return f"{self.verb} {' to '.join(self.paths)}"

    def is_among(self, allowed: Collection[str]) -> bool:
        """Whether each path is one of these files, or in one of these folders."""
        folders = {os.path.abspath(name) for name in allowed}
        return all(_is_below(path, folders) for path in self.paths)


def prepare() -> None:
    """Make Python choose its folder for temporary files now, since it tries to write there."""
    tempfile.gettempdir()


def change(event: str, arguments: tuple[Any, ...]) -> Change | None:
    """
    Tell what is about to be changed; None: nothing, or nothing that matters.

    Temporary files (those of Python's ``tempfile``) and compiled modules do not matter.

    Args:
        event: One of ``EVENTS``.
        arguments: The event's, as the audit hook got them.
    """
    found = EVENTS[event](*arguments)
    if found is None or all(_does_not_matter(path) for path in found.paths):
        return None
    return found


def name_of(what: object) -> str:
    """For people: a path, or the program at the start of a list of arguments."""
    if isinstance(what, (list, tuple)):
        what = what[0] if what else ""
    try:
        return os.fsdecode(what)  # type: ignore[arg-type]
    except TypeError:
        return str(what)


def _does_not_matter(path: str) -> bool:
    if _CACHE in path or (sys.pycache_prefix and _is_below(path, {sys.pycache_prefix})):
        return True
    return _is_below(path, _temporary)


def _is_below(path: str, folders: Collection[str]) -> bool:
    path = os.path.abspath(path)
    while path not in folders:
        path, before = os.path.dirname(path), path
        if path == before:
            return False
    return True


def _path(path: object, folder: object = -1) -> str | None:
    """
    Return a path as text.

    Args:
        path: What the handler has given, or the number of an open file.
        folder: The number of the open folder that the path starts from; -1 or None: the current
            one.

    Returns:
        None if it is not known, as for numbers on systems other than Linux. That loses nothing: the
        file or folder was seen when it was opened.
    """
    if isinstance(path, int):
        return _opened(path)
    name = name_of(path)
    if not isinstance(folder, int) or folder < 0 or os.path.isabs(name):
        return name
    opened = _opened(folder)
    return None if opened is None else os.path.join(opened, name)


def _opened(number: int) -> str | None:
    try:
        name = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return None
    # What has no name is a temporary file, a socket or a pipe.
    return name if os.path.lexists(name) else None


def _opening(path: object, mode: object, flags: object) -> Change | None:
    if isinstance(path, int):
        return None  # it was opened before
    if isinstance(flags, int):
        writes, adds = bool(flags & _WRITING), bool(flags & os.O_APPEND)
        adds = adds and not flags & os.O_TRUNC
    else:
        writes, adds = bool(set(str(mode)) & set("wax+")), "a" in str(mode)
    name = name_of(path)
    if not writes or not _keeps(name):
        return None
    return Change("appends to" if adds else "writes", (name,), adds)


def _keeps(name: str) -> bool:
    """
    Whether what is written there is kept. The file may not exist yet.

    A terminal and os.devnull keep nothing. Whoever opens a folder for writing wants a temporary
    file without a name (O_TMPFILE), or opens another file (``opener=``), which is seen then.
    """
    try:
        kind = os.stat(name).st_mode
    except (OSError, ValueError):
        return True
    return not (stat.S_ISDIR(kind) or stat.S_ISCHR(kind))


def _making_folder(path: object, _: object, folder: object) -> Change | None:
    name = _path(path, folder)
    # mkdir(exist_ok=True) tries to make a folder that exists.
    return None if name is None or os.path.isdir(name) else Change("makes the folder", (name,))


def _renaming(old: object, new: object, old_folder: object, new_folder: object) -> Change | None:
    paths = _path(old, old_folder), _path(new, new_folder)
    known = tuple(path for path in paths if path is not None)
    return Change("renames", known) if known else None


def _linking(_: object, path: object, *folders: object) -> Change | None:
    name = _path(path, folders[-1])
    return None if name is None else Change("makes the link", (name,))


def _with(verb: str, folder: int | None = None) -> Callable[..., Change | None]:
    """For events whose first argument is the path; ``folder``: which one is its folder's number."""

    def changing(*arguments: object) -> Change | None:
        path = _path(arguments[0], -1 if folder is None else arguments[folder])
        return None if path is None else Change(verb, (path,))

    return changing


def _making_database(database: object) -> Change | None:
    """SQLite makes a file that is not there, unless it is told otherwise."""
    name = name_of(database)
    path = of_file(database).database
    if not path or os.path.lexists(path) or "mode=ro" in name:
        return None
    return Change("makes the database", (path if name.startswith("file:") else name,))


def _temporary_made(path: object) -> None:
    _temporary.add(os.path.abspath(name_of(path)))


EVENTS: dict[str, Callable[..., Change | None]] = {
    "open": _opening,
    "os.chmod": _with("changes the mode of", 2),
    "os.chown": _with("changes the owner of", 3),
    "os.link": _linking,
    "os.mkdir": _making_folder,
    "os.remove": _with("deletes", 1),
    "os.rename": _renaming,
    "os.rmdir": _with("deletes", 1),
    "os.removexattr": _with("changes the attributes of"),
    "os.setxattr": _with("changes the attributes of"),
    "os.symlink": _linking,
    "os.truncate": _with("truncates"),
    "os.utime": _with("changes the times of", 3),
    "shutil.rmtree": _with("deletes", 1),
    "sqlite3.connect": _making_database,
    "tempfile.mkdtemp": _temporary_made,
    "tempfile.mkstemp": _temporary_made,
}
