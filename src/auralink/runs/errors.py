"""Refusals of the runs domain."""

from auralink.core.errors import Conflict, InvalidRequest, NotFound


class RunNotFound(NotFound):
    """The user has no such run."""

    code = "run_not_found"
    title = "Run not found"


class RunFinished(Conflict):
    """The run has ended: there is nothing left to cancel or to decide."""

    code = "run_finished"
    title = "Run has ended"


class RunNotFinished(Conflict):
    """The run is still under way."""

    code = "run_not_finished"
    title = "Run has not ended"


class RunNotResumable(Conflict):
    """The run has succeeded, or has not ended: there is no failure to go on from."""

    code = "run_not_resumable"
    title = "Run cannot be resumed"


class RunsTooDeep(Conflict):
    """Runs have started runs, one the next, as often as they may: most likely a definition starts itself."""

    code = "runs_too_deep"
    title = "Runs too deep"


class BadOverride(InvalidRequest):
    """A fork asks for a change that cannot be made."""

    code = "bad_override"
    title = "Bad override"


def run_not_found(run_id: object) -> RunNotFound:
    """The error for a run that is not there, or another user's, which looks the same."""
    return RunNotFound(f"you have no run {run_id}; GET /api/v1/runs lists yours")


def bad_override(*mistakes: tuple[str, str]) -> BadOverride:
    """The error for mistakes in what a person has written: of each where it is, a JSON pointer, and what it is."""
    errors = [{"pointer": pointer, "message": message, "code": BadOverride.code} for pointer, message in mistakes]
    return BadOverride("; ".join(f"{pointer}: {message}" for pointer, message in mistakes[:5]), extra={"errors": errors})
