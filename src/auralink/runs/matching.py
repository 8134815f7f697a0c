"""Whether an input is of the schema of its definition.

References and regular expressions in a schema are not followed here: they are a user's, and could keep the service busy for ever or
send it elsewhere.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.validators import extend

MAX_MISTAKES = 20


def _let_pass(_validator: Any, _value: Any, _instance: Any, _schema: Any) -> Iterator[Any]:
    return iter(())


_UNFOLLOWED = ("$ref", "$dynamicRef", "pattern", "patternProperties", "format")
_Validator = extend(Draft202012Validator, dict.fromkeys(_UNFOLLOWED, _let_pass))  # type: ignore[no-untyped-call]


def mistakes(schema: Mapping[str, Any], given: Any, *, at: str) -> list[tuple[str, str]]:
    """Where an input is not of a schema, as JSON pointers below `at`, and why; the first of them."""
    found = zip(range(MAX_MISTAKES), _Validator(schema).iter_errors(given), strict=False)
    return [(at + "".join(f"/{part}" for part in error.absolute_path), error.message[:500]) for _, error in found]


def completed(schema: Mapping[str, Any], given: Any, about: Mapping[str, Any]) -> Any:
    """An input with what is known of its run (`room_id`, `call_id`), where the schema asks for it and the input does not say."""
    if not isinstance(given, Mapping):
        return given
    asked = schema.get("properties", {})
    return {**{name: value for name, value in about.items() if name in asked and value is not None}, **given}


def schema_mistake(schema: Any) -> str | None:
    """Why this is no schema of an input; None if it is one."""
    if not isinstance(schema, Mapping):
        return "a JSON Schema is an object"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"this is no JSON Schema: {error.message[:300]}"
    return None
