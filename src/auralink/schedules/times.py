"""When a schedule is due: cron expressions in a time zone, or every so many seconds."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from croniter import CroniterError, croniter  # type: ignore[import-untyped]

from auralink.schedules.errors import BadSchedule

FIELDS = 5


def check(schedule: Mapping[str, Any]) -> None:
    """Raises BadSchedule for times that cannot be told."""
    cron, interval, zone = schedule["cron"], schedule["interval_seconds"], schedule["timezone"]
    if (cron is None) == (interval is None):
        raise BadSchedule("give either cron (e.g. `0 9 * * mon-fri`) or interval (seconds), and not both")
    if zone not in available_timezones():
        raise BadSchedule(f"there is no time zone {zone!r}; use a name such as Europe/Berlin or UTC")
    if cron is not None:
        if not cron.startswith("@") and len(cron.split()) != FIELDS:
            raise BadSchedule(f"{cron!r} has not the five fields minute, hour, day, month and weekday")
        following(schedule, datetime.now(UTC))


def following(schedule: Mapping[str, Any], after: datetime) -> datetime:
    """The first due time after a moment. Those of an interval are counted from `next_at`, else from `after`. Raises BadSchedule."""
    if schedule["cron"] is None:
        step, base = schedule["interval_seconds"], schedule.get("next_at") or after
        passed = math.floor((after - base).total_seconds() / step)
        return base + timedelta(seconds=step * (max(passed, 0) + 1))
    try:
        at: datetime = croniter(schedule["cron"], after.astimezone(ZoneInfo(schedule["timezone"]))).get_next(datetime)
    except (CroniterError, ValueError, KeyError) as error:
        raise BadSchedule(f"the cron expression {schedule['cron']!r} cannot be read, or is never due: {error}") from None
    return at.astimezone(UTC)
