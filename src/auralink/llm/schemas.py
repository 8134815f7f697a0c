"""The record of one model call, and the wire shapes of the REST routes."""

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from auralink.audit.schemas import UNTOLD
from auralink.core.ids import uuid7
from auralink.core.money import Usd
from auralink.llm.errors import ProviderError
from auralink.llm.providers.protocol import Usage

TaskType = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9_.-]+$")]


@dataclass(slots=True)
class ModelCall:
    """One row of `llm_performance_metrics`: filled in while the call goes its way, written once, when it ends. A reservation of the
    budget has its id, and is settled with it."""

    kind: ClassVar[str] = "model_calls"

    user_id: UUID
    endpoint: str
    requested: str
    source: str
    id: UUID = field(default_factory=uuid7)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.perf_counter)
    run_id: UUID | None = None
    step: int | None = None
    """Its number in the journal of its run."""
    reason: str | None = None
    model_id: str | None = None
    provider: str | None = None
    task_type: str | None = None
    key_source: str | None = None
    streamed: bool = False
    attempts: int = 0
    latency_ms: float = 0.0
    first_token_ms: float | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    outcome: str = UNTOLD
    error_class: str | None = None
    error: str | None = None
    trace_id: str | None = None
    earlier: "list[ModelCall]" = field(default_factory=list)
    """The models that were tried before this one and failed: each is a row of its own, which selection learns from."""

    def failed_over(self, error: ProviderError) -> None:
        """The model that the call is at has failed, and the next takes over."""
        failed = replace(self, id=uuid7(), usage=Usage(), earlier=[], outcome=error.code)
        failed.error_class, failed.error = error.kind, error.message[:2000]
        failed.latency_ms = (time.perf_counter() - self.started) * 1000
        self.earlier.append(failed)

    @property
    def subject(self) -> str:
        """What was done and on what, for an error."""
        return f"the model call of {self.model_id or self.requested!r}"

    def row(self) -> dict[str, Any]:
        """The row as the insert statement reads it."""
        usage = self.usage
        return {name: getattr(self, name) for name in STORED} | {
            "success": self.outcome == "ok",
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "cached_tokens": usage.cached,
            "cache_written_tokens": usage.cache_written,
            "reasoning_tokens": usage.reasoning,
            "usage_exact": usage.exact,
        }


STORED = tuple(name for name in ModelCall.__slots__ if name not in ("user_id", "step", "usage", "started", "earlier"))


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class KeyBody(_Body):
    """A key for a provider. `base_url` is for hosts of one's own; `skip_check` stores the key without asking the provider."""

    api_key: SecretStr = Field(min_length=1, max_length=8192)
    base_url: str | None = Field(default=None, max_length=2048)
    skip_check: bool = False


class KeyView(BaseModel):
    """What is shown of a key."""

    provider: str
    last4: str
    base_url: str | None
    created_at: datetime


class KeyList(BaseModel):
    """The user's keys, by provider."""

    items: list[KeyView]
    next_cursor: str | None = None


class ProviderView(BaseModel):
    """A provider, and with whose key it can be used: the user's `own`, the `operator`'s, or null for neither."""

    provider: str
    title: str
    wire_format: str
    base_url: str
    key: Literal["own", "operator"] | None
    models: int


class ProviderList(BaseModel):
    """All providers."""

    items: list[ProviderView]
    next_cursor: str | None = None


class ModelView(BaseModel):
    """A model of the catalogue. Prices are USD per million tokens; null is not known."""

    model_id: str
    provider: str
    name: str
    title: str
    tier: str
    capabilities: list[str]
    context_window: int | None
    max_output: int | None
    input_usd: Usd | None
    output_usd: Usd | None
    cached_input_usd: Usd | None
    deprecated: bool
    available: bool


class ModelList(BaseModel):
    """Models of the catalogue."""

    items: list[ModelView]
    next_cursor: str | None = None


class PreferenceBody(_Body):
    """A model that the user wants `auto` to take; the higher the priority, the earlier. The limits are for a month."""

    model_id: str = Field(min_length=1, max_length=200)
    priority: int = Field(default=0, ge=-1000, le=1000)
    task_type: TaskType | None = None
    usage_limit_tokens: int | None = Field(default=None, gt=0)
    cost_limit_usd: Annotated[Usd, Field(gt=0, max_digits=18, decimal_places=9)] | None = None


class DefaultBody(_Body):
    """The model that a request without one means: a model, or `auto` in any form."""

    model_id: str = Field(min_length=1, max_length=200)


class PreferenceView(PreferenceBody):
    """A stored preference."""

    model_config = ConfigDict(extra="ignore")

    preference_id: UUID
    is_default: bool
    preferred: bool = Field(description="false: the row only says what a request without a model means")
    created_at: datetime


class PreferenceList(BaseModel):
    """The user's preferences, in the order in which they count."""

    items: list[PreferenceView]
    next_cursor: str | None = None


class Considered(BaseModel):
    """A model that was considered: its score and why, or why it was left out."""

    model_id: str
    score: float | None = None
    reason: str


class Selection(BaseModel):
    """What `auto` would take now."""

    requested: str
    model_id: str | None
    reason: str
    candidates: list[Considered]
    left_out: list[Considered]


class ModelFigures(BaseModel):
    """How one model did for the user."""

    model_id: str
    calls: int
    successes: int
    success_rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    first_token_p50_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Usd
    cost_per_call_usd: Usd | None
    quality: float | None
    rated: int


class Comparison(BaseModel):
    """Models side by side."""

    days: int
    items: list[ModelFigures]


class CostRow(BaseModel):
    """What one model cost on one day."""

    day: str
    model_id: str | None
    calls: int
    tokens: int
    cost_usd: Usd
    unpriced_calls: int


class Costs(BaseModel):
    """What the user's calls cost. `unpriced_calls` are of models whose price is not known."""

    days: int
    calls: int
    tokens: int
    cost_usd: Usd
    unpriced_calls: int
    items: list[CostRow]


class FeedbackBody(_Body):
    """How good the answer of a call was, 0 to 1. `call_id` is in the header `x-auralink-call-id` of the answer."""

    call_id: UUID
    quality: float = Field(ge=0, le=1)
    comment: str | None = Field(default=None, max_length=2000)


class FeedbackView(BaseModel):
    """The rated call."""

    call_id: UUID
    model_id: str | None
    quality: float
