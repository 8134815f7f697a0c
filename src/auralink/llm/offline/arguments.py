"""Fills the arguments of a tool from a request. What the request does not have stays out; without a required one there is no call."""

from collections.abc import Mapping
from typing import Any

from auralink.llm.offline.finding import MISSING, Finder, Schema
from auralink.llm.offline.schemas import Endless, alternatives, resolved, type_of

MOST_FIELDS = (200, 20, 5)
"""How many fields of an object are looked for, by how deep it is within others; none of one that is deeper."""


def fill(parameters: Schema, finder: Finder) -> tuple[dict[str, Any], list[str]]:
    """The arguments for a tool's parameters, and the names of the required ones that the text does not have."""
    try:
        return _object(resolved(parameters, parameters), finder, parameters, 0)
    except (Endless, TypeError, AttributeError, ValueError, LookupError, RecursionError):
        return {}, ["parameters that can be read"]  # no JSON schema, or one without end


def _object(schema: Schema, finder: Finder, root: Schema, depth: int) -> tuple[dict[str, Any], list[str]]:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = [name for name in schema.get("required") or () if isinstance(name, str)]
    given = finder.given(properties)
    found: dict[str, Any] = {}
    for name in [*required, *(name for name in properties if name not in required)][: MOST_FIELDS[depth]]:
        demanded = name in required
        value = given.get(name, MISSING)
        if value is MISSING:
            value = _value(name, resolved(properties.get(name, {}), root), finder, root, depth, demanded=demanded)
        if value is not MISSING and (demanded or value not in found.values()):
            found[name] = value
    return found, [name for name in required if name not in found]


def _value(name: str, schema: Schema, finder: Finder, root: Schema, depth: int, *, demanded: bool) -> Any:
    if "const" in schema:
        return schema["const"]
    if choices := alternatives(schema):
        tried = (_value(name, resolved(choice, root), finder, root, depth, demanded=demanded) for choice in choices)
        return next((value for value in tried if value is not MISSING), MISSING)
    if "enum" in schema:
        return _enumerated(name, schema, finder, demanded=demanded)
    if demanded or _is_asked_for(name, schema, finder):
        found = _typed(name, schema, finder, root, depth, demanded=demanded)
        if found is not MISSING:
            return found
    return schema.get("default", MISSING) if demanded else MISSING


def _is_asked_for(name: str, schema: Schema, finder: Finder) -> bool:
    """Whether an optional field is to be filled: its name stands in the text, or it is of a kind that is not mistaken."""
    if type_of(schema) in ("integer", "number", "boolean"):
        return True
    return finder.named(name) is not None or any(word in name.lower() for word in ("url", "repo", "email"))


def _enumerated(name: str, schema: Schema, finder: Finder, *, demanded: bool) -> Any:
    values = schema["enum"]
    texts = {str(value): value for value in values if isinstance(value, str | int | float)}
    explicit = finder.named(name)
    if explicit in texts:
        return texts[explicit]
    if (option := finder.option(list(texts))) is not None:
        return texts[option]
    if demanded and len(values) == 1:
        return values[0]
    return schema.get("default", MISSING) if demanded else MISSING


def _typed(name: str, schema: Schema, finder: Finder, root: Schema, depth: int, *, demanded: bool) -> Any:
    kind = type_of(schema)
    if kind in ("integer", "number"):
        return finder.number(name, schema, demanded=demanded)
    if kind == "boolean":
        return finder.boolean(name)
    if kind == "array":
        return _list(name, schema, finder, root, depth)
    if kind == "object":
        if depth + 1 >= len(MOST_FIELDS):
            return MISSING
        found, missing = _object(schema, finder, root, depth + 1)
        return MISSING if missing or not found else found
    return MISSING if kind == "null" else finder.string(name, schema, demanded=demanded)


def _list(name: str, schema: Schema, finder: Finder, root: Schema, depth: int) -> Any:
    items = resolved(schema.get("items", {}), root)
    if type_of(items) == "object":
        found, missing = _object(items, finder, root, depth + 1) if depth + 1 < len(MOST_FIELDS) else ({}, [name])
        return MISSING if missing or not found else [found]
    if type_of(items) in ("string", None):
        return finder.strings(name, items) or MISSING
    one = _value(name.removesuffix("s"), items, finder, root, depth, demanded=True)
    return MISSING if one is MISSING else [one]
