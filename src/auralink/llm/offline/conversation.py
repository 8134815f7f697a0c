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
PERSON = "user"
"""What frameworks call the one whom a group of agents works for."""
_HANDED_OVER = re.compile(r"^Transferred to \S+, adopting the role of|^It is your turn, ", re.IGNORECASE)
_TRANSFERRED = re.compile(r"^(?:Successfully )?transferred (?:back )?to ", re.IGNORECASE)
_SAID = re.compile(r"([A-Za-z][\w-]{0,63}) said:\n")
_OTHERS = re.compile(r"^The others are:\n((?:- .*\n?)+)", re.MULTILINE)
_OTHER = re.compile(r"^- ([A-Za-z][\w-]*):", re.MULTILINE)
_TASK = re.compile(r"^\s*Current Task:\s*", re.IGNORECASE)
_CONTEXT = re.compile(
    r"\n[ \t]*(?:This is the context you'?re working with|# Context|Context|The ideas(?: so far)?)[ \t]*:[ \t]*\n", re.IGNORECASE
)
_CRITERIA = re.compile(
    r"\n[ \t]*This is the expected criteria for your final answer:.*?(?=\n[ \t]*This is the context|\Z)", re.DOTALL
)
_TODAY = re.compile(r"\n\nToday is \w+, \d\d \w+ \d{4}\.")
_WORKED, _RESULT, _LIST = "A team worked on this task:\n", "\n\nIts result:\n", "\n\nList at most "
_FRAME = re.compile(
    r"^(?:[-* ]{0,8}(?:(?:The request|\S{1,128}) says:|No language model is configured: .*|There is nothing to answer from: .*"
    r"|None of the \d+ tools .*))$\n?",
    re.MULTILINE,
)
"""Lines that this model puts around what it has found: of no worth to another agent."""
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
        asking = [at for at in asking if self.messages[at].get("name") == PERSON] or asking  # the others are agents of a group
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
    def _finished(self) -> tuple[str, str] | None:
        """A team's task and its result, if facts of it are asked for."""
        task, found, rest = self.asked.removeprefix(_WORKED).partition(_RESULT)
        result, asks, _ = rest.rpartition(_LIST)
        return (task, result) if found and asks and self.asked.startswith(_WORKED) else None

    @cached_property
    def request(self) -> str:
        """What is asked for, without what frameworks put around it (criteria, context, urging)."""
        if self._finished:
            return self._finished[0]
        task = _TODAY.sub("", _CRITERIA.sub("", _URGING.sub("", _TASK.sub("", self.asked))))
        return _CONTEXT.split(task, maxsplit=1)[0].strip()

    @cached_property
    def context(self) -> str:
        """What the asking message brings along to work with."""
        if self._finished:
            return _unframed(self._finished[1])
        _, *brought = _CONTEXT.split(_TODAY.sub("", _CRITERIA.sub("", _URGING.sub("", self.asked))))
        return _unframed("\n\n".join(part.strip() for part in brought))

    @cached_property
    def called(self) -> frozenset[str]:
        """The tools that have been called for the request."""
        return frozenset(name for message in self.messages[self._asked_at + 1 :] for name in _names_called(message))

    @cached_property
    def handed_over(self) -> bool:
        """Whether another agent has passed the conversation on."""
        return any(_HANDED_OVER.match(text) for text in self.texts)

    @cached_property
    def unheard(self) -> list[str]:
        """Of the agents whom the instructions list as the others, those who have not spoken since the request."""
        listed = _OTHERS.search(self.instructions)
        names = _OTHER.findall(listed[1]) if listed else []
        spoken = {message.get("name") for message in self.messages[self._asked_at + 1 :]}
        return [name for name in names if name not in spoken]

    @cached_property
    def answers(self) -> list[ToolAnswer]:
        """What tools have answered to the request."""
        return list(self._answers(self._asked_at + 1))

    @cached_property
    def others(self) -> list[ToolAnswer]:
        """What other agents of a group have said to the request."""
        said = zip(self.messages[self._asked_at + 1 :], self.texts[self._asked_at + 1 :], strict=True)
        return [
            ToolAnswer(str(message["name"]), _unframed(text))
            for message, text in said
            if message["role"] == "user" and message.get("name") and text.strip() and not _HANDED_OVER.match(text)
        ]

    @cached_property
    def earlier(self) -> list[ToolAnswer]:
        """What else has been said: by tools and by people before the request, by other agents also after it."""
        said = [*self._answers(0, max(0, self._asked_at))]
        for at, (message, text) in enumerate(zip(self.messages, self.texts, strict=True)):
            named = message["role"] == "assistant" and message.get("name")
            if text.strip() and (named or (at < self._asked_at and message["role"] in ("user", "assistant"))):
                said.append(ToolAnswer(str(message.get("name") or message["role"]), _unframed(text)))
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
    named = [_named(message, text) for message, text in zip(messages, texts, strict=True)]
    return Conversation([message for message, _ in named], [text for _, text in named])


def _named(message: Mapping[str, Any], text: str) -> tuple[Mapping[str, Any], str]:
    """A message whose text begins with who said it (AutoGen's way of naming the speakers of a group) as one that has that name."""
    found = _SAID.match(text) if message["role"] == "user" and not message.get("name") else None
    return (message, text) if found is None else ({**message, "name": found[1]}, text[found.end() :])


def _unframed(text: str) -> str:
    return _FRAME.sub("", text).strip()


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
