"""HTTP of workflows. What happens is in `service.py`."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Response

from auralink.auth.dependencies import Authenticated
from auralink.core.idempotency import idempotently, in_place_of, once
from auralink.core.paging import Limit, decode_cursor
from auralink.runs.routes import Service as RunService
from auralink.runs.routes import accepted, execute
from auralink.runs.schemas import Accepted
from auralink.workflows.bodies import YamlToo
from auralink.workflows.schemas import (
    Execute,
    TemplatePage,
    WorkflowBody,
    WorkflowPage,
    WorkflowPatch,
    WorkflowStats,
    WorkflowView,
)
from auralink.workflows.service import Workflows

router = APIRouter(prefix="/api/v1/workflows", tags=["workflows"], route_class=YamlToo)


async def _workflows(request: Request) -> Workflows:
    workflows: Workflows = request.app.state.workflows
    return workflows


Service = Annotated[Workflows, Depends(_workflows)]


@router.get("")
async def list_workflows(
    principal: Authenticated, workflows: Service, name: str | None = None, limit: Limit = 50, cursor: str | None = None
) -> WorkflowPage:
    """Your workflows, newest first."""
    return await workflows.page(principal, name=name, after=decode_cursor(cursor), limit=limit)


@router.post("", status_code=201, response_model=WorkflowView)
async def create_workflow(body: WorkflowBody, request: Request, principal: Authenticated, workflows: Service) -> Response:
    """Makes a workflow of a template or of a graph of your own (JSON or YAML); it is checked first."""
    return await once(request, principal, lambda: workflows.create(principal, body), 201)


@router.get("/templates")
async def list_templates(_principal: Authenticated, workflows: Service) -> TemplatePage:
    """The workflows that come with the service."""
    return workflows.templates()


@router.get("/{workflow_id}")
async def get_workflow(workflow_id: UUID, principal: Authenticated, workflows: Service) -> WorkflowView:
    """One workflow."""
    return await workflows.get(principal, workflow_id)


@router.patch("/{workflow_id}")
async def change_workflow(workflow_id: UUID, patch: WorkflowPatch, principal: Authenticated, workflows: Service) -> WorkflowView:
    """Changes a workflow, which raises its version; runs under way keep the one they have."""
    return await workflows.change(principal, workflow_id, patch)


@router.delete("/{workflow_id}", status_code=204)
async def remove_workflow(workflow_id: UUID, principal: Authenticated, workflows: Service) -> None:
    """Deletes a workflow; its runs stay."""
    await workflows.remove(principal, workflow_id)


@router.post("/{workflow_id}/execute", status_code=202, response_model=Accepted)
async def execute_workflow(
    workflow_id: UUID, body: Execute, request: Request, principal: Authenticated, workflows: Service, runs: RunService
) -> Response:
    """Starts a run: 202 with its address, or with `Prefer: wait=N` the run with its output when it has ended."""

    async def start() -> Response:
        return accepted(await workflows.execute(principal, workflow_id, body))

    answer = await idempotently(request.app.state.db, principal, request, start)
    if answer.status_code >= 400:
        return answer
    run_id = UUID(orjson.loads(answer.body)["run_id"])
    return in_place_of(answer, await execute(request, principal, runs, await runs.get(principal, run_id)))


@router.get("/{workflow_id}/stats")
async def workflow_stats(workflow_id: UUID, principal: Authenticated, workflows: Service) -> WorkflowStats:
    """What the workflow's runs came to: how many, how they ended, how long they took, what they cost."""
    return await workflows.stats(principal, workflow_id)
