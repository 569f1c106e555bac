"""The shapes of PEP 3333."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol

Environ = dict[str, Any]
Write = Callable[[bytes], object]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class StartResponse(Protocol):
    """Begins a response."""

    def __call__(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> Write: ...


App = Callable[[Environ, StartResponse], Iterable[bytes]]
