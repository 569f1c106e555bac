"""Variables: ``{{name}}`` in an ``.http`` file -> text, or an error; it is never sent as it is."""

from __future__ import annotations

import os
import random
import re
import string
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import quote

_PLACEHOLDER = re.compile(r"\{\{[ \t]*(%?)([^{}]*?)[ \t]*\}\}")
_LEFT = re.compile(r"\{\{.*?\}\}")
_DEFINITION = re.compile(r"[ \t]*@([^\s=@]+)[ \t]*=[ \t]*(.*?)[ \t]*")
_MOST_EXPANSIONS = 20


class VariableError(Exception):
    """A variable has no value, or one that could be read in two ways."""


class Variables:
    """
    The variables of one file.

    Args:
        given: Values from the command line; they override the file's own.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = dict(given)
        self._own: dict[str, str] = {}

    def define(self, line: str) -> bool:
        """
        Take ``@name = value``; return whether the line is a definition.

        Raises:
            VariableError: The editors do not agree on what it means.
        """
        match = _DEFINITION.fullmatch(line)
        if match is None:
            return False
        name, value = match.groups()
        if name not in self._given:
            # REST Client takes the last value for the whole file, JetBrains the one above.
            if self._own.get(name, value) != value:
                raise VariableError(f"@{name} has another value further up: use two names")
            # REST Client reads \n, \r and \t as control characters, JetBrains does not.
            if "\\" in value:
                raise VariableError(f"@{name} holds a backslash: set it with --var {name}=...")
        self._own[name] = value
        return True

    def expand(self, text: str) -> str:
        """
        Replace every ``{{name}}``; ``{{%name}}`` is percent-encoded.

        Raises:
            VariableError: One has no value, or refers to itself.
        """
        if "{{" not in text:
            return text
        for _ in range(_MOST_EXPANSIONS):
            try:
                expanded = _PLACEHOLDER.sub(self._value, text)
            except RecursionError:
                break
            if expanded == text:
                left = _LEFT.search(text)
                if left is not None:
                    raise VariableError(f"{left[0]!r} is not a variable")
                return text
            text = expanded
        raise VariableError("its variables refer to each other in a circle")

    def _value(self, match: re.Match[str]) -> str:
        percent, name = match.groups()
        value: str | None
        if name.startswith("$"):
            value = _made_up(name[1:])
        else:
            value = self._given.get(name, self._own.get(name))
        if value is None:
            if re.search(r"\.(response|request)\.", name):
                raise VariableError(
                    f"{name!r} refers to an earlier reply, which a batch does not have yet"
                )
            raise VariableError(f"there is no variable {name!r}: set it with --var {name}=...")
        return quote(self.expand(value), safe="!'()*") if percent else value


_CALL = re.compile(r"random\.(\w+)(?:\(([^()]*)\))?")
_LETTERS = {
    "alphabetic": string.ascii_letters,
    "alphanumeric": string.ascii_letters + string.digits + "_",
    "hexadecimal": "0123456789abcdef",
    "numeric": string.digits,
}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _made_up(name: str) -> str | None:
    """The value of a variable that the editors generate (its name without ``$``), or None."""
    match name.split():
        case ["guid" | "uuid" | "random.uuid"]:
            return str(uuid.uuid4())
        case ["timestamp", *offset]:
            seconds = _offset(offset)
            return None if seconds is None else str(int(time.time() + seconds))
        case ["isoTimestamp"]:
            return _iso(time.time())
        case ["datetime", form, *offset] if form in ("iso8601", "rfc1123"):
            seconds = _offset(offset)
            if seconds is None:
                return None
            now = time.time() + seconds
            return _iso(now) if form == "iso8601" else formatdate(now, usegmt=True)
        case ["randomInt"]:
            return str(random.randint(0, 1000))
        case ["randomInt", low, high]:
            return _between(low, high)
        case ["processEnv", variable]:
            return os.environ.get(variable)
        case [word] if word.startswith("env."):
            return os.environ.get(word[4:])
    called = _CALL.fullmatch(name)
    return None if called is None else _random(called[1], (called[2] or "").split(","))


def _random(what: str, arguments: list[str]) -> str | None:
    if what in ("integer", "float"):
        low, high = arguments if len(arguments) == 2 else ("0", "1000")
        whole = _between(low.strip(), high.strip())
        return whole if what == "integer" or whole is None else f"{whole}.{random.randrange(1000)}"
    if what == "email":
        return f"{uuid.uuid4().hex[:12]}@example.com"
    length = arguments[0].strip()
    if what in _LETTERS and length.isascii() and length.isdigit() and int(length) <= 10_000:
        return "".join(random.choices(_LETTERS[what], k=int(length)))
    return None


def _between(low: str, high: str) -> str | None:
    try:
        return str(random.randrange(int(low), int(high)))
    except ValueError:
        return None


def _iso(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _offset(words: list[str]) -> float | None:
    match words:
        case []:
            return 0.0
        case [number, unit] if unit in _SECONDS and re.fullmatch(r"[+-]?\d{1,9}", number):
            return int(number) * _SECONDS[unit]
    return None
