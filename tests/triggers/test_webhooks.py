"""Signed events that start runs: Standard Webhooks as its senders speak it."""

import time
from typing import Any

import httpx2
import orjson
import pytest

from auralink.core.secret import Secret
from auralink.webhooks.signatures import TOLERANCE, signature
from tests.service import API, unique
from tests.worlds import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVENT = {
    "type": "call.ended",
    "timestamp": "2026-11-22T10:00:00Z",
    "data": {"question": "why?", "room_id": "r1", "call_id": "c7"},
}
NODES = {"note": {"type": "set", "values": {"noted": "{{ question }}"}}}
GRAPH = {
    "start": "note",
    "nodes": NODES,
    "edges": [{"from": "note", "to": "end"}],
    "input": {
        "type": "object",
        "properties": {"question": {"type": "string"}, "room_id": {"type": "string"}},
        "required": ["question"],
        "additionalProperties": False,
    },
}


async def hook(here: World, *, conditions: Any = None, **fields: Any) -> dict[str, Any]:
    """A webhook of a workflow of its own."""
    made = await here.make(
        "/workflows",
        workflow_name=unique(),
        workflow_type="custom",
        definition=GRAPH,
        trigger_conditions=conditions,
    )
    return await here.make("/webhooks", name=unique(), kind="workflow", definition_id=made["workflow_id"], **fields)


async def delivered(
    here: World,
    webhook: dict[str, Any],
    event: Any = EVENT,
    *,
    delivery_id: str | None = None,
    off_by: float = 0.0,
    signed_with: str | None = None,
    body: bytes | None = None,
) -> httpx2.Response:
    content, delivery_id = orjson.dumps(event), delivery_id or unique("msg")
    timestamp = str(int(time.time() + off_by))
    made = signature(Secret(signed_with or webhook["secret"]), delivery_id, timestamp, content)
    headers = {"webhook-id": delivery_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,bm9uZQ== {made}"}
    async with here.service.client() as sender:
        return await sender.post(webhook["path"], content=body or content, headers=headers)


async def test_the_signature_is_that_of_the_standard() -> None:
    made = signature(
        Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_an_event_starts_a_run_with_its_data_its_room_and_its_call(here: World) -> None:
    webhook = await hook(here)
    answer = await delivered(here, webhook)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{API}/runs/{answer.json()['run_id']}"
    run = await here.run(answer.json()["run_id"])
    assert (run["input"], run["room_id"], run["call_id"]) == ({"question": "why?", "room_id": "r1"}, "r1", "c7")
    assert run["definition_id"] == webhook["definition_id"]
    seen = (await here.http.get(f"{API}/webhooks/{webhook['webhook_id']}")).json()
    assert seen["last_run_id"] == answer.json()["run_id"]


async def test_a_delivery_that_is_repeated_starts_nothing_new(here: World) -> None:
    webhook = await hook(here)
    first = await delivered(here, webhook, delivery_id="msg_1", off_by=-60)
    again = await delivered(here, webhook, delivery_id="msg_1")
    other = await delivered(here, webhook, delivery_id="msg_2")
    assert first.json()["run_id"] == again.json()["run_id"] != other.json()["run_id"]
    runs = (await here.http.get(f"{API}/runs", params={"definition_id": webhook["definition_id"]})).json()["items"]
    assert len(runs) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"signed_with": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
        {"off_by": -TOLERANCE - 60},
        {"off_by": TOLERANCE + 60},
        {"body": b'{"type": "call.ended", "data": {"question": "another"}}'},
        {"delivery_id": "x" * 300},
    ],
    ids=["another secret", "too old", "from the future", "altered", "endless id"],
)
async def test_what_is_not_signed_now_with_the_secret_starts_nothing(here: World, wrong: dict[str, Any]) -> None:
    webhook = await hook(here)
    answer = await delivered(here, webhook, **wrong)
    assert (answer.status_code, answer.json()["code"]) == (401, "webhook_signature_invalid")
    runs = (await here.http.get(f"{API}/runs", params={"definition_id": webhook["definition_id"]})).json()["items"]
    assert runs == []


