"""REST of sequential thinking: `solve`, in which a model drives the tool."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints

from auralink.auth.dependencies import Authenticated
from auralink.mcp.operations import OperationBody
from auralink.mcp.routes import Components, once
from auralink.servers.thinking.service import Thinking
from auralink.servers.thinking.solving import MAX_THOUGHTS, solve

router = APIRouter(prefix="/api/v1/mcp/sequential-thinking", tags=["sequential thinking"])


class SolveBody(OperationBody):
    """What to think about, and for how long."""

    problem: Annotated[str, StringConstraints(min_length=1, max_length=20_000, strip_whitespace=True)]
    max_thoughts: int = Field(default=10, ge=1, le=MAX_THOUGHTS)


@router.post("/solve")
async def solve_problem(body: SolveBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """Lets a model think step by step: the conclusion, every thought, revisions and branches."""

    async def answer() -> dict[str, Any]:
        await mcp.resolver.resolve(principal, body.connection_id)
        solution = await solve(Thinking(request.app.state.db), principal, None, body.problem, body.max_thoughts)
        return dict(solution)

    return await once(request, principal, answer)
