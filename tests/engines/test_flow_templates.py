"""Each template of flows from REST to its output: real service, worker, engine `prefect` and servers, on the offline model."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dulwich import porcelain

from auralink.flows.templates import template_names
from auralink.runs.engines import Engines
from auralink.runs.worker import gateways_at
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.runs.support import working
from tests.service import API, unique
from tests.worlds import World, world

pytestmark = pytest.mark.asyncio(loop_scope="session")
README = """# Lamp

A lamp for tests: it gives light where there is none.

## Getting started

Run `lamp on` to switch the lamp on. It needs a socket of 230 volts.
"""
CHANGELOG = """# Changelog

## 2.0

### Added

- The latest version of the lamp can change its colour to green.
"""


def commit(repository: Path, **files: str) -> None:
    """Commits files by their names without the ending."""
    for name, text in files.items():
        (repository / f"{name}.md").write_text(text)
        porcelain.add(str(repository), [str(repository / f"{name}.md")])
    who = b"T <t@example.com>"
    porcelain.commit(str(repository), message=b"Change", author=who, committer=who, sign=False)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's own repository: a lamp's."""
    folder = tmp_path_factory.mktemp("flows") / "repos"
    folder.mkdir()
    porcelain.init(str(folder)).close()
    commit(folder, README=README)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(postgres: Server, repository: Path, engine_host: Callable[[str], Engines]) -> AsyncIterator[World]:
    """A user with a memory and a wiki."""
    place, ring, host = repository.parent, KeyRing.parse(generate_master_key()), engine_host("prefect")
    with cloned_database(postgres) as database:
        async with world(database, place, ring, with_worker=False) as made:
            gateways = gateways_at(made.service.url)
            async with working(database.service, host.execute, ring, gateways=gateways, engines=("prefect",)):
                yield made


async def template(here: World, name: str) -> dict[str, Any]:
    return await here.make("/flows", flow_name=unique(name), template=name)


async def ran(here: World, flow: dict[str, Any], **given: Any) -> Any:
    """The output of a run to its end."""
    path = f"{API}/flows/{flow['flow_id']}/execute"
    answer = await here.http.post(path, json={"input_parameters": given}, headers={"Prefer": "wait=90"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "succeeded", answer.json()["error"]
    return answer.json()["output"]


async def test_data_of_several_servers_becomes_facts_in_the_memory(here: World) -> None:
    made = await template(here, "mcp_data_ingestion")
    output = await ran(here, made)
    assert {source["name"] for source in output["failed"]} == {"Tables", "Web"}  # which this user has not connected
    assert {source["name"] for source in output["ingested"]} == {"Ingested: Handbook", "Ingested: Contents"}
    assert output["stored"] > 0
    assert output["not_stored_because"] is None
    kept = here.sql("SELECT o.content FROM auralink.memory_observations o WHERE o.content LIKE %s", "%lamp on%")
    assert kept
    [run] = (await here.http.get(f"{API}/flows/{made['flow_id']}/runs")).json()["items"]
    steps = {step["name"]: step for step in run["steps"]}
    assert (steps["fetched"]["times"], steps["fetched"]["failed"], steps["facts"]["times"]) == (4, 2, 2)
    assert steps["facts"]["tokens"] == run["tokens"] > 0
    assert len(steps["fetched"]["calls"]) == 2


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
async def test_workers_contribute_and_one_answer_is_made_of_it(here: World, mode: str) -> None:
    output = await ran(here, await template(here, "agent_coordination"), mode=mode)
    assert [said["name"] for said in output["contributions"]] == ["Analyst", "Critic", "Practitioner"]
    assert output["failed"] == []
    assert "journal keeps what was done" in output["contributions"][0]["answer"]
    assert "budget" in output["answer"]


async def test_a_worker_that_is_not_there_does_not_stop_the_others(here: World) -> None:
    workers = [{"kind": "agent", "name": "nobody"}, {"kind": "role", "name": "Critic"}]
    for mode in ("parallel", "sequential"):
        output = await ran(here, await template(here, "agent_coordination"), mode=mode, workers=workers)
        assert [said["name"] for said in output["contributions"]] == ["Critic"]
        [failed] = output["failed"]
        assert failed["name"] == "nobody"
        assert "you have no agent 'nobody'" in failed["error"]


async def test_research_goes_from_the_cheapest_source_to_the_next_until_it_is_good_enough(here: World) -> None:
    made = await template(here, "adaptive_research")
    question = "How do I switch the lamp on?"
    output = await ran(here, made, question=question, confidence=0.1)
    assert [asked["source"] for asked in output["asked"]] == ["memory", "documents", "wiki"]
    assert "lamp on" in output["answer"]
    assert (output["complete"], output["remembered"]) == (True, True)
    again = await ran(here, made, question=question, effort="least")
    assert [asked["source"] for asked in again["asked"]] == ["memory"]
    assert again["asked"][0]["passages"] > 0


async def test_a_meeting_is_summed_up_and_handed_to_a_tool_if_one_is_named(here: World) -> None:
    made = await template(here, "meeting_analysis")
    output = await ran(here, made)
    assert [(item["owner"], item["due"]) for item in output["action_items"]] == [("Ben", "Thursday")]
    assert any("ship only after a restore" in decision for decision in output["decisions"])
    assert any("risk" in risk for risk in output["insights"]["risks"])
    assert "in this output alone" in output["delivery"]
    assert here.sql("SELECT 1 FROM auralink.memory_entities WHERE name = %s", output["stored_as"])
    told = await ran(here, made, title="Told", webhook={"tool": "memory__search_nodes", "field": "message"})
    assert "memory__search_nodes" in told["delivery"]


async def test_a_repository_is_watched_from_commit_to_commit(here: World, repository: Path) -> None:
    made = await template(here, "repository_watch")
    first = await ran(here, made)
    assert (first["changed"], first["seen_before"], first["remembered"]) == (True, 0, True)
    assert first["new_pages"]
    unchanged = await ran(here, made)
    assert (unchanged["changed"], unchanged["digest"], unchanged["commit"]) == (
        False,
        "Nothing new since the last time.",
        first["commit"],
    )
    [run, *_] = (await here.http.get(f"{API}/flows/{made['flow_id']}/runs")).json()["items"]
    assert run["tokens"] == 0
    commit(repository, CHANGELOG=CHANGELOG)
    changed = await ran(here, made)
    assert changed["commit"] != first["commit"]
    assert changed["new_pages"] == ["CHANGELOG.md"]
    assert "colour to green" in changed["digest"]


@pytest.mark.parametrize("name", template_names())
async def test_a_template_runs_without_parameters_for_a_user_who_has_nothing(here: World, name: str) -> None:
    async with here.service.client(unique("fresh")) as fresh:
        made = (await fresh.post(f"{API}/flows", json={"flow_name": "mine", "template": name})).json()
        path = f"{API}/flows/{made['flow_id']}/execute"
        run = (await fresh.post(path, json={}, headers={"Prefer": "wait=90"})).json()
        assert run["status"] == "succeeded", run["error"]
        named = {warning["message"].split("'")[1] for warning in made["warnings"]}
        assert all(tool.startswith(("memory__", "deepwiki__", "toolbox__")) for tool in named)
