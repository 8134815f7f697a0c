"""Teams through the typed client and from the command line."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from auralink.client import ApiError, AuraLink
from auralink.core.secret import Secret
from tests.isolation.process import auralink
from tests.service import unique
from tests.worlds import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_client_makes_a_team_runs_it_and_sees_what_was_said(here: World) -> None:
    async with AuraLink(here.service.url, Secret(here.service.token(here.user))) as client:
        team = await client.create_team(unique("team"), members=[{"role": "Clerk"}])
        await client.add_member(team.team_id, "Chief", tools=["Calculator"])
        assert [found.team_id for found in (await client.teams(name=team.team_name)).items] == [team.team_id]
        started = await client.execute_team(team.team_id, "Count", additional_context={"to": 3})
        run = await client.run_when_ended(started.run_id)
        assert run.input == {"task_description": "Count", "additional_context": {"to": 3}}
        [told] = (await client.conversations(team.team_id)).items
        assert [(message.n, message.sender) for message in told.messages] == [(1, "clerk"), (2, "chief")]
        assert await client.conversation(team.team_id, started.run_id) == told
        assert (await client.team_performance(team.team_id)).succeeded == 1
        compared = await client.compare_team(team.team_id, engines=["plain"], task_description="Count")
        await client.run_when_ended(compared.runs[0].run_id)
        assert (await client.comparison(team.team_id, compared.comparison_id)).finished
        with pytest.raises(ApiError, match="you have no team 'nobody'"):
            await client.find_team("nobody")


async def test_a_team_is_run_from_the_command_line(here: World, tmp_path: Path) -> None:
    name = unique("team")
    await here.make("/teams", team_name=name, members=[{"role": "Clerk"}])

    async def command(*arguments: str) -> Any:
        variables = {"AURALINK_URL": here.service.url, "AURALINK_TOKEN": here.service.token(here.user)}
        return await asyncio.to_thread(auralink, *arguments, data_dir=tmp_path, **variables)

    done = await command(
        "run", "team", name, "--task", "Count", "--input", '{"additional_context": "to three"}', "--wait", "--json"
    )
    assert done.returncode == 0, done.stderr
    run = orjson.loads(done.stdout)
    assert run["input"] == {"task_description": "Count", "additional_context": "to three"}
    assert run["output"]["answer"] == "1 have spoken of Count"
    assert "there are workflow, team" in (await command("run", "crew", name)).stderr
