"""CrewAI's classes without what a run has no use for: a database of outputs in the home directory, a class made for each agent,
tool calls side by side in threads. What they tell models is CrewAI's own."""

from collections.abc import Sequence
from typing import Any

from crewai import Agent, Crew
from crewai.agents.agent_executor import AgentExecutor, AgentExecutorState
from crewai.tools import BaseTool
from crewai.utilities.task_output_storage_handler import TaskOutputStorageHandler
from pydantic import PrivateAttr

from auralink_crewai.tools import NEVER_USED_UP


class NothingKept(TaskOutputStorageHandler):
    """Outputs are kept by the run's journal, not in a file for CrewAI's own `replay`."""

    def __init__(self) -> None:
        pass

    def update(self, task_index: int, log: dict[str, Any]) -> None:
        """Keeps nothing."""

    def reset(self) -> None:
        """Has nothing to forget."""

    def load(self) -> None:
        """Has nothing."""


class LeanCrew(Crew):
    """A crew that writes no files."""

    _task_output_handler: TaskOutputStorageHandler = PrivateAttr(default_factory=NothingKept)


def quicken() -> None:
    """Gives executors a first state of the class that there is. CrewAI makes a new class for each agent (25 ms of a run's start), and
    then takes this one after all. It is done in place: a flow finds no steps in a subclass."""
    AgentExecutor._create_initial_state = lambda _self: AgentExecutorState()


class Colleague(Agent):
    """An agent whose calls of one answer are made one after the other, delegations included."""

    def get_delegation_tools(self, agents: Sequence[Any]) -> list[BaseTool]:
        """CrewAI's tools for delegation to these agents."""
        tools = super().get_delegation_tools(agents)
        for tool in tools:
            tool.max_usage_count = NEVER_USED_UP
        return tools
