"""REST of DeepWiki: read, search, ask. The same bodies whether the server is built in or the hosted one."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import StringConstraints

from auralink.auth.dependencies import Authenticated
from auralink.auth.principal import Principal
from auralink.core.idempotency import once
from auralink.mcp.components import MCP
from auralink.mcp.operations import OperationBody, operate, structured
from auralink.mcp.routes import SOURCE, Components

router = APIRouter(prefix="/api/v1/mcp/deepwiki", tags=["deepwiki"])
RepoName = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, strip_whitespace=True)]


class RepositoryBody(OperationBody):
    """Which repository: `owner/name`, an https URL, or a folder that the operator allows."""

    repo_name: RepoName


class ReadBody(RepositoryBody):
    """Which page; without a topic all of them."""

    topic: Text | None = None


class SearchBody(RepositoryBody):
    """What to look for."""

    query: Text


class AskBody(RepositoryBody):
    """What to find out."""

    question: Text


@router.post("/read")
async def read(body: ReadBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """The pages of a repository's wiki, or the one on a topic."""
    topic = {"topic": body.topic} if body.topic else {}
    return await once(request, principal, lambda: _operate(principal, mcp, body, "read_wiki_contents", topic))


@router.post("/search")
async def search(body: SearchBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """Passages of a repository that match, best first, each with file and line."""
    return await once(request, principal, lambda: _operate(principal, mcp, body, "search_docs", {"query": body.query}))


@router.post("/ask")
async def ask(body: AskBody, request: Request, principal: Authenticated, mcp: Components) -> Response:
    """An answer out of a repository's own text, with sources (file and line) and a confidence."""
    asked = {"question": body.question}
    return await once(request, principal, lambda: _operate(principal, mcp, body, "ask_question", asked))


async def _operate(principal: Principal, mcp: MCP, body: RepositoryBody, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    asked = {"repoName": body.repo_name, **arguments}
    answer = await operate(mcp.gateway, principal, body.connection_id, tool, asked, source=SOURCE)
    return {**arguments, "repo_name": body.repo_name, **structured(answer.result), **answer.facts}
