"""
Libraries on SQLite, each used as its own docs say, and the handlers that tests run by them.

A handler knows nothing of batches. What it returns becomes the response's JSON. One that is
refused in a batch says so in its decorator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.transactions.drivers.files import File


class UndoError(Exception):
    """Raised by handlers that want a transaction undone."""


@dataclass
class Handler:
    """
    One way to use a library.

    Attributes:
        act: Called with what the library was opened as.
        because: In a batch it is refused, with a message that holds this.
    """

    act: Callable[[Any], Any]
    because: str = ""

    @property
    def name(self) -> str:
        return self.act.__name__


@dataclass
class Library:
    """
    One library, opened in one way.

    Attributes:
        name: Of both.
        is_async: Its handlers are ``async def``.
        open: Given a file, gives what handlers are called with.
        add: A handler that also takes a name, and adds an item.
        handlers: What is run.
        early: In a batch, what a connection from before the doors is refused with; empty: it
            works all the same.
    """

    name: str
    is_async: bool
    open: Callable[[File], AbstractAsyncContextManager[Any]]
    add: Callable[[Any, str], Any]
    handlers: list[Handler] = field(default_factory=list)
    early: str = ""


LIBRARIES: list[Library] = []


def library(
    name: str,
    *,
    is_async: bool,
    handlers: list[Handler],
    add: Callable[[Any, str], Any],
    early: str = "",
) -> Callable[[Callable[[File], AsyncIterator[Any]]], Any]:
    """Register a library by the function that opens it."""

    def register(make: Callable[[File], AsyncIterator[Any]]) -> Any:
        opened = asynccontextmanager(make)
        LIBRARIES.append(Library(name, is_async, opened, add, handlers, early))
        return make

    return register


def handler(handlers: list[Handler], because: str = "") -> Callable[[Any], Any]:
    """Register a handler of a library."""

    def register(act: Any) -> Any:
        handlers.append(Handler(act, because))
        return act

    return register
