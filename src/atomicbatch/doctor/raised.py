"""Raised: the exceptions that frameworks answer with an error page, and tell their listeners."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def answered_errors(note: Callable[[BaseException], None]) -> Iterator[None]:
    """Inside the block, note the exceptions of handlers that Flask or Django answers with 500."""

    def receive(*_: object, exception: BaseException | None = None, **__: object) -> None:
        error = exception or sys.exc_info()[1]  # Flask hands it over, Django does not
        if error is not None:
            note(error)

    signals = [*_signals()]
    for signal in signals:
        signal.connect(receive)
    try:
        yield
    finally:
        for signal in signals:
            signal.disconnect(receive)


def _signals() -> Iterator[Any]:
    for module in ("flask.signals", "django.core.signals"):
        signal = getattr(sys.modules.get(module), "got_request_exception", None)
        if signal is not None:
            yield signal
