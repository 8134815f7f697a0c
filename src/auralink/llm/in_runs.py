"""A model call of a run: which of its ends the journal keeps, which let the run wait, and the answer that a stream adds up to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson

from auralink.core.db import Connection
from auralink.core.errors import AuralinkError
from auralink.journal import store
from auralink.journal.budgets import BudgetExceeded
from auralink.journal.errors import StaleAttempt
from auralink.journal.steps import Step, StepRecord
from auralink.llm.errors import ProviderError
from auralink.llm.providers.protocol import Body
from auralink.llm.schemas import ModelCall

SHORT_WAIT = 60.0
"""Seconds that a provider may ask to wait and the engine still gets the error; for longer the run waits instead."""


@dataclass
class RunCall:
    """The step of a call, and what it will be told of the answer."""

    step: Step
    answer: Body | None = None
    error: AuralinkError | None = None

    def records(self, call: ModelCall) -> tuple[StepRecord, ...]:
        """What the group commit writes beside the call; nothing if the call has no answer that the engine gets."""
        tokens = call.usage.prompt + call.usage.completion
        if self.error is not None and not lets_wait(self.error):
            return (self.step.failed(self.error, tokens=tokens, cost_usd=call.cost_usd),)
        if self.error is None and self.answer is not None:
            return (self.step.done(self.answer, tokens=tokens, cost_usd=call.cost_usd),)
        return ()

    async def wait(self, error: AuralinkError) -> None:
        """Lets the run wait for what the error says it needs; returns if that is not a matter of waiting."""
        if isinstance(error, BudgetExceeded):
            resets = error.extra.get("resets_at")
            until = datetime.fromisoformat(resets) if resets else None
            await self.step.suspend("budget", until=until, within=partial(self._tell, error=error))
        elif lets_wait(error) and isinstance(error, ProviderError):
            await self.step.suspend("backoff", until=datetime.now(UTC) + timedelta(seconds=_retry_after(error)))

    async def _tell(self, connection: Connection, *, error: BudgetExceeded) -> None:
        """Says to whoever follows the run which budget it waits for, and who can raise it."""
        await store.tell(connection, self.step.run, "budget.exceeded", {"message": error.message, **error.extra})


def lets_wait(error: AuralinkError) -> bool:
    """Whether an error is no answer, because the call can be made later."""
    if isinstance(error, ProviderError):
        return _retry_after(error) > SHORT_WAIT
    return isinstance(error, BudgetExceeded | StaleAttempt)


def _retry_after(error: ProviderError) -> float:
    return float(error.extra.get("retry_after") or 0)


@dataclass
class Assembly:
    """The completion that the chunks of a stream add up to."""

    _head: Body = field(default_factory=dict)
    _choices: dict[int, Body] = field(default_factory=dict)

    def add(self, data: str) -> None:
        """Takes the data of an event."""
        chunk = orjson.loads(data)
        self._head = {**chunk, **self._head} | ({"usage": chunk["usage"]} if chunk.get("usage") else {})
        for part in chunk.get("choices") or ():
            message = {"role": "assistant", "content": None}
            choice = self._choices.setdefault(part.get("index", 0), {"message": message, "finish_reason": None})
            _add_delta(choice["message"], part.get("delta") or {})
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]

    def completion(self) -> Body:
        """The whole answer."""
        choices = [{"index": index, **choice} for index, choice in sorted(self._choices.items())]
        return {**self._head, "object": "chat.completion", "choices": choices}


def _add_delta(message: Body, delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for part in value or ():
                _add_call(message.setdefault("tool_calls", []), part)
        elif isinstance(value, str) and name != "role":
            message[name] = (message.get(name) or "") + value
        elif value is not None:
            message[name] = value


def _add_call(calls: list[Body], part: Mapping[str, Any]) -> None:
    index = part.get("index", len(calls))
    while len(calls) <= index:
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call, said = calls[index], part.get("function") or {}
    call |= {name: value for name, value in part.items() if name not in ("index", "function") and value is not None}
    call["function"]["name"] += said.get("name") or ""
    call["function"]["arguments"] += said.get("arguments") or ""
