"""Picks the tools for a request, by the words that it shares with their names and descriptions (a small BM25 over the tools).

A request that asks for several things is taken apart, and each part gets the tool that suits it best. A tool that changes something is
picked only if the request says so with its verb.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from auralink.llm.offline.arguments import fill
from auralink.llm.offline.conversation import Conversation
from auralink.llm.offline.finding import FORMULA, OPERATION, READ, REPOSITORY, SQL, URL, Finder
from auralink.llm.offline.words import stem, stem_set, stems, synonyms

MOST_CALLS = 8
NAME_WEIGHT, DESCRIPTION_WEIGHT, PARAMETER_WEIGHT = 3.0, 1.0, 0.5
SYNONYM_WEIGHT = 0.5
NAME_IS_ENOUGH, DESCRIPTION_WORDS = 1.0, 2
EFFECTS = stem_set(
    "add append approve buy cancel close commit create delete deploy drop edit erase execute forget insert kill merge modify move pay"
    " post publish purchase remove rename reset restart run send set shut start stop store submit transfer update upload write"
)
"""Verbs of tools that change something."""
_PARTS = re.compile(r"(?<=[.!?;])\s+|\n+|,?\s+(?:and then|then|and also|and|also)\s+", re.IGNORECASE)
QUESTION = re.compile(r"\?|^\s*(?:how|what|why|where|when|who|which)\b", re.IGNORECASE)
_HANDOFF = re.compile(r"^(?:transfer|hand_?off)_(?:back_)?to_", re.IGNORECASE)
_HANDOFF_WORDS = stem_set("transfer handoff hand back")


@dataclass(frozen=True)
class Tool:
    """A function that a request offers."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(repr=False)

    @property
    def is_handoff(self) -> bool:
        """Whether it passes the conversation to another agent."""
        return bool(_HANDOFF.match(self.name))

    @property
    def delegates(self) -> bool:
        """Whether it gives work to a coworker (CrewAI's tools for managers)."""
        return {"coworker", "context"} <= (self.parameters.get("properties") or {}).keys()


