"""The engine `autogen` in its own environment, against gateways on a real socket."""

import pytest
import pytest_asyncio

from auralink.runs.engines import Engines
from tests.engines.conftest import EngineHost
from tests.engines.teams import TASK, Script, a_team, member, messages_of, ran_team, texts_of

pytestmark = pytest.mark.asyncio(loop_scope="session")
SUM = "odd__Nme"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def host(engine_host: EngineHost) -> Engines:
    """The host with the engine `autogen`."""
    return engine_host("autogen")


async def test_members_speak_in_turn_until_one_says_that_the_task_is_done(host: Engines) -> None:
    script = Script("Found it.", "Weighed it.", "Read again.", "All in all: good.\n\nTERMINATE")
    run = await ran_team(host, "autogen", a_team("round_robin", ["reader", "writer"]), script)
    assert messages_of(run) == [
        ("reader", "team", "Found it."),
        ("writer", "team", "Weighed it."),
        ("reader", "team", "Read again."),
        ("writer", "team", "All in all: good."),
    ]
    assert run.output == {
        "answer": "All in all: good.",
        "stopped": None,
        "sources": [],
        "turns": {"reader": 2, "writer": 2},
    }


async def test_members_hear_the_task_each_other_and_who_they_are(host: Engines) -> None:
    members = [member("reader", instructions="Read twice.", model="openai/gpt-5.5"), member("writer", model="auto")]
    team = a_team("round_robin", members, description="They read and write.", limits={"temperature": 0.5, "answer_tokens": 99})
    run = await ran_team(
        host, "autogen", team, Script("Found it.", "TERMINATE"), additional_context={"focus_areas": ["security"]}
    )
    first, second = run.gateway.asked
    assert (first["model"], second["model"]) == ("openai/gpt-5.5", "auto")
    assert (first["temperature"], first["max_tokens"], first["stream"]) == (0.5, 99, False)
    for part in ("You are Reader.", "Do the work of the reader", "Read twice.", "They read and write.", "- writer: Writer."):
        assert part in first["messages"][0]["content"]
    assert TASK in texts_of(first)
    assert '"security"' in texts_of(first)
    assert "Sunday, 01 March 2026" in texts_of(first)
    assert second["messages"][-1] == {"role": "user", "content": "reader said:\nFound it."}
    assert run.gateway.tokens == {"Bearer the-run-token"}
    assert run.gateway.requests == ["POST /v1/chat/completions"] * 2
    assert run.output["answer"] == "Found it."
