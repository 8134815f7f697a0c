"""What a call costs, and how a model is found."""

from decimal import Decimal

import pytest

from auralink.llm.catalogue.catalogue import Catalogue
from auralink.llm.catalogue.models import LongContext, Model, Prices, cost_usd
from auralink.llm.providers.protocol import Usage

UNKNOWN = Prices()


def model(model_id: str, prices: Prices = UNKNOWN, long_context: LongContext | None = None) -> Model:
    provider, _, name = model_id.partition("/")
    return Model(model_id, provider, name, name, "standard", frozenset({"chat"}), prices=prices, long_context=long_context)


PRICES = Prices(Decimal("2"), Decimal("10"), Decimal("0.5"), Decimal("2.5"))


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(), "0"),
        (Usage(prompt=1_000_000), "2"),
        (Usage(prompt=1000, completion=100), "0.003"),
        (Usage(prompt=1_000_000, cached=400_000), "1.4"),
        (Usage(prompt=1_000_000, cached=400_000, cache_written=100_000), "1.45"),
        (Usage(completion=1000, reasoning=900), "0.01"),
    ],
)
def test_tokens_are_billed_each_at_their_price(usage: Usage, cost: str) -> None:
    assert cost_usd(model("openai/a", PRICES), usage) == Decimal(cost)


def test_a_cache_without_a_price_costs_what_input_costs() -> None:
    priced = model("openai/a", Prices(Decimal("2"), Decimal("10")))
    assert cost_usd(priced, Usage(prompt=1000, cached=600, cache_written=300)) == Decimal("0.002")


def test_a_long_prompt_makes_all_tokens_of_the_call_dearer() -> None:
    long = LongContext(200_000, Prices(Decimal("4"), Decimal("20")))
    priced = model("google/a", PRICES, long)
    assert cost_usd(priced, Usage(prompt=200_000, completion=1000)) == Decimal("0.41")
    assert cost_usd(priced, Usage(prompt=200_001, completion=1000)) == Decimal("0.820004")


def test_a_price_that_is_not_known_is_not_made_up() -> None:
    assert cost_usd(model("ollama/a"), Usage(prompt=1)) is None
    embedding = model("openai/e", Prices(input_usd=Decimal("1")))
    assert cost_usd(embedding, Usage(prompt=1000)) == Decimal("0.001")
    assert cost_usd(embedding, Usage(prompt=1000, completion=1)) is None


def test_a_model_is_found_by_its_id_and_by_its_providers_name() -> None:
    llama = model("together/meta-llama/Llama-3.3-70B")
    catalogue = Catalogue([llama, model("openai/gpt-5")])
    assert catalogue.find("together/meta-llama/Llama-3.3-70B") is llama
    assert catalogue.find("meta-llama/Llama-3.3-70B") is llama
    assert catalogue.find("gpt-5") is catalogue.find("openai/gpt-5") is not None
    assert catalogue.find("gpt") is None
    assert len(catalogue) == 2


def test_a_name_that_several_providers_have_is_the_preferred_vendors() -> None:
    models = [model("zzz/m"), model("groq/m"), model("openrouter/m"), model("aaa/m"), model("mistral/m")]
    for order in (models, models[::-1]):
        catalogue = Catalogue(order)
        found = catalogue.find("m")
        assert found is not None
        assert found.provider == "mistral"
        assert [m.provider for m in catalogue] == ["mistral", "groq", "openrouter", "aaa", "zzz"]
