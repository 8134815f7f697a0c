"""Checks a run's input against the schema of its definition (runs/matching.py), and makes inputs out of events."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from auralink.runs import matching
from auralink.runs.schemas import Order
from auralink.workflows.checking import Problem
from auralink.workflows.errors import InputInvalid


def checked(schema: Mapping[str, Any], given: Any, *, where: str) -> Any:
    """The input, if it is of the schema. Raises InputInvalid with a JSON pointer for each mistake, below `where`."""
    problems = [Problem(pointer, message) for pointer, message in matching.mistakes(schema, given, at=where)]
    if problems:
        raise InputInvalid(problems)
    return given


def fitting(schema: Mapping[str, Any], given: Any, order: Order) -> Any:
    """As `checked`, with the order's room and call in the input, where the definition asks for them and the input does not say."""
    about = {"room_id": order.room_id, "call_id": order.call_id}
    return checked(schema, matching.completed(schema, given, about), where=order.at)


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
