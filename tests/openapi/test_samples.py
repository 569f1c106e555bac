"""A value that a schema allows, by the judgement of a validator."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from atomicbatch.openapi.samples import Samples

DOCUMENT = {
    "components": {
        "schemas": {
            "Item": {
                "type": "object",
                "required": ["name", "parent"],
                "properties": {
                    "name": {"type": "string", "minLength": 7},
                    "parent": {"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/Id"}]},
                    "note": {"type": "string", "default": "none"},
                    "colour": {"type": "string", "examples": ["red"]},
                },
            },
            "Id": {"type": "integer", "minimum": 3},
            "Tree": {
                "type": "object",
                "properties": {
                    "below": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}
                },
                "required": ["below"],
            },
        }
    }
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer"},
        {"type": "integer", "minimum": 5, "maximum": 5},
        {"type": "integer", "exclusiveMinimum": 5},
        {"type": "integer", "exclusiveMaximum": 0},
        {"type": "integer", "minimum": 2.5},
        {"type": "integer", "multipleOf": 7, "minimum": 8},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
        {"type": "number", "maximum": -3.5},
        {"type": "string", "maxLength": 2},
        {"type": "string", "minLength": 9},
        {"type": "string", "format": "uuid"},
        {"type": "string", "format": "date-time"},
        {"type": "string", "enum": ["a", "b"]},
        {"type": ["null", "boolean"]},
        {"const": 4},
        {"type": "array", "items": {"type": "integer"}, "minItems": 2},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        {"allOf": [{"$ref": "#/components/schemas/Item"}, {"type": "object"}]},
        {
            "allOf": [{"type": "object", "required": ["a"], "properties": {"a": {"const": 1}}}],
            "properties": {"b": {"type": "integer"}},
            "required": ["b"],
        },
        {"oneOf": [{"type": "null"}, {"type": "string"}]},
        {"$ref": "#/components/schemas/Item"},
        {},
    ],
    ids=str,
)
def test_the_value_is_valid(schema: dict[str, Any]) -> None:
    """Whatever bounds, choices, references and parts there are."""
    value = Samples(DOCUMENT).value(schema)
    jsonschema.validate(
        value,
        schema | DOCUMENT,
        jsonschema.Draft202012Validator,
        format_checker=jsonschema.FormatChecker(),
    )


def test_flags_of_openapi_3_0() -> None:
    """There, an exclusive bound is a flag beside the bound."""
    schema = {"type": "integer", "minimum": 4, "exclusiveMinimum": True}
    assert Samples({}).value(schema) == 5
    schema = {"type": "integer", "maximum": 0, "exclusiveMaximum": True}
    assert Samples({}).value(schema) == -1


def test_examples_go_first_and_defaults_stay_out() -> None:
    """What the author shows is sent; what the app would fill in is left to it."""
    value = Samples(DOCUMENT).value({"$ref": "#/components/schemas/Item"})
    assert value == {"name": "textxxx", "parent": 3, "colour": "red"}
    assert Samples({}).value({"type": "integer", "example": 12}) == 12


def test_a_schema_that_holds_itself() -> None:
    """There is an end."""
    assert "below" in Samples(DOCUMENT).value({"$ref": "#/components/schemas/Tree"})
