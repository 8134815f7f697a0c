"""The built-in servers ask models through the gateway: with the user's keys, on the user's budget, recorded like every call."""

from pathlib import Path

import pytest

from tests.llm.conftest import House
from tests.llm.fake_vendor import Error
from tests.llm.vendor_wire import Answer, Call
from tests.service import API, connected

pytestmark = pytest.mark.promise("P-ONEPATH")


def thought(number: int, *, more: bool = True) -> Call:
    arguments = {"thought": f"thought {number}", "thoughtNumber": number, "totalThoughts": 2, "nextThoughtNeeded": more}
    return Call("sequentialthinking", arguments, f"call_{number}")


async def test_solve_thinks_with_the_tool_and_the_model_and_all_of_it_is_recorded(house: House) -> None:
    house.vendor.say(Answer("", calls=[thought(1)]), Answer("", calls=[thought(2, more=False)]), Answer("Four."))
    async with house.client() as client:
        connection = await connected(client, "sequential-thinking")
        body = {"connection_id": connection, "problem": "What is 2 + 2?", "max_thoughts": 3, "model": "openai/gpt-5-mini"}
        answer = await client.post(f"{API}/mcp/sequential-thinking/solve", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["conclusion"] == "Four."
    assert [one["thought"] for one in answer.json()["thoughts"]] == ["thought 1", "thought 2"]
    assert [call["source"] for call in house.calls()] == ["server"] * 3
    logged = house.rows("SELECT tool FROM auralink.mcp_operation_logs WHERE operation = 'tools/call' ORDER BY id")
    assert [row["tool"] for row in logged] == ["sequentialthinking"] * 2


async def test_solve_without_any_key_is_done_by_the_offline_model_which_says_so(empty_house: House) -> None:
    async with empty_house.client() as client:
        connection = await connected(client, "sequential-thinking")
        body = {"connection_id": connection, "problem": "What is 2 + 2?", "max_thoughts": 3}
        answer = await client.post(f"{API}/mcp/sequential-thinking/solve", json=body)
    assert answer.status_code == 200, answer.text
    assert "no language model is configured" in answer.json()["conclusion"].lower()
    assert {call["model_id"] for call in empty_house.calls()} == {"auralink/offline"}


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """A folder that the wiki may read."""
    folder = tmp_path / "repositories" / "docs"
    folder.mkdir(parents=True)
    for topic in ("storage", "console", "deployment"):
        (folder / f"{topic}.md").write_text(f"# {topic.title()}\n\nWhat there is to say about the {topic} of the system.\n")
    (folder / "limits.md").write_text("# Limits\n\nThe gateway takes 6000 calls a minute from each user, then answers 429.\n")
    return str(folder)


async def ask(house: House, repository: str) -> dict[str, object]:
    async with house.client() as client:
        connection = await connected(client, "deepwiki")
        body = {
            "connection_id": connection,
            "repo_name": repository,
            "question": "How many calls a minute does the gateway take from each user?",
        }
        answer = await client.post(f"{API}/mcp/deepwiki/ask", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


async def test_the_wiki_answers_in_prose_that_cites_its_passages(house: House, repository: str) -> None:
    house.vendor.say(Answer("It takes 6000 calls a minute [1]."))
    house.vendor.otherwise = Answer("It takes 6000 calls a minute [1].")
    answer = await ask(house, repository)
    assert answer["answer"] == "It takes 6000 calls a minute [1]."
    (call,) = house.calls()
    assert (call["source"], call["outcome"]) == ("server", "ok")


@pytest.mark.parametrize("prose", ["It takes 7 calls [9].", "I do not know."])
async def test_prose_that_cites_what_is_not_there_gives_way_to_the_passages(house: House, repository: str, prose: str) -> None:
    house.vendor.otherwise = Answer(prose)
    answer = await ask(house, repository)
    assert str(answer["answer"]).startswith("The repository says")


async def test_a_model_that_fails_costs_the_wiki_only_the_prose(house: House, repository: str) -> None:
    house.vendor.say(*[Error(401, "no")] * 4)
    answer = await ask(house, repository)
    assert "6000 calls a minute" in str(answer["answer"])
    assert house.calls()[0]["outcome"] == "provider_error"


async def test_the_wiki_without_a_key_quotes_and_calls_no_model(empty_house: House, repository: str) -> None:
    answer = await ask(empty_house, repository)
    assert str(answer["answer"]).startswith("The repository says")
    assert empty_house.calls() == []
