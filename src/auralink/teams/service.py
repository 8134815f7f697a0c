"""Teams: kept with their members, checked when they are saved, and started."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow

from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.core.errors import InvalidRequest
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.core.warned import Warning  # noqa: A004  # what it is called on the wire
from auralink.mcp.federation import Federation
from auralink.runs.schemas import Order, RunDetail
from auralink.runs.starting import Startables, require_room
from auralink.teams import members as rows_of_members
from auralink.teams import store
from auralink.teams.definition import MAX_MEMBERS
from auralink.teams.errors import MemberNameTaken, TeamNameTaken, member_not_found, team_not_found
from auralink.teams.roster import Roster
from auralink.teams.schemas import (
    Execute,
    MemberBody,
    MemberPage,
    MemberPatch,
    MemberView,
    TeamBody,
    TeamPage,
    TeamPatch,
    TeamView,
    TemplatePage,
    TemplateView,
)
from auralink.teams.starting import definition_of, get
from auralink.teams.templates import best_template, get_template, templates
from auralink.teams.tools import users_tools
from auralink.workflows.checking import DefinitionInvalid, Problem
from auralink.workflows.errors import agent_not_found
from auralink.workflows.tools import memory_connection

OF_THE_SIZE = {"team_type", "collaboration_mode", "manager", "options"}
"""What of a team decides how many members it needs."""
MAY_BE_NULL = {"manager", "model", "agent_id"}
Row = dict[str, Any]


class Teams:
    """What users do with teams."""

    def __init__(self, db: Database, federation: Federation, startables: Startables, roster: Roster) -> None:
        self._db = db
        self._federation = federation
        self._startables = startables
        self._roster = roster

    async def create(self, principal: Principal, body: TeamBody) -> TeamView:
        """A new team with its members: those of the body, else a template's.

        Raises DefinitionInvalid, EngineNotInstalled, TemplateNotFound, AgentNotFound, TeamNameTaken,
        TooManyDefinitions.
        """
        template = get_template(body.template) if body.template is not None else best_template(body.team_name, body.description)
        choice = self._roster.choose(
            body.team_type, body.collaboration_mode, usual=template.mode if body.members is None else None
        )
        row = {**_columns(body.model_dump(mode="json", exclude={"members"})), "id": uuid7(), "user_id": principal.user_id}
        row |= {"team_type": choice.team_type, "collaboration_mode": choice.mode, "template": None}
        row["memory"] = await memory_connection(self._federation, principal, body.memory)
        tools, warnings = await users_tools(self._federation, principal), list[Warning]()
        if body.members is None:
            row["template"] = template.name
            row["options"] = {
                **template.options.model_dump(mode="json"),
                **body.options.model_dump(mode="json", exclude_unset=True),
            }
            members, warnings = rows_of_members.of_template(principal, row["id"], template, tools)
        else:
            members = rows_of_members.of_bodies(principal, row["id"], body.members, tools)
        _require_sound(row, rows_of_members.in_order(members), enough=True)
        try:
            async with self._db.tenant(principal) as connection:
                await _require_agents(connection, members)
                await require_room(connection, "agent_teams")
                made = await store.insert(connection, row)
                for member in members:
                    await store.insert_member(connection, member)
                return _view(made, await store.members(connection, [row["id"]]), warnings)
        except UniqueViolation:
            raise _name_taken(body.team_name) from None

    async def get(self, principal: Principal, team_id: UUID) -> TeamView:
        """One of them. Raises TeamNotFound."""
        async with self._db.tenant(principal) as connection:
            return _view(await get(connection, team_id), await store.members(connection, [team_id]))

    async def page(self, principal: Principal, *, name: str | None, after: Position | None, limit: int) -> TeamPage:
        """The principal's teams, newest first."""
        async with self._db.tenant(principal) as connection:
            rows = await store.page(connection, name=name, after=after, limit=limit + 1)
            found = await store.members(connection, [row["id"] for row in rows[:limit]])
        found.sort(key=lambda member: member["team_id"])
        by_team = {team_id: list(members) for team_id, members in groupby(found, key=lambda member: member["team_id"])}
        items = [_view(row, by_team.get(row["id"], [])) for row in rows[:limit]]
        cursor = encode_cursor((items[-1].created_at, items[-1].team_id)) if len(rows) > limit else None
        return TeamPage(items=items, next_cursor=cursor)

    async def change(self, principal: Principal, team_id: UUID, patch: TeamPatch) -> TeamView:
        """Changes what the patch names and raises the version; runs under way keep theirs.

        Raises TeamNotFound and what `create` raises.
        """
        changes = _changes(patch)
        async with self._db.tenant(principal) as connection:
            before = await get(connection, team_id)
        changes = _columns(changes)
        if {"team_type", "collaboration_mode"} & changes.keys():
            wanted = {**before, **changes}
            self._roster.choose(wanted["team_type"], wanted["collaboration_mode"])
        if "memory" in changes:
            changes["memory"] = await memory_connection(self._federation, principal, changes["memory"])
        try:
            async with self._db.tenant(principal) as connection:
                row = await store.update(connection, team_id, changes)
                if row is None:
                    raise team_not_found(team_id)
                members = await store.members(connection, [team_id])
                _require_sound(row, members, enough=bool(OF_THE_SIZE & changes.keys()))
                return _view(row, members)
        except UniqueViolation:
            raise _name_taken(changes["name"]) from None

    async def remove(self, principal: Principal, team_id: UUID) -> None:
        """Deletes a team with its members; its runs stay. Raises TeamNotFound."""
        async with self._db.tenant(principal) as connection:
            if not await store.delete(connection, team_id):
                raise team_not_found(team_id)

    async def members(self, principal: Principal, team_id: UUID) -> MemberPage:
        """Its members, in the order in which they work. Raises TeamNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, team_id)
            return MemberPage(items=[_member_view(row) for row in await store.members(connection, [team_id])])

    async def member(self, principal: Principal, team_id: UUID, member_id: UUID) -> MemberView:
        """One of its members. Raises TeamNotFound, MemberNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, team_id)
            return _member_view(_one_of(await store.members(connection, [team_id]), member_id))

    async def add_member(self, principal: Principal, team_id: UUID, body: MemberBody) -> MemberView:
        """One member more. Raises TeamNotFound, AgentNotFound, DefinitionInvalid, MemberNameTaken."""
        names = await self._tool_names(principal, team_id, body.tools)
        async with self._db.tenant(principal) as connection:
            await _touch(connection, team_id)
            others = await store.members(connection, [team_id])
            if len(others) >= MAX_MEMBERS:
                raise DefinitionInvalid([Problem("", f"a team has at most {MAX_MEMBERS} members")])
            taken = {other["name"] for other in others}
            row = rows_of_members.row_of(principal, team_id, body, names, taken, others)
            _require_free(row["name"], taken)
            await _require_agents(connection, [row])
            return _member_view(await store.insert_member(connection, row))

    async def change_member(self, principal: Principal, team_id: UUID, member_id: UUID, patch: MemberPatch) -> MemberView:
        """Changes what the patch names. Raises MemberNotFound and what `add_member` raises."""
        changes = _changes(patch)
        if "tools" in changes:
            changes["tool_names"] = await self._tool_names(principal, team_id, changes["tools"])
        async with self._db.tenant(principal) as connection:
            team = await _touch(connection, team_id)
            members = await store.members(connection, [team_id])
            before = _one_of(members, member_id)
            if "name" in changes:
                _require_free(changes["name"], {other["name"] for other in members if other["id"] != member_id})
            await _require_agents(connection, [{"agent_id": None, **changes}])
            after = await store.update_member(connection, member_id, changes)
            if after["name"] != before["name"]:
                _require_sound(team, await store.members(connection, [team_id]))
            return _member_view(after)

    async def remove_member(self, principal: Principal, team_id: UUID, member_id: UUID) -> None:
        """One member less. Raises TeamNotFound, MemberNotFound, and DefinitionInvalid while the team's manager or handoffs name it."""
        async with self._db.tenant(principal) as connection:
            team = await _touch(connection, team_id)
            _one_of(await store.members(connection, [team_id]), member_id)
            await store.delete_member(connection, member_id)
            _require_sound(team, await store.members(connection, [team_id]))

    async def execute(self, principal: Principal, team_id: UUID, body: Execute) -> RunDetail:
        """Accepts a run. Raises TeamNotFound, TeamHasNoMembers, TeamTooSmall, InputInvalid."""
        async with self._db.tenant(principal) as connection:
            order = Order(body.given(), body.room_id, body.call_id)
            return await self._startables.start_in(connection, principal, "team", team_id, order)

    def templates(self) -> TemplatePage:
        """The teams that come with the service."""
        return TemplatePage(
            items=[
                TemplateView(
                    name=template.name,
                    description=template.description,
                    collaboration_mode=template.mode,
                    options=template.options,
                    members=[MemberBody(**{**member.model_dump(), "tools": list(member.tools)}) for member in template.members],
                )
                for template in templates().values()
            ]
        )

    async def _tool_names(self, principal: Principal, team_id: UUID, given: Sequence[str]) -> list[str]:
        """The names of tools as runs call them. Raises TeamNotFound (first: others' teams are not told from none), DefinitionInvalid."""
        async with self._db.tenant(principal) as connection:
            await get(connection, team_id)
        names, problems = (await users_tools(self._federation, principal)).resolve(given) if given else ([], [])
        if problems:
            raise DefinitionInvalid(problems)
        return names


