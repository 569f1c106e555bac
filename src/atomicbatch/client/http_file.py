"""
Http file: an ``.http`` file, as VS Code's REST Client and JetBrains write them -> calls.

Text that the two would read in different ways is refused, so that what is sent is what either
editor would have sent. The rules are in ``docs/reference/http-files.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from atomicbatch.client.request_text import Line, RequestError, RequestReader
from atomicbatch.client.variables import VariableError, Variables
from atomicbatch.model import Call


class HttpFileError(Exception):
    """An ``.http`` file is not understood; the message names file and line."""


class HttpFile(NamedTuple):
    """What an ``.http`` file holds."""

    calls: tuple[Call, ...]
    names: tuple[str, ...]
    """A name for each call, as the file has it; or an empty string."""
    origin: str | None
    """The scheme and host of its full URLs, which are the same for all; None if it has none."""


_SEPARATOR = re.compile(r"###+[ \t]*(.*)")
_COMMENT = re.compile(r"[ \t]*(?:#|//)")
_DIRECTIVE = re.compile(r"[ \t]*(?:#+|//+)[ \t]*@([\w-]+)[ \t=]*(.*?)[ \t]*")
# A response that an editor has put into the file.
_RESPONSE = re.compile(r"[ \t]*HTTP/\d")


def read_http_file(path: Path, variables: Mapping[str, str] | None = None) -> HttpFile:
    """
    Read an ``.http`` file.

    Args:
        path: The file; what it includes must be in its folder or below.
        variables: Override the file's own ``@name = value``.

    Raises:
        HttpFileError: It cannot be read, or holds something that a batch cannot express.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HttpFileError(f"{path}: this is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise HttpFileError(f"{path}: {error.strerror or error}") from error
    return _Reader(path, text, variables or {}).whole()


class _Section(NamedTuple):
    """What is between two separators, without comments and variables."""

    name: str
    lines: list[Line]


class _Reader:
    def __init__(self, path: Path, text: str, variables: Mapping[str, str]) -> None:
        self._path = path
        # Not splitlines(): it also splits at U+2028 and the like, which a JSON string may hold.
        self._lines = [Line(n, line) for n, line in enumerate(text.split("\n"), 1)]
        self._variables = Variables(variables)
        self._request = RequestReader(path.resolve().parent, self._variables)

    def whole(self) -> HttpFile:
        calls, names = [], []
        # All variables are known before the first request is read: in REST Client they hold for
        # the whole file.
        for section in [self._section(name, lines) for name, lines in self._separated()]:
            if not section.lines:
                continue
            try:
                calls.append(self._request.read(section.lines))
            except RequestError as error:
                self._fail(error.line, str(error))
            names.append(section.name)
        if not calls:
            raise HttpFileError(f"{self._path}: there is no request in it")
        return HttpFile(tuple(calls), tuple(names), self._request.origin)

    def _separated(self) -> list[tuple[str, list[Line]]]:
        sections: list[tuple[str, list[Line]]] = [("", [])]
        for line in self._lines:
            match = _SEPARATOR.fullmatch(line.text)
            if match:
                sections.append((match[1].strip(), []))
            else:
                sections[-1][1].append(line)
        return sections

    def _section(self, name: str, lines: list[Line]) -> _Section:
        for index, line in enumerate(lines):
            if _COMMENT.match(line.text):
                name = self._directive(line) or name
            elif line.text.strip() and not self._defines(line):
                if _RESPONSE.match(line.text):
                    break
                # Both editors remove comment lines wherever they are, also in bodies.
                rest = [other for other in lines[index:] if not _COMMENT.match(other.text)]
                return _Section(name, rest)
        return _Section(name, [])

    def _defines(self, line: Line) -> bool:
        try:
            return self._variables.define(line.text)
        except VariableError as error:
            self._fail(line, str(error))

    def _directive(self, line: Line) -> str:
        """Take ``# @name x``; return the name."""
        match = _DIRECTIVE.fullmatch(line.text)
        if match is None:
            return ""
        if match[1] == "note":
            self._fail(line, "@note asks before a request is sent; here nobody can be asked")
        return match[2] if match[1] == "name" else ""

    def _fail(self, line: Line, what: str) -> NoReturn:
        raise HttpFileError(f"{self._path}:{line.number}: {what}")
