"""A model as a record: one line of models.json, and one row of `llm_models`, with the same names in both."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import Any

from auralink.llm.catalogue.models import LongContext, Model, PriceChange, Prices

PRICES = ("input_usd", "output_usd", "cached_input_usd", "cache_write_usd")


def model_of(record: Mapping[str, Any]) -> Model:
    """The model in a record. What a line of the file leaves out is not known, or as usual."""
    provider, _, name = record["model_id"].partition("/")
    return Model(
        model_id=record["model_id"],
        provider=provider,
        name=name,
        title=record["title"],
        tier=record["tier"],
        capabilities=frozenset(record["capabilities"]),
        context_window=record.get("context_window"),
        max_output=record.get("max_output"),
        prices=_prices(record),
        long_context=_long_context(record.get("long_context")),
        scheduled=tuple(_change(change) for change in record.get("scheduled") or ()),
        aliases=tuple(record.get("aliases") or ()),
        deprecated=bool(record.get("deprecated")),
    )


def record_of(model: Model) -> dict[str, Any]:
    """The record of a model, complete; prices are strings, so that JSON keeps them exact."""
    return {
        "model_id": model.model_id,
        "title": model.title,
        "tier": model.tier,
        "capabilities": sorted(model.capabilities),
        "context_window": model.context_window,
        "max_output": model.max_output,
        **_written(model.prices),
        "long_context": _written_long_context(model.long_context),
        "scheduled": [
            {
                "since": change.since.isoformat(),
                **_written(change.prices),
                "long_context": _written_long_context(change.long_context),
            }
            for change in model.scheduled
        ],
        "aliases": list(model.aliases),
        "deprecated": model.deprecated,
    }


def _prices(record: Mapping[str, Any]) -> Prices:
    known = {name: Decimal(str(value)) for name in PRICES if (value := record.get(name)) is not None}
    return Prices(**known)


def _long_context(record: Mapping[str, Any] | None) -> LongContext | None:
    return LongContext(record["above"], _prices(record)) if record else None


def _change(record: Mapping[str, Any]) -> PriceChange:
    return PriceChange(date.fromisoformat(record["since"]), _prices(record), _long_context(record.get("long_context")))


def _written(prices: Prices) -> dict[str, str | None]:
    return {name: None if value is None else f"{value:f}" for name, value in asdict(prices).items()}


def _written_long_context(long_context: LongContext | None) -> dict[str, Any] | None:
    return {"above": long_context.above, **_written(long_context.prices)} if long_context else None
