"""The scripted model `auralink/scripted`: answers from a file that a test has written, so that a run of an agent can be told in advance.

A script is a list of rules; the first whose conditions the request meets gives the answer. Nothing is counted or remembered: the same
request always has the same answer, whoever asks and however often, so that replays and concurrent runs can be scripted too.
Reference: docs/reference/scripted-model.md.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import orjson
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from auralink.core.errors import InvalidRequest, StartupError
from auralink.llm.errors import ProviderError
from auralink.llm.offline.words import TOKENS_A_MESSAGE, tokens
from auralink.llm.providers.completions import choice, message, tool_call, usage_body
from auralink.llm.providers.content import parts_of
from auralink.llm.providers.failures import kind_of
from auralink.llm.providers.protocol import Body, Usage

MODEL = "auralink/scripted"
TEMPLATE = re.compile(r"\{\{\s*(last|system|user|tool(?::(?P<tool>[^{}\s]+))?)\s*\}\}")
TEMPLATES = "{{last}}, {{system}}, {{user}}, {{tool}}, {{tool:NAME}}"
_ANY_TEMPLATE = re.compile(r"\{\{.*?\}\}")
SHOWN = 200


class NoRuleMatches(InvalidRequest):
    """No rule of the script is for this request."""

    code: ClassVar[str] = "no_rule_matches"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The script has no answer"


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _templates(value: Any) -> Any:
    """Refuses what looks like a template and is none."""
    for text in _strings(value):
        for found in _ANY_TEMPLATE.finditer(text):
            if not TEMPLATE.fullmatch(found[0]):
                raise ValueError(f"there is no template {found[0]!r}; there are {TEMPLATES}")
    return value


Several = Annotated[tuple[str, ...], BeforeValidator(_several)]
Templated = Annotated[Any, AfterValidator(_templates)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class When(_Part):
    """What a request must be like; of several conditions all. Text is compared without regard to case."""

    system_contains: Several = ()
    last_contains: Several = ()
    last_role: Literal["system", "developer", "user", "assistant", "tool"] | None = None
    matches: re.Pattern[str] | None = Field(default=None, description="a regular expression for the text of any message")
    tools_include: Several = ()
    assistant_turns: int | None = Field(default=None, ge=0, description="how many messages are the assistant's")
    tool_results: int | Several | None = Field(
        default=None, description="since the user's last message: how many, or of which tools"
    )


class ScriptedCall(_Part):
    """A call of a tool."""

    name: str
    arguments: Annotated[dict[str, Any], AfterValidator(_templates)] = Field(default_factory=dict)


class ScriptedError(_Part):
    """A provider's error."""

    status: int = Field(ge=400, le=599)
    message: str = "scripted error"
    retry_after: float | None = Field(default=None, ge=0)


class ScriptedUsage(_Part):
    """What the call is to have used."""

    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    reasoning_tokens: int = Field(default=0, ge=0)


class Answer(_Part):
    """What is answered: text, JSON, calls of tools (with or without text), or an error."""

    content: Annotated[str | None, AfterValidator(_templates)] = None
    json_: Templated = Field(default=None, alias="json")
    tool_calls: tuple[ScriptedCall, ...] = ()
    error: ScriptedError | None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None = None
    delay_ms: int = Field(default=0, ge=0, le=600_000)
    usage: ScriptedUsage | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Answer":
        said = self.content is not None or self.tool_calls
        kinds = [bool(said), "json_" in self.model_fields_set, self.error is not None]
        if sum(kinds) != 1:
            raise ValueError("an answer has content and tool_calls, or json, or error")
        return self


class Rule(_Part):
    """If a request is so, this is the answer."""

    when: When = When()
    answer: Answer


