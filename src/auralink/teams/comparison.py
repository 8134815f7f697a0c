"""One task given to a team on several engines and models: a run for each, all accepted together, seen side by side."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Annotated, Any
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import BaseModel, ConfigDict, Field

from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.core.ids import uuid7
from auralink.core.money import Usd
from auralink.runs.schemas import TERMINAL, Order, Reason, Status
from auralink.runs.service import Runs
from auralink.teams import comparison_store as store
from auralink.teams.definition import TeamDefinition
from auralink.teams.errors import ComparisonNotFound
from auralink.teams.roster import Choice, Roster
from auralink.teams.schemas import Context, Task
from auralink.teams.starting import definition_now, get, task_in, work_of
from auralink.workflows.checking import DefinitionInvalid, Problem
from auralink.workflows.schemas import Given

MAX_RUNS = 24


class CompareBody(BaseModel):
    """POST /teams/{id}/compare: each engine with each model, a run each."""

    model_config = ConfigDict(extra="forbid")

    engines: Annotated[list[Given], Field(max_length=8)] = Field(default=[], description="none: the team's own")
    models: Annotated[list[Given], Field(max_length=8)] = Field(default=[], description="for every member; none: those they have")
    modes: dict[Given, Given] = Field(
        default={}, description="by engine; without: the team's, if the engine has it, else its usual"
    )
    task_description: Task | None = None
    additional_context: Context | None = None


class Compared(BaseModel):
    """One of the runs. `seconds` are since it began; `model` is null where members kept theirs; all of it is null once the run was
    deleted (`RUN_RETENTION_DAYS`)."""

    run_id: UUID
    engine: str
    mode: str
    model: str | None
    status: Status | None = None
    reason: Reason | None = None
    answer: str | None = None
    stopped: Any = None
    error: Any = None
    seconds: float | None = None
    tokens: int | None = None
    cost_usd: Usd | None = None
    model_calls: int | None = None
    tool_calls: int | None = None


class Comparison(BaseModel):
    """Runs of one task side by side, in the order in which they were asked for; `finished` once all have ended."""

    comparison_id: UUID
    team_id: UUID
    task: Any
    finished: bool
    runs: list[Compared]
    created_at: datetime


class Comparisons:
    """What users do to find out which engine and model serves a team best."""

    def __init__(self, db: Database, runs: Runs, roster: Roster) -> None:
        self._db = db
        self._runs = runs
        self._roster = roster

    async def start(self, principal: Principal, team_id: UUID, body: CompareBody) -> Comparison:
        """Accepts the runs, in one transaction. Raises TeamNotFound, TeamHasNoMembers, DefinitionInvalid, EngineNotInstalled,
        InputInvalid."""
        async with self._db.tenant(principal) as connection:
            team = await get(connection, team_id)
        choices = self._choices(team, body)
        models: list[str | None] = [*dict.fromkeys(body.models)] or [None]
        if len(choices) * len(models) > MAX_RUNS:
            raise DefinitionInvalid([Problem("/engines", f"a comparison has at most {MAX_RUNS} runs")])
        given = body.model_dump(include={"task_description", "additional_context"}, exclude_none=True)
        async with self._db.tenant(principal) as connection:
            row = await get(connection, team_id)
            definition = await definition_now(connection, row)
            task = task_in(definition, given, row["task"], Order(None))
            runs = []
            for choice, model in product(choices, models):
                work = work_of(team_id, _on(definition, choice, model))
                run = await self._runs.accept_in(connection, principal, work, Order(task))
                runs.append({"run_id": str(run.run_id), "engine": choice.team_type, "mode": choice.mode, "model": model})
            comparison_id = uuid7()
            await store.insert(connection, comparison_id, principal.user_id, team_id, task, runs)
            return await _get(connection, team_id, comparison_id)

    async def get(self, principal: Principal, team_id: UUID, comparison_id: UUID, *, within: float = 0.0) -> Comparison:
        """A comparison, once its runs have ended or after so many seconds. Raises TeamNotFound, ComparisonNotFound."""
        until = asyncio.get_running_loop().time() + within
        comparison = await self._look(principal, team_id, comparison_id)
        for run in comparison.runs:
            left = until - asyncio.get_running_loop().time()
            if left > 0 and run.status is not None and run.status not in TERMINAL:
                await self._runs.wait(principal, run.run_id, left)
        return await self._look(principal, team_id, comparison_id) if within else comparison

    async def _look(self, principal: Principal, team_id: UUID, comparison_id: UUID) -> Comparison:
        async with self._db.tenant(principal) as connection:
            await get(connection, team_id)
            return await _get(connection, team_id, comparison_id)

    def _choices(self, team: Mapping[str, Any], body: CompareBody) -> list[Choice]:
        """The engines with a mode each. Raises DefinitionInvalid with pointers into the body, EngineNotInstalled."""
        engines = list(dict.fromkeys(body.engines)) or [team["team_type"]]
        problems = [Problem(f"/modes/{name}", f"{name!r} is not among the engines") for name in body.modes if name not in engines]
        chosen = []
        for at, engine in enumerate(engines):
            try:
                chosen.append(self._roster.choose(engine, body.modes.get(engine), usual=team["collaboration_mode"]))
            except DefinitionInvalid as error:
                pointer = f"/modes/{engine}" if error.extra["errors"][0]["pointer"] == "/collaboration_mode" else f"/engines/{at}"
                problems.append(Problem(pointer, error.extra["errors"][0]["message"]))
        if problems:
            raise DefinitionInvalid(problems)
        return chosen


def _on(definition: TeamDefinition, choice: Choice, model: str | None) -> TeamDefinition:
    """A team on an engine, with one model for everybody."""
    changes: dict[str, Any] = {"team_type": choice.team_type, "mode": choice.mode}
    if model is not None:
        changes["model"] = model
        changes["members"] = [member.model_copy(update={"model": model}) for member in definition.members]
    return definition.model_copy(update=changes)


async def _get(connection: Connection, team_id: UUID, comparison_id: UUID) -> Comparison:
    row = await store.find(connection, team_id, comparison_id)
    if row is None:
        raise ComparisonNotFound(f"this team was not compared under {comparison_id}; POST …/compare begins a comparison")
    runs = row.pop("runs")
    ids = [UUID(run["run_id"]) for run in runs]
    outcomes = {found["run_id"]: found for found in await store.outcomes(connection, ids)}
    return Comparison(**row, finished=_finished(list(outcomes.values())), runs=[_compared(run, outcomes) for run in runs])


def _finished(outcomes: Sequence[DictRow]) -> bool:
    return all(outcome["ended"] for outcome in outcomes)


def _compared(run: Mapping[str, Any], outcomes: Mapping[UUID, DictRow]) -> Compared:
    found = outcomes.get(UUID(run["run_id"]))
    if found is None:
        return Compared(**run)
    output = found["output"] if isinstance(found["output"], dict) else {}
    fields = {name: found[name] for name in ("status", "reason", "seconds", "tokens", "cost_usd", "model_calls", "tool_calls")}
    error = found["error"] if found["status"] == "failed" else None
    return Compared(**run, **fields, error=error, answer=output.get("answer"), stopped=output.get("stopped"))
