"""An engine of teams without a framework: every member asks its model once and says the answer. Tasks say what else happens."""

from typing import Any

import httpx2

from auralink.runs.engines import Failure, OnEvent, Result, Start

CALL = {"tool": "toolbox__calculator", "arguments": {"expression": "6*7"}, "answer": "42", "failed": False}


async def work(start: Start, on_event: OnEvent) -> Result | Failure:
    """Carries out an attempt of a run."""
    task = start.input["task_description"]
    if "fail" in task:
        return Failure("MemberFailed", "the member 'writer' failed: no words")
    said: list[str] = []
    headers = {"Authorization": f"Bearer {start.token.reveal()}"}
    async with httpx2.AsyncClient(base_url=start.llm_url, headers=headers, timeout=30, trust_env=False) as http:
        for n, member in enumerate(start.definition["members"], start=1):
            answer, step = await _ask(http, member, task)
            calls = [CALL, {**CALL, "answer": "no such thing", "failed": True}] if "6*7" in task else []
            await _say(on_event, n, member["name"], f"{answer} (attempt {start.attempt})", calls, [step])
            said.append(member["name"])
            if "stumble" in task and start.attempt == 1 and n == 2:
                return Failure("ProcessDied", "it stumbled", lost=True)
    output = {"answer": f"{len(said)} have spoken of {task}", "stopped": None, "sources": [], "turns": dict.fromkeys(said, 1)}
    return Result(output)


async def _ask(http: httpx2.AsyncClient, member: dict[str, Any], task: str) -> tuple[str, int]:
    messages = [{"role": "system", "content": f"You are {member['role']}."}, {"role": "user", "content": task}]
    answer = await http.post("/chat/completions", json={"model": member["model"], "messages": messages})
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"], int(answer.headers["x-auralink-step"])


async def _say(on_event: OnEvent, n: int, sender: str, content: str, calls: list[dict[str, Any]], steps: list[int]) -> None:
    message = {"n": n, "from": sender, "to": "team", "kind": "message", "content": content, "tool_calls": calls, "steps": steps}
    await on_event({"type": "message", "data": message})
