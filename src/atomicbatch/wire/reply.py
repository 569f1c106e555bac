"""One Reply <-> part, RFC 9112 and SPEC 5.4."""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus

from atomicbatch.errors import MalformedError
from atomicbatch.model import Call, Headers, Reply
from atomicbatch.wire.grammar import (
    connection_names,
    find_empty_line,
    is_token,
    is_value,
    read_fields,
    write_name,
)
from atomicbatch.wire.memo import Memo
from atomicbatch.wire.message import NOT_DECLARED, PartReader, declared_length, read_body
from atomicbatch.wire.multipart import Content

_STATUS_LINE = re.compile(
    rb"HTTP/[0-9](?:\.[0-9])? ([1-9][0-9]{2})(?: [^\x00-\x08\x0a-\x1f\x7f]*)?\r?"
)


class ReplyReader(PartReader):
    """
    Reads the replies of one response, on the client's side; nothing is limited.

    Args:
        newline: How most lines of the response end.
    """

    def __init__(self, newline: bytes = b"\r\n") -> None:
        super().__init__(None, newline)

    def read(self, content: bytes) -> tuple[bytes | None, Reply]:
        """
        Read one part; return the Content-ID of the call it answers, and the reply.

        Raises:
            MalformedError: This is no reply; ``offset`` counts from the start of the content.
        """
        cut = self._cut(content)
        if cut is None:
            return self._read_any(content)
        content_id, line, block, body = cut
        try:
            reply = self._reply(line, block, content, len(content) - len(body))
        except MalformedError:
            return self._read_any(content)  # which says where the error is
        return content_id and content_id.replace(b"response-", b"", 1), reply

    def _read_any(self, content: bytes) -> tuple[bytes | None, Reply]:
        """Read one part, whatever it looks like."""
        content_id, start = self._read_part_head(content)
        end, rest = find_empty_line(content, start)
        line, _, block = content[start:end].partition(b"\n")
        reply = self._reply(line, block, content, rest, start)
        return content_id and content_id.replace(b"response-", b"", 1), reply

    def _reply(self, line: bytes, block: bytes, content: bytes, rest: int, start: int = 0) -> Reply:
        """Read a reply whose status line starts at ``start`` and whose body starts at ``rest``."""
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise MalformedError("no HTTP status line", offset=start)
        try:
            headers = read_fields(block, self._lines)
            declared = declared_length(headers)
        except MalformedError as error:
            error.offset = start + len(line) + 1 + (error.offset or 0)
            raise
        if rest in (-1, len(content)):
            # Servers other than ours declare in a reply to HEAD what they do not send.
            declared = NOT_DECLARED
        return Reply(int(found[1]), headers, read_body(content, rest, declared))


class ReplyWriter:
    """
    Writes the replies of one batch, each as the content of a part (SPEC 5.4).

    The batch has been committed when this runs, so that nothing may fail here: what cannot be
    written is left out. ``is_writable`` tells it beforehand.

    Most replies have headers whose names came before and whose values are plain. Those are filled
    into a form that is made once for their status and names; all others are written line by line.

    Args:
        date: The value of the Date header of replies that have none. A server would send one, and
            some clients cannot read a reply without any header.
    """

    def __init__(self, date: bytes) -> None:
        self._date = date

    def write(self, call: Call, reply: Reply) -> Content:
        """Write the content of a part."""
        status, headers, body = reply
        names, values = zip(*headers) if headers else ((), ())  # noqa: B905 - they are all pairs
        form = _FORMS.get((status, names))
        if form is None:
            size = sum(map(len, names))
            form = _FORMS.keep((status, names), _form_of(status, names), size)
        if not form or call.method == "HEAD" or not _are_plain(values):
            return self._write_checked(call, reply)
        content_id = call.content_id
        part = _response_id(content_id) if content_id else _PART_HEADERS
        if status in _BODILESS:
            return form % (part, self._date, *values), b""
        return form % (part, self._date, *values, len(body)), body

    def _write_checked(self, call: Call, reply: Reply) -> Content:
        """Write the content of a part, whatever the reply holds."""
        status, headers, body = reply
        if not 200 <= status <= 999:
            status, headers, body = 500, (), b""
        plain, odd = self._write_block(headers)
        if status in _BODILESS or call.method == "HEAD":
            body = b""
        else:
            plain += b"Content-Length: %d\r\n" % len(body)
        content_id = call.content_id
        head = b"%b\r\n%b%b%b\r\n" % (
            _response_id(content_id) if content_id else _PART_HEADERS,
            _status_line(status),
            plain,
            odd,
        )
        return head, body

    def _write_block(self, headers: Headers) -> tuple[bytes, bytes]:
        """Write headers: those with names of letters and hyphens, and the others."""
        names = [name for name, _ in headers]
        if b"connection" in names:
            named = connection_names(headers)
            headers = tuple(header for header in headers if header[0] not in named)
        plain: list[bytes] = []
        odd: list[bytes] = []
        for name, value in headers:
            line = _write_reply_field(name, value)
            (odd if name.translate(None, _PLAIN) else plain).append(line)
        if b"date" not in names or not any(line.startswith(b"Date:") for line in plain):
            plain.insert(0, b"Date: %b\r\n" % self._date)
        return b"".join(plain), b"".join(odd)


