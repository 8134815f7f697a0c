"""The MCP server `deepwiki`: the tools of the hosted DeepWiki (same names, same arguments) and `search_docs`."""

from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from auralink.core.errors import AuralinkError
from auralink.servers.deepwiki.jobs import Progress
from auralink.servers.deepwiki.models import Answer, Contents, PageRef, SearchResult, Structure
from auralink.servers.deepwiki.wiki import MAX_LIMIT, MAX_TEXT, Wiki

_Model = TypeVar("_Model", bound=BaseModel)
_INSTRUCTIONS = (
    "Documentation and source code of git repositories, indexed and quoted with file and line. Ask questions with "
    "ask_question; look around with read_wiki_structure, then read_wiki_contents; find exact names with search_docs."
)

RepoName = Annotated[
    str,
    Field(
        description="The repository: owner/name (for example pallets/flask), the https URL of a git repository, a path "
        "that the operator allows, or . for the service's own checkout",
        min_length=1,
        max_length=1000,
    ),
]


def build_server(wiki: Wiki) -> MCPServer:
    """The server over one wiki. Every tool is read-only; an error is a tool error whose text says what to do next, with
    its code and HTTP status under `_meta["auralink/error"]`."""
    server = MCPServer("deepwiki", title="DeepWiki", instructions=_INSTRUCTIONS)

    @server.tool(title="Read wiki structure", annotations=_reads("Read wiki structure"))
    async def read_wiki_structure(repoName: RepoName, ctx: Context) -> Annotated[CallToolResult, Structure]:  # noqa: N803
        """List the pages of a repository's wiki: its documents, then its code by folder and module. Use the ids with
        read_wiki_contents. The first call for a repository indexes it, which takes some seconds."""
        return await _answer(wiki.structure(repoName, _progress(ctx)), _outline)

    @server.tool(title="Read wiki contents", annotations=_reads("Read wiki contents"))
    async def read_wiki_contents(
        repoName: RepoName,  # noqa: N803
        ctx: Context,
        topic: Annotated[
            str | None,
            Field(description="A page id, file, folder, title or subject; leave out for all pages", max_length=MAX_TEXT),
        ] = None,
    ) -> Annotated[CallToolResult, Contents]:
        """Read a page of a repository's wiki as Markdown: a document as it is, or for a module or folder its purpose, public
        names with signatures, and which files import it. Without a topic: all pages, up to 200 kB."""
        return await _answer(wiki.contents(repoName, topic, _progress(ctx)), _pages)

    @server.tool(title="Search docs", annotations=_reads("Search docs"))
    async def search_docs(
        repoName: RepoName,  # noqa: N803
        query: Annotated[str, Field(description="Words, identifiers or paths to look for", min_length=1, max_length=MAX_TEXT)],
        ctx: Context,
        limit: Annotated[int, Field(description="How many passages at most", ge=1, le=MAX_LIMIT)] = 10,
    ) -> Annotated[CallToolResult, SearchResult]:
        """Find passages of a repository's documents and code by words or identifiers, best first, each with file, lines and
        the section or definition it stands in."""
        return await _answer(wiki.search(repoName, query, limit, _progress(ctx)), _hits)

    @server.tool(title="Ask question", annotations=_reads("Ask question"))
    async def ask_question(
        repoName: RepoName,  # noqa: N803
        question: Annotated[str, Field(description="A question in plain words", min_length=1, max_length=MAX_TEXT)],
        ctx: Context,
    ) -> Annotated[CallToolResult, Answer]:
        """Answer a question about a repository with quotations from its documents and code, each with file and lines, and a
        confidence from 0 to 1. Where the repository does not answer it, the answer says "not found" and has no sources."""
        return await _answer(wiki.ask(repoName, question, _progress(ctx)), _prose)

    return server


def _reads(title: str) -> ToolAnnotations:
    return ToolAnnotations(title=title, read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True)


def _progress(ctx: Context[Any, Any]) -> Progress:
    async def report(stage: str, done: int, total: int) -> None:
        await ctx.report_progress(done, total or None, {"clone": "Cloning", "index": "Indexing"}.get(stage, stage))

    return report


async def _answer(call: Awaitable[_Model], render: Any) -> CallToolResult:
    try:
        result = await call
    except AuralinkError as error:
        return CallToolResult(
            content=[TextContent(type="text", text=error.message)],
            is_error=True,
            _meta={"auralink/error": {"code": error.code, "status": error.status, "title": error.title}},
        )
    text = TextContent(type="text", text=render(result))
    return CallToolResult(content=[text], structured_content=result.model_dump(mode="json"))


def _prose(answer: Answer) -> str:
    return answer.answer


def _hits(result: SearchResult) -> str:
    if not result.hits:
        return f"Nothing in {result.repo_name} matches; try other words."
    places = (f"{hit.file}:{hit.line}-{hit.end_line} {hit.heading}\n```\n{hit.excerpt}\n```" for hit in result.hits)
    return "\n\n".join(places)


def _pages(contents: Contents) -> str:
    text = "\n\n---\n\n".join(page.content for page in contents.pages)
    return f"{text}\n\n(Cut off here; name a topic to read more.)" if contents.truncated else text


def _outline(structure: Structure) -> str:
    return "\n".join(line for page in structure.pages for line in _lines(page, 0))


def _lines(page: PageRef, depth: int) -> list[str]:
    title = f" – {page.title}" if page.title not in page.id else ""
    return [f"{'  ' * depth}- {page.id}{title}", *(line for child in page.children for line in _lines(child, depth + 1))]
