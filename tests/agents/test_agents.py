"""Agents over REST: what they are told, what they answer, and what they keep."""

from typing import Any

import orjson
import pytest

from tests.runs.test_routes import parsed
from tests.service import API, connected, unique
from tests.worlds import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCRIPTED = "auralink/scripted"


async def agent(here: World, **fields: Any) -> str:
    given = {"name": unique("agent"), "instructions": "Be brief.", "model": SCRIPTED, **fields}
    return str((await here.make("/agents", **given))["agent_id"])


async def said(here: World, agent_id: str, message: str, **more: Any) -> dict[str, Any]:
    answer = await here.http.post(f"{API}/agents/{agent_id}/chat", json={"message": message, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == "succeeded", body
    return body


async def test_a_thread_goes_on_and_another_knows_nothing_of_it(here: World) -> None:
    someone = await agent(here)
    first = await said(here, someone, "I am Zoe")
    assert first["answer"] == "You said: I am Zoe"
    second = await said(here, someone, "what did I say first?", thread_id=first["thread_id"])
    assert (second["answer"], second["thread_id"]) == ("You said: I am Zoe", first["thread_id"])
    elsewhere = await said(here, someone, "what did I say first?")
    assert elsewhere["answer"] == "You said: what did I say first?"
    turns = (await here.http.get(f"{API}/agents/{someone}/threads/{first['thread_id']}")).json()["items"]
    assert [(turn["seq"], turn["message"], turn["answer"], turn["status"]) for turn in turns] == [
        (1, "I am Zoe", "You said: I am Zoe", "succeeded"),
        (2, "what did I say first?", "You said: I am Zoe", "succeeded"),
    ]
    threads = (await here.http.get(f"{API}/agents/{someone}/threads")).json()["items"]
    assert [(thread["thread_id"], thread["turns"]) for thread in threads] == [
        (elsewhere["thread_id"], 1),
        (first["thread_id"], 2),
    ]
    path = f"{API}/agents/{someone}/threads/{first['thread_id']}"
    assert (await here.http.delete(path)).status_code == 204
    assert (await here.http.get(path)).json()["code"] == "thread_not_found"


async def test_an_agent_with_a_memory_recalls_in_another_thread_what_it_was_told(here: World) -> None:
    remembering = await agent(here, memory=True)
    assert (await here.http.get(f"{API}/agents/{remembering}")).json()["memory"] == "memory"
    await said(here, remembering, "My favourite colour is green")
    assert (await said(here, remembering, "What is my favourite colour?"))["answer"] == "You told me: green."
    forgetful = await agent(here)
    assert (await said(here, forgetful, "What is my favourite colour?"))["answer"] == "You said: What is my favourite colour?"


async def test_an_agent_uses_its_tools_and_says_which(here: World) -> None:
    reckoner = await agent(here, tools=["toolbox__calculator"])
    answer = await said(here, reckoner, "how much is 6 times 7?")
    assert "42" in answer["answer"]
    assert [(call["tool"], call["arguments"]) for call in answer["tool_calls"]] == [
        ("toolbox__calculator", {"expression": "6*7"})
    ]


async def test_an_answer_is_streamed_as_the_run_goes(here: World) -> None:
    someone = await agent(here)
    answer = await here.http.post(f"{API}/agents/{someone}/chat", json={"message": "hello", "stream": True})
    events = parsed(answer.text)
    kinds = [event["event"] for event in events]
    assert kinds[0] == "thread"
    assert kinds[-2:] == ["run.finished", "answer"]
    assert "message" in kinds
    told = orjson.loads(events[-1]["data"])
    assert (told["answer"], told["status"]) == ("You said: hello", "succeeded")
    assert told["thread_id"] == orjson.loads(events[0]["data"])["thread_id"]


async def test_words_come_before_the_message_that_they_are_of_and_have_no_id(here: World) -> None:
    someone, message = await agent(here, model="auralink/offline"), "Tell me about the river. " * 20
    answer = await here.http.post(f"{API}/agents/{someone}/chat", json={"message": message, "stream": True})
    events = parsed(answer.text)
    words = [event for event in events if event["event"] == "token"]
    assert words
    assert all("id" not in event for event in words)
    told = orjson.loads(events[-1]["data"])
    assert "".join(orjson.loads(event["data"])["data"]["text"] for event in words) == told["answer"]
    (said,) = (at for at, event in enumerate(events) if event["event"] == "message" and '"assistant"' in event["data"])
    assert events.index(words[-1]) < said, "the words are there before the whole"
    seqs = [int(event["id"]) for event in events if "id" in event]
    assert seqs == list(range(1, len(seqs) + 1))
    again = await here.http.get(f"{API}/runs/{told['run_id']}/events")
    assert "token" not in [event["event"] for event in parsed(again.text)], "words are not stored"


async def test_what_the_user_wrote_is_never_read_as_a_template(here: World) -> None:
    someone = await agent(here, instructions="Keep {{ now }} and {{ nonsense")
    assert (await said(here, someone, "braces {{ message }}"))["answer"] == "Keep {{ now }} and {{ nonsense"


async def test_a_message_that_is_repeated_under_its_key_is_said_once(here: World) -> None:
    someone, key = await agent(here), {"Idempotency-Key": unique()}
    answers = [await here.http.post(f"{API}/agents/{someone}/chat", json={"message": "once"}, headers=key) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    body = {"message": "once", "stream": True}
    streams = [await here.http.post(f"{API}/agents/{someone}/chat", json=body, headers={"Idempotency-Key": "s"}) for _ in "12"]
    assert [stream.headers.get("Idempotency-Replayed") for stream in streams] == [None, "true"]
    assert (await here.http.get(f"{API}/agents/{someone}/threads")).json()["items"][0]["turns"] == 1


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"tools": ["toolbox__calculator", "nobody__nothing"]}, "/tools/1"),
        ({"memory": "elsewhere"}, "/memory"),
        ({"tools": ["nobody__*"]}, "/tools"),
    ],
)
async def test_a_tool_that_is_missing_is_told_when_the_agent_is_saved(here: World, fields: dict[str, Any], pointer: str) -> None:
    body = {"name": unique(), "instructions": "x", **fields}
    answer = await here.http.post(f"{API}/agents", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "definition_invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_tool_that_is_not_allowed_is_told_when_the_agent_is_saved(here: World) -> None:
    name = unique("box")
    connection = await connected(here.http, "toolbox", name=name)
    policy = {"default": "auto", "tools": {"calculator": "deny"}}
    changed = await here.http.patch(f"{API}/mcp/connections/{connection}", json={"policy": policy})
    assert changed.status_code == 200, changed.text
    answer = await here.http.post(f"{API}/agents", json={"name": unique(), "instructions": "x", "tools": [f"{name}__calculator"]})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/tools/0"]


async def test_changing_an_agent_raises_its_version_and_its_name_is_its_own(here: World) -> None:
    name = unique()
    made = await here.make("/agents", name=name, instructions="x", limits={"turns": 3, "cost_usd": "0.5"})
    path = f"{API}/agents/{made['agent_id']}"
    changed = (await here.http.patch(path, json={"instructions": "y"})).json()
    assert (changed["version"], changed["instructions"], changed["limits"]["turns"]) == (2, "y", 3)
    taken = await here.http.post(f"{API}/agents", json={"name": name, "instructions": "x"})
    assert (taken.status_code, taken.json()["code"]) == (409, "agent_name_taken")
    assert [a["name"] for a in (await here.http.get(f"{API}/agents", params={"name": name})).json()["items"]] == [name]
    assert (await here.http.delete(path)).status_code == 204
    assert (await here.http.get(path)).json()["code"] == "agent_not_found"


async def test_an_agent_that_a_workflow_names_stays_and_lends_it_its_model_and_words(here: World) -> None:
    lender = await agent(here, instructions="Say {{ braces }} back.")
    node = {"type": "llm", "prompt": "braces", "into": "reply"}
    graph = {"start": "ask", "nodes": {"ask": node}, "edges": [{"from": "ask", "to": "end"}]}
    made = await here.make("/workflows", workflow_name=unique(), workflow_type="custom", definition=graph, agent_id=lender)
    run = await here.executed(made["workflow_id"], {})
    assert run["output"] == {"reply": "Say {{ braces }} back."}
    assert (await here.http.delete(f"{API}/agents/{lender}")).json()["code"] == "agent_in_use"


async def test_another_run_starts_an_agent_by_its_name(here: World) -> None:
    name = unique("helper")
    await agent(here, name=name)
    node = {"type": "subworkflow", "kind": "agent", "name": name, "input": {"message": "from above"}, "into": "reply"}
    graph = {"start": "ask", "nodes": {"ask": node}, "edges": [{"from": "ask", "to": "end"}]}
    made = await here.make("/workflows", workflow_name=unique(), workflow_type="custom", definition=graph)
    run = await here.executed(made["workflow_id"], {})
    assert run["output"]["reply"]["answer"] == "You said: from above"
