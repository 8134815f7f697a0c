"""What a format cannot honour is refused by name; what changes no answer is left out. The reference says the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from auralink.llm.errors import UnsupportedField
from auralink.llm.providers import anthropic, google
from auralink.llm.providers.fields import FieldTable, Honoured, LeftOut, Refused
from auralink.llm.providers.openai_hosts import HOSTS
from auralink.llm.providers.protocol import Target
from auralink.llm.providers.vendors import REGISTRY

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "providers.md"
TABLES = {"anthropic": anthropic.FIELDS, "google": google.FIELDS}
TOOLS = [{"type": "function", "function": {"name": "now"}}]
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}


def requested(wire_format: str, body: dict[str, Any], *, model: str = "m", provider: str | None = None) -> dict[str, Any]:
    """What would be sent."""
    target = Target(provider or wire_format, model, "https://vendor", None)
    sent: dict[str, Any] = json.loads(REGISTRY[wire_format].request({**ASKED, **body}, target).content)
    return sent


def in_message(**message: Any) -> dict[str, Any]:
    """A body with one message."""
    return {"messages": [message]}


def in_content(part: dict[str, Any], role: str = "user") -> dict[str, Any]:
    """A body with one part of content."""
    return in_message(role=role, content=[part])


def image(url: str, **members: str) -> dict[str, Any]:
    """A part with an image."""
    return {"type": "image_url", "image_url": {"url": url, **members}}


def calling(**call: Any) -> dict[str, Any]:
    """A body in which the assistant has called a tool."""
    return in_message(role="assistant", tool_calls=[{"id": "1", **call}])


CUSTOM_CALL = calling(type="custom", custom={})
BROKEN_CALL = calling(type="function", function={"name": "f", "arguments": "[1"})


def schema(**schema: Any) -> dict[str, Any]:
    """A body with a JSON schema for the answer."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}


@pytest.mark.parametrize(
    ("wire_format", "name"),
    [(wire_format, name) for wire_format, table in TABLES.items() for name, fate in table.items() if isinstance(fate, Refused)],
)
def test_a_refused_field_is_named(wire_format: str, name: str) -> None:
    values: dict[str, Any] = {"parallel_tool_calls": False, "n": 2, "store": True, "logprobs": True}
    with pytest.raises(UnsupportedField, match=f"^{wire_format} cannot honour the field '{name}'") as refused:
        requested(wire_format, {"tools": TOOLS, name: values.get(name, "something")})
    assert refused.value.extra == {"param": name}
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("wire_format", "name", "neutral"),
    [
        (wire_format, name, neutral)
        for wire_format, table in TABLES.items()
        for name, fate in table.items()
        if isinstance(fate, Refused)
        for neutral in (None, *fate.unless)
    ],
)
def test_a_refused_field_may_ask_for_what_happens_anyway(wire_format: str, name: str, neutral: object) -> None:
    assert requested(wire_format, {name: neutral}) == requested(wire_format, {})


@pytest.mark.parametrize(
    ("wire_format", "name"),
    [(wire_format, name) for wire_format, table in TABLES.items() for name, fate in table.items() if isinstance(fate, LeftOut)],
)
def test_a_field_that_changes_no_answer_is_left_out(wire_format: str, name: str) -> None:
    assert requested(wire_format, {name: "something"}) == requested(wire_format, {})


@pytest.mark.parametrize("wire_format", TABLES)
def test_a_field_that_nobody_knows_is_refused(wire_format: str) -> None:
    with pytest.raises(UnsupportedField, match="'frobnicate'"):
        requested(wire_format, {"frobnicate": 1})


@pytest.mark.parametrize(
    ("provider", "name"),
    [(provider, name) for provider, host in HOSTS.items() for name, fate in host.fields.items() if isinstance(fate, Refused)],
)
def test_what_an_openai_host_would_drop_is_refused(provider: str, name: str) -> None:
    values: dict[str, Any] = {"n": 2, "parallel_tool_calls": False}
    with pytest.raises(UnsupportedField, match=f"^{provider} cannot honour the field '{name}'"):
        requested("openai", {name: values.get(name, "something")}, provider=provider)


