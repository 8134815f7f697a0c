"""Flows: kept, checked when they are saved, drawn, started, and put on schedules."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow

from auralink.auth.principal import Principal
from auralink.core.db import Connection, Database
from auralink.core.errors import InvalidRequest, NotFound
from auralink.core.ids import uuid7
from auralink.core.paging import Position, encode_cursor
from auralink.core.warned import Warning, did_you_mean  # noqa: A004  # what it is called on the wire
from auralink.flows import store
from auralink.flows.checking import Named, check, named_in
from auralink.flows.definition import Definition
from auralink.flows.errors import FlowNameTaken, flow_not_found
from auralink.flows.graph import drawing_of, mermaid_of
from auralink.flows.schemas import (
    CUSTOM,
    EdgeView,
    Execute,
    FlowBody,
    FlowPage,
    FlowPatch,
    FlowScheduleBody,
    FlowView,
    Graph,
    NodeView,
    TemplatePage,
    TemplateView,
)
from auralink.flows.starting import ENGINE, get, snapshot
from auralink.flows.templates import get_template, template_names
from auralink.mcp.federation import Federation
from auralink.runs.schemas import Order, RunDetail
from auralink.runs.starting import Startables, require_room
from auralink.schedules.schemas import ScheduleBody, SchedulePage, ScheduleView
from auralink.schedules.service import Schedules
from auralink.workflows.checking import DefinitionInvalid, Problem, read_text
from auralink.workflows.errors import InputInvalid
from auralink.workflows.tools import KnownTools, known_tools

MAY_BE_NULL = {"definition", "template"}
RequireEngine = Callable[[str], object]
"""Raises EngineNotInstalled for an engine that could run nothing."""


class Flows:
    """What users do with flows."""

    def __init__(
        self, db: Database, federation: Federation, startables: Startables, schedules: Schedules, require_engine: RequireEngine
    ) -> None:
        self._db = db
        self._federation = federation
        self._startables = startables
        self._schedules = schedules
        self._require_engine = require_engine

    async def create(self, principal: Principal, body: FlowBody) -> FlowView:
        """A new flow. Raises DefinitionInvalid, TemplateNotFound, FlowNameTaken, TooManyDefinitions, EngineNotInstalled."""
        row = _columns(body.model_dump())
        _settle(row)
        row["flow_type"] = row["flow_type"] or row["template"] or CUSTOM
        warnings = await self._check(principal, row)
        try:
            async with self._db.tenant(principal) as connection:
                await require_room(connection, "prefect_flows")
                made = await store.insert(connection, {**row, "id": uuid7(), "user_id": principal.user_id})
                return _view(made, warnings)
        except UniqueViolation:
            raise _name_taken(body.flow_name) from None

    async def get(self, principal: Principal, flow_id: UUID) -> FlowView:
        """One of them. Raises FlowNotFound."""
        async with self._db.tenant(principal) as connection:
            return _view(await get(connection, flow_id))

    async def page(self, principal: Principal, *, name: str | None, after: Position | None, limit: int) -> FlowPage:
        """The principal's flows, newest first."""
        async with self._db.tenant(principal) as connection:
            rows = await store.page(connection, name=name, after=after, limit=limit + 1)
        items = [_view(row) for row in rows[:limit]]
        cursor = encode_cursor((items[-1].created_at, items[-1].flow_id)) if len(rows) > limit else None
        return FlowPage(items=items, next_cursor=cursor)

    async def change(self, principal: Principal, flow_id: UUID, patch: FlowPatch) -> FlowView:
        """Changes what the patch names and raises the version; runs under way keep theirs.

        Raises FlowNotFound and what `create` raises.
        """
        changes = _changes(patch)
        async with self._db.tenant(principal) as connection:
            before = await get(connection, flow_id)
        after = {**before, **changes}
        warnings = []
        if MAY_BE_NULL & changes.keys():
            _settle(after)
            warnings = await self._check(principal, after)
            changes |= {name: after[name] for name in MAY_BE_NULL}
        try:
            async with self._db.tenant(principal) as connection:
                await get(connection, flow_id, locked=True)
                return _view(await store.update(connection, flow_id, changes), warnings)
        except UniqueViolation:
            raise _name_taken(changes["name"]) from None

    async def remove(self, principal: Principal, flow_id: UUID) -> None:
        """Deletes a flow; its runs stay, and its schedules pause when they are due. Raises FlowNotFound."""
        async with self._db.tenant(principal) as connection:
            if not await store.delete(connection, flow_id):
                raise flow_not_found(flow_id)

    async def graph(self, principal: Principal, flow_id: UUID) -> Graph:
        """The flow as a drawing. Raises FlowNotFound."""
        async with self._db.tenant(principal) as connection:
            definition = snapshot(await get(connection, flow_id))
        nodes, edges = drawing_of(definition)
        return Graph(
            nodes=[NodeView(**asdict(node)) for node in nodes],
            edges=[EdgeView(**asdict(edge)) for edge in edges],
            mermaid=mermaid_of(definition),
        )

    async def execute(self, principal: Principal, flow_id: UUID, body: Execute) -> RunDetail:
        """Accepts a run. Raises FlowNotFound, InputInvalid."""
        async with self._db.tenant(principal) as connection:
            order = Order(body.input_parameters, body.room_id, body.call_id, at="/input_parameters")
            return await self._startables.start_in(connection, principal, "flow", flow_id, order)

    async def schedules(self, principal: Principal, flow_id: UUID, *, after: Position | None, limit: int) -> SchedulePage:
        """The flow's schedules, newest first. Raises FlowNotFound."""
        async with self._db.tenant(principal) as connection:
            await get(connection, flow_id)
        return await self._schedules.page(principal, definition_id=flow_id, after=after, limit=limit)

    async def schedule(self, principal: Principal, flow_id: UUID, body: FlowScheduleBody) -> ScheduleView:
        """Has the flow run by the clock. Raises FlowNotFound, InputInvalid, BadSchedule, ScheduleNameTaken."""
        async with self._db.tenant(principal) as connection:
            flow = await get(connection, flow_id)
        name = body.name or f"{flow['name'][:150]}: {body.cron or f'every {body.interval or 0:g} s'}"[:200]
        given = body.model_dump(exclude={"name", "input_parameters"})
        order = ScheduleBody(name=name, kind="flow", definition_id=flow_id, input=body.input_parameters, **given)
        try:
            return await self._schedules.create(principal, order)
        except InputInvalid as error:  # which a schedule calls its input
            problems = [
                Problem(p["pointer"].replace("/input", "/input_parameters", 1), p["message"]) for p in error.extra["errors"]
            ]
            raise InputInvalid(problems) from None

    def templates(self) -> TemplatePage:
        """The flows that come with the service."""
        return TemplatePage(items=[_template(name) for name in template_names()])

    async def _check(self, principal: Principal, row: dict[str, Any]) -> list[Warning]:
        """Checks a row, and puts the checked definition in its place.

        What is named and not there is a warning; a tool that a step of the user's own cannot do without is refused.
        """
        self._require_engine(ENGINE)
        if row["template"] is not None:
            missing = await self._missing(principal, get_template(row["template"]))
            return [Warning(pointer=problem.pointer, message=problem.message) for _, problem in missing]
        definition = _checked(row["definition"])
        missing = [(named, _in_the_body(problem)) for named, problem in await self._missing(principal, definition)]
        refused = [problem for named, problem in missing if named.kind == "tool" and not named.tolerated]
        if refused:
            raise DefinitionInvalid(refused)
        row["definition"] = definition.stored()
        return [Warning(pointer=problem.pointer, message=problem.message) for _, problem in missing]

    async def _missing(self, principal: Principal, definition: Definition) -> list[tuple[Named, Problem]]:
        """What the definition names and the principal does not have."""
        tools = await known_tools(self._federation, principal)
        found = []
        async with self._db.tenant(principal) as connection:
            for named in named_in(definition):
                said = _missing_tool(named, tools) if named.kind == "tool" else await self._missing_definition(connection, named)
                if said is not None:
                    found.append((named, Problem(named.pointer, said)))
        return found

    async def _missing_definition(self, connection: Connection, named: Named) -> str | None:
        assert named.kind != "tool"
        try:
            await self._startables.of(named.kind).find_id(connection, named.name)
        except NotFound as error:
            return error.message
        return None


