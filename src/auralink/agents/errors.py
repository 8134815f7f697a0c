"""Refusals of the agents domain."""

from auralink.core.errors import Conflict, NotFound
from auralink.workflows.errors import AgentNotFound, agent_not_found

__all__ = [
    "AgentInUse",
    "AgentNameTaken",
    "AgentNotFound",
    "ThreadBusy",
    "ThreadNotFound",
    "agent_not_found",
    "thread_not_found",
]


class AgentNameTaken(Conflict):
    """The user has an agent of that name."""

    code = "agent_name_taken"
    title = "Agent name taken"


class AgentInUse(Conflict):
    """Workflows or members of teams name the agent."""

    code = "agent_in_use"
    title = "Agent in use"


class ThreadNotFound(NotFound):
    """The agent has no such thread."""

    code = "thread_not_found"
    title = "Thread not found"


class ThreadBusy(Conflict):
    """The agent has not yet answered what was said last."""

    code = "thread_busy"
    title = "Thread busy"


def thread_not_found(thread_id: object) -> ThreadNotFound:
    """The error for a thread that is not there, or another user's, which looks the same."""
    return ThreadNotFound(f"this agent has no thread {thread_id}; GET …/threads lists them, a message without one begins one")
