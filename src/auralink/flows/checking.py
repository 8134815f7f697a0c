"""Checks a flow's definition when it is saved: every mistake is named, with a JSON pointer to where it is.

What a definition names that is not part of it (tools, agents, teams, …) is listed by `named_in`; who knows what there is judges it.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from jsonschema import Draft202012Validator, SchemaError
from pydantic import ValidationError

from auralink.flows.definition import (
    TYPES,
    Agent,
    Branch,
    Definition,
    Flow,
    Llm,
    Loop,
    Map,
    Step,
    Team,
    Tool,
    Workflow,
    blocks_of,
    every_step,
    needs_of,
)
from auralink.workflows.checking import DefinitionInvalid, Problem
from auralink.workflows.definition import ALWAYS_THERE
from auralink.workflows.expressions import BadExpression, expressions_in, variables_in, variables_of

INDEX = "index"
"""The variable of maps and loops that says how many times came before."""
WAYS = ("dict[str,any]", "constrained-str")
"""What pydantic calls the two shapes that arguments may have."""
_NO_TEMPLATES = {"name", "title", "type", "needs", "when", "on_error", "model", "output_schema"}


@dataclass(frozen=True)
class Named:
    """Something outside that a step names, and where. `tolerated`: a failure of the step does not end the run."""

    kind: Literal["tool", "agent", "team", "workflow", "flow"]
    name: str
    pointer: str
    tolerated: bool


def check(data: Any) -> Definition:
    """The definition, if it can be run. Raises DefinitionInvalid with every mistake that was found."""
    try:
        definition = Definition.model_validate(data)
    except ValidationError as error:
        raise DefinitionInvalid(list(_shape_problems(error))) from None
    problems = [*_input_problems(definition), *_name_problems(definition)]
    if not problems:
        problems = [*_block_problems(definition.steps, "/steps", definition.variables()), *_output_problems(definition)]
    if problems:
        raise DefinitionInvalid(problems)
    return definition


def named_in(definition: Definition) -> Iterator[Named]:
    """What the steps name that is not in the definition. A name that a step makes of other results is not among it."""
    for step, pointer in _placed(definition.steps, "/steps"):
        if isinstance(step, Tool | Agent | Team | Workflow | Flow):
            name = getattr(step, step.type)
            if not any(expressions_in(name)):
                yield Named(step.type, name, f"{pointer}/{step.type}", step.on_error == "continue")


def _placed(steps: list[Step], pointer: str) -> Iterator[tuple[Step, str]]:
    for at, step in enumerate(steps):
        yield step, f"{pointer}/{at}"
        for where, block in blocks_of(step):
            yield from _placed(block.steps, f"{pointer}/{at}{where}/steps")


def _shape_problems(error: ValidationError) -> Iterator[Problem]:
    for found in error.errors(include_url=False, include_input=False):
        parts = [str(part) for at, part in enumerate(found["loc"]) if not _is_pydantics(found["loc"], at)]
        yield Problem("".join(f"/{part}" for part in parts), found["msg"].removeprefix("Value error, ")[:500])


def _is_pydantics(path: tuple[int | str, ...], at: int) -> bool:
    """Whether a part of a path is no level of the document: pydantic puts the way that it took through a union into it."""
    before = path[at - 1] if at else None
    return (path[at] in TYPES and isinstance(before, int)) or (before == "arguments" and path[at] in WAYS)


def _input_problems(definition: Definition) -> Iterator[Problem]:
    yield from _schema_problems(definition.input, "/input")
    if definition.input.get("type") != "object":
        yield Problem("/input/type", "the parameters are an object: its type must be object")


def _schema_problems(schema: Any, pointer: str) -> Iterator[Problem]:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        yield Problem(pointer, f"this is no JSON Schema: {error.message[:300]}")


def _name_problems(definition: Definition) -> Iterator[Problem]:
    """A step's result is read by its name: no two may have the same, and none that of a parameter."""
    names = Counter(step.name for step in every_step(definition.steps))
    for name, count in names.items():
        if count > 1:
            yield Problem("/steps", f"{count} steps are named {name!r}; each needs a name of its own in the whole flow")
        if name in definition.variables() | {INDEX}:
            yield Problem("/steps", f"a step is named {name!r}, as is a variable; give it another name")
    for step, pointer in _placed(definition.steps, "/steps"):
        if isinstance(step, Map) and step.item in {*names, *ALWAYS_THERE, INDEX}:
            yield Problem(f"{pointer}/item", f"{step.item!r} is the name of a step or of a variable; give the item another name")


