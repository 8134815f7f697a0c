"""A model as the catalogue knows it, and what a call to it costs."""

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Literal

from auralink.llm.providers.protocol import Usage

Tier = Literal["fast", "standard", "advanced"]
Capability = Literal["chat", "tools", "images", "json_schema", "streaming", "reasoning", "embeddings"]
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens. None: not known; for the two of the cache, that the provider has no other price than for input."""

    input_usd: Decimal | None = None
    output_usd: Decimal | None = None
    cached_input_usd: Decimal | None = None
    cache_write_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class LongContext:
    """The prices of all tokens of a call whose prompt has more than `above` tokens."""

    above: int
    prices: Prices


@dataclass(frozen=True, slots=True)
class PriceChange:
    """Prices that a provider has announced, and the first day (UTC) that they are charged."""

    since: date
    prices: Prices
    long_context: LongContext | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One model at one provider. What is not known is None."""

    model_id: str
    """`provider/name`."""
    provider: str
    name: str
    """The provider's own name for it, which may have slashes."""
    title: str
    tier: Tier
    capabilities: frozenset[Capability]
    context_window: int | None = None
    """Tokens of prompt and answer together."""
    max_output: int | None = None
    """Tokens of an answer."""
    prices: Prices = Prices()
    long_context: LongContext | None = None
    scheduled: tuple[PriceChange, ...] = ()
    """Changes to come, the earliest first."""
    aliases: tuple[str, ...] = ()
    """Other names that it is found by."""
    deprecated: bool = False
    """Replaced or withdrawn by the provider; it is used when it is named, and chosen for nobody."""

    @property
    def input_usd(self) -> Decimal | None:
        """USD per million tokens of an ordinary prompt."""
        return self.prices.input_usd

    @property
    def output_usd(self) -> Decimal | None:
        """USD per million tokens of an answer to an ordinary prompt."""
        return self.prices.output_usd

    @property
    def cached_input_usd(self) -> Decimal | None:
        """USD per million tokens that the provider reads from its cache."""
        return self.prices.cached_input_usd

    def on(self, day: date) -> "Model":
        """The model with the prices of a day."""
        due = [change for change in self.scheduled if change.since <= day]
        if not due:
            return self
        later = self.scheduled[len(due) :]
        return replace(self, prices=due[-1].prices, long_context=due[-1].long_context, scheduled=later)

    def prices_for(self, prompt_tokens: int) -> Prices:
        """The prices of a call with a prompt of that length."""
        if self.long_context is not None and prompt_tokens > self.long_context.above:
            return self.long_context.prices
        return self.prices


def cost_usd(model: Model, usage: Usage) -> Decimal | None:
    """What a call costs in USD; None if a price that counts is not known.

    Cached tokens and those written to the cache are part of the prompt and have their own price, where the provider has one.
    """
    prices = model.prices_for(usage.prompt)
    fresh = max(0, usage.prompt - usage.cached - usage.cache_written)
    parts = (
        (fresh, prices.input_usd),
        (usage.cached, _or(prices.cached_input_usd, prices.input_usd)),
        (usage.cache_written, _or(prices.cache_write_usd, prices.input_usd)),
        (usage.completion, prices.output_usd),
    )
    total = Decimal(0)
    for tokens, price in parts:
        if tokens:
            if price is None:
                return None
            total += tokens * price
    return total / MILLION


def _or(price: Decimal | None, otherwise: Decimal | None) -> Decimal | None:
    return otherwise if price is None else price
