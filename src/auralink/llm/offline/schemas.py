"""JSON schemas as both fillers read them: references resolved, alternatives in the order in which they are tried."""

from collections.abc import Mapping
from typing import Any

from auralink.llm.offline.finding import Schema

MOST_REFERENCES = 32


class Endless(ValueError):
    """A schema that refers to itself in a circle."""


def resolved(schema: object, root: Schema, depth: int = 0) -> Schema:
    """The schema that a reference means, `allOf` merged into one; `true` and what is no schema allow anything.

    Raises:
        Endless: the references go in a circle.
    """
    if depth > MOST_REFERENCES:
        raise Endless("its references go in a circle")
    for _ in range(MOST_REFERENCES):
        if not isinstance(schema, Mapping):
            return {}
        if "$ref" in schema:
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            schema = {**_target(str(schema["$ref"]), root), **rest}
        elif "allOf" in schema:
            schema = _merged(schema, root, depth)
        else:
            return schema
    raise Endless("its references go in a circle")


def alternatives(schema: Schema) -> list[Any]:
    """The schemas of which one has to hold, those that allow a value before null; empty if there is no choice."""
    choices = schema.get("anyOf") or schema.get("oneOf")
    if not choices:
        return []
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "oneOf")}
    merged = [{**rest, **choice} if isinstance(choice, Mapping) else rest for choice in choices]
    return sorted(merged, key=lambda choice: choice.get("type") == "null")


def type_of(schema: Schema) -> str | None:
    """The type of the values that a schema allows, null last; guessed from its keywords where it names none."""
    named = schema.get("type")
    if isinstance(named, list):
        named = next((each for each in named if each != "null"), "null")
    if named is not None:
        return str(named)
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else None


def _target(reference: str, root: Schema) -> Schema:
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _merged(schema: Schema, root: Schema, depth: int) -> Schema:
    whole = {name: value for name, value in schema.items() if name != "allOf"}
    for part in schema["allOf"]:
        for name, value in resolved(part, root, depth + 1).items():
            if name == "properties":
                whole[name] = {**whole.get(name, {}), **value}
            elif name == "required":
                whole[name] = [*dict.fromkeys([*whole.get(name, []), *value])]
            else:
                whole[name] = value
    return whole