def _settle(row: dict[str, Any]) -> None:
    """A flow has a definition or a template; its type may say which. Raises DefinitionInvalid."""
    if row["definition"] is None and row["template"] is None and row["flow_type"] in template_names():
        row["template"] = row["flow_type"]
    if row["definition"] is not None and row["template"] is not None:
        raise DefinitionInvalid([Problem("/template", "give a definition or a template, not both")])
    if row["definition"] is None and row["template"] is None:
        there = f"the templates are {', '.join(template_names())}"
        raise DefinitionInvalid([Problem("/definition", f"a flow needs a definition or a template; {there}")])


def _changes(patch: FlowPatch) -> dict[str, Any]:
    """What a patch changes. Raises InvalidRequest if that is nothing, or takes away what must be there."""
    given = _columns(patch.model_dump(exclude_unset=True))
    if not given:
        raise InvalidRequest("the body changes nothing")
    if wrong := [name for name, value in given.items() if value is None and name not in MAY_BE_NULL]:
        raise InvalidRequest(f"{', '.join(wrong)} cannot be null; leave it out, and it stays")
    if given.get("definition") is not None:
        given.setdefault("template", None)
    elif given.get("template") is not None:
        given.setdefault("definition", None)
    return given


def _checked(definition: Any) -> Definition:
    """A definition. Raises DefinitionInvalid with pointers into the body."""
    try:
        return check(read_text(definition) if isinstance(definition, str) else definition)
    except DefinitionInvalid as error:
        problems = (Problem(p["pointer"], p["message"]) for p in error.extra["errors"])
        raise DefinitionInvalid([_in_the_body(problem) for problem in problems]) from None


def _in_the_body(problem: Problem) -> Problem:
    return Problem(f"/definition{problem.pointer}", problem.message)


def _missing_tool(named: Named, tools: KnownTools) -> str | None:
    if named.name in tools:
        return None
    return f"you have no tool {named.name!r}{did_you_mean(named.name, tools)}; connect its server, or see GET /mcp/tools"


def _columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the wire calls it, as the table does."""
    return {"name" if name == "flow_name" else name: value for name, value in given.items()}


def _view(row: DictRow, warnings: list[Warning] | None = None) -> FlowView:
    fields = {name: value for name, value in row.items() if name not in ("id", "name")}
    return FlowView(flow_id=row["id"], flow_name=row["name"], warnings=warnings or [], **fields)


def _template(name: str) -> TemplateView:
    template = get_template(name)
    return TemplateView(name=name, description=template.description, input=template.input, definition=template.stored())


def _name_taken(name: str) -> FlowNameTaken:
    return FlowNameTaken(f"you have a flow named {name!r}; change it with PATCH, or choose another name")
