"""Reply headers: those that an app sends -> ours, checked. What repeats in a batch is read once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from atomicbatch.model import Header, Headers
from atomicbatch.wire.grammar import is_token, is_value

_MOST_KEPT = 1000


class ReplyHeaders:
    """
    Reads the headers of the replies of one batch.

    Args:
        read: Given a name and a value as the app has sent them, gives ours: the name in lower case.
        kind: What both are as a rule: ``bytes`` in ASGI, ``str`` in WSGI.
    """

    __slots__ = ("_kind", "_known", "_read")

    def __init__(self, read: Callable[[Any, Any], Header], kind: type) -> None:
        self._read = read
        self._kind = kind
        # As sent -> ours. Only those that a server would send.
        self._known: dict[Hashable, Header] = {}

    def read(self, headers: Iterable[Any]) -> tuple[Headers, bool]:
        """Return them, and whether a server would send them all; else it would answer 500."""
        sent = headers if type(headers) is list else list(headers)
        known = self._known
        try:
            return tuple([known[header] for header in sent]), True
        except (KeyError, TypeError, ValueError):  # new, or with a buffer in it, which has no hash
            read = [self._read_new(header) for header in sent]
            return tuple([header for header, _ in read]), all(good for _, good in read)

    def _read_new(self, sent: Any) -> tuple[Header, bool]:
        name, value = sent
        header = self._read(name, value)
        is_good = is_token(header[0]) and is_value(header[1])
        # Nothing that may change is kept.
        if is_good and type(sent) is tuple and type(name) is type(value) is self._kind:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[sent] = header
        return header, is_good
