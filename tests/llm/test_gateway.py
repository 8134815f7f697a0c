"""Model calls through `/v1`, over the three wire formats: what the client gets, and what is recorded of it."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from tests.conftest import eventually
from tests.llm.conftest import FORMATS, MODELS, House, SharedHouse
from tests.llm.fake_vendor import Error, Raw, Trouble
from tests.llm.vendor_wire import Answer, Call

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
def house(shared_house: SharedHouse) -> SharedHouse:
    return shared_house


async def chat(client: httpx2.AsyncClient, model: Any = "openai/gpt-5-mini", **fields: Any) -> httpx2.Response:
    return await client.post("/v1/chat/completions", json={"model": model, "messages": HELLO, **fields})


async def events(client: httpx2.AsyncClient, model: Any = "openai/gpt-5-mini", **fields: Any) -> list[str]:
    body = {"model": model, "messages": HELLO, "stream": True, **fields}
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        return [line.removeprefix("data: ") async for line in answer.aiter_lines() if line.startswith("data: ")]


def text_of(data: list[str]) -> str:
    chunks = [json.loads(one) for one in data if one != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_an_answer_comes_back_and_is_recorded_with_its_cost(house: SharedHouse, wire_format: str) -> None:
    house.vendor.say(Answer("Hi there.", prompt_tokens=1000, completion_tokens=100))
    async with house.client() as client:
        answer = await chat(client, MODELS[wire_format])
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "Hi there."
    assert answer.headers["x-auralink-model"] == MODELS[wire_format]
    assert answer.headers["x-auralink-key"] == "operator"
    (call,) = house.calls()
    assert str(call["id"]) == answer.headers["x-auralink-call-id"]
    assert (call["prompt_tokens"], call["completion_tokens"], call["outcome"]) == (1000, 100, "ok")
    assert call["cost_usd"] > 0
    assert call["usage_exact"]
    (logged,) = house.rows("SELECT * FROM auralink.mcp_operation_logs WHERE user_id = %s", house.user_id)
    assert (logged["id"], logged["operation"], logged["cost_usd"]) == (call["id"], "chat.completions", call["cost_usd"])
    query = "SELECT * FROM auralink.usage_counters WHERE user_id = %s AND scope = 'all' AND period = 'day'"
    used = house.rows(query, house.user_id)
    assert [(row["tokens"], row["cost_usd"]) for row in used] == [(1100, call["cost_usd"])]


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_a_stream_comes_back_and_is_recorded_when_it_ends(house: SharedHouse, wire_format: str) -> None:
    house.vendor.say(Answer("one two three four", pieces=4, prompt_tokens=50, completion_tokens=4))
    async with house.client() as client:
        data = await events(client, MODELS[wire_format])
    assert text_of(data) == "one two three four"
    assert data[-1] == "[DONE]"
    assert not any('"usage":{' in one for one in data), "the client has not asked for usage"
    (call,) = house.calls()
    assert (call["prompt_tokens"], call["completion_tokens"], call["streamed"]) == (50, 4, True)
    assert 0 < call["first_token_ms"] <= call["latency_ms"]


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_a_client_that_asks_for_usage_gets_it_last(house: SharedHouse, wire_format: str) -> None:
    house.vendor.say(Answer("hi", prompt_tokens=50, completion_tokens=4))
    async with house.client() as client:
        data = await events(client, MODELS[wire_format], stream_options={"include_usage": True})
    assert json.loads(data[-2])["usage"]["total_tokens"] == 54


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_a_provider_killed_in_the_middle_gives_an_error_event_and_a_partial_record(
    house: SharedHouse, wire_format: str
) -> None:
    house.vendor.say(Trouble(Answer("one two three four five six", pieces=6), after=4, how="cut"))
    async with house.client() as client:
        data = await events(client, MODELS[wire_format])
    error = json.loads(data[-1])["error"]
    assert error["code"] == "provider_error"
    assert error["provider"] == wire_format
    assert "[DONE]" not in data
    assert text_of(data[:-1])
    (call,) = house.calls()
    assert (call["outcome"], call["error_class"], call["usage_exact"]) == ("provider_error", "broken_off", False)
    assert call["completion_tokens"] > 0
    assert call["prompt_tokens"] > 0


async def test_a_client_that_goes_away_ends_the_providers_stream_and_is_recorded(house: SharedHouse) -> None:
    trouble = Trouble(Answer("one two three four", pieces=4), after=2, how="hold")
    house.vendor.say(trouble)
    async with house.client() as client:
        body = {"model": MODELS["openai"], "messages": HELLO, "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            await anext(answer.aiter_lines())
    await eventually(house.calls)
    trouble.released.set()
    (call,) = house.calls()
    assert (call["outcome"], call["usage_exact"]) == ("cancelled", False)


async def test_a_client_that_goes_away_before_the_answer_is_recorded(house: SharedHouse) -> None:
    trouble = Trouble(Answer("x"), after=0, how="hold")
    house.vendor.say(trouble)
    async with house.client() as client:
        asking = asyncio.create_task(events(client, MODELS["openai"]))
        await trouble.reached.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await eventually(house.calls)
    trouble.released.set()
    (call,) = house.calls()
    assert (call["outcome"], call["usage_exact"]) == ("cancelled", False)
    assert call["prompt_tokens"] > 0, "the provider may bill what it was sent"


async def test_what_may_pass_is_tried_again_after_as_long_as_the_provider_asks(house: SharedHouse) -> None:
    house.vendor.say(Error(429, "slow down", {"Retry-After": "0"}), Error(503, "busy", {"Retry-After": "0"}), Answer("at last"))
    async with house.client() as client:
        answer = await chat(client)
    assert answer.json()["choices"][0]["message"]["content"] == "at last"
    assert house.calls()[0]["attempts"] == 3


async def test_a_provider_that_asks_for_a_long_wait_is_not_waited_for(house: SharedHouse) -> None:
    house.vendor.say(Error(429, "come back", {"Retry-After": "120"}))
    async with house.client() as client:
        answer = await chat(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "120")
    error = answer.json()["error"]
    assert error["type"] == "rate_limit_error"
    assert error["provider"] == "openai"
    assert error["model"] == "gpt-5-mini"


@pytest.mark.parametrize(
    ("status", "shown", "kind"), [(400, 400, "invalid_request"), (401, 502, "unauthorized"), (404, 404, "not_found")]
)
async def test_a_providers_refusal_keeps_its_cause(house: SharedHouse, status: int, shown: int, kind: str) -> None:
    house.vendor.say(Error(status, "for a reason"))
    async with house.client() as client:
        answer = await chat(client)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (shown, kind)
    assert "for a reason" in answer.json()["error"]["message"]
    assert house.calls()[0]["error_class"] == kind


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_an_answer_that_is_none_is_an_error_and_not_an_answer(house: SharedHouse, wire_format: str) -> None:
    for body in ("<html>no</html>", {"choices": []}, [], {"type": "message"}, {"candidates": 3}):
        house.vendor.say(Raw(body))
        async with house.client(f"user of {body!r}"[:30]) as client:
            answer = await chat(client, MODELS[wire_format])
        assert answer.status_code == 502, answer.text


@pytest.mark.asyncio(loop_scope="function")
async def test_who_fails_again_and_again_is_left_alone(own_house: House) -> None:
    own_house.vendor.say(*[Error(400 + 100, "down", {"Retry-After": "0"}) for _ in range(15)])
    async with own_house.client() as client:
        for _ in range(5):
            assert (await chat(client)).status_code == 502
        answer = await chat(client)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "circuit_open")
        assert int(answer.headers["retry-after"]) >= 1
        own_house.vendor.say(Answer("well"))
        assert (await chat(client, MODELS["google"])).status_code == 200, "another provider is not concerned"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": HELLO, "model": 3}, "model"),
        ({"model": "auto"}, "messages"),
        ({"model": "auto", "messages": []}, "messages"),
        ({"model": "auto", "messages": [{"role": "nobody", "content": "x"}]}, "messages.0.role"),
        ({"model": "auto", "messages": HELLO, "tools": {}}, "tools"),
        ({"model": "auto", "messages": HELLO, "max_tokens": 0}, "max_tokens"),
        ({"model": "auto", "messages": HELLO, "stream": "yes"}, "stream"),
    ],
)
async def test_a_wrong_field_is_named(house: SharedHouse, body: Any, param: str) -> None:
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"model": NaN}', b"\xff"])
async def test_a_body_that_is_no_object_is_refused(house: SharedHouse, content: bytes) -> None:
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_a_stranger_and_an_unknown_door_are_told_so_in_the_openai_shape(house: SharedHouse) -> None:
    async with house.service.client() as nobody, house.client() as client:
        answer = await chat(nobody)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
        answer = await client.get("/v1/files")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
        answer = await chat(client, "no-such-model")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_field_that_the_provider_cannot_honour_is_refused_by_name(house: SharedHouse) -> None:
    async with house.client() as client:
        answer = await chat(client, MODELS["anthropic"], logit_bias={"5": 1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "logit_bias")
    assert not house.vendor.received


async def test_tools_pass_both_ways(house: SharedHouse) -> None:
    tool = {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}},
    }
    for wire_format in FORMATS:
        house.vendor.say(Answer("", calls=[Call("add", {"a": 1}, "call_9")]))
        async with house.client() as client:
            answer = await chat(client, MODELS[wire_format], tools=[tool])
        (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "add"
        assert json.loads(call["function"]["arguments"]) == {"a": 1}
        assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"


async def test_embeddings_pass_through(house: SharedHouse) -> None:
    async with house.client() as client:
        answer = await client.post("/v1/embeddings", json={"model": "text-embedding-3-small", "input": ["a", "bcd"]})
    assert [item["embedding"] for item in answer.json()["data"]] == [[1.0, 0.5], [3.0, 0.5]]
    (call,) = house.calls()
    assert (call["endpoint"], call["prompt_tokens"], call["model_id"]) == ("embeddings", 2, "openai/text-embedding-3-small")
    assert call["cost_usd"] > Decimal(0)


@pytest.mark.asyncio(loop_scope="function")
async def test_models_that_can_be_used_are_listed(own_house: House, empty_house: House) -> None:
    async with own_house.client() as client, empty_house.client() as stranger:
        listed = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        assert listed[0] == "auto"
        assert MODELS["anthropic"] in listed
        assert (await client.get(f"/v1/models/{MODELS['google']}")).json()["owned_by"] == "google"
        listed = [model["id"] for model in (await stranger.get("/v1/models")).json()["data"]]
        assert "auralink/offline" in listed
        assert MODELS["openai"] not in listed


async def test_any_model_of_a_known_provider_can_be_named(house: SharedHouse) -> None:
    house.vendor.say(Answer("new"))
    async with house.client() as client:
        answer = await chat(client, "openai/gpt-99-of-next-year")
    assert answer.status_code == 200
    (call,) = house.calls()
    assert (call["model_id"], call["cost_usd"]) == ("openai/gpt-99-of-next-year", None), (
        "a price that nobody knows is not made up"
    )
