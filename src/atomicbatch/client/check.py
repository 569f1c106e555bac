"""Check: whether a file is a batch, raw or as ``.http``; if not, what is wrong, and where."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from atomicbatch.client.http_file import HttpFileError, read_http_file
from atomicbatch.errors import WireError
from atomicbatch.limits import Limits
from atomicbatch.model import Call
from atomicbatch.wire.batch import read_batch


class Checked(NamedTuple):
    """The verdict on a file, and why, for people."""

    good: bool
    text: str


_FIRST_DELIMITER = re.compile(rb"(?:\A|\n)--([^\r\n]{1,70}?)[ \t]*\r?\n")
_REQUEST = re.compile(rb"\APOST [^\r\n]* HTTP/1\.[01]\r?\n")
_CONTENT_TYPE = re.compile(rb"(?im)^content-type:[ \t]*([^\r\n]*)")
# How many bytes are shown to the left and to the right of a mistake.
_AROUND = 40


def check_batch(raw: bytes, *, content_type: str | None = None) -> Checked:
    """
    Read ``raw`` as a batch.

    Args:
        raw: The body of a batch request, or the whole request with its headers.
        content_type: The outer Content-Type; None: the one in ``raw``, or else guessed from the
            first line that looks like a delimiter.
    """
    body, start, found = _body_of(raw)
    if content_type is None and found is None:
        guess = _FIRST_DELIMITER.search(body)
        if guess is None:
            return Checked(False, "no line starts with '--': this is not a multipart body")
        found = b'multipart/mixed; boundary="' + re.sub(rb'(["\\])', rb"\\\1", guess[1]) + b'"'
    given = content_type.encode() if content_type is not None else found or b""
    limits = Limits(max_body_bytes=max(Limits().max_body_bytes, len(body)))
    try:
        batch = read_batch(body, content_type=given, batch_paths=(b"/v1/api/batch",), limits=limits)
    except WireError as error:
        return Checked(False, _told(error, raw, start))
    return Checked(True, _listed(batch.calls))


def check_http_file(path: Path, variables: Mapping[str, str]) -> Checked:
    """Read an ``.http`` file as ``send`` would, without sending it."""
    try:
        return Checked(True, _listed(read_http_file(path, variables).calls))
    except HttpFileError as error:
        return Checked(False, str(error))


def _listed(calls: Sequence[Call]) -> str:
    lines = [f"ok: {len(calls)} call{'s' * (len(calls) != 1)}"]
    for number, call in enumerate(calls, 1):
        target = (call.path + (b"?" + call.query if call.query else b"")).decode("ascii", "replace")
        size = f", {len(call.body)} bytes" if call.body else ""
        lines.append(f"{number}. {call.method} {target}{size}")
    return "\n".join(lines)


def _body_of(raw: bytes) -> tuple[bytes, int, bytes | None]:
    """The body in ``raw``, where it starts, and the Content-Type that ``raw`` declares."""
    if not _REQUEST.match(raw):
        return raw, 0, None
    end = re.search(rb"\r?\n\r?\n", raw)
    if end is None:
        return b"", len(raw), None
    declared = _CONTENT_TYPE.search(raw, 0, end.end())
    return raw[end.end() :], end.end(), declared[1] if declared else b""


def _told(error: WireError, raw: bytes, start: int) -> str:
    if error.offset is None:
        return str(error)
    offset = min(error.offset + start, len(raw))
    line = raw.count(b"\n", 0, offset) + 1
    line_start = raw.rfind(b"\n", 0, offset) + 1
    line_end = raw.find(b"\n", offset)
    line_end = len(raw) if line_end < 0 else line_end
    left = max(line_start, offset - _AROUND)
    excerpt = _shown(raw[left:offset]), _shown(raw[offset : min(line_end, offset + _AROUND)])
    return (
        f"{error}\nline {line}, column {offset - line_start + 1}:\n"
        f"  {excerpt[0]}{excerpt[1]}\n  {' ' * len(excerpt[0])}^"
    )


def _shown(raw: bytes) -> str:
    text = raw.rstrip(b"\r").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{MIDDLE DOT}" for c in text)
