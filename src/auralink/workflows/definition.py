"""What a workflow is, as data: typed nodes, edges between them, a state, and limits.

This is the one description of the format: the service checks definitions with it when they are saved and stores the checked form
(`Definition.stored()`, every default filled in), which is what the engine is given. The engine does not import this; the service
does not import the engine. docs/reference/workflow-definitions.md explains it to users.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

END = "end"
"""The name of the place where a graph ends; no node can have it."""

NodeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
Template = Annotated[str, StringConstraints(max_length=200_000)]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
JsonSchema = dict[str, Any]
Given = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Node(_Part):
    """What all nodes have: `into` is the variable that takes the result; `on_error: continue` puts `{"error": …}` there."""

    title: str = Field(default="", max_length=200)
    into: Variable | None = None
    on_error: Literal["fail", "continue"] = "fail"


class _Model(_Node):
    """What nodes that ask a model have."""

    prompt: Template
    instructions: Template = ""
    model: Given = "auto"
    output_schema: JsonSchema | None = Field(default=None, alias="schema")
    history: Expression | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool = False


class Llm(_Model):
    """Asks a model once; with `schema` the answer is JSON of that schema."""

    type: Literal["llm"]


class Agent(_Model):
    """Lets a model use tools until it has an answer. `tools` are names as in `/mcp`, with `*` for any characters.

    `calls_into` is the variable that takes the calls: a list of `{tool, arguments, answer, failed}`.
    """

    type: Literal["agent"]
    tools: list[Given] = []
    max_turns: Annotated[int, Field(ge=1, le=50)] = 8
    calls_into: Variable | None = None


class Tool(_Node):
    """Calls one tool."""

    type: Literal["tool"]
    tool: Given
    arguments: dict[str, Any] = {}


class Memory(_Node):
    """Looks something up in the user's memory, or writes it there."""

    type: Literal["memory"]
    operation: Literal["recall", "remember"]
    connection: Given = "memory"
    query: Template | None = None
    names: Any = None
    entity: Template | None = None
    entity_type: Template = "note"
    observations: Any = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.operation == "recall" and (self.query is None) == (self.names is None):
            raise ValueError("recall needs either `query` (words to look for) or `names` (of entities)")
        if self.operation == "remember" and (self.entity is None or self.observations is None):
            raise ValueError("remember needs `entity` (a name) and `observations` (a list of texts)")
        return self


class Case(_Part):
    """A way out of a branch."""

    when: Expression
    to: NodeName


class Branch(_Part):
    """Goes on at the first case that is true, else at `otherwise`; after `max_visits` always at `otherwise`."""

    type: Literal["branch"]
    title: str = Field(default="", max_length=200)
    cases: Annotated[list[Case], Field(min_length=1)]
    otherwise: NodeName
    max_visits: Annotated[int, Field(ge=1, le=100)] | None = None


class Approval(_Node):
    """Asks a person; the run waits, for days if it must. The result is `{decision, note, answer}`."""

    type: Literal["approval"]
    question: Template
    details: Any = None


class Subworkflow(_Node):
    """Starts another run and waits for its output."""

    type: Literal["subworkflow"]
    kind: Literal["workflow", "agent", "team", "flow"] = "workflow"
    name: Given
    input: dict[str, Any] = {}


class Set(_Part):
    """Puts values made of others into the state."""

    type: Literal["set"]
    title: str = Field(default="", max_length=200)
    values: Annotated[dict[Variable, Any], Field(min_length=1)]


class Split(_Node):
    """Cuts a long text into pieces at the ends of paragraphs, lines or sentences, for a `map` to work on."""

    type: Literal["split"]
    text: Template
    max_chars: Annotated[int, Field(ge=200, le=200_000)] = 6_000


class Verify(_Node):
    """Looks each quotation up in the sources, blanks and case aside; the result is `{verified: [{quote, source}], unverified}`."""

    type: Literal["verify"]
    quotes: Expression
    sources: Expression


Each = Annotated[Llm | Agent | Tool | Memory | Subworkflow | Split, Field(discriminator="type")]


class Map(_Node):
    """Does one thing for every item of a list, `width` at a time; the results are in the order of the items."""

    type: Literal["map"]
    over: Expression
    item: Variable = "item"
    width: Annotated[int, Field(ge=1, le=32)] = 4
    each: Each


Node = Annotated[
    Agent | Llm | Tool | Memory | Branch | Map | Approval | Subworkflow | Set | Split | Verify, Field(discriminator="type")
]


class Edge(_Part):
    """From one node to the next. Several edges from a node start several branches; a list in `from` waits for all of them."""

    from_: NodeName | Annotated[list[NodeName], Field(min_length=2)] = Field(alias="from")
    to: NodeName

    @property
    def sources(self) -> list[str]:
        return [self.from_] if isinstance(self.from_, str) else self.from_


class State(_Part):
    """A variable of the state: what it is at first, and what happens when it is written again."""

    default: Any = None
    merge: Literal["replace", "append", "update"] = "replace"


class Limits(_Part):
    """Where a run stops: steps of the graph, tokens of all model calls, seconds; `concurrency` nodes at a time."""

    steps: Annotated[int, Field(ge=1, le=1_000)] = 100
    tokens: Annotated[int, Field(ge=1)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=32)] = 4


class Definition(_Part):
    """A workflow. `input` is the JSON Schema of an object whose properties become variables of the state."""

    version: Literal[1] = 1
    name: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=4_000)
    input: JsonSchema = {"type": "object"}
    state: dict[Variable, State] = {}
    start: NodeName
    nodes: Annotated[dict[NodeName, Node], Field(min_length=1, max_length=200)]
    edges: list[Edge] = []
    output: Any = None
    limits: Limits = Limits()

    def stored(self) -> dict[str, Any]:
        """The form that is stored and given to the engine: JSON with every default filled in."""
        return self.model_dump(mode="json", by_alias=True)

    def variables(self) -> frozenset[str]:
        """Every variable that a node may read."""
        written = {name for node in self.nodes.values() for name in written_by(node)}
        return frozenset({*self.input.get("properties", {}), *self.state, *written, *ALWAYS_THERE})


ALWAYS_THERE = ("now", "run_id")
"""Variables that every run has: the time at which it was accepted, and its id."""


def written_by(node: Node) -> tuple[str, ...]:
    """The variables that a node writes."""
    if isinstance(node, Set):
        return tuple(node.values)
    if isinstance(node, Branch):
        return ()
    names = (node.into, node.calls_into) if isinstance(node, Agent) else (node.into,)
    return tuple(name for name in names if name is not None)