async def test_a_webhook_that_there_is_not_answers_as_one_whose_secret_is_not_known(here: World) -> None:
    webhook = await hook(here)
    wrong = await delivered(here, webhook, signed_with="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    nowhere = {**webhook, "path": f"{API}/hooks/01a20566-7da8-7712-aecb-8749f7cce5d9"}
    none = await delivered(here, nowhere)
    assert (none.status_code, none.json()["message"]) == (wrong.status_code, wrong.json()["message"])
    async with here.service.client() as sender:
        assert (await sender.post(webhook["path"], json=EVENT)).status_code == 401


@pytest.mark.promise("P-SECRET")
async def test_the_secret_is_shown_once_and_stored_sealed(here: World) -> None:
    key = {"Idempotency-Key": unique()}
    made = await hook(here)
    body = {"name": unique(), "kind": "workflow", "definition_id": made["definition_id"]}
    answers = [(await here.http.post(f"{API}/webhooks", json=body, headers=key)).json() for _ in range(2)]
    assert answers[0]["secret"].startswith("whsec_")
    assert answers[1] == {**answers[0], "secret": None}
    path = f"{API}/webhooks/{answers[0]['webhook_id']}"
    assert "secret" not in (await here.http.get(path)).json()
    raw = answers[0]["secret"].removeprefix("whsec_")
    for table in ("webhooks", "idempotency_keys"):
        assert not here.sql(f"SELECT 1 FROM auralink.{table} AS t WHERE position(%s IN t::text) > 0", raw)
    renewed = (await here.http.post(f"{path}/secret")).json()
    assert (await delivered(here, answers[0])).status_code == 401
    assert (await delivered(here, renewed)).status_code == 202


async def test_a_workflow_is_started_by_the_events_that_it_wants(here: World) -> None:
    conditions = {"event_types": ["call.ended"], "when": "event.data.question != 'never'"}
    webhook = await hook(here, conditions=conditions)
    ignored = [{**EVENT, "type": "call.started"}, {**EVENT, "data": {"question": "never"}}]
    for event in ignored:
        answer = await delivered(here, webhook, event)
        assert (answer.status_code, answer.json()) == (200, {"status": "ignored", "run_id": None})
    assert (await delivered(here, webhook)).status_code == 202
    await here.http.patch(f"{API}/webhooks/{webhook['webhook_id']}", json={"paused": True})
    assert (await delivered(here, webhook)).json()["status"] == "ignored"


async def test_the_input_can_be_made_of_the_event(here: World) -> None:
    webhook = await hook(here, input={"question": "What about {{ event.data.question }} in {{ event.type }}"})
    run = await here.run((await delivered(here, webhook)).json()["run_id"])
    assert run["input"]["question"] == "What about why? in call.ended"


@pytest.mark.parametrize("given", [{"question": "{{ nobody }}"}, {"question": "{{ event.[@,@]" + " | [@,@]" * 20 + " }}"}])
async def test_an_input_that_cannot_be_made_or_grows_without_end_is_refused_when_it_is_saved(
    here: World, given: dict[str, Any]
) -> None:
    made = await hook(here)
    body = {"name": unique(), "kind": "workflow", "definition_id": made["definition_id"], "input": given}
    assert (await here.http.post(f"{API}/webhooks", json=body)).status_code == 422


async def test_an_event_that_does_not_fit_the_definition_says_why(here: World) -> None:
    webhook = await hook(here)
    answer = await delivered(here, webhook, {"type": "call.ended", "data": {"question": 7}})
    assert (answer.status_code, answer.json()["code"]) == (422, "input_invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/data/question"]
    assert (await delivered(here, webhook, ["no object"])).json()["code"] == "event_invalid"


async def test_a_webhook_takes_so_many_deliveries_a_minute_and_says_when_to_come_back(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auralink.webhooks.service.PER_MINUTE", 2)
    webhook, other = await hook(here), await hook(here)
    forged = Secret("whsec_bm9ib2R5").reveal()
    answers = [await delivered(here, webhook), await delivered(here, webhook, signed_with=forged), await delivered(here, webhook)]
    assert [answer.status_code for answer in answers] == [202, 401, 429]
    assert answers[2].json()["code"] == "rate_limited"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert (await delivered(here, other)).status_code == 202


async def test_a_user_has_so_many_definitions_of_each_kind(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auralink.runs.starting.MAX_DEFINITIONS", 1)
    async with here.service.client(unique()) as newcomer:
        agent = (await newcomer.post(f"{API}/agents", json={"name": "one", "instructions": "x"})).json()
        of_it = {"kind": "agent", "definition_id": agent["agent_id"]}
        bodies: dict[str, dict[str, Any]] = {
            "agents": {"instructions": "x"},
            "workflows": {"workflow_type": "custom", "definition": GRAPH},
            "schedules": {**of_it, "interval": 3600, "input": {"message": "tick"}},
            "webhooks": of_it,
        }
        for kind, body in bodies.items():
            field = "workflow_name" if kind == "workflows" else "name"
            first, second = [
                await newcomer.post(f"{API}/{kind}", json={**body, field: name}) for name in (unique("first"), unique("second"))
            ]
            assert kind == "agents" or first.status_code == 201, first.text
            assert (second.status_code, second.json()["code"]) == (409, "too_many_definitions")
            assert f"you have 1 {kind}" in second.json()["message"]
