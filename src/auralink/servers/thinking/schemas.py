"""The shapes of `sequentialthinking`: those of the reference server `@modelcontextprotocol/server-sequential-thinking`.

The reference takes numbers and booleans as strings too, because models send them so; the coercions here are JavaScript's.
"""

import math
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from typing_extensions import TypedDict

from auralink.servers.serving import StorableText

MAX_SAFE_INTEGER = 2**53 - 1
MAX_THOUGHT = 100_000
"""Characters of one thought; the reference has no limit."""

_BOOLEANS = {"true": True, "false": False}
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PREFIXED = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)", re.ASCII)


def number_of(value: Any) -> Any:
    """A string or boolean as `Number(value)` reads it in JavaScript; anything else as it is."""
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text:
        return 0
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    if not _DECIMAL.fullmatch(text):
        raise ValueError("expected a number")
    number = float(text)
    return int(number) if math.isfinite(number) and number.is_integer() else number


def boolean_of(value: Any) -> bool:
    """A boolean, or the word for it in any case."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    raise ValueError('expected a boolean, or "true" or "false"')


Count = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER), BeforeValidator(number_of)]
Boolean = Annotated[bool, BeforeValidator(boolean_of), WithJsonSchema({"type": ["boolean", "string"]})]


def _drop_nulls(schema: dict[str, Any]) -> None:
    """An optional argument is one that may be left out: its schema has no null and no default."""
    for name, field in schema["properties"].items():
        if "anyOf" in field:
            plain = next(option for option in field["anyOf"] if option != {"type": "null"})
            described = {key: value for key, value in field.items() if key not in {"anyOf", "default"}}
            schema["properties"][name] = plain | described


class Thought(BaseModel):
    """One step of thinking. An argument that is left out is None; an explicit null is refused, as the reference does."""

    model_config = ConfigDict(populate_by_name=True, json_schema_extra=_drop_nulls)

    thought: Annotated[StorableText, StringConstraints(max_length=MAX_THOUGHT), Field(description="This step of the thinking")]
    next_thought_needed: Annotated[
        Boolean, Field(alias="nextThoughtNeeded", description="Whether another step is needed after this one")
    ]
    thought_number: Annotated[Count, Field(alias="thoughtNumber", description="The number of this thought, from 1")]
    total_thoughts: Annotated[
        Count, Field(alias="totalThoughts", description="How many thoughts it will take, as far as you can tell now")
    ]
    is_revision: Annotated[
        Boolean | None, Field(alias="isRevision", description="Whether this thought revises an earlier one")
    ] = None
    revises_thought: Annotated[
        Count | None, Field(alias="revisesThought", description="The number of the thought that is revised")
    ] = None
    branch_from_thought: Annotated[
        Count | None, Field(alias="branchFromThought", description="The number of the thought that this branch starts from")
    ] = None
    branch_id: Annotated[StorableText | None, Field(alias="branchId", description="A name for the branch")] = None
    needs_more_thoughts: Annotated[
        Boolean | None, Field(alias="needsMoreThoughts", description="Whether more thoughts are needed than were planned")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict) and (nulls := sorted(key for key, value in data.items() if value is None)):
            raise ValueError(f"{', '.join(nulls)} must not be null; leave it out")
        return data


class Progress(TypedDict):
    """Where the thinking stands."""

    thoughtNumber: Annotated[int, WithJsonSchema({"type": "number"})]
    totalThoughts: Annotated[int, WithJsonSchema({"type": "number"})]
    nextThoughtNeeded: bool
    branches: list[str]
    thoughtHistoryLength: Annotated[int, WithJsonSchema({"type": "number"})]
