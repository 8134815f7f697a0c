"""Wire shapes of workflows."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from auralink.core.money import Usd
from auralink.core.warned import Warning  # noqa: A004  # what it is called on the wire
from auralink.workflows.expressions import is_small, variables_of

WorkflowType = Literal["qa", "summarization", "moderation", "auto_join", "custom"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Text = Annotated[str, StringConstraints(max_length=4_000, pattern=r"^[^\x00]*$")]
Given = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
EVENT = "event"
"""The one variable of a condition: the event as it was delivered."""


class TriggerConditions(BaseModel):
    """Which events start the workflow, where a webhook delivers them; both must hold."""

    model_config = ConfigDict(extra="forbid")

    event_types: list[Given] = Field(default=[], max_length=100, description="any of these types; empty: all")
    when: str | None = Field(default=None, max_length=10_000, description="a JMESPath expression over `event`")

    @field_validator("when")
    @classmethod
    def _reads_the_event_alone(cls, when: str | None) -> str | None:
        return when if when is None else of_the_event(when)


def of_the_event(expression: str) -> str:
    """An expression, if the service can read it over an event. Raises ValueError."""
    unknown = variables_of(expression) - {EVENT}
    if unknown:
        raise ValueError(f"it reads {', '.join(sorted(unknown))}; there is only `event`, e.g. event.data.state == 'ended'")
    if not is_small(expression):
        raise ValueError("it is too long, or selects too much side by side")
    return expression


class WorkflowBody(BaseModel):
    """POST /workflows. A type other than `custom` is a template and needs no definition; one that is given is used instead."""

    model_config = ConfigDict(extra="forbid")

    workflow_name: Name
    workflow_type: WorkflowType
    description: Text = ""
    agent_id: UUID | None = Field(default=None, description="whose model and instructions nodes use that name none")
    definition: dict[str, Any] | str | None = Field(default=None, description="a graph; as text: YAML")
    mcp_integrations: list[Given] = Field(default=[], max_length=50, description="connections by name: only these may be used")
    trigger_conditions: TriggerConditions | None = None


class WorkflowPatch(BaseModel):
    """PATCH /workflows/{id}. What is not there stays; null takes away."""

    model_config = ConfigDict(extra="forbid")

    workflow_name: Name | None = None
    workflow_type: WorkflowType | None = None
    description: Text | None = None
    agent_id: UUID | None = None
    definition: dict[str, Any] | str | None = None
    mcp_integrations: list[Given] | None = Field(default=None, max_length=50)
    trigger_conditions: TriggerConditions | None = None


class WorkflowView(BaseModel):
    """A workflow. `definition` is null where the type's template is used."""

    workflow_id: UUID
    workflow_name: str
    workflow_type: WorkflowType
    version: int
    description: str
    agent_id: UUID | None
    definition: dict[str, Any] | None
    mcp_integrations: list[str]
    trigger_conditions: TriggerConditions | None
    created_at: datetime
    updated_at: datetime
    warnings: list[Warning] = []


class WorkflowPage(BaseModel):
    """A page of workflows, newest first."""

    items: list[WorkflowView]
    next_cursor: str | None


class Execute(BaseModel):
    """POST /workflows/{id}/execute."""

    model_config = ConfigDict(extra="forbid")

    input_data: dict[str, Any] = {}
    room_id: Given | None = None
    call_id: Given | None = None


class WorkflowStats(BaseModel):
    """What a workflow's runs came to."""

    workflow_id: UUID
    runs: int
    succeeded: int
    failed: int
    cancelled: int
    under_way: int
    success_rate: float | None = Field(description="of the runs that have ended; null before the first")
    p50_seconds: float | None
    p95_seconds: float | None
    steps: int
    tokens: int
    cost_usd: Usd
    last_run_at: datetime | None


class TemplateView(BaseModel):
    """A workflow that comes with the service, as a definition to use or to start from."""

    name: str
    description: str
    input: dict[str, Any]
    definition: dict[str, Any]


class TemplatePage(BaseModel):
    """All templates."""

    items: list[TemplateView]
    next_cursor: str | None = None