async def _touch(connection: Connection, team_id: UUID) -> DictRow:
    """The team, of another version, and locked. Raises TeamNotFound."""
    row = await store.update(connection, team_id, {})
    if row is None:
        raise team_not_found(team_id)
    return row


async def _require_agents(connection: Connection, members: Sequence[Mapping[str, Any]]) -> None:
    """Raises AgentNotFound for an agent that a member names and that there is not."""
    wanted = [member["agent_id"] for member in members if member["agent_id"] is not None]
    known = await store.agents(connection, wanted)
    for agent_id in wanted:
        if agent_id not in known:
            raise agent_not_found(agent_id)


def _require_sound(row: Mapping[str, Any], members: Sequence[Mapping[str, Any]], *, enough: bool = False) -> None:
    """Raises DefinitionInvalid. Whether a team that has members has enough of them is asked where nobody is about to add one."""
    names = [member["name"] for member in members]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DefinitionInvalid([Problem("/members", f"two members are named {twice!r}; each needs a name of its own")])
    definition = definition_of(row, members)
    if problems := list(definition.problems()):
        raise DefinitionInvalid(problems)
    if enough and members and (missing := definition.too_few()) is not None:
        raise DefinitionInvalid([Problem("/members", missing)])


def _require_free(name: str, taken: Collection[str]) -> None:
    if name in taken:
        raise MemberNameTaken(f"the team has a member named {name!r}; choose another name, or change that one with PATCH")


