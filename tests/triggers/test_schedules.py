"""Runs at due times: one for each, however many clocks there are."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from auralink.core.db import Database
from auralink.definitions import build_startables
from auralink.schedules import times
from auralink.schedules.clock import Clock
from tests.runs.support import runs_of
from tests.service import API, unique
from tests.triggers.test_webhooks import GRAPH
from tests.worlds import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clocks(here: World) -> AsyncIterator[list[Clock]]:
    """The clocks of three workers."""
    db = Database(here.database.service, min_size=1, max_size=8)
    await db.open()
    async with runs_of(db) as runs:
        yield [Clock(db, build_startables(runs)) for _ in range(3)]
    await db.close()


async def schedule(here: World, **fields: Any) -> dict[str, Any]:
    workflow = await here.make("/workflows", workflow_name=unique(), workflow_type="custom", definition=GRAPH)
    given = {"interval": 3600, "input": {"question": "hourly?"}, **fields}
    return await here.make("/schedules", name=unique(), kind="workflow", definition_id=workflow["workflow_id"], **given)


def due_since(here: World, made: dict[str, Any], ago: timedelta) -> datetime:
    """Makes the schedule due since a while; since when."""
    query = "UPDATE auralink.schedules SET next_at = clock_timestamp() - %s WHERE id = %s RETURNING next_at"
    at: datetime = here.sql(query, ago, made["schedule_id"])[0]["next_at"]
    return at


async def runs_of_schedule(here: World, made: dict[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await here.http.get(f"{API}/runs", params={"definition_id": made["definition_id"]})).json()[
        "items"
    ]
    return items


async def shown(here: World, made: dict[str, Any]) -> dict[str, Any]:
    view: dict[str, Any] = (await here.http.get(f"{API}/schedules/{made['schedule_id']}")).json()
    return view


async def test_a_due_time_has_one_run_however_many_clocks_look(here: World, clocks: list[Clock]) -> None:
    made = await schedule(here, room_id="r1")
    due = due_since(here, made, timedelta(seconds=5))
    await asyncio.gather(*(clock.tick() for clock in clocks for _ in range(3)))
    [run] = await runs_of_schedule(here, made)
    assert run["room_id"] == "r1"
    after = await shown(here, made)
    assert (after["last_run_id"], after["last_error"]) == (run["run_id"], None)
    assert datetime.fromisoformat(after["last_at"]) == due
    assert datetime.fromisoformat(after["next_at"]) == due + timedelta(hours=1)


async def test_missed_runs_are_skipped_or_caught_up_by_choice(here: World, clocks: list[Clock]) -> None:
    skipping, catching = await schedule(here), await schedule(here, missed="catch_up")
    for made in (skipping, catching):
        due_since(here, made, timedelta(hours=2, minutes=30))
    for _ in range(5):
        await clocks[0].tick()
    assert len(await runs_of_schedule(here, skipping)) == 0
    assert len(await runs_of_schedule(here, catching)) == 3
    for made in (skipping, catching):
        assert datetime.fromisoformat((await shown(here, made))["next_at"]) > datetime.now(UTC)


async def test_a_schedule_that_is_paused_is_not_due_and_goes_on_from_now(here: World, clocks: list[Clock]) -> None:
    made = await schedule(here)
    path = f"{API}/schedules/{made['schedule_id']}"
    paused = (await here.http.patch(path, json={"paused": True})).json()
    assert (paused["paused"], paused["next_at"]) == (True, None)
    await clocks[0].tick()
    assert await runs_of_schedule(here, made) == []
    again = (await here.http.patch(path, json={"paused": False, "cron": "0 9 * * mon", "timezone": "Europe/Berlin"})).json()
    local = datetime.fromisoformat(again["next_at"]).astimezone(ZoneInfo("Europe/Berlin"))
    assert (local.hour, local.minute, local.weekday(), again["interval"]) == (9, 0, 0, None)


async def test_a_schedule_whose_definition_is_gone_pauses_and_says_so(here: World, clocks: list[Clock]) -> None:
    made = await schedule(here)
    assert (await here.http.delete(f"{API}/workflows/{made['definition_id']}")).status_code == 204
    due_since(here, made, timedelta(seconds=1))
    await clocks[0].tick()
    after = await shown(here, made)
    assert after["paused"]
    assert "you have no workflow" in after["last_error"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"cron": "* * * * *", "interval": 60}, "schedule_invalid"),
        ({"cron": "61 * * * *", "interval": None}, "schedule_invalid"),
        ({"cron": "0 0 30 2 *", "interval": None}, "schedule_invalid"),
        ({"cron": "* * * * * *", "interval": None}, "schedule_invalid"),
        ({"timezone": "Mars/Olympus"}, "schedule_invalid"),
        ({"input": {"question": 7}}, "input_invalid"),
    ],
)
async def test_what_could_never_run_is_refused_when_it_is_saved(here: World, fields: dict[str, Any], code: str) -> None:
    workflow = await here.make("/workflows", workflow_name=unique(), workflow_type="custom", definition=GRAPH)
    base = {"name": unique(), "kind": "workflow", "definition_id": workflow["workflow_id"], "interval": 60}
    answer = await here.http.post(f"{API}/schedules", json={**base, "input": {"question": "x"}, **fields})
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    if code == "input_invalid":
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/input/question"]


async def test_cron_keeps_the_hour_of_its_time_zone_when_the_clocks_change() -> None:
    berlin = {"cron": "0 9 * * *", "interval_seconds": None, "timezone": "Europe/Berlin"}
    before = times.following(berlin, datetime(2026, 3, 28, 0, 0, tzinfo=UTC))
    after = times.following(berlin, before)
    assert (before.hour, after.hour) == (8, 7)


async def test_an_interval_keeps_its_beat_over_a_pause() -> None:
    hourly = {"cron": None, "interval_seconds": 3600.0, "timezone": "UTC", "next_at": NOON}
    assert times.following(hourly, NOON) == NOON + timedelta(hours=1)
    assert times.following(hourly, NOON + timedelta(hours=2, minutes=10)) == NOON + timedelta(hours=3)