@pytest.mark.parametrize(
    ("wire_format", "model", "body", "field"),
    [
        ("anthropic", "claude-opus-4-7", {"temperature": 0.5}, "temperature"),
        ("anthropic", "claude-sonnet-5-5", {"top_p": 0.5}, "top_p"),
        ("anthropic", "claude-fable-5", {"top_k": 1}, "top_k"),
        ("anthropic", "claude-sonnet-4-5", {"temperature": 1.5}, "temperature"),
        ("anthropic", "claude-sonnet-4-5", {"temperature": 0.5, "top_p": 0.5}, "top_p"),
        ("anthropic", "claude-3-opus-20240229", schema(type="object"), "response_format"),
        ("anthropic", "claude-opus-5", {"response_format": {"type": "json_object"}}, "response_format"),
        ("anthropic", "claude-opus-5", schema(properties={"a": {"type": "object", "additionalProperties": True}}),
         "response_format.json_schema.schema.properties.a.additionalProperties"),
        ("anthropic", "claude-haiku-4-5", {"reasoning_effort": "high"}, "reasoning_effort"),
        ("anthropic", "claude-opus-5-5", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("anthropic", "claude-mythos-preview", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("anthropic", "claude-opus-5-5", {"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
        ("anthropic", "m", {"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ("anthropic", "m", {"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
        ("anthropic", "m", {"service_tier": "flex"}, "service_tier"),
        ("anthropic", "m", in_content({"type": "input_audio", "input_audio": {}}), "messages[0].content[0].type"),
        ("anthropic", "m", in_content(image("data:image/bmp;base64,AA==")),
         "messages[0].content[0].image_url"),
        ("anthropic", "m", in_content(image("https://a/b.png", detail="low")),
         "messages[0].content[0].image_url.detail"),
        ("anthropic", "m", in_content(image("data:image/png,raw")), "messages[0].content[0].image_url"),
        ("anthropic", "m", in_content({"type": "image_url", "image_url": {}}), "messages[0].content[0].image_url"),
        ("anthropic", "m", in_content({"type": "file", "file": {"file_id": "file-1"}}), "messages[0].content[0].file"),
        ("anthropic", "m", in_content({"type": "file", "file": {"file_data": "AA=="}}), "messages[0].content[0].file.file_data"),
        ("anthropic", "m", in_content({"type": "file", "file": {"file_data": "data:text/csv;base64,AA=="}}), "messages[0].content[0].file"),
        ("anthropic", "m", in_content(image("https://a/b.png"), "system"), "messages[0].content[0]"),
        ("anthropic", "m", in_message(role="function", name="f", content="1"), "messages[0].role"),
        ("anthropic", "m", in_message(role="assistant", content=None, function_call={"name": "f"}), "messages[0].function_call"),
        ("anthropic", "m", BROKEN_CALL,
         "messages[0].tool_calls[0].function.arguments"),
        ("anthropic", "m", CUSTOM_CALL, "messages[0].tool_calls[0].type"),
        ("google", "gemini-3-pro-preview", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("google", "gemini-2.5-pro", {"reasoning_effort": "xhigh"}, "reasoning_effort"),
        ("google", "gemini-1.5-pro", {"reasoning_effort": "low"}, "reasoning_effort"),
        ("google", "m", {"response_format": {"type": "grammar"}}, "response_format"),
        ("google", "m", {"service_tier": "scale"}, "service_tier"),
        ("google", "m", {"tools": TOOLS, "tool_choice": {"type": "custom"}}, "tool_choice"),
        ("google", "m", {"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0].type"),
        ("google", "m", in_message(role="tool", tool_call_id="lost", content="1"), "messages[0].tool_call_id"),
        ("google", "m", in_message(role="function", name="f", content="1"), "messages[0].role"),
        ("google", "m", in_message(role="assistant", content=None, function_call={"name": "f"}), "messages[0].function_call"),
        ("google", "m", in_message(role="tool", name="f", tool_call_id="1", content=[image("https://a/b.png")]),
         "messages[0].content"),
        ("google", "m", in_content({"type": "input_audio", "input_audio": {"format": "ogg", "data": "AA=="}}),
         "messages[0].content[0].input_audio.format"),
        ("google", "m", in_content({"type": "video_url", "video_url": {}}), "messages[0].content[0].type"),
        ("google", "m", CUSTOM_CALL, "messages[0].tool_calls[0].type"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_honoured_is_named(wire_format: str, model: str, body: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedField) as refused:
        requested(wire_format, body, model=model)
    assert refused.value.extra == {"param": field}


def documented(title: str) -> dict[str, str]:
    """The table of fields under a heading of the reference: the field, and the first word of what becomes of it."""
    section = REFERENCE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \| (honoured|left out|refused)", section, re.MULTILINE)
    return {name: fate for names, fate in rows for name in re.findall(r"`([^`]+)`", names)}


def fates(table: FieldTable) -> dict[str, str]:
    """The same of a table in the code."""
    words = {Honoured: "honoured", LeftOut: "left out", Refused: "refused"}
    return {name: words[type(fate)] for name, fate in table.items()}


@pytest.mark.parametrize(("title", "table"), [("Anthropic", anthropic.FIELDS), ("Google", google.FIELDS)])
def test_the_reference_says_of_each_field_what_becomes_of_it(title: str, table: FieldTable) -> None:
    assert documented(title) == fates(table)
