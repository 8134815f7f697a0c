"""REST of DeepWiki: read, search, ask. The same bodies whether the server is built in or the hosted one."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.core.http import JSONBytes
from auralink.core.idempotency import idempotently
from auralink.mcp.operations import operate
from auralink.mcp.routes import SOURCE, Components

router = APIRouter(prefix="/api/v1/mcp/deepwiki", tags=["deepwiki"])
RepoName = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, strip_whitespace=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    connection_id: UUID
    repo_name: RepoName


class ReadBody(_Body):
    """Which page; without a topic all of them."""

    topic: Text | None = None


class SearchBody(_Body):
    """What to look for."""

    query: Text


class AskBody(_Body):
    """What to find out."""

    question: Text


@router.post("/read")
async def read(body: ReadBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """The pages of a repository's wiki, or the one on a topic."""
    topic = {"topic": body.topic} if body.topic else {}
    return await _operate(request, principal, mcp, body, "read_wiki_contents", topic)


@router.post("/search")
async def search(body: SearchBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """Passages of a repository that match, best first, each with file and line."""
    return await _operate(request, principal, mcp, body, "search_docs", {"query": body.query})


@router.post("/ask")
async def ask(body: AskBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """An answer out of a repository's own text, with sources (file and line) and a confidence."""
    return await _operate(request, principal, mcp, body, "ask_question", {"question": body.question})


async def _operate(
    request: Request, principal: Principal, mcp: Components, body: _Body, tool: str, arguments: dict[str, Any]
) -> Response:
    async def answer() -> Response:
        asked = {"repoName": body.repo_name, **arguments}
        content = await operate(mcp.gateway, principal, body.connection_id, tool, asked, source=SOURCE)
        return JSONBytes({**arguments, "repo_name": body.repo_name, **content})

    return await idempotently(request.app.state.db, principal, request, answer)
