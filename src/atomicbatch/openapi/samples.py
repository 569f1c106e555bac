"""Samples: a value that a JSON schema of an OpenAPI document allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Deep enough for real schemas; it stops at schemas that contain themselves.
_DEEPEST = 8
_BY_FORMAT = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05Z",
    "time": "03:04:05",
    "duration": "PT1H",
    "email": "somebody@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "decimal": "1",
    "byte": "QQ==",
}


class Samples:
    """
    Makes values for one document.

    Args:
        document: The OpenAPI document; ``$ref`` is looked up in it.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def resolve(self, node: Any) -> Mapping[str, Any]:
        """Follow ``$ref``; if it leads nowhere, return an empty schema, which allows everything."""
        for _ in range(_DEEPEST):
            if not isinstance(node, Mapping):
                return {}
            reference = node.get("$ref")
            if not isinstance(reference, str):
                return node
            node = self._document
            for part in reference.removeprefix("#/").split("/"):
                part = part.replace("~1", "/").replace("~0", "~")
                node = node.get(part) if isinstance(node, Mapping) else None
        return {}

    def given(self, node: Any) -> tuple[Any, ...]:
        """The example or default that a parameter, media type or schema has itself, if any."""
        node = self.resolve(node)
        for name in ("example", "const", "default"):
            if name in node:
                return (node[name],)
        examples = node.get("examples")
        if isinstance(examples, list) and examples:
            return (examples[0],)
        if isinstance(examples, Mapping):
            for example in examples.values():
                example = self.resolve(example)
                if "value" in example:
                    return (example["value"],)
        return ()

    def value(self, schema: Any, depth: int = 0) -> Any:
        """Make a value: the schema's example or default, else the plainest that it allows."""
        schema = self.resolve(schema)
        if given := self.given(schema):
            return given[0]
        if schema.get("enum"):
            return schema["enum"][0]
        if depth > _DEEPEST:
            return None
        for name in ("anyOf", "oneOf"):
            if choices := schema.get(name):
                resolved = [self.resolve(choice) for choice in choices]
                useful = [choice for choice in resolved if choice.get("type") != "null"]
                return self.value((useful or resolved)[0], depth + 1)
        if parts := schema.get("allOf"):
            values = [self.value(part, depth + 1) for part in parts]
            objects = [value for value in values if isinstance(value, dict)]
            own = self._object(schema, depth) if "properties" in schema else {}
            if not objects:
                return values[0]
            return {name: value for one in [*objects, own] for name, value in one.items()}
        return self._of_kind(_kind(schema), schema, depth)

    def _of_kind(self, kind: str, schema: Mapping[str, Any], depth: int) -> Any:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                if "prefixItems" in schema:
                    return [self.value(item, depth + 1) for item in schema["prefixItems"]]
                count = max(1, schema.get("minItems", 1))
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]
            case "integer":
                return int(_number(schema, 1))
            case "number":
                return _number(schema, 0)
            case "boolean":
                return False
            case "null":
                return None
        return _text(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        made = {}
        for name in schema.get("required", ()):
            made[name] = self.value(properties.get(name, {}), depth + 1)
        for name, inner in properties.items():
            # The app fills in defaults itself. Examples are what its author wants to be sent.
            inner = self.resolve(inner)
            if name not in made and ("example" in inner or inner.get("examples")):
                made[name] = self.given(inner)[0]
        return made


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind)


def _number(schema: Mapping[str, Any], step: float) -> float:
    """1, or the nearest number that the bounds allow; ``step`` is 1 for whole numbers."""
    step = schema.get("multipleOf", step)
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    # OpenAPI 3.0 has flags beside the bounds, where JSON Schema has other bounds.
    above = least if above is True else None if above is False else above
    below = most if below is True else None if below is False else below
    gap = step or ((below - above) / 2 if above is not None and below is not None else 1)
    if above is not None:
        least = above + gap
    if below is not None:
        most = below - gap
    value: float = step or 1
    if least is not None:
        value = max(value, least)
    if most is not None:
        value = min(value, most)
    if step and (over := value % step):
        up = value - over + step
        value = up if most is None or up <= most else value - over
    return value


def _text(schema: Mapping[str, Any]) -> str:
    text = _BY_FORMAT.get(str(schema.get("format")), "text")
    text = text.ljust(schema.get("minLength") or 0, "x")
    most = schema.get("maxLength")
    return text if most is None else text[:most]
