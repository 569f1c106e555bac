"""Codec of JSON documents, which keep their text as it is written."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import msgspec

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.values.codec import WHOLE, Codec, ValueProblem, as_stored, encode_json
from atomicbatch.server.values.kinds import Bounds


def json_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    sqlite = dialect.name == "sqlite"

    def from_json(value: Any) -> str:
        text = (bytes(value) if isinstance(value, msgspec.Raw) else encode_json(value)).decode()
        if sqlite and text[:1] in "-0123456789":
            _check_sqlite_number(name, text)
        return text

    def from_text(text: str) -> str:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise ValueProblem(name, "must be JSON") from None
        return from_json(msgspec.Raw(text.encode()))

    def to_json(value: Any) -> Any:
        if value.__class__ is not str:
            return as_stored(value)
        # The database's own text, as it stands: no digit is lost to a float. Only PostgreSQL
        # proves that it is JSON; elsewhere a row may hold anything.
        if dialect.name != "postgresql":
            try:
                msgspec.json.decode(value)
            except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
                return value
        return msgspec.Raw(value.encode())

    return Codec(from_json, from_text, to_json)


def _check_sqlite_number(name: str, text: str) -> None:
    """Refuse a document that is but a number, where SQLite would keep a rounded one."""
    value = Decimal(text)
    if not (WHOLE.fullmatch(text) and -(2**63) <= int(text) < 2**63):
        stored = float(value)
        if not math.isfinite(stored) or Decimal(repr(stored)) != value:
            raise ValueProblem(name, "has more digits than SQLite keeps in a number", status=422)
