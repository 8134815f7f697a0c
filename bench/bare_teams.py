"""A framework alone, run by the Python of its engine's environment: `bare_teams.py crewai|autogen PORT TEAMS`.

The same teams as in the bench of the service, all in one process, with the model that listens on the port and a function for a tool;
nothing is checked, limited, recorded or kept. Prints JSON: `import_seconds`, `seconds` for all teams at once (one team before them is not
counted), `peak_mib`.
"""

import asyncio
import json
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Awaitable, Callable

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
    "DO_NOT_TRACK": "1",
}
MODEL = "gpt-5-mini"
TASK = "Say what you know, and say it again."
MEMBERS = ("Reader", "Writer")
CALLED: list[str] = []
Team = Callable[[], Awaitable[object]]


def crewai(url: str) -> Team:
    """Two agents, two tasks, each with a tool."""
    from crewai import LLM, Agent, Crew, Task
    from crewai.tools import tool

    @tool("echo")
    def echo(text: str) -> str:
        """Says it again."""
        CALLED.append(text)
        return text

    async def team() -> object:
        llm = LLM(model=MODEL, provider="openai", base_url=url, api_key="none", max_retries=0)
        agents = [
            Agent(role=role, goal="Do your part", backstory="One of two", llm=llm, tools=[echo], cache=False, verbose=False)
            for role in MEMBERS
        ]
        tasks = [Task(description=TASK, expected_output="A text", agent=agent) for agent in agents]
        return await Crew(agents=agents, tasks=tasks, cache=False, memory=False, verbose=False, tracing=False).akickoff()

    return team


def autogen(url: str) -> Team:
    """Two agents in turn, each once, with a tool."""
    from autogen_agentchat.agents import AssistantAgent
    from autogen_agentchat.teams import RoundRobinGroupChat
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    async def echo(text: str) -> str:
        """Says it again."""
        CALLED.append(text)
        return text

    info = {"vision": False, "function_calling": True, "json_output": True, "structured_output": True, "family": "unknown"}

    async def team() -> object:
        client = OpenAIChatCompletionClient(model=MODEL, base_url=url, api_key="none", max_retries=0, model_info=info)
        agents = [AssistantAgent(name, client, tools=[echo], reflect_on_tool_use=True) for name in MEMBERS]
        return await RoundRobinGroupChat(list(agents), max_turns=len(agents)).run(task=TASK)

    return team


async def measure(team: Team, teams: int) -> float:
    """Seconds that so many teams take, all begun at once."""
    await team()
    started = time.perf_counter()
    await asyncio.gather(*(team() for _ in range(teams)))
    return time.perf_counter() - started


def main(framework: str, port: str, teams: str) -> None:
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    started = time.perf_counter()
    team = {"crewai": crewai, "autogen": autogen}[framework](f"http://127.0.0.1:{port}/v1")
    imported = time.perf_counter() - started
    seconds = asyncio.run(measure(team, int(teams)))
    if len(CALLED) != len(MEMBERS) * (int(teams) + 1):
        raise SystemExit(f"the teams called {len(CALLED)} tools; {len(MEMBERS)} each were wanted")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"import_seconds": imported, "seconds": seconds, "peak_mib": peak}))
    sys.stdout.flush()
    os._exit(0)  # what the framework has left running is not waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
