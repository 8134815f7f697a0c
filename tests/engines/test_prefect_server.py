"""Flows on a real Prefect server with a process worker: through it, cancelled from both sides, and with everything killed.

Server, worker and flow take their time, so without AURALINK_TEST_PREFECT_SERVER (`make test-prefect` sets it) nothing is killed: one
flow goes there and back.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.runs.engine_manifest import default_root
from auralink.runs.engines import Engines
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.engines.flows import a_flow, step
from tests.engines.prefect_server import POOL, PrefectServer
from tests.isolation.support import cloned_database
from tests.runs.support import until
from tests.service import API, connected
from tests.worlds import World, require_engine, world

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(400),
]
long = pytest.mark.skipif(not os.environ.get("AURALINK_TEST_PREFECT_SERVER"), reason="takes minutes; `make test-prefect` runs it")
CONFIG = MCPConfig.model_validate(
    {"mcp_servers": {name: {"transport": "in_process", "timeout": 60} for name in ("deepwiki", "memory", "sequential_thinking")}}
)
MANY = 40
PATIENCE = 200.0


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server with the work pool and, by our own command, the deployment."""
    require_engine("prefect")
    server = PrefectServer(tmp_path_factory.mktemp("prefect"))
    server.start()
    try:
        template = Path(__file__).resolve().parents[2] / "deploy" / "prefect" / "process.json"
        server.add_pool(template)
        command = [sys.executable, "-m", "auralink", "flows", "deploy", "--pool", POOL]
        done = subprocess.run(command, env=server.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "deployed auralink/auralink" in done.stdout
        yield server
    finally:
        server.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(prefect: PrefectServer, postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The service and our worker, which knows of the Prefect server."""
    ring = KeyRing.parse(Secret(generate_master_key().reveal()))
    with pytest.MonkeyPatch.context() as patch, cloned_database(postgres) as database:
        patch.setenv("PREFECT_API_URL", prefect.url)
        engines = Engines(default_root())
        place = tmp_path_factory.mktemp("world")
        async with world(database, place, ring, engine="prefect", engines=engines, config=CONFIG) as made:
            await connected(made.http, "sequential_thinking")
            yield made
        await engines.close()


def thinking() -> dict[str, Any]:
    """A flow whose every step leaves a trace that would be there twice if it were done twice."""
    about = {"thought": "{{ text }}", "nextThoughtNeeded": True, "thoughtNumber": "{{ number }}", "totalThoughts": MANY}
    think = step("think", "tool", tool="sequential_thinking__sequentialthinking", arguments=about)
    one = [
        step("number", "transform", value="{{ item }}"),
        step("text", "llm", prompt="Say {{ item }}", model="auralink/offline"),
        think,
    ]
    each = step("each", "map", over="items", width=2, steps=one)
    return a_flow([each], output="{{ length(each) }}")


async def begun(here: World, definition: dict[str, Any], **given: Any) -> str:
    made = await here.make("/flows", flow_name=f"f{os.urandom(4).hex()}", flow_type="custom", definition=definition)
    answer = await here.http.post(f"{API}/flows/{made['flow_id']}/execute", json={"input_parameters": given})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


async def ended(here: World, run_id: str) -> dict[str, Any]:
    async def over() -> bool:
        return (await here.run(run_id))["status"] in ("succeeded", "failed", "cancelled")

    await until(over, PATIENCE)
    return await here.run(run_id)


def events_of(here: World, run_id: str, kind: str) -> list[dict[str, Any]]:
    query = "SELECT data FROM auralink.run_events WHERE run_id = %s AND type = %s ORDER BY seq"
    return [row["data"] for row in here.sql(query, run_id, kind)]


async def flow_runs_of(prefect: PrefectServer, run_id: str) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient(base_url=prefect.url, timeout=30, trust_env=False) as client:
        wanted = {"flow_runs": {"tags": {"all_": [f"run:{run_id}"]}}}
        found: list[dict[str, Any]] = (await client.post(f"{prefect.url}/flow_runs/filter", json=wanted)).json()
        return found


async def is_there(prefect: PrefectServer, run_id: str, state: str) -> bool:
    """Whether the run's flow run is in this state in Prefect."""
    return [found["state_type"] for found in await flow_runs_of(prefect, run_id)] == [state]


async def test_a_flow_runs_on_the_server_and_both_sides_name_each_other(prefect: PrefectServer, here: World) -> None:
    with prefect.worker():
        run_id = await begun(here, thinking(), items=[1, 2, 3])
        run = await ended(here, run_id)
        assert (run["status"], run["output"]) == ("succeeded", 3), run["error"]
        await until(lambda: is_there(prefect, run_id, "COMPLETED"), 60)
    (flow_run,) = await flow_runs_of(prefect, run_id)
    assert flow_run["labels"]["auralink.run"] == run_id
    assert any(said.get("flow_run") == flow_run["id"] for said in events_of(here, run_id, "log"))
    told = [(said["node"], said["state"]) for said in events_of(here, run_id, "state")]
    assert {("think[0]", "Completed"), ("think[2]", "Completed"), ("each", "Completed")} <= set(told)
    assert here.service.token(here.user) not in json.dumps(flow_run["parameters"])
    assert set(flow_run["parameters"]) == {"run_id", "code", "url"}


@long
async def test_cancelling_travels_both_ways(prefect: PrefectServer, here: World) -> None:
    ours, theirs = await begun(here, thinking(), items=[1]), await begun(here, thinking(), items=[2])

    async def both_there() -> bool:
        return bool(await flow_runs_of(prefect, ours) and await flow_runs_of(prefect, theirs))

    await until(both_there, 60)  # no worker is there: the flow runs wait
    await here.http.post(f"{API}/runs/{ours}/cancel")
    prefect.prefect("flow-run", "cancel", (await flow_runs_of(prefect, theirs))[0]["id"])
    run = await ended(here, theirs)
    assert run["status"] == "failed"
    assert run["error"]["type"] == "CancelledElsewhere"
    assert "was cancelled in Prefect" in run["error"]["message"]
    await until(lambda: is_there(prefect, ours, "CANCELLED"), 60)


@long
async def test_killing_worker_flow_and_server_loses_and_repeats_nothing(prefect: PrefectServer, here: World) -> None:
    before = len(here.sql("SELECT 1 FROM auralink.thinking_thoughts"))
    with prefect.worker():
        run_id = await begun(here, thinking(), items=list(range(1, MANY + 1)))

        async def some_done() -> bool:
            return len(here.sql("SELECT 1 FROM auralink.run_journal WHERE run_id = %s AND kind = 'tool'", run_id)) >= 3

        await until(some_done, PATIENCE)
    prefect.kill()
    assert len(here.sql("SELECT 1 FROM auralink.thinking_thoughts")) - before < MANY
    await asyncio.to_thread(prefect.start)
    with prefect.worker():
        run = await ended(here, run_id)
    assert (run["status"], run["output"]) == ("succeeded", MANY), run["error"]
    assert run["attempt"] > 1
    assert run["replayed"] > 0
    assert len(here.sql("SELECT 1 FROM auralink.thinking_thoughts")) - before == MANY
    repeated = "SELECT key FROM auralink.run_journal WHERE run_id = %s AND kind = 'tool' AND occurrence > 1"
    assert here.sql(repeated, run_id) == []
