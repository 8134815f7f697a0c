"""P-OPENAI: the official clients, unmodified, against `/v1`."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from tests.llm.conftest import FORMATS, MODELS, SharedHouse
from tests.llm.fake_vendor import Error, Raw, Trouble
from tests.llm.vendor_wire import Answer, Call
from tests.node import OPENAI_CLIENT, installed

pytestmark = [pytest.mark.promise("P-OPENAI"), pytest.mark.asyncio(loop_scope="module")]

HELLO = [{"role": "user", "content": "Hello?"}]
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    name: str
    inhabitants: int


@pytest.fixture
def house(shared_house: SharedHouse) -> SharedHouse:
    return shared_house


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: SharedHouse) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, which knows nothing but an address and a token."""
    service = house.service
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.token(house.user), max_retries=0) as made:
        yield made


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_chat_streams_tools_and_structured_output(house: SharedHouse, client: openai.AsyncOpenAI, wire_format: str) -> None:
    model, chats = MODELS[wire_format], client.chat.completions
    house.vendor.say(Answer("Hi there."), Answer("one two three", pieces=3, prompt_tokens=9, completion_tokens=4))
    answer = await chats.create(model=model, messages=HELLO)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "Hi there."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12

    text, usage = "", None
    options = {"include_usage": True}
    async for chunk in await chats.create(model=model, messages=HELLO, stream=True, stream_options=options):  # type: ignore[call-overload]
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text == "one two three"
    assert (usage.prompt_tokens, usage.completion_tokens) == (9, 4)

    house.vendor.say(Answer("", calls=[Call("add", {"a": 1}), Call("add", {"a": 2}, "call_2")]))
    parsed = await chats.parse(model=model, messages=HELLO, tools=[ADD])  # type: ignore[arg-type,list-item]
    calls = parsed.choices[0].message.tool_calls or []
    assert [call.function.parsed_arguments for call in calls] == [{"a": 1}, {"a": 2}]

    house.vendor.say(
        Answer('{"name": "Bern", "inhabitants": 137000}'), Answer('{"name": "Chur", "inhabitants": 39000}', pieces=4)
    )
    structured = await chats.parse(model=model, messages=HELLO, response_format=City)  # type: ignore[arg-type]
    assert structured.choices[0].message.parsed == City(name="Bern", inhabitants=137000)
    async with chats.stream(model=model, messages=HELLO, response_format=City) as stream:  # type: ignore[arg-type]
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == City(name="Chur", inhabitants=39000)


async def test_embeddings_as_the_client_asks_for_them_and_as_numbers(house: SharedHouse, client: openai.AsyncOpenAI) -> None:
    model = "text-embedding-3-small"
    by_default = await client.embeddings.create(model=model, input=["abc", "x"])
    assert house.vendor.received[-1].body["encoding_format"] == "base64"
    assert [item.embedding for item in by_default.data] == [[3.0, 0.5], [1.0, 0.5]]
    as_numbers = await client.embeddings.create(model=model, input="abc", encoding_format="float")
    assert as_numbers.data[0].embedding == [3.0, 0.5]


async def test_models_are_listed_and_found(client: openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert "auto" in listed
    assert set(MODELS.values()) <= set(listed)
    assert (await client.models.retrieve(MODELS["google"])).owned_by == "google"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("no-such-model")


@pytest.mark.parametrize(
    ("scripted", "expected"),
    [
        (Error(400, "bad"), openai.BadRequestError),
        (Error(404, "no such model"), openai.NotFoundError),
        (Error(429, "slow down", {"Retry-After": "60"}), openai.RateLimitError),
        (Error(500, "down", {"Retry-After": "60"}), openai.InternalServerError),
        (Raw("<html>"), openai.InternalServerError),
    ],
)
async def test_errors_are_the_clients_own(
    house: SharedHouse, client: openai.AsyncOpenAI, scripted: Error | Raw, expected: type[openai.APIStatusError]
) -> None:
    house.vendor.say(scripted)
    with pytest.raises(expected) as caught:
        await client.chat.completions.create(model=MODELS["openai"], messages=HELLO)  # type: ignore[arg-type]
    assert caught.value.code == "provider_error"


async def test_refusals_of_the_gateway_are_the_clients_own_errors(house: SharedHouse, client: openai.AsyncOpenAI) -> None:
    chats = client.chat.completions
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="nobody").chat.completions.create(model="auto", messages=HELLO)  # type: ignore[arg-type]
    with pytest.raises(openai.PermissionDeniedError):
        await chats.create(model="mistral/mistral-large-latest", messages=HELLO)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as wrong:
        await chats.create(model="auto", messages=[])
    assert wrong.value.param == "messages"
    async with house.client() as rest:
        await rest.put("/api/v1/limits", json={"tokens_per_day": 5})
    with pytest.raises(openai.APIStatusError) as refused:
        await client.with_options(max_retries=2).chat.completions.create(model=MODELS["openai"], messages=HELLO)  # type: ignore[arg-type]
    assert (refused.value.status_code, refused.value.code, refused.value.type) == (402, "budget_exceeded", "insufficient_quota")
    assert [call["outcome"] for call in house.calls()].count("budget_exceeded") == 1, "the client does not try that again"


async def test_a_stream_that_breaks_off_is_an_error_of_the_client(house: SharedHouse, client: openai.AsyncOpenAI) -> None:
    house.vendor.say(Trouble(Answer("one two three four", pieces=4), after=3))
    stream = await client.chat.completions.create(model=MODELS["openai"], messages=HELLO, stream=True)  # type: ignore[arg-type]
    with pytest.raises(openai.APIError, match="broke off"):
        async for _ in stream:
            pass


async def test_what_the_client_tries_again_is_answered(house: SharedHouse, client: openai.AsyncOpenAI) -> None:
    house.vendor.say(Error(429, "slow down", {"Retry-After": "11"}), Answer("at last"))
    again = client.with_options(max_retries=1)
    again._calculate_retry_timeout = lambda *_: 0.0  # type: ignore[method-assign,assignment]  # it would wait for 11 s
    answer = await again.chat.completions.create(model=MODELS["openai"], messages=HELLO)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "at last"


@pytest.mark.needs_node
async def test_the_client_for_node(house: SharedHouse) -> None:
    installed(OPENAI_CLIENT)
    house.vendor.say(Answer("Hi."), Answer("one two", pieces=2), Answer("", calls=[Call("add", {"a": 1})]))
    env = {
        "PATH": os.environ["PATH"],
        "TOKEN": house.service.token(house.user),
        "BASE_URL": f"{house.service.url}/v1",
        "MODEL": MODELS["anthropic"],
    }
    process = await asyncio.create_subprocess_exec(
        "node", "client.mjs", cwd=OPENAI_CLIENT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    seen = json.loads(out)
    assert (seen["chat"], seen["stream"], seen["embedding"]) == ("Hi.", "one two", [3, 0.5])
    assert (seen["tool"]["name"], json.loads(seen["tool"]["arguments"])) == ("add", {"a": 1})
    assert set(MODELS.values()) <= set(seen["models"])
    assert seen["error"] == {"name": "NotFoundError", "status": 404, "code": "model_not_found"}
