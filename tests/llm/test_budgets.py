"""P-BUDGET: what a call may use at most is reserved before it, so that no two calls take the last token or the last cent."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from auralink.auth.principal import user_id_of
from auralink.core.secret import Secret
from auralink.llm.accounts import Account
from auralink.vault.crypto import KeyRing
from tests.conftest import ISSUER, eventually
from tests.llm.conftest import FORMATS, MODELS, SharedHouse
from tests.llm.fake_vendor import Error, Trouble
from tests.llm.test_gateway import HELLO, chat, events
from tests.llm.vendor_wire import Answer
from tests.service import API, running_service, unique

pytestmark = [pytest.mark.promise("P-BUDGET"), pytest.mark.asyncio(loop_scope="module")]

OUTPUT = 100
PROMPT = 11
"""What the gateway takes HELLO for at most."""
ONE_CALL = PROMPT + OUTPUT
ALL_OF_IT = Answer("x", prompt_tokens=PROMPT, completion_tokens=OUTPUT)
"""An answer that uses what was reserved for it."""
CONCURRENT = 200


@pytest.fixture
def house(shared_house: SharedHouse) -> SharedHouse:
    return shared_house


async def limit(client: httpx2.AsyncClient, **limits: Any) -> dict[str, Any]:
    answer = await client.put(f"{API}/limits", json=limits)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def ask(client: httpx2.AsyncClient, model: Any = MODELS["openai"], **fields: Any) -> httpx2.Response:
    return await chat(client, model, **{"max_tokens": OUTPUT, **fields})


def counters(house: SharedHouse, period: str = "day", scope: str = "all") -> tuple[int, int]:
    """Used and reserved tokens."""
    query = "SELECT tokens, reserved_tokens FROM auralink.usage_counters WHERE user_id = %s AND period = %s AND scope = %s"
    rows = house.rows(query, house.user_id, period, scope)
    return (rows[0]["tokens"], rows[0]["reserved_tokens"]) if rows else (0, 0)


def reservations(house: SharedHouse) -> list[dict[str, Any]]:
    return house.rows("SELECT * FROM auralink.usage_reservations WHERE user_id = %s", house.user_id)


def forbid_more_than(house: SharedHouse, tokens: int) -> None:
    """Makes Postgres itself refuse a counter that goes over the budget, were it for a moment."""
    check = f"user_id <> '{house.user_id}' OR scope <> 'all' OR tokens + reserved_tokens <= {tokens}"
    house.rows(f"ALTER TABLE auralink.usage_counters ADD CHECK ({check})")


@pytest.mark.parametrize("model", MODELS.values(), ids=FORMATS)
async def test_two_hundred_calls_at_once_share_a_budget_for_seven(house: SharedHouse, model: str) -> None:
    house.vendor.otherwise = ALL_OF_IT
    forbid_more_than(house, 7 * ONE_CALL)
    async with house.client() as client:
        await limit(client, tokens_per_day=7 * ONE_CALL + ONE_CALL - 1)
        await limit(client, tokens_per_month=7 * ONE_CALL)
        answers = await asyncio.gather(*(ask(client, model) for _ in range(CONCURRENT)))
    codes = [answer.status_code for answer in answers]
    assert (codes.count(200), codes.count(402)) == (7, CONCURRENT - 7)
    assert len(house.vendor.received) == 7, "who is refused costs nothing"
    assert counters(house, "day") == counters(house, "month") == (7 * ONE_CALL, 0)
    assert reservations(house) == []


async def test_two_hundred_streams_at_once_share_a_budget_for_seven(house: SharedHouse) -> None:
    house.vendor.otherwise = ALL_OF_IT
    forbid_more_than(house, 7 * ONE_CALL)
    async with house.client() as client:
        await limit(client, tokens_per_day=7 * ONE_CALL)
        answers = await asyncio.gather(*(ask(client, stream=True) for _ in range(CONCURRENT)))
    codes = [answer.status_code for answer in answers]
    assert (codes.count(200), codes.count(402)) == (7, CONCURRENT - 7)
    assert counters(house) == (7 * ONE_CALL, 0)


async def test_two_gateways_on_one_database_share_the_last_cent(house: SharedHouse, tmp_path: Path, ring: KeyRing) -> None:
    house.vendor.otherwise = ALL_OF_IT
    accounts = {"openai": Account(house.vendor.base_url("openai"), Secret(house.vendor.key))}
    async with (
        running_service(house.database.service, tmp_path, ring, accounts=accounts) as replica,
        house.client() as client,
        replica.client(house.user) as other,
    ):
        assert (await ask(client)).status_code == 200
        price = house.calls()[0]["cost_usd"]
        house.rows(
            f"ALTER TABLE auralink.usage_counters ADD CHECK (user_id <> '{house.user_id}' OR cost_usd + reserved_usd <= {6 * price})"
        )
        await limit(client, cost_usd_per_month=str(6 * price))
        await until_limited(other)
        answers = await asyncio.gather(*(ask(one) for one in (client, other) for _ in range(CONCURRENT // 2)))
    codes = [answer.status_code for answer in answers]
    assert (codes.count(200), codes.count(402)) == (5, CONCURRENT - 5)
    query = "SELECT * FROM auralink.usage_counters WHERE user_id = %s AND scope = 'all' AND period = 'month'"
    (month,) = house.rows(query, house.user_id)
    assert (month["cost_usd"], month["reserved_usd"]) == (6 * price, 0)


async def until_limited(client: httpx2.AsyncClient) -> None:
    """Waits until the other gateway has heard of the limit: a call that is far too large is refused and not made."""
    async with asyncio.timeout(10):
        while (await ask(client, "openai/no-such-model", max_tokens=1_000_000)).status_code != 402:
            await asyncio.sleep(0.01)


async def test_a_limit_holds_for_the_next_call_of_the_same_gateway(house: SharedHouse) -> None:
    async with house.client() as client:
        assert (await ask(client)).status_code == 200
        for tokens in range(20, 0, -1):
            await limit(client, tokens_per_day=tokens)
            assert (await ask(client)).status_code == 402


async def test_a_refusal_says_what_is_left_and_when_it_resets(house: SharedHouse) -> None:
    house.vendor.say(Answer("x", prompt_tokens=30, completion_tokens=20))
    async with house.client() as client:
        await limit(client, tokens_per_day=160, cost_usd_per_day="12.5")
        assert (await ask(client)).status_code == 200
        spent = house.calls()[0]["cost_usd"]
        answer = await ask(client)
    assert answer.status_code == 402
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("insufficient_quota", "budget_exceeded", None)
    assert (error["scope"], error["period"], error["tokens_left"]) == ("all", "day", 110)
    assert Decimal(error["cost_left_usd"]) == Decimal("12.5") - spent
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert datetime.fromisoformat(error["resets_at"]) == tomorrow
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    assert "110 of 160 tokens" in error["message"]
    assert "max_tokens" in error["message"]
    refused = house.calls()[-1]
    assert (refused["outcome"], refused["success"], refused["prompt_tokens"]) == ("budget_exceeded", False, 0)
    assert str(refused["id"]) == error["log_id"]


async def test_a_stream_that_is_refused_is_an_error_and_no_stream(house: SharedHouse) -> None:
    async with house.client() as client:
        await limit(client, tokens_per_day=10)
        answer = await ask(client, stream=True)
    assert answer.status_code == 402
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "failure", [Error(400, "no"), Error(500, "no", {"Retry-After": "60"}), Error(401)], ids=["400", "500", "401"]
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_a_failed_call_reserved_is_given_back(house: SharedHouse, failure: Error, stream: bool) -> None:
    house.vendor.say(failure)
    async with house.client() as client:
        await limit(client, tokens_per_day=ONE_CALL)
        assert (await ask(client, stream=stream)).status_code not in (200, 402)
        assert counters(house) == (0, 0)
        assert (await ask(client, stream=stream)).status_code == 200


async def test_a_failover_reserves_for_one_model_at_a_time(house: SharedHouse) -> None:
    house.vendor.say(Error(500, "no", {"Retry-After": "60"}), Error(500, "no", {"Retry-After": "60"}), ALL_OF_IT)
    forbid_more_than(house, ONE_CALL)
    async with house.client() as client:
        await limit(client, tokens_per_day=ONE_CALL)
        answer = await ask(client, list(MODELS.values()))
    assert answer.status_code == 200, answer.text
    assert counters(house) == (ONE_CALL, 0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_client_that_goes_away_leaves_no_reservation(house: SharedHouse, stream: bool) -> None:
    trouble = Trouble(Answer("x"), after=0, how="hold")
    house.vendor.say(trouble)
    async with house.client() as client:
        await limit(client, tokens_per_day=10_000)
        asking = asyncio.create_task(ask(client, stream=stream))
        await trouble.reached.wait()
        assert len(reservations(house)) == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await eventually(house.calls)
    trouble.released.set()
    assert house.calls()[0]["outcome"] == "cancelled"
    assert reservations(house) == []
    assert counters(house)[1] == 0


async def test_a_stream_under_way_holds_its_reservation_until_it_ends(house: SharedHouse) -> None:
    trouble = Trouble(Answer("a b", prompt_tokens=5, completion_tokens=2), after=2, how="hold")
    house.vendor.say(trouble)
    async with house.client() as client:
        await limit(client, tokens_per_day=2 * ONE_CALL - 1)
        streaming = asyncio.create_task(events(client, max_tokens=OUTPUT))
        await trouble.reached.wait()
        assert counters(house) == (0, ONE_CALL)
        assert (await client.get(f"{API}/limits")).json()["used_today"]["reserved_tokens"] == ONE_CALL
        assert (await ask(client)).status_code == 402
        trouble.released.set()
        assert (await streaming)[-1] == "[DONE]"
        assert counters(house) == (7, 0)
        assert (await ask(client)).status_code == 200


async def test_a_stream_that_breaks_off_is_charged_for_what_came(house: SharedHouse) -> None:
    house.vendor.say(Trouble(Answer("one two three four", pieces=4), after=3))
    async with house.client() as client:
        await limit(client, tokens_per_day=5000)
        await events(client, max_tokens=OUTPUT)
    used, reserved = counters(house)
    assert used > 0
    assert reserved == 0


async def test_an_answer_without_a_limit_gets_one_where_there_is_a_budget(house: SharedHouse) -> None:
    async with house.client() as client:
        await chat(client)
        assert "max_tokens" not in house.vendor.received[-1].body
        await limit(client, tokens_per_day=50_000)
        await chat(client)
        assert house.vendor.received[-1].body["max_tokens"] == 4096


async def test_several_answers_at_once_are_reserved_as_several(house: SharedHouse) -> None:
    async with house.client() as client:
        await limit(client, tokens_per_day=3 * OUTPUT + PROMPT)
        assert (await ask(client, n=4)).status_code == 402
        assert (await ask(client, n=3)).status_code == 200
        assert (await ask(client, n=-5)).status_code == 400, "nobody reserves less than nothing"
    async with house.client(unique()) as client:
        await limit(client, tokens_per_day=3 * 4096 + PROMPT)
        assert (await chat(client, n=3)).status_code == 200
        assert house.vendor.received[-1].body["max_tokens"] == 4096, "the limit is that of each answer"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_an_answer_beyond_all_bounds_is_refused_and_no_mistake_of_ours(house: SharedHouse, field: str) -> None:
    async with house.client() as client:
        await limit(client, tokens_per_day=1000)
        answer = await chat(client, "openai/a-model-that-nobody-knows", **{field: 10**30})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


async def test_of_two_limits_of_an_answer_the_higher_is_reserved_since_a_host_may_go_by_either(house: SharedHouse) -> None:
    async with house.client() as client:
        await limit(client, tokens_per_day=ONE_CALL)
        assert (await chat(client, max_tokens=OUTPUT, max_completion_tokens=5000)).status_code == 402


async def test_a_price_that_nobody_knows_is_not_guessed_where_money_is_limited(house: SharedHouse) -> None:
    async with house.client() as client:
        await limit(client, tokens_per_day=5000)
        assert (await ask(client, "openai/a-model-that-nobody-knows")).status_code == 200
        await limit(client, cost_usd_per_day="1")
        answer = await ask(client, "openai/a-model-that-nobody-knows")
        assert (answer.status_code, answer.json()["error"]["code"]) == (402, "price_unknown")
        assert (await ask(client)).status_code == 200


async def test_a_dearer_model_gives_way_to_one_that_the_budget_has_room_for(house: SharedHouse) -> None:
    async with house.client() as client:
        await limit(client, cost_usd_per_day="0.001")
        answer = await ask(client, ["anthropic/claude-opus-4-8", MODELS["openai"]], max_tokens=400)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-auralink-model"] == MODELS["openai"]
    assert "budget_exceeded" in answer.headers["x-auralink-reason"]


async def test_embeddings_count_too(house: SharedHouse) -> None:
    async with house.client() as client:
        await limit(client, tokens_per_day=20)
        short, long = ({"model": "text-embedding-3-small", "input": text} for text in ("abcdef", "abc " * 50))
        assert (await client.post("/v1/embeddings", json=short)).status_code == 200
        assert (await client.post("/v1/embeddings", json=long)).status_code == 402


async def test_the_limit_of_one_model_leaves_the_others_alone(house: SharedHouse) -> None:
    async with house.client() as client:
        body = {"model_id": MODELS["openai"], "usage_limit_tokens": ONE_CALL - 1}
        preference = await client.post(f"{API}/llm/preferences", json=body)
        assert preference.status_code == 201, preference.text
        answer = await ask(client)
        assert (answer.status_code, answer.json()["error"]["scope"]) == (402, f"model:{MODELS['openai']}")
        assert "POST /api/v1/llm/preferences" in answer.json()["error"]["message"]
        assert (await ask(client, MODELS["google"])).status_code == 200
        assert (await ask(client, [MODELS["openai"], MODELS["google"]])).headers["x-auralink-model"] == MODELS["google"]
        preference_id = preference.json()["preference_id"]
        assert (await client.delete(f"{API}/llm/preferences/{preference_id}")).status_code == 204
        assert (await ask(client)).status_code == 200


async def test_users_lower_their_limits_and_only_an_admin_raises_them(house: SharedHouse) -> None:
    async with house.client() as client, house.client("root", role="admin") as admin:
        await limit(client, tokens_per_day=1000, cost_usd_per_month="5", model_calls_per_minute=100)
        await limit(client, tokens_per_day=500, cost_usd_per_month="4.99")
        for raised in (
            {"tokens_per_day": 501},
            {"tokens_per_day": None},
            {"cost_usd_per_month": "5"},
            {"model_calls_per_minute": 101},
        ):
            answer = await client.put(f"{API}/limits", json=raised)
            assert (answer.status_code, answer.json()["code"]) == (403, "raising_needs_admin"), raised
        both = await client.put(f"{API}/limits", json={"tokens_per_month": 10, "tokens_per_day": 501})
        assert both.status_code == 403
        view = (await client.get(f"{API}/limits")).json()
        assert (view["tokens_per_day"], view["tokens_per_month"], view["cost_usd_per_month"]) == (500, None, "4.99")
        user = str(user_id_of(ISSUER, house.user))
        assert view["user_id"] == user
        assert (await client.put(f"{API}/limits?user_id={uuid4()}", json={"tokens_per_day": 1})).status_code == 403
        assert (await client.get(f"{API}/limits?user_id={uuid4()}")).status_code == 403
        raised_by_admin = await admin.put(
            f"{API}/limits?user_id={user}", json={"tokens_per_day": 900, "cost_usd_per_month": None}
        )
        assert raised_by_admin.status_code == 200
        view = (await client.get(f"{API}/limits")).json()
        assert (view["tokens_per_day"], view["cost_usd_per_month"]) == (900, None)
        assert (await admin.get(f"{API}/limits")).json()["tokens_per_day"] is None, "the admin's own limits are another's"


@pytest.mark.parametrize("name", ["model_calls_per_minute", "tool_calls_per_minute"])
async def test_a_user_cannot_go_over_the_installations_rate_by_naming_one_of_its_own(house: SharedHouse, name: str) -> None:
    async with house.client() as client, house.client("root", role="admin") as admin:
        answer = await client.put(f"{API}/limits", json={name: 6001})
        assert (answer.status_code, answer.json()["code"]) == (403, "raising_needs_admin")
        assert (await limit(client, **{name: 6000}))[name] == 6000
        user = str(user_id_of(ISSUER, house.user))
        assert (await admin.put(f"{API}/limits?user_id={user}", json={name: 9000})).status_code == 200


@pytest.mark.parametrize(
    "body",
    [{"tokens_per_day": -1}, {"tokens": 1}, {"cost_usd_per_day": "a"}, {"model_calls_per_minute": 0}, {"tokens_per_day": 2**63}],
)
async def test_a_wrong_limit_is_refused(house: SharedHouse, body: dict[str, Any]) -> None:
    async with house.client() as client:
        assert (await client.put(f"{API}/limits", json=body)).status_code == 422


async def test_calls_a_minute_are_limited_with_the_time_to_wait(house: SharedHouse) -> None:
    async with house.client() as client:
        await limit(client, model_calls_per_minute=2)
        codes = [(await ask(client)).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        answer = await ask(client)
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["type"] == "rate_limit_error"


async def test_the_budget_of_hello_is_what_these_tests_take_it_for() -> None:
    assert (16 + len(HELLO[0]["content"])) // 2 == PROMPT
