"""The engine at the real gateways: the templates with the built-in servers and the offline model, nothing scripted."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from dulwich import porcelain

from auralink.core.secret import Secret
from auralink.mcp.config import MCPConfig
from auralink.runs.engines import Engines, Result, Start
from auralink.vault.crypto import KeyRing, generate_master_key
from auralink.workflows.templates import get_template
from tests.conftest import Server
from tests.isolation.support import cloned_database
from tests.service import Service, connected, running_service, unique

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONFIG = MCPConfig.model_validate(
    {"mcp_servers": {name: {"transport": "in_process", "timeout": 60} for name in ("deepwiki", "memory")}}
)
README = """# Lamp

A lamp for tests.

## Getting started

Run `lamp on` to switch the lamp on. It needs a socket of 230 volts.

## Colours

The lamp can be red, green or blue; set the colour with `lamp colour NAME`.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(postgres: Server, tmp_path_factory: Any) -> AsyncIterator[Service]:
    """The service on a database of its own; the wiki reads the repository `lamp/lamp`."""
    place: Path = tmp_path_factory.mktemp("service")
    repository = place / "lamp" / "lamp"
    repository.mkdir(parents=True)
    (repository / "README.md").write_text(README)
    porcelain.init(str(repository)).close()
    porcelain.add(str(repository), [str(repository / "README.md")])
    porcelain.commit(str(repository), message=b"Begin", author=b"T <t@example.com>", committer=b"T <t@example.com>", sign=False)
    ring = KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with running_service(database.service, place, ring, config=CONFIG, wiki_repo_roots=(place,)) as running:
            yield running


async def run_template(engines: Engines, service: Service, user: str, name: str, **given: Any) -> dict[str, Any]:
    async def ignore(_event: dict[str, Any]) -> None:
        return

    start = Start(
        run_id=uuid4(),
        attempt=1,
        engine="langgraph",
        definition=get_template(name).stored(),
        input=given,
        mcp_url=f"{service.url}/mcp",
        llm_url=f"{service.url}/v1",
        token=Secret(service.token(user)),
        accepted_at=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
        deadline=time.time() + 60,
        memory_mb=512,
    )
    outcome = await engines.execute(start, ignore)
    assert isinstance(outcome, Result), outcome
    output: dict[str, Any] = outcome.output
    return output


async def test_a_question_is_answered_from_a_repository_and_remembered(engines: Engines, service: Service) -> None:
    user = unique()
    async with service.client(user) as client:
        for server in ("deepwiki", "memory"):
            await connected(client, server)
        answer = await run_template(engines, service, user, "qa", question="How do I switch the lamp on?", repo_name="lamp/lamp")
        assert "lamp on" in answer["answer"]
        assert {source["source"]["file"] for source in answer["sources"]} == {"README.md"}
        found = (await client.get("/api/v1/mcp/tools", params={"q": "memory"})).json()["items"]
        assert any(tool["name"] == "memory__search_nodes" for tool in found)
        again = await run_template(engines, service, user, "qa", question="How do I switch the lamp on?", repo_name="lamp/lamp")
    assert again["answer"]


async def test_minutes_are_kept_and_the_next_meeting_is_greeted_with_them(engines: Engines, service: Service) -> None:
    user = unique()
    async with service.client(user) as client:
        await connected(client, "memory")
        transcript = (
            "Anna: We decided to paint the lamp red on 2026-03-12.\n"
            "Ben: I will buy the paint by 2026-03-10.\n"
            "Anna: The soup was good today."
        )
        minutes = await run_template(engines, service, user, "summarization", transcript=transcript, title="Lamp meeting")
        assert [(item["owner"], item["due"]) for item in minutes["action_items"]] == [("Ben", "2026-03-10")]
        assert len(minutes["decisions"]) == 1
        assert minutes["stored_as"] == "Lamp meeting (2026-03-01T09:30:00+00:00)"
        hello = await run_template(engines, service, user, "auto_join", participants=["Anna", "Ben"], room_name="Lamp meeting")
    assert hello["greeting"].startswith("Hello Anna, Ben.")
    assert "paint" in hello["greeting"]
    assert hello["last_meeting"]["name"] == minutes["stored_as"]
