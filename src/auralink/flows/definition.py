"""What a flow is, as data: named steps with what they need, in blocks that branch, map and loop.

This is the one description of the format: the service checks definitions with it when they are saved and stores the checked form
(`Definition.stored()`, every default filled in), which is what the engine is given. docs/reference/flow-definitions.md explains it to
users.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from auralink.workflows.definition import ALWAYS_THERE, Expression, Given, JsonSchema, NodeName, Template, Variable

OneExpression = Annotated[str, StringConstraints(pattern=r"^\s*\{\{[\s\S]*\}\}\s*$", max_length=10_000)]
"""A text that is one `{{ expression }}`, and stands for its value."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Step(_Part):
    """What all steps have.

    `needs`: names of steps of the same block that must have ended; none given: the step before it, an empty list: nothing.
    `when`: false lets the step be skipped, its result is then null. `retries` make the call anew; `cache`: the same step with the same
    inputs is done once in a run. `on_error: continue` makes of a failure the result `{"error": …}`.
    """

    name: NodeName
    title: str = Field(default="", max_length=200)
    needs: list[NodeName] | None = None
    when: Expression | None = None
    retries: Annotated[int, Field(ge=0, le=20)] = 0
    retry_delay: Annotated[float, Field(ge=0, le=3600)] = 1.0
    timeout: Annotated[float, Field(gt=0, le=7 * 24 * 3600)] | None = None
    cache: bool = False
    on_error: Literal["fail", "continue"] = "fail"


class Tool(_Step):
    """Calls one tool, named as in `/mcp`. Name and arguments may be made of other results: a map over calls makes any number."""

    type: Literal["tool"]
    tool: Given
    arguments: dict[str, Any] | OneExpression = {}


class Llm(_Step):
    """Asks a model once; with `schema` the answer is JSON of that schema."""

    type: Literal["llm"]
    prompt: Template
    instructions: Template = ""
    model: Given = "auto"
    output_schema: JsonSchema | None = Field(default=None, alias="schema")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None


class Agent(_Step):
    """Says something to one of the user's agents (by name or id); the result is the output of that run: {answer, tool_calls}."""

    type: Literal["agent"]
    agent: Template
    message: Template


class Team(_Step):
    """Gives one of the user's teams a task; the result is the output of that run."""

    type: Literal["team"]
    team: Template
    task: Template
    context: Any = None


class Workflow(_Step):
    """Runs one of the user's workflows; the result is its output."""

    type: Literal["workflow"]
    workflow: Template
    input: dict[str, Any] = {}


class Flow(_Step):
    """Runs another of the user's flows; the result is its output."""

    type: Literal["flow"]
    flow: Template
    input: dict[str, Any] = {}


class Approval(_Step):
    """Asks a person; the run waits, for days if it must. The result is `{decision, note, answer}`."""

    type: Literal["approval"]
    question: Template
    details: Any = None


class Transform(_Step):
    """Makes a value of others: JSON with templates in it, where a text that is one `{{ expression }}` becomes that value."""

    type: Literal["transform"]
    value: Any


class Block(_Part):
    """Steps that belong together; `output` is what they come to (none: the result of the last)."""

    steps: Annotated[list["Step"], Field(min_length=1, max_length=200)]
    output: Any = None


class Case(Block):
    """A way that a branch can go."""

    when: Expression


class Branch(_Step):
    """Goes the way of the first case that is true, else `otherwise` (none: the result is null)."""

    type: Literal["branch"]
    cases: Annotated[list[Case], Field(min_length=1, max_length=50)]
    otherwise: Block | None = None


class Map(_Step, Block):
    """Does its steps for every item of a list, `width` at a time; the result is a list in the order of the items."""

    type: Literal["map"]
    over: Expression
    item: Variable = "item"
    width: Annotated[int, Field(ge=1, le=64)] = 4


class Loop(_Step, Block):
    """Does its steps until the expression, looked at after each pass, is true, at most `max` times; the result is the last pass's."""

    type: Literal["loop"]
    until: Expression
    max: Annotated[int, Field(ge=1, le=100)] = 10


Step = Annotated[
    Tool | Llm | Agent | Team | Workflow | Flow | Approval | Transform | Branch | Map | Loop, Field(discriminator="type")
]
TYPES = ("tool", "llm", "agent", "team", "workflow", "flow", "approval", "transform", "branch", "map", "loop")


class Limits(_Part):
    """Where a run stops, and how many of its steps work at a time."""

    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    seconds: Annotated[float, Field(gt=0, le=7 * 24 * 3600)] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    cost_usd: Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")] | None = None


class Definition(_Part):
    """A flow. `input` is the JSON Schema of its parameters, an object; each has a name by which steps read it."""

    version: Literal[1] = 1
    name: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=4_000)
    input: JsonSchema = {"type": "object"}
    steps: Annotated[list[Step], Field(min_length=1, max_length=200)]
    output: Any = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _is_not_too_large(self) -> Self:
        if depth_of(self.steps) > MAX_DEPTH:
            raise ValueError(f"its blocks stand in one another too deeply; {MAX_DEPTH} are the most")
        count = sum(1 for _ in every_step(self.steps))
        if count > MAX_STEPS:
            raise ValueError(f"it has {count} steps; {MAX_STEPS} are the most")
        return self

    def stored(self) -> dict[str, Any]:
        """The form that is stored and given to the engine: JSON with every default filled in, `needs` included."""
        stored = self.model_dump(mode="json", by_alias=True)
        _fill_needs(stored["steps"])
        return stored

    def variables(self) -> frozenset[str]:
        """What every step may read besides the results of others."""
        return frozenset({*self.input.get("properties", {}), *ALWAYS_THERE})


MAX_STEPS = 500
MAX_DEPTH = 20


def blocks_of(step: Step) -> Iterator[tuple[str, Block]]:
    """The blocks in a step, each with the pointer to it from there."""
    if isinstance(step, Branch):
        yield from ((f"/cases/{at}", case) for at, case in enumerate(step.cases))
        if step.otherwise is not None:
            yield "/otherwise", step.otherwise
    elif isinstance(step, Map | Loop):
        yield "", step


def every_step(steps: list[Step]) -> Iterator[Step]:
    """All steps, those in blocks included."""
    for step in steps:
        yield step
        for _, block in blocks_of(step):
            yield from every_step(block.steps)


def depth_of(steps: list[Step]) -> int:
    """How many blocks stand in one another."""
    depth = 0
    while steps:
        depth += 1
        steps = [inner for step in steps for _, block in blocks_of(step) for inner in block.steps]
    return depth


def needs_of(steps: list[Step], at: int) -> list[str]:
    """What the step at that place of its block waits for."""
    given = steps[at].needs
    if given is not None:
        return given
    return [steps[at - 1].name] if at else []


def _fill_needs(steps: list[dict[str, Any]]) -> None:
    before: list[str] = []
    for step in steps:
        if step["needs"] is None:
            step["needs"] = before
        before = [step["name"]]
        for block in (step, step.get("otherwise"), *step.get("cases", ())):
            if block is not None and block.get("steps"):
                _fill_needs(block["steps"])
