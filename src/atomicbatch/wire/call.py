"""One part <-> Call, RFC 9112 and SPEC 2.4 to 2.6. The request line is read in ``target.py``."""

from __future__ import annotations

import re
from collections.abc import Collection

from atomicbatch.errors import MalformedError, UnsupportedError, WireError
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Headers
from atomicbatch.wire.grammar import find_empty_line, is_token, is_value, read_fields, write_name
from atomicbatch.wire.inherit import Inheritance
from atomicbatch.wire.message import NOT_DECLARED, PartReader, declared_length, read_body
from atomicbatch.wire.multipart import Content
from atomicbatch.wire.target import Target, TargetReader, write_request_line

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
        self._targets = TargetReader(batch_paths)
        self._requests: dict[bytes, Target] = {}
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

    def _read_request_line(self, line: bytes) -> Target:
        """Read a request line; the query holds what the call inherits."""
        target = self._targets.read(line)
        return Target(target.method, target.path, self._inheritance.query_for(target.query))

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


def write_call(call: Call) -> Content:
    """
    Write a call as the content of a part.

    Raises:
        ValueError: A call like this could not be read.
    """
    line = write_request_line(Target(call.method, call.path, call.query))
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
