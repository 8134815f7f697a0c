"""Prices and context windows from the package genai-prices. Only `auralink models sync` imports this module: it loads the prices
of some forty vendors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version

import httpx2
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, StartDateConstraint, TieredPrices
from genai_prices.update_prices import UpdatePrices

from auralink.llm.catalogue.models import LongContext, Model, PriceChange, Prices

THEIR_NAMES = {"xai": "x-ai"}
"""Vendors that genai-prices calls otherwise than we do."""
COUNTED = {
    "input_usd": "input_mtok",
    "output_usd": "output_mtok",
    "cached_input_usd": "cache_read_mtok",
    "cache_write_usd": "cache_write_mtok",
}
"""Our prices and theirs. What else they know of (searches, sound, batches) no call of ours is billed for."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """Everybody's prices as of a day."""

    snapshot: DataSnapshot
    source: str
    as_of: date

    def applied(self, models: Iterable[Model]) -> list[Model]:
        """The models with their prices and context windows by this list; one that is not in it stays as it is."""
        return [self._applied(model) for model in models]

    def knows(self, model: Model) -> bool:
        """Whether the list has the model."""
        return self._find(model) is not None

    def _applied(self, model: Model) -> Model:
        info = self._find(model)
        if info is None:
            return model
        due, *scheduled = _periods(info.prices, self.as_of)
        return replace(
            model,
            context_window=info.context_window or model.context_window,
            prices=due.prices,
            long_context=due.long_context,
            scheduled=tuple(scheduled),
        )

    def _find(self, model: Model) -> ModelInfo | None:
        """By its vendor and its id, else by what the vendor's names look like; never another vendor's model of that name."""
        vendor = THEIR_NAMES.get(model.provider, model.provider)
        theirs = [info for provider in self.snapshot.providers if provider.id == vendor for info in provider.models]
        names = (model.name, *model.aliases)
        exact = (info for info in theirs if info.id in names)
        alike = (info for info in theirs if any(info.is_match(name) for name in names))
        return next(exact, None) or next(alike, None)


def installed() -> PriceList:
    """The list in the installed package; its date is that of the last change it knows of that was due by today."""
    snapshot = get_snapshot()
    prices = (info.prices for provider in snapshot.providers for info in provider.models)
    starts = {start for price in prices if isinstance(price, list) for start in _starts(price)}
    as_of = max(start for start in starts if start <= _today())
    return PriceList(snapshot, f"genai-prices {version('genai-prices')}", as_of)


def fetched() -> PriceList:
    """Today's list from the project's own place.

    Raises:
        PricesUnreachable: it cannot be had; the message says why.
    """
    try:
        snapshot = UpdatePrices().fetch()
    except (httpx2.HTTPError, ValueError) as error:
        raise PricesUnreachable(str(error) or type(error).__name__) from error
    if snapshot is None:
        raise PricesUnreachable("it holds nothing")
    return PriceList(snapshot, "genai-prices, fetched", _today())


class PricesUnreachable(Exception):
    """Today's prices cannot be had."""


def _today() -> date:
    return datetime.now(UTC).date()


def _starts(prices: Sequence[ConditionalPrice]) -> list[date]:
    return [price.constraint.start_date for price in prices if isinstance(price.constraint, StartDateConstraint)]


def _periods(prices: ModelPrice | list[ConditionalPrice], day: date) -> list[PriceChange]:
    """The prices of a day and the changes announced after it. Where a price depends on the hour, the dearest hour's counts."""
    if isinstance(prices, ModelPrice):
        return [_change(day, [prices])]
    days = [day, *sorted(start for start in _starts(prices) if start > day)]
    return [_change(each, _of_day(prices, each)) for each in days]


def _of_day(prices: list[ConditionalPrice], day: date) -> list[ModelPrice]:
    """What may be charged on a day: the last price that is not bound to an hour and has begun, and all that are bound to hours
    and come after it."""
    due: list[ModelPrice] = [prices[0].prices]
    for price in prices:
        if price.constraint is None or (isinstance(price.constraint, StartDateConstraint) and price.constraint.start_date <= day):
            due = [price.prices]
        elif not isinstance(price.constraint, StartDateConstraint):
            due.append(price.prices)
    return due


def _change(since: date, candidates: Sequence[ModelPrice]) -> PriceChange:
    thresholds = {
        tier.start
        for price in candidates
        for name in COUNTED.values()
        if isinstance(value := getattr(price, name, None), TieredPrices)
        for tier in value.tiers
    }
    if not thresholds:
        return PriceChange(since, _dearest(candidates, 0))
    return PriceChange(since, _dearest(candidates, 0), LongContext(min(thresholds), _dearest(candidates, max(thresholds) + 1)))


def _dearest(candidates: Sequence[ModelPrice], prompt: int) -> Prices:
    found = {}
    for ours, theirs in COUNTED.items():
        known = [value for price in candidates if (value := _value(getattr(price, theirs, None), prompt)) is not None]
        found[ours] = max(known, default=None)
    return Prices(**found)


def _value(price: Decimal | TieredPrices | None, prompt: int) -> Decimal | None:
    if not isinstance(price, TieredPrices):
        return price
    return next((tier.price for tier in reversed(price.tiers) if prompt > tier.start), price.base)
