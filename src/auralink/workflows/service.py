"""Workflows: kept, checked when they are saved, and started."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow

from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.core.errors import InvalidRequest, NotFound
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.core.warned import Warning  # noqa: A004  # what it is called on the wire
from auralink.mcp.federation import Federation
from auralink.runs.schemas import Order, RunDetail
from auralink.runs.starting import Startables, require_room
from auralink.workflows import store
from auralink.workflows.checking import DefinitionInvalid, Problem, check, read_text, subworkflows
from auralink.workflows.definition import Definition
from auralink.workflows.errors import WorkflowNameTaken, agent_not_found, workflow_not_found
from auralink.workflows.schemas import (
    Execute,
    TemplatePage,
    TemplateView,
    WorkflowBody,
    WorkflowPage,
    WorkflowPatch,
    WorkflowStats,
    WorkflowView,
)
from auralink.workflows.snapshot import snapshot
from auralink.workflows.starting import ENGINE, get
from auralink.workflows.templates import get_template, template_names
from auralink.workflows.tools import known_connections, known_tools

CUSTOM = "custom"
NEVER_NULL = ("workflow_name", "workflow_type", "description", "mcp_integrations")
RequireEngine = Callable[[str], object]
"""Raises EngineNotInstalled for an engine that could run nothing."""


class Workflows:
    """What users do with workflows."""

    def __init__(self, db: Database, federation: Federation, startables: Startables, require_engine: RequireEngine) -> None:
        self._db = db
        self._federation = federation
        self._startables = startables
        self._require_engine = require_engine

    async def create(self, principal: Principal, body: WorkflowBody) -> WorkflowView:
        """A new workflow. Raises DefinitionInvalid, AgentNotFound, WorkflowNameTaken, TooManyDefinitions, EngineNotInstalled."""
        row = {**_columns(body.model_dump()), "id": uuid7(), "user_id": principal.user_id}
        warnings = await self._check(principal, row)
        try:
            async with self._db.tenant(principal) as connection:
                await require_room(connection, "agent_workflows")
                return _view(await store.insert(connection, row), warnings)
        except UniqueViolation:
            raise _name_taken(body.workflow_name) from None

    async def get(self, principal: Principal, workflow_id: UUID) -> WorkflowView:
        """One of them. Raises WorkflowNotFound."""
        async with self._db.tenant(principal) as connection:
            return _view(await get(connection, workflow_id))

    async def page(self, principal: Principal, *, name: str | None, after: Position | None, limit: int) -> WorkflowPage:
        """The principal's workflows, newest first."""
        async with self._db.tenant(principal) as connection:
            rows = await store.page(connection, name=name, after=after, limit=limit + 1)
        items = [_view(row) for row in rows[:limit]]
        cursor = encode_cursor((items[-1].created_at, items[-1].workflow_id)) if len(rows) > limit else None
        return WorkflowPage(items=items, next_cursor=cursor)

    async def change(self, principal: Principal, workflow_id: UUID, patch: WorkflowPatch) -> WorkflowView:
        """Changes what the patch names and raises the version; runs under way keep theirs.

        Raises WorkflowNotFound and what `create` raises.
        """
        given = patch.model_dump(exclude_unset=True)
        if not given or any(given.get(name, "") is None for name in NEVER_NULL):
            raise InvalidRequest(f"the body must change something, and {', '.join(NEVER_NULL)} cannot be null")
        async with self._db.tenant(principal) as connection:
            before = await get(connection, workflow_id)
        changes = _columns(given)
        warnings = await self._check(principal, {**before, **changes}, changed=changes)
        try:
            async with self._db.tenant(principal) as connection:
                await get(connection, workflow_id, locked=True)
                return _view(await store.update(connection, workflow_id, changes), warnings)
        except UniqueViolation:
            raise _name_taken(changes["name"]) from None

    async def remove(self, principal: Principal, workflow_id: UUID) -> None:
        """Deletes a workflow; its runs stay. Raises WorkflowNotFound."""
        async with self._db.tenant(principal) as connection:
            if not await store.delete(connection, workflow_id):
                raise workflow_not_found(workflow_id)

    async def execute(self, principal: Principal, workflow_id: UUID, body: Execute) -> RunDetail:
        """Accepts a run. Raises WorkflowNotFound, InputInvalid."""
        async with self._db.tenant(principal) as connection:
            order = Order(body.input_data, body.room_id, body.call_id, at="/input_data")
            return await self._startables.start_in(connection, principal, "workflow", workflow_id, order)

    async def stats(self, principal: Principal, workflow_id: UUID) -> WorkflowStats:
        """What its runs came to. Raises WorkflowNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, workflow_id)
            row = await store.statistics(connection, workflow_id)
        ended = row["succeeded"] + row["failed"]
        return WorkflowStats(workflow_id=workflow_id, success_rate=row["succeeded"] / ended if ended else None, **row)

    def templates(self) -> TemplatePage:
        """The workflows that come with the service."""
        return TemplatePage(items=[_template(name) for name in template_names()])

    async def _check(
        self, principal: Principal, row: dict[str, Any], *, changed: Mapping[str, Any] | None = None
    ) -> list[Warning]:
        """Checks a row, and puts the checked definition in its place (and in `changed`).

        What a template could not do is a warning: it may never come to that. What a graph of the user's own could not do is refused,
        but for the runs that it starts: what they are of may be made after it.
        """
        self._require_engine(ENGINE)
        if row["agent_id"] is not None:
            async with self._db.tenant(principal) as connection:
                await self._require_agent(connection, row["agent_id"])
        await self._require_connections(principal, row["mcp_integrations"])
        tools = await known_tools(self._federation, principal)
        if row["mcp_integrations"]:
            tools = tools.within(row["mcp_integrations"])
        if row["definition"] is None and row["workflow_type"] == CUSTOM:
            raise DefinitionInvalid([Problem("/definition", "a workflow of type custom needs a definition")])
        if row["definition"] is None:
            return _warnings(row, tools)
        if changed is None or {"definition", "mcp_integrations"} & changed.keys():
            definition = _checked(row["definition"], tools)
            row["definition"] = definition.stored()
            if changed is not None and "definition" in changed:
                changed["definition"] = row["definition"]  # type: ignore[index]  # ours: `change` has just made it
            return await self._not_there(principal, definition, itself=row["name"])
        return []

    async def _not_there(self, principal: Principal, definition: Definition, *, itself: str) -> list[Warning]:
        """What the definition starts and the user has not."""
        warnings = []
        async with self._db.tenant(principal) as connection:
            for pointer, node in subworkflows(definition):
                if (node.kind, node.name) == ("workflow", itself):
                    continue
                try:
                    await self._startables.of(node.kind).find_id(connection, node.name)
                except NotFound as error:
                    said = f"{error.message}; until there is one, a run that comes here fails"
                    warnings.append(Warning(pointer=f"/definition{pointer}", message=said))
        return warnings

    @staticmethod
    async def _require_agent(connection: Connection, agent_id: UUID) -> None:
        if await store.find_agent(connection, agent_id) is None:
            raise agent_not_found(agent_id)

    async def _require_connections(self, principal: Principal, names: list[str]) -> None:
        if not names:
            return
        known = await known_connections(self._federation, principal)
        problems = [
            Problem(f"/mcp_integrations/{at}", f"you have no connection {name!r}; POST /mcp/connect makes one")
            for at, name in enumerate(names)
            if name not in known
        ]
        if problems:
            raise DefinitionInvalid(problems)


def _checked(definition: Any, tools: Any) -> Definition:
    """A definition of a body. Raises DefinitionInvalid with pointers into the body."""
    try:
        data = read_text(definition) if isinstance(definition, str) else definition
        return check(data, tools=tools)
    except DefinitionInvalid as error:
        raise DefinitionInvalid([Problem(f"/definition{p['pointer']}", p["message"]) for p in error.extra["errors"]]) from None


def _warnings(row: Mapping[str, Any], tools: Any) -> list[Warning]:
    try:
        check(snapshot(row, None), tools=tools)
    except DefinitionInvalid as error:
        return [Warning(pointer=p["pointer"], message=p["message"]) for p in error.extra["errors"]]
    return []


def _columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the wire calls it, as the table does."""
    return {"name" if name == "workflow_name" else name: value for name, value in given.items()}


def _view(row: DictRow, warnings: list[Warning] | None = None) -> WorkflowView:
    fields = {name: value for name, value in row.items() if name not in ("id", "name")}
    return WorkflowView(workflow_id=row["id"], workflow_name=row["name"], warnings=warnings or [], **fields)


def _template(name: str) -> TemplateView:
    template = get_template(name)
    return TemplateView(name=name, description=template.description, input=template.input, definition=template.stored())


def _name_taken(name: str) -> WorkflowNameTaken:
    return WorkflowNameTaken(f"you have a workflow named {name!r}; change it with PATCH, or choose another name")
