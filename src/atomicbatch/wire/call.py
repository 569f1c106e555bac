"""One part <-> Call, RFC 9112 and SPEC 2.4 to 2.6."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from atomicbatch.errors import MalformedError, UnsupportedError, WireError
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Headers
from atomicbatch.wire.grammar import find_empty_line, is_token, is_value, read_fields, write_name
from atomicbatch.wire.inherit import Inheritance
from atomicbatch.wire.message import NOT_DECLARED, PartReader, declared_length, read_body
from atomicbatch.wire.multipart import Content

# RFC 9112, section 3, with the origin form of the target only. Its bytes are visible ASCII, as
# llhttp and h11 want it. "#" starts a fragment for some servers and is a path's byte for others;
# a backslash in the path is a slash for some. The version may be missing.
_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)"
    rb" (/(?!/)[!-\"$->@-\[\]-~]*)(?:\?([!-\"$-~]*))?"
    rb"(?: HTTP/[0-9](?:\.[0-9])?)?\r?"
)
# RFC 9112, section 6.3: for an HTTP server a request without Content-Length has no body, and what
# follows is the next request. For us it is the body; taken for one, that request would get lost.
_SECOND_REQUEST = re.compile(
    rb"\s*(?:[A-Za-z-]{1,32} [^\s]+ HTTP/[0-9](?:\.[0-9])?"
    rb"|(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /[^\s]*)[ \t]*\r?(?:\n|\Z)"
)
_REQUEST_IN_BODY = re.compile(
    rb"[\r\n]([A-Za-z-]{1,32} /[^\s]* HTTP/[0-9](?:\.[0-9])?)[ \t]*(?:[\r\n]|\Z)"
)
# Behind an empty line, as behind the headers of a part, it needs no version.
_BARE_REQUEST_IN_BODY = re.compile(
    rb"\n\r?\n((?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /[^\s]*)[ \t]*\r?(?:\n|\Z)"
)
# What is left of the next part where its delimiter is broken beyond recognition.
_NEXT_PART = re.compile(rb"[\r\n]content-type:[ \t]*application/http[ \t]*[;\r\n]")
# Without what they ask for, a call would do something else than it says.
_UNSUPPORTED = {
    b"batch-references": "Batch-References: references to earlier replies are",
    b"batch-if": "Batch-If: dry runs are",
}
# Bytes in a path that can make it name what it does not seem to name.
_INDIRECT = re.compile(rb"%|//|/\.|/\Z")


class CallReader(PartReader):
    """
    Reads the calls of one batch.

    Args:
        inheritance: What every call takes over from the outer request.
        limits: Bounds on header blocks.
        batch_paths: Where the batch endpoint is: no call may be aimed there.
    """

    def __init__(
        self, inheritance: Inheritance, limits: Limits, batch_paths: Collection[bytes] = ()
    ) -> None:
        super().__init__(limits)
        self._inheritance = inheritance
        self._batch_paths = frozenset(map(_resolved, batch_paths))
        self._requests: dict[bytes, tuple[str, bytes, bytes]] = {}
        self._blocks: dict[bytes, tuple[Headers, int]] = {}
        self._lengths: dict[int, Headers] = {}

    def read(self, content: bytes) -> Call:
        """
        Read one part.

        Raises:
            MalformedError: This is no call; ``offset`` counts from the start of the content.
            LimitError: A header block is too long.
            UnsupportedError: A header asks for something that batches do not do.
        """
        content_id, start = self._read_part_head(content)
        end, rest = find_empty_line(content, start)
        if end - start > self._small:
            self._check_size(content, start, end, uncounted_lines=1)
        line_end = content.find(b"\n", start, end)
        fields_start = line_end + 1
        if line_end < 0:
            line_end = fields_start = end
        line = content[start:line_end]
        request = self._requests.get(line)
        if request is None:
            try:
                request = self._requests[line] = self._read_request_line(line)
            except WireError as error:
                error.offset = start
                raise
        block = content[fields_start:end]
        known = self._blocks.get(block)
        if known is None:
            try:
                known = self._blocks[block] = self._read_block(block)
            except WireError as error:
                error.offset = fields_start + (error.offset or 0)
                raise
        headers, declared = known
        body = read_body(content, rest, declared)
        if declared == NOT_DECLARED and body:
            _refuse_second_request(body, len(content) - len(body))
        if body or declared != NOT_DECLARED:
            length = self._lengths.get(len(body))
            if length is None:
                length = ((b"content-length", b"%d" % len(body)),)
                self._lengths[len(body)] = length
            headers += length
        method, path, query = request
        return Call(method, path, query, headers, body, content_id)

    def _read_request_line(self, line: bytes) -> tuple[str, bytes, bytes]:
        """Read a request line; return the method, the path, and the query with what it inherits."""
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            raise MalformedError(_why_no_request_line(line))
        method, path, query = found.groups(b"")
        if method.upper() == b"CONNECT":
            raise MalformedError("CONNECT cannot be part of a batch")
        if _INDIRECT.search(path):
            resolved = _resolved(path)
            if resolved is None:
                raise MalformedError("path climbs out of the root")
        else:
            resolved = path
        if resolved in self._batch_paths:
            raise MalformedError("call aimed at the batch endpoint itself")
        return method.decode("ascii"), path, self._inheritance.query_for(query)

    def _read_block(self, block: bytes) -> tuple[Headers, int]:
        """Read a call's own headers; return all that the call sees but its Content-Length."""
        fields = read_fields(block, self._lines)
        for name, _ in fields:
            if name in _UNSUPPORTED:
                raise UnsupportedError(f"{_UNSUPPORTED[name]} not supported", offset=0)
        declared = declared_length(fields)
        if declared != NOT_DECLARED:
            fields = tuple(field for field in fields if field[0] != b"content-length")
        return self._inheritance.headers_for(fields), declared


