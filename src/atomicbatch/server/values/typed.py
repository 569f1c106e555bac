"""
Typed: JSON objects of known members -> driver parameters, in one step.

A decoder that knows what to expect takes a third of the time of a dictionary and a conversion for
each value. It takes fewer objects than the codecs do, and words no errors: whoever gets nothing
from it goes to the codecs. What it takes, they take with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.values.codec import Codec, ValueProblem, encode_json

Values: TypeAlias = tuple[Any, ...]
_as_tuple: Callable[[Any], Values] = msgspec.structs.astuple


class TypedObject:
    """
    The JSON objects that have exactly these members, in this order.

    SQLite looks at the columns of a row in its own order, whatever the order in a statement is, so
    nobody can tell one order from another there.

    Args:
        members: The name and codec of each; see ``can_be_typed``. No value may contain an object.
        dialect: Whose columns they are.
    """

    __slots__ = ("_conversions", "_decode", "_marks", "_no_nul")

    def __init__(self, members: Sequence[tuple[str, Codec]], dialect: Dialect) -> None:
        fields = [
            (f"f{index}", _type(codec), msgspec.field(name=name))
            for index, (name, codec) in enumerate(members)
        ]
        struct = msgspec.defstruct("Body", fields, forbid_unknown_fields=True, gc=False)
        # Where the type says nothing, a number is decoded as it is for the codecs.
        self._decode = msgspec.json.Decoder(struct, float_hook=Decimal).decode
        # Few texts hold a NUL. Those of PostgreSQL cannot, so its codecs refuse it.
        self._no_nul = dialect.name == "postgresql"
        self._marks = [encode_json(name) + b":" for name, _ in members if dialect.name != "sqlite"]
        self._conversions = [
            (index, convert)
            for index, (_, codec) in enumerate(members)
            if (convert := codec.from_json if codec.typed is None else codec.from_typed)
        ]

    def values(self, text: bytes) -> Values | None:
        """
        The values of the members, in their order; None if the codecs have to look.

        They are what the codecs get, but a number of a FLOAT column is a float already.
        """
        try:
            values = _as_tuple(self._decode(text))
        except (msgspec.DecodeError, RecursionError):
            return None
        if self._no_nul and b"\\u0000" in text:
            return None
        if self._marks:
            position = -1
            for mark in self._marks:
                before, position = position, text.find(mark)
                if position <= before:  # in another order, or written in another way
                    return None
        return values

    def parameters(self, values: Values) -> Sequence[Any] | None:
        """The driver's parameters for ``values``; None if the codecs have to look."""
        if not self._conversions:
            return values
        parameters = list(values)
        try:
            for index, convert in self._conversions:
                value = values[index]
                if value is not None:
                    parameters[index] = convert(value)
        except ValueProblem:
            return None
        return parameters


def can_be_typed(name: str) -> bool:
    """
    Whether a member can be one of a ``TypedObject``.

    The order of an object's members is read off their names, so none may need an escape.
    """
    return encode_json(name) == b'"%b"' % name.encode() and '"' not in name


def _type(codec: Codec) -> Any:
    return Any if codec.typed is None else codec.typed | None
