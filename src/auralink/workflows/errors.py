"""Refusals of the workflows domain."""

from collections.abc import Collection

from auralink.core.errors import Conflict, InvalidRequest, NotFound
from auralink.workflows.checking import Problem


class WorkflowNotFound(NotFound):
    """The user has no such workflow."""

    code = "workflow_not_found"
    title = "Workflow not found"


class WorkflowNameTaken(Conflict):
    """The user has a workflow of that name."""

    code = "workflow_name_taken"
    title = "Workflow name taken"


class AgentNotFound(NotFound):
    """The user has no such agent."""

    code = "agent_not_found"
    title = "Agent not found"


class InputInvalid(InvalidRequest):
    """The input is not of the schema that the definition gives; `errors` has a JSON pointer for each mistake."""

    code = "input_invalid"
    title = "Invalid input"

    def __init__(self, problems: Collection[Problem]) -> None:
        errors = [{"pointer": p.pointer, "message": p.message, "code": self.code} for p in problems]
        super().__init__("; ".join(f"{p.pointer}: {p.message}" for p in list(problems)[:5]), extra={"errors": errors})


def workflow_not_found(reference: object) -> WorkflowNotFound:
    """The error for a workflow that is not there, or another user's, which looks the same."""
    return WorkflowNotFound(f"you have no workflow {str(reference)!r}; GET /api/v1/workflows lists yours")


def agent_not_found(reference: object) -> AgentNotFound:
    """The error for an agent that is not there, or another user's, which looks the same."""
    return AgentNotFound(f"you have no agent {str(reference)!r}; GET /api/v1/agents lists yours")
