"""Request text: the lines of one request in an ``.http`` file -> a call."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import quote, urlsplit

from atomicbatch.client.variables import VariableError, Variables
from atomicbatch.model import Call, Header
from atomicbatch.wire.call import write_call


class Line(NamedTuple):
    """A line of the file; numbers start at 1."""

    number: int
    text: str


class RequestError(Exception):
    """A request is not understood, or cannot be part of a batch; ``line`` says where."""

    def __init__(self, line: Line, what: str) -> None:
        super().__init__(what)
        self.line = line


_METHODS = frozenset({
    "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "LOCK",
    "UNLOCK", "PROPFIND", "PROPPATCH", "COPY", "MOVE", "MKCOL", "MKCALENDAR", "ACL", "SEARCH",
    "REPORT", "QUERY",
})  # fmt: skip
_OTHER_PROTOCOLS = frozenset({"GRAPHQL", "WEBSOCKET", "WS", "GRPC", "RSOCKET", "STOMP"})
_WORD = re.compile(r"([A-Za-z][A-Za-z-]*)[ \t]+(\S.*)")
_VERSION = re.compile(r"[ \t]+HTTP/(.*)", re.IGNORECASE)
_VERSION_NUMBER = re.compile(r"\d(?:\.\d)?(?:[ \t]+\(Prior Knowledge\))?[ \t]*", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A host without a scheme, if it can be nothing else.
_AUTHORITY = re.compile(
    r"(?:localhost|\[[0-9A-Fa-f:.]+\]|\d{1,3}(?:\.\d{1,3}){3})(?::\d+)?(?=[/?]|$)"
    r"|[A-Za-z0-9][A-Za-z0-9.-]*:\d+(?=[/?]|$)"
)
_HEADER = re.compile(r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*:[ \t]*(.*?)[ \t]*")
_TARGET = r"(?:https?://|/|\{\{|localhost|[A-Za-z0-9.-]+:\d+)\S*"
_REQUEST_LIKE = re.compile(
    rf"[ \t]*(?:(?:{'|'.join(sorted(_METHODS))})[ \t]+{_TARGET}.*"
    rf"|[A-Za-z]+[ \t]+{_TARGET}[ \t]+HTTP/\d.*)"
)
_URL_LINE = re.compile(r"[ \t]*(?:https?://|\{\{[^{}]*\}\}/)\S*(?:[ \t]+HTTP/\d.*)?[ \t]*")
# A URL alone that could be a header: "http", a colon, and a value.
_URL_HEADER = re.compile(r"[ \t]*(?:https?://|[\w.-]+:\d+[/?])\S*(?:[ \t]+HTTP/\d.*)?[ \t]*")
# What JetBrains adds for its own client. A batch can do none of it.
_SCRIPT = re.compile(r"[ \t]*(?:>>!?(?:[ \t]|$)|>[ \t]|[<>][ \t]*\{%)")
_RESPONSE_FILE = re.compile(r"[ \t]*<>[ \t]")
_INCLUDE = re.compile(r"<(?:(@)(\w*))?[ \t]+(\S.*?)[ \t]*")
# Spaces and letters of any script are percent-encoded; what is encoded already stays as it is.
_SAFE = "!$%&'()*+,-./:;=?@_~[]\"<>{}|^`"
_ENCODINGS = {"": "utf-8", "utf8": "utf-8", "ascii": "ascii", "latin1": "latin-1"}


class RequestReader:
    """
    Reads the requests of one file.

    Args:
        folder: Included files must be here or below.
        variables: The file's.

    Attributes:
        origin: Scheme and host of the requests so far; None if they name none.
    """

    def __init__(self, folder: Path, variables: Variables) -> None:
        self._folder = folder
        self._variables = variables
        self.origin: str | None = None

    def read(self, lines: list[Line]) -> Call:
        """
        Read one request.

        Args:
            lines: From its request line on, without comments.

        Raises:
            RequestError: It is not understood, or a batch cannot express it.
        """
        first, *rest = lines
        if _SCRIPT.match(first.text) or _INCLUDE.fullmatch(first.text):
            _fail(first, "scripts and response files cannot run in a batch")
        target, rest = self._target(first, rest)
        method, url = _request_line(first, self._expand(target, first))
        fields, rest = self._headers(rest)
        path, query = self._address(url, fields, first)
        content_type = _value(fields, b"content-type").lower()
        body = self._body(method, content_type, rest[1:])
        call = Call(method, path, query, tuple(fields), body)
        try:
            write_call(call)
        except ValueError as error:
            _fail(first, f"this cannot be a call of a batch: {error}")
        return call

    def _target(self, first: Line, rest: list[Line]) -> tuple[str, list[Line]]:
        """The request line, joined with the lines that continue it."""
        target = first.text.strip()
        while rest:
            text = rest[0].text.strip()
            indented = rest[0].text[:1] in (" ", "\t")
            if not (text.startswith(("?", "&")) or (indented and text and not _is_header(text))):
                break
            if text[0] not in "?&/" and "?" not in target and not target.endswith("/"):
                _fail(rest[0], "a line that continues a path starts with '/', '?' or '&'")
            target += text
            rest = rest[1:]
        return target, rest

    def _headers(self, rest: list[Line]) -> tuple[list[Header], list[Line]]:
        fields: list[Header] = []
        for index, line in enumerate(rest):
            if not line.text.strip():
                return fields, rest[index:]
            match = _HEADER.fullmatch(line.text)
            is_url = _URL_HEADER.fullmatch(line.text) is not None
            if match is None or is_url:
                if is_url or _REQUEST_LIKE.fullmatch(line.text):
                    _fail(line, "another request starts here: put '###' between requests")
                if _SCRIPT.match(line.text) or _RESPONSE_FILE.match(line.text):
                    _fail(line, "scripts and response files cannot run in a batch")
                _fail(line, "this is not a header, and there is no empty line before it")
            if line.text[:1] in (" ", "\t") and fields:
                _fail(line, "this header is indented: it may be meant to continue the one before")
            self._header(match[1].lower(), self._expand(match[2], line), line, fields)
        return fields, []

    def _header(self, name: str, value: str, line: Line, fields: list[Header]) -> None:
        if not value.isprintable():
            _fail(line, "a header's value holds a control character")
        if name == "x-request-type" and value.lower() == "graphql":
            _fail(line, "GraphQL requests are not written for you: write them as JSON")
        if name == "transfer-encoding":
            _fail(line, "a call of a batch cannot have a Transfer-Encoding")
        if name == "authorization":
            value = _authorization(value, line)
        if name == "host":
            # Both editors send a path to this host. In a batch, the outer request has the header.
            if "/" in value or not value:
                _fail(line, "Host is 'host' or 'host:port'")
            secure = value.rpartition(":")[2] in ("443", "8443")
            fields.append((b"host", f"{'https' if secure else 'http'}://{value}".encode()))
        elif name != "content-length":  # the right one is written for it
            fields.append((name.encode(), value.encode()))

    def _address(self, url: str, fields: list[Header], line: Line) -> tuple[bytes, bytes]:
        """The path and query of a URL; its origin must be that of the others."""
        if "#" in url:
            _fail(line, "what comes after '#' would not be sent: write '#' as %23")
        if not url.isprintable():
            _fail(line, "the URL holds a control character")
        if _AUTHORITY.match(url):
            url = f"http://{url}"
        scheme = _SCHEME.match(url)
        host = _value(fields, b"host")
        fields[:] = [field for field in fields if field[0] != b"host"]
        if scheme:
            url = self._without_origin(url, line, host)
        elif host:
            self._come_from(host, line)
        if not url.startswith("/"):
            _fail(line, "a URL is '/path', 'http://host/path' or 'host:port/path'")
        path, mark, query = url.partition("?")
        if path.startswith("//"):
            _fail(line, "the path starts with two slashes")
        encoded = [quote(part, safe=_SAFE).encode() for part in (path, query)]
        if mark and not query:
            encoded[1] = b""
        return encoded[0], encoded[1]

    def _without_origin(self, url: str, line: Line, host: str) -> str:
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - it is checked when it is read
        except ValueError as error:
            _fail(line, f"{url} is not a URL: {error}")
        if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
            _fail(line, f"{url} is not the URL of a web server")
        if host and host.partition("://")[2].lower() != parts.netloc.lower():
            _fail(
                line, "the Host header and the URL name different hosts: one batch goes to one host"
            )
        self._come_from(f"{parts.scheme.lower()}://{parts.netloc}", line)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _come_from(self, origin: str, line: Line) -> None:
        if self.origin not in (None, origin):
            _fail(line, f"one batch goes to one server, not to {origin} and {self.origin}")
        self.origin = origin

    def _body(self, method: str, content_type: str, lines: list[Line]) -> bytes:
        lines = _without_response_files(lines)
        while lines and not lines[-1].text.strip():
            lines = lines[:-1]
        while lines and not lines[0].text.strip():
            lines = lines[1:]
        nested = content_type.startswith(("multipart/", "message/http", "application/http"))
        pieces: list[bytes] = []
        for line in lines:
            if not nested:
                _refuse_second_request(line, method, content_type)
            included = self._included(line)
            pieces.append(self._expand(line.text, line).encode() if included is None else included)
        media_type = content_type.partition(";")[0].strip()
        if media_type == "application/x-www-form-urlencoded":
            return _form(lines, pieces)
        if media_type.startswith("multipart/") and pieces:
            return b"\r\n".join(pieces) + b"\r\n"
        body = b"\n".join(pieces)
        return body + b"\n" if media_type == "application/x-ndjson" and body else body

    def _included(self, line: Line) -> bytes | None:
        """The content of the file that a line includes; None if it includes none."""
        match = _INCLUDE.fullmatch(line.text)
        # "<" starts XML and HTML too. Only "<", a blank and a path include a file.
        if not match or not re.match(r"[\w./~{-]", match[3]) or match[3].endswith(">"):
            return None
        with_variables, encoding, name = match.groups()
        path = (self._folder / self._expand(name, line)).resolve()
        if not path.is_relative_to(self._folder):
            _fail(line, f"{name} is outside the folder of this file")
        if (encoding or "").lower() not in _ENCODINGS:
            _fail(line, f"the encoding {encoding} is not known; use utf8, ascii or latin1")
        try:
            content = path.read_bytes()
            if not with_variables:
                return content
            text = content.decode(_ENCODINGS[encoding.lower()])
        except (OSError, ValueError) as error:
            _fail(line, f"cannot include {name}: {error}")
        return self._expand(text, line).encode()

    def _expand(self, text: str, line: Line) -> str:
        try:
            return self._variables.expand(text)
        except VariableError as error:
            _fail(line, str(error))


def _fail(line: Line, what: str) -> NoReturn:
    raise RequestError(line, what)


def _is_header(text: str) -> bool:
    return _HEADER.fullmatch(text) is not None and _SCHEME.match(text) is None


def _value(fields: list[Header], name: bytes) -> str:
    return next((value.decode() for key, value in fields if key == name), "")


def _request_line(line: Line, text: str) -> tuple[str, str]:
    """The method and the URL of a request line, variables replaced."""
    version = _VERSION.search(text)
    if version is not None:
        if not _VERSION_NUMBER.fullmatch(version[1]):
            _fail(line, f"HTTP/{version[1]} is not a version of HTTP")
        text = text[: version.start()]
    match = _WORD.fullmatch(text)
    if match is None:
        return "GET", text
    word, rest = match.groups()
    method = word.upper()
    if method in _OTHER_PROTOCOLS:
        _fail(line, f"{word} requests cannot be part of a batch")
    if word in ("curl", "import", "run"):
        _fail(line, f"{word!r} is not understood here: write the request itself")
    if method in _METHODS:
        return method, rest.strip()
    if word == method and re.match(_TARGET, rest):  # a method that the application has invented
        return method, rest.strip()
    _fail(line, f"this is not a request line: there is no method {word}")


def _refuse_second_request(line: Line, method: str, content_type: str) -> None:
    text = line.text
    if _SCRIPT.match(text):
        _fail(line, "scripts and response files cannot run in a batch")
    alone = method in ("GET", "HEAD", "DELETE") or not content_type
    if _REQUEST_LIKE.fullmatch(text) or (alone and _URL_LINE.fullmatch(text)):
        _fail(
            line,
            "another request starts here: put '###' between requests"
            " (if it is part of the body, include that from a file)",
        )
    if re.match(r"[ \t]*@[^\s=@]+[ \t]*=", text):
        _fail(line, "a variable is set above a request, not in its body")


def _without_response_files(lines: list[Line]) -> list[Line]:
    """Drop the references to saved responses that JetBrains adds at the end of a request."""
    start = next((n for n, line in enumerate(lines) if _RESPONSE_FILE.match(line.text)), len(lines))
    for line in lines[start:]:
        if line.text.strip() and not _RESPONSE_FILE.match(line.text):
            _fail(line, "this comes after a reference to a response: a '###' is missing")
    return lines[:start]


def _form(lines: list[Line], pieces: list[bytes]) -> bytes:
    """Join a form: JetBrains puts ``&`` at the end of a line, REST Client at the start."""
    text = ""
    for line, piece in zip(lines, pieces, strict=True):
        part = piece.decode("utf-8", "surrogateescape").strip()
        if text and part and not (text.endswith("&") or part.startswith("&")):
            _fail(
                line,
                "put '&' at the start of this line of the form, or at the end of the one before",
            )
        text += part
    pairs = (pair.partition("=") for pair in text.split("&"))
    joined = "&".join(name.strip() + sign + value.strip() for name, sign, value in pairs)
    return quote(joined, safe=_SAFE + "#\\", errors="surrogateescape").encode()


_PLAIN_BASIC = re.compile(r"basic[ \t]+(\S+?)(?:[ \t]+|:)(\S.*)", re.IGNORECASE)


def _authorization(value: str, line: Line) -> str:
    """Encode ``Basic user password`` as both editors do; refuse what needs an answer first."""
    scheme, _, rest = value.partition(" ")
    if scheme.lower() in ("digest", "aws", "cognito") and "=" not in rest:
        _fail(line, f"{scheme} is computed by the editors, but not here")
    match = _PLAIN_BASIC.fullmatch(value)
    if match is None:
        return value
    return "Basic " + base64.b64encode(f"{match[1]}:{match[2]}".encode()).decode()
