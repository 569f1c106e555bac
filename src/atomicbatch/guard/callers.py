"""Who calls: the libraries between the app and a driver, and the app's own line."""

from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

_OURS = str(Path(__file__).parents[1])
_STANDARD = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
_INSTALLED = ("site-packages", "dist-packages")
# Of these no frame is the app's, wherever they are installed.
_LIBRARIES = frozenset(
    """
    aiomysql aiosqlite anyio asgiref asyncmy asyncpg databases ddtrace django edgy greenlet gino
    MySQLdb opentelemetry ormar peewee piccolo playhouse pony psycopg psycopg2 psycopg_binary
    psycopg_c psycopg_pool pymysql saffier sentry_sdk sqlalchemy sqlmodel tortoise wrapt
    """.split()
)
_FRAMEWORKS = frozenset(
    """
    fastapi flask gunicorn hypercorn litestar ninja pydantic quart rest_framework starlette uvicorn
    uvloop waitress werkzeug
    """.split()
)


def _no_role(_: Collection[CodeType]) -> str:
    return ""


role_of: Callable[[Collection[CodeType]], str] = _no_role
"""Tells what the app's functions on the stack are to the call: its handler, a dependency or
middleware; ``asgi/roles.py`` knows."""


class Caller(NamedTuple):
    """Who has called a driver."""

    libraries: tuple[str, ...]
    """Top-level packages between the driver and the app, the outermost last."""
    line: str
    """The app's innermost frame, ``file:line in function``; empty where none is on the stack."""
    is_logging: bool
    """A handler of Python's logging is writing."""
    role: str = ""
    """What that line belongs to: the call's handler, a dependency or middleware; or empty."""

    @property
    def place(self) -> str:
        """Where it was, in words for a message."""
        return ", ".join(filter(None, (self.role, self.line)))


def caller() -> Caller:
    """Look up the stack. It costs some microseconds, so only where an alarm is due."""
    libraries: dict[str, None] = {}
    line = ""
    installed: FrameType | None = None
    codes: list[CodeType] = []
    for frame in _outwards(sys._getframe(1)):
        if _is_of_logging(frame):
            return Caller(tuple(libraries), line, True)
        kind = _kind_of(_file_of(frame))
        if kind in ("app", "installed"):
            codes.append(frame.f_code)
        if not line and kind != "ours":
            name = _package_of(frame)
            if kind == "app":
                line = _line_of(frame)
            elif kind == "installed":
                libraries[name] = None
                if installed is None and name not in _LIBRARIES:
                    installed = frame
    if not line and installed is not None:
        # The app itself is installed, or has started this as a task of its own.
        line = _line_of(installed)
    return Caller(tuple(libraries), line, False, role_of(codes))


def is_logging() -> bool:
    """Tell whether a handler of Python's logging is writing; a fraction of what caller() costs."""
    return any(_is_of_logging(frame) for frame in _outwards(sys._getframe(1)))


def _is_of_logging(frame: FrameType) -> bool:
    return frame.f_code.co_name == "handle" and frame.f_globals.get("__name__") == "logging"


def is_installed(function: object) -> bool:
    """Tell whether a function belongs to an installed package, and not to the app."""
    function = inspect.unwrap(function) if callable(function) else function
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None and callable(function):
        code = getattr(type(function).__call__, "__code__", None)
    return code is not None and _kind_of(code.co_filename) in ("installed", "ours")


def function_of(frame: FrameType | None) -> str:
    """
    Name the app's innermost function on a stack; empty where there is none.

    An app may be installed itself: then it is the innermost function that is no library's we know.
    """
    installed = ""
    for inner in _outwards(frame, follows_greenlets=False):
        kind = _kind_of(_file_of(inner))
        if kind not in ("app", "installed"):
            continue
        code = inner.f_code
        named = f"{code.co_qualname} ({Path(code.co_filename).name}:{inner.f_lineno})"
        if kind == "app":
            return named
        if not installed and _package_of(inner) not in _LIBRARIES | _FRAMEWORKS:
            installed = named
    return installed


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _outwards(frame: FrameType | None, *, follows_greenlets: bool = True) -> Iterator[FrameType]:
    """The frames of a stack, and of those that wait for its greenlet, as SQLAlchemy's async do."""
    while frame is not None:
        yield frame
        frame = frame.f_back
    if not follows_greenlets:
        return
    greenlet = sys.modules.get("greenlet")
    waiting = greenlet.getcurrent().parent if greenlet is not None else None
    while waiting is not None:
        frame = waiting.gr_frame
        while frame is not None:
            yield frame
            frame = frame.f_back
        waiting = waiting.parent


def _file_of(frame: FrameType) -> str:
    file = frame.f_code.co_filename
    # Code that was made from text belongs to the module that has made it.
    return str(frame.f_globals.get("__file__", file)) if file.startswith("<") else file


@lru_cache(maxsize=4096)
def _kind_of(file: str) -> str:
    if file.startswith(_OURS):
        return "ours"
    if any(f"/{folder}/" in file.replace("\\", "/") for folder in _INSTALLED):
        return "installed"
    is_standard = file.startswith("<frozen") or any(file.startswith(at) for at in _STANDARD if at)
    return "standard" if is_standard else "app"


def _line_of(frame: FrameType) -> str:
    code = frame.f_code
    # The whole path is nobody's business, since the message goes to clients.
    file = "/".join(Path(code.co_filename).parts[-2:]).lstrip("/")
    return f"{file}:{frame.f_lineno} in {code.co_qualname}"
