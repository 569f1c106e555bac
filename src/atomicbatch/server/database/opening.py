"""Opening: what the user named -> a database that can be served, or one line that says why not."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from atomicbatch.limits import ServerLimits
from atomicbatch.server.database.backend import Backend, Raw
from atomicbatch.server.database.backends import backend_for
from atomicbatch.server.database.database import Database
from atomicbatch.server.database.tickets import untimed

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_MAGIC = b"SQLite format 3\0"


class ServeError(Exception):
    """The server cannot be started like this; the message tells the user why."""


def database_url(database: str) -> sa.URL:
    """
    What the user named -> an SQLAlchemy URL with our driver.

    Raises:
        ServeError: It is neither the URL of a database that can be served nor a readable file.
    """
    if "://" not in database:
        # Taken literally: a file name may hold ? and %.
        return _sqlite_url(sa.URL.create("sqlite", database=database))
    try:
        url = sa.make_url(database)
    except (exc.ArgumentError, ValueError):
        raise ServeError("the database is neither a file name nor a database URL") from None
    name = url.get_backend_name()
    if name == "sqlite":
        return _sqlite_url(url)
    if name not in _DRIVERS:
        raise ServeError(f"{name} databases are not served: use SQLite, PostgreSQL or MariaDB")
    if name in ("mysql", "mariadb") and not url.database:
        shown = url.render_as_string(hide_password=True).rstrip("/")
        raise ServeError(f"the URL names no database: write {shown}/NAME")
    return url.set(drivername=_DRIVERS[name])


def _sqlite_url(url: sa.URL) -> sa.URL:
    name = url.database
    if not name or name == ":memory:":
        raise ServeError("an in-memory database would be lost with the server: name a file")
    if url.query:
        options = ", ".join(sorted(url.query))
        raise ServeError(f"the URL of an SQLite file takes no options, but this one has {options}")
    _check_file(name)
    return url.set(drivername="sqlite")


def _check_file(name: str) -> None:
    """Check that a file can be an SQLite database, before SQLite touches it."""
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISDIR(mode):
            raise ServeError(f"{name} is a directory: name the database file in it")
        if not stat.S_ISREG(mode):
            raise ServeError(f"{name} is not a regular file")
        with open(name, "rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise ServeError(f"there is no file {name}; 'atomicbatch sample FILE' makes one") from None
    except OSError as error:
        raise ServeError(f"cannot read {name}: {error.strerror}") from None
    except ValueError:
        raise ServeError(f"{name!r} is not a file name") from None
    if start and start != _MAGIC:
        raise ServeError(f"{name} is not an SQLite database, or it is encrypted")


def open_database(
    url: sa.URL,
    *,
    read_only: bool,
    limits: ServerLimits | None = None,
    note: Callable[[str], None] | None = None,
) -> Database:
    """
    Open a database, read its tables, and check whether it can be written.

    Args:
        url: As ``database_url`` gives it.
        read_only: Only reading calls will be served.
        limits: How many threads work on it; None: the default.
        note: Called with what the user should know although the database can be served.

    Raises:
        ServeError: It cannot be reached or read, or not written although it is to be.
    """
    if url.get_backend_name() == "sqlite":
        _check_file(str(url.database))  # a worker opens it some time after its parent
    try:
        database = Database(url, read_only=read_only, limits=limits)
        if not read_only:
            _try_to_write(url, note)
    except Exception as error:
        # Drivers raise all kinds of exceptions for unknown options, silent hosts and files that are
        # not databases. The user gets one line for each.
        raise ServeError(_why(url, error, read_only=read_only)) from error
    told = note or (lambda _: None)
    if database.catalog.hides_batch:
        told("the table 'batch' is not served: its path is that of the batch endpoint")
    if not database.catalog.schema.tables:
        told(f"{_shown(url)} has no tables{_where(url)} yet; they are served once there are some")
    return database


def _where(url: sa.URL) -> str:
    return "" if url.get_backend_name() == "sqlite" else " that its user can see"


def _try_to_write(url: sa.URL, note: Callable[[str], None] | None) -> None:
    """Begin a transaction that writes, and undo it: better to fail now than at each request."""
    backend = backend_for(url, read_only=False)
    raw = backend.connect(reader=False)
    try:
        try:
            backend.begin(raw, untimed(read_only=False))
            refused = _refuses_writes(url, backend, raw)
        except backend.driver_error as error:
            if url.get_backend_name() == "sqlite":
                raise
            refused = _first_line(error)
        if refused is not None and note is not None:
            # It may be a standby that is promoted while it is served.
            note(f"the database server takes no writes now ({refused}); see --read-only")
        with suppress(backend.driver_error):
            backend.rollback(raw)
    finally:
        backend.close(raw)


def _refuses_writes(url: sa.URL, backend: Backend, raw: Raw) -> str | None:
    """Why the transaction that has begun cannot write; None: it can. SQLite raises instead."""
    if url.get_backend_name() == "sqlite":
        # On a file that cannot be written, BEGIN IMMEDIATE only reads, without an error.
        version = raw.execute("PRAGMA user_version").fetchone()[0]
        raw.execute(f"PRAGMA user_version = {version}")
    elif url.get_backend_name() in ("mysql", "mariadb"):
        cursor = backend.executor(raw)("SELECT @@global.read_only", ())
        if cursor.fetchone()[0] not in (0, "OFF"):
            return "it is set to read_only"
    return None


def _why(url: sa.URL, error: Exception, *, read_only: bool) -> str:
    """What is wrong, in one line."""
    cause = _cause(error)
    if url.get_backend_name() == "sqlite":
        told = _why_sqlite(Path(str(url.database)), cause, read_only=read_only)
        if told is not None:
            return told
    if isinstance(cause, TypeError) and "keyword argument" in str(cause):
        option = str(cause).rpartition("argument ")[2]
        return f"cannot open {_shown(url)}: the URL's option {option} is not known"
    return f"cannot open {_shown(url)}: {_first_line(cause)}"


def _why_sqlite(path: Path, cause: BaseException, *, read_only: bool) -> str | None:
    code = str(getattr(cause, "sqlite_errorname", None) or "")
    if code.startswith("SQLITE_NOTADB"):
        return f"{path} is not an SQLite database, or it is encrypted"
    if code.startswith("SQLITE_CORRUPT"):
        return f"{path} is damaged ({cause}): restore it from a backup"
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"{path} is locked by another program, which has not let go of it for 5 seconds"
    unwritable = next((it for it in (path, path.parent) if not os.access(it, os.W_OK)), None)
    if unwritable is None and not code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return None
    what = f"{unwritable or path} cannot be written"
    if not read_only:
        return (
            f"{what} by this user, and SQLite needs to write to the file and its folder: "
            "change that, or serve it with --read-only"
        )
    return (
        f"{what}, and the database is in WAL mode, which needs files beside it to be read: serve "
        f"a copy in another folder, or change it once with: sqlite3 {path} "
        "'PRAGMA journal_mode=DELETE'"
    )


def _cause(error: BaseException) -> BaseException:
    """The driver's exception inside ours or SQLAlchemy's."""
    while True:
        inner = getattr(error, "orig", None) or (
            error.__cause__ if not isinstance(error, sqlite3.Error) else None
        )
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _first_line(error: BaseException) -> str:
    # PyMySQL's exceptions hold a number and a text.
    text = str(error.args[1] if len(error.args) == 2 else error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _shown(url: sa.URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)
