"""P-SELECT: `auto` takes the best model that can and may, says why, and falls over to the next when one fails."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from auralink.core.ids import uuid7
from auralink.llm.selection import WEIGHTS
from auralink.vault.crypto import KeyRing
from tests.llm.conftest import MODELS, SharedHouse
from tests.llm.fake_vendor import Error
from tests.llm.test_gateway import HELLO, chat
from tests.llm.vendor_wire import Answer
from tests.service import API, running_service, unique

pytestmark = [pytest.mark.promise("P-SELECT"), pytest.mark.asyncio(loop_scope="module")]

PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


@pytest.fixture
def house(shared_house: SharedHouse) -> SharedHouse:
    return shared_house


async def select(client: httpx2.AsyncClient, **parameters: Any) -> dict[str, Any]:
    answer = await client.get(f"{API}/llm/select", params=parameters)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def prefer(client: httpx2.AsyncClient, model_id: str, **fields: Any) -> str:
    answer = await client.post(f"{API}/llm/preferences", json={"model_id": model_id, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["preference_id"])


async def test_what_is_explained_is_what_is_taken(house: SharedHouse) -> None:
    async with house.client() as client:
        for kind in WEIGHTS:
            explained = await select(client, model=kind)
            assert house.vendor.received == []
            answer = await chat(client, kind)
            assert answer.headers["x-auralink-model"] == explained["model_id"] == explained["candidates"][0]["model_id"]
            assert answer.headers["x-auralink-reason"] == explained["reason"]
            assert explained["reason"].startswith(f"{kind}: score ")
            scores = [candidate["score"] for candidate in explained["candidates"]]
            assert scores == sorted(scores, reverse=True)
            (audited,) = house.rows(
                "SELECT served_by, tool FROM auralink.mcp_operation_logs WHERE id = %s", answer.headers["x-auralink-call-id"]
            )
            assert (audited["served_by"], audited["tool"]) == (explained["model_id"], explained["model_id"])
            assert house.calls()[-1]["reason"] == explained["reason"]
            house.vendor.received.clear()


async def test_each_kind_of_auto_takes_what_it_says(house: SharedHouse) -> None:
    async with house.client() as client:
        views = {item["model_id"]: item for item in (await client.get(f"{API}/llm/models")).json()["items"]}
        best = await select(client, model="auto:best")
        cheap = await select(client, model="auto:cheap")
        assert views[best["model_id"]]["tier"] == "advanced"
        prices = {
            name: float(views[name]["input_usd"])
            for name in (c["model_id"] for c in cheap["candidates"])
            if views[name]["input_usd"]
        }
        assert prices[cheap["model_id"]] <= sorted(prices.values())[2]
        unknown = await client.get(f"{API}/llm/select", params={"model": "auto:none"})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("need", ["tools", "images", "json_schema"])
async def test_only_models_that_can_what_is_needed_are_taken(house: SharedHouse, need: str) -> None:
    async with house.client() as client:
        views = {item["model_id"]: item for item in (await client.get(f"{API}/llm/models")).json()["items"]}
        explained = await select(client, **{need: True})
        assert all(need in views[c["model_id"]]["capabilities"] for c in explained["candidates"])
        for left in explained["left_out"]:
            if "cannot do" in left["reason"] and need in left["reason"]:
                assert need not in views[left["model_id"]]["capabilities"]
        assert all(views[c["model_id"]]["available"] and not views[c["model_id"]]["deprecated"] for c in explained["candidates"])
        assert len(explained["candidates"]) + len(explained["left_out"]) == len(views)


async def test_models_without_room_are_left_out_and_told_so(house: SharedHouse) -> None:
    async with house.client() as client:
        explained = await select(client, tokens=500_000)
        assert explained["candidates"]
        assert any("has room for" in left["reason"] for left in explained["left_out"])
        much = await select(client, max_tokens=100_000)
        assert any("answers with up to" in left["reason"] for left in much["left_out"])
        nothing = await select(client, tokens=90_000_000)
        assert nothing["model_id"] is None
        assert nothing["candidates"] == []


async def test_the_offline_model_does_not_answer_where_there_is_a_key(house: SharedHouse) -> None:
    async with house.client() as client:
        body = {"messages": HELLO, "model": "auto", "max_tokens": 90_000_000}
        answer = await client.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_model_available")
        assert answer.headers["x-should-retry"] == "false"
        assert all(c["model_id"] != "auralink/offline" for c in (await select(client))["candidates"])
        assert (await chat(client, "auralink/offline")).status_code == 200, "it does where it is named"


async def test_the_offline_model_answers_where_there_is_no_key_at_all_and_says_so(
    house: SharedHouse, tmp_path: Path, ring: KeyRing
) -> None:
    async with running_service(house.database.service, tmp_path, ring) as keyless, keyless.client(unique()) as client:
        answer = await chat(client, "auto", tools=TOOLS)
        assert answer.json()["model"] == "auralink/offline"
        assert answer.headers["x-auralink-key"] == "none"
        assert "no key" in answer.headers["x-auralink-reason"]
        picture = await client.post("/v1/chat/completions", json={"model": "auto", "messages": PICTURE})
        assert (picture.status_code, picture.json()["error"]["code"]) == (503, "no_model_available")
        embedding = await client.post("/v1/embeddings", json={"model": "auralink/offline", "input": "x"})
        assert (embedding.status_code, embedding.json()["error"]["code"]) == (400, "unsupported_field")


async def test_preferences_come_before_scores_and_those_for_the_task_before_all(house: SharedHouse) -> None:
    async with house.client() as client:
        await prefer(client, MODELS["google"], priority=1)
        first = await prefer(client, MODELS["anthropic"], priority=5)
        await prefer(client, MODELS["openai"], priority=-3, task_type="summary")
        assert (await select(client))["model_id"] == MODELS["anthropic"]
        assert (await select(client, task_type="summary"))["model_id"] == MODELS["openai"]
        answer = await chat(client, "auto", metadata={"task_type": "summary"})
        assert answer.headers["x-auralink-model"] == MODELS["openai"]
        assert "preferred" in answer.headers["x-auralink-reason"]
        assert house.calls()[-1]["task_type"] == "summary"
        assert (await client.delete(f"{API}/llm/preferences/{first}")).status_code == 204
        assert (await select(client))["model_id"] == MODELS["google"]
        assert (await client.delete(f"{API}/llm/preferences/{uuid4()}")).json()["code"] == "preference_not_found"


async def test_a_preferred_model_that_cannot_is_passed_over(house: SharedHouse) -> None:
    async with house.client() as client:
        await prefer(client, "openai/gpt-3.5-turbo")
        assert (await select(client, images=True))["model_id"] != "openai/gpt-3.5-turbo"


async def test_a_request_without_a_model_takes_the_default(house: SharedHouse) -> None:
    async with house.client() as client:
        for name in (MODELS["google"], "auto:cheap", MODELS["anthropic"]):
            assert (await client.post(f"{API}/llm/preferences/default", json={"model_id": name})).status_code == 201
        answer = await client.post("/v1/chat/completions", json={"messages": HELLO})
        assert answer.headers["x-auralink-model"] == MODELS["anthropic"]
        listed = (await client.get(f"{API}/llm/preferences")).json()["items"]
        assert [item["model_id"] for item in listed if item["is_default"]] == [MODELS["anthropic"]]
        assert (await client.post(f"{API}/llm/preferences/default", json={"model_id": "auto:x"})).status_code == 404


async def test_the_next_of_a_list_takes_over_and_headers_and_log_say_so(house: SharedHouse) -> None:
    house.vendor.say(Error(503, "down", {"Retry-After": "60"}), Error(401, "no"), Answer("third"))
    async with house.client() as client:
        answer = await chat(client, list(MODELS.values()))
    assert answer.json()["choices"][0]["message"]["content"] == "third"
    assert answer.headers["x-auralink-model"] == MODELS["google"]
    reason = answer.headers["x-auralink-reason"]
    assert f"after {MODELS['openai']}: overloaded; after {MODELS['anthropic']}: unauthorized" in reason
    tried = {call["model_id"]: (call["outcome"], call["error_class"]) for call in house.calls()}
    assert tried == {
        MODELS["openai"]: ("provider_error", "overloaded"),
        MODELS["anthropic"]: ("provider_error", "unauthorized"),
        MODELS["google"]: ("ok", None),
    }
    query = "SELECT served_by FROM auralink.mcp_operation_logs WHERE user_id = %s"
    served = house.rows(query, house.user_id)
    assert served == [{"served_by": MODELS["google"]}], "one call is one row of the operation log"
    (answered,) = [call for call in house.calls() if call["outcome"] == "ok"]
    assert answered["reason"] == reason


async def test_a_stream_falls_over_before_its_first_event(house: SharedHouse) -> None:
    house.vendor.say(Error(500, "down", {"Retry-After": "60"}), Answer("second"))
    body = {"model": list(MODELS.values()), "messages": HELLO, "stream": True}
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.headers["x-auralink-model"] == MODELS["anthropic"]
    assert "[DONE]" in answer.text


async def test_a_mistake_in_the_request_is_not_tried_on_the_next_model(house: SharedHouse) -> None:
    house.vendor.say(Error(400, "messages[0] is bad"))
    async with house.client() as client:
        answer = await chat(client, list(MODELS.values()))
    assert answer.status_code == 400
    assert len(house.vendor.received) == 1


async def test_a_prompt_that_is_too_long_for_one_is_tried_on_the_next(house: SharedHouse) -> None:
    house.vendor.say(Error(400, "maximum context length is 10 tokens"), Answer("fits"))
    async with house.client() as client:
        assert (await chat(client, [MODELS["openai"], MODELS["google"]])).status_code == 200


async def test_models_that_failed_lately_move_back(house: SharedHouse) -> None:
    health = house.service.app.state.llm.health
    async with house.client() as client:
        first = (await select(client))["candidates"][0]
        query = """INSERT INTO auralink.llm_performance_metrics
            (id, user_id, at, endpoint, requested, model_id, provider, latency_ms, success, outcome, error_class, source)
            VALUES (%s, %s, %s, 'chat.completions', 'auto', %s, 'x', 100, false, 'provider_error', 'overloaded', 'v1')"""
        for _ in range(20):
            house.rows(query, uuid7(), uuid7(), datetime.now(UTC), first["model_id"])
        await health.refresh()
        after = await select(client)
        assert after["model_id"] != first["model_id"]
        (moved,) = (c for c in after["candidates"] if c["model_id"] == first["model_id"])
        assert moved["score"] < first["score"] / 5
    house.rows("DELETE FROM auralink.llm_performance_metrics WHERE provider = 'x'")
    await health.refresh()


async def test_the_default_model_is_no_preference_of_auto(house: SharedHouse) -> None:
    async with house.client() as client:
        cheap = (await client.get(f"{API}/llm/select", params={"model": "auto:cheap"})).json()["model_id"]
        for model in (MODELS["anthropic"], MODELS["google"]):
            made = await client.post(f"{API}/llm/preferences/default", json={"model_id": model})
            assert (made.status_code, made.json()["is_default"], made.json()["preferred"]) == (201, True, False)
        assert (await client.get(f"{API}/llm/select", params={"model": "auto:cheap"})).json()["model_id"] == cheap
        assert len((await client.get(f"{API}/llm/preferences")).json()["items"]) == 1
        answer = await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]})
    assert answer.headers["x-auralink-model"] == MODELS["google"]


async def test_one_users_failures_do_not_decide_for_all(house: SharedHouse) -> None:
    health = house.service.app.state.llm.health
    query = """INSERT INTO auralink.llm_performance_metrics
        (id, user_id, at, endpoint, requested, model_id, provider, latency_ms, success, outcome, error_class, source)
        VALUES (%s, %s, %s, 'chat.completions', 'auto', 'openai/gpt-4o', 'y', 100, %s, 'ok', 'overloaded', 'v1')"""
    for number in range(12):
        who = house.user_id if number < 3 else uuid7()
        house.rows(query, uuid7(), who, datetime.now(UTC), number >= 3)
    await health.refresh()
    measured = health.of("openai/gpt-4o")
    house.rows("DELETE FROM auralink.llm_performance_metrics WHERE provider = 'y'")
    await health.refresh()
    assert (measured.calls, measured.succeeded) == (12, 11), "nine users of ten were well served"


@pytest.mark.parametrize("name", ["openai/a\r\nx-injected: 1", "openai/\x00", "openai/" + "x" * 300, "openai/é"])
async def test_a_name_that_no_model_can_have_is_refused_before_it_goes_anywhere(house: SharedHouse, name: str) -> None:
    async with house.client() as client:
        answer = await chat(client, name)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert house.vendor.received == []
