"""What a run of a team is. Needs the database alone: the worker's schedules use it as the service does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from auralink.core.db import Connection
from auralink.runs.schemas import Order, Work
from auralink.runs.starting import limits_of_run
from auralink.teams import store
from auralink.teams.definition import MemberDefinition, TeamDefinition, TeamLimits, TeamOptions
from auralink.teams.errors import TeamHasNoMembers, TeamTooSmall, team_not_found
from auralink.workflows import inputs
from auralink.workflows.checking import Problem
from auralink.workflows.errors import InputInvalid


class TeamStarter:
    """A `Startable` (runs/starting.py)."""

    async def find_id(self, connection: Connection, reference: UUID | str) -> UUID:
        """The id of a team by its id or name. Raises TeamNotFound."""
        team_id = inputs.as_uuid(reference)
        if team_id is not None and await store.find(connection, team_id) is not None:
            return team_id
        found = await store.find_id(connection, str(reference))
        if found is None:
            raise team_not_found(reference)
        return found

    async def wants(self, connection: Connection, definition_id: UUID, _event: Mapping[str, Any]) -> bool:
        """A team works on any event. Raises TeamNotFound."""
        await get(connection, definition_id)
        return True

    async def prepare(
        self, connection: Connection, definition_id: UUID, order: Order, event: Mapping[str, Any] | None = None
    ) -> tuple[Work, Order]:
        """The team as it is now, and the order with its input: {task_description, additional_context?}.

        Raises TeamNotFound, TeamHasNoMembers, TeamTooSmall, InputInvalid.
        """
        row = await get(connection, definition_id)
        definition = await definition_now(connection, row)
        given = _task_of(event, row["task"]) if order.input is None and event is not None else order.input or {}
        return work_of(definition_id, definition), replace(order, input=task_in(definition, given, row["task"], order))


async def get(connection: Connection, team_id: UUID) -> DictRow:
    """The row of a team. Raises TeamNotFound."""
    row = await store.find(connection, team_id)
    if row is None:
        raise team_not_found(team_id)
    return row


async def definition_now(connection: Connection, row: Mapping[str, Any]) -> TeamDefinition:
    """A team with its members as they are now. Raises TeamHasNoMembers."""
    members = await store.members(connection, [row["id"]])
    if all(member["name"] == row["manager"] for member in members):
        raise TeamHasNoMembers(f"the team {row['name']!r} has nobody to work; POST /teams/{row['id']}/members adds somebody")
    lenders = [member["agent_id"] for member in members if member["agent_id"] is not None]
    return definition_of(row, members, await store.agents(connection, lenders))


def definition_of(
    row: Mapping[str, Any], members: Sequence[Mapping[str, Any]], agents: Mapping[UUID, Mapping[str, Any]] | None = None
) -> TeamDefinition:
    """The definition that rows stand for; `agents` are those that members have their model and instructions from."""
    return TeamDefinition(
        name=row["name"],
        description=row["description"],
        team_type=row["team_type"],
        mode=row["collaboration_mode"],
        version=row.get("version", 1),
        members=[_member(member, row["model"], (agents or {}).get(member["agent_id"], {})) for member in members],
        manager=row["manager"],
        model=row["model"],
        options=TeamOptions.model_validate(row["options"]),
        memory=row["memory"],
        limits=TeamLimits.model_validate(row["limits"]),
    )


def work_of(team_id: UUID, definition: TeamDefinition) -> Work:
    """What is to be run. Raises TeamTooSmall."""
    if (missing := definition.too_few()) is not None:
        raise TeamTooSmall(f"the team {definition.name!r} cannot work: {missing}; POST /teams/{team_id}/members adds somebody")
    stored = definition.stored()
    return Work("team", team_id, definition.team_type, stored, limits_of_run(stored["limits"]))


def task_in(definition: TeamDefinition, given: Any, usual: str, order: Order) -> Any:
    """What a run is given, with the team's usual task where it names none. Raises InputInvalid."""
    if isinstance(given, Mapping) and not given.get("task_description"):
        if not usual:
            say = "say what is to be done, or give the team a task (PATCH /teams/{id})"
            raise InputInvalid([Problem(f"{order.at}/task_description", say)])
        given = {**given, "task_description": usual}
    return inputs.fitting(definition.input, given, order)


def _member(member: Mapping[str, Any], model: str, agent: Mapping[str, Any]) -> MemberDefinition:
    return MemberDefinition(
        name=member["name"],
        role=member["role"],
        goal=member["goal"],
        instructions=member["instructions"] or agent.get("instructions", ""),
        model=member["model"] or agent.get("model", model),
        tools=member["tool_names"],
        can_delegate=member["can_delegate"],
    )


def _task_of(event: Mapping[str, Any], usual: str) -> dict[str, Any]:
    """What an event gives a team to do: the task in its data, or the usual one about the event, else the event as JSON."""
    data = event.get("data")
    if isinstance(data, Mapping) and isinstance(data.get("task_description"), str):
        return {name: data[name] for name in ("task_description", "additional_context") if data.get(name) is not None}
    if usual:
        return {"additional_context": orjson.loads(orjson.dumps(event, default=str))}
    return {"task_description": orjson.dumps(event, default=str).decode()}
