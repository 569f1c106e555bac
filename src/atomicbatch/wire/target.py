"""
One call's method, path and query, checked (RFC 9112, section 3; SPEC 2.4 and 2.6).

Whatever changes the target of a call later on has to pass the same checks again.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from atomicbatch.errors import MalformedError
from atomicbatch.wire.grammar import is_token, is_value
from atomicbatch.wire.memo import Memo

# RFC 9112, section 3, with the origin form of the target only. Its bytes are visible ASCII, as
# llhttp and h11 want it. "#" starts a fragment for some servers and is a path's byte for others;
# a backslash in the path is a slash for some. The version may be missing.
_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)"
    rb" (/(?!/)[!-\"$->@-\[\]-~]*)(?:\?([!-\"$-~]*))?"
    rb"(?: HTTP/[0-9](?:\.[0-9])?)?\r?"
)
# Bytes in a path that can make it name what it does not seem to name.
_INDIRECT = re.compile(rb"%|//|/\.|/\Z")
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")}
# Request lines that an endpoint remembers.
_MOST_LINES, _MOST_LINE_BYTES = 1024, 256


class Target(NamedTuple):
    """What a request line says."""

    method: str
    """Any token, as sent."""
    path: bytes
    """As sent: percent-encoded, starts with one ``/``."""
    query: bytes
    """As sent, without the ``?``; empty where there is none."""


class TargetReader:
    """
    Reads and checks the targets of an endpoint's calls.

    Args:
        batch_paths: Where the batch endpoint is: no call may be aimed there.
    """

    def __init__(self, batch_paths: Collection[bytes] = ()) -> None:
        self._batch_paths = frozenset(map(_resolved, batch_paths))
        self._known: Memo[bytes, Target] = Memo(_MOST_LINES, _MOST_LINE_BYTES)

    def read(self, line: bytes) -> Target:
        """
        Read a request line.

        Args:
            line: Without its line feed; a carriage return at its end is allowed.

        Raises:
            MalformedError: It is no request line, or no call may have this target.
        """
        return self._known.get(line) or self._read_new(line)

    def _read_new(self, line: bytes) -> Target:
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            raise MalformedError(_why_no_request_line(line))
        method, path, query = found.groups(b"")
        name = _METHODS.get(method)
        if name is None:
            if method.upper() == b"CONNECT":
                raise MalformedError("CONNECT cannot be part of a batch")
            name = method.decode("ascii")
        if _INDIRECT.search(path):
            resolved = _resolved(path)
            if resolved is None:
                raise MalformedError("path climbs out of the root")
        else:
            resolved = path
        if resolved in self._batch_paths:
            raise MalformedError("call aimed at the batch endpoint itself")
        target = Target(name, path, query)
        # What a query says is of one call, and may be a secret.
        return target if query else self._known.keep(line, target, len(line))


def write_request_line(target: Target) -> bytes:
    """
    Write a request line, without its line end.

    Raises:
        ValueError: :class:`TargetReader` would read something else, or refuse it.
    """
    line = b"%b %b" % (target.method.encode("ascii"), target.path)
    if target.query:
        line += b"?" + target.query
    line += b" HTTP/1.1"
    found = _REQUEST_LINE.fullmatch(line)
    if found is None or found[2] != target.path:
        raise ValueError(f"no request line: {line!r}")
    return line


def _resolved(path: bytes) -> bytes | None:
    """Return where a path leads: decoded once, without empty and dot segments; None is nowhere."""
    segments: list[bytes] = []
    for segment in unquote_to_bytes(path).replace(b"\\", b"/").split(b"/"):
        if segment == b"..":
            if not segments:
                return None
            segments.pop()
        elif segment not in (b"", b"."):
            segments.append(segment)
    return b"/" + b"/".join(segments)


def _why_no_request_line(line: bytes) -> str:
    """Say what is wrong with a line that is no request line."""
    method, space, rest = line.removesuffix(b"\r").partition(b" ")
    target = rest.partition(b" ")[0]
    if not is_value(line.removesuffix(b"\r")) or b"\t" in line:
        return "control character in the request line"
    if not is_token(method) or not space:
        return "no HTTP request line"
    if target.startswith(b"//"):
        return "path starts with two slashes"
    if not target.startswith(b"/"):
        return "request target is not a path (full URLs are refused)"
    if b"\\" in target.partition(b"?")[0]:
        return "backslash in the path"
    if b"#" in target:
        return "fragment in the request target"
    if not target.isascii():
        return "request target has bytes that must be percent-encoded"
    return "request line does not end in an HTTP version"
