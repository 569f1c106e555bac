"""
Watching: what a call does outside of the transaction.

Python tells audit hooks (PEP 578) about connections, programs and files. A hook sees the whole
process and stays for ever. So it first looks at a context variable, which follows the call, and
nothing else, into tasks and threads. What a rollback would not undo is refused, not only noted:
an examination must leave nothing behind.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, NoReturn

from atomicbatch.doctor import files
from atomicbatch.doctor.files import name_of
from atomicbatch.doors import sqlite_connect
from atomicbatch.doors.sqlite import Connection
from atomicbatch.guard import places
from atomicbatch.guard.watch import watching as guarding
from atomicbatch.join.diagnosis import Diagnosis, Used

# Long enough for tasks that clean up; tasks that ignore the cancellation are left.
_MOST_SECONDS_TO_CANCEL = 5


class Watch:
    """
    What one call does besides its work in the transaction.

    Args:
        may: Addresses (``host:port``, or the path of a socket) that it may talk to, and files and
            folders that it may change.

    Attributes:
        joined: What its transaction gave.
        files: Changes to files that it wanted to make.
        appended: Files that it appended to.
        programs: Programs and processes that it wanted to start.
        addresses: Addresses that it wanted to talk to.
        allowed: What it did of all this because it may.
        databases: SQLite's databases that it wanted to use by connections without a door.
        outside: What it wanted to write that the app's batches leave alone by name.
        reads: What it has read by connections that take no part in the transaction.
        tasks: Tasks that it has left running.
        threads: Threads that it has left running.
    """

    def __init__(self, may: Collection[str] = ()) -> None:
        self.may = frozenset(may)
        self.joined: object = None
        self.files: dict[str, None] = {}  # a set that keeps the order, like the others
        self.appended: dict[str, None] = {}
        self.programs: dict[str, None] = {}
        self.addresses: dict[str, None] = {}
        self.allowed: dict[str, None] = {}
        self.databases: dict[str, None] = {}
        self.outside: dict[str, None] = {}
        self.reads: dict[str, None] = {}
        self.tasks: dict[str, None] = {}
        self.threads: dict[str, None] = {}
        self._started: list[asyncio.Task[Any]] = []
        self._started_threads: list[threading.Thread] = []
        self._is_over = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what is done inside the block, and whatever it starts."""
        token = _watch.set(self)
        try:
            yield
        finally:
            _watch.reset(token)
            self._is_over = True
            for thread in self._started_threads:
                if thread.is_alive():
                    self.threads[_work_of(thread)] = None

    def databases_used(self) -> tuple[Used, ...] | None:
        """Tell which databases took part; None: the transaction does not tell."""
        return self.joined.databases() if isinstance(self.joined, Diagnosis) else None

    def reopen_to_refuse(self) -> None:
        """After ROLLBACK: refuse what the call has left running as if the batch still ran."""
        if isinstance(self.joined, Diagnosis):
            self.joined.reopen_to_refuse()

    def refuse_program(self, what: str) -> Exception:
        """Note what the call wanted to start, and make the exception that it gets."""
        self.programs[what] = None
        return refuse(PermissionError, f"start {what}")

    def take_down(self, task: asyncio.Task[Any]) -> None:
        """Note a task that the call has started."""
        self._started.append(task)

    def take_down_thread(self, thread: threading.Thread) -> None:
        """Note a thread that the call is about to start."""
        self._started_threads.append(thread)
        run = thread.run

        def run_quietly() -> None:
            try:
                run()
            except Exception:
                # After the rollback it fails because of us: that is no news for the user.
                if not self._is_over:
                    raise

        thread.run = run_quietly  # type: ignore[method-assign]

    async def end(self) -> None:
        """Cancel the tasks that the call has left running; they can store nothing any more."""
        left = [task for task in self._started if not task.done() and not task.cancelling()]
        self._started.clear()
        for task in left:
            self.tasks[getattr(task.get_coro(), "__qualname__", task.get_name())] = None
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_MOST_SECONDS_TO_CANCEL)


