"""
The few patterns that messages share, each beside its RFC rule.

No input takes more than linear time: no pattern here has a repeat inside a repeat, and whatever
is cut into pieces is cut once.
"""

from __future__ import annotations

import re

from atomicbatch.errors import MalformedError
from atomicbatch.model import Header, Headers
from atomicbatch.wire.memo import Memo

# RFC 9110, section 5.6.2: tchar.
TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# RFC 9110, section 5.5: a value holds visible characters, spaces, tabs and obs-text (0x80 and
# up). It wants NUL, CR and LF refused and leaves the other control characters to us: whatever a
# proxy may read in another way is refused.
CONTROLS = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])

# RFC 5322, section 2.2.3: unfolding is removing the line break before white space.
_FOLD = re.compile(rb"\r?\n(?=[ \t])")


def is_token(text: bytes) -> bool:
    """Tell whether this is a token: a header's name, a method."""
    return bool(text) and not text.translate(None, TOKEN)


def is_value(text: bytes) -> bool:
    """Tell whether this may be a header's value: no control character but the tab in it."""
    return len(text.translate(None, CONTROLS)) == len(text)


def unfold(block: bytes) -> bytes:
    """Join the lines that start with white space to the line before (part headers only)."""
    return _FOLD.sub(b"", block)


def skip_empty_lines(content: bytes, start: int) -> int:
    """Return where the first line that is not empty starts."""
    if content[start : start + 1] not in (b"\r", b"\n"):
        return start
    # No pattern: a repeated group costs a hundred bytes of memory for each empty line.
    end = len(content) - len(content[start:].lstrip(b"\r\n"))
    if b"\r" in content[start:end].replace(b"\r\n", b""):
        return start  # a bare CR is no line end, so that the reader of the line will refuse it
    return end


def find_empty_line(content: bytes, start: int) -> tuple[int, int]:
    """
    Find the empty line that ends the header block starting at ``start``, which is not empty.

    Lines end in CRLF or LF; a CR alone ends nothing (RFC 9112, section 2.2).

    Returns:
        Where the block ends, the LF of its last line not included (but the CR, if it has one, as
        on every line), and where the rest begins. Where there is no empty line: the end of the
        block and -1.

    Raises:
        MalformedError: The last line ends in a bare CR.
    """
    end = content.find(b"\n\r\n", start)
    # Only what comes before that can be the earlier one, so that nothing is searched twice.
    bare = content.find(b"\n\n", start, end + 1 if end >= 0 else len(content))
    if bare >= 0:
        return bare, bare + 2
    if end >= 0:
        return end, end + 3
    if content.endswith(b"\n"):
        return len(content) - 1, -1
    if content.endswith(b"\r"):
        raise MalformedError("bare CR at the end of a header", offset=len(content) - 1)
    return len(content), -1


def read_fields(block: bytes, known: Memo[bytes, Header]) -> Headers:
    """
    Read header lines, RFC 9112, section 5: no line is folded, no space before the colon.

    Args:
        block: Lines that end in CRLF or LF, the last one without its line end; empty for none.
        known: The lines read before; most lines of a batch come again with every call.

    Raises:
        MalformedError: A line is no header; ``offset`` counts from the start of the block.
    """
    if not block:
        return ()
    lines = block.split(b"\n")
    fields = []
    for number, line in enumerate(lines):
        field = known.get(line)
        if field is None:
            try:
                field = known.keep(line, _read_field(line), len(line))
            except MalformedError as error:
                error.offset = number + sum(map(len, lines[:number]))
                raise
        fields.append(field)
    return tuple(fields)


def _read_field(line: bytes) -> Header:
    """Read one header line, with the CR of its CRLF if it has one."""
    if line.endswith(b"\r"):
        line = line[:-1]
    if line[:1] in (b" ", b"\t"):
        raise MalformedError("header line starts with white space")
    name, colon, value = line.partition(b":")
    if not colon:
        raise MalformedError("header line without a colon")
    if not is_token(name):
        raise MalformedError("header name is no token")
    value = value.strip(b" \t")
    if not is_value(value):
        raise MalformedError("control character in a header value")
    return name.lower(), value


def connection_names(headers: Headers) -> set[bytes]:
    """Return the names that Connection lists, lower-case: they end here (RFC 9110, 7.6.1)."""
    return {
        name.strip(b" \t").lower()
        for key, value in headers
        if key == b"connection"
        for name in value.split(b",")
    }


def write_name(name: bytes) -> bytes:
    """Write a header's name as people know it: ``Content-Type``."""
    return _FAMOUS_NAMES.get(name) or name.title()


_FAMOUS_NAMES = {
    b"content-id": b"Content-ID",
    b"etag": b"ETag",
    b"www-authenticate": b"WWW-Authenticate",
}
