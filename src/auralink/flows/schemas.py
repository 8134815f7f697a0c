"""Wire shapes of flows."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from auralink.core.warned import Warning  # noqa: A004  # what it is called on the wire
from auralink.schedules.schemas import Cron, Missed, Seconds
from auralink.workflows.schemas import Given, Name, Text

CUSTOM = "custom"


class FlowBody(BaseModel):
    """POST /flows. Either a definition or a template; `flow_type` may name the template as well."""

    model_config = ConfigDict(extra="forbid")

    flow_name: Name
    flow_type: Given | None = Field(default=None, description="a word of your own; without: the template's name, or custom")
    description: Text = ""
    definition: dict[str, Any] | str | None = Field(default=None, description="steps; as text: YAML")
    template: Given | None = None


class FlowPatch(BaseModel):
    """PATCH /flows/{id}. What is not there stays; a definition takes the place of a template, and the other way round."""

    model_config = ConfigDict(extra="forbid")

    flow_name: Name | None = None
    flow_type: Given | None = None
    description: Text | None = None
    definition: dict[str, Any] | str | None = None
    template: Given | None = None


class FlowView(BaseModel):
    """A flow. `definition` is null where the template's is used."""

    flow_id: UUID
    flow_name: str
    flow_type: str
    version: int
    description: str
    definition: dict[str, Any] | None
    template: str | None
    created_at: datetime
    updated_at: datetime
    warnings: list[Warning] = []


class FlowPage(BaseModel):
    """A page of flows, newest first."""

    items: list[FlowView]
    next_cursor: str | None


class Execute(BaseModel):
    """POST /flows/{id}/execute."""

    model_config = ConfigDict(extra="forbid")

    input_parameters: dict[str, Any] = {}
    room_id: Given | None = None
    call_id: Given | None = None


class FlowScheduleBody(BaseModel):
    """POST /flows/{id}/schedules. Either `cron` or `interval`."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = Field(default=None, description="without: the flow's name with the times")
    cron: Cron | None = Field(default=None, description="minute hour day month weekday, or @daily and the like")
    interval: Seconds | None = Field(default=None, description="seconds; the first run is one interval from now")
    timezone: Given = Field(default="UTC", description="of `cron`, e.g. Europe/Berlin")
    input_parameters: dict[str, Any] = Field(default={}, description="of every run")
    missed: Missed = Field(
        default="skip", description="runs that were due while no worker was there: catch_up has them made up for"
    )
    paused: bool = False


class NodeView(BaseModel):
    """A step of the drawing. `inside` is the step in whose block it stands."""

    name: str
    type: str
    title: str
    inside: str | None


class EdgeView(BaseModel):
    """From a step to one that waits for it, or into a block."""

    source: str
    target: str
    label: str


class Graph(BaseModel):
    """A flow as a drawing."""

    nodes: list[NodeView]
    edges: list[EdgeView]
    mermaid: str


class TemplateView(BaseModel):
    """A flow that comes with the service, as a definition to use or to start from."""

    name: str
    description: str
    input: dict[str, Any]
    definition: dict[str, Any]


class TemplatePage(BaseModel):
    """All templates."""

    items: list[TemplateView]
    next_cursor: str | None = None
