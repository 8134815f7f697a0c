"""`solve`: a model works a problem out with the tool `sequentialthinking`, thought by thought, and then concludes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

import orjson
from typing_extensions import TypedDict

from auralink.core.errors import AuralinkError
from auralink.mcp.operations import text_of
from auralink.servers.serving import plain_schema
from auralink.servers.thinking.hosted import from_result
from auralink.servers.thinking.schemas import Thought
from auralink.servers.thinking.server import DESCRIPTION, TOOL

Message = dict[str, Any]
"""A chat message in the OpenAI wire format."""

Model = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], Awaitable[Message]]
"""A language model: from a conversation and the tools it may call to its next message (`content`, `tool_calls`)."""

Tool = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""The tool `sequentialthinking` in a thread of its own: from arguments to the result (`CallToolResult` as JSON)."""

MAX_THOUGHTS = 50
FRUITLESS_TURNS = 3
"""Turns in a row without a thought that fits the schema, after which a model is asked for its conclusion."""

INSTRUCTIONS = (
    f"Work the user's problem out with the tool {TOOL}, one thought per call. Revise and branch where it helps. "
    "Do not answer before you have set nextThoughtNeeded to false."
)
CONCLUDE = "Give your conclusion now, in plain text and complete in itself: the reader sees none of the thoughts."


class NoConclusion(AuralinkError):
    """The model ended without saying anything."""

    code: ClassVar[str] = "no_conclusion"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "No conclusion"


class Solution(TypedDict):
    """What `solve` answers. A thought has the fields that the model gave it."""

    conclusion: str
    thoughts: list[dict[str, Any]]
    revisions: int
    branches: list[str]


async def solve(model: Model, tool: Tool, problem: str, max_thoughts: int = 10) -> Solution:
    """Lets `model` think about `problem` in at most `max_thoughts` thoughts.

    Raises:
        NoConclusion: the model said nothing in the end.
        AuralinkError: what the model's or the tool's call raises.
    """
    return await _Session(model, tool, min(max_thoughts, MAX_THOUGHTS)).run(problem)


class _Session:
    """One problem and the conversation with the model."""

    def __init__(self, model: Model, tool: Tool, max_thoughts: int) -> None:
        self._model = model
        self._tool = tool
        self._left = max_thoughts
        self._thoughts: list[dict[str, Any]] = []
        self._progress: Mapping[str, Any] = {}

    async def run(self, problem: str) -> Solution:
        messages: list[Message] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": problem}]
        conclusion = await self._converse(messages)
        return {
            "conclusion": conclusion,
            "thoughts": self._thoughts,
            "revisions": sum(bool(thought.get("isRevision")) for thought in self._thoughts),
            "branches": list(self._progress.get("branches", ())),
        }

    async def _converse(self, messages: list[Message]) -> str:
        """Runs the loop of tool calls; returns the conclusion."""
        fruitless = 0
        while self._left > 0 and fruitless < FRUITLESS_TURNS:
            before = self._left
            reply = await self._model(messages, [_TOOL])
            messages.append(reply)
            if not reply.get("tool_calls"):
                if text := _text(reply):
                    return text
                break
            messages += [await self._answer(call) for call in reply["tool_calls"]]
            if self._progress.get("nextThoughtNeeded") is False:
                break
            fruitless = fruitless + 1 if self._left == before else 0
        messages.append({"role": "user", "content": CONCLUDE})
        if text := _text(await self._model(messages, [])):
            return text
        raise NoConclusion("the model ended without a conclusion; ask again, or choose another model")

    async def _answer(self, call: Mapping[str, Any]) -> Message:
        """The tool's answer to one call, as the message that the model reads."""
        answer: Message = {"role": "tool", "tool_call_id": call["id"]}
        if self._left <= 0:
            return answer | {"content": "No thoughts are left. Conclude."}
        try:
            arguments = orjson.loads(call["function"]["arguments"])
        except orjson.JSONDecodeError:
            return answer | {"content": "The arguments are not JSON. Call the tool again."}
        if not isinstance(arguments, dict):
            return answer | {"content": "The arguments must be a JSON object. Call the tool again."}
        result = await self._tool(arguments)
        if not result.get("isError"):
            self._left -= 1
            self._thoughts.append(arguments)
            self._progress = from_result("think", result)
        return answer | {"content": text_of(result)}


_TOOL = {"type": "function", "function": {"name": TOOL, "description": DESCRIPTION, "parameters": plain_schema(Thought)}}


def _text(message: Message) -> str:
    return str(message.get("content") or "").strip()
