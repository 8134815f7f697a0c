"""Writes answers that people read: sentences of the tools' answers that say most of what was asked, each with who said it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from auralink.llm.offline.conversation import LONGEST, Conversation, ToolAnswer
from auralink.llm.offline.finding import READ
from auralink.llm.offline.words import ranked, sentences, stems

FIRST_LINE = "No language model is configured: this answer was put together by fixed rules (auralink/offline)."
ADVICE = "Set the key of a provider (for example OPENAI_API_KEY) or store one of your own, and a language model answers instead."
WHOLE = 600
"""An answer of a tool that has no more characters than this is shown as it is."""
SENTENCES = 5
SOURCES = 8
LONGEST_LINE = 500
_ANSWERS = ("answer", "result", "summary", "conclusion", "content", "text", "output", "message")
_FINAL = re.compile(r"^[ \t]*Final Answer:", re.MULTILINE)
_WORD_AT_END = re.compile(
    r"(?i:say|reply|respond|answer|end|output|finish|return|write)(?:\s+\w+){0,3}\s+(?:with\s+)?['\"`]?([A-Z]{4,})['\"`]?\s+(?:when|once|if|to|after)"
)


def write(conversation: Conversation, lacking: Mapping[str, Sequence[str]], offered: int) -> str:
    """The answer to a request, for which no further tool is called."""
    body = _body(conversation) or _nothing(lacking, offered)
    text = f"{FIRST_LINE}\n\n{body}"
    if _FINAL.search(f"{conversation.instructions}\n{conversation.asked}"):
        text = f"Final Answer: {text}"
    ending = _WORD_AT_END.search(conversation.instructions[:LONGEST])
    return f"{text}\n\n{ending[1]}" if ending and not conversation.unheard else text


def told(answer: str) -> list[str]:
    """A tool's answer in lines: JSON member by member, an answer in it first; other text sentence by sentence."""
    value = _json(answer)
    return sentences(answer[:LONGEST]) if value is None else list(_lines(value))


def _body(conversation: Conversation) -> str:
    wanted = frozenset(stems(conversation.request[:READ]))
    brought = [ToolAnswer("The request", conversation.context)] if conversation.context else []
    sources = [*brought, *conversation.others, *conversation.answers] or conversation.earlier
    agents = {source.tool for source in conversation.others}
    said: set[str] = set()
    sections = (_section(source, wanted, said if source.tool in agents else set()) for source in sources[-SOURCES:])
    return "\n\n".join(section for section in sections if section)


def _section(source: ToolAnswer, wanted: frozenset[str], said: set[str]) -> str:
    """What a source says of it that nobody has said before (agents of a group repeat each other)."""
    lines = told(source.text)
    if len(source.text) > WHOLE or len(lines) > 2 * SENTENCES:
        chosen = sorted(ranked(lines, wanted)[:SENTENCES], key=lambda item: item[1])
        lines = [sentence for _, _, sentence in chosen]
    lines = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in dict.fromkeys(lines)]
    lines = [line for line in lines if line not in said]
    said.update(lines)
    return "\n".join([f"{source.tool} says:", *(f"- {line}" for line in lines)]) if lines else ""


def _nothing(lacking: Mapping[str, Sequence[str]], offered: int) -> str:
    """What to say where there is nothing to answer from."""
    if lacking:
        needs = "\n".join(f"- {tool} needs: {', '.join(names)}" for tool, names in lacking.items())
        return f"These tools would suit the request, but it does not say what they need:\n{needs}\n\n{ADVICE}"
    if offered:
        return f"None of the {offered} tools at hand has to do with the words of the request. {ADVICE}"
    return f"There is nothing to answer from: no tools are at hand, and the request brings no text along. {ADVICE}"


def _json(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _lines(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        main = next((key for key in _ANSWERS if isinstance(value.get(key), str)), None)
        if main is not None:
            yield from sentences(value[main])
        if all(not isinstance(member, dict | list) for member in value.values()) and main is None:
            yield _labelled(name, ", ".join(f"{key}: {_scalar(member)}" for key, member in value.items()))
            return
        for key, member in value.items():
            if key != main:
                yield from _lines(member, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for item in value[: 2 * SENTENCES]:
            yield from _lines(item, name)
    elif isinstance(value, list):
        if value:
            yield _labelled(name, ", ".join(_scalar(item) for item in value))
    elif value is not None:
        yield _labelled(name, _scalar(value))


def _labelled(name: str, text: str) -> str:
    return f"{name}: {text}" if name else text


def _scalar(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