def _work_of(thread: threading.Thread) -> str:
    """The name of the function that a thread runs: a timer's, or its target."""
    function = getattr(thread, "function", None) or getattr(thread, "_target", None)
    return getattr(function, "__qualname__", None) or thread.name


_watch: ContextVar[Watch | None] = ContextVar("atomicbatch_watch", default=None)
_installing = threading.Lock()
_installed: list[bool] = []


def install() -> None:
    """Start watching; the second time does nothing. It cannot be undone, but costs little."""
    with _installing:
        if not _installed:
            files.prepare()
            sys.addaudithook(_hook)
            _installed.append(True)


def current_watch() -> Watch | None:
    """The watch on the call that runs this code; None if there is none, or if the join runs it."""
    # The join steps out of the call for what it does itself, and so do drivers' doors while a
    # connection is opened. What a call does by that connection, its door judges.
    return None if guarding.get() is None else _watch.get()


def refuse(kind: Callable[[str], Exception], what: str) -> Exception:
    """Make the exception that a handler gets, of the kind that it would get from the system."""
    return kind(f"the examination does not let a handler {what}")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    seen = _SEEN.get(event)
    if seen is not None and (watch := current_watch()) is not None:
        seen(watch, *arguments)


def _talking(watch: Watch, _: object, address: object) -> None:
    if address is None:
        return  # sendmsg() on a connected socket; the connecting was seen
    if isinstance(address, tuple):
        host, port = address[:2]
        name = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    else:
        name = name_of(address)
    if name in watch.may:
        watch.allowed[f"talks to {name}"] = None
        return
    watch.addresses[name] = None
    raise refuse(ConnectionRefusedError, f"talk to {name}")


def _opening_sqlite(watch: Watch, database: object) -> None:
    """
    Refuse a connection of which nothing can be seen, and which takes no part in batches.

    All others are judged by their doors: they take part, or the guard refuses what they write.
    """
    _changing("sqlite3.connect")(watch, database)
    _opening.place = place = places.of_file(database)
    if place.database and not _is_by_door():  # one in memory is gone when it is closed
        _refuse_without_door(watch, place)


def _opened_sqlite(watch: Watch, connection: object) -> None:
    """The same, where the app itself makes the connections that sqlite3.connect() gives."""
    place = _opening.place
    if place.database and not isinstance(connection, Connection):
        _refuse_without_door(watch, place)


def _refuse_without_door(watch: Watch, place: places.Place) -> NoReturn:
    watch.databases[str(place)] = None
    raise refuse(sqlite3.OperationalError, f"open {place} by another way than sqlite3.connect()")


def _is_by_door() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == sqlite_connect.__file__:
            return True
        frame = frame.f_back
    return False


def _starting(watch: Watch, program: object, *_: object) -> None:
    raise watch.refuse_program(f"the program {name_of(program)}")


def _starting_by_mode(watch: Watch, _: object, program: object, *__: object) -> None:
    _starting(watch, program)


def _forking(watch: Watch, *_: object) -> None:
    # The child would have the same connections, and might end their transactions.
    raise watch.refuse_program("another process")


def _changing(event: str) -> Callable[..., None]:
    def seen(watch: Watch, *arguments: object) -> None:
        change = files.change(event, arguments)
        if change is None:
            return
        if change.is_among(watch.may):
            watch.allowed[str(change)] = None
        elif change.adds:
            # An appended line destroys nothing, and a handler whose log is refused would stop.
            watch.appended[str(change)] = None
        else:
            watch.files[str(change)] = None
            raise refuse(PermissionError, f"change files: it {change}")

    return seen


_opening = threading.local()
_SEEN: dict[str, Callable[..., None]] = {
    **{event: _changing(event) for event in files.EVENTS},
    "os.exec": _starting,
    "os.fork": _forking,
    "os.forkpty": _forking,
    "os.posix_spawn": _starting,
    "os.spawn": _starting_by_mode,
    "os.startfile": _starting,
    "os.system": _starting,
    "socket.connect": _talking,
    "socket.sendmsg": _talking,
    "socket.sendto": _talking,
    "sqlite3.connect": _opening_sqlite,
    "sqlite3.connect/handle": _opened_sqlite,
    "subprocess.Popen": _starting,
}
