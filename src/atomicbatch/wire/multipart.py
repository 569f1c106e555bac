"""
Body <-> parts: ``multipart/mixed``, RFC 2046, section 5.1.

There is one reading of a body. A line that begins with ``--`` and the boundary is a delimiter, or
the body is refused: RFC 2046 asks readers to compare the beginning of a line only, many compare
the whole line, and a proxy in front of us may belong to either kind. A line that would be one if
something invisible in front of it were removed is refused too: the calls behind it would become
the text of the call before it, and get lost in a batch that commits.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from itertools import accumulate, count
from operator import add

from atomicbatch.big_bytes import SLICE_BYTES, concatenated, occurs
from atomicbatch.errors import LimitError, MalformedError, MediaTypeError

# RFC 2046, section 5.1.1: bchars, at most 70, the last of them no space.
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")

# What nearly all clients write; it has one reading, which is that of the patterns below.
_USUAL = re.compile(
    rb"multipart/mixed; ?boundary="
    rb"(?:([0-9A-Za-z'()+_,\-./:=?]{1,70})|\"([0-9A-Za-z'()+_,\-./:=?]{1,70})\")"
)
_MEDIA_TYPE = re.compile(rb"[ \t]*([^ \t;]*)[ \t]*")

# RFC 9110, section 5.6.6. More than it allows: semicolons without a parameter, white space around
# "=", and unquoted values of any visible characters, since boundaries with "=" or "/" are met
# unquoted. Backslashes are refused in quotes: readers differ in whether they remove them.
_PARAMETER = re.compile(
    rb"[ \t]*;[ \t]*"
    rb"(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*"
    rb'(?:"([^"\\\x00-\x08\x0a-\x1f\x7f]*)"|([^\x00-\x20\x7f";]+)))?'
)
_SPACES = re.compile(rb"[ \t]*")

# What may follow "--boundary": transport padding and a line end, RFC 2046, section 5.1.1.
_DELIMITER_END = re.compile(rb"[ \t]*\r?\n")
_CLOSE_END = re.compile(rb"--[ \t]*(?:\r?\n|\Z)")


Part = tuple[bytes, int]
"""
The content of a part, from behind its delimiter's line to before the line break of the next
delimiter, and its offset in the body, in bytes.
"""


Content = tuple[bytes, bytes]
"""
The content of a part in two pieces, so that long bodies are copied once only: all up to the empty
line before the body (included, so that no boundary lies across the two), and the body.
"""


def boundary_of(content_type: bytes) -> bytes:
    """
    Read the boundary from the value of a Content-Type header.

    Raises:
        MediaTypeError: This is not multipart/mixed.
        MalformedError: The boundary is missing, given twice, or not as RFC 2046 wants it.
    """
    if usual := _USUAL.fullmatch(content_type):
        return usual[1] or usual[2]
    found = _MEDIA_TYPE.match(content_type)
    if not found or found[1].lower() != b"multipart/mixed":
        raise MediaTypeError("the body must be multipart/mixed")
    boundary = None
    for name, value in _parameters(content_type, found.end()):
        if name.startswith(b"boundary*"):
            # RFC 2231 continuations: some readers would take another boundary from them.
            raise MalformedError("encoded boundary in Content-Type")
        if name == b"boundary":
            if boundary is not None:
                raise MalformedError("two boundaries in Content-Type")
            boundary = value
    if boundary is None:
        raise MalformedError("no boundary in Content-Type")
    if not _BOUNDARY.fullmatch(boundary):
        raise MalformedError("boundary is not 1 to 70 of the characters that RFC 2046 allows")
    return boundary


def _parameters(content_type: bytes, position: int) -> Iterable[tuple[bytes, bytes]]:
    """Yield the parameters that start at ``position``: (lower-case name, value)."""
    while found := _PARAMETER.match(content_type, position):
        position = found.end()
        name, quoted, unquoted = found.groups()
        if name is not None:
            yield name.lower(), unquoted if quoted is None else quoted
    if not _SPACES.fullmatch(content_type, position):
        raise MalformedError("parameters of Content-Type are malformed")


def split_parts(body: bytes, boundary: bytes, *, max_calls: int | None = None) -> list[Part]:
    """
    Cut a multipart body into its parts. Preamble and epilogue are ignored.

    Args:
        body: The whole body, already without its Content-Encoding.
        boundary: As ``boundary_of`` returns it.
        max_calls: How many parts are allowed, None for any number.

    Raises:
        MalformedError: The body ends before its closing delimiter, or a line looks like a
            delimiter and is none.
        LimitError: There are more than ``max_calls`` parts.
    """
    parts = _split_usual(body, boundary, max_calls)
    if parts is not None:
        return parts
    try:
        parts = _split(body, boundary, max_calls)
    except _CutOffError as error:
        # A look-alike may well be the delimiter that is missing.
        _refuse_look_alikes(body, boundary, error.delimiters)
        raise
    _refuse_look_alikes(body, boundary, len(parts) + 1)
    return parts


def _split_usual(body: bytes, boundary: bytes, max_calls: int | None) -> list[Part] | None:
    """
    Cut a body that has nothing but parts and plain delimiters in it, at half the cost.

    None is for all others, also for those that are wrong, or have too many parts.
    """
    opening = b"--%b\r\n" % boundary
    closing = b"\r\n--%b--" % boundary
    end = len(body) - 2 if body.endswith(b"\r\n") else len(body)
    # The line break that ends the opening is not the one before the closing delimiter.
    if not body.startswith(opening) or not body.endswith(closing, len(opening), end):
        return None
    delimiter = b"\r\n" + opening
    contents = body[len(opening) : end - len(closing)].split(delimiter)
    lower, name = body.lower(), boundary.lower()
    # Nothing else is like a delimiter, wherever it stands.
    if lower.count(b"--" + name) != len(contents) + 1 or b'--"' + name in lower:
        return None
    if max_calls is not None and len(contents) > max_calls:
        return None
    ends = accumulate(map(len, contents), initial=len(opening))
    return list(zip(contents, map(add, ends, count(0, len(delimiter)))))  # noqa: B905 - endless


class _CutOffError(MalformedError):
    """The body has no closing delimiter; ``delimiters`` of the others were read."""

    def __init__(self, message: str, *, offset: int, delimiters: int) -> None:
        super().__init__(message, offset=offset)
        self.delimiters = delimiters


def _split(body: bytes, boundary: bytes, max_calls: int | None) -> list[Part]:
    opening = b"--" + boundary
    delimiter = b"\n" + opening
    # One piece before the first delimiter, one behind each, and one more so that the closing
    # delimiter of a full batch and something wrong behind it are seen.
    pieces = body.split(delimiter, -1 if max_calls is None else max_calls + 2)
    offset = len(opening)
    if body.startswith(opening):
        pieces[0] = body[offset : len(pieces[0])]
    else:
        offset = len(pieces.pop(0)) + len(delimiter)
    parts: list[Part] = []
    for number, piece in enumerate(pieces):
        if piece.startswith(b"\r\n"):
            start = 2
        elif found := _DELIMITER_END.match(piece):
            start = found.end()
        elif _CLOSE_END.match(piece if number + 1 == len(pieces) else piece + b"\n"):
            if number + 1 < len(pieces):
                after = offset + len(piece) + 1
                raise MalformedError("delimiter after the closing delimiter", offset=after)
            return parts
        else:
            if offset + len(piece) == len(body):
                break
            what = "line begins like a delimiter and is none"
            if not piece.strip(b" \t\r"):
                what = "part without content"
            raise MalformedError(what, offset=offset - len(opening))
        if len(parts) == max_calls:
            raise LimitError(
                f"more than {max_calls} calls",
                limit="max_calls",
                maximum=max_calls,
                offset=offset - len(opening),
            )
        # The line break before a delimiter belongs to the delimiter: LF, which the split took,
        # or CRLF.
        end = -1 if piece.endswith(b"\r") else len(piece)
        parts.append((piece[start:end], offset + start))
        offset += len(piece) + len(delimiter)
    what = "no closing delimiter: the body is cut off" if pieces else "no delimiter in the body"
    raise _CutOffError(what, offset=len(body), delimiters=len(pieces))


# Where some reader or other sees a line begin; Python's ``splitlines`` knows them all.
_LINE_BREAKS = (
    b"\n", b"\r", b"\v", b"\f", b"\x1c", b"\x1d", b"\x1e",
    b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9",
)  # fmt: skip
_BLANKS = bytes([*range(0x21), 0x7F])


def _refuse_look_alikes(body: bytes, boundary: bytes, delimiters: int) -> None:
    """
    Refuse what people, or other readers, take for a delimiter, wherever it stands.

    That is ``--`` and the boundary, in upper or lower case, perhaps with the quotes that the
    Content-Type had, at the beginning of a line: in front of it nothing but blanks, control
    characters, byte-order marks, and whatever else nobody sees. A bare CR, a form feed and the
    other line ends of Unicode begin a line here.

    Args:
        body: The whole body.
        boundary: As in ``split_parts``.
        delimiters: How many true ones the body has.
    """
    lower = body.lower()
    name = boundary.lower()
    opening = b"--" + name
    if lower.count(opening) > delimiters:
        _look_before(body, boundary, lower, opening)
    quoted = b'--"' + name
    if quoted in lower:
        _look_before(body, boundary, lower, quoted)


def _look_before(body: bytes, boundary: bytes, lower: bytes, wanted: bytes) -> None:
    """Look at what stands in front of each ``wanted``, once: it takes linear time."""
    delimiter = b"--" + boundary
    behind = 0
    while (found := lower.find(wanted, behind)) >= 0:
        before = lower[behind:found]
        start = max(
            (at + len(end) for end in _LINE_BREAKS if (at := before.rfind(end)) >= 0),
            default=-1 if behind else 0,
        )
        if start >= 0 and _is_invisible(before[start:]):
            is_line = found == 0 or body[found - 1 : found] == b"\n"
            if not (is_line and body.startswith(delimiter, found)):
                raise MalformedError("line looks like a delimiter and is none", offset=found)
        behind = found + len(wanted)


def _is_invisible(text: bytes) -> bool:
    """Tell whether nobody would see this text; bytes that are no UTF-8 count as unseen."""
    # Blanks go first, since they are what there may be millions of.
    seen = text.translate(None, _BLANKS).decode("utf-8", "surrogateescape")
    return not any(map(str.isprintable, seen))


# Some clients find the boundary without knowing quotes, so that what we write never needs them.
_UNQUOTED = re.compile(rb"[0-9A-Za-z'+_\-.]{1,70}")


def join_parts(parts: list[Content], boundary: bytes | None, prefix: bytes) -> tuple[bytes, bytes]:
    """
    Write parts as a multipart body without preamble and epilogue.

    Args:
        parts: At least one.
        boundary: What to use as the boundary, or None for a random one.
        prefix: What a random boundary starts with.

    Returns:
        The value of the Content-Type header, and the body.

    Raises:
        ValueError: The boundary given cannot be used or occurs in a part, or there is no part.
    """
    if not parts:
        raise ValueError("a multipart body needs a part")
    if boundary is not None:
        name = boundary.lower()
        taken = any(name in head.lower() or name in body.lower() for head, body in parts)
        if taken or not _UNQUOTED.fullmatch(boundary):
            raise ValueError(f"boundary {boundary!r} cannot be used for these parts")
        return b"multipart/mixed; boundary=" + boundary, concatenated(_pieces(parts, boundary))
    while True:
        boundary = prefix + secrets.token_hex(16).encode()
        body = _joined(parts, boundary)
        if body is not None:
            return b"multipart/mixed; boundary=" + boundary, body


def _joined(parts: list[Content], boundary: bytes) -> bytes | None:
    """Write the body, or return None where the boundary, a random one, occurs in a part."""
    pieces = _pieces(parts, boundary)
    if sum(map(len, pieces)) <= SLICE_BYTES:
        body = b"".join(pieces)
        return body if body.count(boundary) == len(parts) + 1 else None
    if any(boundary in head or occurs(boundary, body) for head, body in parts):
        return None
    return concatenated(pieces)


def _pieces(parts: list[Content], boundary: bytes) -> list[bytes]:
    """List the pieces of a body: delimiters, and what is between them."""
    delimiter = b"\r\n--%b\r\n" % boundary
    pieces = [piece for head, body in parts for piece in (delimiter, head, body)]
    pieces[0] = delimiter[2:]
    pieces.append(b"\r\n--%b--\r\n" % boundary)
    return pieces
