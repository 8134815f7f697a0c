"""The REST of models: the catalogue, and what was measured, compared, paid and rated."""

from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest

from auralink.core.ids import uuid7
from tests.llm.conftest import MODELS, SharedHouse
from tests.llm.fake_vendor import Error
from tests.llm.test_gateway import chat
from tests.llm.vendor_wire import Answer
from tests.service import API, unique

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def house(shared_house: SharedHouse) -> SharedHouse:
    return shared_house


async def get(client: httpx2.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(f"{API}/llm/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_calls_are_compared_paid_and_rated_by_who_made_them(house: SharedHouse) -> None:
    house.vendor.say(Answer("a", prompt_tokens=100, completion_tokens=50), Error(500, "down", {"Retry-After": "60"}), Answer("b"))
    async with house.client() as client, house.client(unique()) as stranger:
        first = await chat(client, metadata={"task_type": "summary"})
        assert (await chat(client)).status_code == 502
        assert (await chat(client, MODELS["google"])).status_code == 200
        rating = {"call_id": first.headers["x-auralink-call-id"], "quality": 0.75, "comment": "short"}
        rated = await client.post(f"{API}/llm/performance/feedback", json=rating)
        assert (rated.status_code, rated.json()["quality"]) == (201, 0.75)
        for who, call_id in ((stranger, rating["call_id"]), (client, str(uuid7()))):
            refused = await who.post(f"{API}/llm/performance/feedback", json={**rating, "call_id": call_id})
            assert (refused.status_code, refused.json()["code"]) == (404, "model_call_not_found")
        assert (await client.post(f"{API}/llm/performance/feedback", json={**rating, "quality": 1.1})).status_code == 422

        compared = {item["model_id"]: item for item in (await get(client, "compare"))["items"]}
        gpt = compared[MODELS["openai"]]
        assert (gpt["calls"], gpt["successes"], gpt["success_rate"], gpt["quality"], gpt["rated"]) == (2, 1, 0.5, 0.75, 1)
        assert (gpt["prompt_tokens"], gpt["completion_tokens"]) == (100, 50)
        named = await get(client, "compare", model_ids=f"{MODELS['google']}, unknown")
        assert [item["model_id"] for item in named["items"]] == [MODELS["google"]]
        assert [item["calls"] for item in (await get(client, "compare", task_type="summary"))["items"]] == [1]
        assert (await get(stranger, "compare"))["items"] == []

        costs = await get(client, "costs", days=1)
        assert (costs["calls"], costs["tokens"], costs["unpriced_calls"]) == (3, 162, 0)
        assert Decimal(costs["cost_usd"]) == sum(Decimal(item["cost_usd"]) for item in costs["items"]) > 0
        assert (await get(stranger, "costs"))["calls"] == 0
        assert (await client.get(f"{API}/llm/costs", params={"days": 0})).status_code == 422

        recommended = await get(client, "recommendations", use_case="cost")
        assert len(recommended["items"]) == 3
        assert recommended["items"][0]["model_id"] == (await get(client, "select", model="auto:cheap"))["model_id"]


async def test_the_catalogue_is_filtered_and_says_what_can_be_used(house: SharedHouse) -> None:
    async with house.client() as client:
        everything = (await get(client, "models"))["items"]
        for name, value in (("provider", "google"), ("tier", "advanced"), ("capability", "embeddings"), ("available", False)):
            filtered = (await get(client, "models", **{name: value}))["items"]
            assert 0 < len(filtered) < len(everything)
            key = "capabilities" if name == "capability" else name
            assert all(value in item[key] if name == "capability" else item[key] == value for item in filtered)
        one = await get(client, f"models/{MODELS['anthropic']}")
        assert one in everything
        assert (await client.get(f"{API}/llm/models/none")).json()["code"] == "model_not_found"
        providers = {item["provider"]: item for item in (await get(client, "providers"))["items"]}
        assert (providers["openai"]["key"], providers["mistral"]["key"]) == ("operator", None)
        assert providers["google"]["models"] > 0


@pytest.mark.promise("P-OPENAI")
async def test_the_official_client_uses_the_responses_api(house: SharedHouse) -> None:
    house.vendor.say(Answer("Hi."), Answer("one two", pieces=2))
    service = house.service
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.token(house.user), max_retries=0) as client:
        answer = await client.responses.create(model=MODELS["anthropic"], input="Hello?", store=False)
        assert answer.output_text == "Hi."
        async with client.responses.stream(model=MODELS["openai"], input="Hello?", store=False) as stream:
            kinds = [event.type async for event in stream]
            assert (await stream.get_final_response()).output_text == "one two"
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert [call["endpoint"] for call in house.calls()] == ["responses", "responses"]