def _block_problems(steps: list[Step], pointer: str, known: frozenset[str], *, again: bool = False) -> Iterator[Problem]:
    """The problems of a block whose steps may read `known`, and what they need; in a block that is done `again` also what those behind
    them gave in the pass before."""
    here = {step.name for step in steps}
    needs = {step.name: needs_of(steps, at) for at, step in enumerate(steps)}
    for at, step in enumerate(steps):
        for nth, name in enumerate(needs[step.name]):
            if name not in here:
                yield Problem(
                    f"{pointer}/{at}/needs/{nth}", f"there is no step {name!r} beside this; there are {', '.join(here)}"
                )
    if any(name not in here for names in needs.values() for name in names):
        return
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        yield Problem(pointer, f"these steps wait for one another: {' → '.join(error.args[1])}")
        return
    before: dict[str, frozenset[str]] = {}
    for name in order:
        before[name] = frozenset({name for need in needs[name] for name in (need, *before[need])})
    for at, step in enumerate(steps):
        read = before[step.name] | (frozenset({step.name, *_behind(step.name, before)}) if again else frozenset())
        yield from _step_problems(step, f"{pointer}/{at}", known | read, here - read - {step.name})


def _behind(name: str, before: Mapping[str, Collection[str]]) -> Iterator[str]:
    return (other for other, waits_for in before.items() if name in waits_for)


def _step_problems(step: Step, pointer: str, known: frozenset[str], beside: Collection[str]) -> Iterator[Problem]:
    inner = _inner_variables(step)
    if step.when is not None:
        yield from _reading(step.when, f"{pointer}/when", known, beside, expression=True)
    if isinstance(step, Map):
        yield from _reading(step.over, f"{pointer}/over", known, beside, expression=True)
    if isinstance(step, Llm) and step.output_schema is not None:
        yield from _schema_problems(step.output_schema, f"{pointer}/schema")
    if not isinstance(step, Branch | Map | Loop):
        for field, value in step.model_dump(mode="json").items():
            if field not in _NO_TEMPLATES and value is not None:
                yield from _reading(value, f"{pointer}/{field}", known, beside)
    for where, block in blocks_of(step):
        if (when := getattr(block, "when", None)) is not None and block is not step:
            yield from _reading(when, f"{pointer}{where}/when", known, beside, expression=True)
        yield from _block_problems(block.steps, f"{pointer}{where}/steps", known | inner, again=isinstance(step, Loop))
        after = known | inner | {s.name for s in block.steps}
        yield from _reading(block.output, f"{pointer}{where}/output", after, beside)
        if isinstance(step, Loop):
            yield from _reading(step.until, f"{pointer}/until", after, beside, expression=True)


def _inner_variables(step: Step) -> frozenset[str]:
    """What the steps in a step's blocks may read besides what it may."""
    if isinstance(step, Map):
        return frozenset({step.item, INDEX})
    return frozenset({INDEX}) if isinstance(step, Loop) else frozenset()


def _reading(
    value: Any, pointer: str, known: frozenset[str], beside: Collection[str] = (), *, expression: bool = False
) -> Iterator[Problem]:
    """What a text or an expression reads and nobody gives; `beside` are steps that may not have ended by then."""
    try:
        read = variables_of(value) if expression else variables_in(value)
    except BadExpression as error:
        yield Problem(pointer, str(error))
        return
    for name in sorted(read - known):
        if name in beside:
            yield Problem(pointer, f"this reads the result of step {name!r}; add {name!r} to the step's `needs`")
        else:
            yield Problem(pointer, f"nothing gives {name!r} a value; there are {', '.join(sorted(known))}")


def _output_problems(definition: Definition) -> Iterator[Problem]:
    known = definition.variables() | {step.name for step in definition.steps}
    yield from _reading(definition.output, "/output", known)