def _one_of(members: Sequence[DictRow], member_id: UUID) -> DictRow:
    found = next((member for member in members if member["id"] == member_id), None)
    if found is None:
        raise member_not_found(member_id)
    return found


def _changes(patch: TeamPatch | MemberPatch) -> Row:
    """What a patch changes. Raises InvalidRequest if that is nothing, or takes away what must be there."""
    given = patch.model_dump(mode="json", exclude_unset=True)
    may_be_null = MAY_BE_NULL - ({"model"} if isinstance(patch, TeamPatch) else set())
    if not given:
        raise InvalidRequest("the body changes nothing")
    if wrong := [name for name, value in given.items() if value is None and name not in may_be_null]:
        raise InvalidRequest(f"{', '.join(wrong)} cannot be null; leave it out, and it stays")
    if isinstance(patch, MemberPatch) and patch.agent_id is not None:
        given["agent_id"] = patch.agent_id
    return given


def _columns(given: Mapping[str, Any]) -> Row:
    """What the wire calls it, as the table does."""
    return {"name" if name == "team_name" else name: value for name, value in given.items()}


def _view(row: DictRow, members: Sequence[DictRow], warnings: Sequence[Warning] = ()) -> TeamView:
    fields = {name: value for name, value in row.items() if name not in ("id", "name", "memory")}
    return TeamView(
        team_id=row["id"],
        team_name=row["name"],
        memory=row["memory"] or False,
        members=[_member_view(member) for member in members],
        warnings=list(warnings),
        **fields,
    )


def _member_view(row: DictRow) -> MemberView:
    return MemberView(member_id=row["id"], **{name: value for name, value in row.items() if name != "id"})


def _name_taken(name: str) -> TeamNameTaken:
    return TeamNameTaken(f"you have a team named {name!r}; change it with PATCH, or choose another name")