def is_writable(reply: Reply) -> bool:
    """
    Tell whether a reply can be written as it is, but for headers that concern its connection.

    A server would answer 500 in place of the others; so should a call, while the batch can still
    be rolled back.
    """
    return 200 <= reply.status <= 999 and all(
        is_token(name) and is_value(value) for name, value in reply.headers
    )


# Framing is ours: parts end at a delimiter, and lengths are those of the bytes that are written.
_NOT_WRITTEN = frozenset({
    b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip

# RFC 9110, section 6.4.1. No Content-Length either: readers of parts would wait for the body.
_BODILESS = frozenset({204, 304})

_PLAIN = b"-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _write_reply_field(name: bytes, value: bytes) -> bytes:
    """Write one header of a reply, or nothing where it cannot be one: no header is split in two."""
    name, value = name.lower(), value.strip(b" \t")
    if not value or name in _NOT_WRITTEN or not is_token(name) or not is_value(value):
        return b""
    return b"%b: %b\r\n" % (write_name(name), value)


_PART_HEADERS = b"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"


def _response_id(content_id: bytes) -> bytes:
    """Write a part's headers with the Content-ID of the reply to a call with this one."""
    if content_id[:1] == b"<" and content_id[-1:] == b">":
        return b"%bContent-ID: <response-%b\r\n" % (_PART_HEADERS, content_id[1:])
    return b"%bContent-ID: response-%b\r\n" % (_PART_HEADERS, content_id)


# RFC 9110 renamed these; Python before 3.13 has the old names.
_REASONS = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
_NO_REASON = re.compile("[^0-9A-Za-z ]")


def reason_of(status: int) -> str:
    """Tell the reason phrase of a status, also of one that nobody has named."""
    try:
        return _REASONS.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


# By status and names. What a handler answers has a few of them.
_FORMS: Memo[tuple[int, tuple[bytes, ...]], bytes] = Memo(256, 1024)


def _form_of(status: int, names: tuple[bytes, ...]) -> bytes:
    """
    Make a form for replies: a format of the part's headers, the Date, a value for each name, and
    the length of the body, if it may have one. Empty where such replies are written line by line.
    """
    if not 200 <= status <= 999 or b"connection" in names:
        return b""
    if any(not name or name != name.lower() or name.translate(None, _PLAIN) for name in names):
        return b""
    # "%.0b" takes a value and writes nothing.
    date = b"%.0b" if b"date" in names else b"Date: %b\r\n"
    lines = [b"%b\r\n", _status_line(status), date]
    lines += [b"%.0b" if name in _NOT_WRITTEN else write_name(name) + b": %b\r\n" for name in names]
    if status not in _BODILESS:
        lines.append(b"Content-Length: %d\r\n")
    return b"".join([*lines, b"\r\n"])


def _are_plain(values: tuple[bytes, ...]) -> bool:
    """
    Tell whether values can be written as they are: without control characters and blanks around
    them, and not empty. False for some others too, such as those with two blanks in a row.
    """
    text = b" ".join((b"", *values, b"")).decode("latin-1")
    return text.isprintable() and "  " not in text


@lru_cache(maxsize=64)
def _status_line(status: int) -> bytes:
    """Write the status line."""
    reason = reason_of(status)
    # Some clients look for letters, digits and spaces only: "Multi Status", "Im a Teapot".
    reason = _NO_REASON.sub("", reason.replace("-", " "))
    return b"HTTP/1.1 %d %b\r\n" % (status, reason.encode())
