"""Checks a run's input against the schema of its definition, and makes inputs out of events.

References and regular expressions in a schema are not followed here: they are a user's, and could keep the service busy for ever or
send it elsewhere.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from auralink.runs.schemas import Order
from auralink.workflows.checking import Problem
from auralink.workflows.errors import InputInvalid

MAX_PROBLEMS = 20


def _let_pass(_validator: Any, _value: Any, _instance: Any, _schema: Any) -> Iterator[Any]:
    return iter(())


_UNFOLLOWED = ("$ref", "$dynamicRef", "pattern", "patternProperties", "format")
_Validator = extend(Draft202012Validator, dict.fromkeys(_UNFOLLOWED, _let_pass))  # type: ignore[no-untyped-call]


def checked(schema: Mapping[str, Any], given: Any, *, where: str) -> Any:
    """The input, if it is of the schema. Raises InputInvalid with a JSON pointer for each mistake, below `where`."""
    problems = [
        Problem(where + "".join(f"/{part}" for part in error.absolute_path), error.message[:500])
        for _, error in zip(range(MAX_PROBLEMS), _Validator(schema).iter_errors(given), strict=False)
    ]
    if problems:
        raise InputInvalid(problems)
    return given


def fitting(schema: Mapping[str, Any], given: Any, order: Order) -> Any:
    """As `checked`, with the order's room and call in the input, where the definition asks for them and the input does not say."""
    if isinstance(given, Mapping):
        asked, about = schema.get("properties", {}), {"room_id": order.room_id, "call_id": order.call_id}
        given = {**{name: value for name, value in about.items() if name in asked and value is not None}, **given}
    return checked(schema, given, where=order.at)


def of_event(schema: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """What an event means as input: its `data`, without what the definition would refuse; all of it as `event`, if asked for."""
    data = event.get("data")
    said = dict(data) if isinstance(data, Mapping) else dict(event)
    asked = schema.get("properties", {})
    if schema.get("additionalProperties") is False:
        said = {name: value for name, value in said.items() if name in asked}
    return {**said, "event": dict(event)} if "event" in asked else said


def as_uuid(reference: UUID | str) -> UUID | None:
    """The id that a reference is; None for a name."""
    try:
        return reference if isinstance(reference, UUID) else UUID(reference)
    except ValueError:
        return None
