"""A JSON schema as Anthropic's structured outputs demand it: every object closed.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs. Keywords that it does not know are not taken away:
Anthropic refuses them by name, and the client learns what it cannot have.
"""

from collections.abc import Mapping
from typing import Any

from auralink.llm.providers.content import Place
from auralink.llm.providers.protocol import Body

SCHEMAS_BY_NAME = frozenset({"properties", "$defs", "definitions"})
SCHEMAS_IN_ROW = frozenset({"anyOf", "oneOf", "allOf"})


def closed(schema: Mapping[str, Any], place: Place) -> Body:
    """The schema with `additionalProperties: false` in every object.

    Raises:
        UnsupportedField: an object is declared open.
    """
    sent: Body = {name: _closed_below(name, value, place) for name, value in schema.items()}
    if schema.get("type") != "object" and "properties" not in schema:
        return sent
    if sent.setdefault("additionalProperties", False) is not False:
        raise place.below("additionalProperties").refused("an answer can only have members that are named")
    return sent


def _closed_below(name: str, value: Any, place: Place) -> Any:
    below = place.below(name)
    if name in SCHEMAS_BY_NAME and isinstance(value, Mapping):
        return {key: closed(schema, below.below(key)) for key, schema in value.items()}
    if name in SCHEMAS_IN_ROW and isinstance(value, list):
        return [closed(schema, below.below(index)) for index, schema in enumerate(value)]
    return closed(value, below) if name == "items" and isinstance(value, Mapping) else value
