"""`auralink run` and `auralink runs` against a service on a real port; what they do goes through the client alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from auralink.client import ApiError, AuraLink
from auralink.core.secret import Secret
from auralink.vault.crypto import KeyRing, generate_master_key
from tests.conftest import Server
from tests.isolation.process import auralink
from tests.isolation.support import cloned_database
from tests.service import unique
from tests.triggers.test_webhooks import GRAPH
from tests.worlds import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    place, ring = tmp_path_factory.mktemp("world"), KeyRing.parse(generate_master_key())
    with cloned_database(postgres) as database:
        async with world(database, place, ring) as made:
            yield made


async def command(here: World, place: Path, *arguments: str) -> Any:
    """Runs a command as a process of its own; its JSON."""
    variables = {"AURALINK_URL": here.service.url, "AURALINK_TOKEN": here.service.token(here.user)}
    done = await asyncio.to_thread(auralink, *arguments, data_dir=place, **variables)
    assert done.returncode == 0, done.stderr
    return [orjson.loads(line) for line in done.stdout.splitlines()] if "events" in arguments else orjson.loads(done.stdout)


async def test_a_workflow_is_run_watched_and_forked_from_the_command_line(here: World, tmp_path: Path) -> None:
    name = unique("noting")
    await here.make("/workflows", workflow_name=name, workflow_type="custom", definition=GRAPH)

    async def said(*arguments: str) -> Any:
        return await command(here, tmp_path, *arguments)

    run = await said("run", name, "--input", '{"question": "why?"}', "--wait", "--json")
    assert (run["status"], run["output"]) == ("succeeded", {"noted": "why?"})
    assert (await said("runs", "list", "--json"))["items"][0]["run_id"] == run["run_id"]
    assert (await said("runs", "show", run["run_id"], "--json"))["output"] == {"noted": "why?"}
    events = await said("runs", "events", run["run_id"])
    assert (events[0]["type"], events[-1]["type"]) == ("run.queued", "run.finished")
    forked = await said("runs", "fork", run["run_id"], "--at", "0", "--json")
    assert forked["source_id"] == run["run_id"]


async def test_the_client_says_that_there_is_no_such_workflow(here: World) -> None:
    async with AuraLink(here.service.url, Secret(here.service.token(here.user))) as client:
        with pytest.raises(ApiError, match="you have no workflow 'nothing'"):
            await client.find_workflow("nothing")
