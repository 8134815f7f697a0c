"""What a team is, as data: members, how they work together, and limits.

`TeamDefinition.stored()` is what a run keeps and an engine is given, every default filled in; engines read it with
`auralink_engine.team`. The engine does not import this; the service does not import the engine.
docs/reference/team-definitions.md explains it to users.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auralink.core.warned import did_you_mean, token
from auralink.workflows.checking import Problem

MAX_MEMBERS = 20
MemberName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
Side = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
RESERVED = frozenset({"user", "team"})
"""What a conversation calls those who are no members."""
INPUT: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "task_description": {"type": "string", "minLength": 1, "description": "what is to be done"},
        "additional_context": {"type": ["object", "array", "string"], "description": "what else is known"},
        "room_id": {"type": "string"},
        "call_id": {"type": "string"},
    },
    "required": ["task_description"],
    "additionalProperties": False,
}
"""The schema of what a run is given."""
SIDES = 2
"""Of a debate whose sides are not named."""
LEAST: Mapping[str, int] = {"consensus": 2}
"""Members without whom a mode, whichever engine's it is, has no meaning; of a debate as many as it has sides, of the others one."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TeamOptions(_Part):
    """What a mode may be told. A mode takes no notice of what is another's."""

    rounds: int = Field(default=3, ge=1, le=20, description="consensus, debate, brainstorm, problem_solving: at most so many")
    sides: Annotated[list[Side], Field(min_length=2, max_length=8)] | None = Field(
        default=None, description="debate: the positions; for and against, if none are named"
    )
    handoffs: dict[MemberName, list[MemberName]] | None = Field(
        default=None, description="swarm: who may hand over to whom; without it anybody to anybody"
    )


class TeamLimits(_Part):
    """Where a run of a team stops. Tokens and cost are a budget: a run that has used it up waits until it is raised."""

    turns: int = Field(default=20, ge=1, le=200, description="messages of members")
    member_turns: int = Field(default=8, ge=1, le=50, description="model calls that a member may make for one message")
    answer_tokens: int | None = Field(default=None, ge=1, description="of one model call's answer")
    temperature: float | None = Field(default=None, ge=0, le=2)
    seconds: float | None = Field(default=None, gt=0, le=7 * 24 * 3600)
    tokens: int | None = Field(default=None, ge=1)
    cost_usd: Decimal | None = Field(default=None, ge=0)


class MemberDefinition(_Part):
    """A member as an engine gets it; `tools` are names as in `/mcp`."""

    name: MemberName
    role: str
    goal: str
    instructions: str
    model: str
    tools: list[str]
    can_delegate: bool


class TeamDefinition(_Part):
    """A team as an engine gets it; members stand in the order in which they work."""

    name: str
    description: str
    team_type: str
    mode: str
    version: int
    members: list[MemberDefinition]
    manager: str | None
    model: str
    options: TeamOptions
    memory: str | None
    limits: TeamLimits
    input: dict[str, Any] = dict(INPUT)

    def stored(self) -> dict[str, Any]:
        """As JSON. Options that are not set are not there: their defaults are the mode's."""
        return {**self.model_dump(mode="json"), "options": self.options.model_dump(mode="json", exclude_none=True)}

    def problems(self) -> Iterator[Problem]:
        """What names members that there are not, with pointers into the body that describes the team."""
        names = [member.name for member in self.members]
        if self.manager is not None and self.manager not in names:
            yield Problem("/manager", _no_member(self.manager, names))
        for giver, takers in (self.options.handoffs or {}).items():
            if giver not in names:
                yield Problem(f"/options/handoffs/{token(giver)}", _no_member(giver, names))
            for at, taker in enumerate(takers):
                if taker not in names:
                    yield Problem(f"/options/handoffs/{token(giver)}/{at}", _no_member(taker, names))

    def too_few(self) -> str | None:
        """What the mode needs of members and the team has not; None if it has."""
        managed = self.mode == "hierarchical" and self.manager is not None
        working = [member for member in self.members if not (managed and member.name == self.manager)]
        least = len(self.options.sides or range(SIDES)) if self.mode == "debate" else LEAST.get(self.mode, 1)
        if len(working) >= least:
            return None
        needed = f"{least} member{'s' if least > 1 else ''}{' beside the manager' if managed else ''}"
        return f"{self.mode} needs at least {needed}; there {'is' if len(working) == 1 else 'are'} {len(working) or 'none'}"


def _no_member(name: str, names: list[str]) -> str:
    return f"no member is named {name!r}{did_you_mean(name, names)}; there are {', '.join(names) or 'none yet'}"
