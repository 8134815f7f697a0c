"""Wire shapes of webhooks."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from auralink.runs.schemas import RunKind, Status
from auralink.workflows.expressions import expressions_in
from auralink.workflows.schemas import Name, of_the_event

MAX_EXPRESSIONS = 50


def _of_the_event(given: dict[str, Any] | None) -> dict[str, Any] | None:
    expressions = [expression for text in _texts(given) for expression in expressions_in(text)]
    if len(expressions) > MAX_EXPRESSIONS:
        raise ValueError(f"it has more than {MAX_EXPRESSIONS} expressions")
    for expression in expressions:
        of_the_event(expression)
    return given


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


MadeOfEvent = Annotated[dict[str, Any] | None, AfterValidator(_of_the_event)]
"""A run's input, with `{{ expression }}` in its texts over `event`, e.g. {"transcript": "{{ event.data.text }}"}."""


class WebhookBody(BaseModel):
    """POST /webhooks."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    kind: RunKind
    definition_id: UUID
    input: MadeOfEvent = Field(default=None, description="without it the event's `data` is the input")
    paused: bool = False


class WebhookPatch(BaseModel):
    """PATCH /webhooks/{id}. What is not there stays; `input: null` makes the event's data the input again."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    input: MadeOfEvent = None
    paused: bool | None = None


class WebhookView(BaseModel):
    """A webhook; never its secret."""

    webhook_id: UUID
    name: str
    kind: RunKind
    definition_id: UUID
    input: dict[str, Any] | None
    paused: bool
    path: str = Field(description="where events are delivered to, under the service's address")
    last_event_at: datetime | None
    last_run_id: UUID | None
    created_at: datetime
    updated_at: datetime


class WebhookSecret(WebhookView):
    """A webhook with its secret, which is shown this once."""

    secret: str | None = Field(description="null where an Idempotency-Key repeats the answer")


class WebhookPage(BaseModel):
    """A page of webhooks, newest first."""

    items: list[WebhookView]
    next_cursor: str | None


class Taken(BaseModel):
    """What became of a delivery: a run, or nothing (`ignored`) where the webhook is paused or the workflow does not want it."""

    status: Status | Literal["ignored"]
    run_id: UUID | None = None
