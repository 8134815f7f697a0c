"""The five steps of the kill test as a team's work: two members with tools on a real engine, and a script that says what their models say.

The first member reads and has one effect, the second has two; the oracle counts the effects of each line as it does for `steps`.
"""

import json
from pathlib import Path
from typing import Any

from tests.engines.teams import a_team, member

STEPS = "steps"
MODES = {"crewai": "sequential", "autogen": "round_robin", "agent_framework": "sequential"}
MODEL = "auralink/scripted"
WORK = {"reader": (("read", 0), ("plain", 1)), "writer": (("keyed", 3), ("plain", 4))}
"""Of each member: the sink's tools in their order, with the numbers of the steps."""


def definition(engine: str) -> dict[str, Any]:
    """What a run is given."""
    if engine == STEPS:
        return {}
    members = [member(name, model=MODEL, tools=[f"sink__{tool}" for tool, _ in calls]) for name, calls in WORK.items()]
    return {**a_team(MODES[engine], members, model=MODEL, limits={"turns": len(members)}), "team_type": engine}


def task(line: str) -> dict[str, Any]:
    """The input of a run."""
    return {"line": line, "task_description": f"Do the work of {line}."}


def write_script(path: Path, lines: list[str]) -> None:
    """For each line and member: its calls one after the other, then a text. Frameworks that show a member what the others' models have
    said count that too, so each turn has two numbers."""
    rules = []
    for line in lines:
        before = 0
        for name, calls in WORK.items():
            offered = [f"sink__{tool}" for tool, _ in calls]
            answers: list[dict[str, Any]] = [
                {"tool_calls": [{"name": f"sink__{tool}", "arguments": {"line": line, "step": step}}]} for tool, step in calls
            ]
            answers.append({"content": f"Thought: I know it now.\nFinal Answer: {name} has done {line}."})
            for turn, answer in enumerate(answers):
                for turns in sorted({turn, before + turn}):
                    when = {"matches": rf"{line}\b", "tools_include": offered, "assistant_turns": turns}
                    rules.append({"when": when, "answer": answer})
            before += len(answers)
    path.write_text(json.dumps({"rules": rules}))