def _refuse_second_request(body: bytes, offset: int) -> None:
    """Refuse a body without Content-Length that seems to be, or to hold, the next call."""
    if _SECOND_REQUEST.match(body):
        what = "a second request in the part: each has a part of its own, or a Content-Length"
        raise MalformedError(what, offset=offset + len(body) - len(body.lstrip()))
    lower = body.lower()
    if b"application/http" in lower:
        # The first line may be a header too, behind a delimiter's rest or without one.
        found = _NEXT_PART.search(b"\n" + lower)
        if found is not None:
            what = (
                "the headers of a part in a body: is its delimiter broken? Or add a Content-Length"
            )
            raise MalformedError(what, offset=offset + found.start())
    found = _REQUEST_IN_BODY.search(body) if b" HTTP/" in body else None
    found = found or _BARE_REQUEST_IN_BODY.search(body)
    if found is not None:
        what = "a request in a body: is its delimiter broken? Or add a Content-Length"
        raise MalformedError(what, offset=offset + found.start(1))


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


def write_call(call: Call) -> Content:
    """
    Write a call as the content of a part.

    Raises:
        ValueError: A call like this could not be read.
    """
    line = b"%b %b" % (call.method.encode("ascii"), call.path)
    if call.query:
        line += b"?" + call.query
    line += b" HTTP/1.1"
    found = _REQUEST_LINE.fullmatch(line)
    if found is None or found[2] != call.path:
        raise ValueError(f"no request line: {line!r}")
    head = [b"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"]
    if call.content_id:
        head.append(_write_field(b"content-id", call.content_id))
    head.append(b"\r\n%b\r\n" % line)
    declared = False
    for name, value in call.headers:
        if name == b"transfer-encoding":
            raise ValueError("a call cannot have a Transfer-Encoding")
        if name == b"content-length":
            declared = True
        else:
            head.append(_write_field(name, value))
    if call.body or declared:
        head.append(b"Content-Length: %d\r\n" % len(call.body))
    head.append(b"\r\n")
    return b"".join(head), call.body


def _write_field(name: bytes, value: bytes) -> bytes:
    if not is_token(name) or not is_value(value):
        raise ValueError(f"no header: {name!r}: {value!r}")
    return b"%b: %b\r\n" % (write_name(name), value)
