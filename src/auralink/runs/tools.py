"""What a run can do besides calling its user's tools: ask a person, and start other runs. Offered by the MCP gateway to run tokens
as the server `auralink`, journalled like any call, with the kinds `approval` and `run`.

While a child works its parent waits and holds nothing, so that a tree of runs holds no more slots than it has running leaves.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auralink.audit.group_commit import GroupCommit
from auralink.auth.principal import Principal
from auralink.core.errors import InvalidRequest
from auralink.core.http import dumps
from auralink.journal.approvals import Approvals, Call
from auralink.journal.keys import Kind
from auralink.journal.steps import Journal, Step
from auralink.mcp.errors import ToolNotFound
from auralink.mcp.recording import CallRecording, begun, numbered
from auralink.runs.schemas import Parent, RunDetail, RunKind
from auralink.runs.service import Runs

SERVER = "auralink"
ASK = "ask_approval"
CHILD_PATIENCE = 0.5
"""Seconds that a child may take before its parent waits without holding anything."""
Result = dict[str, Any]


class Starts(Protocol):
    """Starts runs of one kind: the domain of its definitions."""

    async def start(self, principal: Principal, name: str, given: Any, *, parent: Parent, idempotency_key: str) -> RunDetail:
        """A run of the definition of that name or id; the same key gives the same run. Raises what the domain raises."""
        ...


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid")
    question: Annotated[str, Field(min_length=1, max_length=10_000, description="what is to be decided")]
    details: Any = Field(default=None, description="what the decision is about")


class _Start(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=200, description="the definition's name or id")]
    input: Any = Field(default_factory=dict, description="what it works on")


@dataclass(frozen=True)
class _Tool:
    kind: Kind
    description: str
    arguments: type[BaseModel]
    work: Callable[[Step, Any], Coroutine[Any, Any, Result]]


class RunTools:
    """The tools of the server `auralink`. `starts` has a tool for each kind of definitions that there is."""

    def __init__(
        self, runs: Runs, journal: Journal, approvals: Approvals, audit: GroupCommit, starts: Mapping[RunKind, Starts]
    ) -> None:
        self._runs = runs
        self._journal = journal
        self._approvals = approvals
        self._audit = audit
        asks = "Asks a person, and waits for the answer however long that takes: {decision, note, answer}."
        self._tools = {ASK: _Tool("approval", asks, _Question, self._ask)}
        for kind, starter in starts.items():
            runs_it = f"Starts the run of a definition ({kind}), and answers with its output."
            self._tools[f"run_{kind}"] = _Tool("run", runs_it, _Start, partial(self._run, starter))

    def definitions(self) -> Sequence[Mapping[str, Any]]:
        """The tools as `tools/list` shows them."""
        return [
            {"name": name, "description": tool.description, "inputSchema": tool.arguments.model_json_schema()}
            for name, tool in self._tools.items()
        ]

    async def call(self, principal: Principal, tool: str, arguments: Mapping[str, Any]) -> Result:
        """Answers a call of a run, once. Raises ToolNotFound, InvalidRequest, what starting raises, and as `Journal.carry`."""
        if tool not in self._tools:
            raise ToolNotFound(f"{SERVER!r} has no tool {tool!r}; it has: {', '.join(self._tools)}")
        return await self._journal.carry(self._once(principal, tool, arguments))

    async def _once(self, principal: Principal, name: str, arguments: Mapping[str, Any]) -> Result:
        tool = self._tools[name]
        request = {"connection": SERVER, "tool": name, "arguments": dict(arguments)}
        step = await self._journal.begin(principal, tool.kind, request)
        if step.replay is not None:
            return numbered(step.replay.result(), step)
        operation = begun(principal, "tools/call", "mcp", tool=name, server=SERVER)
        async with CallRecording(self._audit, operation, step) as made:
            made.result = await tool.work(step, _checked(tool.arguments, arguments))
        return numbered(made.result, step)

    async def _ask(self, step: Step, asked: _Question) -> Result:
        call = Call(None, SERVER, ASK, asked.model_dump(), {})
        verdict = await self._approvals.of_step(step, call, reason="input")
        answer = {"decision": "approve" if verdict.approved else "deny", "note": verdict.note, "answer": verdict.answer}
        return {"content": [{"type": "text", "text": dumps(answer).decode()}], "structuredContent": answer}

    async def _run(self, starter: Starts, step: Step, asked: _Start) -> Result:
        parent = Parent(step.run, step.seq)
        child = await starter.start(step.principal, asked.name, asked.input, parent=parent, idempotency_key=step.idempotency_key)
        child = await self._runs.wait(step.principal, child.run_id, CHILD_PATIENCE)
        if not child.finished:
            await step.suspend("child")
        return _result_of(child)


def _checked(model: type[BaseModel], arguments: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(dict(arguments))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequest(f"the argument {'.'.join(map(str, first['loc']))!r} is wrong: {first['msg']}") from None


def _result_of(child: RunDetail) -> Result:
    """A child's output as a tool's result; its failure as the tool's error."""
    if child.status == "succeeded":
        text = child.output if isinstance(child.output, str) else dumps(child.output).decode()
        return {"content": [{"type": "text", "text": text}]}
    why = (child.error or {}).get("message", child.status) if isinstance(child.error, dict) else child.status
    text = f"run {child.run_id} has {child.status}: {why}"
    return {"content": [{"type": "text", "text": text}], "isError": True}
