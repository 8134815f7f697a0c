"""Runs of flows, step by step: how far each is, how long it took, and what its calls and the runs that it started came to."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import BaseModel, Field

from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.core.money import Usd
from auralink.core.paging import Position, encode_cursor
from auralink.flows import execution_store as store
from auralink.flows.errors import FlowRunNotFound
from auralink.flows.graph import Node, drawing_of
from auralink.flows.starting import get
from auralink.runs.schemas import TERMINAL, Reason, Status

StepState = Literal[
    "Pending", "Running", "Waiting", "Retrying", "Completed", "Cached", "Skipped", "Failed", "Cancelled", "NotReached"
]
UNDER_WAY = {"Running", "Retrying"}


class FlowStep(BaseModel):
    """A step of a run. In a map or a loop it has worked `times` times; seconds, tokens and cost are those of all of them, in any
    attempt. The cost is that of its calls (by their numbers in the run's journal) and of the runs that they started."""

    name: str
    type: str
    title: str
    inside: str | None = Field(description="the step in whose block it stands")
    state: StepState
    times: int
    failed: int = Field(description="how many of the times")
    seconds: float | None
    tokens: int
    cost_usd: Usd
    calls: list[int]
    error: str | None = Field(description="the first")


class FlowRun(BaseModel):
    """A run of a flow; its id is the run's. Tokens and cost are with those of the runs that it has started."""

    flow_run_id: UUID
    flow_id: UUID
    flow_version: int | None
    status: Status
    reason: Reason | None
    current_task: str | None
    input_parameters: Any
    result: Any
    error: Any
    attempt: int
    steps: list[FlowStep]
    calls: int
    tokens: int
    cost_usd: Usd
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class FlowRunPage(BaseModel):
    """A page of runs, newest first."""

    items: list[FlowRun]
    next_cursor: str | None


class Executions:
    """What users see of their flows' runs."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def page(
        self, principal: Principal, flow_id: UUID, *, status: Status | None, after: Position | None, limit: int
    ) -> FlowRunPage:
        """A flow's runs, newest first. Raises FlowNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, flow_id)
            rows = await store.page(connection, flow_id, status=status, after=after, limit=limit + 1)
            items = await _runs(connection, rows[:limit])
        cursor = encode_cursor((items[-1].accepted_at, items[-1].flow_run_id)) if len(rows) > limit else None
        return FlowRunPage(items=items, next_cursor=cursor)

    async def get(self, principal: Principal, flow_id: UUID, run_id: UUID) -> FlowRun:
        """One of them. Raises FlowNotFound, FlowRunNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, flow_id)
            row = await store.find(connection, flow_id, run_id)
            if row is None:
                raise FlowRunNotFound(f"this flow had no run {run_id}; GET …/runs lists them")
            [run] = await _runs(connection, [row])
            return run


async def _runs(connection: Connection, rows: Sequence[DictRow]) -> list[FlowRun]:
    ids = [row["flow_run_id"] for row in rows]
    steps, started = await store.steps(connection, ids), await store.started(connection, ids)
    return [_run(row, [step for step in steps if step["flow_run_id"] == row["flow_run_id"]], started) for row in rows]


def _run(row: Mapping[str, Any], told: Sequence[Mapping[str, Any]], started: Mapping[UUID, Mapping[str, Any]]) -> FlowRun:
    fields = {name: value for name, value in row.items() if name != "definition"}
    others = started.get(row["flow_run_id"], {"tokens": 0, "cost_usd": Decimal(0)})
    fields |= {name: row[name] + others[name] for name in ("tokens", "cost_usd")}
    by_name = {step["step"]: step for step in told}
    nodes, _ = drawing_of(row["definition"])
    return FlowRun(**fields, steps=[_step(node, by_name.get(node.name), row) for node in nodes])


def _step(node: Node, told: Mapping[str, Any] | None, run: Mapping[str, Any]) -> FlowStep:
    """A step as the engine told of it, if it did."""
    about = {"name": node.name, "type": node.type, "title": node.title, "inside": node.inside}
    if told is None:
        state = "NotReached" if run["status"] in TERMINAL else "Pending"
        nothing: Mapping[str, Any] = {
            "times": 0,
            "failed": 0,
            "seconds": None,
            "tokens": 0,
            "cost_usd": 0,
            "calls": [],
            "error": None,
        }
        return FlowStep.model_validate({**about, **nothing, "state": state})
    calls = sorted({call for task in told["calls"] for call in task})
    return FlowStep.model_validate({**about, **told, "calls": calls, "state": _state(told, run)})


def _state(told: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """One word for all the times that a step has worked: what goes on comes first, then what failed."""
    going_on = next(_of(UNDER_WAY, told), None)
    if going_on is not None:
        ended = "Cancelled" if run["status"] in TERMINAL else going_on
        return "Waiting" if run["status"] == "waiting" else ended
    state: str = next(_of({"Failed"}, told), told["last_state"])
    return state


def _of(states: set[str], told: Mapping[str, Any]) -> Iterator[str]:
    return (state for state in told["states"] if state in states)