class _File(_Part):
    rules: tuple[Rule, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Script:
    """The rules of a file."""

    rules: Sequence[Rule]

    @classmethod
    def load(cls, path: Path) -> "Script":
        """Reads a script: YAML or JSON, `rules:` or the list alone.

        Raises:
            StartupError: it cannot be read, or is no script; the message names the place.
        """
        try:
            content = yaml.safe_load(path.read_text("utf-8"))
            return cls(_File.model_validate({"rules": content} if isinstance(content, list) else content).rules)
        except OSError as error:
            raise StartupError(
                f"cannot read {path}: {error.strerror}; set AURALINK_SCRIPTED_MODEL to a script, or not at all"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise StartupError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        except ValidationError as error:
            problems = (f"{'.'.join(str(step) for step in e['loc'])}: {e['msg']}" for e in error.errors(include_input=False))
            raise StartupError(f"{path}: {'; '.join(problems)}") from None

    def complete(self, body: Mapping[str, Any]) -> Body:
        """The chat completion for a request; `created` is 0. The answer's delay is the caller's to wait (`delay`).

        Raises:
            ProviderError: the script says so.
            NoRuleMatches: no rule is for the request, or a template has nothing to show.
        """
        request = _Request(body)
        answer = self._rule(request).answer
        if answer.error is not None:
            raise _error(answer.error)
        return _completion(answer, request)

    def delay(self, body: Mapping[str, Any]) -> float:
        """How many seconds the answer to a request is to take; 0 where there is none."""
        request = _Request(body)
        rule = next((rule for rule in self.rules if request.meets(rule.when)), None)
        return rule.answer.delay_ms / 1000 if rule else 0.0

    def _rule(self, request: "_Request") -> Rule:
        for rule in self.rules:
            if request.meets(rule.when):
                return rule
        raise NoRuleMatches(f"none of the {len(self.rules)} rules of the script is for this request: {request.essentials}")


@dataclass(frozen=True)
class _Request:
    body: Mapping[str, Any] = field(repr=False)

    @cached_property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        return self.body.get("messages") or ()

    @cached_property
    def texts(self) -> Sequence[str]:
        return ["\n".join(str(part.get("text", "")) for part in parts_of(message.get("content"))) for message in self.messages]

    @cached_property
    def tools(self) -> Sequence[str]:
        return [str((tool.get("function") or {}).get("name")) for tool in self.body.get("tools") or ()]

    @cached_property
    def results(self) -> Sequence[tuple[str, str]]:
        """Tools and what they have answered since the user's last message."""
        asked = max((at for at, message in enumerate(self.messages) if message.get("role") == "user"), default=-1)
        names = {
            call.get("id"): str((call.get("function") or {}).get("name"))
            for message in self.messages
            for call in message.get("tool_calls") or ()
        }
        return [
            (names.get(message.get("tool_call_id"), ""), self.texts[at])
            for at, message in enumerate(self.messages)
            if at > asked and message.get("role") == "tool"
        ]

    def of(self, *roles: str) -> str:
        """What was said last by one of these roles; all of it for the system."""
        said = [text for message, text in zip(self.messages, self.texts, strict=True) if message.get("role") in roles]
        return "\n".join(said) if "system" in roles else said[-1] if said else ""

    def meets(self, when: When) -> bool:
        system, last = self.of("system", "developer").lower(), (self.texts[-1] if self.texts else "").lower()
        turns = sum(message.get("role") == "assistant" for message in self.messages)
        return (
            all(text.lower() in system for text in when.system_contains)
            and all(text.lower() in last for text in when.last_contains)
            and when.last_role in (None, self.messages[-1].get("role") if self.messages else None)
            and (when.matches is None or any(when.matches.search(text) for text in self.texts))
            and set(when.tools_include) <= set(self.tools)
            and when.assistant_turns in (None, turns)
            and self._has_results(when.tool_results)
        )

    def _has_results(self, wanted: int | Sequence[str] | None) -> bool:
        if isinstance(wanted, int):
            return len(self.results) == wanted
        return wanted is None or set(wanted) <= {name for name, _ in self.results}

    @property
    def essentials(self) -> str:
        shown = {
            "system": self.of("system", "developer")[:SHOWN],
            "last_role": self.messages[-1].get("role") if self.messages else None,
            "last": self.texts[-1][:SHOWN] if self.texts else "",
            "tools": list(self.tools),
            "assistant_turns": sum(message.get("role") == "assistant" for message in self.messages),
            "tool_results": [name for name, _ in self.results],
        }
        return orjson.dumps(shown).decode()

    def filled(self, value: Any) -> Any:
        """A value with its templates replaced, however deep they are."""
        if isinstance(value, str):
            return TEMPLATE.sub(self._said, value)
        if isinstance(value, Mapping):
            return {name: self.filled(member) for name, member in value.items()}
        return [self.filled(item) for item in value] if isinstance(value, list | tuple) else value

    def _said(self, template: re.Match[str]) -> str:
        if template[1].startswith("tool"):
            answers = [text for name, text in self.results if template["tool"] in (None, name)]
            if not answers:
                raise NoRuleMatches(f"the script's {template[0]} has nothing to show: {self.essentials}")
            return answers[-1]
        if template[1] == "last":
            return self.texts[-1] if self.texts else ""
        return self.of("system", "developer") if template[1] == "system" else self.of("user")


def _completion(answer: Answer, request: _Request) -> Body:
    digest = hashlib.sha256(orjson.dumps(dict(request.body), option=orjson.OPT_SORT_KEYS)).hexdigest()
    calls = [
        tool_call(f"call_{digest[:20]}{index:04}", call.name, orjson.dumps(request.filled(call.arguments)).decode())
        for index, call in enumerate(answer.tool_calls)
    ]
    said = orjson.dumps(request.filled(answer.json_)).decode() if "json_" in answer.model_fields_set else answer.content or ""
    told = message(said if "json_" in answer.model_fields_set else request.filled(said), calls=calls)
    reason = answer.finish_reason or ("tool_calls" if calls else "stop")
    return {
        "id": f"chatcmpl-{digest[:32]}",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [choice(index, told, reason) for index in range(int(request.body.get("n") or 1))],
        "usage": usage_body(_usage(answer, request, told)),
    }


def _usage(answer: Answer, request: _Request, told: Body) -> Usage:
    if given := answer.usage:
        return Usage(given.prompt_tokens, given.completion_tokens, given.cached_tokens, reasoning=given.reasoning_tokens)
    prompt = sum(tokens(text) + TOKENS_A_MESSAGE for text in request.texts)
    return Usage(
        prompt, tokens(told["content"] or "") + sum(tokens(call["function"]["arguments"]) for call in told.get("tool_calls", ()))
    )


def _error(scripted: ScriptedError) -> ProviderError:
    return ProviderError(
        scripted.message,
        provider="auralink",
        model=MODEL,
        kind=kind_of(scripted.status),
        status=scripted.status,
        retry_after=scripted.retry_after,
    )


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for member in value.values() for text in _strings(member)]
    return [text for item in value for text in _strings(item)] if isinstance(value, list | tuple) else []
