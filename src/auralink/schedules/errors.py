"""Refusals of the schedules domain."""

from auralink.core.errors import Conflict, InvalidRequest, NotFound


class ScheduleNotFound(NotFound):
    """The user has no such schedule."""

    code = "schedule_not_found"
    title = "Schedule not found"


class ScheduleNameTaken(Conflict):
    """The user has a schedule of that name."""

    code = "schedule_name_taken"
    title = "Schedule name taken"


class BadSchedule(InvalidRequest):
    """The times cannot be told from what was given."""

    code = "schedule_invalid"
    title = "Invalid schedule"


def schedule_not_found(schedule_id: object) -> ScheduleNotFound:
    """The error for a schedule that is not there, or another user's, which looks the same."""
    return ScheduleNotFound(f"you have no schedule {schedule_id}; GET /api/v1/schedules lists yours")
