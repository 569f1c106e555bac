"""One part <-> Call, RFC 9112 and SPEC 2.4 to 2.6. The request line is read in ``target.py``."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from atomicbatch.errors import MalformedError, UnsupportedError, WireError
from atomicbatch.model import Call, Headers
from atomicbatch.wire.grammar import find_empty_line, is_token, is_value, read_fields, write_name
from atomicbatch.wire.inherit import Inheritance
from atomicbatch.wire.memo import Memo
from atomicbatch.wire.message import (
    FRAMING,
    NOT_DECLARED,
    PartReader,
    declared_length,
    read_body,
)
from atomicbatch.wire.multipart import Content
from atomicbatch.wire.target import Target, write_request_line

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


# Headers that say more than that the call has them.
_SPECIAL = FRAMING.union(_UNSUPPORTED)
# Blocks of headers that are remembered, for one batch: they hold what is inherited too.
_MOST_BLOCKS, _MOST_BLOCK_BYTES = 1024, 8192


class _Block(NamedTuple):
    """What a block of a call's own headers comes to."""

    headers: Headers
    """All that the call sees, but for its Content-Length."""
    declared: int
    """What Content-Length says, or ``NOT_DECLARED``."""
    complete: Headers
    """All that a call sees whose body is as long as declared."""


class CallReader(PartReader):
    """
    Reads the calls of one batch.

    Args:
        inheritance: What every call takes over from the outer request. Its rules bound headers.
        batch_paths: Where the batch endpoint is: no call may be aimed there.
        newline: How most lines of the batch end.
    """

    def __init__(
        self,
        inheritance: Inheritance,
        batch_paths: Collection[bytes] = (),
        newline: bytes = b"\r\n",
    ) -> None:
        rules = inheritance.rules
        super().__init__(rules.limits, newline, rules.part_heads[newline])
        self._inheritance = inheritance
        self._read_target = rules.targets(tuple(batch_paths)).read
        self._blocks: Memo[bytes, _Block] = Memo(_MOST_BLOCKS, _MOST_BLOCK_BYTES)
        self._lengths: Memo[int, Headers] = Memo(_MOST_BLOCKS, 0)

    def read(self, content: bytes) -> Call:
        """
        Read one part.

        Raises:
            MalformedError: This is no call; ``offset`` counts from the start of the content.
            LimitError: A header block is too long.
            UnsupportedError: A header asks for something that batches do not do.
        """
        cut = self._cut(content)
        if cut is None:
            return self._read_any(content)
        content_id, line, block, body = cut
        try:
            if len(line) + len(block) >= self._small:
                self._check_size(b"%b\n%b" % (line, block), uncounted_lines=1)
            method, path, query = self._read_target(line)
            if self._inheritance.has_query:
                query = self._inheritance.query_for(query)
            known = self._blocks.get(block) or self._learn_block(block)
        except WireError:
            return self._read_any(content)  # which says where the error is
        headers, declared, complete = known
        if declared == len(body):
            headers = complete
        elif body or declared != NOT_DECLARED:
            body, headers = self._take_body(content, len(content) - len(body), known)
        # Takes a third of the time of Call(...), which batches make thousands of times.
        return tuple.__new__(Call, (method, path, query, headers, body, content_id))

    def _read_any(self, content: bytes) -> Call:
        """Read one part, whatever it looks like."""
        content_id, start = self._read_part_head(content)
        end, rest = find_empty_line(content, start)
        if end - start > self._small:
            self._check_size(content[start:end], start, uncounted_lines=1)
        line_end = content.find(b"\n", start, end)
        fields_start = line_end + 1
        if line_end < 0:
            line_end = fields_start = end
        try:
            method, path, query = self._read_target(content[start:line_end])
            query = self._inheritance.query_for(query)
        except WireError as error:
            error.offset = start
            raise
        try:
            known = self._read_block(content[fields_start:end])
        except WireError as error:
            error.offset = fields_start + (error.offset or 0)
            raise
        body, headers = self._take_body(content, rest, known)
        return Call(method, path, query, headers, body, content_id)

    def _learn_block(self, block: bytes) -> _Block:
        """Read a call's own headers and remember them. An empty line among them is an error."""
        length, others = _take_length(block)
        if length == NOT_DECLARED:
            return self._keep_block(block)
        known = self._blocks.get(others) or self._keep_block(others)
        if known.declared != NOT_DECLARED:
            return self._keep_block(block)
        complete = (*known.headers, (b"content-length", b"%d" % length))
        return self._blocks.keep(block, _Block(known.headers, length, complete), len(block))

    def _keep_block(self, block: bytes) -> _Block:
        return self._blocks.keep(block, self._read_block(block), len(block))

    def _read_block(self, block: bytes) -> _Block:
        """Read a call's own headers."""
        fields = read_fields(block, self._lines)
        declared = NOT_DECLARED
        if not _SPECIAL.isdisjoint([name for name, _ in fields]):
            for name, _ in fields:
                if name in _UNSUPPORTED:
                    raise UnsupportedError(f"{_UNSUPPORTED[name]} not supported", offset=0)
            declared = declared_length(fields)
            fields = tuple([field for field in fields if field[0] != b"content-length"])
        headers = self._inheritance.headers_for(fields)
        return _Block(headers, declared, self._with_length(headers, declared))

    def _take_body(self, content: bytes, start: int, known: _Block) -> tuple[bytes, Headers]:
        """Take a call's body; return it and all the headers that the call sees."""
        headers, declared, _ = known
        body = read_body(content, start, declared)
        if declared == NOT_DECLARED:
            if not body:
                return body, headers
            _refuse_second_request(body, len(content) - len(body))
        return body, self._with_length(headers, len(body))

    def _with_length(self, headers: Headers, length: int) -> Headers:
        """Append a Content-Length, if there is a length."""
        if length == NOT_DECLARED:
            return headers
        known = self._lengths.get(length)
        if known is None:
            known = self._lengths.keep(length, ((b"content-length", b"%d" % length),), 0)
        return headers + known


def _take_length(block: bytes) -> tuple[int, bytes]:
    """Take the line of the Content-Length out of a block, if there is one and it is a plain one."""
    before, _, rest = block.partition(b"Content-Length: ")
    digits, line_end, after = rest.partition(b"\n")
    digits = digits.removesuffix(b"\r")
    if not digits.isdigit() or len(digits) > 18 or (before and not before.endswith(b"\n")):
        return NOT_DECLARED, block
    if before == b"\n":
        # An empty line, which would not be there any more. All others would.
        return NOT_DECLARED, block
    return int(digits), before + after if line_end else before[:-1]


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
    if found is None and (b"\n\n" in body or b"\n\r\n" in body):
        found = _BARE_REQUEST_IN_BODY.search(body)
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
