"""The engine `prefect` in its own environment, against gateways on a real socket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from uuid import uuid4

import psutil
import pytest
import pytest_asyncio
from starlette.responses import JSONResponse

from auralink.runs.engines import Engines, Failure
from tests.conftest import eventually
from tests.engines.flows import ADD, a_flow, add, echo, flow_start, ran_flow, states_of, step
from tests.engines.gateway import Model, running_gateway, said
from tests.engines.running import ACCEPTED, collector

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def prefect(engine_host: Callable[[str], Engines]) -> AsyncIterator[Engines]:
    """The host with the engine `prefect`."""
    yield engine_host("prefect")


def failing(times: int) -> Model:
    """A model that fails so many times and then echoes."""
    failures = iter(range(times))

    def model(body: Mapping[str, Any]) -> Any:
        if next(failures, None) is None:
            return echo(body)
        return JSONResponse({"error": {"message": "out of tea", "code": "no_tea"}}, status_code=500)

    return model


async def test_tools_models_and_maps_make_one_flow(prefect: Engines) -> None:
    each = step("each", "map", over="items", item="one", width=2, steps=[add("sum", "{{ one }}", "{{ index }}")])
    flow = a_flow([add("first", 1, 2), step("ask", "llm", prompt="{{ word }} {{ first.result }}"), each])
    ran = await ran_flow(prefect, flow, word="got")
    assert ran.output == {
        "first": {"result": "3"},
        "ask": "echo: got 3",
        "each": [{"result": "1"}, {"result": "3"}, {"result": "5"}],
    }
    assert ran.gateway.tokens == {"Bearer the-run-token"}
    told = ran.told("state")
    assert [t["node"] for t in told if t["state"] == "Running"][:3] == ["first", "ask", "each"]
    ended = {t["node"]: t for t in told if t["state"] == "Completed"}
    assert set(ended) == {"first", "ask", "each", "sum[0]", "sum[1]", "sum[2]"}
    assert ended["ask"]["calls"] == [1]
    assert ended["ask"]["kind"] == "llm"
    assert ended["sum[2]"]["seconds"] >= 0


async def test_each_type_of_step_makes_the_call_that_it_stands_for(prefect: Engines) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}
    flow = a_flow(
        [
            step("made", "transform", value={"at": "{{ now }}", "all": "{{ items }}", "text": "{{ length(items) }} items"}),
            step("judged", "llm", prompt="Judge.", instructions="Be kind.", schema=schema, temperature=0.5, max_tokens=9),
            step("allowed", "approval", question="May {{ word }}?", details={"sum": "{{ judged.sum }}"}),
            step("other", "workflow", workflow="notes", input={"all": "{{ items }}"}),
        ],
        output={"made": "{{ made }}", "sum": "{{ judged.sum }}", "allowed": "{{ allowed.decision }}", "other": "{{ other }}"},
    )
    answers = iter(['{"sum": "three"}', '```json\n{"sum": 3}\n```'])
    ran = await ran_flow(prefect, flow, lambda _: said(next(answers)), word="I")
    assert ran.output == {
        "made": {"at": ACCEPTED.isoformat(), "all": [1, 2, 3], "text": "3 items"},
        "sum": 3,
        "allowed": "approve",
        "other": {"ran": "notes", "with": {"all": [1, 2, 3]}},
    }
    assert ran.gateway.approvals == [{"question": "May I?", "details": {"sum": 3}}]
    first, again = ran.gateway.asked
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert (first["temperature"], first["max_tokens"], first["model"]) == (0.5, 9, "auto")
    assert "does not fit the schema" in again["messages"][-1]["content"]


async def test_agents_teams_and_flows_are_started_by_their_names(prefect: Engines) -> None:
    flow = a_flow(
        [
            step("a", "agent", agent="{{ word }}", message="Hello", on_error="continue"),
            step("t", "team", team="writers", task="Write", context={"x": 1}, on_error="continue"),
            step("f", "flow", flow="ingest", input={"n": 1}, on_error="continue"),
        ]
    )
    ran = await ran_flow(prefect, flow, word="helper")
    for name, tool in (("a", "run_agent"), ("t", "run_team"), ("f", "run_flow")):
        assert f"tool 'auralink__{tool}'" in ran.output[name]["error"]  # this gateway has only run_workflow


async def test_steps_wait_for_what_they_need_and_for_nothing_else(prefect: Engines) -> None:
    both = threading.Barrier(2, timeout=20)

    def model(body: Mapping[str, Any]) -> Any:
        both.wait()
        return echo(body)

    flow = a_flow(
        [
            step("left", "llm", prompt="left", needs=[]),
            step("right", "llm", prompt="right", needs=[]),
            step("joined", "transform", value="{{ left }} and {{ right }}", needs=["left", "right"]),
        ]
    )
    ran = await ran_flow(prefect, flow, model)
    assert ran.output["joined"] == "echo: left and echo: right"


async def test_a_branch_goes_the_first_way_that_is_true_and_a_step_can_be_skipped(prefect: Engines) -> None:
    way = step(
        "way",
        "branch",
        cases=[
            {"when": "length(items) > `5`", "steps": [step("many", "transform", value="many")]},
            {"when": "length(items) > `2`", "steps": [step("some", "transform", value="some")], "output": "{{ some }} of them"},
        ],
        otherwise={"steps": [step("none", "transform", value="none")]},
    )
    flow = a_flow([way, step("never", "tool", tool=ADD, arguments={}, when="way == 'many'"), add("then", 1, 1)])
    ran = await ran_flow(prefect, flow)
    assert ran.output == {"way": "some of them", "never": None, "then": {"result": "2"}}
    assert states_of(ran, "never") == ["Skipped"]
    assert states_of(ran, "many") == []
    assert (await ran_flow(prefect, a_flow([way]), items=[])).output == {"way": "none"}


async def test_a_loop_ends_when_its_condition_is_true_or_its_bound_is_reached(prefect: Engines) -> None:
    def loop(most: int) -> dict[str, Any]:
        count = step("count", "transform", value="{{ sum([count || `0`, `2`]) }}")
        return step(
            "passes", "loop", until="count >= `6`", max=most, steps=[count], output={"n": "{{ count }}", "at": "{{ index }}"}
        )

    ran = await ran_flow(prefect, a_flow([loop(10)]))
    assert ran.output["passes"] == {"n": 6, "at": 2}
    assert ran.told("log") == []
    ran = await ran_flow(prefect, a_flow([loop(2)]))
    assert ran.output["passes"] == {"n": 4, "at": 1}
    message = "loop 'passes' ended after its 2 passes, and 'count >= `6`' was still not true"
    assert ran.told("log") == [{"level": "warning", "message": message, "node": "passes", "passes": 2}]
    assert states_of(ran, "count[1]") == ["Running", "Completed"]


async def test_a_map_works_on_as_many_items_at_a_time_as_it_is_wide(prefect: Engines) -> None:
    both = threading.Barrier(2, timeout=20)

    def model(body: Mapping[str, Any]) -> Any:
        both.wait()
        return echo(body)

    each = step("each", "map", over="items", width=2, steps=[step("ask", "llm", prompt="{{ item }}")])
    ran = await ran_flow(prefect, a_flow([each], limits={"concurrency": 5}), model, items=[1, 2, 3, 4, 5, 6])
    assert ran.output["each"] == [f"echo: {number}" for number in range(1, 7)]
    assert ran.gateway.most_at_once == 2
    narrow = await ran_flow(prefect, a_flow([{**each, "width": 4}], limits={"concurrency": 1}), items=[1, 2, 3])
    assert narrow.gateway.most_at_once == 1


async def test_what_is_no_list_cannot_be_mapped(prefect: Engines) -> None:
    ran = await ran_flow(prefect, a_flow([step("each", "map", over="word", steps=[add("sum", 1, 1)])]), word="x")
    assert (ran.failure.type, ran.failure.lost) == ("StepFailed", False)
    assert ran.failure.message == "step 'each' (map): 'word' is no list but str"


async def test_a_step_is_tried_again_as_often_as_it_says(prefect: Engines) -> None:
    flow = a_flow([step("ask", "llm", prompt="tea?", retries=2, retry_delay=0)])
    ran = await ran_flow(prefect, flow, failing(2))
    assert ran.output == {"ask": "echo: tea?"}
    assert states_of(ran, "ask") == ["Running", "Retrying", "Retrying", "Completed"]
    failed = await ran_flow(prefect, flow, failing(3))
    assert failed.failure.message == "step 'ask' (llm): model 'auto': 500 no_tea out of tea"
    assert len(failed.gateway.asked) == 3


async def test_a_failure_names_step_tool_and_cause_or_becomes_the_result(prefect: Engines) -> None:
    broken = step("broken", "tool", tool="broken__fail", arguments={"why": "so"})
    ran = await ran_flow(prefect, a_flow([broken, add("then", 1, 1)]))
    assert ran.failure.type == "StepFailed"
    assert ran.failure.message.startswith("step 'broken' (tool): tool 'broken__fail': ")
    assert "it failed: so" in ran.failure.message
    assert states_of(ran, "then") == []
    going_on = await ran_flow(prefect, a_flow([{**broken, "on_error": "continue"}, add("then", 1, 1)]))
    assert "it failed: so" in going_on.output["broken"]["error"]
    assert going_on.output["then"] == {"result": "2"}


async def test_a_step_that_takes_longer_than_its_timeout_fails(prefect: Engines) -> None:
    release = threading.Event()

    def model(body: Mapping[str, Any]) -> Any:
        release.wait(20)
        return echo(body)

    flow = a_flow([step("ask", "llm", prompt="?", timeout=0.3)])
    async with running_gateway(model) as gateway:
        outcome = await prefect.execute(flow_start(flow, gateway, {}), collector([]))
        release.set()
    assert isinstance(outcome, Failure)
    assert outcome.message == "step 'ask' (llm): it took longer than its 0.3 s"


async def test_the_same_step_with_the_same_inputs_is_done_once_when_it_has_a_cache(prefect: Engines) -> None:
    each = step("each", "map", over="items", width=3, steps=[step("ask", "llm", prompt="{{ item }}", cache=True)])
    ran = await ran_flow(prefect, a_flow([each]), items=["a", "b", "a", "a"])
    assert ran.output["each"] == ["echo: a", "echo: b", "echo: a", "echo: a"]
    assert sorted(asked["messages"][-1]["content"] for asked in ran.gateway.asked) == ["a", "b"]
    assert [told["state"] for told in ran.told("state") if told["node"].startswith("ask")].count("Cached") == 2
    again = await ran_flow(prefect, a_flow([each]), items=["a"])
    assert len(again.gateway.asked) == 1  # a run knows nothing of another's


async def test_a_lost_gateway_ends_the_attempt_and_is_not_retried(prefect: Engines) -> None:
    flow = a_flow([add("sum", 1, 1, retries=5, retry_delay=0, on_error="continue"), step("then", "llm", prompt="?")])

    def refuse(gateway: Any) -> None:
        gateway.refuse_mcp = 409

    ran = await ran_flow(prefect, flow, gateway_is=refuse)
    assert ran.failure.lost
    assert "409" in ran.failure.message
    stale = await ran_flow(prefect, a_flow([step("ask", "llm", prompt="?", retries=5, on_error="continue")]), overloaded)
    assert stale.failure.lost
    assert len(stale.gateway.asked) == 1


def overloaded(_body: Mapping[str, Any]) -> Any:
    return JSONResponse({"error": {"message": "too much"}}, status_code=503)


async def test_the_limits_of_a_flow_end_it(prefect: Engines) -> None:
    asking = [step(f"s{number}", "llm", prompt="?") for number in range(5)]
    ran = await ran_flow(prefect, a_flow(asking, limits={"tokens": 25}))
    assert (ran.failure.type, len(ran.gateway.asked)) == ("LimitReached", 3)


async def test_a_cancelled_flow_leaves_no_process(prefect: Engines) -> None:
    release = threading.Event()

    def model(body: Mapping[str, Any]) -> Any:
        release.wait(20)
        return echo(body)

    async with running_gateway(model) as gateway:
        start = flow_start(a_flow([step("ask", "llm", prompt="?")]), gateway, {})
        task = asyncio.create_task(prefect.execute(start, collector([])))
        async with asyncio.timeout(30):
            await gateway.first_call.wait()
        before = processes()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(processes()) < len(before)
        release.set()


async def test_a_killed_flow_is_lost_and_its_next_attempt_asks_the_same(prefect: Engines) -> None:
    flow = a_flow([step("each", "map", over="items", width=1, steps=[step("ask", "llm", prompt="{{ item }} {{ run_id }}")])])
    run_id, sent, loop = uuid4(), [], asyncio.get_running_loop()
    for kill in (True, False):
        reached = asyncio.Event()

        def model(body: Mapping[str, Any], reached: asyncio.Event = reached) -> Any:
            if body["messages"][-1]["content"].startswith("3"):
                loop.call_soon_threadsafe(reached.set)
            return echo(body)

        async with running_gateway(model) as gateway:
            before = processes()
            task = asyncio.create_task(prefect.execute(flow_start(flow, gateway, {}, run_id), collector([])))
            if kill:
                await eventually(lambda before=before: processes() - before, 30)
                (child,) = processes() - before
                async with asyncio.timeout(30):
                    await reached.wait()
                psutil.Process(child).kill()
            outcome = await task
            sent.append(gateway.asked)
            if kill:
                assert isinstance(outcome, Failure)
                assert (outcome.type, outcome.lost) == ("ProcessDied", True)
    assert sent[0] == sent[1][: len(sent[0])]


async def test_two_hundred_steps_of_a_map_stay_small(prefect: Engines) -> None:
    each = step("each", "map", over="items", width=8, steps=[step("made", "transform", value="{{ index }}")])
    ran = await ran_flow(prefect, a_flow([each], output="{{ length(each) }}"), items=list(range(200)))
    assert ran.output == 200
    assert len(ran.told("state")) == 402


def processes() -> set[int]:
    """The processes under the engine's parent."""
    engines = [child for child in psutil.Process().children() if "auralink_engine" in " ".join(child.cmdline())]
    return {child.pid for parent in engines if parent.cmdline()[5:6] == ["prefect"] for child in parent.children()}
