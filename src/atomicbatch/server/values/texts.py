"""Codecs of texts, bytes and UUIDs."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from typing import Annotated, Any

import msgspec

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.values.codec import Codec, ValueProblem, as_stored, json_type
from atomicbatch.server.values.kinds import Bounds


def text_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    length, choices = bounds.length, bounds.choices
    no_nul = dialect.name == "postgresql"

    def from_text(text: str) -> str:
        if length is not None and len(text) > length:
            raise ValueProblem(
                name, f"is longer than {length} characters", status=422, slug="value-too-long"
            )
        if no_nul and "\0" in text:
            raise ValueProblem(
                name, "contains a NUL character, which PostgreSQL cannot store", status=422
            )
        if choices is not None and text not in choices:
            raise ValueProblem(name, f"must be one of {', '.join(choices)}", status=422)
        return text

    def from_json(value: Any) -> str:
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be text, not {json_type(value)}")
        return from_text(value)

    return Codec(from_json, from_text, None, typed=_typed(length, choices))


def _typed(length: int | None, choices: tuple[str, ...] | None) -> Any:
    """The texts of a column, as a type for msgspec; who uses it has to refuse NUL."""
    if choices is not None:
        return None
    return str if length is None else Annotated[str, msgspec.Meta(max_length=length)]


def bytes_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    length = bounds.length

    def from_text(text: str) -> bytes:
        try:
            value = base64.b64decode(text.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise ValueProblem(name, "must be bytes in base64 (RFC 4648 section 4)") from None
        if length is not None and len(value) > length:
            raise ValueProblem(
                name, f"is longer than {length} bytes", status=422, slug="value-too-long"
            )
        return value

    def from_json(value: Any) -> bytes:
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be bytes in base64, not {json_type(value)}")
        return from_text(value)

    def to_json(value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return base64.b64encode(value).decode("ascii")
        return as_stored(value)

    return Codec(from_json, from_text, to_json)


# As Python, and all of the databases, write it.
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def uuid_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def from_text(text: str) -> str:
        if _UUID.fullmatch(text):
            return text
        if len(text) in (32, 36):
            try:
                return str(uuid.UUID(text))
            except ValueError:
                pass
        raise ValueProblem(name, "must be a UUID")

    def from_json(value: Any) -> str:
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be a UUID, not {json_type(value)}")
        return from_text(value)

    return Codec(from_json, from_text, as_stored if dialect.name == "sqlite" else None)
