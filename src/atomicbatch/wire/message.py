"""
What calls and replies have in common: the part around an ``application/http`` message, and where
the message's body ends (RFC 9112, SPEC 2.3 to 2.5).
"""

from __future__ import annotations

import re

from atomicbatch.errors import LimitError, MalformedError
from atomicbatch.limits import Limits
from atomicbatch.model import Header, Headers
from atomicbatch.wire.grammar import find_empty_line, read_fields, skip_empty_lines, unfold

_LENGTH = re.compile(rb"[0-9]{1,18}")

NOT_DECLARED = -1
"""What ``declared_length`` returns where there is no Content-Length."""

# Content-Transfer-Encodings that change nothing, RFC 2045 section 6.2.
_IDENTITY_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})


class PartReader:
    """Reads the headers of a part and those of the message in it."""

    def __init__(self, limits: Limits | None) -> None:
        self._limits = limits
        self.lines: dict[bytes, Header] = {}

    def read_part_head(self, content: bytes) -> tuple[bytes | None, int]:
        """Read a part's own headers; return its Content-ID and where the message starts."""
        end, start = find_empty_line(content, 0)
        if start < 0:
            raise MalformedError("part without a message", offset=0)
        self.check_size(content, 0, end)
        block = content[:end]
        if b"\n " in block or b"\n\t" in block:
            block = unfold(block)
        content_id = None
        for name, value in read_fields(block, self.lines):
            if name == b"content-id":
                if content_id is not None:
                    raise MalformedError("part with two Content-IDs", offset=0)
                content_id = value
            elif name == b"content-transfer-encoding" and value.lower() not in _IDENTITY_ENCODINGS:
                raise MalformedError("part with a Content-Transfer-Encoding", offset=0)
        return content_id or None, skip_empty_lines(content, start)

    def check_size(self, content: bytes, start: int, end: int, *, uncounted_lines: int = 0) -> None:
        limits = self._limits
        if limits is None:
            return
        # A block has two bytes a line at least, so that most need no counting.
        if end - start > limits.max_header_bytes:
            raise LimitError(
                f"more than {limits.max_header_bytes} bytes of headers",
                limit="max_header_bytes",
                maximum=limits.max_header_bytes,
                offset=start,
            )
        if (end - start) // 2 < limits.max_header_lines:
            return
        lines = content.count(b"\n", start, end) + 1 - uncounted_lines
        if lines > limits.max_header_lines:
            raise LimitError(
                f"more than {limits.max_header_lines} header lines",
                limit="max_header_lines",
                maximum=limits.max_header_lines,
                offset=start,
            )


def declared_length(fields: Headers) -> int:
    """
    Return what Content-Length says, or -1.

    Raises:
        MalformedError: It is no number, or there are different ones; or there is a
            Transfer-Encoding: in a part, where the boundary ends the body, it has no meaning.
    """
    declared = NOT_DECLARED
    for name, value in fields:
        if name == b"content-length":
            # RFC 9110, section 8.6: the same number may have been repeated, also as a list.
            for text in value.split(b","):
                length = text.strip(b" \t")
                if not _LENGTH.fullmatch(length):
                    raise MalformedError("Content-Length is no number", offset=0)
                if declared not in (NOT_DECLARED, int(length)):
                    raise MalformedError("different Content-Lengths", offset=0)
                declared = int(length)
        elif name == b"transfer-encoding":
            raise MalformedError("Transfer-Encoding in a part", offset=0)
        elif name in (b"content_length", b"transfer_encoding"):
            # CGI-like environments cannot tell them from the real ones.
            raise MalformedError("underscore in the name of a header about framing", offset=0)
    return declared


def read_body(content: bytes, start: int, declared: int) -> bytes:
    """
    Take a message's body; the boundary decides where it ends (SPEC 2.5).

    Args:
        content: The part's.
        start: Where the body starts, -1 where nothing follows the headers.
        declared: What Content-Length says, or -1.
    """
    available = len(content) - start if start >= 0 else 0
    if declared == NOT_DECLARED:
        body = content[start:] if available else b""
        if body[:1] in (b"\r", b"\n") and not body.replace(b"\r\n", b"").strip(b"\n"):
            return b""
        return body
    if declared > available:
        raise MalformedError(
            f"Content-Length is {declared}, but only {available} bytes follow", offset=len(content)
        )
    end = start + declared
    if declared < available and content[end:].strip(b" \t\r\n"):
        raise MalformedError(
            f"Content-Length is {declared}, but more than white space follows", offset=end
        )
    return content[start:end] if declared else b""
