"""`POST /v1/responses` with the official client: whole, streamed, with tools, and broken off."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from openai import AsyncOpenAI, BadRequestError

from tests.llm.conftest import MODELS, SharedHouse
from tests.llm.fake_vendor import Trouble
from tests.llm.vendor_wire import Answer, Call

pytestmark = [pytest.mark.promise("P-OPENAI"), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def house(shared_house: SharedHouse) -> SharedHouse:
    return shared_house


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: SharedHouse) -> AsyncIterator[AsyncOpenAI]:
    """The official client, pointed at the service and otherwise as it comes."""
    async with AsyncOpenAI(base_url=f"{house.service.url}/v1", api_key=house.service.token(house.user)) as made:
        yield made


@pytest.mark.parametrize("model", MODELS.values())
async def test_a_response_is_given_whole(client: AsyncOpenAI, house: SharedHouse, model: str) -> None:
    house.vendor.say(Answer("Four.", prompt_tokens=9, completion_tokens=2))
    response = await client.responses.create(model=model, input="What is 2 + 2?", instructions="Be brief.")
    assert (response.output_text, response.status) == ("Four.", "completed")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (9, 2)
    assert [call["endpoint"] for call in house.calls()] == ["responses"]


async def test_a_response_is_streamed_in_the_official_order(client: AsyncOpenAI, house: SharedHouse) -> None:
    house.vendor.say(Answer("one two three", pieces=3))
    async with client.responses.stream(model=MODELS["anthropic"], input="Count.") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-1] == "response.completed"
    assert final.output_text == "one two three"


async def test_a_tool_is_called_and_its_output_goes_back(client: AsyncOpenAI, house: SharedHouse) -> None:
    house.vendor.say(Answer("", calls=[Call("add", {"a": 1})]), Answer("Done."))
    tool = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}
    first = await client.responses.create(model=MODELS["openai"], input="Add.", tools=[tool])  # type: ignore[list-item]
    (called,) = [item for item in first.output if item.type == "function_call"]
    output = {"type": "function_call_output", "call_id": called.call_id, "output": "2"}
    items = [{"role": "user", "content": "Add."}, called.model_dump(exclude_none=True), output]
    second = await client.responses.create(model=MODELS["openai"], input=items, tools=[tool])  # type: ignore[arg-type,list-item]
    assert second.output_text == "Done."


async def test_a_stream_that_breaks_off_ends_as_failed(client: AsyncOpenAI, house: SharedHouse) -> None:
    house.vendor.say(Trouble(Answer("one two three four", pieces=4), after=3, how="cut"))
    stream = await client.responses.create(model=MODELS["openai"], input="Count.", stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.failed"
    assert house.calls()[0]["error_class"] == "broken_off"


async def test_what_needs_storage_is_refused_by_name(client: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match="previous_response_id"):
        await client.responses.create(model="auto", input="x", previous_response_id="resp_1")
