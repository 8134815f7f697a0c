"""The models that the package brings along."""

from collections import Counter

from auralink.llm.catalogue.catalogue import Catalogue
from auralink.llm.catalogue.models import Model
from auralink.llm.catalogue.packaged import FILE, packaged, written
from auralink.llm.providers.vendors import VENDORS

FIRST_RELEASE = {
    "gpt-4-turbo": "openai",
    "gpt-4": "openai",
    "gpt-3.5-turbo": "openai",
    "claude-3-opus": "anthropic",
    "claude-3-sonnet": "anthropic",
    "claude-3-haiku": "anthropic",
    "gemini-1.5-pro": "google",
    "meta-llama/Llama-3-70b-chat-hf": "together",
}
NAMED_VENDORS = {"openai", "anthropic", "google", "together"}


def chat_models() -> list[Model]:
    return [model for model in packaged().models if "chat" in model.capabilities]


def test_there_are_25_current_chat_models_of_the_four_named_vendors_and_every_one_has_prices() -> None:
    current = [model for model in chat_models() if model.provider in NAMED_VENDORS and not model.deprecated]
    assert len(current) >= 25
    assert {model.provider for model in current} == NAMED_VENDORS
    assert all(model.input_usd is not None and model.output_usd is not None for model in current)


def test_the_eight_models_of_the_first_release_are_found_by_their_names() -> None:
    catalogue = Catalogue(packaged().models)
    for name, provider in FIRST_RELEASE.items():
        found = catalogue.find(name)
        assert found is not None, name
        assert found.provider == provider
        assert catalogue.find(f"{provider}/{name}") is found
        assert found.input_usd is not None


def test_every_vendor_of_hosted_models_has_one_of_each_tier_or_at_least_two() -> None:
    tiers = {model.provider: set[str]() for model in chat_models()}
    for model in chat_models():
        if not model.deprecated:
            tiers[model.provider].add(model.tier)
    assert all(len(found) >= 2 for found in tiers.values()), tiers
    assert tiers.keys() <= VENDORS.keys()


def test_each_id_and_each_name_at_a_provider_is_there_once() -> None:
    models = packaged().models
    names = [(model.provider, name) for model in models for name in (model.name, *model.aliases)]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert all(model.model_id == f"{model.provider}/{model.name}" for model in models)


def test_a_model_either_chats_or_embeds_and_can_stream_if_it_chats() -> None:
    for model in packaged().models:
        assert ("chat" in model.capabilities) != ("embeddings" in model.capabilities), model.model_id
        assert ("chat" in model.capabilities) == ("streaming" in model.capabilities)


def test_prices_are_in_order() -> None:
    for model in packaged().models:
        for prices in (model.prices, *(change.prices for change in model.scheduled)):
            given = [price for price in (prices.cached_input_usd, prices.input_usd) if price is not None]
            assert given == sorted(given), model.model_id
            assert prices.output_usd is None or prices.input_usd is None or prices.output_usd >= prices.input_usd
        if model.long_context and model.input_usd and model.long_context.prices.input_usd:
            assert model.long_context.prices.input_usd > model.input_usd


def test_the_file_is_what_is_written() -> None:
    brought = packaged()
    assert written(brought.models, brought.as_of, brought.prices_from) == FILE.read_text("utf-8")
