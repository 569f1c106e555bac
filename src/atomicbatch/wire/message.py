"""
What calls and replies have in common: the part around an ``application/http`` message, and where
the message's body ends (RFC 9112, SPEC 2.3 to 2.5).
"""

from __future__ import annotations

import re
import sys

from atomicbatch.errors import LimitError, MalformedError
from atomicbatch.limits import Limits
from atomicbatch.model import Header, Headers
from atomicbatch.wire.grammar import (
    find_empty_line,
    is_value,
    read_fields,
    skip_empty_lines,
    unfold,
)
from atomicbatch.wire.memo import Memo

_LF = 0x0A

_LENGTH = re.compile(rb"[0-9]{1,18}")

# What is remembered of one batch, and of all of an endpoint. Lines and heads that are longer, or
# differ more, are read each time.
_MOST_LINES, _MOST_LINE_BYTES = 1024, 4096
_MOST_HEADS, _MOST_HEAD_BYTES = 64, 512

NOT_DECLARED = -1
"""What ``declared_length`` returns where there is no Content-Length."""

# Content-Transfer-Encodings that change nothing, RFC 2045 section 6.2.
_IDENTITY_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})


_Cut = tuple[bytes | None, bytes, bytes, bytes]
"""
A part: its Content-ID, the first line of its message, the headers of the message, and what follows
the first empty line. The second and the third end as ``read_fields`` wants it.
"""


class PartReader:
    """
    Reads the headers of a part, and finds the headers and the body of the message in it.

    An object because the parts of a batch say the same again and again: what was read once, all of
    a part's headers but for the Content-ID, is known by its bytes after that. ``cut`` goes by what
    is known and accepts nothing else; ``_read_part_head`` reads anything, and words the errors.

    Args:
        limits: Bounds on header blocks; None for no bounds.
        newline: How the lines of the batch end, CRLF or LF. Parts in which they end otherwise are
            read as well, only slower.
        known: The heads of parts that were read before, by readers with the same limits and the
            same line ends.
    """

    def __init__(
        self,
        limits: Limits | None,
        newline: bytes = b"\r\n",
        known: Memo[bytes, None] | None = None,
    ) -> None:
        self._limits = limits
        # A line is two bytes at least, so that blocks up to this size need no counting.
        self._small = (
            min(limits.max_header_bytes, 2 * limits.max_header_lines - 2) if limits else sys.maxsize
        )
        self._lines: Memo[bytes, Header] = Memo(_MOST_LINES, _MOST_LINE_BYTES)
        self._newline = newline
        self._empty_line = newline + newline
        self._carriage_return = newline[:-1]
        self._content_id_line = newline + b"Content-ID: "
        self._known = new_part_heads() if known is None else known

    def _cut(self, content: bytes) -> _Cut | None:
        """Cut a part whose own headers are known; None where it must be read."""
        pieces = content.split(self._empty_line, 2)
        if len(pieces) == 3:
            part, head, body = pieces
        elif len(pieces) == 2:
            part, head = pieces
            head, body = head.removesuffix(self._newline), b""
            if head.endswith(b"\r"):
                return None
        else:
            return None
        # Lines end in LF here: their CR is what comes before it.
        line, line_end, block = head.partition(b"\n")
        if block:
            block += self._carriage_return
        elif line_end:
            return None
        else:
            line += self._carriage_return
        if part in self._known:
            return None, line, block, body
        content_id, others = self._take_content_id(part)
        # Long ones are counted.
        if others not in self._known or len(part) >= self._small or not is_value(content_id):
            return None
        return content_id.strip(b" \t") or None, line, block, body

    def _take_content_id(self, part: bytes) -> tuple[bytes, bytes]:
        """Take the line of the Content-ID out of a part's headers: its value, and the others."""
        if part.startswith(b"Content-ID: "):
            content_id, _, others = part[len(b"Content-ID: ") :].partition(self._newline)
            return content_id, others
        before, _, rest = part.partition(self._content_id_line)
        if not before:
            return b"", part  # an empty line comes first: this is the message
        content_id, more, after = rest.partition(self._newline)
        return content_id, before + more + after

    def _read_part_head(self, content: bytes) -> tuple[bytes | None, int]:
        """Read a part's own headers; return its Content-ID and where the message starts."""
        if content[:1] in (b"\r", b"\n"):
            return None, skip_empty_lines(content, 0)
        end, start = find_empty_line(content, 0)
        if start < 0:
            raise MalformedError("part without a message", offset=0)
        if end > self._small:
            self._check_size(content[:end])
        content_id = self._read_part_block(content[:end])
        part = content[: start - len(self._empty_line)]
        if content[len(part) : start] == self._empty_line:
            self._learn(part)
        return content_id, skip_empty_lines(content, start)

    def _learn(self, part: bytes) -> None:
        """Remember the headers of a part that was read, without the line of its Content-ID."""
        _, others = self._take_content_id(part)
        # A part has one Content-ID at most, whatever its value and its spelling.
        if not _is_folded(part) and b"content-id" not in others.lower():
            self._known.keep(others, None, len(others))

    def _read_part_block(self, block: bytes) -> bytes | None:
        """Read a part's header lines, which say nothing to us but the Content-ID."""
        if _is_folded(block):
            block = unfold(block)
        content_id = None
        for name, value in read_fields(block, self._lines):
            if name == b"content-id":
                if content_id is not None:
                    raise MalformedError("part with two Content-IDs", offset=0)
                content_id = value
            elif name == b"content-transfer-encoding" and value.lower() not in _IDENTITY_ENCODINGS:
                raise MalformedError("part with a Content-Transfer-Encoding", offset=0)
            elif name == b"content-type" and value[:10].lower() == b"multipart/":
                what = (
                    "nested change sets are not taken: the whole batch is one, put the calls in it"
                )
                raise MalformedError(f"part of a multipart type: {what}", offset=0)
        return content_id or None

    def _check_size(self, block: bytes, offset: int = 0, *, uncounted_lines: int = 0) -> None:
        """Refuse a header block that exceeds the limits."""
        limits = self._limits
        if limits is None:
            return
        if len(block) > limits.max_header_bytes:
            raise LimitError(
                f"more than {limits.max_header_bytes} bytes of headers",
                limit="max_header_bytes",
                maximum=limits.max_header_bytes,
                offset=offset,
            )
        lines = block.count(b"\n") + 1 - uncounted_lines
        if lines > limits.max_header_lines:
            raise LimitError(
                f"more than {limits.max_header_lines} header lines",
                limit="max_header_lines",
                maximum=limits.max_header_lines,
                offset=offset,
            )


def new_part_heads() -> Memo[bytes, None]:
    """Make the memory that several readers may share; see :class:`PartReader`."""
    return Memo(_MOST_HEADS, _MOST_HEAD_BYTES)


def _is_folded(block: bytes) -> bool:
    return b"\n " in block or b"\n\t" in block


FRAMING = frozenset({
    b"content-length", b"transfer-encoding", b"content_length", b"transfer_encoding",
})  # fmt: skip
"""The names that ``declared_length`` looks at."""


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
