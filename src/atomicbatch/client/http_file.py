"""Http file: an ``.http`` file, as VS Code and JetBrains write them -> calls."""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import quote, urlsplit

from atomicbatch.model import Call


class HttpFileError(Exception):
    """An ``.http`` file is not understood; the message names file and line."""


class HttpFile(NamedTuple):
    """What an ``.http`` file holds."""

    calls: tuple[Call, ...]
    names: tuple[str, ...]
    """A name for each call: what the file says, or an empty string."""
    origin: str | None
    """Scheme and host that its full URLs have in common, or None where it has none."""


@dataclass
class _Line:
    number: int
    text: str


_SEPARATOR = re.compile(r"###+[ \t]*(.*)")
_NAME = re.compile(r"(?:#|//)[ \t]*@name[ \t]+(\S+)")
_VARIABLE = re.compile(r"@([A-Za-z_][\w.-]*)[ \t]*=[ \t]*(.*)")
_PLACEHOLDER = re.compile(r"\{\{[ \t]*([^{}]*?)[ \t]*\}\}")
_REQUEST = re.compile(r"(?:([A-Z]+)[ \t]+)?(\S.*?)(?:[ \t]+HTTP/[\d.]+)?[ \t]*")
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*:[ \t]*(.*?)[ \t]*")
# What JetBrains adds for its own client: none of it can be done in a batch.
_SCRIPT = re.compile(r"(>>!?[ \t]|>[ \t]|[<>][ \t]*\{%|<>[ \t])")
_INCLUDE = re.compile(r"<(@\S*)?[ \t]+(\S.*)")
_MOST_EXPANSIONS = 20