@dataclass(frozen=True, slots=True)
class Call:
    """A tool and what it is called with."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """What is to be called for a request; `lacking` are the tools that would suit, and the arguments that the request does not have."""

    calls: Sequence[Call]
    lacking: Mapping[str, Sequence[str]]


def tools_of(body: Mapping[str, Any]) -> list[Tool]:
    """The functions that a request offers and `tool_choice` allows."""
    functions = [tool.get("function") or {} for tool in body.get("tools") or () if tool.get("type", "function") == "function"]
    offered = [Tool(str(f.get("name")), str(f.get("description") or ""), _schema(f.get("parameters"))) for f in functions]
    choice = body.get("tool_choice")
    if choice == "none":
        return []
    if isinstance(choice, Mapping):
        allowed = choice.get("allowed_tools") or choice
        names = {(each.get("function") or {}).get("name") for each in allowed.get("tools") or (choice,)}
        return [tool for tool in offered if tool.name in names]
    return offered


def _schema(parameters: object) -> Mapping[str, Any]:
    """The parameters of a function; what is no object has no members."""
    if not isinstance(parameters, Mapping):
        return {}
    properties = parameters.get("properties")
    return parameters if isinstance(properties, Mapping) else {**parameters, "properties": {}}


def choose(conversation: Conversation, tools: Sequence[Tool]) -> Choice:
    """The calls that suit the request and have not been made for it yet."""
    left = [tool for tool in tools if tool.name not in conversation.called and not (tool.is_handoff and conversation.handed_over)]
    index = _Index(tools)
    calls: dict[str, Call] = {}
    lacking: dict[str, Sequence[str]] = {}
    for part, tool in _assigned(conversation.request[:READ], left, index, conversation.called):
        arguments, missing = _filled(tool, part, conversation)
        if missing:
            lacking[tool.name] = missing
        elif tool.name not in calls:
            calls[tool.name] = Call(tool.name, arguments)
    return Choice(list(calls.values())[:MOST_CALLS], {name: told for name, told in lacking.items() if name not in calls})


def nearest(conversation: Conversation, tools: Sequence[Tool]) -> Tool:
    """The tool that has most to do with the request, however little that is."""
    return _Index(tools).nearest(conversation.request[:READ], tools)


def _filled(tool: Tool, part: str, conversation: Conversation) -> tuple[dict[str, Any], list[str]]:
    """Arguments from the part of the request that is about the tool, else from the whole of it."""
    context = conversation.context[:READ]
    arguments, missing = fill(tool.parameters, Finder(part, tool.description, context))
    if not missing:
        return arguments, missing
    whole, still = fill(tool.parameters, Finder(conversation.request[:READ], tool.description, context))
    return {**whole, **arguments}, [name for name in still if name not in arguments]


def _assigned(request: str, left: Sequence[Tool], index: "_Index", called: frozenset[str]) -> list[tuple[str, Tool]]:
    """The parts of a request, each with its tool. A part for which there is no other tool belongs to the one before it."""
    if delegation := next((tool for tool in left if tool.delegates), None):
        return [] if any(name in called for name in index.delegations) else [(request, delegation)]
    parts: list[tuple[str, Tool | None]] = []
    for part in (piece for piece in _PARTS.split(request) if piece and piece.strip()):
        tool = index.suiting(part, left)
        if parts and (tool is None or tool is parts[-1][1]):
            start = request.find(parts[-1][0])
            end = request.find(part, start + len(parts[-1][0])) + len(part)
            parts[-1] = (request[start:end], parts[-1][1])
        else:
            parts.append((part, tool))
    found = [(part, tool) for part, tool in parts if tool is not None]
    if len(found) <= 1:
        whole = found[0][1] if found else index.suiting(request, left)
        return [(request, whole)] if whole else []
    return found


class _Index:
    """The words of the tools, weighed."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.delegations = [tool.name for tool in tools if tool.delegates]
        self._names = {tool.name: _counted(tool.name.replace("__", " ")) for tool in tools}
        self._descriptions = {tool.name: _counted(tool.description[:READ]) for tool in tools}
        self._parameters = {tool.name: _counted(" ".join(tool.parameters.get("properties") or ())) for tool in tools}
        documents = Counter(
            word
            for tool in tools
            for word in {*self._names[tool.name], *self._descriptions[tool.name], *self._parameters[tool.name]}
        )
        self._idf = {word: math.log(1 + (len(tools) + 0.5) / (count + 0.5)) for word, count in documents.items()}

    def suiting(self, text: str, tools: Sequence[Tool]) -> Tool | None:
        """The tool that suits a text best, if one suits at all."""
        wanted = _wanted(text)
        suiting = [tool for tool in tools if self._suits(tool, wanted)]
        return max(suiting, key=lambda tool: (not tool.is_handoff, self._score(tool, wanted), -tools.index(tool)), default=None)

    def nearest(self, text: str, tools: Sequence[Tool]) -> Tool:
        """The tool that has most to do with a text, however little that is."""
        wanted = _wanted(text)
        return max(tools, key=lambda tool: (self._score(tool, wanted), -tools.index(tool)))

    def _score(self, tool: Tool, wanted: Mapping[str, float]) -> float:
        return sum(self._weight(tool, word) * share for word, share in wanted.items() if word in self._idf)

    def _suits(self, tool: Tool, wanted: Mapping[str, float]) -> bool:
        name = self._names[tool.name]
        effects = [word for word in name if word in EFFECTS]
        if tool.is_handoff:
            return any(word in wanted for word in name if word not in _HANDOFF_WORDS)
        if effects and not any(word in wanted for word in effects):
            return False
        named = sum(wanted[word] for word in name if word in wanted)
        described = sum(1 for word in self._descriptions[tool.name] if wanted.get(word, 0) == 1)
        return named >= NAME_IS_ENOUGH or (named > 0 and described >= 1) or described >= DESCRIPTION_WORDS

    def _weight(self, tool: Tool, word: str) -> float:
        weights = (
            (NAME_WEIGHT, self._names[tool.name][word]),
            (DESCRIPTION_WEIGHT, self._descriptions[tool.name][word]),
            (PARAMETER_WEIGHT, self._parameters[tool.name][word]),
        )
        return self._idf.get(word, 0.0) * sum(weight * count / (count + 1) * 2 for weight, count in weights)


@lru_cache(maxsize=5_000)
def _counted(text: str) -> Counter[str]:
    """How often each stem stands in a text; the texts of tools come again with every request."""
    return Counter(stems(text))


def _wanted(text: str) -> dict[str, float]:
    """The stems of a text, each with its share: 1 for its own words, less for words that mean the same."""
    own = dict.fromkeys([*stems(text), *_implied(text)], 1.0)
    also = {other: SYNONYM_WEIGHT for word in own for other in sorted(synonyms(word)) if other not in own}
    if QUESTION.search(text):
        also |= {word: SYNONYM_WEIGHT for word in ("ask", stem("question")) if word not in own}
    return {**also, **own}


def _implied(text: str) -> list[str]:
    """Words for what stands in a text without being called by its name."""
    found = []
    if any(OPERATION.search(part[0]) for part in FORMULA.finditer(text)):
        found.append(stem("calculate"))
    for pattern, words in (
        (URL, ("url", "fetch", "page")),
        (REPOSITORY, ("repo", stem("repository"))),
        (SQL, ("sql", stem("query"))),
    ):
        if pattern.search(text):
            found.extend(words)
    return found
