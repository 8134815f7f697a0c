"""What is taken from genai-prices, and how a price list of its kind is read."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import httpx2
import pytest
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.update_prices import UpdatePrices

from auralink.llm.catalogue import prices, sync
from auralink.llm.catalogue.models import LongContext, Model, PriceChange, Prices
from auralink.llm.catalogue.packaged import packaged

TODAY = date(2026, 11, 22)


def model(model_id: str = "openai/m", **fields: object) -> Model:
    provider, _, name = model_id.partition("/")
    return Model(model_id, provider, name, "M", "standard", frozenset({"chat"}), **fields)  # type: ignore[arg-type]


def listed(price: ModelPrice | list[ConditionalPrice], vendor: str = "openai", window: int | None = None) -> prices.PriceList:
    info = ModelInfo("m", ClauseEquals("m"), context_window=window, prices=price)
    return prices.PriceList(DataSnapshot([Provider(vendor, vendor, "x", models=[info])], from_auto_update=False), "a test", TODAY)


def flat(amount: str) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(amount), output_mtok=Decimal(amount))


def both(amount: str) -> Prices:
    return Prices(Decimal(amount), Decimal(amount))


def test_a_plain_price_and_the_context_window_are_taken() -> None:
    (updated,) = listed(flat("2"), window=1000).applied([model(context_window=5)])
    assert (updated.prices, updated.context_window) == (both("2"), 1000)


def test_what_the_list_does_not_know_stays() -> None:
    before = [model("openai/other"), model(context_window=7)]
    other, same = listed(flat("2")).applied(before)
    assert other == before[0]
    assert same.context_window == 7
    assert not listed(flat("2")).knows(before[0])


def test_another_vendors_model_of_that_name_is_not_taken() -> None:
    assert listed(flat("2"), vendor="azure").applied([model()]) == [model()]
    assert listed(flat("2"), vendor="x-ai").applied([model("xai/m")])[0].prices == both("2")


def test_the_prices_of_long_prompts_are_taken() -> None:
    tiered = TieredPrices(Decimal("2"), [Tier(200_000, Decimal("4"))])
    (updated,) = listed(ModelPrice(input_mtok=tiered, output_mtok=Decimal("10"))).applied([model()])
    assert updated.prices == Prices(Decimal("2"), Decimal("10"))
    assert updated.long_context == LongContext(200_000, Prices(Decimal("4"), Decimal("10")))


def test_a_price_that_has_changed_counts_and_one_that_will_change_is_announced() -> None:
    price = [
        ConditionalPrice(prices=flat("1")),
        ConditionalPrice(StartDateConstraint(date(2026, 3, 1)), prices=flat("2")),
        ConditionalPrice(StartDateConstraint(date(2026, 12, 1)), prices=flat("4")),
    ]
    (updated,) = listed(price).applied([model()])
    assert updated.prices == both("2")
    assert updated.scheduled == (PriceChange(date(2026, 12, 1), both("4")),)
    assert updated.on(date(2026, 11, 30)) is updated
    later = updated.on(date(2026, 12, 1))
    assert (later.prices, later.scheduled) == (both("4"), ())


def test_where_a_price_depends_on_the_hour_the_dearest_counts() -> None:
    night = TimeOfDateConstraint(time(1, tzinfo=UTC), time(4, tzinfo=UTC))
    cheaper_at_night = [ConditionalPrice(prices=flat("2")), ConditionalPrice(night, prices=flat("1"))]
    dearer_at_night = [ConditionalPrice(prices=flat("2")), ConditionalPrice(night, prices=flat("3"))]
    assert listed(cheaper_at_night).applied([model()])[0].prices == both("2")
    assert listed(dearer_at_night).applied([model()])[0].prices == both("3")


def test_the_packaged_models_have_the_prices_of_the_installed_package() -> None:
    installed = prices.installed()
    assert installed.as_of <= datetime.now(UTC).date()
    brought = packaged()
    on_that_day = prices.PriceList(installed.snapshot, installed.source, brought.as_of)
    assert on_that_day.applied(brought.models) == list(brought.models)
    assert all(installed.knows(found) for found in brought.models)


def test_without_a_network_the_installed_prices_are_taken_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: UpdatePrices) -> DataSnapshot:
        raise httpx2.ConnectError("no route to host")

    monkeypatch.setattr(UpdatePrices, "fetch", refuse)
    found, reason = sync.price_list(offline=False)
    assert reason == "no route to host"
    assert found.source.startswith("genai-prices ")
    assert sync.price_list(offline=True)[1] is None
