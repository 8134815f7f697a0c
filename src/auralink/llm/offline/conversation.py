"""A chat completion request, read: who wants what, which tools have been called for it, and what they have answered."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from auralink.llm.providers.content import Place, texts_of

MODEL = "auralink/offline"
LONGEST = 32_000
"""Characters of one message that are looked at."""
_HANDED_OVER = re.compile(r"^Transferred to \S+, adopting the role of|^It is your turn, ", re.IGNORECASE)
_TRANSFERRED = re.compile(r"^(?:Successfully )?transferred (?:back )?to ", re.IGNORECASE)
_TASK = re.compile(r"^\s*Current Task:\s*", re.IGNORECASE)
_CONTEXT = re.compile(r"\n[ \t]*(?:This is the context you'?re working with|# Context|Context)[ \t]*:[ \t]*\n", re.IGNORECASE)
_CRITERIA = re.compile(
    r"\n[ \t]*This is the expected criteria for your final answer:.*?(?=\n[ \t]*This is the context|\Z)", re.DOTALL
)
_URGING = re.compile(r"\n[ \t]*(?:Begin!|Provide your complete response:).*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a tool has said."""

    tool: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """The messages of a request as text."""

    messages: Sequence[Mapping[str, Any]]
    texts: Sequence[str] = field(repr=False)

    @cached_property
    def _asked_at(self) -> int:
        """Where the last message stands that asks for something: a user's, else whatever is last of the instructions."""
        asking = [at for at, message in enumerate(self.messages) if message["role"] == "user" and self._asks(at)]
        return asking[-1] if asking else max((at for at, m in enumerate(self.messages) if m["role"] in SYSTEM), default=-1)

    def _asks(self, at: int) -> bool:
        return bool(self.texts[at].strip()) and not _HANDED_OVER.match(self.texts[at])

    @cached_property
    def instructions(self) -> str:
        """What the system says."""
        return "\n".join(text for message, text in zip(self.messages, self.texts, strict=True) if message["role"] in SYSTEM)

    @cached_property
    def asked(self) -> str:
        """The message that asks, whole."""
        return self.texts[self._asked_at][:LONGEST] if self._asked_at >= 0 else ""

    @cached_property
    def request(self) -> str:
        """What is asked for, without what frameworks put around it (criteria, context, urging)."""
        task = _CRITERIA.sub("", _URGING.sub("", _TASK.sub("", self.asked)))
        return _CONTEXT.split(task, maxsplit=1)[0].strip()

    @cached_property
    def context(self) -> str:
        """What the asking message brings along to work with."""
        _, *brought = _CONTEXT.split(_URGING.sub("", self.asked), maxsplit=1)
        return brought[0].strip() if brought else ""

    @cached_property
    def called(self) -> frozenset[str]:
        """The tools that have been called for the request."""
        return frozenset(name for message in self.messages[self._asked_at + 1 :] for name in _names_called(message))

    @cached_property
    def handed_over(self) -> bool:
        """Whether another agent has passed the conversation on."""
        return any(_HANDED_OVER.match(text) for text in self.texts)

    @cached_property
    def answers(self) -> list[ToolAnswer]:
        """What tools have answered to the request."""
        return list(self._answers(self._asked_at + 1))

    @cached_property
    def earlier(self) -> list[ToolAnswer]:
        """What else has been said: by tools and by people before the request, by other agents also after it."""
        said = [*self._answers(0, max(0, self._asked_at))]
        for at, (message, text) in enumerate(zip(self.messages, self.texts, strict=True)):
            named = message["role"] == "assistant" and message.get("name")
            if text.strip() and (named or (at < self._asked_at and message["role"] in ("user", "assistant"))):
                said.append(ToolAnswer(str(message.get("name") or message["role"]), text))
        return said

    def _answers(self, since: int, until: int | None = None) -> Iterator[ToolAnswer]:
        names = {call["id"]: call["function"]["name"] for message in self.messages for call in _calls(message)}
        for at, message in enumerate(self.messages[:until]):
            if at >= since and message["role"] == "tool" and not _TRANSFERRED.match(self.texts[at]):
                name = names.get(message.get("tool_call_id")) or message.get("name") or "a tool"
                yield ToolAnswer(str(name), _plain(self.texts[at]))


SYSTEM = ("system", "developer")


def read(body: Mapping[str, Any]) -> Conversation:
    """The conversation in a request.

    Raises:
        UnsupportedField: a message holds something else than text.
    """
    messages = body["messages"]
    place = Place(MODEL, "messages")
    texts = [
        "\n".join(str(part.get("text", "")) for part in texts_of(message.get("content"), place.below(at)))
        for at, message in enumerate(messages)
    ]
    return Conversation(messages, texts)


def _calls(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    calls = message.get("tool_calls") if message["role"] == "assistant" else None
    return [call for call in calls or () if isinstance(call.get("function"), Mapping) and "id" in call]


def _names_called(message: Mapping[str, Any]) -> list[str]:
    return [call["function"].get("name", "") for call in _calls(message)]


def _plain(text: str) -> str:
    """The text in a tool's answer that came as a list of content blocks."""
    if text.lstrip().startswith("[{"):
        try:
            blocks = orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
        if all(isinstance(block, dict) and isinstance(block.get("text"), str) for block in blocks):
            return "\n".join(block["text"] for block in blocks)
    return text
