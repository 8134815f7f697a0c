"""What a person may write into a journal, and that the gateways can hand it on."""

from typing import Any

import pytest

from auralink.auth.principal import Principal
from auralink.core.db import Database
from auralink.llm.providers.chunks import chunks_of
from auralink.llm.responses_answer import response_object
from auralink.runs.answers import answer_of
from auralink.runs.errors import BadOverride
from auralink.runs.schemas import Fork, Overrides
from tests.conftest import TestDatabase
from tests.journal.support import tape

CHAT = {"model": "m", "endpoint": "chat.completions"}
CALL = {"id": "c1", "function": {"name": "look", "arguments": "{}"}}
TEXT = {"content": [{"type": "text", "text": "no"}]}


@pytest.mark.parametrize(
    ("kind", "given", "answer"),
    [
        ("tool", "no", TEXT),
        ("tool", {**TEXT, "isError": True}, {**TEXT, "isError": True}),
        ("tool", {"n": 1}, {"content": [{"type": "text", "text": '{"n":1}'}]}),
        ("list", {"tools": []}, {"tools": []}),
        ("run", TEXT, TEXT),
        ("approval", TEXT, TEXT),
        (
            "approval",
            {"decision": "deny"},
            {"content": [{"type": "text", "text": '{"decision":"deny"}'}], "structuredContent": {"decision": "deny"}},
        ),
    ],
)
def test_an_answer_by_hand_gets_the_form_of_the_gateways(kind: str, given: Any, answer: Any) -> None:
    assert answer_of(kind, {}, given, at="/a") == answer


@pytest.mark.parametrize(
    ("given", "content", "reason"),
    [
        ("Yes.", "Yes.", "stop"),
        ({"choices": [{"message": {"content": "Yes."}}]}, "Yes.", "stop"),
        ({"choices": [{"message": {"tool_calls": [CALL]}}]}, None, "tool_calls"),
        ({"choices": [{"message": {"content": "Ye"}, "finish_reason": "length"}]}, "Ye", "length"),
    ],
)
def test_a_models_answer_by_hand_is_a_completion_that_can_be_streamed(given: Any, content: Any, reason: str) -> None:
    answer = answer_of("llm", CHAT, given, at="/a")
    assert (answer["object"], answer["model"]) == ("chat.completion", "m")
    assert (answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]) == (content, reason)
    assert list(chunks_of(answer))[-1]["choices"][0]["finish_reason"] == reason
    assert response_object({}, answer)["output"]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *((kind, given) for kind in ("tool", "llm", "list", "approval", "run") for given in (None, 1, True, ["x"])),
        *((kind, "x") for kind in ("list", "approval", "run")),
        ("tool", {"content": "x"}),
        ("tool", {"content": ["x"]}),
        ("tool", {"content": [], "_meta": "x"}),
        ("llm", {}),
        ("llm", {"choices": []}),
        ("llm", {"choices": ["x"]}),
        ("llm", {"choices": [{"message": {"content": 1}}]}),
        ("llm", {"choices": [{"message": {"tool_calls": [{"id": "c"}]}}]}),
    ],
)
def test_what_is_no_answer_is_refused_with_its_place(kind: str, given: Any) -> None:
    with pytest.raises(BadOverride) as refused:
        answer_of(kind, CHAT, given, at="/overrides/answers/1")
    assert [error["pointer"] for error in refused.value.extra["errors"]] == ["/overrides/answers/1"]


def test_embeddings_are_answered_with_embeddings() -> None:
    asked, given = {"model": "m", "endpoint": "embeddings"}, {"data": [{"embedding": [0.5]}]}
    assert answer_of("llm", asked, given, at="/a") == given
    with pytest.raises(BadOverride):
        answer_of("llm", asked, "a text", at="/a")


async def test_a_fork_keeps_another_answer_or_is_not_made(
    database: Database, test_database: TestDatabase, principal: Principal
) -> None:
    async with tape(database, test_database.superuser, principal) as run:
        await run.call({"connection": "c", "tool": "one", "arguments": {}}, TEXT)
        other = await run.runs.fork(principal, run.run_id, Fork(at=1, overrides=Overrides(answers={1: "yes"})))
        kept = run.sql("SELECT response FROM auralink.run_journal WHERE run_id = %s", other.run_id)
        assert kept == [{"response": {"result": {"content": [{"type": "text", "text": "yes"}]}}}]
        for answers in ({1: ["yes"]}, {2: "yes"}, {-1: "yes"}):
            with pytest.raises(BadOverride):
                await run.runs.fork(principal, run.run_id, Fork(at=1, overrides=Overrides(answers=answers)))
        assert len(run.sql("SELECT 1 FROM auralink.runs")) == 2
