"""Wire shapes of teams and their members."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from auralink.core.warned import Warning  # noqa: A004  # what it is called on the wire
from auralink.teams.definition import MAX_MEMBERS, RESERVED, MemberName, TeamLimits, TeamOptions
from auralink.workflows.schemas import Given, Name
from auralink.workflows.schemas import Text as Description

Text = Annotated[str, StringConstraints(max_length=200_000, pattern=r"^[^\x00]*$")]
Task = Annotated[str, StringConstraints(min_length=1, max_length=200_000, pattern=r"^[^\x00]*$")]
Tools = Annotated[list[Given], Field(max_length=200)]
Order = Annotated[int, Field(ge=0, le=1_000_000)]
Context = dict[str, Any] | list[Any] | Text


def _free(name: str) -> str:
    if name.lower() in RESERVED:
        raise ValueError(f"conversations call somebody else {name!r}; choose another name")
    return name


OwnName = Annotated[MemberName, AfterValidator(_free)]


class MemberBody(BaseModel):
    """POST /teams/{id}/members."""

    model_config = ConfigDict(extra="forbid")

    role: Name
    name: OwnName | None = Field(default=None, description="an identifier, of its own in the team; made of the role")
    goal: Text = ""
    instructions: Text = Field(default="", description="without: those of the agent")
    model: Given | None = Field(default=None, description="without: the agent's, else the team's")
    tools: Tools = Field(default=[], description="as in GET /mcp/tools, with * for any characters, or WebSearch, Calculator, …")
    execution_order: Order | None = Field(default=None, description="without: behind the others")
    can_delegate: bool = False
    agent_id: UUID | None = None


class MemberPatch(BaseModel):
    """PATCH /teams/{id}/members/{member_id}. What is not there stays; null takes model and agent away."""

    model_config = ConfigDict(extra="forbid")

    role: Name | None = None
    name: OwnName | None = None
    goal: Text | None = None
    instructions: Text | None = None
    model: Given | None = None
    tools: Tools | None = None
    execution_order: Order | None = None
    can_delegate: bool | None = None
    agent_id: UUID | None = None


class MemberView(BaseModel):
    """A member: `tools` as they were given, `tool_names` as runs call them."""

    member_id: UUID
    team_id: UUID
    name: str
    role: str
    goal: str
    instructions: str
    model: str | None
    tools: list[str]
    tool_names: list[str]
    execution_order: int
    can_delegate: bool
    agent_id: UUID | None
    created_at: datetime
    updated_at: datetime


class MemberPage(BaseModel):
    """All members, in the order in which they work."""

    items: list[MemberView]
    next_cursor: str | None = None


class TeamBody(BaseModel):
    """POST /teams. Without `members` they are a template's, by default the one that fits name and description best."""

    model_config = ConfigDict(extra="forbid")

    team_name: Name
    description: Description = ""
    team_type: Given | None = Field(default=None, description="an engine; without, one that is installed and has the mode")
    collaboration_mode: Given | None = Field(
        default=None, description="without: the template's, else the usual one of the engine"
    )
    template: Given | None = None
    members: Annotated[list[MemberBody], Field(max_length=MAX_MEMBERS)] | None = None
    task: Text = Field(default="", description="what it does where an execution does not say")
    model: Given = "auto"
    manager: MemberName | None = Field(default=None, description="of a hierarchy: a member; without, one is made on `model`")
    options: TeamOptions = TeamOptions()
    memory: bool | Given = Field(default=False, description="true, or the name of a memory connection")
    limits: TeamLimits = TeamLimits()


class TeamPatch(BaseModel):
    """PATCH /teams/{id}. What is not there stays; null takes the manager away."""

    model_config = ConfigDict(extra="forbid")

    team_name: Name | None = None
    description: Description | None = None
    team_type: Given | None = None
    collaboration_mode: Given | None = None
    task: Text | None = None
    model: Given | None = None
    manager: MemberName | None = None
    options: TeamOptions | None = None
    memory: bool | Given | None = None
    limits: TeamLimits | None = None


class TeamView(BaseModel):
    """A team; `memory` is the connection that what was learned is written to, or false."""

    team_id: UUID
    team_name: str
    version: int
    description: str
    team_type: str
    collaboration_mode: str
    template: str | None
    task: str
    model: str
    manager: str | None
    options: TeamOptions
    memory: str | Literal[False]
    limits: TeamLimits
    members: list[MemberView]
    created_at: datetime
    updated_at: datetime
    warnings: list[Warning] = []


class TeamPage(BaseModel):
    """A page of teams, newest first."""

    items: list[TeamView]
    next_cursor: str | None


class Execute(BaseModel):
    """POST /teams/{id}/execute."""

    model_config = ConfigDict(extra="forbid")

    task_description: Task | None = Field(default=None, description="required unless the team has a task")
    additional_context: Context | None = None
    room_id: Given | None = None
    call_id: Given | None = None

    def given(self) -> dict[str, Any]:
        """What the run is given."""
        return self.model_dump(include={"task_description", "additional_context"}, exclude_none=True)


class TemplateView(BaseModel):
    """A team that comes with the service."""

    name: str
    description: str
    collaboration_mode: str
    options: TeamOptions
    members: list[MemberBody]


class TemplatePage(BaseModel):
    """All templates."""

    items: list[TemplateView]
    next_cursor: str | None = None
