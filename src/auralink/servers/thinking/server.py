"""The MCP server `sequential-thinking`: one tool, with the schema and the answers of the reference server.

It acts for `current_principal()`. `_meta["auralink/thread"]` names the thread of thought; without it, the calls of a run share
one, and all others the default thread, which `build_server` may set per process. Two annotations are not the reference's, which
says that the tool only reads: a call adds a thought, so its answer must not come from a cache. With an idempotency key in `_meta`
(the gateway sends one) a repeated call adds nothing.
"""

from typing import Annotated, ClassVar

from mcp.server.mcpserver import MCPServer
from pydantic import StringConstraints, TypeAdapter, ValidationError

from auralink import __version__
from auralink.auth.principal import current_principal
from auralink.core.errors import InvalidRequest
from auralink.servers.serving import Answer, Meta, StorableText, ToolSpec, hints
from auralink.servers.thinking.schemas import Progress, Thought
from auralink.servers.thinking.service import DEFAULT_THREAD, Thinking, thread_of

NAME = "sequential-thinking"
TOOL = "sequentialthinking"
THREAD_META = "auralink/thread"
KEY_META = "auralink/idempotencyKey"
DESCRIPTION = """Writes down one step of thinking and says where the thinking stands. Use it for problems that take several \
steps, whose scope is not clear yet, or where you may have to change your mind.

Call it once per thought. Begin with a rough totalThoughts and correct it as you go. To correct an earlier thought, set \
isRevision and revisesThought. To follow an alternative, set branchFromThought and branchId, and keep the same branchId along \
the branch. State a hypothesis, check it against the thoughts before it, and set nextThoughtNeeded to false only when you have \
an answer that holds."""
_THREAD: TypeAdapter[str] = TypeAdapter(Annotated[StorableText, StringConstraints(min_length=1, max_length=200)])


class BadThread(InvalidRequest):
    """`_meta` names a thread by something that cannot be a name."""

    code: ClassVar[str] = "invalid_thread"


def build_server(thinking: Thinking, *, default_thread: str = DEFAULT_THREAD) -> MCPServer[None]:
    """The server, ready to be run or connected to."""

    async def think(thought: Thought, meta: Meta) -> Answer:
        principal = current_principal()
        thread = thread_of(principal, named_thread(meta), default_thread)
        key = meta.get(KEY_META)
        return Answer(await thinking.think(principal, thread, thought, key=str(key) if key else None))

    spec = ToolSpec(TOOL, "Sequential thinking", DESCRIPTION, hints(repeatable=True), Thought, Progress, think)
    return MCPServer(NAME, title="Sequential thinking", version=__version__, tools=[spec.build()])


def named_thread(meta: Meta) -> str | None:
    """The thread that a call names.

    Raises:
        BadThread: it is not a text of 1 to 200 characters.
    """
    if (given := meta.get(THREAD_META)) is None:
        return None
    try:
        return _THREAD.validate_python(given)
    except ValidationError:
        raise BadThread(
            f"_meta[{THREAD_META!r}] must be a text of 1 to 200 characters; leave it out for the default thread"
        ) from None
