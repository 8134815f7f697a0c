"""HTTP of flows. What happens is in `service.py` and `executions.py`."""

from typing import Annotated, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from auralink.auth.dependencies import Authenticated
from auralink.core.http import JSONBytes
from auralink.core.idempotency import idempotently, in_place_of, once
from auralink.core.paging import Limit, decode_cursor
from auralink.flows.executions import Executions, FlowRun, FlowRunPage
from auralink.flows.schemas import Execute, FlowBody, FlowPage, FlowPatch, FlowScheduleBody, FlowView, Graph, TemplatePage
from auralink.flows.service import Flows
from auralink.runs.routes import Service as RunService
from auralink.runs.routes import accepted, execute
from auralink.runs.schemas import Accepted, Status
from auralink.schedules.schemas import SchedulePage, ScheduleView
from auralink.workflows.bodies import YamlToo

MERMAID = "text/vnd.mermaid"
router = APIRouter(prefix="/api/v1/flows", tags=["flows"], route_class=YamlToo)


async def _flows(request: Request) -> Flows:
    flows: Flows = request.app.state.flows
    return flows


async def _executions(request: Request) -> Executions:
    executions: Executions = request.app.state.flow_executions
    return executions


Service = Annotated[Flows, Depends(_flows)]
ExecutionService = Annotated[Executions, Depends(_executions)]


@router.get("")
async def list_flows(
    principal: Authenticated, flows: Service, name: str | None = None, limit: Limit = 50, cursor: str | None = None
) -> FlowPage:
    """Your flows, newest first."""
    return await flows.page(principal, name=name, after=decode_cursor(cursor), limit=limit)


@router.post("", status_code=201, response_model=FlowView)
async def create_flow(body: FlowBody, request: Request, principal: Authenticated, flows: Service) -> Response:
    """Makes a flow of a template or of steps of your own (JSON or YAML); it is checked first."""
    return await once(request, principal, lambda: flows.create(principal, body), 201)


@router.get("/templates")
async def list_templates(_principal: Authenticated, flows: Service) -> TemplatePage:
    """The flows that come with the service."""
    return flows.templates()


@router.get("/{flow_id}")
async def get_flow(flow_id: UUID, principal: Authenticated, flows: Service) -> FlowView:
    """One flow."""
    return await flows.get(principal, flow_id)


@router.patch("/{flow_id}")
async def change_flow(flow_id: UUID, patch: FlowPatch, principal: Authenticated, flows: Service) -> FlowView:
    """Changes a flow, which raises its version; runs under way keep the one they have."""
    return await flows.change(principal, flow_id, patch)


@router.delete("/{flow_id}", status_code=204)
async def remove_flow(flow_id: UUID, principal: Authenticated, flows: Service) -> None:
    """Deletes a flow; its runs stay."""
    await flows.remove(principal, flow_id)


@router.get("/{flow_id}/graph", response_model=Graph)
async def draw_flow(
    flow_id: UUID,
    request: Request,
    principal: Authenticated,
    flows: Service,
    wanted: Annotated[Literal["json", "mermaid"] | None, Query(alias="format")] = None,
) -> Response:
    """The flow as nodes and edges and as Mermaid; with `?format=mermaid` or `Accept: text/vnd.mermaid` that text alone."""
    graph = await flows.graph(principal, flow_id)
    if wanted == "mermaid" or (wanted is None and MERMAID in request.headers.get("accept", "").lower()):
        return Response(graph.mermaid, media_type=f"{MERMAID}; charset=utf-8", headers={"Vary": "Accept"})
    return JSONBytes(graph.model_dump(mode="json"), headers={"Vary": "Accept"})


@router.post("/{flow_id}/execute", status_code=202, response_model=Accepted)
async def execute_flow(
    flow_id: UUID, body: Execute, request: Request, principal: Authenticated, flows: Service, runs: RunService
) -> Response:
    """Starts a run: 202 with its address, or with `Prefer: wait=N` the run with its output when it has ended."""

    async def start() -> Response:
        return accepted(await flows.execute(principal, flow_id, body))

    answer = await idempotently(request.app.state.db, principal, request, start)
    if answer.status_code >= 400:
        return answer
    run_id = UUID(orjson.loads(answer.body)["run_id"])
    return in_place_of(answer, await execute(request, principal, runs, await runs.get(principal, run_id)))


@router.get("/{flow_id}/runs")
async def list_flow_runs(
    flow_id: UUID,
    principal: Authenticated,
    executions: ExecutionService,
    status: Status | None = None,
    limit: Limit = 20,
    cursor: str | None = None,
) -> FlowRunPage:
    """The flow's runs, newest first, with the state, time, tokens and cost of every step."""
    return await executions.page(principal, flow_id, status=status, after=decode_cursor(cursor), limit=limit)


@router.get("/{flow_id}/runs/{run_id}")
async def get_flow_run(flow_id: UUID, run_id: UUID, principal: Authenticated, executions: ExecutionService) -> FlowRun:
    """One run of the flow, step by step."""
    return await executions.get(principal, flow_id, run_id)


@router.get("/{flow_id}/schedules")
async def list_flow_schedules(
    flow_id: UUID, principal: Authenticated, flows: Service, limit: Limit = 50, cursor: str | None = None
) -> SchedulePage:
    """The flow's schedules, newest first; `PATCH /schedules/{id}` pauses one."""
    return await flows.schedules(principal, flow_id, after=decode_cursor(cursor), limit=limit)


@router.post("/{flow_id}/schedules", status_code=201, response_model=ScheduleView)
async def schedule_flow(
    flow_id: UUID, body: FlowScheduleBody, request: Request, principal: Authenticated, flows: Service
) -> Response:
    """Has the flow run by the clock; `missed: catch_up` makes up for runs that were due while no worker was there."""
    return await once(request, principal, lambda: flows.schedule(principal, flow_id, body), 201)
