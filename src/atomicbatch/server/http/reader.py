"""
Reader: the bytes of one client -> heads, bodies and ends of requests (HTTP/1.1, RFC 9112).

httptools reads the grammar. What is here bounds it, and refuses what a proxy in front of us could
read in another way than we do. It never waits, and knows neither the socket nor the application.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

import httptools

from atomicbatch.model import Header

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)
_FRAMING = (b"content-length", b"transfer-encoding")


class Head(NamedTuple):
    """
    A request's line and headers.

    Attributes:
        target: Path and query.
        headers: Names in lower case.
        version: ``1.1`` or ``1.0``.
        keep_alive: The client lets the connection go on after the response.
        expects_continue: The client waits for a 100 before it sends the body.
    """

    method: str
    target: bytes
    headers: list[Header]
    version: str = "1.1"
    keep_alive: bool = False
    expects_continue: bool = False


class Taker(Protocol):
    """What a reader hands its requests to: a connection."""

    def take_head(self, head: Head) -> None:
        """A request has begun; its body follows."""

    def take_body(self, body: bytes) -> None:
        """Bytes of its body have come."""

    def take_end(self) -> None:
        """The request has arrived as a whole."""

    def wait_for_head(self) -> None:
        """A head has begun to come, and is not complete yet."""

    def refuse_head(self) -> None:
        """A head is longer than it may be."""

    def refuse_malformed(self, why: str) -> None:
        """What has come is no HTTP request."""


class Reader:
    """
    Reads requests, one after another.

    Args:
        taker: Is called within ``feed``, and may call ``end`` then.
        max_head_bytes: Bounds a head, and everything around a body that is not the body.

    Attributes:
        in_head: A head has begun to come, and is not complete yet.
        target: Of the request that came last, as far as it has come.
    """

    def __init__(self, taker: Taker, *, max_head_bytes: int) -> None:
        self._taker = taker
        self._max_head_bytes = max_head_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._ended = False
        self.in_head = False
        self._in_body = False
        self.target = b""
        self._headers: list[Header] = []
        self._expects_continue = False
        self._head_bytes = 0
        self._framing_bytes = 0
        # The client wants another protocol; the head is being read again, without that wish.
        self._upgrading = self._resuming = False
        # What has happened since ``feed`` was called.
        self._head_began = self._body_came = self._request_ended = False

    def end(self) -> None:
        """Read nothing more, whatever comes."""
        self._ended = True
        self.in_head = self._in_body = False

    def close(self) -> None:
        """Let go of the parser, which refers to this reader, and of the taker."""
        self.end()
        del self._parser, self._taker

    def feed(self, data: bytes) -> None:
        """
        Take the next bytes.

        Raises:
            RuntimeError: The taker has raised.
        """
        if self._ended:
            return
        self._head_began = self._body_came = self._request_ended = False
        rest = data
        try:
            while rest:
                try:
                    self._parser.feed_data(rest)
                    rest = b""
                except httptools.HttpParserUpgrade as upgrade:
                    rest = self._refuse_upgrade(rest[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            raise RuntimeError("reading a request failed") from error  # a mistake of ours
        except httptools.HttpParserError as error:
            self._refuse(str(error))
        if self.in_head:
            self._check_head(len(data))
        elif self._in_body and not self._body_came:
            self._check_framing(len(data))

    # httptools' callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._resuming or self._ended:
            return
        self.in_head = self._head_began = True
        self._head_bytes = 0
        self.target = b""
        self._headers = []
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        """Take bytes of the request's target."""
        if not self._resuming:
            self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; after a body it is a trailer, which nobody needs."""
        if self.in_head:
            name = name.lower()
            value = value.rstrip(b" \t")  # the parser keeps them (RFC 9112, section 5.1)
            if name == b"expect":
                self._expects_continue = value.lower() == b"100-continue"
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self._resuming:
            self._resuming = False
            return
        if self._ended:
            return
        self.in_head = False
        headers, parser = self._headers, self._parser
        size = len(self.target) + sum([len(name) + len(value) + 4 for name, value in headers])
        if size > self._max_head_bytes:
            self._taker.refuse_head()
            return
        version = parser.get_http_version()
        target = self.target if self.target[:1] == b"/" else self._path_of_url()
        if target is None or b"#" in target or version not in ("1.1", "1.0"):
            self._refuse("the request line is not METHOD /path HTTP/1.1")
            return
        coded = [value for name, value in headers if name == b"transfer-encoding"]
        if coded and (version == "1.0" or [value.lower() for value in coded] != [b"chunked"]):
            # The parser accepts any list that ends in chunked, and decodes only that (RFC 9112,
            # section 6.1). A proxy in front may decode the rest, and would see another body.
            self._refuse("Transfer-Encoding can only be chunked, once, and in HTTP/1.1")
            return
        self._upgrading = parser.should_upgrade()
        self._in_body = True
        self._taker.take_head(
            Head(
                parser.get_method().decode("ascii"),
                target,
                headers,
                version,
                keep_alive=version == "1.1" and parser.should_keep_alive(),
                expects_continue=self._expects_continue and version == "1.1",
            )
        )

    def on_body(self, body: bytes) -> None:
        """Take bytes of a body."""
        self._body_came = True
        self._framing_bytes = 0
        if not self._ended:
            self._taker.take_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived as a whole."""
        if self._upgrading:
            return  # so says the parser, which takes the body for bytes of the new protocol
        self._in_body = False
        self._request_ended = True
        self._framing_bytes = 0
        if not self._ended:
            self._taker.take_end()

    # Inside

    def _path_of_url(self) -> bytes | None:
        """
        The path of a target that does not begin with one (RFC 9112, section 3.2).

        A whole URL is meant for the host that it names, whatever the Host header says. If the
        header says something else, both are kept, and the application refuses the request.
        """
        if self.target == b"*":
            return self.target
        match = _ABSOLUTE.fullmatch(self.target)
        if match is None:
            return None
        if [value for name, value in self._headers if name == b"host"] != [match[1]]:
            self._headers.append((b"host", match[1]))
        path = match[2]
        return path if path.startswith(b"/") else b"/" + path

    def _refuse_upgrade(self, rest: bytes) -> bytes:
        """
        Go on in HTTP/1.1 with a client that has asked for another protocol.

        The parser takes a body that comes with the request for bytes of the new protocol. Java's
        client asks for HTTP/2 in this way, with POST too. So a new parser is told of the body's
        length, and reads it as what it is.
        """
        self._upgrading = False
        if self._ended:
            return b""
        framing = [header for header in self._headers if header[0] in _FRAMING]
        if not framing:
            self.on_message_complete()
            return rest
        self._resuming = True
        self._parser = httptools.HttpRequestParser(self)
        lines = b"".join([b"%b: %b\r\n" % header for header in framing])
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % lines)
        return rest

    def _check_head(self, fed: int) -> None:
        """Bound a head that is not complete yet, in bytes; the taker bounds it in time."""
        if self._head_began:
            self._taker.wait_for_head()
            # After another request, how many of these bytes belong to the head is not known: none
            # counts.
            fed = 0 if self._request_ended else fed
        self._head_bytes += fed
        if self._head_bytes > self._max_head_bytes:
            self._taker.refuse_head()

    def _check_framing(self, fed: int) -> None:
        """Bound what comes with a body and is not the body: extensions of chunks, and trailers."""
        self._framing_bytes += fed
        if self._framing_bytes > self._max_head_bytes:
            self._refuse("there is more around its body than in it")

    def _refuse(self, why: str) -> None:
        if not self._ended:
            self._taker.refuse_malformed(why)
