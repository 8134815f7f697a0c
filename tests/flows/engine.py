"""An engine of flows without a framework: does steps in the order in which they stand, as far as tests of the service need it, and tells
of them as any engine does. What a step is to come to stands in its value: `fail`, `hang`, `die`."""

import asyncio
from typing import Any

import httpx2

from auralink.runs.engines import Failure, OnEvent, Result, Start
from auralink.workflows.expressions import filled, look_up

VERSION = "2025-06-18"


async def work(start: Start, on_event: OnEvent) -> Result | Failure:
    """Carries out an attempt of a run."""
    variables: dict[str, Any] = {**start.input, "run_id": str(start.run_id)}
    headers = {"Authorization": f"Bearer {start.token.reveal()}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
        for step in start.definition["steps"]:
            failure = await _Step(start, on_event, http, step).done(variables)
            if failure is not None:
                return failure
    output = start.definition["output"]
    steps = {step["name"]: variables[step["name"]] for step in start.definition["steps"]}
    return Result(steps if output is None else filled(output, variables))


class _Step:
    def __init__(self, start: Start, on_event: OnEvent, http: httpx2.AsyncClient, step: dict[str, Any]) -> None:
        self.start, self.on_event, self.http, self.step = start, on_event, http, step
        self.calls: list[int] = []

    async def done(self, variables: dict[str, Any]) -> Failure | None:
        name = self.step["name"]
        if self.step["type"] == "map":
            await self._each(variables)
            return None
        await self._tell(name, "Running")
        if "die" in str(self.step.get("value")) and self.start.attempt == 1:
            return Failure("ProcessDied", "it died", lost=True)
        if "hang" in str(self.step.get("value")):
            await asyncio.Event().wait()
        if "fail" in str(self.step.get("value")):
            await self._tell(name, "Failed", error="no words")
            return Failure("StepFailed", f"the step {name!r} failed: no words")
        variables[name] = await self._result(variables)
        await self._tell(name, "Completed", seconds=0.25)
        return None

    async def _each(self, variables: dict[str, Any]) -> None:
        name, [inner] = self.step["name"], self.step["steps"]
        await self._tell(name, "Running")
        results = []
        for index, item in enumerate(look_up(self.step["over"], variables)):
            each = _Step(self.start, self.on_event, self.http, inner)
            await each._tell(f"{inner['name']}[{index}]", "Running")
            results.append(await each._result({**variables, self.step["item"]: item, "index": index}))
            await each._tell(f"{inner['name']}[{index}]", "Completed", seconds=0.5)
        variables[name] = results
        await self._tell(name, "Completed", seconds=1.0)

    async def _result(self, variables: dict[str, Any]) -> Any:
        if self.step["type"] == "llm":
            return await self._asked(filled(self.step["prompt"], variables))
        if self.step["type"] == "flow":
            return await self._called("auralink__run_flow", {"name": self.step["flow"], "input": self.step["input"]})
        return filled(self.step["value"], variables)

    async def _asked(self, prompt: str) -> str:
        body = {"model": self.step["model"], "messages": [{"role": "user", "content": prompt}]}
        answer = await self.http.post(f"{self.start.llm_url}/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        self.calls.append(int(answer.headers["x-auralink-step"]))
        return str(answer.json()["choices"][0]["message"]["content"])

    async def _called(self, tool: str, arguments: dict[str, Any]) -> Any:
        headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": VERSION}
        about = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
        opened = await self._sent("initialize", about, headers)
        headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        answer = await self._sent("tools/call", {"name": tool, "arguments": arguments}, headers)
        result = answer.json()["result"]
        self.calls.append(result["_meta"]["auralink/step"])
        return result["content"][0]["text"]

    async def _sent(self, method: str, params: dict[str, Any], headers: dict[str, str]) -> httpx2.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await self.http.post(self.start.mcp_url, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    async def _tell(self, node: str, state: str, **more: Any) -> None:
        data = {"node": node, "state": state, "kind": self.step["type"], "calls": self.calls, **more}
        await self.on_event({"type": "state", "data": data})
