"""Each feature of each format, both ways, over a socket: what the vendor gets, and what becomes of what it answers."""

import json
from typing import Any

import pytest

from auralink.llm.providers.protocol import Target
from auralink.llm.providers.vendors import REGISTRY
from tests.llm.fake_vendor import Raw
from tests.llm.providers.conftest import Wire, exchanges

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}
MODELS = {"anthropic": "claude-sonnet-4-5", "google": "gemini-2.5-flash", "openai": "a-model"}


async def sent(wire: Wire, wire_format: str, example: dict[str, Any]) -> dict[str, Any]:
    """What the vendor gets for the body of an example."""
    target = wire.vendor.target(wire_format, model=example.get("model", MODELS[wire_format]), provider=example.get("provider"))
    body = {"model": "what the client calls it", **example["body"]}
    before = json.dumps(body)
    reply = await wire.send(REGISTRY[wire_format].request(body, target))
    assert reply.status == 200, reply.content
    assert json.dumps(body) == before, "the client's body has been changed"
    return wire.vendor.received[-1].body


@pytest.mark.parametrize("example", exchanges("anthropic_requests.json"))
async def test_anthropic_gets(wire: Wire, example: dict[str, Any]) -> None:
    assert await sent(wire, "anthropic", example) == example["sent"]


@pytest.mark.parametrize("example", exchanges("google_requests.json"))
async def test_google_gets(wire: Wire, example: dict[str, Any]) -> None:
    assert await sent(wire, "google", example) == example["sent"]


@pytest.mark.parametrize("example", exchanges("openai_requests.json"))
async def test_an_openai_host_gets(wire: Wire, example: dict[str, Any]) -> None:
    assert await sent(wire, "openai", example) == example["sent"]


@pytest.mark.parametrize(
    ("wire_format", "example"),
    [
        pytest.param(wire_format, *example.values, id=f"{wire_format}: {example.id}")
        for wire_format in ("anthropic", "google")
        for example in exchanges(f"{wire_format}_answers.json")
    ],
)
async def test_the_client_gets(wire: Wire, wire_format: str, example: dict[str, Any]) -> None:
    wire.vendor.say(Raw(example["answer"]))
    target = wire.vendor.target(wire_format, model=MODELS[wire_format])
    provider = REGISTRY[wire_format]
    reply = await wire.send(provider.request(HELLO, target))

    completion, usage = provider.response(json.loads(reply.content), target)

    assert completion["object"] == "chat.completion"
    assert completion["id"].startswith("chatcmpl-")
    assert completion["model"] == target.model
    assert completion["choices"] == example.get("choices", [example.get("choice")])
    assert completion["usage"] == example["usage"]
    assert usage.exact
    assert (usage.prompt, usage.completion) == (example["usage"]["prompt_tokens"], example["usage"]["completion_tokens"])


async def test_an_openai_host_answers_as_it_will_and_under_the_targets_name(wire: Wire) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "prompt_cache_hit_tokens": 8}
    answer = {"id": "x", "model": "snapshot", "choices": [{"index": 0, "message": {"content": "a", "vendor": 1}}], "usage": usage}
    wire.vendor.say(Raw(answer))
    target = wire.vendor.target("openai")
    reply = await wire.send(REGISTRY["openai"].request(HELLO, target))

    completion, read = REGISTRY["openai"].response(json.loads(reply.content), target)

    assert completion == {**answer, "model": "a-model"}
    assert (read.prompt, read.completion, read.cached) == (9, 1, 8)


@pytest.mark.parametrize(
    ("wire_format", "model", "path"),
    [
        ("openai", "a/b", "/v1/chat/completions"),
        ("anthropic", "claude-opus-5", "/v1/messages"),
        ("google", "models/gemini-2.5-pro", "/v1beta/models/gemini-2.5-pro:generateContent"),
    ],
)
async def test_a_request_goes_to_the_formats_path_with_the_key_in_its_header(
    wire: Wire, wire_format: str, model: str, path: str
) -> None:
    request = REGISTRY[wire_format].request(HELLO, wire.vendor.target(wire_format, model=model))
    await wire.send(request)
    assert wire.vendor.received[-1].path == path
    assert wire.vendor.key not in request.url
    assert wire.vendor.key not in request.content.decode()
    assert wire.vendor.key not in repr(request)


async def test_googles_stream_is_asked_for_as_server_sent_events(wire: Wire) -> None:
    await wire.send(REGISTRY["google"].request({**HELLO, "stream": True}, wire.vendor.target("google", model="gemini-2.5-pro")))
    assert wire.vendor.received[-1].path == "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    ("provider", "base_url", "url"),
    [
        ("openai", "https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
        ("ollama", "http://box:11434", "http://box:11434/v1/chat/completions"),
        ("deepseek", "https://api.deepseek.com", "https://api.deepseek.com/chat/completions"),
    ],
)
def test_a_base_url_may_lack_what_its_host_always_has(provider: str, base_url: str, url: str) -> None:
    assert REGISTRY["openai"].request(HELLO, Target(provider, "m", base_url, None)).url == url


@pytest.mark.parametrize(
    ("wire_format", "base_url"),
    [("anthropic", "https://proxy/a/v1"), ("google", "https://proxy/g/v1beta"), ("google", "https://proxy/g")],
)
def test_a_base_url_may_have_the_version_or_lack_it(wire_format: str, base_url: str) -> None:
    url = REGISTRY[wire_format].request(HELLO, Target(wire_format, "m", base_url, None)).url
    assert url.count("/v1") == 1


def test_openai_itself_gets_the_limit_under_its_present_name_and_keeps_developers() -> None:
    body = {"messages": [{"role": "developer", "content": "a"}], "max_tokens": 5}
    request = REGISTRY["openai"].request(body, Target("openai", "gpt-5", "https://api.openai.com/v1", None))
    assert json.loads(request.content) == {"model": "gpt-5", "max_completion_tokens": 5, "messages": body["messages"]}
    assert "Authorization" not in request.headers


def test_an_id_that_is_too_long_for_openai_is_shortened_alike_in_the_call_and_its_result() -> None:
    call_id = "call_1~" + "c2ln" * 300
    calls = [{"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": {}}}]
    messages = [{"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": call_id, "content": "1"}]
    request = REGISTRY["openai"].request({"messages": messages}, Target("openai", "m", "https://api.openai.com/v1", None))
    called, answered = json.loads(request.content)["messages"]
    assert called["tool_calls"][0]["id"] == answered["tool_call_id"]
    assert len(answered["tool_call_id"]) <= 40
    assert "extra_content" not in called["tool_calls"][0]


async def test_thinking_goes_back_to_the_claude_that_thought_it(wire: Wire) -> None:
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "x"}]
    message = {
        "role": "assistant",
        "content": "a",
        "extra_content": {"anthropic": {"model": "claude-opus-5", "thinking_blocks": blocks}},
    }
    same = await sent(wire, "anthropic", {"model": "claude-opus-5", "body": {"messages": [message]}})
    other = await sent(wire, "anthropic", {"model": "claude-opus-5-5", "body": {"messages": [message]}})
    assert same["messages"][0]["content"] == [*blocks, {"type": "text", "text": "a"}]
    assert other["messages"][0]["content"] == [{"type": "text", "text": "a"}]


@pytest.mark.parametrize(
    ("wire_format", "answer"),
    [
        ("openai", {"object": "list"}),
        ("anthropic", {"type": "error"}),
        ("google", {"usageMetadata": {}}),
        ("google", {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "content": {}}]}),
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(wire_format: str, answer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="answer"):
        REGISTRY[wire_format].response(answer, Target(wire_format, "m", "https://x", None))