def read_http_file(path: Path, variables: Mapping[str, str] | None = None) -> HttpFile:
    """
    Read an ``.http`` file.

    Args:
        path: The file; what it includes must be in its folder or below.
        variables: Override the file's own ``@name = value``.

    Raises:
        HttpFileError: It cannot be read, or holds something that no batch can express.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise HttpFileError(f"{path}: {error}") from error
    return _Reader(path, text, variables or {}).whole()


class _Reader:
    def __init__(self, path: Path, text: str, variables: Mapping[str, str]) -> None:
        self._path = path
        # Not splitlines(): it also splits at U+2028 and the like, which a JSON string may hold.
        self._lines = [_Line(n, line) for n, line in enumerate(text.split("\n"), 1)]
        self._variables: dict[str, str] = {}
        self._given = dict(variables)
        self._origin: str | None = None

    def whole(self) -> HttpFile:
        calls, names = [], []
        for name, lines in self._sections():
            read = self._section(lines)
            if read is not None:
                call, own_name = read
                calls.append(call)
                names.append(own_name or name)
        if not calls:
            raise HttpFileError(f"{self._path}: there is no request in it")
        return HttpFile(tuple(calls), tuple(names), self._origin)

    def _sections(self) -> list[tuple[str, list[_Line]]]:
        sections: list[tuple[str, list[_Line]]] = [("", [])]
        for line in self._lines:
            match = _SEPARATOR.fullmatch(line.text)
            if match:
                sections.append((match[1].strip(), []))
            else:
                sections[-1][1].append(line)
        return sections

    def _section(self, lines: list[_Line]) -> tuple[Call, str] | None:
        name, rest = self._preliminaries(lines)
        if not rest:
            return None
        first, *rest = rest
        target = first.text
        while rest and re.match(r"[ \t]+[?&]", rest[0].text):
            target += rest.pop(0).text.strip()
        method, path, query = self._request_line(first, target)
        headers = []
        while rest and rest[0].text.strip():
            line = rest.pop(0)
            if line.text.startswith(("#", "//")):
                continue
            match = _HEADER.fullmatch(line.text)
            if match is None:
                self._fail(line, "this is no header, and no empty line stands before it")
            value = self._expand(match[2], line)
            if not value.isprintable():
                self._fail(line, "a header's value holds a control character")
            headers.append((match[1].lower().encode(), value.encode()))
        body = self._body(rest[1:])
        return Call(method, path, query, tuple(headers), body), name

    def _preliminaries(self, lines: list[_Line]) -> tuple[str, list[_Line]]:
        """Comments and variables before a request; the name they give it, and what follows."""
        name = ""
        for index, line in enumerate(lines):
            text = line.text.strip()
            if match := _NAME.fullmatch(text):
                name = match[1]
            elif match := _VARIABLE.fullmatch(text):
                self._variables[match[1]] = match[2].strip()
            elif _SCRIPT.match(text):
                self._fail(line, "scripts and response files cannot run in a batch")
            elif text and not text.startswith(("#", "//")):
                return name, lines[index:]
        return name, []

    def _request_line(self, line: _Line, text: str) -> tuple[str, bytes, bytes]:
        match = _REQUEST.fullmatch(self._expand(text.strip(), line))
        if match is None:
            self._fail(line, "this is no request line")
        method, url = match[1] or "GET", match[2]
        if "://" in url:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                self._fail(line, f"{url} is no URL of a web server")
            origin = f"{parts.scheme}://{parts.netloc}"
            if self._origin not in (None, origin):
                self._fail(
                    line, f"one batch goes to one server, not to {origin} and {self._origin}"
                )
            self._origin = origin
            url = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not url.startswith("/"):
            self._fail(line, "a URL is '/path' or 'http://host/path'")
        path, _, query = url.partition("?")
        # What editors let people write as it is: spaces, and text of any script.
        path, query = (
            quote(part, safe="!$%&'()*+,-./:;=?@_~[]\"<>{}|^`") for part in (path, query)
        )
        return method, path.encode(), query.encode()

    def _body(self, lines: list[_Line]) -> bytes:
        while lines and not lines[-1].text.strip():
            lines = lines[:-1]
        pieces = []
        for line in lines:
            text = line.text
            if _SCRIPT.match(text):
                self._fail(line, "scripts and response files cannot run in a batch")
            include = _INCLUDE.fullmatch(text)
            # "<" starts XML and HTML too; only a path after a blank is an include.
            if include and re.match(r"[\w./~-]", include[2]) and not include[2].endswith(">"):
                pieces.append(self._include(include[2].strip(), line, expand=bool(include[1])))
            else:
                pieces.append(self._expand(text, line).encode())
        return b"\n".join(pieces)

    def _include(self, name: str, line: _Line, *, expand: bool) -> bytes:
        folder = self._path.resolve().parent
        path = (folder / self._expand(name, line)).resolve()
        if not path.is_relative_to(folder):
            self._fail(line, f"{name} is outside the folder of this file")
        try:
            content = path.read_bytes()
            return self._expand(content.decode(), line).encode() if expand else content
        except (OSError, UnicodeDecodeError) as error:
            self._fail(line, f"cannot include {name}: {error}")

    def _expand(self, text: str, line: _Line) -> str:
        for _ in range(_MOST_EXPANSIONS):
            expanded = _PLACEHOLDER.sub(lambda match: self._value(match[1], line), text)
            if expanded == text:
                return text
            text = expanded
        return self._fail(line, "its variables go round in circles")

    def _value(self, name: str, line: _Line) -> str:
        if name.startswith("$"):
            value = _dynamic(name[1:].split())
        else:
            value = self._given.get(name, self._variables.get(name))
        if value is None:
            self._fail(line, f"there is no variable {name!r}: set it with --var {name}=...")
        return value

    def _fail(self, line: _Line, what: str) -> NoReturn:
        raise HttpFileError(f"{self._path}:{line.number}: {what}")


def _dynamic(words: list[str]) -> str | None:
    """The value of a variable that both editors make up, or None."""
    match words:
        case ["guid" | "uuid" | "random.uuid"]:
            return str(uuid.uuid4())
        case ["timestamp"]:
            return str(int(time.time()))
        case ["isoTimestamp"]:
            return datetime.now(UTC).isoformat(timespec="milliseconds")
        case ["randomInt"]:
            return str(random.randint(0, 1000))
        case ["randomInt", low, high] if low.isdigit() and high.isdigit() and int(low) < int(high):
            return str(random.randrange(int(low), int(high)))
    return None
