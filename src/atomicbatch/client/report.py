"""Report: the answer to a batch, in lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

from atomicbatch.client.answer import Answer
from atomicbatch.client.http_file import HttpFile
from atomicbatch.model import Call, Fate, Reply

# JSON of this many characters stays on one line.
_WIDTH = 100
_NO_JSON = object()


class Line(NamedTuple):
    """One line, and how it looks on a terminal."""

    text: str
    bold: bool = False
    colour: str | None = None


def answer_lines(file: HttpFile, answer: Answer, *, verbose: bool) -> Iterator[Line]:
    """
    Each reply below its call, and the outcome on the last line.

    Args:
        file: What was sent.
        answer: What came back.
        verbose: Show the headers of replies, and problem documents in full.
    """
    pairs = zip(file.calls, file.names, answer.replies, strict=False)
    for number, (call, name, reply) in enumerate(pairs, 1):
        yield from _reply_lines(number, call, name, reply, verbose=verbose)
    if answer.explanation:
        yield Line(_pretty(answer.explanation.encode("utf-8", "replace")))
    colour = "green" if answer.fate is Fate.COMMITTED else "red"
    yield Line(_printable(answer.outcome), bold=True, colour=colour)


def _reply_lines(
    number: int, call: Call, name: str, reply: Reply, *, verbose: bool
) -> Iterator[Line]:
    target = (call.path + (b"?" + call.query if call.query else b"")).decode()
    title = f"  ({name})" if name else ""
    yield Line(f"{number}. {call.method} {target}{title}", bold=True)
    colour = "green" if reply.status < 400 else "yellow" if reply.status == 424 else "red"
    yield Line(f"   {reply.status} {_reason(reply.status)}", colour=colour)
    if verbose:
        for header, value in reply.headers:
            yield Line(f"   {header.decode()}: {value.decode('latin-1')}")
    for line in _shown_body(reply, verbose=verbose).splitlines():
        yield Line(f"   {line}")


def _shown_body(reply: Reply, *, verbose: bool) -> str:
    if not reply.body:  # a reply to HEAD has none, whatever its Content-Type
        return ""
    problem = (b"content-type", b"application/problem+json") in reply.headers
    if problem and not verbose:
        # The status line says the rest.
        match _json(reply.body):
            case {"detail": str(detail)}:
                return _printable(detail)
    return _pretty(reply.body)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _pretty(body: bytes) -> str:
    """A body for people: JSON indented where it is long, text as it is."""
    value = _json(body)
    if value is _NO_JSON:
        return _printable(body.decode("utf-8", "replace"))
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= _WIDTH else json.dumps(value, ensure_ascii=False, indent=2)


def _json(body: bytes) -> Any:
    """The value of a JSON document, or ``_NO_JSON``."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _NO_JSON


def _printable(text: str) -> str:
    """Text without the characters that steer a terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
