"""Calls as clients write them, and answers as clients see them, whatever the endpoint is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from atomicbatch import Call, Headers, Reply
from atomicbatch.wire.batch import read_replies


def call(
    method: str, target: str, body: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()
) -> Call:
    """A call as a client writes it."""
    path, _, query = target.encode().partition(b"?")
    return Call(method, path, query, tuple(headers), body)


@dataclass
class Answer:
    """The outer response, and its replies where it has any."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def outcome(self) -> str:
        return self.headers["batch-outcome"]

    @property
    def replies(self) -> list[Reply]:
        content_type = self.headers["content-type"].encode()
        return [reply for _, reply in read_replies(self.body, content_type=content_type)]

    @property
    def statuses(self) -> list[int]:
        return [reply.status for reply in self.replies]

    @property
    def problem(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def echoed(self) -> dict[str, Any]:
        """What the shop's /echo has told of the first call."""
        document: dict[str, Any] = json.loads(self.replies[0].body)
        return document


class Transaction(Protocol):
    """The shop's adapter."""

    @property
    def open(self) -> int:
        """How many transactions have not ended."""
        ...


class Made(Protocol):
    """The shop behind an endpoint, in one of its forms; each kind of endpoint has a shop."""

    prefix: str
    database: str

    @property
    def transaction(self) -> Any: ...

    @property
    def log(self) -> list[str]:
        """What handlers have written down."""
        ...

    def rows(self) -> list[str]:
        """The names of the items, as a connection of its own sees them."""
        ...

    def ask(self, *calls: Call, headers: Headers = (), **outer: Any) -> Answer:
        """
        Send a batch and wait for its answer.

        Args:
            calls: As they are.
            headers: Of the outer request.
            outer: ``path`` (as servers tell it), ``root_path``, ``query``, ``method``, ``body``.
        """
        ...

    def ask_plainly(self, target: str) -> Answer:
        """Send one request, ``POST /items pen``, that is no batch."""
        ...

    def ask_together(self, *batches: Sequence[Call]) -> list[Answer]:
        """Send batches at the same time."""
        ...

    def endpoint(self, **options: Any) -> Made:
        """Put another endpoint in front of the same app and database."""
        ...


Make = Callable[..., Made]


def asked(made: Made, *targets: str, **outer: Any) -> Answer:
    """Ask with calls like ``POST /items pen``; the path is taken below the app's prefix."""
    calls = []
    for target in targets:
        method, path, *body = target.split(" ")
        calls.append(call(method, made.prefix + path, " ".join(body).encode()))
    return made.ask(*calls, **outer)
