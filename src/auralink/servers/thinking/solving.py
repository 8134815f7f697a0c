"""`solve`: a model works a problem out with the tool `sequentialthinking`, thought by thought, and then concludes."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import orjson
from pydantic import ValidationError
from typing_extensions import TypedDict

from auralink.auth.principal import Principal
from auralink.core.errors import AuralinkError
from auralink.core.ids import uuid7
from auralink.servers.serving import json_text, plain_schema, refuse
from auralink.servers.thinking.schemas import Progress, Thought
from auralink.servers.thinking.server import DESCRIPTION, TOOL
from auralink.servers.thinking.service import Thinking

Message = dict[str, Any]
"""A chat message in the OpenAI wire format."""

MAX_THOUGHTS = 50
FRUITLESS_TURNS = 3
"""Turns in a row without a thought that fits the schema, after which a model is asked for its conclusion."""

INSTRUCTIONS = (
    f"Work the user's problem out with the tool {TOOL}, one thought per call. Revise and branch where it helps. "
    "Do not answer before you have set nextThoughtNeeded to false."
)
CONCLUDE = "Give your conclusion now, in plain text and complete in itself: the reader sees none of the thoughts."


class Model(Protocol):
    """A language model that can call tools; the LLM gateway gives one."""

    async def complete(self, principal: Principal, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]]) -> Message:
        """The assistant's next message (`content`, `tool_calls`), in the OpenAI wire format."""


class ModelNotConfigured(AuralinkError):
    """`solve` needs a model and there is none."""

    code: ClassVar[str] = "model_not_configured"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "No model configured"


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
    thread: str


async def solve(thinking: Thinking, principal: Principal, model: Model | None, problem: str, max_thoughts: int = 10) -> Solution:
    """Lets `model` think about `problem` in at most `max_thoughts` thoughts, kept in a thread of their own.

    Raises:
        ModelNotConfigured: `model` is None.
        NoConclusion: the model said nothing in the end.
        AuralinkError: what the model's call raises.
    """
    if model is None:
        raise ModelNotConfigured(
            "solving a problem needs a language model and none is configured; set the key of a provider "
            "(PUT /api/v1/llm/keys/{provider}) or call the tool sequentialthinking with a model of your own"
        )
    session = _Session(thinking, principal, model, f"solve:{uuid7()}", min(max_thoughts, MAX_THOUGHTS))
    return await session.run(problem)


class _Session:
    """One problem, its thread and the conversation with the model."""

    def __init__(self, thinking: Thinking, principal: Principal, model: Model, thread: str, max_thoughts: int) -> None:
        self._thinking = thinking
        self._principal = principal
        self._model = model
        self._thread = thread
        self._left = max_thoughts
        self._progress: Progress | None = None

    async def run(self, problem: str) -> Solution:
        messages: list[Message] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": problem}]
        conclusion = await self._converse(messages)
        thoughts = await self._thinking.history(self._principal, self._thread)
        return {
            "conclusion": conclusion,
            "thoughts": [thought.model_dump(by_alias=True, exclude_none=True) for thought in thoughts],
            "revisions": sum(bool(thought.is_revision) for thought in thoughts),
            "branches": self._progress["branches"] if self._progress else [],
            "thread": self._thread,
        }

    async def _converse(self, messages: list[Message]) -> str:
        """Runs the loop of tool calls; returns the conclusion."""
        fruitless = 0
        while self._left > 0 and fruitless < FRUITLESS_TURNS:
            before = self._left
            reply = await self._model.complete(self._principal, messages, tools=[_TOOL])
            messages.append(reply)
            if not reply.get("tool_calls"):
                if text := _text(reply):
                    return text
                break
            messages += [await self._answer(call) for call in reply["tool_calls"]]
            if self._progress and not self._progress["nextThoughtNeeded"]:
                break
            fruitless = fruitless + 1 if self._left == before else 0
        messages.append({"role": "user", "content": CONCLUDE})
        if text := _text(await self._model.complete(self._principal, messages, tools=[])):
            return text
        raise NoConclusion("the model ended without a conclusion; ask again, or choose another model")

    async def _answer(self, call: Mapping[str, Any]) -> Message:
        """The tool's answer to one call, as the message that the model reads."""
        answer: Message = {"role": "tool", "tool_call_id": call["id"]}
        if self._left <= 0:
            return answer | {"content": "No thoughts are left. Conclude."}
        try:
            thought = Thought.model_validate(orjson.loads(call["function"]["arguments"]))
        except ValidationError as error:
            return answer | {"content": refuse(TOOL, error).content[0].model_dump()["text"]}
        except orjson.JSONDecodeError:
            return answer | {"content": "The arguments are not JSON. Call the tool again."}
        self._left -= 1
        self._progress = await self._thinking.think(self._principal, self._thread, thought)
        return answer | {"content": json_text(self._progress)}


_TOOL = {"type": "function", "function": {"name": TOOL, "description": DESCRIPTION, "parameters": plain_schema(Thought)}}


def _text(message: Message) -> str:
    return str(message.get("content") or "").strip()
