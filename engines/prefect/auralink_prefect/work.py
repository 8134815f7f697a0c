"""What each type of step that acts does: its inputs with the variables filled in, and the work on them."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema
from auralink_engine.values import render, value_of

from auralink_prefect.errors import StepFailed
from auralink_prefect.gateways import Gateways

Step = Mapping[str, Any]
Variables = Mapping[str, Any]
Inputs = Mapping[str, Any]
SCHEMA_ATTEMPTS = 2
INTERNAL = "auralink__"


def inputs_of(step: Step, variables: Variables) -> Inputs:
    """What a step works on: {tool, arguments} of all that call tools, the question of a model call, the value of a transform.

    Raises ExpressionFailed.
    """
    return _INPUTS[step["type"]](step, variables)


async def work_on(step: Step, inputs: Inputs, gateways: Gateways) -> Any:
    """A step's result. Raises StepFailed."""
    if step["type"] == "transform":
        return inputs["value"]
    if step["type"] == "llm":
        return await _ask(inputs, gateways)
    return await gateways.call(inputs["tool"], inputs["arguments"])


def calls_tools(steps: list[Step]) -> bool:
    """Whether any of the steps, or of the steps in their blocks, calls a tool."""
    return any(step["type"] in _CALLERS or any(calls_tools(block["steps"]) for block in blocks_of(step)) for step in steps)


def blocks_of(step: Step) -> list[Mapping[str, Any]]:
    """The blocks of steps in a step."""
    if step["type"] == "branch":
        return [*step["cases"], *([step["otherwise"]] if step["otherwise"] else [])]
    return [step] if step["type"] in ("map", "loop") else []


def _of_tool(step: Step, variables: Variables) -> Inputs:
    return {"tool": render(step["tool"], variables).strip(), "arguments": value_of(step["arguments"], variables) or {}}


def _of_llm(step: Step, variables: Variables) -> Inputs:
    texts = {"system": render(step["instructions"], variables).strip(), "user": render(step["prompt"], variables).strip()}
    messages = [{"role": role, "content": text} for role, text in texts.items() if text]
    return {name: step[name] for name in ("model", "schema", "temperature", "max_tokens")} | {"messages": messages}


def _of_agent(step: Step, variables: Variables) -> Inputs:
    return _run("agent", step, variables, {"message": render(step["message"], variables)})


def _of_team(step: Step, variables: Variables) -> Inputs:
    context = value_of(step["context"], variables)
    task = {"task_description": render(step["task"], variables)}
    return _run("team", step, variables, task if context is None else task | {"additional_context": context})


def _of_other(step: Step, variables: Variables) -> Inputs:
    return _run(step["type"], step, variables, value_of(step["input"], variables))


def _run(kind: str, step: Step, variables: Variables, given: Any) -> Inputs:
    return {"tool": f"{INTERNAL}run_{kind}", "arguments": {"name": render(step[kind], variables).strip(), "input": given}}


def _of_approval(step: Step, variables: Variables) -> Inputs:
    given = {"question": render(step["question"], variables)}
    details = value_of(step["details"], variables)
    return {"tool": f"{INTERNAL}ask_approval", "arguments": given if details is None else given | {"details": details}}


def _of_transform(step: Step, variables: Variables) -> Inputs:
    return {"value": value_of(step["value"], variables)}


async def _ask(inputs: Inputs, gateways: Gateways) -> Any:
    model, schema, messages = inputs["model"], inputs["schema"], list(inputs["messages"])
    options = {"temperature": inputs["temperature"], "max_tokens": inputs["max_tokens"]}
    if schema is None:
        return await gateways.ask(model, messages, **options)
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    problem = ""
    for _ in range(SCHEMA_ATTEMPTS):
        text = await gateways.ask(model, messages, response_format=wanted, **options)
        try:
            value = json.loads(_unfenced(text))
            jsonschema.validate(value, schema)
        except (ValueError, jsonschema.ValidationError) as error:
            problem = error.message if isinstance(error, jsonschema.ValidationError) else f"it is not JSON: {error}"
            advice = f"That does not fit the schema: {problem}. Give the corrected JSON only."
            messages += [{"role": "assistant", "content": text}, {"role": "user", "content": advice}]
        else:
            return value
    raise StepFailed(f"model {model!r}: its answer does not fit the schema: {problem}")


def _unfenced(text: str) -> str:
    """JSON without the Markdown fence that some models put around it."""
    text = text.strip()
    if text.startswith("```"):
        text = text.partition("\n")[2].rpartition("```")[0]
    return text


_INPUTS: Mapping[str, Callable[[Step, Variables], Inputs]] = {
    "tool": _of_tool,
    "llm": _of_llm,
    "agent": _of_agent,
    "team": _of_team,
    "workflow": _of_other,
    "flow": _of_other,
    "approval": _of_approval,
    "transform": _of_transform,
}
_CALLERS = frozenset(_INPUTS) - {"llm", "transform"}
