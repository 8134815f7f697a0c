"""Refusals of the flows domain."""

from auralink.core.errors import Conflict, NotFound


class FlowNotFound(NotFound):
    """The user has no such flow."""

    code = "flow_not_found"
    title = "Flow not found"


class FlowNameTaken(Conflict):
    """The user has a flow of that name."""

    code = "flow_name_taken"
    title = "Flow name taken"


class FlowRunNotFound(NotFound):
    """The flow has had no such run."""

    code = "flow_run_not_found"
    title = "Flow run not found"


def flow_not_found(reference: object) -> FlowNotFound:
    """The error for a flow that is not there, or another user's, which looks the same."""
    return FlowNotFound(f"you have no flow {str(reference)!r}; GET /api/v1/flows lists yours")
