"""Brings the catalogue's prices up to date. Only `auralink models sync` imports this module (see prices.py)."""

from collections.abc import Sequence
from pathlib import Path

from auralink.core.db import Database
from auralink.llm.catalogue import store
from auralink.llm.catalogue.models import Model
from auralink.llm.catalogue.packaged import packaged, written
from auralink.llm.catalogue.prices import PriceList, PricesUnreachable, fetched, installed


def price_list(*, offline: bool) -> tuple[PriceList, str | None]:
    """Today's prices; offline, or where those cannot be had, the installed package's, with the reason."""
    if offline:
        return installed(), None
    try:
        return fetched(), None
    except PricesUnreachable as error:
        return installed(), str(error)


async def update_database(db: Database, prices: PriceList) -> list[str]:
    """Writes what the list says of the models in the database, those of the configuration aside; a line for each that changed."""
    async with db.system() as connection:
        before = await store.models(connection, configured=False)
        known = [model for model in before if prices.knows(model)]
        after = prices.applied(known)
        await store.put_models(connection, after, "sync", prices.as_of)
    return _changes(known, after)


def update_file(path: Path, prices: PriceList) -> list[str]:
    """Writes the packaged models with the prices of the list to a file; a line for each that changed."""
    before = packaged().models
    after = prices.applied(before)
    path.write_text(written(after, prices.as_of, prices.source), "utf-8")
    return _changes(before, after)


def _changes(before: Sequence[Model], after: Sequence[Model]) -> list[str]:
    return [_change(old, new) for old, new in zip(before, after, strict=True) if old != new]


def _change(old: Model, new: Model) -> str:
    pairs = (
        ("input", old.input_usd, new.input_usd),
        ("output", old.output_usd, new.output_usd),
        ("context window", old.context_window, new.context_window),
    )
    told = [f"{what} {_shown(was)} → {_shown(is_now)}" for what, was, is_now in pairs if was != is_now]
    return f"{new.model_id}: {', '.join(told) or 'other prices'}"


def _shown(value: object) -> str:
    return "unknown" if value is None else f"{value:,}"
