"""The catalogue in the database: merged at start, synchronised by command, extended by the operator."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

from auralink.core.db import Database
from auralink.llm.catalogue import prices, store, sync
from auralink.llm.catalogue.config import CatalogueConfig, ModelConfig
from auralink.llm.catalogue.models import Model, Prices
from auralink.llm.catalogue.packaged import packaged
from auralink.llm.catalogue.service import Models

NONE = CatalogueConfig()
OWN = CatalogueConfig(llm_models={"ollama/qwen3": ModelConfig(tier="fast", input_usd=Decimal(1))})


async def opened(database: Database, config: CatalogueConfig = NONE, *, scripted: bool = False) -> Models:
    models = Models(database, config, scripted=scripted)
    await models.open()
    return models


async def rows(database: Database) -> dict[str, tuple[object, ...]]:
    async with database.system() as connection:
        found = await (await connection.execute("SELECT * FROM auralink.llm_models")).fetchall()
    return {row["model_id"]: (row["source"], row["enabled"], row["input_usd"], row["updated_at"]) for row in found}


async def test_what_is_packaged_comes_back_from_the_database_as_it_was(database: Database) -> None:
    models = await opened(database)
    today = date.today()  # noqa: DTZ011 - of the two days at midnight either will do
    for model in packaged().models:
        assert models.current.find(model.model_id) in (model, model.on(today))
    offline = models.current.find("auralink/offline")
    assert offline is not None
    assert offline.input_usd == 0
    assert models.current.find("auralink/scripted") is None


async def test_a_second_start_changes_nothing(database: Database) -> None:
    await opened(database, OWN)
    before = await rows(database)
    await opened(database, OWN)
    assert await rows(database) == before


async def test_the_operators_model_is_there_as_long_as_the_configuration_has_it(database: Database) -> None:
    assert (await opened(database, OWN)).current.find("qwen3") is not None
    assert (await rows(database))["ollama/qwen3"][:3] == ("config", True, 1)
    assert (await opened(database)).current.find("qwen3") is None
    assert (await rows(database))["ollama/qwen3"][:2] == ("config", False)
    assert (await opened(database, OWN)).current.find("qwen3") is not None


async def test_the_operators_price_of_a_known_model_wins_also_over_a_synchronised_one(database: Database) -> None:
    config = CatalogueConfig(llm_models={"openai/gpt-5.5": ModelConfig(input_usd=Decimal("0.125"))})
    models = await opened(database, config)
    await sync.update_database(database, prices.installed())
    await models.reload()
    found = models.current.find("gpt-5.5")
    assert found is not None
    assert found.input_usd == Decimal("0.125")
    assert (await rows(database))["openai/gpt-5.5"][2] != Decimal("0.125")


async def test_synchronised_prices_survive_a_start_until_the_package_is_newer(database: Database) -> None:
    models = await opened(database)
    brought = packaged()
    newer = replace(known(brought.models, "openai/gpt-5"), prices=Prices(Decimal(7), Decimal(8)))
    for day, kept in ((date(2999, 1, 1), True), (date(2001, 1, 1), False)):
        async with database.system() as connection:
            await store.put_models(connection, [newer], "sync", day)
        await models.open()
        found = models.current.find("openai/gpt-5")
        assert found is not None
        assert (found.input_usd == 7) is kept


async def test_a_synchronisation_says_what_has_changed(database: Database) -> None:
    await opened(database, OWN)
    wrong = replace(known(packaged().models, "openai/gpt-5"), prices=Prices(Decimal(7), Decimal(10)), context_window=None)
    async with database.system() as connection:
        await store.put_models(connection, [wrong], "sync", date(2026, 1, 1))
    changes = await sync.update_database(database, prices.installed())
    assert "openai/gpt-5: input 7 → 1.25, context window unknown → 400,000" in changes
    assert (await rows(database))["openai/gpt-5"][0] == "sync"
    assert (await rows(database))["ollama/qwen3"][0] == "config"
    assert await sync.update_database(database, prices.installed()) == []


def known(models: tuple[Model, ...], model_id: str) -> Model:
    return next(model for model in models if model.model_id == model_id)


async def test_the_scripted_model_is_there_where_there_is_a_script(database: Database) -> None:
    assert (await opened(database, scripted=True)).current.find("auralink/scripted") is not None
